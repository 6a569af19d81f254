package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// from makes a request that came to an address of the node, as handlers see it.
func from(addr, method, path, body string, header ...string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	host, _, _ := net.SplitHostPort(addr)
	r.Host = addr
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.ParseIP(host), Port: 9181})))
}

const (
	atLoopback = "127.0.0.1:9181"
	atAfar     = "192.0.2.7:9181"
)

// served is a node in memory without listener.
func served(t *testing.T, c Config) *Server {
	t.Helper()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.DB = db
	s := NewServer(c)
	t.Cleanup(func() {
		if err := errors.Join(s.Shutdown(context.Background()), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *Server) answerTo(r *http.Request) (int, string) {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func someone(t *testing.T) ident.Key {
	t.Helper()
	k, err := ident.Generate(ident.EdDSA)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// claimed is a node that belongs to somebody.
func claimed(t *testing.T, c Config) (s *Server, owner ident.Key) {
	t.Helper()
	owner = someone(t)
	access, err := OpenNodeAccess("")
	if err == nil {
		err = access.Claim(owner.DID())
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Access = access
	return served(t, c), owner
}

// The table of the documentation is what is served: who adds a route says whom it is for.
func TestEveryRouteHasAClass(t *testing.T) {
	routes := NewServer(Config{}).routes().classes
	by := map[class][]string{}
	for _, pattern := range slices.Sorted(maps.Keys(routes)) {
		c := routes[pattern]
		if c == unclassed {
			t.Errorf("%s has no class, and is closed to all: give it one", pattern)
		}
		if pattern != "/" {
			by[c] = append(by[c], "`"+strings.Replace(pattern, " "+Base, " ", 1)+"`")
		}
	}
	var b strings.Builder
	b.WriteString("| class | open to | routes |\n|---|---|---|\n")
	for _, c := range classes {
		who := "owner"
		for _, r := range c.relations {
			who += ", " + string(r)
		}
		switch c.class {
		case open:
			who = "anybody"
		case identified:
			who = "whoever proves an identity"
		case local:
			who = "who sits at the machine"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.name, who, strings.Join(by[c.class], " "))
	}
	wantTableIn(t, "http.md", "classes", b.String())
}

// paths makes a request of a pattern.
func paths(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	return method, strings.NewReplacer("{id}", "7", "{collection}", "User", "{name}", "User", "{index}", "i", "{room}", "r").Replace(path)
}

func TestClaimedNodeIsClosedToStrangers(t *testing.T) {
	s, _ := claimed(t, Config{})
	for pattern, c := range s.routes().classes {
		if c == open {
			continue
		}
		method, path := paths(pattern)
		for _, at := range []string{atLoopback, atAfar} {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, from(at, method, path, `{}`))
			want, why := http.StatusUnauthorized, reasonMissing
			if c == local {
				want, why = http.StatusForbidden, reasonLocal
			}
			if w.Code != want || !strings.Contains(w.Body.String(), string(why)) {
				t.Errorf("%s at %s, by a stranger: %d %s, want %d and the reason %s", pattern, at, w.Code, w.Body, want, why)
			}
			if challenge := w.Header().Get("WWW-Authenticate"); (w.Code == http.StatusUnauthorized) != strings.HasPrefix(challenge, "Bearer ") {
				t.Errorf("%s: status %d with WWW-Authenticate %q", pattern, w.Code, challenge)
			}
		}
	}
}

func TestUnclaimedNodeAnswersOnItsOwnMachine(t *testing.T) {
	s := served(t, Config{})
	if code, body := s.answerTo(from(atLoopback, "POST", Base+"/schema", "type User { name: String }")); code != 200 {
		t.Errorf("at loopback: %d %s", code, body)
	}
	code, body := s.answerTo(from(atAfar, "GET", Base+"/schema", ""))
	if code != http.StatusForbidden || !strings.Contains(body, string(reasonOpen)) {
		t.Errorf("from afar: %d %s, want 403 and the reason %s", code, body, reasonOpen)
	}
	s.allowUnclaimed = true
	if code, body := s.answerTo(from(atAfar, "GET", Base+"/schema", "")); code != 200 {
		t.Errorf("from atAfar, as its operator wants it: %d %s", code, body)
	}
	peer := from(atAfar, "GET", Base+"/schema", "")
	peer = peer.WithContext(withPeer(peer.Context(), someone(t).Public()))
	if code, body := s.answerTo(peer); code != http.StatusForbidden || !strings.Contains(body, string(reasonOpen)) {
		t.Errorf("over libp2p, by which anybody finds the node: %d %s, want 403 and the reason %s", code, body, reasonOpen)
	}
	claim := fmt.Sprintf(`{"Owner": %q}`, someone(t).DID())
	if code, body := s.answerTo(from(atAfar, "POST", Base+"/acp/node/claim", claim)); code != http.StatusForbidden || s.rights.Claimed() {
		t.Errorf("claimed from afar: %d %s", code, body)
	}
	if code, body := s.answerTo(from(atLoopback, "POST", Base+"/acp/node/claim", claim)); code != 200 || !s.rights.Claimed() {
		t.Errorf("claimed at loopback: %d %s", code, body)
	}
	if code, body := s.answerTo(from(atLoopback, "GET", Base+"/schema", "")); code != http.StatusUnauthorized {
		t.Errorf("at loopback, after somebody claimed the node: %d %s", code, body)
	}
}

func TestRelationsLetIn(t *testing.T) {
	s, own := claimed(t, Config{})
	ada, bob, cyn, stranger := someone(t).DID(), someone(t).DID(), someone(t).DID(), someone(t).DID()
	for r, who := range map[Relation]pando.DID{Admin: ada, Operator: bob, User: cyn} {
		if _, err := s.rights.grant(r, string(who)); err != nil {
			t.Fatal(err)
		}
	}
	for who, want := range map[pando.DID][]class{
		own.DID(): {identified, catalog, data, observe, admin, owner},
		ada:       {identified, catalog, data, observe, admin},
		bob:       {identified, catalog, observe},
		cyn:       {identified, catalog, data},
		stranger:  {identified},
		"":        {},
	} {
		for _, c := range classes[1:] {
			err := s.authorize(requester{did: who}, c.class)
			if got := err == nil; got != slices.Contains(want, c.class) {
				t.Errorf("%s, who is %v, and class %s: %v", who, s.rights.relationsOf(who), c.class, err)
			}
			if err != nil && !errors.Is(err, fault.Denied) {
				t.Errorf("refused with %v, want denied", err)
			}
		}
	}
	if _, err := s.rights.revoke(User, string(cyn)); err != nil || s.rights.allows(cyn, data) {
		t.Errorf("a user whose access was revoked comes in (%v)", err)
	}
	if _, err := s.rights.grant(User, Everyone); err != nil || !s.rights.allows(stranger, data) || s.rights.allows(stranger, observe) {
		t.Errorf("everyone is a user (%v), but a stranger is not, or is more", err)
	}
	if _, err := s.rights.grant(Admin, Everyone); !errors.Is(err, fault.Invalid) {
		t.Errorf("everyone is an admin: %v", err)
	}
}

// Access that is switched off opens the node to its machine, and gives nobody a way to stay.
func TestDisabledAccessLeavesNobodyBehind(t *testing.T) {
	s, _ := claimed(t, Config{})
	if err := s.rights.disable(true); err != nil {
		t.Fatal(err)
	}
	if code, body := s.answerTo(from(atLoopback, "GET", Base+"/p2p/keep", "")); code != 200 {
		t.Errorf("at loopback: %d %s", code, body)
	}
	if code, body := s.answerTo(from(atAfar, "GET", Base+"/p2p/keep", "")); code != http.StatusUnauthorized {
		t.Errorf("from afar: %d %s", code, body)
	}
	grant := fmt.Sprintf(`{"Relation": "operator", "TargetActor": %q}`, someone(t).DID())
	for _, r := range []*http.Request{
		from(atLoopback, "POST", Base+"/acp/node/relationship", grant),
		from(atLoopback, "POST", Base+"/acp/node/claim", fmt.Sprintf(`{"Owner": %q, "Recover": true}`, someone(t).DID())),
		from(atLoopback, "GET", Base+"/backup/archive", ""),
	} {
		if code, body := s.answerTo(r); code != http.StatusForbidden && code != http.StatusUnauthorized {
			t.Errorf("%s %s by nobody: %d %s", r.Method, r.URL.Path, code, body)
		}
	}
}

func TestNodeAccessIsDurable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node", "access.json")
	own, ada := someone(t).DID(), someone(t).DID()
	a, err := OpenNodeAccess(file)
	if err == nil {
		err = a.Claim(own)
	}
	if err == nil {
		_, err = a.grant(Admin, string(ada))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Claim(ada); !errors.Is(err, fault.Exists) {
		t.Errorf("claimed a second time: %v, want exists", err)
	}
	again, err := OpenNodeAccess(file)
	if err != nil || !again.allows(own, owner) || !again.allows(ada, admin) || again.allows(ada, owner) {
		t.Errorf("after a restart: %+v, %v", again, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v (%v), want it closed to others", info.Mode(), err)
	}
	for _, damaged := range []string{"", "{}", `{"owner": "me"}`, `{"owner": "` + string(own) + `", "granted": {"king": []}}`} {
		if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenNodeAccess(file); !errors.Is(err, fault.Corrupt) {
			t.Errorf("a file that holds %q: %v, want corrupt: the node must not forget its owner", damaged, err)
		}
	}
}

// A file that somebody wrote by hand, in any order, names whom it names, and as often as it
// may: who is sent away is gone.
func TestNodeAccessMayBeWrittenByHand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.json")
	all := []pando.DID{someone(t).DID(), someone(t).DID(), someone(t).DID()}
	slices.Sort(all)
	text := fmt.Sprintf(`{"owner":%q,"granted":{"user":[%[4]q,%[3]q,%[2]q,%[4]q]}}`, someone(t).DID(), all[0], all[1], all[2])
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := OpenNodeAccess(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range all {
		if !a.allows(who, data) {
			t.Errorf("%s is named, and not let in", who)
		}
		if was, err := a.revoke(User, string(who)); err != nil || !was || a.allows(who, data) {
			t.Errorf("%s is sent away: was %t, %v, and still let in: %t", who, was, err, a.allows(who, data))
		}
	}
}

func TestTransactionsBelongToWhoBeganThem(t *testing.T) {
	s := served(t, Config{})
	_, body := s.answerTo(from(atLoopback, "POST", Base+"/tx", ""))
	var tx TxID
	if err := json.Unmarshal([]byte(body), &tx); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if err := s.txs.use(tx.ID, string(someone(t).DID()), nil); !errors.Is(err, fault.NotFound) {
		t.Errorf("somebody else's transaction: %v, want not found", err)
	}
	if code, body := s.answerTo(from(atLoopback, "DELETE", fmt.Sprint(Base, "/tx/", tx.ID), "")); code != 200 {
		t.Errorf("one's own: %d %s", code, body)
	}
}
