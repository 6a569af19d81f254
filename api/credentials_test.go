package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/token"
)

// pass is a token of somebody for a node, for a quarter of an hour from now on.
func pass(t *testing.T, s *Server, who ident.Key, change ...func(*token.Claims)) string {
	t.Helper()
	now := time.Now()
	c := token.Claims{Audience: s.key.DID(), NotBefore: now.Add(-time.Second), Expiry: now.Add(token.DefaultLifetime)}
	for _, f := range change {
		f(&c)
	}
	text, err := token.Sign(who, c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// delegated lets a node write for an author for an hour.
func delegated(t *testing.T, author, gateway ident.Key, change ...func(*ident.Delegation)) func(*token.Claims) {
	t.Helper()
	now := time.Now()
	d := ident.Delegation{Author: author.Public(), Gateway: gateway.Public(), NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour)}
	for _, f := range change {
		f(&d)
	}
	sealed, err := d.Seal(author)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *token.Claims) { c.Delegation = sealed }
}

// withUser is a claimed node with a collection, and one of its users.
func withUser(t *testing.T) (s *Server, ada ident.Key) {
	t.Helper()
	s, _ = claimed(t, Config{})
	if _, err := s.db.AddSchema(t.Context(), "type Note { text: String }"); err != nil {
		t.Fatal(err)
	}
	ada = someone(t)
	if _, err := s.rights.grant(User, string(ada.DID())); err != nil {
		t.Fatal(err)
	}
	return s, ada
}

func ask(query string) string {
	raw, _ := json.Marshal(Request{Query: query})
	return string(raw)
}

const createNote = `mutation { create_Note(input: {text: "mine"}) { _docID } }`

func TestATokenOpensWhatItsIssuerMayDo(t *testing.T) {
	s, ada := withUser(t)
	bearer := "Bearer " + pass(t, s, ada)
	if code, body := s.answerTo(from(atAfar, "POST", Base+"/graphql", ask("{ Note { text } }"), "Authorization", bearer)); code != 200 {
		t.Errorf("a user reads: %d %s", code, body)
	}
	code, body := s.answerTo(from(atAfar, "GET", Base+"/acp/node/status", "", "Authorization", bearer))
	if code != 200 || !strings.Contains(body, string(ada.DID())) || !strings.Contains(body, `"Relations":["user"]`) {
		t.Errorf("who she is: %d %s", code, body)
	}
	code, body = s.answerTo(from(atAfar, "GET", Base+"/p2p/keep", "", "Authorization", bearer))
	if code != http.StatusForbidden || !strings.Contains(body, string(reasonNode)) {
		t.Errorf("a user administers: %d %s", code, body)
	}
	code, body = s.answerTo(from(atAfar, "POST", Base+"/graphql", ask("{ Note { text } }"), "Authorization", "Bearer "+pass(t, s, someone(t))))
	if code != http.StatusForbidden || !strings.Contains(body, string(reasonNode)) {
		t.Errorf("somebody unknown reads: %d %s", code, body)
	}
}

// Who administers a node and may not read what is on it is told nothing of that by an
// index which is to be unique.
func TestAnIndexTellsItsMakerNothing(t *testing.T) {
	s, _ := withUser(t)
	id, err := s.db.AddPolicy(t.Context(), `{"resources": {"note": {
		"permissions": {"read": {"expr": "owner"}, "update": {"expr": "owner"}, "delete": {"expr": "owner"}},
		"relations": {"owner": {}}}}}`)
	if err == nil {
		_, err = s.db.AddSchema(t.Context(), fmt.Sprintf(`type Diary @policy(id: %q, resource: "note") { text: String day: Int }`, id))
	}
	if err != nil {
		t.Fatal(err)
	}
	for day := range 2 {
		if r := s.db.Exec(t.Context(), pando.Request{Query: fmt.Sprintf(`mutation { create_Diary(input: {text: "secret", day: %d}) { _docID } }`, day)}); r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	eve := someone(t)
	if _, err := s.rights.grant(Admin, string(eve.DID())); err != nil {
		t.Fatal(err)
	}
	bearer := "Bearer " + pass(t, s, eve)
	code, body := s.answerTo(from(atAfar, "POST", Base+"/collections/Diary/indexes?wait=true", `{"Name": "once", "Fields": [{"Name": "text"}], "Unique": true}`, "Authorization", bearer))
	if code != 200 || strings.Contains(body, "secret") || strings.Contains(body, "bafk") {
		t.Errorf("an index that is unique among what she reads: %d %s", code, body)
	}
}

// author returns who made the only commit of the only note, and who signed it.
func author(t *testing.T, s *Server) (who, signer pando.DID) {
	t.Helper()
	result := s.db.Exec(t.Context(), pando.Request{Query: `{ Note { _version { author signature { identity } } } }`})
	var v struct {
		Note []struct {
			Version []struct {
				Author    pando.DID
				Signature struct{ Identity pando.DID }
			} `json:"_version"`
		}
	}
	if err := json.Unmarshal(result.Data, &v); err != nil || len(v.Note) != 1 || len(v.Note[0].Version) != 1 {
		t.Fatalf("%s: %v, %v", result.Data, err, result.Err())
	}
	return v.Note[0].Version[0].Author, v.Note[0].Version[0].Signature.Identity
}

func TestTheNodeSignsUnderTheDelegationOfAToken(t *testing.T) {
	s, ada := withUser(t)
	code, body := s.answerTo(from(atAfar, "POST", Base+"/graphql", ask(createNote), "Authorization", "Bearer "+pass(t, s, ada)))
	if code != http.StatusForbidden || !strings.Contains(body, "delegation") {
		t.Errorf("she writes without one: %d %s, want 403 and what to do", code, body)
	}
	bearer := "Bearer " + pass(t, s, ada, delegated(t, ada, s.key))
	if code, body := s.answerTo(from(atAfar, "POST", Base+"/graphql", ask(createNote), "Authorization", bearer)); code != 200 || strings.Contains(body, "errors") {
		t.Fatalf("she writes with one: %d %s", code, body)
	}
	if who, signer := author(t, s); who != ada.DID() || signer != s.key.DID() {
		t.Errorf("the author is %s, and %s signed, want %s and the node %s", who, signer, ada.DID(), s.key.DID())
	}
	for name, change := range map[string]func(*token.Claims){
		"of another author":    delegated(t, someone(t), s.key),
		"for another node":     delegated(t, ada, someone(t)),
		"that has ended":       delegated(t, ada, s.key, func(d *ident.Delegation) { d.NotAfter = d.NotBefore }),
		"that is not one":      func(c *token.Claims) { c.Delegation = []byte("let me") },
		"with another's words": func(c *token.Claims) { delegated(t, someone(t), someone(t))(c); c.Delegation[20] ^= 1 },
	} {
		code, body := s.answerTo(from(atAfar, "POST", Base+"/graphql", ask(createNote), "Authorization", "Bearer "+pass(t, s, ada, change)))
		if code != http.StatusUnauthorized || !strings.Contains(body, string(reasonDelegation)) {
			t.Errorf("a delegation %s: %d %s", name, code, body)
		}
	}
	author(t, s) // one note
}

// A bad token is refused where none would have been needed, too.
func TestWhoShowsABadTokenIsRefused(t *testing.T) {
	s := served(t, Config{})
	other := served(t, Config{})
	ada := someone(t)
	for name, c := range map[string]struct {
		header, want string
	}{
		"for another node": {"Bearer " + pass(t, other, ada), "token-audience"},
		"no token":         {"Bearer x", "token-malformed"},
		"nothing":          {"Bearer", "token-malformed"},
		"behind a tab":     {"Bearer\tx", "token-malformed"},
		"expired": {"bearer " + pass(t, s, ada, func(c *token.Claims) { c.NotBefore, c.Expiry = time.Unix(0, 0), time.Unix(60, 0) }),
			"token-expired"},
		"early": {"Bearer " + pass(t, s, ada, func(c *token.Claims) {
			c.NotBefore = c.NotBefore.Add(time.Hour)
			c.Expiry = c.NotBefore.Add(time.Hour)
		}), "token-not-yet-valid"},
	} {
		r := from(atLoopback, "GET", Base+"/schema", "", "Authorization", c.header)
		code, body := s.answerTo(r)
		if code != http.StatusUnauthorized || !strings.Contains(body, `"reason":"`+c.want+`"`) {
			t.Errorf("%s: %d %s, want 401 and %s", name, code, body, c.want)
		}
		if _, text, _ := strings.Cut(c.header, " "); len(text) > 1 && strings.Contains(body, text) {
			t.Errorf("%s: the answer holds the token", name)
		}
	}
	r := from(atLoopback, "GET", Base+"/schema", "", "Authorization", "Basic YTpi")
	if code, body := s.answerTo(r); code != 200 {
		t.Errorf("with what a proxy wanted to know: %d %s", code, body)
	}
	r.Header.Set("Authorization", "Bearer "+pass(t, s, ada))
	r.Header.Add("Authorization", "Bearer "+pass(t, s, ada))
	if code, body := s.answerTo(r); code != http.StatusUnauthorized {
		t.Errorf("with two tokens: %d %s", code, body)
	}
}

// Behind a proxy on the node's own machine callers are who knows where.
func TestProxiedCallersAreFromAfar(t *testing.T) {
	s := served(t, Config{})
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via", "Cf-Connecting-Ip", "True-Client-Ip"} {
		code, body := s.answerTo(from(atLoopback, "GET", Base+"/schema", "", name, "for=192.0.2.9"))
		if code != http.StatusForbidden || !strings.Contains(body, string(reasonOpen)) {
			t.Errorf("with %s: %d %s", name, code, body)
		}
	}
}

// Who followed something while nobody owned the node is a stranger when somebody does.
func TestAClaimEndsWhatStrangersFollow(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		e := w.stream(t, "POST", "/api/v0/graphql", ask("subscription { User { name } }"))
		k := w.socket(t)
		k.send(`{"id":"1","type":"subscribe","payload":` + namesOfUsers + `}`)
		e.next()
		if err := s.rights.Claim(someone(t).DID()); err != nil {
			t.Fatal(err)
		}
		if rest, _ := io.ReadAll(e.in); !strings.Contains(string(rest), "token-missing") {
			t.Errorf("the stream ends with %q, want the reason token-missing", rest)
		}
		k.isClosed(closeForbidden)
	})
}

// Who follows something goes on with a new token when the first has ended, and misses nothing.
func TestAClientFollowsBeyondItsToken(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		ada := someone(t)
		if err := s.rights.Claim(ada.DID()); err != nil {
			t.Fatal(err)
		}
		c, err := NewClient("localhost")
		if err != nil {
			t.Fatal(err)
		}
		wire := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return w.dial().Conn, nil }}
		defer wire.CloseIdleConnections()
		c.http.Transport = wire
		c.Authenticate(ada, s.key.DID())
		names, followed := make(chan string), make(chan error)
		go func() {
			_, err := c.Follow(t.Context(), Request{Query: "subscription { User { name } }"}, "", io.Discard, func(e Event) error {
				names <- string(e.Body)
				return nil
			})
			followed <- err
		}()
		for _, name := range []string{"ada", "bo", "cy"} {
			time.Sleep(token.DefaultLifetime) // at other times between two tokens
			createUser(t, s.db, name)
			if got, want := <-names, `{"data":{"User":[{"name":"`+name+`"}]}}`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		if first := time.Now().Add(-3 * token.DefaultLifetime); c.tokens.ends.Sub(first) <= token.DefaultLifetime {
			t.Error("there was one token only")
		}
		if err := s.rights.recover(someone(t).DID()); err != nil {
			t.Fatal(err)
		}
		if err := <-followed; Reason(err) != string(reasonNode) {
			t.Errorf("after the node changed hands: %v, want %s", err, reasonNode)
		}
	})
}

// Where the clock is so far ahead that no token holds, there is no use in making another.
func TestAClientWhoseTokensDoNotHoldGivesUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	asked := 0
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked > 3 {
			cancel()
		}
		w.WriteHeader(http.StatusUnauthorized)
		json.NewEncoder(w).Encode(problemOf(denied("token-expired", "the token expired")))
	}))
	defer node.Close()
	c, err := NewClient(node.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.Authenticate(someone(t), someone(t).DID())
	err = c.Listen(ctx, "Note/lobby", TopicOptions{}, nil, func(TopicMessage) error { return nil })
	if Reason(err) != "token-expired" || asked != 1 {
		t.Errorf("asked %d times, and then %v", asked, err)
	}
}

// A node that begins a stream and ends it by the word that the token has expired does not keep
// its client making others for ever.
func TestAClientIsNotKeptRenewing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	asked := 0
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked > 3 {
			cancel()
		}
		w.Header().Set("Content-Type", typeEventStream)
		w.Write(appendEvent(nil, pando.Event{Cursor: "here"}, denied("token-expired", "the token expired")))
	}))
	defer node.Close()
	c, err := NewClient(node.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.Authenticate(someone(t), someone(t).DID())
	_, err = c.Follow(ctx, Request{Query: "subscription { User { name } }"}, "", io.Discard, func(Event) error { return nil })
	if Reason(err) != "token-expired" || asked != 1 {
		t.Errorf("asked %d times, and then %v", asked, err)
	}
}

func TestASocketSaysWhoItIsLater(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		ada, eve := someone(t), someone(t)
		if err := s.rights.Claim(ada.DID()); err != nil {
			t.Fatal(err)
		}
		begin := func(payload string) *talker {
			k, _, err := w.connect(t)
			if err != nil {
				t.Fatal(err)
			}
			k.send(`{"type":"connection_init","payload":` + payload + `}`)
			return k
		}
		begin(`null`).isClosed(closeForbidden)
		begin(`{"Authorization":"Bearer x"}`).isClosed(closeForbidden)
		begin(`{"Authorization":"x"}`).isClosed(closeForbidden)
		begin(fmt.Sprintf(`{"Authorization":"Bearer %s"}`, pass(t, s, eve))).isClosed(closeForbidden)
		synctest.Wait()
		if n := s.strangers.Load(); n != 0 {
			t.Errorf("%d strangers are left", n)
		}
		k := begin(fmt.Sprintf(`{"headers":{"authorization":"Bearer %s"}}`, pass(t, s, ada)))
		k.hears(`{"type":"connection_ack"}`)
		k.send(`{"id":"1","type":"subscribe","payload":` + namesOfUsers + `}`)
		k.isClosed(closeForbidden)
	})
}

// How long it takes to know who calls, when he has called before.
func BenchmarkIdentify(b *testing.B) {
	db, err := pando.Open(b.Context(), "", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	s := NewServer(Config{DB: db})
	key, err := ident.Generate(ident.EdDSA)
	if err != nil {
		b.Fatal(err)
	}
	for name, o := range map[string]TokenOptions{"reads": {ReadOnly: true}, "writes": {}} {
		text, _, err := (&tokens{key: key, node: s.key.DID()}).make(time.Now(), o)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.identify(credentials{token: text, from: here}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
