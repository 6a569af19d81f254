//go:build unix

package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/token"
)

// tower is a node of Ada's that runs as a process of its own. Bob is a user of it, and Eve
// is nobody. Notes are their owners' alone; pages are everybody's.
type tower struct {
	*child
	t             *testing.T
	node          pando.DID
	ada, bob, eve ident.Key
	owner         *api.Client
	backups       string
	pages         pando.CollectionID
}

const towerPolicy = `
name: notes
resources:
  note:
    permissions:
      read:   {expr: owner}
      update: {expr: owner}
      delete: {expr: owner}
    relations:
      owner: {types: [actor]}
`

func newTower(t *testing.T) *tower {
	t.Helper()
	dir := t.TempDir()
	w := &tower{t: t, ada: freshKey(t), bob: freshKey(t), eve: freshKey(t), backups: filepath.Join(dir, "backups")}
	home := filepath.Join(dir, "n")
	db, err := pando.Open(t.Context(), home, nil)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := db.AddPolicy(t.Context(), towerPolicy)
	if err == nil {
		_, err = db.AddSchema(t.Context(), fmt.Sprintf("type Note @policy(id: %q, resource: \"note\") { text: String }\ntype Page { text: String }", policy))
	}
	if err != nil {
		t.Fatal(err)
	}
	page, err := db.Collection("Page")
	if err != nil {
		t.Fatal(err)
	}
	w.node, w.pages = db.NodeIdentity().DID(), page.ID
	if err := errors.Join(db.Close(), os.Mkdir(w.backups, 0o700), os.Symlink(home, filepath.Join(w.backups, "link"))); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "pando") // by this name the test is the command
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	w.child = &child{name: "tower", dir: home, program: program}
	if err := w.start(context.Background(), "--no-p2p", "--claim", string(w.ada.DID()), "--backup-dir", w.backups); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	w.owner, err = api.NewClient(w.http)
	if err != nil {
		t.Fatal(err)
	}
	w.owner.Authenticate(w.ada, w.node)
	if _, err := w.owner.GrantNode(t.Context(), api.User, string(w.bob.DID())); err != nil {
		t.Fatal(err)
	}
	return w
}

func freshKey(t *testing.T) ident.Key {
	t.Helper()
	k, err := ident.Generate(ident.EdDSA)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// says are the claims of a token of somebody for the tower, which holds now.
func (w *tower) says(who ident.Key, change ...any) map[string]any {
	now := time.Now().Unix()
	m := map[string]any{"iss": who.DID(), "aud": w.node, "nbf": now - 10, "exp": now + 600}
	for i := 0; i < len(change); i += 2 {
		m[change[i].(string)] = change[i+1]
	}
	return m
}

// made makes a token of any header and claims, whatever signs it.
func made(t *testing.T, header, claims map[string]any, sign func([]byte) []byte) string {
	t.Helper()
	var text string
	for _, part := range []map[string]any{header, claims} {
		raw, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		text += base64.RawURLEncoding.EncodeToString(raw) + "."
	}
	return text + base64.RawURLEncoding.EncodeToString(sign([]byte(text[:len(text)-1])))
}

func signs(t *testing.T, k ident.Key) func([]byte) []byte {
	return func(b []byte) []byte {
		sig, err := k.Sign(b)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
}

var edDSA = map[string]any{"alg": "EdDSA", "typ": "JWT"}

// mayWrite is a delegation, as a token carries it.
func mayWrite(t *testing.T, author ident.Key, gateway ident.PublicKey, collections ...[32]byte) string {
	t.Helper()
	now := time.Now()
	sealed, err := ident.Delegation{Author: author.Public(), Gateway: gateway, Collections: collections,
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour)}.Seal(author)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed)
}

// ask sends a request and returns what came back. header are names and values in turn.
func (w *tower) ask(method, path, body string, header ...string) (int, string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.http+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error() // it was cut off
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// talk opens a WebSocket, says some things, and returns how it was closed, and what was
// heard before.
func (w *tower) talk(header []string, says ...string) (websocket.StatusCode, string) {
	w.t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	conn, _, err := websocket.Dial(w.t.Context(), strings.Replace(w.http, "http:", "ws:", 1)+graphQLPath, &websocket.DialOptions{
		Subprotocols: []string{"graphql-transport-ws"}, HTTPHeader: h})
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.CloseNow()
	for _, text := range says {
		if err := conn.Write(w.t.Context(), websocket.MessageText, []byte(text)); err != nil {
			w.t.Fatal(err)
		}
	}
	heard := ""
	for {
		_, raw, err := conn.Read(w.t.Context())
		if err != nil {
			return websocket.CloseStatus(err), heard
		}
		heard += string(raw)
	}
}

func graphQL(query string) string {
	raw, _ := json.Marshal(map[string]string{"query": query})
	return string(raw)
}

// state is all that an attack could change: documents, collections, who may do what, files.
func (w *tower) state() string {
	w.t.Helper()
	st, err := w.owner.LocalStatus(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	access, err := os.ReadFile(filepath.Join(w.dir, accessFile))
	if err != nil {
		w.t.Fatal(err)
	}
	var files []string
	_ = filepath.WalkDir(filepath.Dir(w.dir), func(path string, d fs.DirEntry, err error) error {
		if path == filepath.Join(w.dir, dataDirectory) {
			return fs.SkipDir
		}
		files = append(files, path)
		return err
	})
	return fmt.Sprint(st.Root, st.Documents, len(st.Collections), string(access), files)
}

const (
	dataDirectory = "data"
	graphQLPath   = "/api/v0/graphql"
)

// Everything that follows is done to one node. Each attempt is refused for its reason, the
// node counts and tells it, and at the end nothing has changed.
func TestAttackersGetNothing(t *testing.T) {
	t.Parallel()
	w := newTower(t)
	node, err := w.node.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(text string) []string { return []string{"Authorization", "Bearer " + text} }
	adas := made(t, edDSA, w.says(w.ada, "delegation", mayWrite(t, w.ada, node)), signs(t, w.ada))
	code, body := w.ask("POST", graphQLPath, graphQL(`mutation { create_Note(input: {text: "ada's own"}) { _docID } create_Page(input: {text: "first"}) { _docID } }`), bearer(adas)...)
	_, note, _ := strings.Cut(body, `"create_Note":[{"_docID":"`)
	note, _, _ = strings.Cut(note, `"`)
	if code != 200 || note == "" {
		t.Fatalf("Ada writes: %d %s", code, body)
	}
	before := w.state()
	read := graphQL("{ Note { text } Page { text } }")
	write := graphQL(`mutation { create_Page(input: {text: "by Eve"}) { _docID } }`)
	parts := strings.Split(adas, ".")
	mac := func(key string) func([]byte) []byte {
		return func(b []byte) []byte {
			m := hmac.New(sha256.New, []byte(key))
			m.Write(b)
			return m.Sum(nil)
		}
	}
	now := time.Now().Unix()
	for name, c := range map[string]struct {
		token  string
		reason token.Reason
	}{
		"unsigned":                              {made(t, map[string]any{"alg": "none"}, w.says(w.ada), func([]byte) []byte { return nil }), token.BadAlg},
		"her public key as a shared secret":     {made(t, map[string]any{"alg": "HS256"}, w.says(w.ada), mac(string(w.ada.Public()))), token.BadAlg},
		"the DID as a shared secret":            {made(t, map[string]any{"alg": "HS256"}, w.says(w.ada), mac(string(w.ada.DID()))), token.BadAlg},
		"another algorithm":                     {made(t, map[string]any{"alg": "ES256K"}, w.says(w.ada), signs(t, w.ada)), token.BadAlg},
		"a DID claimed without its key":         {made(t, edDSA, w.says(w.ada), signs(t, w.eve)), token.Forged},
		"a key of one's own in the header":      {made(t, map[string]any{"alg": "EdDSA", "jwk": map[string]string{"kty": "OKP"}, "kid": w.eve.DID()}, w.says(w.ada), signs(t, w.eve)), token.Forged},
		"other claims under a good signature":   {parts[0] + "." + strings.Split(made(t, edDSA, w.says(w.ada, "exp", now+3600), signs(t, w.eve)), ".")[1] + "." + parts[2], token.Forged},
		"a token that was shown to another":     {made(t, edDSA, w.says(w.ada, "aud", w.eve.DID()), signs(t, w.ada)), token.Audience},
		"a token for all who want one":          {made(t, edDSA, w.says(w.ada, "aud", []any{w.node, w.eve.DID()}), signs(t, w.ada)), token.Malformed},
		"one from yesterday":                    {made(t, edDSA, w.says(w.ada, "nbf", now-90_000, "exp", now-86_400), signs(t, w.ada)), token.Expired},
		"one for tomorrow":                      {made(t, edDSA, w.says(w.ada, "nbf", now+80_000, "exp", now+86_400), signs(t, w.ada)), token.Early},
		"one for ever":                          {made(t, edDSA, w.says(w.ada, "exp", now+1<<31), signs(t, w.ada)), token.TooLong},
		"a delegation for another node":         {made(t, edDSA, w.says(w.bob, "delegation", mayWrite(t, w.bob, w.eve.Public())), signs(t, w.bob)), "token-delegation"},
		"a delegation of another user":          {made(t, edDSA, w.says(w.bob, "delegation", mayWrite(t, w.ada, node)), signs(t, w.bob)), "token-delegation"},
		"a delegation that the node is to sign": {made(t, edDSA, w.says(w.bob, "delegation", base64.RawURLEncoding.EncodeToString(forgedDelegation(w.bob, node))), signs(t, w.bob)), "token-delegation"},
		"eight kilobytes and more":              {adas + strings.Repeat("A", 9_000), token.Malformed},
	} {
		for _, body := range []string{read, write} {
			code, answer := w.ask("POST", graphQLPath, body, bearer(c.token)...)
			if code != http.StatusUnauthorized || !strings.Contains(answer, `"`+string(c.reason)+`"`) {
				t.Errorf("%s: %d %s, want 401 with %s", name, code, answer, c.reason)
			}
			if strings.Contains(answer, "ada's own") || strings.Contains(answer, parts[2]) {
				t.Errorf("%s: the answer tells too much: %s", name, answer)
			}
		}
	}

	// Proving to be somebody is not to be let in; a user is no admin, and no other user.
	eves, bobs := bearer(made(t, edDSA, w.says(w.eve, "delegation", mayWrite(t, w.eve, node)), signs(t, w.eve))), bearer(made(t, edDSA, w.says(w.bob, "delegation", mayWrite(t, w.bob, node)), signs(t, w.bob)))
	claim := fmt.Sprintf(`{"Owner": %q, "Recover": true}`, w.eve.DID())
	grant := fmt.Sprintf(`{"Relation": "admin", "TargetActor": %q}`, w.eve.DID())
	elsewhere := bearer(made(t, edDSA, w.says(w.bob, "delegation", mayWrite(t, w.bob, node, w.pages)), signs(t, w.bob)))
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		status             int
		reason             string
	}{
		"nobody reads":                         {"POST", graphQLPath, read, nil, 401, "token-missing"},
		"nobody reads by another wire":         {"POST", "/pando.v1.Pando/Execute", read, []string{"Content-Type", "application/json"}, 401, "token-missing"},
		"nobody says that he is here":          {"POST", graphQLPath, read, []string{"X-Forwarded-For", "127.0.0.1", "X-Real-Ip", "::1"}, 401, "token-missing"},
		"nobody comes by a password":           {"POST", graphQLPath, read, []string{"Authorization", "Basic YWRhOmFkYQ=="}, 401, "token-missing"},
		"nobody takes the node over":           {"POST", "/api/v0/acp/node/claim", claim, nil, 403, "local-only"},
		"nobody learns who is let in":          {"GET", "/api/v0/acp/node/relationship", "", nil, 401, "token-missing"},
		"nobody reads the figures":             {"GET", "/metrics", "", nil, 401, "token-missing"},
		"a stranger reads":                     {"POST", graphQLPath, read, eves, 403, "node-access"},
		"a stranger writes":                    {"POST", graphQLPath, write, eves, 403, "node-access"},
		"a stranger exports":                   {"GET", "/api/v0/export/Note", "", eves, 403, "node-access"},
		"a stranger takes the archive":         {"GET", "/api/v0/backup/archive", "", eves, 403, "node-access"},
		"a stranger lets himself in":           {"POST", "/api/v0/acp/node/relationship", grant, eves, 403, "node-access"},
		"a stranger takes the node over":       {"POST", "/api/v0/acp/node/claim", claim, eves, 403, "local-only"},
		"the owner does, from afar":            {"POST", "/api/v0/acp/node/claim", claim, bearer(adas), 403, "local-only"},
		"a user adds types":                    {"POST", "/api/v0/schema", "type Mine { a: Int }", bobs, 403, "node-access"},
		"a user lets others in":                {"POST", "/api/v0/acp/node/relationship", grant, bobs, 403, "node-access"},
		"a user switches the checks off":       {"POST", "/api/v0/acp/node/disable", "", bobs, 403, "node-access"},
		"a user saves files":                   {"POST", "/api/v0/backup/export", `{"filepath": "x.json"}`, bobs, 403, "node-access"},
		"a user reads another's documents":     {"POST", graphQLPath, graphQL("{ Note { text } }"), bobs, 200, `"Note":[]`},
		"a user reads another's history":       {"POST", graphQLPath, graphQL(`{ commits(docID: "` + note + `") { cid } }`), bobs, 200, `"commits":[]`},
		"a user counts another's documents":    {"POST", graphQLPath, graphQL("{ _count(Note: {}) }"), bobs, 200, `"_count":0`},
		"a user exports another's documents":   {"GET", "/api/v0/export/Note", "", bobs, 200, ""},
		"a user writes another's documents":    {"POST", graphQLPath, graphQL(`mutation { update_Note(docID: "` + note + `", input: {text: "Bob's now"}) { text } }`), bobs, 200, `"update_Note":[]`},
		"a user deletes another's documents":   {"POST", graphQLPath, graphQL(`mutation { delete_Note(docID: "` + note + `") { text } }`), bobs, 200, `"delete_Note":[]`},
		"a node writes what it may not":        {"POST", graphQLPath, graphQL(`mutation { create_Note(input: {text: "x"}) { text } }`), elsewhere, 200, "DENIED"},
		"a user writes without a delegation":   {"POST", graphQLPath, write, bearer(made(t, edDSA, w.says(w.bob), signs(t, w.bob))), 403, "delegation"},
		"a page makes a browser write":         {"POST", graphQLPath, write, append([]string{"Origin", "https://example.org", "Sec-Fetch-Site", "cross-site"}, bobs...), 403, "cross-origin"},
		"a page gives the node its name":       {"POST", graphQLPath, read, append([]string{"Host", "example.org"}, bobs...), 403, "unknown-host"},
		"an admin saves outside":               {"POST", "/api/v0/backup/export", `{"filepath": "../../stolen.json"}`, bearer(adas), 400, "path escapes"},
		"an admin saves to a path":             {"POST", "/api/v0/backup/export", `{"filepath": "/tmp/stolen.json"}`, bearer(adas), 400, "path escapes"},
		"an admin reads outside":               {"POST", "/api/v0/backup/import", `{"filepath": "../n/access.json"}`, bearer(adas), 404, "path escapes"},
		"an admin reads by a link":             {"POST", "/api/v0/backup/import", `{"filepath": "link/access.json"}`, bearer(adas), 404, "NOT_FOUND"},
		"a collection that is a path":          {"GET", "/api/v0/export/..%2f..%2fn%2fnode.key", "", bearer(adas), 404, "NOT_FOUND"},
		"a path that leads elsewhere":          {"GET", "/api/v0/../../n/node.key", "", bearer(adas), 404, ""},
		"a header beyond all measure":          {"GET", "/api/v0/schema", "", []string{"Authorization", "Bearer " + strings.Repeat("A", 200_000)}, 431, ""},
		"a body beyond all measure":            {"POST", graphQLPath, `{"query": "` + strings.Repeat("a", 17<<20) + `"}`, bobs, 413, "TOO_LARGE"},
		"a body beyond all measure, of nobody": {"POST", graphQLPath, strings.Repeat("a", 17<<20), nil, 401, "token-missing"},
	} {
		code, answer := w.ask(c.method, c.path, c.body, c.header...)
		if code == 0 && c.status >= 400 && len(c.body) > 1<<20 {
			continue // cut off while it was still sending
		}
		if code != c.status || !strings.Contains(answer, c.reason) || strings.Contains(answer, "ada's own") {
			t.Errorf("%s: %d %.300s, want %d with %s", name, code, answer, c.status, c.reason)
		}
	}

	// The other wires ask the same.
	for name, c := range map[string]struct {
		header []string
		says   []string
		code   websocket.StatusCode
	}{
		"who says nothing":             {nil, []string{`{"type":"connection_init"}`}, 4403},
		"who begins at once":           {nil, []string{`{"id":"1","type":"subscribe","payload":` + read + `}`}, 4401},
		"who forges":                   {nil, []string{`{"type":"connection_init","payload":{"Authorization":"Bearer ` + made(t, edDSA, w.says(w.ada), signs(t, w.eve)) + `"}}`}, 4403},
		"a stranger":                   {nil, []string{`{"type":"connection_init","payload":{"Authorization":"` + eves[1] + `"}}`}, 4403},
		"who adds a token to a cookie": {[]string{"Cookie", "token=x"}, []string{`{"type":"connection_init","payload":{"Authorization":"Bearer e30.e30."}}`}, 4403},
	} {
		if got, text := w.talk(c.header, c.says...); got != c.code || strings.Contains(text, "ada's own") {
			t.Errorf("a WebSocket of %s is closed with %d after %q, want %d", name, got, text, c.code)
		}
	}
	for name, header := range map[string][]string{"a stranger": eves, "who forges": bearer(made(t, edDSA, w.says(w.ada), signs(t, w.eve)))} {
		code, answer := w.ask("POST", "/pando.v1.Pando/Execute", read, append([]string{"Content-Type", "application/json"}, header...)...)
		if code < 401 || code > 403 || strings.Contains(answer, "ada's own") {
			t.Errorf("%s over Connect: %d %s", name, code, answer)
		}
	}

	// One's transaction is nobody else's.
	_, answer := w.ask("POST", "/api/v0/tx", "", bearer(adas)...)
	var tx api.TxID
	if err := json.Unmarshal([]byte(answer), &tx); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	for _, method := range []string{"POST", "DELETE"} {
		if code, answer := w.ask(method, fmt.Sprint("/api/v0/tx/", tx.ID), "", bobs...); code != 404 {
			t.Errorf("%s of Ada's transaction by Bob: %d %s", method, code, answer)
		}
	}
	if code, answer := w.ask("POST", graphQLPath, read, append([]string{"X-Pando-Tx", fmt.Sprint(tx.ID)}, bobs...)...); code != 404 || strings.Contains(answer, "ada's own") {
		t.Errorf("Bob reads in Ada's transaction: %d %s", code, answer)
	}
	w.ask("DELETE", fmt.Sprint("/api/v0/tx/", tx.ID), "", bearer(adas)...)

	// Who was let in, and is not any more, stays out with the token that he has.
	if _, err := w.owner.RevokeNode(t.Context(), api.User, string(w.bob.DID())); err != nil {
		t.Fatal(err)
	}
	if code, answer := w.ask("POST", graphQLPath, read, bobs...); code != 403 || !strings.Contains(answer, "node-access") {
		t.Errorf("Bob, after he was sent away: %d %s", code, answer)
	}
	if _, err := w.owner.GrantNode(t.Context(), api.User, string(w.bob.DID())); err != nil {
		t.Fatal(err)
	}

	if after := w.state(); after != before {
		t.Errorf("something has changed:\n%s\nwas\n%s", after, before)
	}
	w.toldOf(t, "token-algorithm", "token-signature", "token-audience", "token-expired", "token-not-yet-valid", "token-lifetime", "token-delegation",
		"token-malformed", "token-missing", "node-access", "local-only", "cross-origin", "unknown-host", "document")
	if info, err := os.Stat(filepath.Join(w.dir, socketFile)); err != nil || info.Mode().Perm() != 0o600 || info.Mode()&fs.ModeSocket == 0 {
		t.Errorf("the socket is %v (%v), want it closed to others", info, err)
	}
}

// forgedDelegation is a delegation as the author would seal it, with a signature that is not his.
func forgedDelegation(author ident.Key, gateway ident.PublicKey) []byte {
	now := time.Now()
	sealed, _ := ident.Delegation{Author: author.Public(), Gateway: gateway, NotBefore: now, NotAfter: now.Add(time.Hour)}.Seal(author)
	sealed[len(sealed)-1] ^= 1
	return sealed
}

// toldOf checks that attempts of all kinds were counted, and that the log tells of the last
// ones without any token.
func (w *tower) toldOf(t *testing.T, kinds ...string) {
	t.Helper()
	st, err := w.owner.LocalStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		if st.Denied[kind] == 0 {
			t.Errorf("no %s was counted: %v", kind, slices.Sorted(maps.Keys(st.Denied)))
		}
	}
	log := w.child.log.last()
	if !strings.Contains(log, "msg=denied kind=") {
		t.Errorf("the log tells nothing:\n%s", log)
	}
	for _, secret := range []string{"eyJ", "ada's own", "Bearer"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q:\n%s", secret, log)
		}
	}
}
