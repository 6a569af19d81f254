package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/keyring"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

const (
	// passphraseEnv holds the passphrase itself: see docs/identity.md on why a file is better.
	passphraseEnv = "PANDO_KEYRING_PASSPHRASE"
	// maxSecretFile bounds what is read as a secret: a wrong path must not pull a
	// database into memory.
	maxSecretFile = 4 << 10
)

// keyringFlags say which keyring to use, and how to open it.
type keyringFlags struct {
	dir, backend string
	passphrase   string // a file
	next         string // a file with the passphrase that is to be chosen, if another
	changing     bool   // the passphrase: what opens the keyring is not what is chosen
}

func (k *keyringFlags) add(f *pflag.FlagSet) {
	f.StringVar(&k.dir, "keyring-dir", "", "directory of your keyring; default: pando/keyring among your settings")
	f.StringVar(&k.backend, "keyring-backend", string(keyring.Auto), "what protects a new keyring: system, file (a passphrase), plain (nothing), or auto: the first two in turn")
	f.StringVar(&k.passphrase, "keyring-passphrase-file", "", "file with the passphrase of your keyring; default: ask for it")
	settings(f, "keyring-dir", "keyring-backend", "keyring-passphrase-file")
}

// openKeyring unlocks the user's keyring, once for a command: to unlock it takes a second,
// and may ask.
func (c *command) openKeyring(ctx context.Context) (*keyring.Keyring, error) {
	if c.ring != nil {
		return c.ring, nil
	}
	o, err := c.keyringOptions(ctx)
	if err != nil {
		return nil, err
	}
	c.ring, err = keyring.Open(o)
	return c.ring, err
}

func (c *command) keyringOptions(ctx context.Context) (keyring.Options, error) {
	backend, err := keyring.ParseBackend(c.keyring.backend)
	if err != nil {
		return keyring.Options{}, fmt.Errorf("--keyring-backend: %w", err)
	}
	dir := c.keyring.dir
	if dir == "" {
		if dir, err = keyring.DefaultDir(); err != nil {
			return keyring.Options{}, fmt.Errorf("%w with --keyring-dir", err)
		}
	}
	return keyring.Options{
		Dir: dir, Backend: backend,
		Passphrase: func(a keyring.Ask) (string, error) { return c.passphrase(ctx, a) },
		Notice:     func(text string) { fmt.Fprintln(c.err, "note:", text) },
	}, nil
}

// identity returns the key that a user named: by its name in the keyring, or by a file,
// which is told by a slash.
func (c *command) identity(ctx context.Context, name string) (ident.Key, error) {
	if strings.ContainsRune(name, '/') || strings.ContainsRune(name, os.PathSeparator) {
		key, err := ident.LoadKey(name)
		if errors.Is(err, fault.NotFound) {
			err = fault.NotFound.Errorf("%w; make one in your keyring with: pando identity new NAME, and give its name", err)
		}
		return key, err
	}
	if strings.HasPrefix(name, "did:") {
		return ident.Key{}, fault.Invalid.Errorf("identity %s: want its name in your keyring, see pando identity list, or a file with its key", name)
	}
	k, err := c.openKeyring(ctx)
	if err != nil {
		return ident.Key{}, err
	}
	key, err := k.Identity(name)
	if errors.Is(err, fault.NotFound) {
		if _, statErr := os.Stat(name); statErr == nil {
			return ident.Key{}, fault.NotFound.Errorf("%w; for the file write ./%s", err, name)
		}
		return ident.Key{}, fault.NotFound.Errorf("%w; make one with: pando identity new NAME", err)
	}
	return key, err
}

// identityFlag names as whom a command acts.
type identityFlag struct{ name string }

func (i *identityFlag) add(f *pflag.FlagSet, usage string) {
	f.StringVarP(&i.name, "identity", "i", "", usage+": its name in your keyring, or a file with its key, such as ./ada.key")
	settings(f, "identity")
}

// key returns the key of the identity, the zero Key if none was named.
func (i *identityFlag) key(ctx context.Context, c *command) (ident.Key, error) {
	if i.name == "" {
		return ident.Key{}, nil
	}
	key, err := c.identity(ctx, i.name)
	if err != nil {
		return ident.Key{}, fmt.Errorf("--identity: %w", err)
	}
	return key, nil
}

// passphrase returns that of the keyring: from a file, from the environment, or from
// whoever sits at the terminal.
func (c *command) passphrase(ctx context.Context, a keyring.Ask) (string, error) {
	switch {
	case a.New && c.keyring.next != "":
		return readPassphrase(c.keyring.next, "--new-passphrase-file")
	case a.New && c.keyring.changing:
		return c.askPassphrase(ctx, a)
	case c.keyring.passphrase != "":
		return readPassphrase(c.keyring.passphrase, "--keyring-passphrase-file")
	}
	if pass := os.Getenv(passphraseEnv); pass != "" {
		return pass, nil
	}
	return c.askPassphrase(ctx, a)
}

func readPassphrase(file, flag string) (string, error) {
	raw, err := readSecret(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	pass := strings.TrimRight(string(raw), "\r\n")
	if pass == "" || strings.ContainsAny(pass, "\r\n\x00") {
		return "", fault.Invalid.Errorf("%s: %s holds no passphrase: want one line of text", flag, file)
	}
	return pass, nil
}

// readSecret reads a small file that is its owner's alone.
func readSecret(name string) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NotFound.Errorf("there is no file %s", name)
	}
	if err != nil {
		return nil, fileFault(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fileFault(err)
	}
	if info.IsDir() {
		return nil, fault.Invalid.Errorf("%s is a directory: name a file", name)
	}
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fault.Denied.Errorf("%s is open to others (mode %04o): run chmod 600 on it", name, mode.Perm())
	}
	return readLimited(f, name)
}

func readLimited(r io.Reader, name string) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxSecretFile+1))
	if err != nil {
		return nil, fileFault(err)
	}
	if len(raw) > maxSecretFile {
		return nil, fault.Invalid.Errorf("%s has more than %d bytes: that is no secret, name another file", name, maxSecretFile)
	}
	return raw, nil
}

// askPassphrase asks at the terminal, twice for a new one.
func (c *command) askPassphrase(ctx context.Context, a keyring.Ask) (string, error) {
	if !terminal(c.err) || !terminalIn(c.in) {
		what, flag := "its passphrase", "--keyring-passphrase-file"
		if a.New {
			what = "a passphrase that protects it"
		}
		if c.keyring.changing {
			what, flag = "a new passphrase", "--new-passphrase-file"
		}
		return "", fault.Denied.Errorf("the keyring %s needs %s, and there is no terminal to ask for it: put it into a file and name that with %s", a.Path, what, flag)
	}
	if !a.New {
		pass, err := c.typed(ctx, "Passphrase of "+a.Path+": ")
		return string(pass), err
	}
	fmt.Fprintf(c.err, "Choose a passphrase for %s. Whoever has the file and the passphrase has your identities;\nwithout the passphrase they are lost.\n", a.Path)
	pass, err := c.typed(ctx, "New passphrase: ")
	if err != nil {
		return "", err
	}
	again, err := c.typed(ctx, "Once more: ")
	if err != nil {
		return "", err
	}
	if !bytes.Equal(pass, again) {
		return "", fault.Invalid.Errorf("the two passphrases differ: try again")
	}
	return string(pass), nil
}

// typed returns a line that is not shown. An interrupt ends it, and leaves the terminal
// as it was.
func (c *command) typed(ctx context.Context, prompt string) ([]byte, error) {
	fd := int(c.in.(*os.File).Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fault.Unavailable.Errorf("terminal: %w", err)
	}
	fmt.Fprint(c.err, prompt)
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	go func() { // nothing ends a read of a terminal but the end of the process, which follows an interrupt
		text, err := term.ReadPassword(fd)
		read <- line{text, err}
	}()
	defer fmt.Fprintln(c.err)
	select {
	case l := <-read:
		if errors.Is(l.err, io.EOF) {
			return nil, fault.Denied.Errorf("no passphrase was given")
		}
		return l.text, l.err
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), term.Restore(fd, before))
	}
}
