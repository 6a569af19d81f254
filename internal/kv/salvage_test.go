package kv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

const (
	inTables = 400 // keys that were written to tables
	inAll    = 700 // and with those that are in the log only
)

func salvageKey(i int) string { return fmt.Sprintf("key %04d", i) }

// salvageValue does not compress.
func salvageValue(i int) []byte {
	b := make([]byte, 300)
	rng := rand.New(rand.NewPCG(uint64(i), 1))
	for k := range b {
		b[k] = byte(rng.Uint32())
	}
	return b
}

// aDatabase returns the files of a database: keys in tables and keys in the log.
func aDatabase(t *testing.T) vfs.FS {
	t.Helper()
	return fillDatabase(t, vfs.NewMem())
}

func fillDatabase(t *testing.T, files vfs.FS) vfs.FS {
	t.Helper()
	db := open(t, "db", kv.Options{FS: files})
	for i := range inAll {
		b := db.NewBatch()
		b.Set([]byte(salvageKey(i)), salvageValue(i))
		if i == 5 {
			b.Set([]byte("often"), []byte("old"))
			b.Set([]byte("gone"), []byte("old"))
		}
		if i == inAll-5 {
			b.Set([]byte("often"), []byte("new"))
			b.Delete([]byte("gone"))
		}
		if i%50 == 7 { // of several chunks
			b.Set(fmt.Append(nil, "large ", i), bytes.Repeat(salvageValue(i), 200))
		}
		apply(t, db, b)
		if i == inTables/2 || i == inTables-1 {
			if err := kv.Flush(db); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return files
}

// rewrite copies the database, one file of it changed; nil removes it.
func rewrite(t *testing.T, files vfs.FS, name string, change func([]byte) []byte) vfs.FS {
	t.Helper()
	to := vfs.NewMem()
	if err := to.MkdirAll("db", 0o700); err != nil {
		t.Fatal(err)
	}
	for n, raw := range content(t, files) {
		b := []byte(raw)
		if n == name {
			if b = change(b); b == nil {
				continue
			}
		}
		f, err := to.Create(to.PathJoin("db", n), "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// salvaged returns the newest value of every key, and how many keys were found.
func salvaged(t *testing.T, files vfs.FS) (values map[string]string, problems []kv.Problem) {
	t.Helper()
	newest := map[string]kv.Found{}
	for f, err := range kv.Salvage("db", kv.Options{FS: files}, func(p kv.Problem) { problems = append(problems, p) }) {
		if err != nil {
			t.Fatalf("salvage: %v", err)
		}
		if old, ok := newest[string(f.Key)]; !f.Doubtful && (!ok || f.Seq > old.Seq) {
			f.Key, f.Value = bytes.Clone(f.Key), bytes.Clone(f.Value)
			newest[string(f.Key)] = f
		}
	}
	values = map[string]string{}
	for k, f := range newest {
		if !f.Deleted {
			values[k] = string(f.Value)
		}
	}
	return values, problems
}

// missing returns which keys were not found; what was found must be right.
func missing(t *testing.T, what string, values map[string]string) (keys []int) {
	t.Helper()
	for i := range inAll {
		v, ok := values[salvageKey(i)]
		if !ok {
			keys = append(keys, i)
		} else if v != string(salvageValue(i)) {
			t.Errorf("%s: key %d has a wrong value", what, i)
		}
	}
	return keys
}

func TestSalvageFindsEverythingInWholeFiles(t *testing.T) {
	values, problems := salvaged(t, aDatabase(t))
	if lost := missing(t, "whole files", values); lost != nil || len(problems) > 0 {
		t.Errorf("keys %v are missing, problems %v", lost, problems)
	}
	if values["often"] != "new" {
		t.Errorf("a key written twice is %q, want new", values["often"])
	}
	if v, ok := values["gone"]; ok {
		t.Errorf("a removed key is %q", v)
	}
}

// Each file is damaged in turn, here and there. Opening never hangs nor panics, and
// of the keys only those are lost that lie where the damage is.
func TestSalvageLosesOnlyWhatIsDamaged(t *testing.T) {
	t.Run("plain", func(t *testing.T) { salvageLosesOnlyWhatIsDamaged(t, plainly) })
	t.Run("encrypted", func(t *testing.T) { salvageLosesOnlyWhatIsDamaged(t, encrypted) })
}

func salvageLosesOnlyWhatIsDamaged(t *testing.T, over func(vfs.FS) vfs.FS) {
	files := vfs.FS(vfs.NewMem())
	fillDatabase(t, over(files))
	for name, raw := range content(t, files) {
		size := len(raw)
		if name == "LOCK" {
			continue
		}
		table, log := strings.HasSuffix(name, ".sst"), strings.HasSuffix(name, ".log")
		check := func(what string, most int, change func([]byte) []byte) {
			what = name + " " + what
			hurt := over(rewrite(t, files, name, change))
			values, problems := salvaged(t, hurt)
			if lost := missing(t, what, values); len(lost) > most {
				t.Errorf("%s: %d keys are missing, want %d at most: %v", what, len(lost), most, problems)
			}
			db, err := opens(t, kv.Options{FS: hurt, ReadOnly: true})
			if err == nil {
				_ = db.Verify(context.Background(), func(kv.Problem) {})
				_ = db.Close()
			} else if !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "fsck --rebuild") {
				t.Errorf("%s: opening gives %v, want Corrupt and what to do", what, err)
			}
			if db, err = opens(t, kv.Options{FS: hurt}); err == nil {
				_ = db.Close()
			} else if !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "fsck --rebuild") {
				t.Errorf("%s: opening gives %v, want Corrupt and what to do", what, err)
			}
		}
		held := 0 // keys in this file
		if table {
			held = inTables
		} else if log {
			held = inAll - inTables
		}
		check("removed", held, func([]byte) []byte { return nil })
		if size == 0 {
			continue
		}
		check("emptied", held, func([]byte) []byte { return []byte{} })
		const places = 5
		for i := range places {
			at := (size - 1) * i / (places - 1)
			few := min(held, 1) // a bit can be in a header, of which there is no checksum
			check(fmt.Sprint("bit turned at ", at), few, func(b []byte) []byte { b[at] ^= 1 << (i % 8); return b })
			block := min(held, 3)
			if table {
				block = min(held, 32<<10/300)
			}
			check(fmt.Sprint("bytes lost at ", at), block, func(b []byte) []byte {
				for k := at; k < min(at+50, len(b)); k++ {
					b[k] = 0x5a
				}
				return b
			})
			check(fmt.Sprint("cut at ", at), held, func(b []byte) []byte { return b[:at] })
		}
	}
}

// The log is cut by damage so near to its end that it looks like a power loss.
func TestUnreadEndOfTheLogIsTold(t *testing.T) {
	files := aDatabase(t)
	var newest string
	all := content(t, files)
	for name := range all {
		if strings.HasSuffix(name, ".log") && name > newest {
			newest = name
		}
	}
	end := len(strings.TrimRight(all[newest], "\x00"))
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	db := open(t, "db", kv.Options{FS: files, ReadOnly: true, Logger: log})
	if kv.Unreplayed(db) != 0 || said.Len() > 0 {
		t.Errorf("of a whole log %d bytes were not read: %s", kv.Unreplayed(db), said.String())
	}
	db.Close()
	hurt := rewrite(t, files, newest, func(b []byte) []byte { b[end-1000] ^= 4; return b })
	db = open(t, "db", kv.Options{FS: hurt, Logger: log})
	if n := kv.Unreplayed(db); n < 900 || n > 2000 || !strings.Contains(said.String(), fmt.Sprint("bytes=", n)) {
		t.Errorf("%d bytes were not read, want what follows the damage: %s", n, said.String())
	}
}

func TestOneWrongBitIsMended(t *testing.T) {
	data := salvageValue(1)
	for i := range len(data) * 8 {
		hurt := bytes.Clone(data)
		hurt[i/8] ^= 1 << (i % 8)
		if ok, turned := kv.Mended(hurt, kv.ChecksumOf(data)); !ok || !turned || !bytes.Equal(hurt, data) {
			t.Fatalf("bit %d: %v, %v", i, ok, turned)
		}
	}
	for i := range 32 {
		if ok, _ := kv.Mended(bytes.Clone(data), kv.ChecksumOf(data)^1<<i); !ok {
			t.Fatalf("bit %d of the checksum: the data is refused", i)
		}
	}
	hurt := bytes.Clone(data)
	copy(hurt[20:], "something else")
	if ok, _ := kv.Mended(hurt, kv.ChecksumOf(data)); ok {
		t.Error("worse damage is taken for a bit")
	}
}

func FuzzSalvageLog(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x04\x00\x09\x02\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		files := vfs.NewMem()
		if err := files.MkdirAll("db", 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"000002.log", "000003.sst"} {
			file, err := files.Create(files.PathJoin("db", name), "test")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.Write(bytes.Clone(raw)); err != nil {
				t.Fatal(err)
			}
			file.Close()
		}
		for _, err := range kv.Salvage("db", kv.Options{FS: files}, func(kv.Problem) {}) {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
