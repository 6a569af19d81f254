package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/token"
)

// Socket makes the client reach the node by the socket in its directory, as long as there
// is somebody who listens, and else over HTTP, or if it is to be the socket alone, not at
// all. It must be called before the first request.
func (c *Client) Socket(path string, alone bool) {
	t := c.http.Transport.(*http.Transport)
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			return conn, nil
		case !alone:
			return dial(ctx, network, addr)
		case errors.Is(err, fs.ErrNotExist): // as one that a crash has left behind, for who waits
			return nil, fmt.Errorf("%w: %w", syscall.ECONNREFUSED, err)
		}
		return nil, err
	}
	if alone {
		c.where = path
	}
}

// Authenticate makes the client prove that it is the owner of a key, to one node and no
// other: node is the DID of the node that is meant, known from elsewhere than from whoever
// answers at the address. It lets the node sign what the client writes, for as long as a
// token holds. It must be called before the first request.
func (c *Client) Authenticate(key pando.Identity, node pando.DID) {
	c.tokens = &tokens{key: key, node: node}
}

// Accepted reports whether the node has answered a request that took a token: it is then the one
// that the token was made for, as far as tokens can tell.
func (c *Client) Accepted() bool { return c.tokens != nil && c.tokens.taken.Load() }

// tokens makes tokens as they are needed.
type tokens struct {
	key  pando.Identity
	node pando.DID

	taken atomic.Bool // by the node

	mu   sync.Mutex // guards what follows
	text string
	made time.Time
	ends time.Time
}

// renew is how long before its end a token is not used any more: longer than a request
// may be on its way.
const renew = 2 * time.Minute

// leastUse is how long a token has to have held before another takes its place in a stream.
const leastUse = time.Minute

// get returns a token that holds.
func (t *tokens) get(now time.Time) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text != "" && now.Before(t.ends.Add(-renew)) {
		return t.text, nil
	}
	text, ends, err := t.make(now, TokenOptions{})
	if err == nil {
		t.text, t.made, t.ends = text, now, ends
	}
	return text, err
}

// make makes a token from now on.
func (t *tokens) make(now time.Time, o TokenOptions) (text string, ends time.Time, err error) {
	gateway, err := t.node.PublicKey()
	if err != nil {
		return "", ends, err
	}
	if o.Lifetime <= 0 {
		o.Lifetime = token.DefaultLifetime
	}
	now = now.Truncate(time.Second)
	c := token.Claims{Audience: t.node, NotBefore: now, Expiry: now.Add(o.Lifetime)}
	if !o.ReadOnly && gateway != t.key.Public() {
		// Commits that are made at the last moment tell the time by the clock of the node.
		d := ident.Delegation{Author: t.key.Public(), Gateway: gateway, NotBefore: now.Add(-token.Leeway), NotAfter: c.Ends()}
		for _, id := range o.Collections {
			d.Collections = append(d.Collections, id)
		}
		if c.Delegation, err = d.Seal(t.key); err != nil {
			return "", ends, err
		}
	}
	text, err = token.Sign(t.key, c)
	return text, c.Expiry, err
}

// renews reports whether a stream that ended with err goes on with a new token, which the next
// request makes: the node's clock may be ahead of the one here. Who says of a new token that it
// has expired would say so of the next.
func (c *Client) renews(err error) bool {
	if c.tokens == nil || Reason(err) != string(token.Expired) {
		return false
	}
	c.tokens.mu.Lock()
	defer c.tokens.mu.Unlock()
	if time.Since(c.tokens.made) < leastUse {
		return false
	}
	c.tokens.text = ""
	return true
}

// TokenOptions say what a token is good for. The zero value is what the client itself uses.
type TokenOptions struct {
	Lifetime    time.Duration        // at most a day; 0 is a quarter of an hour
	ReadOnly    bool                 // the node may not sign what is written
	Collections []pando.CollectionID // that the node may sign for; none: all
}

// Token makes a token, for programs that call the node in other ways. Whoever has it is
// the owner of the key to that node, until it ends.
func (c *Client) Token(o TokenOptions) (string, error) {
	if c.tokens == nil {
		return "", fault.Invalid.Errorf("the client proves nothing over HTTP, so it has no tokens: say who you are, with -i on the command line; at a peer address the key of the connection says it, and no token is needed")
	}
	text, _, err := c.tokens.make(time.Now(), o)
	return text, err
}

// prove adds a token to a request.
func (c *Client) prove(r *http.Request) error {
	if c.tokens == nil {
		return nil
	}
	text, err := c.tokens.get(time.Now())
	if err == nil {
		r.Header.Set("Authorization", "Bearer "+text)
	}
	return err
}
