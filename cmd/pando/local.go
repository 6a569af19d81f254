package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/ident"
)

// What a node keeps in its directory beside the database.
const (
	accessFile = "access.json" // whose it is
	socketFile = "api.sock"    // where its owner reaches it
)

// didOf returns whom a text names: by a DID, a name in the keyring, or a key file.
func (c *command) didOf(ctx context.Context, text string) (pando.DID, error) {
	if strings.HasPrefix(text, "did:") {
		return ident.ParseDID(text)
	}
	key, err := c.identity(ctx, text)
	return key.DID(), err
}

// maxSocketPath is what the address of a socket holds on all systems, where it is made too.
const maxSocketPath = 96

// openAccess returns who may do what with the node in a directory, "" for one in memory,
// after it was claimed for somebody, if so.
func openAccess(dir string, owner pando.DID) (*api.NodeAccess, error) {
	file := ""
	if dir != "" {
		file = filepath.Join(dir, accessFile)
	}
	access, err := api.OpenNodeAccess(file)
	if err == nil && owner != "" {
		err = access.Claim(owner)
	}
	return access, err
}

// tellOwner says to whom a node belongs, and what that means.
func tellOwner(log *slog.Logger, access *api.NodeAccess, at net.Addr, allowed bool) {
	tcp, ok := at.(*net.TCPAddr)
	beyond := ok && !tcp.IP.IsLoopback()
	switch {
	case access.Claimed():
		log.Info("the node has an owner: callers have to prove who they are", "owner", access.Owner())
	case beyond && allowed:
		log.Warn("nobody owns this node, and whoever reaches the HTTP address may do everything: claim it with pando node claim, or keep others out", "address", tcp)
	case beyond:
		log.Warn("nobody owns this node, so it refuses callers from other machines: claim it with pando node claim, or start it with --allow-unclaimed", "address", tcp)
	default:
		log.Info("nobody owns this node: whoever is on this machine may do everything; pando node claim changes that")
	}
}

// hasSocket reports whether a node in a directory can be reached by its socket: on Windows
// files do not keep others out by their mode.
func hasSocket(dir string) bool {
	path, err := filepath.Abs(filepath.Join(dir, socketFile))
	return err == nil && len(path) <= maxSocketPath && runtime.GOOS != "windows"
}

// listenInside opens the socket in a directory, which only who owns it can open. Nil: there
// is none, and the log says why.
func listenInside(dir string, log *slog.Logger) (net.Listener, error) {
	if dir == "" || runtime.GOOS == "windows" {
		return nil, nil
	}
	path, err := filepath.Abs(filepath.Join(dir, socketFile))
	if err != nil {
		return nil, fileFault(err)
	}
	if len(path) > maxSocketPath {
		log.Warn("the path of the directory is too long for a socket: commands reach the node over HTTP only", "path", path)
		return nil, nil
	}
	// It is made where nobody else can look, for until its mode is set anybody could open it.
	hidden, err := os.MkdirTemp(dir, ".s")
	if err != nil {
		return nil, fileFault(err)
	}
	defer os.RemoveAll(hidden)
	temporary := filepath.Join(hidden, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		log.Warn("the socket of the node cannot be made: commands reach it over HTTP only", "error", err)
		return nil, nil
	}
	l.SetUnlinkOnClose(false) // the name has changed
	err = os.Chmod(temporary, 0o600)
	if err == nil {
		err = os.Rename(temporary, path) // over that of a node that crashed
	}
	if err != nil {
		return nil, errors.Join(fileFault(err), l.Close())
	}
	return &socketListener{l, path}, nil
}

// socketListener takes its name along when it closes.
type socketListener struct {
	net.Listener
	path string
}

func (l *socketListener) Close() error {
	err := l.Listener.Close()
	if err == nil { // the first time only: then it may be another's
		_ = os.Remove(l.path)
	}
	return err
}
