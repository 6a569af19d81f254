package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/p2p"
)

// Client calls the operations of a node over HTTP. It is safe for concurrent use. However a node
// answers, it holds no more of one answer than AnswerLimit.
type Client struct {
	base string // http://host:port
	http *http.Client
	// where is a socket that the node is to be reached by, and not over HTTP
	where string
	limit int    // of bytes that are held of one answer; 0 is AnswerLimit
	tx    uint64 // explicit transaction that requests run in, 0 for none
	// tokens prove who the client is; nil: it says nothing of itself
	tokens *tokens
	line   *p2p.Dialer // nil: TCP
	author *Author     // signs what the client writes; nil: the node does
}

// NewClient returns a client of the node at address, which is HOST:PORT, a URL, or a
// multiaddr that ends with /p2p/PEERID.
func NewClient(address string) (*Client, error) {
	if isPeerAddress(address) {
		return NewPeerClient(address, pando.Identity{})
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fault.Invalid.Errorf("address %q: want HOST:PORT, such as %s", address, DefaultAddress)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil              // a node is spoken to directly
	t.MaxIdleConnsPerHost = 64 // many goroutines may share one client
	c := &Client{base: u.Scheme + "://" + u.Host}
	c.transport(t)
	return c, nil
}

// Wait makes the client try again, for that long, to reach a node that refuses
// connections: one that is just starting. It must be called before the first request.
func (c *Client) Wait(patience time.Duration) {
	t := c.http.Transport.(*http.Transport)
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		end := time.Now().Add(patience)
		for {
			conn, err := dial(ctx, network, addr)
			if !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(end) {
				return conn, err
			}
			select {
			case <-time.After(redial):
			case <-ctx.Done():
				return nil, err
			}
		}
	}
}

// redial is the pause between attempts to reach a node that is starting: short
// against the time that a start takes.
const redial = 25 * time.Millisecond

// Within returns a client whose requests run in an explicit transaction.
func (c *Client) Within(tx uint64) *Client {
	within := *c
	within.tx = tx
	return &within
}

// Close drops idle connections, and those over libp2p all.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	if c.line != nil {
		_ = c.line.Close() // nothing is lost with it
	}
}

func (c *Client) request(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	target := c.base + Base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if c.tx != 0 {
		req.Header.Set(headerTx, strconv.FormatUint(c.tx, 10))
	}
	return req, c.prove(req)
}

// exchange sends a request and returns whatever answer there is.
func (c *Client) exchange(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(req.Context(), err)
	}
	if resp.StatusCode == http.StatusOK && c.tokens != nil && req.Header.Get("Authorization") != "" {
		c.tokens.taken.Store(true)
	}
	return resp, nil
}

// do is exchange, but an answer that reports a failure becomes an error of its kind.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.exchange(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, problemIn(resp)
}

// explain says what a person can do about a node that does not answer.
func (c *Client) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c.line != nil && fault.Of(err) != nil {
		return fault.Of(err).Errorf("%w", innermost(err)) // it says which node
	}
	host := strings.TrimPrefix(strings.TrimPrefix(c.base, "http://"), "https://")
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) && c.where != "":
		return fault.Unavailable.Errorf("no node answers at %s: start one there with 'pando start', or name another with --url and --node", c.where)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fault.Unavailable.Errorf("no node answers at %s: start one with 'pando start', or name another with --url", host)
	case errors.As(err, &dns):
		return fault.Unavailable.Errorf("host of %s is not known: name the node with --url HOST:PORT", host)
	}
	return fault.Unavailable.Errorf("node at %s: %w", host, innermost(err))
}

// innermost takes off what net/http says of a request.
func innermost(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

// problemIn reads the failure that an answer reports.
func problemIn(resp *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxRest))
	if err != nil {
		return fault.Unavailable.Errorf("answer with status %d: %w", resp.StatusCode, err)
	}
	var p problem
	if json.Unmarshal(raw, &p) == nil && p.Error != "" {
		if resp.StatusCode == http.StatusTooManyRequests {
			return &busyError{p.err()}
		}
		return p.err()
	}
	return fault.Unavailable.Errorf("answer with status %d and no reason: is it a pando node of this version?", resp.StatusCode)
}
