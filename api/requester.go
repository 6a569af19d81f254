package api

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/ident"
)

type requesterKey struct{}

// requesterOf returns who makes the request of a context.
func requesterOf(ctx context.Context) requester {
	who, _ := ctx.Value(requesterKey{}).(requester)
	return who
}

// as returns the database as it is to who makes the request of a context.
func (s *Server) as(ctx context.Context) *pando.DB {
	return s.db.AsCaller(requesterOf(ctx).caller)
}

// shown returns what a request over HTTP shows of who makes it.
func shown(r *http.Request) (credentials, error) {
	c := credentials{from: placeOf(r)}
	c.peer, _ = r.Context().Value(peerKey{}).(ident.PublicKey)
	given := r.Header.Values("Authorization")
	if len(given) > 1 {
		return c, denied("token-malformed", "the header Authorization is there %d times: send one token", len(given))
	}
	for _, text := range given {
		// Other schemes are meant for others, such as a proxy before the node.
		if c.token = bearer(text); c.token == "" && strings.EqualFold(strings.TrimSpace(text), "bearer") {
			return c, denied("token-malformed", "the header Authorization has no token: write Bearer TOKEN")
		}
	}
	return c, nil
}

type peerKey struct{}

// withPeer returns the context of a connection that has proved whose it is.
func withPeer(ctx context.Context, key ident.PublicKey) context.Context {
	return context.WithValue(ctx, peerKey{}, key)
}

// bearer returns the token in a header, "" if it is of another scheme.
func bearer(header string) string {
	header = strings.TrimSpace(header)
	i := strings.IndexAny(header, " \t")
	if i < 0 || !strings.EqualFold(header[:i], "bearer") {
		return ""
	}
	return strings.TrimSpace(header[i:])
}

// forwarding are headers of proxies, behind which callers are who knows where, besides all that
// begin with forwarded.
var forwarding = []string{"Forwarded", "X-Real-Ip", "Via", "Cf-Connecting-Ip", "True-Client-Ip", "X-Client-Ip"}

const forwarded = "X-Forwarded-"

// placeOf returns where a request comes from. One without a connection, or over
// net.Pipe, comes from the same program.
func placeOf(r *http.Request) place {
	ctx := r.Context()
	switch {
	case ctx.Value(insideKey{}) != nil:
		return inside
	case ctx.Value(peerKey{}) != nil: // whatever address the connection says that it has
		return peerside
	}
	for name := range r.Header {
		if strings.HasPrefix(name, forwarded) || slices.Contains(forwarding, name) {
			return afar
		}
	}
	addr, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || addr.Network() == "pipe" {
		return here
	}
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		return here
	}
	return afar
}

// insideKey marks the context of connections to the node's own socket.
type insideKey struct{}

// insideListener is the node's own socket.
type insideListener struct{ net.Listener }

// ServeInside is Serve for a socket that only who owns the node can open: callers there
// may do everything.
func (s *Server) ServeInside(l net.Listener) error { return s.Serve(insideListener{l}) }

// baseContext is that of the connections of a listener.
func (s *Server) baseContext(l net.Listener) context.Context {
	if _, ok := l.(insideListener); ok {
		return context.WithValue(s.requests, insideKey{}, true)
	}
	return s.requests
}

// refuse answers somebody who is not let in, in the form that he reads.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if StatusCode(err) == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", challenge(err))
	}
	if r.URL.Path == Base+"/graphql" {
		s.refuseGraphQL(w, r, err)
		return
	}
	s.fail(w, r, err)
}

// challenge says in the words of RFC 6750 what is wrong with a token.
func challenge(err error) string {
	why := Reason(err)
	if why == string(reasonMissing) {
		return `Bearer realm="pando"`
	}
	return `Bearer realm="pando", error="invalid_token", error_description="` + why + `"`
}

// whileAllowed returns a context that ends when what somebody proved ends, or the access
// to a class is taken away from him: with the refusal as its cause.
func (s *Server) whileAllowed(ctx context.Context, who requester, c class) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if who.from == inside && who.until.IsZero() {
		return ctx, func() { cancel(nil) }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.disallowed(ctx, who, c); err != nil {
			cancel(err)
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

// disallowed returns why somebody may not go on, as soon as that is so, or nil when the
// context has ended.
func (s *Server) disallowed(ctx context.Context, who requester, c class) error {
	var over <-chan time.Time
	if !who.until.IsZero() {
		t := time.NewTimer(time.Until(who.until))
		defer t.Stop()
		over = t.C
	}
	for {
		changed := s.rights.watch()
		if err := s.still(who, c); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-over:
			return denied("token-expired", "the token has expired: come back with a new one")
		case <-ctx.Done():
			return nil
		}
	}
}
