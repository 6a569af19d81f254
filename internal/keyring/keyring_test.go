package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	oskeyring "github.com/zalando/go-keyring"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

const passphrase = "correct horse"

// cheap is a keyring of a test: a passphrase is tried in no time, and the system's
// keyring is a map.
func cheap(t *testing.T, backend Backend) Options {
	return Options{
		Dir:        filepath.Join(t.TempDir(), "ring"),
		Backend:    backend,
		Passphrase: func(Ask) (string, error) { return passphrase, nil },
		work:       2,
		system:     vaultOf(map[string]string{}),
	}
}

func vaultOf(m map[string]string) *vault {
	return &vault{
		reach: func() error { return nil },
		get: func(a string) (string, error) {
			if s, ok := m[a]; ok {
				return s, nil
			}
			return "", oskeyring.ErrNotFound
		},
		set:    func(a, s string) error { m[a] = s; return nil },
		remove: func(a string) error { delete(m, a); return nil },
	}
}

func open(t *testing.T, o Options) *Keyring {
	t.Helper()
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newKey(t *testing.T, alg ident.Algorithm) ident.Key {
	t.Helper()
	k, err := ident.Generate(alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var backends = []Backend{System, File, Plain}

func TestSecretsComeBackByName(t *testing.T) {
	for _, b := range backends {
		o := cheap(t, b)
		k := open(t, o)
		if len(k.List()) != 0 || k.Backend() != "" {
			t.Fatalf("%s: a keyring that is not there holds %v, kept by %q", b, k.List(), k.Backend())
		}
		keys := map[string]ident.Key{}
		for _, alg := range []ident.Algorithm{ident.EdDSA, ident.ES256K, ident.ES256} {
			name := "ada." + string(alg)
			keys[name] = newKey(t, alg)
			if err := k.AddIdentity(name, keys[name]); err != nil {
				t.Fatal(err)
			}
		}
		disk := NewStoreKey()
		if err := k.AddStore("disk", disk); err != nil {
			t.Fatal(err)
		}

		k = open(t, o)
		for name, want := range keys {
			got, err := k.Identity(name)
			if err != nil || got.Public() != want.Public() || !bytes.Equal(got.Marshal(), want.Marshal()) {
				t.Errorf("%s: %s is %v, %v, want %v", b, name, got, err, want)
			}
			if e, err := k.Entry(name); err != nil || e.DID != want.DID() || e.Kind != Identity || time.Since(e.Made) > time.Minute {
				t.Errorf("%s: entry of %s is %+v, %v", b, name, e, err)
			}
		}
		if got, err := k.Store("disk"); err != nil || got != disk {
			t.Errorf("%s: the key of the store is another: %v", b, err)
		}
		if list := k.List(); len(list) != 4 || list[0].Name != "ada.ES256" || list[3].Name != "disk" {
			t.Errorf("%s: list is %+v, want four, by name", b, list)
		}
		if err := k.Remove("disk"); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, o).Store("disk"); !errors.Is(err, fault.NotFound) {
			t.Errorf("%s: after its removal: %v", b, err)
		}
		if k.Backend() != b {
			t.Errorf("kept by %q, want %q", k.Backend(), b)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	o := cheap(t, File)
	k := open(t, o)
	ada := newKey(t, ident.EdDSA)
	if err := k.AddIdentity("ada", ada); err != nil {
		t.Fatal(err)
	}
	if err := k.AddStore("disk", NewStoreKey()); err != nil {
		t.Fatal(err)
	}
	_, unknown := k.Identity("bob")
	_, noIdentity := k.Identity("disk")
	_, noStore := k.Store("ada")
	_, path := k.Identity("../ada.key")
	for name, c := range map[string]struct {
		err  error
		kind error
		says string
	}{
		"a name that is taken":          {k.AddIdentity("ada", newKey(t, ident.EdDSA)), fault.Exists, "choose another name"},
		"taken by another kind":         {k.AddStore("ada", NewStoreKey()), fault.Exists, "ada"},
		"an unknown name":               {unknown, fault.NotFound, "there is ada"},
		"a store key as identity":       {noIdentity, fault.Invalid, "is a store key, not an identity"},
		"an identity as store key":      {noStore, fault.Invalid, "is an identity, not a store key"},
		"a path as name":                {path, fault.Invalid, "letters"},
		"an empty name":                 {k.AddIdentity("", ada), fault.Invalid, "letters"},
		"a name that looks like a flag": {k.AddIdentity("-x", ada), fault.Invalid, "letters"},
		"a DID as name":                 {k.AddIdentity(string(ada.DID()), ada), fault.Invalid, "letters"},
		"a long name":                   {k.AddIdentity(strings.Repeat("a", 65), ada), fault.Invalid, "letters"},
		"no key":                        {k.AddIdentity("nobody", ident.Key{}), fault.Invalid, "no key"},
		"removing what is not there":    {k.Remove("bob"), fault.NotFound, "ada, disk"},
	} {
		if !errors.Is(c.err, c.kind) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v, want %v that says %q", name, c.err, c.kind, c.says)
		}
	}
	if got, err := open(t, o).Identity("ada"); err != nil || got.Public() != ada.Public() {
		t.Errorf("ada is %v, %v after all that, want %v", got, err, ada)
	}
}

func TestAWrongPassphraseIsToldFromDamage(t *testing.T) {
	o := cheap(t, File)
	k := open(t, o)
	if err := k.AddIdentity("ada", newKey(t, ident.EdDSA)); err != nil {
		t.Fatal(err)
	}
	wrong := o
	wrong.Passphrase = func(Ask) (string, error) { return "battery staple", nil }
	if _, err := Open(wrong); !errors.Is(err, fault.Denied) || !strings.Contains(err.Error(), "wrong passphrase") || strings.Contains(err.Error(), "battery") {
		t.Errorf("with a wrong passphrase: %v", err)
	}
	nobody := o
	nobody.Passphrase = nil
	if _, err := Open(nobody); !errors.Is(err, fault.Denied) || !strings.Contains(err.Error(), "needs a passphrase") {
		t.Errorf("with nobody to ask: %v", err)
	}
	raw, err := os.ReadFile(k.Path())
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{
		"cut off":         raw[:len(raw)-1],
		"cut off at half": raw[:len(raw)/2],
		"a bit turned":    flipped(raw, len(raw)-3),
		"something else":  []byte("#!/bin/sh"),
		"empty":           {},
		"far too much":    bytes.Repeat(raw, maxFile/len(raw)+2),
		"work for a day":  bytes.Replace(raw, []byte(" 2\n"), []byte(" 29\n"), 1),
	} {
		if bytes.Equal(damaged, raw) {
			t.Fatalf("%s: the test changes nothing", name)
		}
		if err := os.WriteFile(k.Path(), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(o); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v, want it to be told as damage", name, err)
		}
		if err := k.AddStore("disk", NewStoreKey()); err == nil {
			t.Errorf("%s: written over", name)
		}
		if now, _ := os.ReadFile(k.Path()); !bytes.Equal(now, damaged) {
			t.Errorf("%s: the damaged file was changed", name)
		}
	}
	for _, text := range []string{
		`{"version":2,"secrets":[]}`,
		`{"version":1,"secrets":[{"name":"a","kind":"identity","key":"AAAA"}]}`,
		`{"version":1,"secrets":[{"name":"a","kind":"store","key":"AAAA"}]}`,
		`{"version":1,"secrets":[{"name":"a","kind":"token","key":"AAAA"}]}`,
		`{"version":1,"secrets":[{"name":"../a","kind":"store","key":"AAAA"}]}`,
		`{"version":1,"secrets":[],"more":1}`,
		`{"version":1,"secrets":[]}{}`,
		`{}`, `{`,
	} {
		if err := os.WriteFile(k.Path(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(cheapAt(o, Plain)); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v, want it to be told as damage", text, err)
		}
	}
}

func flipped(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

func cheapAt(o Options, b Backend) Options {
	o.Backend = b
	return o
}

func TestFilesAreForTheOwnerAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes there")
	}
	for _, b := range backends {
		o := cheap(t, b)
		k := open(t, o)
		for range 2 { // the second time it is replaced
			if err := k.AddStore("disk", NewStoreKey()); err != nil {
				t.Fatal(err)
			}
			if err := k.AddStore("other", NewStoreKey()); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(k.Remove("disk"), k.Remove("other")); err != nil {
				t.Fatal(err)
			}
		}
		err := filepath.WalkDir(o.Dir, func(path string, d fs.DirEntry, err error) error {
			info, _ := d.Info()
			if err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %s has mode %v, %v", b, path, info.Mode(), err)
			}
			if name := d.Name(); !d.IsDir() && name != "secrets" && name != "lock" {
				t.Errorf("%s: %s is left behind", b, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(k.Path(), 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(o); !errors.Is(err, fault.Denied) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("%s: a file that others may read: %v", b, err)
		}
	}
}

// Nothing of the package shows a secret, whatever it is printed or logged with; and
// nothing of it is in the clear where a backend encrypts.
func TestNoSecretIsShown(t *testing.T) {
	for _, b := range backends {
		o := cheap(t, b)
		kept := map[string]string{}
		o.system = vaultOf(kept)
		k := open(t, o)
		ada, disk := newKey(t, ident.EdDSA), NewStoreKey()
		if err := errors.Join(k.AddIdentity("ada-lovelace", ada), k.AddStore("disk", disk)); err != nil {
			t.Fatal(err)
		}
		secrets := [][]byte{ada.Marshal()[2:], disk.Bytes(), []byte(passphrase)}
		for _, s := range kept {
			secrets = append(secrets, []byte(s))
		}
		e, _ := k.Entry("ada-lovelace")
		for _, v := range []any{k, *k, k.box, k.held, &k.held, k.held.Secrets, k.held.Secrets[0], disk, &disk, ada, e, k.List(), []any{disk, ada}, map[string]any{"key": disk}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q"} {
				lookFor(t, secrets, fmt.Sprintf("%s of %T by %s", b, v, verb), fmt.Sprintf(verb, v))
			}
		}
		for _, v := range []any{disk, ada, e, k} {
			text, _ := json.Marshal(v)
			lookFor(t, secrets, fmt.Sprintf("%s: JSON of %T", b, v), string(text))
		}
		raw, err := os.ReadFile(k.Path())
		if err != nil {
			t.Fatal(err)
		}
		if b == Plain {
			if !strings.Contains(string(raw), base64.StdEncoding.EncodeToString(disk.Bytes())) {
				t.Error("the test does not find what is in the clear")
			}
			continue
		}
		lookFor(t, append(secrets, []byte("ada-lovelace")), string(b)+": the file", string(raw))
	}
}

func lookFor(t *testing.T, secrets [][]byte, where, text string) {
	t.Helper()
	for _, s := range secrets {
		for _, form := range []string{string(s), hex.EncodeToString(s), strings.ToUpper(hex.EncodeToString(s)), base64.StdEncoding.EncodeToString(s),
			strings.Trim(fmt.Sprint(s[:4]), "[]"), strings.Trim(fmt.Sprintf("%#v", s[:4]), "[]byte{}")} {
			if strings.Contains(text, form) {
				t.Errorf("%s shows a secret: %q", where, text)
			}
		}
	}
}

func TestTheSystemIsPreferredWhereItWorks(t *testing.T) {
	var told []string
	kept := map[string]string{}
	o := cheap(t, "")
	o.system, o.Notice = vaultOf(kept), func(s string) { told = append(told, s) }
	o.Passphrase = func(Ask) (string, error) { t.Error("asked for a passphrase"); return "", nil }
	k := open(t, o)
	if err := k.AddStore("disk", NewStoreKey()); err != nil {
		t.Fatal(err)
	}
	if k.Backend() != System || len(kept) != 1 || kept[k.Path()] == "" || len(told) != 0 {
		t.Errorf("kept by %q, by the system for %d, told %q", k.Backend(), len(kept), told)
	}

	moved := o
	moved.Dir = filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Rename(o.Dir, moved.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(moved); !errors.Is(err, fault.Denied) || !strings.Contains(err.Error(), "move it back") {
		t.Errorf("a file that was moved: %v", err)
	}
	kept[filepath.Join(moved.Dir, "secrets")] = "AGE-SECRET-KEY-1NONSENSE"
	if _, err := Open(moved); !errors.Is(err, fault.Corrupt) || strings.Contains(err.Error(), "NONSENSE") {
		t.Errorf("with what is no key: %v", err)
	}
	other := open(t, cheap(t, System))
	if err := other.AddStore("disk", NewStoreKey()); err != nil {
		t.Fatal(err)
	}
	foreign, err := other.options.system.get(other.Path())
	if err != nil {
		t.Fatal(err)
	}
	kept[filepath.Join(moved.Dir, "secrets")] = foreign
	if _, err := Open(moved); !errors.Is(err, fault.Denied) {
		t.Errorf("with the key of another keyring: %v", err)
	}
}

// On a machine without a desktop there is no keyring of the system, or one that never
// answers, because nobody is there to type its password.
func TestWithoutASystemAPassphraseIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := make(chan struct{})
		defer close(hung)
		never := func() error { <-hung; return nil }
		for name, v := range map[string]*vault{
			"no session":     {reach: func() error { return errNoSystem(errors.New("there is no D-Bus session")) }},
			"says no":        {reach: func() error { return nil }, get: func(string) (string, error) { return "", errors.New("no such service") }},
			"never answers":  {reach: func() error { return nil }, get: func(string) (string, error) { return "", never() }},
			"talks nonsense": {reach: func() error { return nil }, get: func(string) (string, error) { panic("type assertion") }},
		} {
			var told []string
			var asked []Ask
			o := cheap(t, Auto)
			o.system, o.Notice = v, func(s string) { told = append(told, s) }
			o.Passphrase = func(a Ask) (string, error) { asked = append(asked, a); return passphrase, nil }
			begun := time.Now()
			k := open(t, o)
			if err := k.AddStore("disk", NewStoreKey()); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if k.Backend() != File || len(told) != 1 || !strings.Contains(told[0], "no keyring of the system") || len(asked) != 1 || !asked[0].New {
				t.Errorf("%s: kept by %q, told %q, asked %+v", name, k.Backend(), told, asked)
			}
			if took := time.Since(begun); took > probeTime {
				t.Errorf("%s: it took %s, want at most %s", name, took, probeTime)
			}
			if _, err := open(t, o).Store("disk"); err != nil || asked[1].New {
				t.Errorf("%s: opened again: %v, asked %+v", name, err, asked)
			}
			o = cheap(t, System)
			o.system = v
			if err := open(t, o).AddStore("disk", NewStoreKey()); !errors.Is(err, fault.Unavailable) {
				t.Errorf("%s: with the system asked for: %v", name, err)
			}
		}
	})
}

func TestASystemThatKeepsNothingIsNotTrusted(t *testing.T) {
	o := cheap(t, System)
	o.system.set = func(string, string) error { return nil }
	if err := open(t, o).AddStore("disk", NewStoreKey()); err == nil {
		t.Error("a secret was given to a keyring that forgets it")
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "secrets")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file that nothing opens: %v", err)
	}
}

func TestAKeyringMoves(t *testing.T) {
	kept := map[string]string{}
	pass := passphrase
	o := cheap(t, File)
	o.system = vaultOf(kept)
	o.Passphrase = func(Ask) (string, error) { return pass, nil }
	k := open(t, o)
	ada := newKey(t, ident.ES256K)
	if err := k.Move(System); !errors.Is(err, fault.NotFound) {
		t.Errorf("moved before it was made: %v", err)
	}
	if err := k.AddIdentity("ada", ada); err != nil {
		t.Fatal(err)
	}
	o.Backend = ""
	for _, to := range []Backend{System, Plain, File, File, System, File} {
		was := pass
		if to == File {
			pass += "!"
		}
		if err := k.Move(to); err != nil {
			t.Fatalf("to %s: %v", to, err)
		}
		again := open(t, o)
		got, err := again.Identity("ada")
		if err != nil || got.Public() != ada.Public() || again.Backend() != to {
			t.Errorf("moved to %s: %v, %v, kept by %q", to, got, err, again.Backend())
		}
		if has := len(kept) > 0; has != (to == System) {
			t.Errorf("moved to %s: the system has a key: %v", to, has)
		}
		if to == File {
			old := o
			old.Passphrase = func(Ask) (string, error) { return was, nil }
			if _, err := Open(old); !errors.Is(err, fault.Denied) {
				t.Errorf("the old passphrase: %v", err)
			}
		}
	}
	if err := k.Move(Auto); !errors.Is(err, fault.Invalid) {
		t.Errorf("moved to auto: %v", err)
	}
	if err := k.Move(Plain); err != nil {
		t.Fatal(err)
	}
	if err := k.Move(Plain); !errors.Is(err, fault.Invalid) {
		t.Errorf("moved to where it is: %v", err)
	}
	if _, err := Open(cheapAt(o, File)); !errors.Is(err, fault.Invalid) {
		t.Errorf("opened as another backend: %v", err)
	}
	pass = "short"
	if err := k.Move(File); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "at least 8") {
		t.Errorf("with a short passphrase: %v", err)
	}
}

func TestAPlainKeyringWarns(t *testing.T) {
	told := 0
	o := cheap(t, Plain)
	o.Notice = func(s string) {
		if !strings.Contains(s, "not encrypted") {
			t.Errorf("told %q", s)
		}
		told++
	}
	if err := open(t, o).AddStore("disk", NewStoreKey()); err != nil || told != 1 {
		t.Errorf("made: %v, warned %d times, want 1", err, told)
	}
	o.Backend = ""
	if open(t, o); told != 2 {
		t.Errorf("opened: warned %d times, want 2", told)
	}
}

func TestStatNeedsNoPassphrase(t *testing.T) {
	o := cheap(t, File)
	asked := false
	k := open(t, o)
	quiet := o
	quiet.Passphrase = func(Ask) (string, error) { asked = true; return passphrase, nil }
	if s, err := Stat(quiet); err != nil || s.Backend != "" || s.Path != k.Path() || s.System != nil {
		t.Errorf("before it is made: %+v, %v", s, err)
	}
	if _, err := os.Stat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking makes a directory: %v", err)
	}
	if err := k.AddStore("disk", NewStoreKey()); err != nil {
		t.Fatal(err)
	}
	if s, err := Stat(quiet); err != nil || s.Backend != File || asked {
		t.Errorf("%+v, %v, asked %v", s, err, asked)
	}
}

// Processes that add secrets to one keyring at once lose none.
func TestProcessesTakeTurns(t *testing.T) {
	const adders, each = 4, 8
	if dir := os.Getenv("KEYRING_ADDER_DIR"); dir != "" {
		k := open(t, Options{Dir: dir, Backend: Plain})
		for i := range each {
			if err := k.AddStore(fmt.Sprintf("%s-%d", os.Getenv("KEYRING_ADDER"), i), NewStoreKey()); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	o := cheap(t, Plain)
	if err := open(t, o).AddStore("first", NewStoreKey()); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range adders {
		all.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run=^TestProcessesTakeTurns$")
			cmd.Env = append(os.Environ(), "KEYRING_ADDER_DIR="+o.Dir, fmt.Sprintf("KEYRING_ADDER=p%d", i))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("process %d: %v\n%s", i, err, out)
			}
		})
	}
	all.Wait()
	if got := len(open(t, o).List()); got != adders*each+1 {
		t.Errorf("%d secrets are there, want %d", got, adders*each+1)
	}
}

// What another process did since a keyring was opened stays.
func TestChangesOfOthersStay(t *testing.T) {
	o := cheap(t, File)
	mine := open(t, o)
	if err := mine.AddStore("a", NewStoreKey()); err != nil {
		t.Fatal(err)
	}
	theirs := open(t, o)
	if err := errors.Join(theirs.AddStore("b", NewStoreKey()), theirs.Remove("a")); err != nil {
		t.Fatal(err)
	}
	if err := mine.AddStore("c", NewStoreKey()); err != nil {
		t.Fatal(err)
	}
	if got := names(open(t, o).held.Secrets); got != "b, c" {
		t.Errorf("there is %s, want b, c", got)
	}
	o.Passphrase = func(Ask) (string, error) { return "another passphrase", nil }
	theirs.options = o
	if err := theirs.Move(File); err != nil {
		t.Fatal(err)
	}
	if err := mine.AddStore("d", NewStoreKey()); !errors.Is(err, fault.Conflict) {
		t.Errorf("under a passphrase that was changed meanwhile: %v", err)
	}
	if err := os.Remove(mine.Path()); err != nil {
		t.Fatal(err)
	}
	if err := mine.AddStore("d", NewStoreKey()); !errors.Is(err, fault.Conflict) {
		t.Errorf("after the file was removed: %v", err)
	}
	fresh := open(t, o)
	if err := open(t, o).AddStore("x", NewStoreKey()); err != nil {
		t.Fatal(err)
	}
	if err := fresh.AddStore("y", NewStoreKey()); !errors.Is(err, fault.Conflict) {
		t.Errorf("made meanwhile: %v", err)
	}
}

func TestAKeyringIsBounded(t *testing.T) {
	o := cheap(t, Plain)
	k := open(t, o)
	if err := k.AddIdentity("a", newKey(t, ident.ES256)); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("n", 59)
	for i := 1; i < maxSecrets; i++ {
		s := k.held.Secrets[0]
		s.Name = fmt.Sprintf("%s%05d", long, i)
		k.held.Secrets = append(k.held.Secrets, s)
	}
	text, err := k.held.encode()
	if err != nil || len(text) > maxFile/2 {
		t.Errorf("the largest has %d bytes, %v, want room up to %d", len(text), err, maxFile)
	}
	if err := os.WriteFile(k.Path(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, o).AddStore("more", NewStoreKey()); !errors.Is(err, fault.TooLarge) {
		t.Errorf("one more: %v", err)
	}
}

// What a command waits for that needs a passphrase.
func BenchmarkOpen(b *testing.B) {
	o := Options{Dir: b.TempDir(), Backend: File, Passphrase: func(Ask) (string, error) { return passphrase, nil }}
	k, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	if err := k.AddStore("disk", NewStoreKey()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Open(o); err != nil {
			b.Fatal(err)
		}
	}
}

// Every key of a store is another, which nobody can guess.
func TestKeysOfStoresAreDrawn(t *testing.T) {
	t.Parallel()
	met := map[string]bool{string(make([]byte, StoreKeySize)): true}
	for range 3 {
		k := string(NewStoreKey().Bytes())
		if met[k] {
			t.Errorf("the key %x is drawn twice, or never was", k)
		}
		met[k] = true
	}
}
