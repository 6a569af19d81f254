package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pandodb/pando/internal/fault"
)

func TestNodeAnswersToItsNames(t *testing.T) {
	t.Parallel()
	const loopback, lan = "127.0.0.1", "192.0.2.7"
	for _, c := range []struct {
		listener, allowed, host string
		want                    bool
	}{
		{loopback, "", "localhost:9181", true},
		{loopback, "", "LOCALHOST", true},
		{loopback, "", "127.0.0.1:9181", true},
		{loopback, "", "[::1]:9181", true},
		{loopback, "", "[::1]", true},
		{loopback, "", "evil.example", false},
		{loopback, "", "localhost.evil.example:9181", false},
		{loopback, "", "", false},
		{loopback, "db.example.org", "db.example.org", true}, // a proxy that passes the name on
		{loopback, "db.example.org", "evil.example", false},
		{lan, "", "db.example.org:9181", true}, // nobody has said what it is called
		{lan, "DB.example.org:9181", "db.Example.org", true},
		{lan, "db.example.org", "evil.example:9181", false},
		{lan, "db.example.org", lan + ":9181", true},
		{lan, "db.example.org", "localhost:9181", true}, // through a tunnel
	} {
		config := Config{}
		if c.allowed != "" {
			config.AllowedHosts = []string{c.allowed}
		}
		s := NewServer(config)
		r := httptest.NewRequest("GET", "/health", nil)
		r.Host = c.host
		addr := &net.TCPAddr{IP: net.ParseIP(c.listener), Port: 9181}
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(addr)))
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if got := w.Code == http.StatusOK; got != c.want {
			t.Errorf("listening on %s, allowed %q: a request to %q is answered with %d %s", c.listener, c.allowed, c.host, w.Code, w.Body)
		}
	}
}

// A page whose name was made to resolve to the node would be from another machine, and there
// nobody has to prove who he is.
func TestANodeThatIsOpenToAllMachinesAnswersToNoNameItDoesNotKnow(t *testing.T) {
	t.Parallel()
	s := served(t, Config{AllowUnclaimed: true})
	read := func(host string) int {
		r := from(atAfar, "GET", Base+"/schema", "")
		r.Host = host
		code, _ := s.answerTo(r)
		return code
	}
	if code := read("192.0.2.7:9181"); code != http.StatusOK {
		t.Errorf("by its address: %d", code)
	}
	if code := read("evil.example:9181"); code != http.StatusForbidden {
		t.Errorf("by a name that nobody told it: %d, want 403", code)
	}
	if err := s.rights.Claim(someone(t).DID()); err != nil {
		t.Fatal(err)
	}
	if code := read("db.example:9181"); code != http.StatusUnauthorized {
		t.Errorf("by a name, when it has an owner: %d, want 401", code)
	}
}

func TestReplicatorIsThePeerOfItsAddresses(t *testing.T) {
	t.Parallel()
	const id, other = "12D3KooWAda", "12D3KooWBob"
	for _, c := range []struct {
		id    string
		addrs []string
		want  string
		kind  *fault.Kind
	}{
		{id, []string{"/ip4/192.0.2.7/tcp/9171"}, "[/ip4/192.0.2.7/tcp/9171/p2p/" + id + "]", nil},
		{id, []string{"/ip4/192.0.2.7/tcp/9171/p2p/" + id}, "[/ip4/192.0.2.7/tcp/9171/p2p/" + id + "]", nil},
		{"", []string{"/ip4/192.0.2.7/tcp/9171/p2p/" + id}, "[/ip4/192.0.2.7/tcp/9171/p2p/" + id + "]", nil},
		{id, []string{"/ip4/192.0.2.7/tcp/1", "/ip4/192.0.2.8/tcp/2/"}, "[/ip4/192.0.2.7/tcp/1/p2p/" + id + " /ip4/192.0.2.8/tcp/2/p2p/" + id + "]", nil},
		{id, []string{"/ip4/192.0.2.9/tcp/1/p2p/" + other + "/p2p-circuit"}, "[/ip4/192.0.2.9/tcp/1/p2p/" + other + "/p2p-circuit/p2p/" + id + "]", nil},
		{id, []string{"/ip4/192.0.2.7/tcp/9171/p2p/" + other}, "[]", fault.Invalid},
		{id, []string{"/ip4/192.0.2.7/tcp/9171", "/ip4/192.0.2.7/tcp/9171/p2p/" + other}, "[]", fault.Invalid},
		{"", []string{"/ip4/192.0.2.7/tcp/9171"}, "[]", fault.Invalid},
		{"", []string{"/ip4/192.0.2.7/tcp/1/p2p/" + id, "/ip4/192.0.2.7/tcp/1/p2p/" + other}, "[]", fault.Invalid},
		{id, nil, "[]", fault.Invalid},
	} {
		got, err := fullAddrs(PeerInfo{c.id, c.addrs})
		if fmt.Sprint(got) != c.want || (c.kind != nil) != errors.Is(err, fault.Invalid) {
			t.Errorf("peer %q at %v: got %v, %v; want %s", c.id, c.addrs, got, err, c.want)
		}
	}
}
