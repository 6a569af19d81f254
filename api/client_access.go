package api

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/token"
)

// Socket makes the client reach the node by the socket in its directory, as long as there
// is somebody who listens, and else over HTTP. It must be called before the first request.
func (c *Client) Socket(path string) {
	t := c.http.Transport.(*http.Transport)
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		return dial(ctx, network, addr)
	}
}

// Authenticate makes the client prove that it is the owner of a key, to one node and no
// other: node is the DID of the node that is meant, known from elsewhere than from whoever
// answers at the address. It lets the node sign what the client writes, for as long as a
// token holds. It must be called before the first request.
func (c *Client) Authenticate(key pando.Identity, node pando.DID) {
	c.tokens = &tokens{key: key, node: node}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error {
		return fault.Denied.Errorf("the node sends the request elsewhere, where its token is not for: is it a pando node?")
	}
}

// tokens makes tokens as they are needed.
type tokens struct {
	key  pando.Identity
	node pando.DID

	mu   sync.Mutex // guards what follows
	text string
	ends time.Time
}

// renew is how long before its end a token is not used any more: longer than a request
// may be on its way.
const renew = 2 * time.Minute

// get returns a token that holds.
func (t *tokens) get(now time.Time) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text != "" && now.Before(t.ends.Add(-renew)) {
		return t.text, nil
	}
	gateway, err := t.node.PublicKey()
	if err != nil {
		return "", err
	}
	c := token.Claims{Audience: t.node, NotBefore: now.Truncate(time.Second), Expiry: now.Truncate(time.Second).Add(token.DefaultLifetime)}
	if gateway != t.key.Public() {
		// Commits that are made at the last moment tell the time by the clock of the node.
		d := ident.Delegation{Author: t.key.Public(), Gateway: gateway, NotBefore: c.NotBefore.Add(-token.Leeway), NotAfter: c.Ends()}
		if c.Delegation, err = d.Seal(t.key); err != nil {
			return "", err
		}
	}
	if t.text, err = token.Sign(t.key, c); err != nil {
		return "", err
	}
	t.ends = c.Expiry
	return t.text, nil
}

// Token returns a token of the client, for programs that call the node in other ways, or ""
// if it proves nothing.
func (c *Client) Token() (string, error) {
	if c.tokens == nil {
		return "", nil
	}
	return c.tokens.get(time.Now())
}
