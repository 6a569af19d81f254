package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

const namesOfUsers = `{"query": "subscription { User { name } }"}`

// stream is a client of Server-Sent Events.
type stream struct {
	t      *testing.T
	status int
	header http.Header
	in     *bufio.Reader
}

func (w *wires) stream(t *testing.T, method, path, body string, header ...string) *stream {
	t.Helper()
	c := w.dial()
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n", method, path, len(body))
	for i := 0; i < len(header); i += 2 {
		fmt.Fprintf(c, "%s: %s\r\n", header[i], header[i+1])
	}
	fmt.Fprintf(c, "\r\n%s", body)
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &stream{t, resp.StatusCode, resp.Header, bufio.NewReader(resp.Body)}
}

// next returns the lines of the next block.
func (s *stream) next() []string {
	s.t.Helper()
	var lines []string
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			s.t.Fatalf("after %q: %v", lines, err)
		}
		if line == "\n" {
			return lines
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
}

func TestSubscriptionIsServedAsEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		e := w.stream(t, "POST", "/api/v0/graphql", namesOfUsers)
		if e.status != http.StatusOK || e.header.Get("Content-Type") != "text/event-stream" || e.header.Get("Cache-Control") != "no-cache" {
			t.Fatalf("answer %d %v", e.status, e.header)
		}
		e.next() // it is open
		createUser(t, s.db, "ada")
		got := e.next()
		if len(got) != 2 || !strings.HasPrefix(got[0], "id: ") || got[1] != `data: {"data":{"User":[{"name":"ada"}]}}` {
			t.Errorf("event %q", got)
		}
		createUser(t, s.db, "bo")
		again := w.stream(t, "GET", "/api/v0/graphql?query=subscription+%7B+User+%7B+name+%7D+%7D", "", "Last-Event-ID", strings.TrimPrefix(got[0], "id: "))
		again.next()
		if got := again.next(); got[1] != `data: {"data":{"User":[{"name":"bo"}]}}` {
			t.Errorf("after coming back: %q", got)
		}
		if len(s.requestSlots) != 0 || len(s.eventSlots) != 2 {
			t.Errorf("two streams take %d places of requests and %d of streams", len(s.requestSlots), len(s.eventSlots))
		}
	})
}

func TestIdleStreamBeats(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		e := w.stream(t, "POST", "/api/v0/graphql", namesOfUsers)
		e.next()
		begun := time.Now()
		got := e.next()
		if len(got) != 2 || !strings.HasPrefix(got[0], "id: ") || got[1] != ":" || time.Since(begun) != heartbeat {
			t.Errorf("after %v: %q", time.Since(begun), got)
		}
	})
}

func TestWrongSubscriptionIsAnOrdinaryFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		for _, c := range []struct {
			body, want string
			status     int
			header     []string
		}{
			{`{"query": "subscription { User { nothing } }"}`, "Cannot query field", 400, nil},
			{namesOfUsers, "is not one of this database", 400, []string{"Last-Event-ID", "17"}},
			{namesOfUsers, "subscriptions and live queries do not run in a transaction", 400, []string{"X-Pando-Tx", "17"}},
			{`{"query": "query @live { User { name } }"}`, "do not run in a transaction", 400, []string{"X-Defradb-Tx", "17"}},
			{namesOfUsers, "cross-origin", 403, []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}},
		} {
			e := w.stream(t, "POST", "/api/v0/graphql", c.body, c.header...)
			body, _ := e.in.ReadString('\n')
			if e.status != c.status || !strings.Contains(body, c.want) {
				t.Errorf("%s %v: %d %s, want %d with %q", c.body, c.header, e.status, body, c.status, c.want)
			}
		}
		e := w.stream(t, "GET", "/api/v0/graphql?query=subscription+%7B+User+%7B+name+%7D+%7D", "", "Sec-Fetch-Site", "cross-site", "Origin", "http://evil.example")
		if e.status != 403 {
			t.Errorf("a GET from a foreign page: %d", e.status)
		}
	})
}

func TestShutdownEndsStreams(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		e := w.stream(t, "POST", "/api/v0/graphql", namesOfUsers)
		e.next()
		k := w.socket(t)
		k.send(`{"id":"1","type":"subscribe","payload":` + namesOfUsers + `}`)
		k.send(`{"type":"ping"}`) // it has been read
		k.hears(`{"type":"pong"}`)
		ended := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			ended <- s.Shutdown(ctx)
		}()
		if _, err := e.in.ReadString('\n'); err == nil {
			t.Error("the stream goes on")
		}
		if _, _, err := k.Read(context.Background()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("the socket ends with %v", err)
		}
		begun := time.Now()
		if err := <-ended; err != nil || time.Since(begun) > time.Second {
			t.Errorf("the shutdown took %v: %v", time.Since(begun), err)
		}
		if len(s.eventSlots) != 0 {
			t.Errorf("%d streams are left", len(s.eventSlots))
		}
	})
}

// talker is a client of a WebSocket.
type talker struct {
	*websocket.Conn
	t *testing.T
}

// connect opens a WebSocket and says nothing.
func (w *wires) connect(t *testing.T, header ...string) (*talker, *http.Response, error) {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	conn, resp, err := websocket.Dial(context.Background(), "ws://localhost/api/v0/graphql", &websocket.DialOptions{
		Host:         h.Get("Host"),
		Subprotocols: []string{"graphql-transport-ws"},
		HTTPHeader:   h,
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return w.dial().Conn, nil
		}}},
	})
	if err == nil {
		t.Cleanup(func() { _ = conn.CloseNow() })
	}
	return &talker{conn, t}, resp, err
}

// socket is a WebSocket that is ready for operations.
func (w *wires) socket(t *testing.T) *talker {
	t.Helper()
	k, _, err := w.connect(t)
	if err != nil {
		t.Fatal(err)
	}
	k.send(`{"type":"connection_init"}`)
	k.hears(`{"type":"connection_ack"}`)
	return k
}

func (k *talker) send(text string) {
	k.t.Helper()
	if err := k.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		k.t.Fatal(err)
	}
}

func (k *talker) next() string {
	k.t.Helper()
	_, raw, err := k.Read(context.Background())
	if err != nil {
		k.t.Fatal(err)
	}
	return string(raw)
}

// hears checks the next message but for its cursor.
func (k *talker) hears(want string) (cursor pando.Cursor) {
	k.t.Helper()
	got := k.next()
	before, rest, ok := strings.Cut(got, `,"extensions":{"cursor":"`)
	if ok {
		text, end, _ := strings.Cut(rest, `"}`)
		cursor, got = pando.Cursor(text), before+end
	}
	if got != want {
		k.t.Errorf("got %s, want %s", got, want)
	}
	return cursor
}

func (k *talker) isClosed(want websocket.StatusCode) {
	k.t.Helper()
	for {
		if _, _, err := k.Read(context.Background()); err != nil {
			if got := websocket.CloseStatus(err); got != want {
				k.t.Errorf("closed with %d (%v), want %d", got, err, want)
			}
			return
		}
	}
}

func TestSubscriptionOverAWebSocket(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		k := w.socket(t)
		k.send(`{"id":"1","type":"subscribe","payload":{"query":"subscription($n: String) { User(filter: {name: {_eq: $n}}) { name } }","variables":{"n":"<ada>"}}}`)
		k.send(`{"id":"2","type":"subscribe","payload":{"query":"{ User(filter: {name: {_eq: \"nobody\"}}) { name } }"}}`)
		k.hears(`{"type":"next","id":"2","payload":{"data":{"User":[]}}}`)
		k.hears(`{"type":"complete","id":"2"}`)
		synctest.Wait()
		createUser(t, s.db, "bo")
		createUser(t, s.db, "<ada>")
		cursor := k.hears(`{"type":"next","id":"1","payload":{"data":{"User":[{"name":"<ada>"}]}}}`)
		k.send(`{"id":"1","type":"complete"}`)
		// The same name can be used again at once, and the cursor resumes.
		k.send(fmt.Sprintf(`{"id":"1","type":"subscribe","payload":{"query":"subscription { User { name } }","extensions":{"cursor":%q}}}`, cursor))
		createUser(t, s.db, "cy")
		k.hears(`{"type":"next","id":"1","payload":{"data":{"User":[{"name":"cy"}]}}}`)
		k.send(`{"id":"m","type":"subscribe","payload":{"query":"mutation { create_User(input: {name: \"di\"}) { name } }"}}`)
		seen := map[string]bool{}
		for range 3 {
			var m message
			if err := json.Unmarshal([]byte(k.next()), &m); err != nil {
				t.Fatal(err)
			}
			seen[m.Type+m.ID] = true
		}
		if !seen["next1"] || !seen["nextm"] || !seen["completem"] {
			t.Errorf("after a mutation: %v", seen)
		}
		k.send(`{"id":"3","type":"subscribe","payload":{"query":"subscription { User { nothing } }"}}`)
		if got := k.next(); !strings.HasPrefix(got, `{"type":"error","id":"3","payload":[{"message":"Cannot query field`) {
			t.Errorf("a wrong subscription: %s", got)
		}
	})
}

func TestSocketOfAForeignPageIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		s.hosts = []string{"db.example"} // a name that was made to resolve to the node is not its own
		for _, header := range [][]string{
			{"Origin", "http://evil.example"},
			{"Origin", "null"},
			{"Origin", "http://localhost:1", "Sec-Fetch-Site", "cross-site"},
			{"Origin", "http://localhost.evil.example"},
			{"Host", "evil.example"},
		} {
			if _, resp, err := w.connect(t, header...); err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
				t.Errorf("%v: %v, want it forbidden", header, err)
			}
		}
		for _, header := range [][]string{{"Origin", "http://localhost"}, {"Origin", "http://localhost", "Sec-Fetch-Site", "same-origin"}} {
			if _, _, err := w.connect(t, header...); err != nil {
				t.Errorf("%v: %v, want it let in", header, err)
			}
		}
	})
}

func TestSocketTakesWhatAPostTakes(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		k := w.socket(t)
		k.send(`{"id":"1","type":"subscribe","payload":{"query":"{ __typename }","explian":"simple"}}`)
		if got := k.next(); !strings.HasPrefix(got, `{"type":"error","id":"1"`) || !strings.Contains(got, "explian") {
			t.Errorf("a member that does not exist: %s", got)
		}
		k.send(`{"id":"2","type":"subscribe","payload":{"query":"mutation { create_User(input: {name: \"di\"}) { name } }","explain":"simple","extensions":{"trace":1}}}`)
		if got := k.next(); !strings.Contains(got, "explain") {
			t.Errorf("a mutation that is to be explained: %s", got)
		}
		k.hears(`{"type":"complete","id":"2"}`)
		k.send(`{"id":"3","type":"subscribe","payload":{"query":"{ User(filter: {name: {_eq: \"di\"}}) { name } }"}}`)
		k.hears(`{"type":"next","id":"3","payload":{"data":{"User":[]}}}`)
	})
}

func TestSocketRunsInNoTransaction(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		for _, header := range []string{"X-Pando-Tx", "X-Defradb-Tx"} {
			if _, resp, err := w.connect(t, header, "17"); err == nil || resp == nil || resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %v, want it refused", header, err)
			}
		}
	})
}

func TestSocketThatBreaksTheRulesIsClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		begun := time.Now()
		silent, _, err := w.connect(t)
		if err != nil {
			t.Fatal(err)
		}
		silent.isClosed(closeInitTimeout)
		if waited := time.Since(begun); waited != initTimeout {
			t.Errorf("a client that says nothing is closed after %v", waited)
		}
		hasty, _, err := w.connect(t)
		if err != nil {
			t.Fatal(err)
		}
		hasty.send(`{"id":"1","type":"subscribe","payload":` + namesOfUsers + `}`)
		hasty.isClosed(closeUnauthorized)
		for bad, want := range map[string]websocket.StatusCode{
			`{`:                          closeBadMessage,
			`{"type":"start"}`:           closeBadMessage,
			`{"type":"connection_init"}`: closeManyInits,
			`{"type":"subscribe","payload":` + namesOfUsers + `}`: closeBadMessage,
			`{"type":"subscribe","id":"1","payload":{}}`:          closeBadMessage,
			`{"type":"subscribe","id":"1","payload":"text"}`:      closeBadMessage,
			strings.Repeat(" ", maxMessage+1):                     websocket.StatusMessageTooBig,
		} {
			k := w.socket(t)
			go func() { _ = k.Write(context.Background(), websocket.MessageText, []byte(bad)) }() // it may be cut off
			k.isClosed(want)
		}
		twice := w.socket(t)
		for range 2 {
			twice.send(`{"id":"1","type":"subscribe","payload":` + namesOfUsers + `}`)
		}
		twice.isClosed(closeTwoWithOneID)
		synctest.Wait()
		if len(s.eventSlots) != 0 || s.followed.Load() != 0 {
			t.Errorf("%d connections and %d subscriptions are left", len(s.eventSlots), s.followed.Load())
		}
	})
}

func TestSocketFollowsSoMuchAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		k := w.socket(t)
		for i := range maxFollowed {
			k.send(fmt.Sprintf(`{"id":"%d","type":"subscribe","payload":%s}`, i, namesOfUsers))
		}
		k.send(`{"id":"one too many","type":"subscribe","payload":` + namesOfUsers + `}`)
		if got := k.next(); !strings.Contains(got, `"id":"one too many"`) || !strings.Contains(got, "UNAVAILABLE") {
			t.Errorf("one too many: %s", got)
		}
	})
}

func TestSocketWithoutItsProtocolIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		e := w.stream(t, "GET", "/api/v0/graphql", "", "Connection", "Upgrade", "Upgrade", "websocket",
			"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol", "graphql-ws")
		if body, _ := e.in.ReadString('\n'); e.status != http.StatusBadRequest || !strings.Contains(body, "graphql-transport-ws") {
			t.Errorf("%d %s", e.status, body)
		}
	})
}

func TestClientThatIsGoneLosesItsSocket(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		k := w.socket(t)
		k.send(`{"id":"1","type":"subscribe","payload":` + namesOfUsers + `}`)
		synctest.Wait()
		time.Sleep(heartbeat + 2*stallTimeout) // it reads nothing, so it answers no ping
		synctest.Wait()
		if len(s.eventSlots) != 0 || s.followed.Load() != 0 {
			t.Errorf("%d connections and %d subscriptions are left", len(s.eventSlots), s.followed.Load())
		}
	})
}

func TestClientFollows(t *testing.T) {
	t.Parallel()
	var s Client
	body := "id: a-1\n:\n\nid: a-2\ndata: {\"data\":1}\n\n:\n\nid: a-3\ndata: {\"data\":2}\n\nid: a-4\ndata: {\"errors\":[{\"message\":\"full\",\"extensions\":{\"code\":\"TOO_LARGE\"}}],\"data\":null}\n\n"
	var got []string
	_, err := s.events(t.Context(), strings.NewReader(body), func(e Event) error {
		got = append(got, string(e.Cursor)+string(e.Body))
		return nil
	})
	if fmt.Sprint(got) != `[a-2{"data":1} a-3{"data":2}]` || !errors.Is(err, fault.TooLarge) {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestLiveQueryIsServedAsEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		const request = `{"query": "query @live { User(filter: {name: {_in: [\"ada\", \"bo\"]}}, order: {name: ASC}) { name } }"}`
		e := w.stream(t, "POST", "/api/v0/graphql", request)
		e.next()
		if got := e.next(); got[1] != `data: {"data":{"User":[]},"revision":1}` {
			t.Errorf("first event %q", got)
		}
		k := w.socket(t)
		k.send(`{"id":"1","type":"subscribe","payload":` + request + `}`)
		k.hears(`{"type":"next","id":"1","payload":{"data":{"User":[]},"revision":1}}`)
		createUser(t, s.db, "bo")
		const patch = `{"patch":[{"op":"add","path":"/User/0","value":{"name":"bo"}}],"revision":2}`
		k.hears(`{"type":"next","id":"1","payload":` + patch + `}`)
		got := e.next()
		if got[1] != "data: "+patch {
			t.Errorf("second event %q", got)
		}
		createUser(t, s.db, "cy")
		again := w.stream(t, "POST", "/api/v0/graphql", request, "Last-Event-ID", strings.TrimPrefix(got[0], "id: "))
		again.next()
		if got := again.next(); got[1] != `data: {"data":{"User":[{"name":"bo"}]},"revision":1}` {
			t.Errorf("after coming back: %q", got)
		}
	})
}
