package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/p2p"
	"github.com/spf13/pflag"
)

const (
	// knownNodes is the file in the directory that remembers which node is at an address.
	knownNodes = "known_nodes"
	// maxKnownNodes bounds that file: a wrong path must not be read whole.
	maxKnownNodes = 1 << 20
)

// credentialFlags say who a command is to a node, and to which.
type credentialFlags struct {
	identityFlag
	node      string
	urlGiven  bool            // by a flag, or by the environment
	rootGiven bool            // likewise
	ctx       context.Context // of the command that runs, which may have to ask for a passphrase
	mine      ident.Key       // that was read before
	met       meeting
}

// meeting is a node that was named with --node, to be remembered if it proves to be that one.
type meeting struct {
	client *api.Client // nil: there is nothing to remember
	host   string
	did    pando.DID
}

func (f *credentialFlags) add(flags *pflag.FlagSet) {
	f.identityFlag.add(flags, "who you are to the node")
	flags.StringVar(&f.node, "node", "", "peer id or did:key of the node that you mean, for -i; once that node has answered it is remembered with --url")
	settings(flags, "node")
}

// me returns the key of who the user is, the zero Key if he does not say.
func (c *command) me() (ident.Key, error) {
	var err error
	if c.who.mine.IsZero() {
		c.who.mine, err = c.who.key(c.who.ctx, c)
	}
	return c.who.mine, err
}

// client returns a client of the node in --rootdir, by its socket, or at --url, which may be a
// multiaddr.
func (c *command) client() (*api.Client, error) {
	if c.atPeer() {
		return c.peerClient()
	}
	node, err := api.NewClient(c.url)
	if err != nil {
		return nil, err
	}
	key, err := c.me()
	if err != nil {
		return nil, err
	}
	if key.IsZero() {
		if !c.who.urlGiven {
			// Whose directory was named is the one that is meant, and nobody else who
			// may answer at the usual address.
			node.Socket(filepath.Join(c.rootdir, socketFile), c.who.rootGiven && hasSocket(c.rootdir))
		}
		node.Wait(patience)
		return node, nil
	}
	meant, here, err := c.meant()
	if err != nil {
		return nil, err
	}
	if here {
		node.Socket(filepath.Join(c.rootdir, socketFile), true)
	}
	node.Wait(patience)
	if meant == "" {
		return nil, c.unknownNode(node)
	}
	node.Authenticate(key, meant)
	if c.who.node != "" && !here {
		c.who.met = meeting{node, hostPort(c.url), meant}
	}
	return node, nil
}

// rememberMet remembers the node that was named with --node, after a command that ended with
// err. A node that is another one refuses the token, and is not remembered as what it is not.
func (c *command) rememberMet(err error) {
	m := c.who.met
	if m.client == nil || !m.client.Accepted() && api.Reason(err) != "node-access" {
		return
	}
	if err := remember(filepath.Join(c.rootdir, knownNodes), m.host, m.did); err != nil {
		fmt.Fprintln(c.err, "note: --node is needed again the next time:", printable(err.Error()))
	}
}

// clientOf returns a client of another node, to whom the user proves who he is if he has met
// the node before.
func (c *command) clientOf(address string) (*api.Client, error) {
	node, err := api.NewClient(address)
	if err != nil {
		return nil, err
	}
	key, err := c.me()
	if err != nil || key.IsZero() {
		return node, err
	}
	did, err := recall(filepath.Join(c.rootdir, knownNodes), hostPort(address))
	if err == nil && did != "" {
		node.Authenticate(key, did)
	}
	return node, err
}

// meant returns the DID of the node that tokens are made for, "" if it is not known, and
// whether it is the one in --rootdir, without --url. It is never what somebody says who
// answers at the address: he could show the token to the node that he names. For the same reason
// what is made for the node in the directory goes by its socket alone: while it does not
// run, anybody on the machine can listen at its address.
func (c *command) meant() (did pando.DID, here bool, err error) {
	host, known := hostPort(c.url), filepath.Join(c.rootdir, knownNodes)
	own := pando.DID("")
	if !c.who.urlGiven {
		key, err := ident.LoadKey(filepath.Join(c.rootdir, "node.key"))
		if err != nil && !errors.Is(err, fault.NotFound) {
			return "", false, err
		}
		own = key.DID()
	}
	switch {
	case c.who.node != "":
		if did, err = nodeDID(c.who.node); err != nil {
			return "", false, fault.Invalid.Errorf("--node: %w", err)
		}
	case own != "":
		did = own
	default:
		did, err = recall(known, host)
	}
	return did, did != "" && did == own, err
}

// unknownNode says what to do about a node that is not known.
func (c *command) unknownNode(node *api.Client) error {
	says, here := "", c.who.rootGiven && !c.who.urlGiven && hasSocket(c.rootdir)
	if here {
		node.Socket(filepath.Join(c.rootdir, socketFile), true) // it is the one that is meant, as without -i
	}
	id, err := node.NodeIdentity(c.who.ctx)
	switch {
	case err == nil:
		says = fmt.Sprintf(": whoever answers there says that it is %s", id.DID)
	case here:
		return err
	}
	return fault.Denied.Errorf("it is not known which node is at %s, and a token must be for one%s: ask its owner, and name it once with --node", hostPort(c.url), says)
}

// nodeDID reads the name of a node: a did:key, or a peer id.
func nodeDID(text string) (pando.DID, error) {
	if strings.HasPrefix(text, "did:") {
		return ident.ParseDID(text)
	}
	return p2p.DIDOf(text)
}

func hostPort(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}

// recall returns which node is at an address, "" if that is not known.
func recall(file, host string) (pando.DID, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fileFault(err)
	}
	defer f.Close()
	var found pando.DID
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if at, did, ok := strings.Cut(lines.Text(), " "); ok && at == host {
			if found, err = ident.ParseDID(strings.TrimSpace(did)); err != nil {
				return "", fault.Corrupt.Errorf("%s: the line of %s: %w", file, host, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return "", fileFault(err)
	}
	return found, nil
}

// remember notes which node is at an address. The last line about one counts.
func remember(file, host string, did pando.DID) error {
	if was, err := recall(file, host); err != nil || was == did {
		return err
	}
	if info, err := os.Stat(file); err == nil && info.Size() > maxKnownNodes {
		return fault.TooLarge.Errorf("%s has %d bytes: remove lines that nobody needs", file, info.Size())
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fileFault(err)
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fileFault(err)
	}
	_, err = fmt.Fprintf(f, "%s %s\n", host, did)
	if err = errors.Join(err, f.Close()); err != nil {
		return fileFault(err)
	}
	return nil
}
