package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"filippo.io/age"
	oskeyring "github.com/zalando/go-keyring"

	"github.com/pandodb/pando/internal/fault"
)

const (
	// service is what we are called in the keyring of the operating system.
	service = "pando"
	// probeTime is how long the system's keyring may take to answer before we do without:
	// a daemon that nobody watches can wait for its password for ever.
	probeTime = 5 * time.Second
	// answerTime is for a keyring that the user is known to have: it may ask for its
	// password first.
	answerTime = time.Minute
)

// vault is the keyring of the operating system. It keeps one text for each of our
// keyrings: the age key that the file is encrypted with, by the path of the file.
type vault struct {
	reach  func() error // why there is none, at a glance; nil if there may be one
	get    func(account string) (string, error)
	set    func(account, text string) error
	remove func(account string) error
}

var systemVault = vault{
	reach:  reachable,
	get:    func(account string) (string, error) { return oskeyring.Get(service, account) },
	set:    func(account, text string) error { return oskeyring.Set(service, account, text) },
	remove: func(account string) error { return oskeyring.Delete(service, account) },
}

// reachable tells at a glance that there is no session to ask. To ask without one
// would start a daemon that outlives us.
func reachable() error {
	switch runtime.GOOS {
	case "darwin", "windows":
		return nil
	}
	if os.Getenv("DBUS_SESSION_BUS_ADDRESS") != "" {
		return nil
	}
	dir := filepath.Join("/run/user", strconv.Itoa(os.Getuid()))
	for _, name := range []string{"bus", "dbus-session"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return nil
		}
	}
	return errNoSystem(errors.New("there is no D-Bus session"))
}

func errNoSystem(err error) error {
	return fault.Unavailable.Errorf("no keyring of the system can be used here (%w)", err)
}

// works returns why the system's keyring cannot be used, or nil. It takes no longer
// than probeTime.
func (v *vault) works(path string) error {
	if err := v.reach(); err != nil {
		return err
	}
	_, err := within(probeTime, func() (string, error) { return v.get(path) })
	if err == nil || errors.Is(err, oskeyring.ErrNotFound) {
		return nil
	}
	return errNoSystem(err)
}

// key returns the key that a file is encrypted with.
func (v *vault) key(path string) (box, error) {
	if err := v.reach(); err != nil {
		return nil, fault.Unavailable.Errorf("the key of %s is in the keyring of the system: %w: log in to a desktop session, or restore a copy that is encrypted with a passphrase", path, err)
	}
	text, err := within(answerTime, func() (string, error) { return v.get(path) })
	if errors.Is(err, oskeyring.ErrNotFound) {
		return nil, fault.Denied.Errorf("the keyring of the system has no key for %s: it belongs to another user or machine, or the file was moved: move it back", path)
	}
	if err != nil {
		return nil, errNoSystem(err)
	}
	id, err := age.ParseX25519Identity(text)
	if err != nil { // the error may hold the text
		return nil, fault.Corrupt.Errorf("what the keyring of the system has for %s is no key", path)
	}
	return systemBox{id}, nil
}

// makeKey returns the key for a new file. One that is there already is used again:
// there may be a copy of a file that needs it.
func (v *vault) makeKey(path string) (box, error) {
	if err := v.works(path); err != nil {
		return nil, fault.Unavailable.Errorf("%w: choose another with --keyring-backend %s", err, File)
	}
	if l, err := v.key(path); err == nil {
		return l, nil
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fault.Unavailable.Errorf("new key of the keyring: %w", err)
	}
	if _, err := within(answerTime, func() (struct{}, error) { return struct{}{}, v.set(path, id.String()) }); err != nil {
		return nil, fault.Unavailable.Errorf("%w: choose another with --keyring-backend %s", errNoSystem(err), File)
	}
	// Some say yes and keep nothing.
	kept, err := v.key(path)
	if err != nil {
		return nil, err
	}
	if kept.(systemBox).id.String() != id.String() {
		return nil, fault.Unavailable.Errorf("the keyring of the system did not keep what it was given: choose another with --keyring-backend %s", File)
	}
	return kept, nil
}

func (v *vault) forget(path string) error {
	_, err := within(answerTime, func() (struct{}, error) { return struct{}{}, v.remove(path) })
	return err
}

// within calls f, and gives up waiting after d; f then goes on in the background, for
// nothing can end it. It is code of others that talks to daemons of others, so what it
// panics with is an error as well.
func within[T any](d time.Duration, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r = result{err: errors.New("it gave an answer that cannot be understood")}
			}
			done <- r
		}()
		r.v, r.err = f()
	}()
	limit := time.NewTimer(d)
	defer limit.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-limit.C:
		var none T
		return none, errors.New("it did not answer within " + d.String() + ", perhaps it is locked")
	}
}
