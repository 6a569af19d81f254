package keyring

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/pandodb/pando/internal/fault"
)

const (
	fileName = "secrets"
	// maxFile bounds what is read: a wrong path must not pull a database into memory.
	maxFile = 1 << 20
	// lockTime is how long to wait for another process. A change takes a second.
	lockTime = 30 * time.Second
	lockTick = 20 * time.Millisecond
)

// readFile returns what is in the file of a keyring, nil if there is none. It gives
// Denied if others than the owner may read it.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fileError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fileError(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.Invalid.Errorf("keyring: %s is not a file: move it away", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fault.Denied.Errorf("keyring: %s is open to others (mode %04o): run chmod 600 on it", path, mode)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fileError(err)
	}
	if len(raw) > maxFile {
		return nil, fault.Corrupt.Errorf("keyring: %s has more than %d bytes: that is no keyring", path, maxFile)
	}
	if len(raw) == 0 {
		return nil, fault.Corrupt.Errorf("keyring: %s is empty: restore a copy of it, or remove it to begin a new one", path)
	}
	return raw, nil
}

// writeFile replaces the file, whole or not at all. The caller holds the lock, so one
// that was left half written by a crash is written over.
func writeFile(path string, raw []byte) error {
	if len(raw) > maxFile {
		return fault.TooLarge.Errorf("the keyring would have %d bytes, want at most %d", len(raw), maxFile)
	}
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileError(err)
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fileError(err)
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		os.Remove(next) // of no use, and full of secrets
		return fileError(err)
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the new name survive a power loss.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // directories cannot be opened there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return fileError(err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fileError(err)
	}
	return nil
}

// exclusive keeps other processes from changing the file, until release. The operating
// system releases it if we die.
func exclusive(path string) (release func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fileError(err)
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fileError(err)
	}
	for end := time.Now().Add(lockTime); ; {
		err := tryLock(f)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, errLocked) {
			f.Close()
			return nil, fileError(err)
		}
		if time.Now().After(end) {
			f.Close()
			return nil, fault.Unavailable.Errorf("keyring: another process has held %s for %s: end it and try again", f.Name(), lockTime)
		}
		time.Sleep(lockTick)
	}
}

var errLocked = errors.New("locked by another process")

// fileError is what the operating system says of the keyring's files.
func fileError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return fault.Invalid.Errorf("keyring: %w: name another directory with --keyring-dir", err)
	case errors.Is(err, fs.ErrPermission):
		return fault.Denied.Errorf("keyring: %w: run as its owner", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Unavailable.Errorf("keyring: the disk is full, and nothing was changed: %w: free some space", err)
	}
	return fault.Unavailable.Errorf("keyring: %w", err)
}
