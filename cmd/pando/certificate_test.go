package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando/internal/ident"
)

func certifierOf(t *testing.T, file string) *certifier {
	t.Helper()
	c := &certifier{file: file, log: slog.New(slog.DiscardHandler), now: time.Now}
	var err error
	if c.owner, err = ident.Generate(ident.ES256K); err != nil {
		t.Fatal(err)
	}
	if c.peer, err = ident.Generate(ident.EdDSA); err != nil {
		t.Fatal(err)
	}
	return c
}

// A node that runs for a year shows its peers a certificate that is good at any time,
// also by a clock that is behind, and never one that is good for long.
func TestACertificateIsRenewedBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := certifierOf(t, filepath.Join(t.TempDir(), "certificate"))
		var shown [][]byte
		stop, err := c.start(func(all ...[]byte) error { shown = append(shown, all...); return nil })
		if err != nil {
			t.Fatal(err)
		}
		for range 365 {
			got, err := ident.OpenCertificate(shown[len(shown)-1])
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []time.Time{time.Now(), time.Now().Add(clockSlack), time.Now().Add(-clockSlack)} {
				if err := got.Valid(c.peer.Public(), at); err != nil {
					t.Fatalf("by a clock at %s: %v", at, err)
				}
			}
			if left := time.Until(got.NotAfter); got.Owner != c.owner.Public() || left > certifiedFor || left < renewBefore-renewTick {
				t.Fatalf("it is for %s, for %s", got.Owner, left)
			}
			time.Sleep(24 * time.Hour)
			synctest.Wait()
		}
		stop()
		if len(shown) < 30 || len(shown) > 40 {
			t.Errorf("it was renewed %d times in a year, want every ten days or so", len(shown))
		}
		n := len(shown)
		time.Sleep(certifiedFor)
		synctest.Wait()
		if len(shown) != n {
			t.Error("it goes on after its end")
		}
	})
}

func TestACertificateIsKeptWhileItIsGood(t *testing.T) {
	c := certifierOf(t, filepath.Join(t.TempDir(), "certificate"))
	now := time.Now()
	c.now = func() time.Time { return now }
	kept := func() []byte {
		t.Helper()
		raw, err := c.certificate()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ident.OpenCertificate(raw); err != nil || got.Owner != c.owner.Public() || got.Valid(c.peer.Public(), now) != nil {
			t.Fatalf("it is %+v, %v", got, err)
		}
		if c.file != "" {
			if file, err := os.ReadFile(c.file); err != nil || !bytes.Equal(file, raw) {
				t.Errorf("the file holds %x, %v, want %x", file, err, raw)
			}
		}
		return raw
	}
	first := kept()
	if again := kept(); !bytes.Equal(first, again) {
		t.Error("a start makes another one")
	}
	owner, peer := c.owner, c.peer
	for name, c2 := range map[string]struct {
		change  func()
		another bool
	}{
		"it is due":                    {func() { now = now.Add(certifiedFor - renewBefore) }, true},
		"the clock was set back":       {func() { now = now.Add(-24 * time.Hour) }, true},
		"it is for another user":       {func() { c.owner = certifierOf(t, "").owner }, true},
		"the node has another key":     {func() { c.peer = certifierOf(t, "").peer }, true},
		"the file is damaged":          {func() { os.WriteFile(c.file, first[1:], 0o600) }, false},
		"the file is another":          {func() { os.WriteFile(c.file, make([]byte, 1<<20), 0o600) }, false},
		"the file is lost":             {func() { os.Remove(c.file) }, false},
		"there is no place to keep it": {func() { c.file = "" }, false},
	} {
		c.owner, c.peer, c.file = owner, peer, filepath.Join(t.TempDir(), "certificate")
		before := kept()
		c2.change()
		if after := kept(); c2.another && bytes.Equal(before, after) {
			t.Errorf("%s: it stays", name)
		}
	}
}
