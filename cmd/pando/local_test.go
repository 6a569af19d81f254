//go:build unix

package main

import (
	"bytes"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
)

func TestANodeSaysWhoseItIs(t *testing.T) {
	t.Parallel()
	here, beyond := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7)}
	owned, err := api.OpenNodeAccess("")
	if err == nil {
		err = owned.Claim(freshKey(t).DID())
	}
	free, freeErr := api.OpenNodeAccess("")
	if err != nil || freeErr != nil {
		t.Fatal(err, freeErr)
	}
	for _, c := range []struct {
		access  *api.NodeAccess
		at      net.Addr
		allowed bool
		want    string
	}{
		{free, here, false, "level=INFO msg=\"nobody owns this node: whoever is on this machine may do everything"},
		{free, beyond, false, "level=WARN msg=\"nobody owns this node, so it refuses callers from other machines"},
		{free, beyond, true, "level=WARN msg=\"nobody owns this node, and whoever reaches the HTTP address may do everything"},
		{owned, beyond, true, "level=INFO msg=\"the node has an owner"},
	} {
		var log bytes.Buffer
		tellOwner(slog.New(slog.NewTextHandler(&log, nil)), c.access, c.at, c.allowed)
		if !strings.Contains(log.String(), c.want) {
			t.Errorf("at %v, allowed %v: %s, want %s", c.at, c.allowed, &log, c.want)
		}
	}
}

// Nobody but the owner of the directory can open the socket, from its first moment on, and
// one that a crash has left is replaced.
func TestTheSocketIsItsOwners(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "p") // short: the address of a socket holds little
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, socketFile)
	for range 2 { // the second finds what the first has left
		l, err := listenInside(dir, slog.New(slog.DiscardHandler))
		if err != nil || l == nil {
			t.Fatal(l, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 || info.Mode()&fs.ModeSocket == 0 {
			t.Errorf("the socket is %v (%v), want it closed to others", info, err)
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		l.(*socketListener).Listener.Close() // as a crash does
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("left are %v (%v), want the socket", left, err)
		}
	}
	l, err := listenInside(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left are %v (%v), want nothing", left, err)
	}
	long := filepath.Join(dir, strings.Repeat("long/", 30))
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	if l, err := listenInside(long, slog.New(slog.DiscardHandler)); l != nil || err != nil {
		t.Errorf("where no socket can be: %v, %v, want none", l, err)
	}
}

// Which node is at an address is remembered, and the newest word counts.
func TestKnownNodes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pando", knownNodes)
	ada, bob := freshKey(t).DID(), freshKey(t).DID()
	if did, err := recall(file, "ada.example:9181"); did != "" || err != nil {
		t.Errorf("nobody was met: %s, %v", did, err)
	}
	for _, met := range [][2]string{{"ada.example:9181", string(ada)}, {"bob.example:9181", string(ada)}, {"bob.example:9181", string(bob)}, {"bob.example:9181", string(bob)}} {
		if err := remember(file, met[0], pando.DID(met[1])); err != nil {
			t.Fatal(err)
		}
	}
	if did, err := recall(file, "ada.example:9181"); did != ada || err != nil {
		t.Errorf("Ada's: %s, %v", did, err)
	}
	if did, err := recall(file, "bob.example:9181"); did != bob || err != nil {
		t.Errorf("Bob's: %s, %v", did, err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || strings.Count(string(raw), "\n") != 3 {
		t.Errorf("%q (%v), want three lines", raw, err)
	}
	if err := os.WriteFile(file, []byte("ada.example:9181 me\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := recall(file, "ada.example:9181"); fault.Of(err) != fault.Corrupt {
		t.Errorf("a line that names no node: %v, want corrupt", err)
	}
}
