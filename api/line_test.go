package api_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/api/pandov1"
	"github.com/pandodb/pando/api/pandov1/pandov1connect"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/p2p"
)

// tower is a node that serves clients over libp2p.
type tower struct {
	db     *pando.DB
	access *api.NodeAccess
	addr   string
}

func raise(t *testing.T, owner pando.Identity, c p2p.Config) *tower {
	t.Helper()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.AddSchema(t.Context(), `type User { name: String }`); err != nil {
		t.Fatal(err)
	}
	c.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	node, err := p2p.Start(t.Context(), db, c)
	if err != nil {
		t.Fatal(err)
	}
	access, err := api.OpenNodeAccess(filepath.Join(t.TempDir(), "access.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !owner.IsZero() {
		if err := access.Claim(owner.DID()); err != nil {
			t.Fatal(err)
		}
	}
	server := api.NewServer(api.Config{DB: db, Node: node, Access: access})
	served := make(chan error, 1)
	lines := node.Lines(server.Knows) // from here on a client finds the protocol
	go func() { served <- server.Serve(lines) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := errors.Join(server.Shutdown(ctx), <-served, node.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	info := node.Info()
	return &tower{db, access, info.Addrs[0] + "/p2p/" + info.ID}
}

func (w *tower) client(t *testing.T, key pando.Identity) *api.Client {
	t.Helper()
	c, err := api.NewPeerClient(w.addr, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

const users = `{ User { name } }`

func TestAClientOverLibp2pIsWhoItsKeySays(t *testing.T) {
	t.Parallel()
	ada, eve := identity(t), identity(t)
	w := raise(t, ada, p2p.Config{})
	c := w.client(t, ada)
	if _, err := c.AddSchema(t.Context(), `type Page { text: String }`); err != nil {
		t.Errorf("the owner's schema: %v", err)
	}
	doc, err := c.Author(ada).Create(t.Context(), "User", map[string]any{"name": "Ada"})
	if err != nil {
		t.Fatal(err)
	}
	if got := query(t, c, users); got != `{"User":[{"name":"Ada"}]}` {
		t.Errorf("got %s, want Ada", got)
	}
	// The node does not sign in her name, and nobody else does.
	resp, err := c.Query(t.Context(), api.Request{Query: `mutation { create_User(input: {name: "?"}) { name } }`})
	if err != nil || len(resp.Errors) != 1 || !errors.Is(resp.Errors[0].Err(), fault.Denied) {
		t.Errorf("a mutation without her signature: got %+v, %v; want Denied", resp, err)
	}
	if err := c.Author(eve).Update(t.Context(), "User", doc, map[string]any{"name": "Eve"}); !errors.Is(err, fault.Denied) {
		t.Errorf("Eve's signature over Ada's connection: got %v, want Denied", err)
	}
	stranger := w.client(t, eve)
	for name, err := range map[string]error{
		"reading": func() error {
			_, err := stranger.Query(t.Context(), api.Request{Query: users})
			return firstOf(stranger, t, err)
		}(),
		"writing":   stranger.Author(eve).Update(t.Context(), "User", doc, map[string]any{"name": "Eve"}),
		"as nobody": func() error { _, err := w.client(t, pando.Identity{}).Collections(t.Context()); return err }(),
	} {
		if !errors.Is(err, fault.Denied) {
			t.Errorf("%s by a stranger: got %v, want Denied", name, err)
		}
	}
}

// firstOf returns the error of a query, wherever it is told.
func firstOf(c *api.Client, t *testing.T, err error) error {
	t.Helper()
	if err != nil {
		return err
	}
	resp, err := c.Query(t.Context(), api.Request{Query: users})
	if err == nil && len(resp.Errors) > 0 {
		err = resp.Errors[0].Err()
	}
	return err
}

func TestANodeThatNobodyOwnsServesNobodyOverLibp2p(t *testing.T) {
	t.Parallel()
	w := raise(t, pando.Identity{}, p2p.Config{})
	c := w.client(t, identity(t))
	if _, err := c.Collections(t.Context()); !errors.Is(err, fault.Denied) || api.Reason(err) != "unclaimed" {
		t.Errorf("got %v, want a refusal, for nobody owns the node", err)
	}
	if _, err := c.Author(identity(t)).Create(t.Context(), "User", map[string]any{"name": "Eve"}); !errors.Is(err, fault.Denied) {
		t.Errorf("got %v, want a refusal", err)
	}
	if w.db.Seq() != 0 {
		t.Error("something was written")
	}
}

// A closed node sends strangers away; whom its access names is none.
func TestAClosedNodeServesWhomItKnows(t *testing.T) {
	t.Parallel()
	ada := identity(t)
	w := raise(t, ada, p2p.Config{Closed: true})
	if got := query(t, w.client(t, ada), users); got != `{"User":[]}` {
		t.Errorf("got %s", got)
	}
	if _, err := w.client(t, identity(t)).Collections(t.Context()); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a stranger: got %v, want no answer", err)
	}
	// Everybody may be a user here, who is let in at the door.
	if _, err := w.client(t, ada).GrantNode(t.Context(), api.User, api.Everyone); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client(t, identity(t)).Collections(t.Context()); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a stranger, where everybody may be a user: got %v, want no answer", err)
	}
	bob := identity(t)
	if _, err := w.client(t, ada).GrantNode(t.Context(), api.User, string(bob.DID())); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client(t, bob).Collections(t.Context()); err != nil {
		t.Errorf("who is named: %v", err)
	}
}

// gRPC, its streams and the identity go over one stream of libp2p.
func TestGRPCOverLibp2p(t *testing.T) {
	t.Parallel()
	ada := identity(t)
	w := raise(t, ada, p2p.Config{})
	d, err := p2p.NewDialer(w.addr, ada)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	h := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.Dial(ctx) }}
	defer h.CloseIdleConnections()
	c := pandov1connect.NewPandoClient(&http.Client{Transport: h}, "http://"+d.Peer(), connect.WithGRPC())
	stream, err := c.Subscribe(t.Context(), connect.NewRequest(&pandov1.SubscribeRequest{Query: `subscription { User { name } }`}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if _, err := w.client(t, ada).Author(ada).Create(t.Context(), "User", map[string]any{"name": "Ada"}); err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() || !strings.Contains(stream.Msg().GetEvents()[0].GetJson(), "Ada") {
		t.Errorf("got %v, %v; want Ada", stream.Msg(), stream.Err())
	}
	if got := execute(t, c, users); got != `{"data":{"User":[{"name":"Ada"}]}}` {
		t.Errorf("got %s, want Ada", got)
	}
	if got := execute(t, w.client(t, ada).RPC(), users); got != `{"data":{"User":[{"name":"Ada"}]}}` {
		t.Errorf("by the client's own: got %s, want Ada", got)
	}
	_, err = c.Execute(t.Context(), connect.NewRequest(&pandov1.ExecuteRequest{Query: `mutation { create_User(input: {name: "?"}) { name } }`}))
	if !errors.Is(api.RPCError(err), fault.Denied) {
		t.Errorf("a mutation without her signature: got %v, want Denied", err)
	}
	prepared, err := c.Prepare(t.Context(), connect.NewRequest(&pandov1.PrepareRequest{Query: `mutation($n: String) { create_User(input: {name: $n}) { name } }`, Variables: `{"n": "Bea"}`}))
	if err != nil || prepared.Msg.GetJson() != `{"data":{"create_User":[{"name":"Bea"}]}}` || len(prepared.Msg.GetCommits()) != 1 {
		t.Fatalf("prepare: got %v, %v", prepared, err)
	}
	draft := prepared.Msg.GetCommits()[0]
	id, err := dag.ParseCollectionID(draft.GetCollection())
	if err != nil {
		t.Fatal(err)
	}
	proposal, err := pando.Draft{Collection: id, Header: draft.GetHeader(), Payload: draft.GetPayload()}.Open()
	if err != nil || proposal.Operations[0].Value != "Bea" {
		t.Fatalf("the draft says %+v, %v", proposal, err)
	}
	signed, err := proposal.Sign(ada)
	if err != nil {
		t.Fatal(err)
	}
	commits := []*pandov1.SignedCommit{{Collection: draft.GetCollection(), Envelope: signed.Envelope}}
	done, err := c.Submit(t.Context(), connect.NewRequest(&pandov1.SubmitRequest{Commits: commits}))
	if err != nil || len(done.Msg.GetCommits()) != 1 {
		t.Fatalf("submit: got %v, %v", done, err)
	}
	if got := execute(t, c, `{ User(order: {name: ASC}) { name } }`); got != `{"data":{"User":[{"name":"Ada"},{"name":"Bea"}]}}` {
		t.Errorf("got %s, want Ada and Bea", got)
	}
	commits[0].Envelope = append([]byte{}, commits[0].Envelope...)
	commits[0].Envelope[len(commits[0].Envelope)-1] ^= 1
	if _, err := c.Submit(t.Context(), connect.NewRequest(&pandov1.SubmitRequest{Commits: commits})); !errors.Is(api.RPCError(err), fault.Invalid) {
		t.Errorf("a commit that was changed: got %v, want Invalid", err)
	}
}

func TestRefusalsKeepTheirReasonOverGRPC(t *testing.T) {
	t.Parallel()
	w := raise(t, identity(t), p2p.Config{})
	server := api.NewServer(api.Config{DB: w.db, Access: w.access})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() { server.Shutdown(context.Background()); <-served }()
	for name, options := range map[string][]connect.ClientOption{"Connect": nil, "gRPC-Web": {connect.WithGRPCWeb()}} {
		c := pandov1connect.NewPandoClient(http.DefaultClient, "http://"+l.Addr().String(), options...)
		for token, want := range map[string]string{"": "token-missing", "Bearer x": "token-malformed"} {
			r := connect.NewRequest(&pandov1.ExecuteRequest{Query: users})
			if token != "" {
				r.Header().Set("Authorization", token)
			}
			_, err := c.Execute(t.Context(), r)
			if connect.CodeOf(err) != connect.CodeUnauthenticated || api.Reason(api.RPCError(err)) != want {
				t.Errorf("%s, token %q: got %v (%s), want unauthenticated, %s", name, token, err, api.Reason(api.RPCError(err)), want)
			}
		}
	}
}
