package ident

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/pandodb/pando/internal/fault"
)

const (
	// pemType is the label of a key file.
	pemType = "PANDO PRIVATE KEY"
	// maxKeyFile is the largest file that we read as a key: a wrong path must
	// not pull a database into memory.
	maxKeyFile = 4 << 10
)

// LoadOrCreateKey returns the key in the file at path. If there is no such file
// it makes an Ed25519 key and writes it there, readable by its owner alone. Of
// several processes that do so at once, all get the same key.
func LoadOrCreateKey(path string) (Key, error) {
	k, err := LoadKey(path)
	if !errors.Is(err, fault.NotFound) {
		return k, err
	}
	if k, err = Generate(EdDSA); err != nil {
		return Key{}, err
	}
	if err = SaveKey(path, k); errors.Is(err, fault.Exists) {
		return LoadKey(path)
	} else if err != nil {
		return Key{}, err
	}
	return k, nil
}

// LoadKey reads a key file. It gives NotFound if there is none, Denied if others
// than the owner may read it, and Corrupt if it holds something else.
func LoadKey(path string) (Key, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, fault.NotFound.Errorf("key file %s does not exist", path)
	}
	if err != nil {
		return Key{}, fileError(path, err)
	}
	if info.IsDir() {
		return Key{}, fault.Invalid.Errorf("key file %s is a directory: move it away, and put the key file in its place if there is one", path)
	}
	if !info.Mode().IsRegular() {
		return Key{}, fault.Invalid.Errorf("key file %s is not a file: name a file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return Key{}, fault.Denied.Errorf("key file %s is open to others (mode %04o): run chmod 600 on it", path, mode)
	}
	if info.Size() > maxKeyFile {
		return Key{}, fault.Corrupt.Errorf("key file %s has %d bytes: that is no key file, name another", path, info.Size())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fileError(path, err)
	}
	if block, _ := pem.Decode(raw); block == nil || block.Type != pemType {
		return Key{}, fault.Corrupt.Errorf("key file %s holds no %q block: restore it, or move it away to get a new identity", path, pemType)
	}
	k, err := ParseKeyText(raw)
	if err != nil {
		return Key{}, fault.Corrupt.Errorf("key file %s: %w", path, err)
	}
	return k, nil
}

// Text returns the private key as a key file holds it: a PEM block, with the DID as a
// header. It is the secret itself.
func (k Key) Text() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Headers: map[string]string{"DID": string(k.DID())}, Bytes: k.Marshal()})
}

// ParseKeyText is the inverse of Key.Text. What stands around the block is ignored; a
// header that names another DID is not. Its errors tell nothing of what it read.
func ParseKeyText(text []byte) (Key, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return Key{}, fault.Invalid.Errorf("there is no %q block", pemType)
	}
	k, err := ParseKey(block.Bytes)
	if err != nil {
		return Key{}, err
	}
	if did := block.Headers["DID"]; did != "" && did != string(k.DID()) {
		return Key{}, fault.Invalid.Errorf("the key is that of %s, and its header names %.80q: one of them is damaged", k.DID(), did)
	}
	return k, nil
}

// SaveKey writes k to a new file at path, whole or not at all, and gives Exists
// rather than overwrite one: a lost key cannot be made again.
func SaveKey(path string, k Key) error {
	if k.IsZero() {
		return fault.Invalid.Errorf("key file %s: no key to save", path)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fileError(path, err)
	}
	tmp, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return fileError(path, err)
	}
	defer os.Remove(tmp.Name())
	if _, err = tmp.Write(k.Text()); err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return fileError(path, err)
	}
	// A link, unlike a rename, fails if another process was first.
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return fault.Exists.Errorf("key file %s exists already: move it away first", path)
	} else if err != nil {
		return fileError(path, err)
	}
	return syncDir(dir)
}

// fileError is what the operating system says of a key file.
func fileError(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return fault.Invalid.Errorf("key file %s is below a file: name another directory", path)
	case errors.Is(err, fs.ErrPermission):
		return fault.Denied.Errorf("key file: %w: run as its owner", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Unavailable.Errorf("key file: the disk is full: %w: free some space", err)
	case errors.Is(err, syscall.EROFS):
		return fault.Unavailable.Errorf("key file: %w: choose a directory that can be written", err)
	}
	return fault.Unavailable.Errorf("key file: %w", err)
}

// syncDir makes the new name survive a power loss.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // directories cannot be opened there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return fileError(dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
