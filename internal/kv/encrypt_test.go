package kv_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// overFiles are the ways in which a database can lie in files.
var overFiles = map[string]func(vfs.FS) vfs.FS{"plain": plainly, "encrypted": encrypted}

func plainly(files vfs.FS) vfs.FS { return files }

func encrypted(files vfs.FS) vfs.FS { return encryptedWith("the key", files) }

func encryptedWith(key string, files vfs.FS) vfs.FS {
	files, err := kv.Encrypt(files, bytes.Repeat([]byte(key[len(key)-1:]), kv.KeyBytes))
	if err != nil {
		panic(err)
	}
	return files
}

// Somebody takes the disk away. What was written is in none of the files, in tables
// as in logs and lists, and without a key it is.
func TestEncryptedFilesTellNothing(t *testing.T) {
	secret := []byte("the treasure lies under the third oak from the gate")
	for how, over := range overFiles {
		mem := vfs.NewMem()
		db := open(t, "db", kv.Options{FS: over(mem)})
		set(t, db, string(secret)+" in a table", string(secret))
		if err := kv.Flush(db); err != nil {
			t.Fatal(err)
		}
		set(t, db, string(secret)+" in the log", string(secret))
		db.Close()
		found := map[string]bool{}
		for name, raw := range content(t, mem) {
			for i := range len(secret) - 16 {
				if strings.Contains(raw, string(secret[i:i+16])) {
					found[strings.TrimLeft(name, "0123456789")] = true
				}
			}
		}
		if how == "plain" && (!found[".sst"] || !found[".log"]) {
			t.Errorf("without a key the text is seen in %v, want tables and logs: the test does not look", found)
		}
		if how == "encrypted" && len(found) > 0 {
			t.Errorf("with a key the text is seen in %v", found)
		}
	}
}

func TestStoreKeyMustFit(t *testing.T) {
	files := map[string]vfs.FS{}
	for how, over := range overFiles {
		files[how] = fillDatabase(t, vfs.NewMem())
		if how == "encrypted" {
			mem := vfs.NewMem()
			fillDatabase(t, over(mem))
			files[how] = mem
		}
	}
	for _, c := range []struct {
		what  string
		files vfs.FS
		over  func(vfs.FS) vfs.FS
		kind  error
		says  string
	}{
		{"no key for encrypted files", files["encrypted"], plainly, fault.Denied, "give the store key"},
		{"another key", files["encrypted"], func(f vfs.FS) vfs.FS { return encryptedWith("other", f) }, fault.Denied, "not the one"},
		{"a key for plain files", files["plain"], encrypted, fault.Invalid, "restore it with the key into a new directory"},
	} {
		before := content(t, c.files)
		for _, o := range []kv.Options{{FS: c.over(c.files)}, {FS: c.over(c.files), ReadOnly: true}} {
			if _, err := opens(t, o); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: opening gives %v, want %v that says %q", c.what, err, c.kind, c.says)
			}
		}
		for _, err := range kv.Salvage("db", kv.Options{FS: c.over(c.files)}, func(p kv.Problem) { t.Errorf("%s: %+v", c.what, p) }) {
			if !errors.Is(err, c.kind) {
				t.Errorf("%s: salvage gives %v, want %v", c.what, err, c.kind)
			}
		}
		after := content(t, c.files)
		for name, raw := range before {
			if after[name] != raw {
				t.Errorf("%s: file %s has changed", c.what, name)
			}
		}
		if len(after) != len(before) {
			t.Errorf("%s: there are %d files now, and were %d", c.what, len(after), len(before))
		}
	}
	if _, err := kv.Encrypt(vfs.NewMem(), []byte("short")); !errors.Is(err, fault.Invalid) {
		t.Errorf("a key of 5 bytes: %v, want Invalid", err)
	}
}

// A file is read as it was written, whatever the pieces in which both are done.
func TestEncryptedFilesReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := encrypted(vfs.NewMem())
		f, err := files.Create("f", "test")
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		for range rapid.IntRange(0, 8).Draw(t, "writes") {
			n := rapid.SampledFrom([]int{0, 1, 15, 16, 17, 4096, 300_000}).Draw(t, "size")
			p := bytes.Repeat([]byte{byte(rapid.IntRange(0, 1).Draw(t, "byte"))}, n)
			given := bytes.Clone(p)
			if n, err := f.Write(p); n != len(p) || err != nil {
				t.Fatalf("write: %d, %v", n, err)
			}
			if want = append(want, given...); !bytes.Equal(p, given) {
				t.Fatal("writing changed what was given")
			}
		}
		r, err := files.Open("f")
		if err != nil {
			t.Fatal(err)
		}
		if info, err := files.Stat("f"); err != nil || info.Size() != int64(len(want)) {
			t.Fatalf("size %d, %v, want %d", info.Size(), err, len(want))
		}
		for range 20 {
			at := rapid.IntRange(0, len(want)+20).Draw(t, "at")
			p := make([]byte, rapid.SampledFrom([]int{0, 1, 7, 16, 33, 5000, 200_000}).Draw(t, "read"))
			n, err := r.ReadAt(p, int64(at))
			has := want[min(at, len(want)):min(at+len(p), len(want))]
			if n != len(has) || (err != nil) != (n < len(p)) || err != nil && err != io.EOF || !bytes.Equal(p[:n], has) {
				t.Fatalf("reading %d at %d of %d gives %d, %v", len(p), at, len(want), n, err)
			}
		}
		all, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(all, want) {
			t.Fatalf("reading all gives %d bytes of %d, %v", len(all), len(want), err)
		}
	})
}

// A log is used again. Its key stream is not: with two texts under one stream, who has
// both ciphertexts has the difference of the texts.
func TestNoKeyStreamIsUsedTwice(t *testing.T) {
	mem := vfs.NewMem()
	files := encrypted(mem)
	text := bytes.Repeat([]byte("same"), 1000)
	raw := func(name string) []byte {
		f, err := mem.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write := func(f vfs.File, err error) {
		t.Helper()
		if err == nil {
			_, err = f.Write(bytes.Clone(text))
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(files.Create("one", "test"))
	first := raw("one")
	write(files.ReuseForWrite("one", "two", "test"))
	second := raw("two")
	write(files.Create("three", "test"))
	if err := vfs.Copy(files, "three", "four"); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, b := range [][]byte{first, second, raw("three"), raw("four")} {
		for _, part := range [][]byte{b[:kv.HeaderBytes], b[kv.HeaderBytes : kv.HeaderBytes+16]} {
			if seen[string(part)] {
				t.Error("two files are the same on the disk")
			}
			seen[string(part)] = true
		}
	}
	if _, err := files.OpenReadWrite("three", "test"); err == nil {
		t.Error("an encrypted file can be changed in the middle")
	}
	if err := files.Link("three", "linked"); err != nil {
		t.Fatal(err)
	}
	f, err := files.Open("linked")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || !bytes.Equal(b, text) {
		t.Errorf("a linked file reads %d bytes, %v", len(b), err)
	}
}

// After a failure nobody knows how much of a write landed, so nothing is written over it.
func TestEncryptedFileEndsWhereWritingFailed(t *testing.T) {
	disk := newFailFS(vfs.NewMem())
	f, err := encrypted(disk).Create("f", "test")
	if err != nil {
		t.Fatal(err)
	}
	disk.fail(func(op, _ string) error { return io.ErrShortWrite })
	if _, err := f.Write([]byte("first")); err == nil {
		t.Fatal("the disk failed, and nobody said so")
	}
	disk.work()
	if _, err := f.Write([]byte("other")); err == nil {
		t.Error("a write after a failure went through")
	}
}

// A checkpoint of an encrypted database opens with the same key, and only so.
func TestCheckpointIsEncrypted(t *testing.T) {
	mem := vfs.NewMem()
	db := open(t, "db", kv.Options{FS: encrypted(mem)})
	set(t, db, "a", "1")
	if err := kv.Flush(db); err != nil {
		t.Fatal(err)
	}
	set(t, db, "b", "2")
	if err := db.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Open("copy", kv.Options{FS: mem}); !errors.Is(err, fault.Denied) {
		t.Errorf("opening the copy without the key gives %v, want Denied", err)
	}
	s := open(t, "copy", kv.Options{FS: encrypted(mem)}).Snapshot()
	defer s.Close()
	if a, b := get(t, s, "a"), get(t, s, "b"); a != "1" || b != "2" {
		t.Errorf("the copy holds %q and %q, want 1 and 2", a, b)
	}
}

// What a power loss took of a file are pages of zeros, as without a key: by them an end
// that was cut short is told from damage. A header survives the loss of one sector.
func TestLostPagesReadAsZeros(t *testing.T) {
	const page = kv.HeaderBytes
	text := bytes.Repeat([]byte("0123456789"), page) // ten pages
	mem := vfs.NewMem()
	files := encrypted(mem)
	f, err := files.Create("f", "test")
	if err == nil {
		_, err = f.Write(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := mem.UnsafeGetFileDataBuffer("f")
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(text)
	read := func(what string) {
		t.Helper()
		r, err := files.Open("f")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer r.Close()
		for _, size := range []int{7, page, len(text)} {
			var got []byte
			for p := make([]byte, size); len(got) < len(text); {
				n, err := r.ReadAt(p, int64(len(got)))
				if err != nil && err != io.EOF {
					t.Fatalf("%s: %v", what, err)
				}
				got = append(got, p[:n]...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: read %d at a time, the file is another", what, size)
			}
		}
	}
	for _, lost := range []int{3, 4, 9} {
		clear(raw[(lost+1)*page:][:page])
		clear(want[lost*page:][:page])
	}
	read("three pages lost")
	for i := range 512 {
		raw[i] = 0x5a
	}
	read("the first sector of the header lost")
	clear(raw[:page])
	clear(want)
	read("the header lost")
	raw[page/2] = 0x5a
	if _, err := files.Open("f"); !errors.Is(err, fault.Corrupt) {
		t.Errorf("a header that is damaged: %v, want Corrupt", err)
	}
}
