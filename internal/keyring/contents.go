package keyring

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

const (
	contentsVersion = 1
	// maxSecrets bounds a keyring to a fraction of maxFile.
	maxSecrets = 1000
	// StoreKeySize is the length of the key of a store.
	StoreKeySize = 32
)

// contents are all secrets of a keyring, sorted by name.
type contents struct {
	Version int      `json:"version"`
	Secrets []secret `json:"secrets"`
}

// secret is one of them. It must not be changed: contents share them.
type secret struct {
	Name string    `json:"name"`
	Kind Kind      `json:"kind"`
	Key  []byte    `json:"key"` // of an identity in multicodec form
	Made time.Time `json:"made"`
}

// Format prints what may be told, whatever the verb.
func (s secret) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%s key %s", string(s.Kind), s.Name) }

// Format prints how many there are, whatever the verb.
func (c contents) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%d secrets", len(c.Secrets)) }

func (s secret) entry() Entry {
	e := Entry{Name: s.Name, Kind: s.Kind, Made: s.Made}
	if s.Kind == Identity {
		if k, err := ident.ParseKey(s.Key); err == nil { // it was when the keyring was opened
			e.DID = k.DID()
		}
	}
	return e
}

func (c contents) find(name string) (int, bool) {
	return slices.BinarySearchFunc(c.Secrets, name, func(s secret, name string) int { return cmp.Compare(s.Name, name) })
}

func (c contents) notFound(path, name string, kind Kind) error {
	if err := CheckName(name); err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(c.Secrets), func(s secret) bool { return kind != "" && s.Kind != kind })
	what := "secret"
	if kind != "" {
		what = kind.noun()
	}
	if len(rest) == 0 {
		return fault.NotFound.Errorf("there is no %s %q: the keyring %s has none at all", what, name, path)
	}
	return fault.NotFound.Errorf("there is no %s %q in the keyring %s: there is %s", what, name, path, names(rest))
}

func (k Kind) noun() string {
	if k == Store {
		return "store key"
	}
	return "identity"
}

func (k Kind) article() string {
	if k == Store {
		return "a store key"
	}
	return "an identity"
}

func (c contents) encode() ([]byte, error) {
	c.Version = contentsVersion
	return json.MarshalIndent(c, "", " ")
}

// decodeContents reads what encode wrote. Its errors tell nothing of what it read.
func decodeContents(text []byte) (c contents, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil || d.Decode(&struct{}{}) != io.EOF {
		if c.Version > contentsVersion {
			return contents{}, errNewer(c.Version)
		}
		return contents{}, errors.New("what it holds is damaged")
	}
	if c.Version != contentsVersion {
		return contents{}, errNewer(c.Version)
	}
	if len(c.Secrets) > maxSecrets {
		return contents{}, fmt.Errorf("it holds %d secrets, want at most %d", len(c.Secrets), maxSecrets)
	}
	for i, s := range c.Secrets {
		if CheckName(s.Name) != nil || i > 0 && c.Secrets[i-1].Name >= s.Name {
			return contents{}, errors.New("its names are damaged")
		}
		switch s.Kind {
		case Identity:
			_, err = ident.ParseKey(s.Key)
		case Store:
			_, err = ParseStoreKey(s.Key)
		default:
			err = fmt.Errorf("kind %.20q", string(s.Kind))
		}
		if err != nil {
			return contents{}, fmt.Errorf("its secret %s is damaged: %w", s.Name, err)
		}
	}
	return c, nil
}

func errNewer(version int) error {
	return fmt.Errorf("its form is %d, and this program knows %d: use a newer one", version, contentsVersion)
}

// StoreKey is a key that a store is encrypted with. It prints as nothing.
type StoreKey struct{ key [StoreKeySize]byte }

// NewStoreKey makes a key from the system's random source.
func NewStoreKey() StoreKey {
	var k StoreKey
	rand.Read(k.key[:]) // never fails
	return k
}

// ParseStoreKey returns the key of those bytes.
func ParseStoreKey(b []byte) (StoreKey, error) {
	if len(b) != StoreKeySize {
		return StoreKey{}, fault.Invalid.Errorf("store key of %d bytes, want %d", len(b), StoreKeySize)
	}
	return StoreKey{[StoreKeySize]byte(b)}, nil
}

// Bytes returns the key itself.
func (k StoreKey) Bytes() []byte { return slices.Clone(k.key[:]) }

// Format prints no more than what it is, whatever the verb.
func (k StoreKey) Format(f fmt.State, _ rune) { io.WriteString(f, "key of a store") }
