// Package keyring keeps a user's secrets by name: the keys of identities, and the keys
// that stores are encrypted with.
//
// It hides where they are. A keyring is one file, always whole, in a directory of the
// user's. It is encrypted, as age does it, with a key that the keyring of the operating
// system keeps, or, where there is none that works, with a passphrase.
//
// No secret is in a name of a file, in an error, or in what a value of this package
// prints as.
package keyring

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Backend is what keeps the secrets of a keyring from others.
type Backend string

const (
	// Auto is System where there is a keyring of the operating system that works, else
	// File. It is decided once, when the keyring is made.
	Auto Backend = "auto"
	// System encrypts with a key in the keyring of the operating system: the Secret
	// Service on Linux (GNOME Keyring, KWallet), the Keychain, the Credential Manager.
	System Backend = "system"
	// File encrypts with a passphrase.
	File Backend = "file"
	// Plain encrypts nothing. It is for development, and never chosen by itself.
	Plain Backend = "plain"
)

// ParseBackend returns the backend of that name.
func ParseBackend(s string) (Backend, error) {
	for _, b := range []Backend{Auto, System, File, Plain} {
		if s == string(b) {
			return b, nil
		}
	}
	return "", fault.Invalid.Errorf("keyring backend %q: want %s, %s, %s or %s", s, Auto, System, File, Plain)
}

// Ask is what a passphrase is wanted for.
type Ask struct {
	Path string // of the keyring's file
	New  bool   // it is being chosen; otherwise it is the one that was
}

// Options say which keyring to open.
type Options struct {
	// Dir is the directory of the keyring; "" is DefaultDir. It is made when the first
	// secret is.
	Dir string
	// Backend is that of a keyring that is to be made, and one that is there must have.
	// "" is Auto, which every one that is there has.
	Backend Backend
	// Passphrase returns the passphrase. Nil: there is nobody to ask.
	Passphrase func(Ask) (string, error)
	// Notice is told what a user should know; nil drops it.
	Notice func(text string)

	work   int    // log₂ of the work to try one passphrase; 0 is scryptWork
	system *vault // the keyring of the operating system; nil is the real one
}

// DefaultDir is where a user's keyring is: pando/keyring below the directory of the
// user's settings.
func DefaultDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fault.Invalid.Errorf("the directory of the keyring is not known: %w: name one", err)
	}
	return filepath.Join(dir, "pando", "keyring"), nil
}

// Keyring is a keyring that has been unlocked. It is not safe for concurrent use;
// several processes may change one keyring at once. It holds secrets until it is
// forgotten: keep it no longer than it takes to get one.
type Keyring struct {
	options Options
	path    string
	raw     []byte // the file as it was read or written last; nil if there is none
	box     box    // what opens and closes the file; nil if there is none
	held    contents
}

// Open unlocks the keyring. One that is not there is empty, and made with the first
// secret. It gives Denied for a wrong passphrase, Corrupt for a damaged file.
func Open(o Options) (*Keyring, error) {
	k, err := at(o)
	if err != nil {
		return nil, err
	}
	if k.raw, err = readFile(k.path); err != nil || k.raw == nil {
		return k, err
	}
	if k.box, err = k.unlock(k.raw); err != nil {
		return nil, err
	}
	if k.held, err = k.open(k.raw); err != nil {
		return nil, err
	}
	if k.box.backend() == Plain {
		k.notice("the keyring " + k.path + " is not encrypted: it is for development only")
	}
	return k, nil
}

// Status is what can be told of a keyring without unlocking it.
type Status struct {
	Path    string
	Backend Backend // "" if there is no keyring yet
	// System is nil if the keyring of the operating system works, else why it does not.
	System error
}

// Stat looks at the keyring without unlocking it.
func Stat(o Options) (Status, error) {
	k, err := at(o)
	if err != nil {
		return Status{}, err
	}
	raw, err := readFile(k.path)
	if err != nil {
		return Status{}, err
	}
	s := Status{Path: k.path, System: k.options.system.works(k.path)}
	if raw != nil {
		s.Backend, err = backendOf(k.path, raw)
	}
	return s, err
}

func at(o Options) (*Keyring, error) {
	if o.Dir == "" {
		var err error
		if o.Dir, err = DefaultDir(); err != nil {
			return nil, err
		}
	}
	dir, err := filepath.Abs(o.Dir) // the system's keyring knows it by this name
	if err != nil {
		return nil, fault.Invalid.Errorf("directory of the keyring: %w", err)
	}
	if o.Backend == "" {
		o.Backend = Auto
	}
	if o.work == 0 {
		o.work = scryptWork
	}
	if o.system == nil {
		o.system = &systemVault
	}
	return &Keyring{options: o, path: filepath.Join(dir, fileName)}, nil
}

// Path is the file of the keyring.
func (k *Keyring) Path() string { return k.path }

// Backend is what keeps the secrets from others, "" if there is no keyring yet.
func (k *Keyring) Backend() Backend {
	if k.box == nil {
		return ""
	}
	return k.box.backend()
}

// Format prints where the keyring is, whatever the verb, and nothing that it holds.
func (k Keyring) Format(f fmt.State, _ rune) { io.WriteString(f, "keyring "+k.path) }

// Kind is what a secret is for.
type Kind string

const (
	Identity Kind = "identity" // the key of an identity
	Store    Kind = "store"    // the key that a store is encrypted with
)

// Entry is what a keyring tells of a secret.
type Entry struct {
	Name string
	Kind Kind
	DID  ident.DID // of an identity
	Made time.Time // when it came into the keyring
}

// List returns what there is, by name.
func (k *Keyring) List() []Entry {
	entries := make([]Entry, len(k.held.Secrets))
	for i, s := range k.held.Secrets {
		entries[i] = s.entry()
	}
	return entries
}

// Identity returns the key of an identity.
func (k *Keyring) Identity(name string) (ident.Key, error) {
	s, err := k.find(name, Identity)
	if err != nil {
		return ident.Key{}, err
	}
	return ident.ParseKey(s.Key)
}

// Store returns a key that a store is encrypted with.
func (k *Keyring) Store(name string) (StoreKey, error) {
	s, err := k.find(name, Store)
	if err != nil {
		return StoreKey{}, err
	}
	return ParseStoreKey(s.Key)
}

// Entry returns what there is of that name.
func (k *Keyring) Entry(name string) (Entry, error) {
	s, err := k.find(name, "")
	return s.entry(), err
}

// AddIdentity keeps the key of an identity under a new name.
func (k *Keyring) AddIdentity(name string, key ident.Key) error {
	if key.IsZero() {
		return fault.Invalid.Errorf("keyring: %s: no key to keep", name)
	}
	return k.add(secret{Name: name, Kind: Identity, Key: key.Marshal()})
}

// AddStore keeps a key that a store is encrypted with under a new name.
func (k *Keyring) AddStore(name string, key StoreKey) error {
	return k.add(secret{Name: name, Kind: Store, Key: key.Bytes()})
}

func (k *Keyring) add(s secret) error {
	if err := CheckName(s.Name); err != nil {
		return err
	}
	s.Made = time.Now().UTC().Truncate(time.Second)
	return k.change(func(c *contents) error {
		i, found := c.find(s.Name)
		if found {
			return fault.Exists.Errorf("the keyring has a secret %q already: choose another name, or remove that one first", s.Name)
		}
		if len(c.Secrets) >= maxSecrets {
			return fault.TooLarge.Errorf("the keyring holds %d secrets, which is the most: remove some, or use a second one", maxSecrets)
		}
		c.Secrets = slices.Insert(slices.Clone(c.Secrets), i, s)
		return nil
	})
}

// Remove forgets a secret, for ever if nobody has a copy.
func (k *Keyring) Remove(name string) error {
	return k.change(func(c *contents) error {
		i, found := c.find(name)
		if !found {
			return c.notFound(k.path, name, "")
		}
		c.Secrets = slices.Delete(slices.Clone(c.Secrets), i, i+1)
		return nil
	})
}

func (k *Keyring) find(name string, kind Kind) (secret, error) {
	i, found := k.held.find(name)
	if !found {
		return secret{}, k.held.notFound(k.path, name, kind)
	}
	s := k.held.Secrets[i]
	if kind != "" && s.Kind != kind {
		return secret{}, fault.Invalid.Errorf("the secret %q is %s, not %s", name, s.Kind.article(), kind.article())
	}
	return s, nil
}

// change lets f change what the keyring holds, on top of what others did meanwhile.
func (k *Keyring) change(f func(*contents) error) error {
	b := k.box
	if b == nil {
		var err error
		if b, err = k.choose(k.options.Backend); err != nil { // before others are kept out: it may ask
			return err
		}
	}
	return k.rewrite(b, f)
}

// Move keeps the same secrets by another backend, or, if the backend is File, under
// another passphrase.
func (k *Keyring) Move(to Backend) error {
	if k.box == nil {
		return fault.NotFound.Errorf("there is no keyring %s: it is made with the first secret", k.path)
	}
	if to == Auto {
		return fault.Invalid.Errorf("move the keyring: say where to: %s, %s or %s", System, File, Plain)
	}
	if to == k.box.backend() && to != File {
		return fault.Invalid.Errorf("the keyring %s is kept by the backend %q already", k.path, to)
	}
	next, err := k.choose(to)
	if err != nil {
		return err
	}
	old := k.box
	if err := k.rewrite(next, func(*contents) error { return nil }); err != nil {
		return err
	}
	if old.backend() == System && to != System {
		if err := k.options.system.forget(k.path); err != nil {
			k.notice("the key in the keyring of the system is still there, and opens nothing any more: " + err.Error())
		}
	}
	return nil
}

// rewrite changes the file while no other process can, and closes it with next.
func (k *Keyring) rewrite(next box, f func(*contents) error) error {
	release, err := exclusive(k.path)
	if err != nil {
		return err
	}
	defer release()
	raw, err := readFile(k.path)
	if err != nil {
		return err
	}
	held := k.held
	switch {
	case raw == nil && k.raw != nil:
		return fault.Conflict.Errorf("the keyring %s was removed meanwhile", k.path)
	case raw != nil && k.raw == nil:
		return fault.Conflict.Errorf("the keyring %s was made meanwhile by another process: try again", k.path)
	case !bytes.Equal(raw, k.raw):
		if held, err = k.open(raw); err != nil {
			return fault.Conflict.Errorf("the keyring %s was changed meanwhile by another process: try again", k.path)
		}
	}
	if err := f(&held); err != nil {
		return err
	}
	text, err := held.encode()
	if err != nil {
		return err
	}
	if raw, err = next.close(text); err != nil {
		return err
	}
	if err := writeFile(k.path, raw); err != nil {
		return err
	}
	k.raw, k.box, k.held = raw, next, held
	return nil
}

func (k *Keyring) open(raw []byte) (contents, error) {
	if b, err := backendOf(k.path, raw); err != nil || b != k.box.backend() {
		return contents{}, fault.Conflict.Errorf("the keyring %s is kept by another backend now", k.path)
	}
	text, err := k.box.open(raw)
	if err != nil {
		return contents{}, fmt.Errorf("keyring %s: %w", k.path, err)
	}
	c, err := decodeContents(text)
	if err != nil {
		return contents{}, fault.Corrupt.Errorf("keyring %s: %w: restore a copy of the file", k.path, err)
	}
	return c, nil
}

func (k *Keyring) notice(text string) {
	if k.options.Notice != nil {
		k.options.Notice(text)
	}
}

// A name is told apart from a path and a DID at sight, and needs no quoting anywhere.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckName returns why a secret cannot have that name.
func CheckName(name string) error {
	if !nameForm.MatchString(name) {
		return fault.Invalid.Errorf("name %.80q: want 1 to 64 letters, digits, points, dashes and underscores, of which the first is a letter or a digit", name)
	}
	return nil
}

func names(secrets []secret) string {
	const shown = 8
	var list []string
	for i, s := range secrets {
		if i == shown {
			list = append(list, "…")
			break
		}
		list = append(list, s.Name)
	}
	return strings.Join(list, ", ")
}
