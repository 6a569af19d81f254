package kv

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/pandodb/pando/internal/fault"
)

const (
	// KeyBytes is the length of a key that files are encrypted with.
	KeyBytes = 32

	// headerBytes stand before the content of each file. A page, so that what a power
	// loss keeps of a file, which goes by pages, is pages of the content too.
	headerBytes = 4 << 10

	// headerCopies of what the header says lie in different sectors: one that is
	// damaged does not take the file along.
	headerCopies = 2

	saltBytes  = 32
	checkBytes = 24

	// pieceBytes is how much is encrypted or decrypted at once.
	pieceBytes = 128 << 10
)

// headerMagic begins each copy: name and version.
var headerMagic = []byte("pando\x00e\x01")

// Encrypt returns files whose content is encrypted before it reaches those below. Names
// and sizes can be seen there. Each file has a key of its own, of the store's key and a
// salt in the file's header, and no byte of its key stream is used twice: files are
// written from their beginning to their end, and one that is reused begins with a new
// salt.
//
// The encryption is AES-256 in counter mode, which keeps where bytes stand: a bit that
// turns on the disk is a bit that turns in the content, so the checksums of the engine
// find damage, and Salvage mends it, as without a key. It does not stop who can write
// the disk from turning bits on purpose.
//
// Files that have no key, or another, are not opened. Open tells what to do.
func Encrypt(files FS, key []byte) (FS, error) {
	if len(key) != KeyBytes {
		return nil, fault.Invalid.Errorf("a store key of %d bytes: it must have %d", len(key), KeyBytes)
	}
	if files == nil {
		files = Disk()
	}
	return &cryptFS{FS: files, key: bytes.Clone(key)}, nil
}

type cryptFS struct {
	vfs.FS
	key []byte
}

// foreign is a header that the key does not open.
type foreign struct {
	plain bool // it is no header
	error
}

func (e foreign) Unwrap() error { return e.error }

// derive returns the key of a file, and what its header shows to whoever has the key.
func (c *cryptFS) derive(salt []byte) (cipher.Block, []byte, error) {
	out, err := hkdf.Key(sha256.New, c.key, salt, "pando file 1", KeyBytes+checkBytes)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(out[:KeyBytes])
	return block, out[KeyBytes:], err
}

// begin makes a file ready to be written from its beginning.
func (c *cryptFS) begin(f vfs.File) (vfs.File, error) {
	header := make([]byte, headerBytes)
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	block, check, err := c.derive(salt)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	for i := range headerCopies {
		at := header[i*headerBytes/headerCopies:]
		copy(at[copy(at, headerMagic):], salt)
		copy(at[len(headerMagic)+saltBytes:], check)
	}
	if _, err := f.Write(header); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &cryptFile{File: f, fs: c, block: block}, nil
}

// open returns the key of a file, nil if its header was never written: a power loss
// took it.
func (c *cryptFS) open(f vfs.File, name string) (cipher.Block, error) {
	header := make([]byte, headerBytes)
	if n, err := f.ReadAt(header, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	} else if n < headerBytes && zero(header[:n]) || zero(header) {
		return nil, nil
	}
	plain := true
	for i := range headerCopies {
		salt, ok := bytes.CutPrefix(header[i*headerBytes/headerCopies:], headerMagic)
		if !ok {
			continue
		}
		plain = false
		block, check, err := c.derive(salt[:saltBytes])
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(check, salt[saltBytes:saltBytes+checkBytes]) == 1 {
			return block, nil
		}
	}
	name = c.PathBase(name)
	if plain {
		return nil, foreign{true, fault.Corrupt.Errorf("file %s is not encrypted, or its header is damaged", name)}
	}
	return nil, foreign{false, fault.Corrupt.Errorf("the store key does not fit file %s, or its header is damaged", name)}
}

func (c *cryptFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	return c.begin(f)
}

// ReuseForWrite keeps the place of the old file on the disk. What is left of it behind
// what is written reads as noise.
func (c *cryptFS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.ReuseForWrite(from, to, category)
	if err != nil {
		return nil, err
	}
	return c.begin(f)
}

func (c *cryptFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := c.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	block, err := c.open(f, name)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &cryptFile{File: f, fs: c, name: name, block: block, reading: true}, nil
}

// OpenReadWrite is for writing in the middle of files, which would use a key stream
// twice.
func (c *cryptFS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, fault.Invalid.Errorf("file %s: an encrypted file is not changed", c.PathBase(name))
}

func (c *cryptFS) Stat(name string) (vfs.FileInfo, error) {
	info, err := c.FS.Stat(name)
	if err != nil || info.IsDir() {
		return info, err
	}
	return contentInfo{info}, nil
}

// Unwrap keeps everybody from the files below.
func (c *cryptFS) Unwrap() vfs.FS { return nil }

// contentInfo is what is known of a file, without its header.
type contentInfo struct{ vfs.FileInfo }

func (i contentInfo) Size() int64 { return max(0, i.FileInfo.Size()-headerBytes) }

// cryptFile is a file that is written from its beginning, or read.
type cryptFile struct {
	vfs.File
	fs      *cryptFS
	name    string
	reading bool

	mu    sync.Mutex   // guards block: readers are many
	block cipher.Block // nil: there was no header yet

	at      int64 // of the next Write or Read
	scratch []byte
	failed  error // of a Write
}

// stream returns the key stream from an offset on, which is one of an AES block.
func stream(block cipher.Block, at int64) cipher.Stream {
	var counter [aes.BlockSize]byte
	for n, i := uint64(at)/aes.BlockSize, len(counter)-1; n > 0; n, i = n>>8, i-1 {
		counter[i] = byte(n)
	}
	return cipher.NewCTR(block, counter[:])
}

// xor encrypts, or decrypts, what stands at an offset.
func xor(block cipher.Block, dst, src []byte, at int64) {
	s := stream(block, at)
	if skip := at % aes.BlockSize; skip > 0 {
		var used [aes.BlockSize]byte
		s.XORKeyStream(used[:skip], used[:skip])
	}
	s.XORKeyStream(dst, src)
}

// Write writes on. After a failure nothing more is written: nobody knows how much of
// the key stream was used.
func (f *cryptFile) Write(p []byte) (done int, err error) {
	if f.reading {
		return 0, fault.Invalid.Errorf("file %s is open for reading", f.fs.PathBase(f.name))
	}
	if f.scratch == nil && len(p) > 0 {
		f.scratch = make([]byte, 0, pieceBytes)
	}
	for len(p) > done && f.failed == nil {
		piece := f.scratch[:min(len(p)-done, pieceBytes)]
		xor(f.block, piece, p[done:done+len(piece)], f.at)
		var n int
		n, f.failed = f.File.Write(piece)
		f.at += int64(n)
		done += n
	}
	return done, f.failed
}

func (f *cryptFile) WriteAt([]byte, int64) (int, error) {
	return 0, fault.Invalid.Errorf("file %s: an encrypted file is not changed", f.fs.PathBase(f.name))
}

// key returns the key of the file; nil means that it holds nothing but zeros.
func (f *cryptFile) key() (cipher.Block, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.block != nil {
		return f.block, nil
	}
	block, err := f.fs.open(f.File, f.name)
	f.block = block
	return block, err
}

func (f *cryptFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

var pieces = sync.Pool{New: func() any { b := make([]byte, pieceBytes); return &b }}

func (f *cryptFile) ReadAt(p []byte, at int64) (done int, err error) {
	block, err := f.key()
	if err != nil {
		return 0, err
	}
	buf := pieces.Get().(*[]byte)
	defer pieces.Put(buf)
	for done < len(p) && err == nil {
		// Whole blocks of the cipher, for they tell whether they were ever written.
		from := at + int64(done)
		skip := int(from % aes.BlockSize)
		want := min(skip+len(p)-done, pieceBytes)
		raw := (*buf)[:min((want+aes.BlockSize-1)/aes.BlockSize*aes.BlockSize, pieceBytes)]
		var n int
		n, err = f.File.ReadAt(raw, headerBytes+from-int64(skip))
		if err != nil && !errors.Is(err, io.EOF) {
			return done, err
		}
		decrypt(block, raw[:n], from-int64(skip))
		if n >= want {
			err = nil
		}
		if n = min(n, want); n > skip {
			done += copy(p[done:], raw[skip:n])
		}
	}
	return done, err
}

// decrypt decrypts what stands at the offset of a block. Blocks of zeros were never
// written: a power loss took them, and who looks for that wants to see zeros. Of what
// was encrypted one block in 2¹²⁸ looks so.
func decrypt(block cipher.Block, raw []byte, at int64) {
	if block == nil {
		clear(raw)
		return
	}
	for i := 0; i < len(raw); {
		end := i
		for end < len(raw) && !unwritten(raw[end:]) {
			end += aes.BlockSize
		}
		end = min(end, len(raw))
		stream(block, at+int64(i)).XORKeyStream(raw[i:end], raw[i:end])
		for i = end; unwritten(raw[i:]); i += aes.BlockSize {
		}
	}
}

// unwritten reports whether b begins with a whole block of zeros.
func unwritten(b []byte) bool {
	return len(b) >= aes.BlockSize && binary.NativeEndian.Uint64(b) == 0 && binary.NativeEndian.Uint64(b[8:]) == 0
}

func (f *cryptFile) Stat() (vfs.FileInfo, error) {
	info, err := f.File.Stat()
	if err != nil {
		return nil, err
	}
	return contentInfo{info}, nil
}

func (f *cryptFile) Preallocate(offset, length int64) error {
	return f.File.Preallocate(offset+headerBytes, length)
}

func (f *cryptFile) SyncTo(length int64) (bool, error) { return f.File.SyncTo(length + headerBytes) }

func (f *cryptFile) Prefetch(offset, length int64) error {
	return f.File.Prefetch(offset+headerBytes, length)
}

// checkKey refuses files that are encrypted with another key or none, before anything
// is done to them. Single files that are damaged are for others to find.
func checkKey(dir string, files vfs.FS) error {
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return classify(err)
	}
	_, encrypting := files.(*cryptFS)
	var plain, other, tables int
	for _, name := range names {
		if !holdsContent(name) {
			continue
		}
		if _, kind := fileNumber(name); kind == ".sst" {
			if tables++; tables > 8 {
				continue // there are thousands
			}
		}
		head, err := headOf(files, files.PathJoin(dir, name))
		why := foreign{}
		switch {
		case errors.As(err, &why) && why.plain:
			plain++
		case errors.As(err, &why):
			other++
		case err != nil:
			continue // who needs it tells
		case bytes.Equal(head, headerMagic):
			return fault.Denied.Errorf("the files in %q are encrypted: give the store key they were made with, by --store-key or --store-key-file; nothing was changed", dir)
		case encrypting && len(head) > 0 && !zero(head):
			return nil // the key opens one
		}
	}
	switch {
	case other > 0:
		return fault.Denied.Errorf("the store key is not the one that the files in %q are encrypted with: name that one with --store-key or --store-key-file; nothing was changed", dir)
	case plain > 0:
		return fault.Invalid.Errorf("the files in %q are not encrypted, and a store key was given: leave out --store-key and --store-key-file, "+
			"or save a backup, and restore it with the key into a new directory; nothing was changed", dir)
	}
	return nil
}

// headOf returns the first bytes of a file.
func headOf(files vfs.FS, path string) ([]byte, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, len(headerMagic))
	n, err := f.ReadAt(head, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return head[:n], err
}
