package api_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/api/pandov1"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/p2p"
)

// flooder is somebody who answers in the place of a node, over TCP and over libp2p.
type flooder struct {
	answer atomic.Pointer[http.HandlerFunc]
	tcp    string
	peer   string
}

func flood(t *testing.T) *flooder {
	t.Helper()
	l := &flooder{}
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	node, err := p2p.Start(t.Context(), db, p2p.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*l.answer.Load())(w, r) })}
	served := make(chan error, 2)
	lines := node.Lines(func(ident.PublicKey) bool { return true })
	go func() { served <- server.Serve(listener) }()
	go func() { served <- server.Serve(lines) }()
	t.Cleanup(func() {
		err := server.Close()
		<-served
		<-served
		if err := errors.Join(err, node.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	info := node.Info()
	l.tcp, l.peer = listener.Addr().String(), info.Addrs[0]+"/p2p/"+info.ID
	return l
}

// floods writes a text again and again, until nobody reads.
func floods(header, begin, again string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", header)
		io.WriteString(w, begin)
		block := strings.Repeat(again, 1+4096/len(again))
		for {
			if _, err := io.WriteString(w, block); err != nil {
				return
			}
		}
	}
}

// listed writes a short answer of so small parts that many fit in.
func listed(part string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"peers":[`+strings.Repeat(part+",", 1_000_000/(len(part)+1))+part+`]}`)
	}
}

// wire takes over the connection.
func wire(answer func(io.Writer)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		answer(conn)
	}
}

// A node that lies gets no more out of a client than a bounded piece of its memory: whatever is
// asked, whichever way, and however the answer goes on.
func TestALyingNodeDoesNotFillItsClient(t *testing.T) {
	const (
		limit  = 1 << 20
		memory = 24 << 20 // that one answer may take up altogether: buffers grow by doubling, and objects weigh more than their text
	)
	ask := func(ctx context.Context, c *api.Client) error {
		_, err := c.Query(ctx, api.Request{Query: users})
		return err
	}
	stream := func(ctx context.Context, c *api.Client) error {
		_, err := c.Stream(ctx, api.Request{Query: users}, io.Discard)
		return err
	}
	follow := func(ctx context.Context, c *api.Client) error {
		_, err := c.Follow(ctx, api.Request{Query: "subscription " + users}, "", io.Discard, func(api.Event) error { return nil })
		return err
	}
	status := func(ctx context.Context, c *api.Client) error { _, err := c.Status(ctx); return err }
	execute := func(ctx context.Context, c *api.Client) error {
		_, err := c.RPC().Execute(ctx, connect.NewRequest(&pandov1.ExecuteRequest{Query: users}))
		return api.RPCError(err)
	}
	prepare := func(ctx context.Context, c *api.Client) error {
		_, err := c.RPC().Prepare(ctx, connect.NewRequest(&pandov1.PrepareRequest{Query: users}))
		return api.RPCError(err)
	}
	subscribe := func(ctx context.Context, c *api.Client) error {
		s, err := c.RPC().Subscribe(ctx, connect.NewRequest(&pandov1.SubscribeRequest{Query: "subscription " + users}))
		if err != nil {
			return api.RPCError(err)
		}
		defer s.Close()
		for s.Receive() {
		}
		return api.RPCError(s.Err())
	}
	const js, sse = "application/json", "text/event-stream"
	// envelope begins a message of a stream that is said to have so many bytes.
	envelope := func(n uint32) string { return string(binary.BigEndian.AppendUint32([]byte{0}, n)) }
	l := flood(t)
	for name, c := range map[string]struct {
		ask    func(context.Context, *api.Client) error
		answer http.HandlerFunc
		kind   error
		says   string
	}{
		"an answer without end":                {ask, floods(js, `{"data":{"User":[`, `{"name":"Ada"},`), fault.TooLarge, "more than 1048576 bytes, and was not taken in: ask for less"},
		"an answer of one text":                {ask, floods(js, `{"data":{"User":"`, `x`), fault.TooLarge, "Client.LimitAnswers raises the bound"},
		"errors without end":                   {ask, floods(js, `{"data":null,"errors":[{}`, `,{}`), fault.TooLarge, "more than"},
		"a stream of spaces":                   {stream, floods(js, ` `, ` `), fault.TooLarge, "more than 1048576 bytes"},
		"what follows an answer":               {stream, floods(js, `{"data":{},"errors":[`, `{},`), fault.TooLarge, "follow the data"},
		"an operation":                         {status, floods(js, `{"peer":"`, `x`), fault.TooLarge, "more than 1048576 bytes"},
		"an operation, of small parts":         {status, floods(js, `{"peers":[{}`, `,{}`), fault.TooLarge, "more than 4096 parts"},
		"an operation, of parts left out":      {status, listed(`null`), fault.TooLarge, "more than 4096 parts"},
		"an operation, of parts that are none": {status, listed(` 0`), fault.TooLarge, "more than 4096 parts"},
		"an operation, of texts for parts":     {status, listed(`"\"["`), fault.TooLarge, "more than 4096 parts"},
		"an operation, of lists for parts":     {status, listed(`[]`), fault.TooLarge, "more than 4096 parts"},
		"an operation that grows deep":         {status, floods(js, `{"x":`, `[`), fault.TooLarge, "more than 4096 parts"},
		"a failure without end":                {status, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400); floods(js, `{"error":"`, `x`)(w, r) }, fault.Unavailable, "no reason"},
		"an event without end":                 {follow, floods(sse, `data: {"data":"`, `x`), fault.TooLarge, "an event of the stream has more than 1048576 bytes"},
		"a cursor without end":                 {follow, floods(sse, `id: `, `x`), fault.TooLarge, "an event of the stream"},
		"an event of many errors":              {follow, floods(sse, ``, `data: {"errors":[`+strings.Repeat("{},", 300_000)+"{}]}\n\n"), fault.TooLarge, "more than"},
		"a header without end":                 {status, wire(func(w io.Writer) { goOn(w, "HTTP/1.1 200 OK\r\n", "X-A: "+strings.Repeat("x", 1000)+"\r\n") }), fault.Unavailable, "header"},
		"a line of a header without end":       {status, wire(func(w io.Writer) { goOn(w, "HTTP/1.1 200 OK\r\nX-A: ", "xxxxxxxx") }), fault.Unavailable, "header"},
		"headers ahead of it, without end": {status, wire(func(w io.Writer) {
			goOn(w, "", "HTTP/1.1 103 Early Hints\r\nX-A: "+strings.Repeat("x", 1000)+"\r\n\r\n")
		}), fault.Unavailable, ""},
		"a trailer without end": {status, wire(func(w io.Writer) {
			goOn(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2\r\n{}\r\n0\r\n", "X-A: xxxxxx\r\n")
		}), nil, ""},
		"a chunk that says much of itself": {status, wire(func(w io.Writer) { goOn(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "a=b;") }), fault.Unavailable, ""},
		"a redirect without end": {status, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, fault.Denied, "sends the request elsewhere"},
		"a redirect to nowhere": {status, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(302) }, fault.Unavailable, "no reason"},
		"an import's report": {func(ctx context.Context, c *api.Client) error {
			_, err := c.Import(ctx, "User", strings.NewReader(""), api.ImportOptions{}, nil)
			return err
		}, floods(js, `{"progress":{"x":"`, `x`), fault.TooLarge, "more than 1048576 bytes"},
		"a message": {execute, floods("application/proto", "", "\x0a\x00"), fault.TooLarge, "more than 1048576 bytes"},
		"a message of parts within one": {prepare, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/proto")
			w.Write(binary.AppendUvarint([]byte{0x12}, 1_000_000)) // a draft
			io.WriteString(w, strings.Repeat("\x1a\x00", 500_000)) // its payload
		}, fault.TooLarge, "more than 4096 parts"},
		"a message that says it is large": {subscribe, floods("application/connect+proto", envelope(4<<20), "x"), fault.TooLarge, "use Follow"},
		"a message of small parts":        {subscribe, floods("application/connect+proto", envelope(limit), "\x0a\x00"), fault.TooLarge, "more than 4096 parts"},
		"the end of a stream of messages": {subscribe, floods("application/connect+proto", "\x02"+envelope(4 << 20)[1:], "x"), fault.TooLarge, "use Follow"},
	} {
		for way, address := range map[string]string{"TCP": l.tcp, "libp2p": l.peer} {
			t.Run(name+", over "+way, func(t *testing.T) {
				l.answer.Store(&c.answer)
				node, err := api.NewClient(address)
				if err != nil {
					t.Fatal(err)
				}
				defer node.Close()
				node.LimitAnswers(limit)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				before := allocated()
				err = c.ask(ctx, node)
				took := allocated() - before
				if c.kind != nil && !errors.Is(err, c.kind) || err == nil && c.says != "" || err != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %v that says %q", err, c.kind, c.says)
				}
				if ctx.Err() != nil {
					t.Errorf("the client did not stop by itself: %v", err)
				}
				if took > memory {
					t.Errorf("the client took %d MiB, want at most %d", took>>20, memory>>20)
				}
			})
		}
	}
}

func goOn(w io.Writer, begin, again string) {
	io.WriteString(w, begin)
	for block := bytes.Repeat([]byte(again), 1+4096/len(again)); ; {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// allocated returns how many bytes were allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// Who expects more may have it.
func TestTheBoundOfAnswersCanBeRaised(t *testing.T) {
	t.Parallel()
	l := flood(t)
	var answer http.HandlerFunc = func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"data":{"User":[{"name":%q}]}}`, strings.Repeat("x", api.AnswerLimit))
	}
	l.answer.Store(&answer)
	c, err := api.NewClient(l.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Query(t.Context(), api.Request{Query: users}); !errors.Is(err, fault.TooLarge) {
		t.Errorf("got %v, want that it is too large", err)
	}
	c.LimitAnswers(2 * api.AnswerLimit)
	if r, err := c.Query(t.Context(), api.Request{Query: users}); err != nil || len(r.Data) < api.AnswerLimit {
		t.Errorf("got %v, want the answer", err)
	}
}
