package ident

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/pandodb/pando/internal/fault"
)

func TestKeyFileIsMadeOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node", "key.pem")
	first, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKey(path)
	if err != nil || again.Public() != first.Public() {
		t.Errorf("second start: %s, %v, want %s", again.DID(), err, first.DID())
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("mode of the key file = %04o, want 0600", mode)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
}

func TestStartingTwiceAtOnceGivesOneIdentity(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.pem")
	keys := make([]Key, 8)
	errs := make([]error, len(keys))
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() { keys[i], errs[i] = LoadOrCreateKey(path) })
	}
	wg.Wait()
	for i := range keys {
		if errs[i] != nil || keys[i].Public() != keys[0].Public() {
			t.Errorf("start %d: %s, %v, want %s", i, keys[i].DID(), errs[i], keys[0].DID())
		}
	}
}

func TestKeyFileKeepsEveryAlgorithm(t *testing.T) {
	t.Parallel()
	for _, alg := range algorithms {
		path := filepath.Join(t.TempDir(), "key.pem")
		k := testKey(t, alg, 3)
		if err := SaveKey(path, k); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadKey(path); err != nil || got.Public() != k.Public() {
			t.Errorf("%s: loaded %s, %v, want %s", alg, got.DID(), err, k.DID())
		}
		if err := SaveKey(path, k); !errors.Is(err, fault.Exists) {
			t.Errorf("saving over a key: %v, want exists", err)
		}
	}
}

// A key travels as text: what is around it, as in a mail, does no harm.
func TestAKeyAsText(t *testing.T) {
	t.Parallel()
	for _, alg := range algorithms {
		k := testKey(t, alg, 4)
		for _, text := range [][]byte{k.Text(), append([]byte("Ada's key:\n"), k.Text()...), bytes.ReplaceAll(k.Text(), []byte("\n"), []byte("\r\n"))} {
			if got, err := ParseKeyText(text); err != nil || got.Public() != k.Public() {
				t.Errorf("%s: %s, %v, want %s", alg, got.DID(), err, k.DID())
			}
		}
		if _, err := ParseKeyText(k.Text()[:60]); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: cut short: %v", alg, err)
		}
	}
}

func TestBadKeyFiles(t *testing.T) {
	t.Parallel()
	good := filepath.Join(t.TempDir(), "key.pem")
	if err := SaveKey(good, testKey(t, EdDSA, 1)); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		content []byte
		mode    os.FileMode
		want    error
	}{
		"readable by the group": {pem, 0o640, fault.Denied},
		"readable by all":       {pem, 0o604, fault.Denied},
		"empty":                 {nil, 0o600, fault.Corrupt},
		"cut short":             {pem[:len(pem)-40], 0o600, fault.Corrupt},
		"something else":        {[]byte("hello\n"), 0o600, fault.Corrupt},
		"other key":             {[]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600, fault.Corrupt},
		"wrong length":          {[]byte("-----BEGIN PANDO PRIVATE KEY-----\nAAAA\n-----END PANDO PRIVATE KEY-----\n"), 0o600, fault.Corrupt},
		"a large file":          {make([]byte, 1<<20), 0o600, fault.Corrupt},
		"another's name":        {bytes.Replace(pem, []byte(testKey(t, EdDSA, 1).DID()), []byte(testKey(t, EdDSA, 2).DID()), 1), 0o600, fault.Corrupt},
	}
	for name, c := range cases {
		if c.want == fault.Denied && runtime.GOOS == "windows" {
			continue
		}
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(path, c.content, c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		if _, err := LoadOrCreateKey(path); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if left, _ := os.ReadFile(path); string(left) != string(c.content) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := LoadKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fault.NotFound) {
		t.Errorf("no file: %v, want not found", err)
	}
	if _, err := LoadOrCreateKey(t.TempDir()); !errors.Is(err, fault.Invalid) {
		t.Errorf("a directory: %v, want invalid", err)
	}
	if _, err := LoadKey(os.DevNull); runtime.GOOS != "windows" && !errors.Is(err, fault.Invalid) {
		t.Errorf("a device: %v, want invalid", err)
	}
}
