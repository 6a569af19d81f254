package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/pandodb/pando/internal/fault"
)

const (
	// scryptWork is log₂ of scrypt's N: to try a passphrase takes 128 MiB and half a
	// second.
	scryptWork = 17
	// maxScryptWork is what a file may ask of us: 256 MiB. It is what age takes by itself.
	maxScryptWork = 18
	// MinPassphrase is the shortest passphrase that can be chosen, in bytes. Whoever has
	// the file can try as many as they like.
	MinPassphrase = 8
)

// How the file begins, by what keeps it. The first two are age's own.
var (
	headScrypt = []byte("age-encryption.org/v1\n-> scrypt ")
	headX25519 = []byte("age-encryption.org/v1\n-> X25519 ")
	headPlain  = []byte("{")
)

// box closes the file of a keyring and opens it again.
type box interface {
	backend() Backend
	close(text []byte) ([]byte, error)
	open(raw []byte) ([]byte, error)
}

func backendOf(path string, raw []byte) (Backend, error) {
	switch {
	case bytes.HasPrefix(raw, headScrypt):
		return File, nil
	case bytes.HasPrefix(raw, headX25519):
		return System, nil
	case bytes.HasPrefix(raw, headPlain):
		return Plain, nil
	}
	return "", fault.Corrupt.Errorf("%s is no keyring, or damaged: restore a copy of it, or move it away to begin a new one", path)
}

// unlock returns the box of a file that is there.
func (k *Keyring) unlock(raw []byte) (box, error) {
	backend, err := backendOf(k.path, raw)
	if err != nil {
		return nil, err
	}
	if want := k.options.Backend; want != Auto && want != backend {
		return nil, fault.Invalid.Errorf("the keyring %s is kept by the backend %q, not %q: move it, or leave --keyring-backend out", k.path, backend, want)
	}
	switch backend {
	case Plain:
		return plainBox{}, nil
	case System:
		return k.options.system.key(k.path)
	}
	pass, err := k.ask(false)
	if err != nil {
		return nil, err
	}
	return passBox{pass, k.options.work}, nil
}

// choose returns a new box.
func (k *Keyring) choose(backend Backend) (box, error) {
	if backend == Auto {
		backend = System
		if err := k.options.system.works(k.path); err != nil {
			k.notice(fmt.Sprintf("%v, so the keyring %s is encrypted with a passphrase", err, k.path))
			backend = File
		}
	}
	switch backend {
	case Plain:
		k.notice("the keyring " + k.path + " is not encrypted: it is for development only")
		return plainBox{}, nil
	case System:
		return k.options.system.makeKey(k.path)
	}
	pass, err := k.ask(true)
	if err != nil {
		return nil, err
	}
	if len(pass) < MinPassphrase {
		return nil, fault.Invalid.Errorf("the passphrase has %d bytes, want at least %d", len(pass), MinPassphrase)
	}
	return passBox{pass, k.options.work}, nil
}

func (k *Keyring) ask(isNew bool) (string, error) {
	if k.options.Passphrase == nil {
		return "", fault.Denied.Errorf("the keyring %s needs a passphrase, and there is nobody to ask", k.path)
	}
	pass, err := k.options.Passphrase(Ask{Path: k.path, New: isNew})
	if err == nil && pass == "" {
		err = fault.Invalid.Errorf("the passphrase of the keyring %s is empty", k.path)
	}
	return pass, err
}

// plainBox closes nothing.
type plainBox struct{}

func (plainBox) backend() Backend                  { return Plain }
func (plainBox) close(text []byte) ([]byte, error) { return text, nil }
func (plainBox) open(raw []byte) ([]byte, error)   { return raw, nil }

// passBox closes with a passphrase.
type passBox struct {
	pass string
	work int
}

func (passBox) backend() Backend { return File }

// Format keeps the passphrase out of whatever is printed.
func (passBox) Format(f fmt.State, _ rune) { io.WriteString(f, "passphrase") }

func (l passBox) close(text []byte) ([]byte, error) {
	r, err := age.NewScryptRecipient(l.pass)
	if err != nil {
		return nil, err
	}
	r.SetWorkFactor(l.work)
	return encrypt(text, r)
}

func (l passBox) open(raw []byte) ([]byte, error) {
	id, err := age.NewScryptIdentity(l.pass)
	if err != nil {
		return nil, err
	}
	id.SetMaxWorkFactor(maxScryptWork)
	return decrypt(raw, id, "wrong passphrase, or the beginning of the file is damaged")
}

// systemBox closes with a key that the system keeps.
type systemBox struct{ id *age.X25519Identity }

func (systemBox) backend() Backend { return System }

// Format keeps the key out of whatever is printed.
func (systemBox) Format(f fmt.State, _ rune) { io.WriteString(f, "key of the system") }

func (l systemBox) close(text []byte) ([]byte, error) { return encrypt(text, l.id.Recipient()) }

func (l systemBox) open(raw []byte) ([]byte, error) {
	return decrypt(raw, l.id, "the key in the keyring of the system is not the one that this file was encrypted with")
}

func encrypt(text []byte, to age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, fmt.Errorf("encrypt the keyring: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return nil, fmt.Errorf("encrypt the keyring: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypt the keyring: %w", err)
	}
	return out.Bytes(), nil
}

func decrypt(raw []byte, id age.Identity, wrong string) ([]byte, error) {
	damaged := fault.Corrupt.Errorf("the file is damaged: restore a copy of it")
	r, err := age.Decrypt(bytes.NewReader(raw), id)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, fault.Denied.Errorf("%s", wrong)
	}
	if err != nil {
		return nil, damaged
	}
	text, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return nil, damaged
	}
	return text, nil
}
