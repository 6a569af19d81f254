package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/api/pandov1"
	"github.com/pandodb/pando/api/pandov1/pandov1connect"
	"github.com/pandodb/pando/internal/fault"
)

// served is a node that listens, with what its clients need.
type served struct {
	db     *pando.DB
	server *api.Server
	url    string
	h1, h2 *http.Client
}

func serve(t *testing.T) *served {
	t.Helper()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{db: db, server: api.NewServer(api.Config{DB: db}), url: "http://" + l.Addr().String()}
	over := func(set func(*http.Protocols)) *http.Client {
		p := new(http.Protocols)
		set(p)
		return &http.Client{Transport: &http.Transport{Protocols: p}}
	}
	s.h1 = over(func(p *http.Protocols) { p.SetHTTP1(true) })
	s.h2 = over(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(l) }()
	t.Cleanup(func() {
		s.h1.CloseIdleConnections()
		s.h2.CloseIdleConnections()
		if err := errors.Join(s.server.Shutdown(context.Background()), <-done, db.Close()); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.AddSchema(t.Context(), `type User { name: String  age: Int }`); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *served) grpc() pandov1connect.PandoClient {
	return pandov1connect.NewPandoClient(s.h2, s.url, connect.WithGRPC())
}

func execute(t *testing.T, c pandov1connect.PandoClient, query string) string {
	t.Helper()
	r, err := c.Execute(t.Context(), connect.NewRequest(&pandov1.ExecuteRequest{Query: query}))
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return r.Msg.GetJson()
}

// Every protocol, over HTTP/1.1 and HTTP/2, says the same on one port.
func TestOneServiceSpeaksEveryProtocol(t *testing.T) {
	t.Parallel()
	s := serve(t)
	clients := map[string]pandov1connect.PandoClient{
		"gRPC":                 s.grpc(),
		"gRPC-Web":             pandov1connect.NewPandoClient(s.h1, s.url, connect.WithGRPCWeb()),
		"gRPC-Web, HTTP/2":     pandov1connect.NewPandoClient(s.h2, s.url, connect.WithGRPCWeb()),
		"Connect":              pandov1connect.NewPandoClient(s.h1, s.url),
		"Connect, HTTP/2":      pandov1connect.NewPandoClient(s.h2, s.url),
		"Connect, JSON":        pandov1connect.NewPandoClient(s.h1, s.url, connect.WithProtoJSON()),
		"gRPC, messages JSON":  pandov1connect.NewPandoClient(s.h2, s.url, connect.WithGRPC(), connect.WithProtoJSON()),
		"Connect, JSON, HTTP2": pandov1connect.NewPandoClient(s.h2, s.url, connect.WithProtoJSON()),
	}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := c.Subscribe(ctx, connect.NewRequest(&pandov1.SubscribeRequest{
				Query: `subscription($n: String) { User(filter: {name: {_eq: $n}}) { name age } }`, Variables: fmt.Sprintf(`{"n": %q}`, name)}))
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			if !stream.Receive() || len(stream.Msg().GetEvents()) != 1 || stream.Msg().GetEvents()[0].GetJson() != "" || stream.Msg().GetEvents()[0].GetCursor() == "" {
				t.Fatalf("the beginning of a subscription: got %v, %v; want a cursor without an event", stream.Msg(), stream.Err())
			}
			r, err := c.Execute(t.Context(), connect.NewRequest(&pandov1.ExecuteRequest{
				Query: `mutation($n: String) { create_User(input: {name: $n, age: 36}) { name } }`, Variables: fmt.Sprintf(`{"n": %q}`, name)}))
			if want := fmt.Sprintf(`{"data":{"create_User":[{"name":%q}]}}`, name); err != nil || r.Msg.GetJson() != want {
				t.Fatalf("a mutation: got %v, %v; want %s", r, err, want)
			}
			if !stream.Receive() {
				t.Fatal(stream.Err())
			}
			want := fmt.Sprintf(`{"data":{"User":[{"name":%q,"age":36}]}}`, name)
			if got := stream.Msg().GetEvents()[0]; got.GetJson() != want || got.GetCursor() == "" {
				t.Errorf("an event: got %v; want %s", got, want)
			}
			_, err = c.Execute(t.Context(), connect.NewRequest(&pandov1.ExecuteRequest{Query: `{ Nobody { name } }`}))
			if !errors.Is(api.RPCError(err), fault.Invalid) {
				t.Errorf("a wrong query: got %v, want Invalid", err)
			}
		})
	}
}

// A shell needs no library.
func TestConnectTakesAPlainPost(t *testing.T) {
	t.Parallel()
	s := serve(t)
	resp, err := s.h1.Post(s.url+"/pando.v1.Pando/Execute", "application/json", strings.NewReader(`{"query": "{ User { name } }"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, _ := io.ReadAll(resp.Body)
	var answer struct{ JSON string }
	if err := json.Unmarshal(got, &answer); err != nil || answer.JSON != `{"data":{"User":[]}}` {
		t.Errorf("got %s, %v", got, err)
	}
}

// Who calls a method that this node does not have yet is told so by the node, and not by what
// is in between.
func TestAMethodThatThereIsNotIsUnimplemented(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for name, c := range map[string]struct {
		http    *http.Client
		options []connect.ClientOption
	}{
		"gRPC":     {s.h2, []connect.ClientOption{connect.WithGRPC()}},
		"gRPC-Web": {s.h1, []connect.ClientOption{connect.WithGRPCWeb()}},
		"Connect":  {s.h1, nil},
	} {
		_, err := connect.NewClient[pandov1.ExecuteRequest, pandov1.ExecuteResponse](c.http, s.url+"/pando.v1.Pando/Guess", c.options...).CallUnary(t.Context(), connect.NewRequest(&pandov1.ExecuteRequest{}))
		if connect.CodeOf(err) != connect.CodeUnimplemented || !connect.IsWireError(err) || !strings.Contains(err.Error(), `no method "Guess"`) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	resp, err := s.h1.Post(s.url+"/pando.v1.Pando/Guess", "text/plain", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusNotFound || !strings.Contains(string(got), `"code":"NOT_FOUND"`) {
		t.Errorf("in no protocol: got %d %s", resp.StatusCode, got)
	}
}

func TestTransactionsOverGRPC(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.grpc()
	begin := func() uint64 {
		t.Helper()
		tx, err := c.Begin(t.Context(), connect.NewRequest(&pandov1.BeginRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		return tx.Msg.GetTransaction()
	}
	within := func(tx uint64, query string) string {
		t.Helper()
		r, err := c.Execute(t.Context(), connect.NewRequest(&pandov1.ExecuteRequest{Query: query, Transaction: tx}))
		if err != nil {
			t.Fatal(err)
		}
		return r.Msg.GetJson()
	}
	kept, dropped := begin(), begin()
	within(kept, `mutation { create_User(input: {name: "Ada"}) { name } }`)
	within(dropped, `mutation { create_User(input: {name: "Bob"}) { name } }`)
	if got := execute(t, c, `{ User { name } }`); got != `{"data":{"User":[]}}` {
		t.Errorf("before the commit: got %s, want none", got)
	}
	if _, err := c.Discard(t.Context(), connect.NewRequest(&pandov1.DiscardRequest{Transaction: dropped})); err != nil {
		t.Error(err)
	}
	if _, err := c.Commit(t.Context(), connect.NewRequest(&pandov1.CommitRequest{Transaction: kept})); err != nil {
		t.Error(err)
	}
	if got := execute(t, c, `{ User { name } }`); got != `{"data":{"User":[{"name":"Ada"}]}}` {
		t.Errorf("after it: got %s, want Ada", got)
	}
	_, err := c.Commit(t.Context(), connect.NewRequest(&pandov1.CommitRequest{Transaction: kept}))
	if !errors.Is(api.RPCError(err), fault.NotFound) || connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a transaction that has ended: got %v, want NotFound", err)
	}
}

// Whatever HTTP answers can be called, by the names that the documentation has.
func TestEveryOperationCanBeCalled(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.grpc()
	call := func(operation string, parameters map[string]string, body string) (string, error) {
		r, err := c.Call(t.Context(), connect.NewRequest(&pandov1.CallRequest{Operation: operation, Parameters: parameters, Body: []byte(body)}))
		if err != nil {
			return "", api.RPCError(err)
		}
		return string(r.Msg.GetBody()), nil
	}
	if got, err := call("POST /schema", nil, `type Book { title: String }`); err != nil || !strings.Contains(got, `"Name":"Book"`) {
		t.Errorf("a schema: got %s, %v", got, err)
	}
	if got, err := call("GET /collections", map[string]string{"name": "Book"}, ""); err != nil || strings.Count(got, `"CollectionID"`) != 1 {
		t.Errorf("one collection: got %s, %v", got, err)
	}
	if got, err := call("POST /collections/{name}/indexes", map[string]string{"name": "Book", "wait": "true"}, `{"Fields": [{"Name": "title"}]}`); err != nil || !strings.Contains(got, `"Ready":true`) {
		t.Errorf("an index: got %s, %v", got, err)
	}
	for _, wrong := range []struct {
		operation  string
		parameters map[string]string
		body       string
		want       error
	}{
		{"GET /nothing", nil, "", fault.NotFound},
		{"GET /../../health", nil, "", fault.NotFound},
		{"GET", nil, "", fault.Invalid},
		{"GET /collections?name=Book", nil, "", fault.Invalid},
		{"GET /collections/{name}/indexes", nil, "", fault.Invalid},
		{"GET /collections", map[string]string{"nane": "Book"}, "", fault.Invalid},
		{"DELETE /collections/{name}/indexes/{index}", map[string]string{"name": "Book", "index": "../../../tx/1"}, "", fault.NotFound},
		{"POST /schema", nil, "type", fault.Invalid},
		{"GET /p2p/info", nil, "", fault.Unavailable},
		{"GET /graphql", map[string]string{"query": "subscription { User { name } }"}, "", fault.Invalid},
		{"GET /graphql", map[string]string{"query": "mutation { create_User(input: {}) { name } }"}, "", fault.Denied},
	} {
		if got, err := call(wrong.operation, wrong.parameters, wrong.body); !errors.Is(err, wrong.want) {
			t.Errorf("%s %v: got %q, %v; want %v", wrong.operation, wrong.parameters, got, err, wrong.want)
		}
	}
}

func TestAStreamComesInBatches(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const n = 5000
	err := s.db.Update(t.Context(), func(tx *pando.Tx) error {
		users, err := tx.Collection("User")
		for i := 0; i < n && err == nil; i++ {
			_, err = users.Create(map[string]any{"name": fmt.Sprint("user ", i), "age": i})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := s.grpc().Follow(t.Context(), connect.NewRequest(&pandov1.FollowRequest{Operation: "GET /export/{collection}", Parameters: map[string]string{"collection": "User"}}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var got bytes.Buffer
	messages := 0
	for stream.Receive() {
		messages++
		if len(stream.Msg().GetPiece()) > 64<<10 {
			t.Errorf("a piece of %d bytes, want at most 64 KiB", len(stream.Msg().GetPiece()))
		}
		got.Write(stream.Msg().GetPiece())
	}
	if err := stream.Err(); err != nil || bytes.Count(got.Bytes(), []byte("\n")) != n {
		t.Errorf("got %d documents, %v; want %d", bytes.Count(got.Bytes(), []byte("\n")), err, n)
	}
	if messages > 100 {
		t.Errorf("%d messages for %d bytes", messages, got.Len())
	}
}

// Subscribe follows, and does nothing else.
func TestSubscribeRunsNoMutation(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.grpc()
	for query, want := range map[string]error{
		`mutation { create_User(input: {name: "Eve"}) { name } }`: fault.Denied,
		`{ User { name } }`:    fault.Invalid,
		`subscription { No }`:  fault.Invalid,
		`subscription {`:       fault.Invalid,
		`query @live { User }`: fault.Invalid,
	} {
		stream, err := c.Subscribe(t.Context(), connect.NewRequest(&pandov1.SubscribeRequest{Query: query}))
		if err != nil {
			t.Fatal(err)
		}
		if stream.Receive() || !errors.Is(api.RPCError(stream.Err()), want) {
			t.Errorf("%s: got %v, %v; want %v", query, stream.Msg(), stream.Err(), want)
		}
		stream.Close()
	}
	if got := execute(t, c, `{ User { name } }`); got != `{"data":{"User":[]}}` {
		t.Errorf("got %s, want nobody", got)
	}
}

// What keeps pages of others away from the HTTP API keeps them away from here.
func TestPagesOfOthersCallNothing(t *testing.T) {
	t.Parallel()
	s := serve(t)
	body := `{"query": "mutation { create_User(input: {name: \"Eve\"}) { name } }"}`
	for _, attack := range []struct {
		name   string
		header map[string]string
		host   string
	}{
		{"another origin", map[string]string{"Origin": "https://evil.example"}, ""},
		{"another site", map[string]string{"Sec-Fetch-Site": "cross-site"}, ""},
		{"another name", nil, "evil.example"},
		{"a form", map[string]string{"Origin": "https://evil.example", "Content-Type": "text/plain"}, ""},
	} {
		for _, kind := range []string{"application/json", "application/proto", "application/grpc-web+json", "application/connect+json"} {
			r, err := http.NewRequest(http.MethodPost, s.url+"/pando.v1.Pando/Execute", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", kind)
			for k, v := range attack.header {
				r.Header.Set(k, v)
			}
			if attack.host != "" {
				r.Host = attack.host
			}
			resp, err := s.h1.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			refused := resp.StatusCode == http.StatusForbidden || resp.Header.Get("Grpc-Status") == "7" || bytes.Contains(got, []byte("permission_denied"))
			if !refused {
				t.Errorf("%s, %s: got %d %v %s; want a refusal", attack.name, kind, resp.StatusCode, resp.Header, got)
			}
		}
	}
	// What a link can do: nothing.
	resp, err := s.h1.Get(s.url + `/pando.v1.Pando/Execute?connect=v1&encoding=json&message={"query":"mutation{create_User(input:{}){name}}"}`)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: got %d, want 405", resp.StatusCode)
	}
	if got := execute(t, s.grpc(), `{ User { name } }`); got != `{"data":{"User":[]}}` {
		t.Errorf("got %s, want nobody", got)
	}
}

func TestLargeMessagesAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t)
	large := strings.Repeat("x", 17<<20)
	for name, c := range map[string]pandov1connect.PandoClient{"gRPC": s.grpc(), "Connect": pandov1connect.NewPandoClient(s.h1, s.url, connect.WithProtoJSON())} {
		_, err := c.Execute(t.Context(), connect.NewRequest(&pandov1.ExecuteRequest{Query: large}))
		if connect.CodeOf(err) != connect.CodeResourceExhausted || !errors.Is(api.RPCError(err), fault.TooLarge) {
			t.Errorf("%s: a message of 17 MiB: got %v, want TooLarge", name, err)
		}
		stream, err := c.Subscribe(t.Context(), connect.NewRequest(&pandov1.SubscribeRequest{Query: large[:2<<20]}))
		if err == nil {
			stream.Receive()
			err = stream.Err()
			stream.Close()
		}
		if !errors.Is(api.RPCError(err), fault.TooLarge) {
			t.Errorf("%s: a subscription of 2 MiB: got %v, want TooLarge", name, err)
		}
	}
	// What is packed is refused: a little of it could be very much.
	packed := pandov1connect.NewPandoClient(s.h2, s.url, connect.WithGRPC(), connect.WithSendGzip())
	if _, err := packed.Execute(t.Context(), connect.NewRequest(&pandov1.ExecuteRequest{Query: large})); connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("a packed message: got %v, want unimplemented", err)
	}
	if got := execute(t, s.grpc(), `{ User { name } }`); got != `{"data":{"User":[]}}` {
		t.Errorf("after that: got %s", got)
	}
}

// Several large calls at once wait for each other, and none waits for itself.
func TestLargeCallsTakeTurns(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.grpc()
	large := fmt.Sprintf(`mutation { create_User(input: {name: "%s"}) { name } }`, strings.Repeat("x", 2<<20))
	errs := make(chan error, 12)
	for range cap(errs) {
		go func() {
			_, err := c.Execute(t.Context(), connect.NewRequest(&pandov1.ExecuteRequest{Query: large}))
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil && !errors.Is(api.RPCError(err), fault.TooLarge) {
			t.Errorf("got %v, want TooLarge of the commit", err)
		}
	}
}

func TestShutdownEndsCalls(t *testing.T) {
	t.Parallel()
	s := serve(t)
	stream, err := s.grpc().Subscribe(t.Context(), connect.NewRequest(&pandov1.SubscribeRequest{Query: `subscription { User { name } }`}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if err := s.server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeUnavailable {
		t.Errorf("got %v, %v; want that the node is not available any more", stream.Msg(), stream.Err())
	}
}
