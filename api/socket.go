package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// subprotocol is the protocol of GraphQL over WebSockets that is spoken here.
const subprotocol = "graphql-transport-ws"

// How that protocol closes a connection whose client breaks its rules.
const (
	closeBadMessage   websocket.StatusCode = 4400
	closeUnauthorized websocket.StatusCode = 4401
	closeForbidden    websocket.StatusCode = 4403 // clients come back, with a new token
	closeInitTimeout  websocket.StatusCode = 4408
	closeTwoWithOneID websocket.StatusCode = 4409
	closeManyInits    websocket.StatusCode = 4429
)

// sockets counts WebSockets: net/http forgets a connection that was taken over.
type sockets struct {
	mu     sync.Mutex // guards closed, and open against being waited for while it grows
	closed bool
	open   sync.WaitGroup
}

func (k *sockets) begin() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.open.Add(1)
	}
	return !k.closed
}

// close waits for the sockets, which must have been told to end, until ctx is done.
func (k *sockets) close(ctx context.Context) {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	done := make(chan struct{})
	go func() { k.open.Wait(); close(done) }() // ends with the last socket
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// socket is one WebSocket. The goroutine of its request reads; each operation has one
// of its own, and so have the heartbeat and what is heard in a topic. All end before the
// request does.
type socket struct {
	s       *Server
	conn    *websocket.Conn
	wire    net.Conn // below conn
	ctx     context.Context
	request *http.Request // that asked for it
	unknown func()        // ends that it is not known who the client is

	mu      sync.Mutex // guards running
	running map[string]*running
	work    sync.WaitGroup
}

// running is an operation under way.
type running struct{ end context.CancelFunc }

// message is what travels, in both directions.
type message struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// append appends the message as JSON. The payload may be large, and is JSON already.
func (m message) append(b []byte) []byte {
	b = append(append(append(b, `{"type":"`...), m.Type...), '"')
	if m.ID != "" {
		id, _ := json.Marshal(m.ID) // text always can be
		b = append(append(b, `,"id":`...), id...)
	}
	if m.Payload != nil {
		b = append(append(b, `,"payload":`...), m.Payload...)
	}
	return append(b, '}')
}

// operationMessage is the payload of a subscribe message.
type operationMessage struct {
	Request
	Extensions struct {
		Cursor pando.Cursor `json:"cursor"`
	} `json:"extensions"`
}

// socketOr opens a WebSocket for who asks for one.
func (s *Server) socketOr(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !wantsSocket(r) {
			next(w, r)
			return
		}
		err := foreign(r)
		if err == nil {
			err = plain(r)
		}
		if err == nil && s.strangers.Load() >= maxStrangers {
			err = busy("%d connections have not said yet who they are: retry in a moment", maxStrangers)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.admit(s.eventSlots, func(w http.ResponseWriter, r *http.Request) { s.openSocket(w, r, subprotocol, (*socket).serve) })(w, r)
	}
}

// wantsSocket reports whether a request asks for a WebSocket.
func wantsSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// takeover remembers the connection below a WebSocket.
type takeover struct {
	http.ResponseWriter
	wire net.Conn
}

func (t *takeover) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	wire, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	t.wire = wire
	return wire, rw, err
}

// openSocket takes a WebSocket of a subprotocol, and serves it to its end.
func (s *Server) openSocket(w http.ResponseWriter, r *http.Request, protocol string, serve func(*socket)) {
	if !offers(r, protocol) {
		s.fail(w, r, errProtocol(protocol))
		return
	}
	if !s.sockets.begin() {
		s.fail(w, r, fault.Closed.Errorf("the node is closing"))
		return
	}
	defer s.sockets.open.Done()
	t := &takeover{ResponseWriter: w}
	conn, err := websocket.Accept(t, r, &websocket.AcceptOptions{
		Subprotocols:       []string{protocol},
		InsecureSkipVerify: true, // foreign has looked, as the guard does
	})
	if err != nil {
		return // it was answered
	}
	conn.SetReadLimit(maxMessage)
	ctx, cancel := context.WithCancel(context.WithValue(s.requests, requesterKey{}, requesterOf(r.Context())))
	k := &socket{s: s, conn: conn, wire: t.wire, ctx: ctx, running: map[string]*running{}}
	k.request = r
	s.strangers.Add(1)
	k.unknown = sync.OnceFunc(func() { s.strangers.Add(-1) })
	defer k.unknown()
	defer k.wire.Close()
	stop := context.AfterFunc(s.streams, func() { k.close(websocket.StatusGoingAway, "the node is closing") })
	cut := context.AfterFunc(s.requests, func() { k.wire.Close() })
	serve(k)
	cancel()
	k.work.Wait()
	stop()
	cut()
}

func errProtocol(protocol string) error {
	return fault.Invalid.Errorf("WebSocket: the client does not offer the subprotocol %s, the only one that is spoken here", protocol)
}

func offers(r *http.Request, protocol string) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		if slices.ContainsFunc(strings.Split(line, ","), func(p string) bool { return strings.TrimSpace(p) == protocol }) {
			return true
		}
	}
	return false
}

// close says goodbye. Whoever does not answer in time is cut off.
func (k *socket) close(code websocket.StatusCode, reason string) {
	_ = k.wire.SetDeadline(time.Now().Add(closeTimeout)) // of a connection that may be gone
	_ = k.conn.Close(code, short(reason))
}

// short cuts the reason of a close to what a frame of control holds.
func short(reason string) string {
	const most = 123
	return strings.ToValidUTF8(reason[:min(len(reason), most)], "")
}

// serve reads messages until the connection ends.
func (k *socket) serve() {
	late := time.AfterFunc(initTimeout, func() { k.close(closeInitTimeout, "Connection initialisation timeout") })
	defer late.Stop()
	begun := false
	for {
		var m message
		kind, raw, err := k.conn.Read(k.ctx)
		if err != nil {
			return
		}
		if begun && k.barred() {
			continue
		}
		if kind != websocket.MessageText || json.Unmarshal(raw, &m) != nil {
			k.close(closeBadMessage, "Invalid message: want a JSON object as text")
			return
		}
		if m.Type == "connection_init" {
			if begun || !late.Stop() {
				k.close(closeManyInits, "Too many initialisation requests")
				return
			}
			begun = true
			if err := k.enter(m.Payload); err != nil {
				k.forbid(err)
				return
			}
			k.send(message{Type: "connection_ack"})
			k.work.Go(k.beat)
			continue
		}
		if code, reason := k.handle(m, begun); code != 0 {
			k.close(code, reason)
			return
		}
	}
}

// enter finds out who the client is: by the token that it sends now, else by what its
// request has shown.
func (k *socket) enter(payload json.RawMessage) error {
	shows, err := shown(k.request)
	if err != nil {
		return err
	}
	text, err := tokenIn(payload)
	if err != nil {
		return err
	}
	if text != "" {
		shows.token = text
	}
	who, err := k.s.identify(shows)
	if err == nil {
		err = k.s.authorize(who, data)
	}
	if err != nil {
		return err
	}
	k.ctx = context.WithValue(k.ctx, requesterKey{}, who)
	k.request = k.request.WithContext(context.WithValue(k.request.Context(), requesterKey{}, who))
	k.watch(who)
	return nil
}

// tokenIn returns the token in the payload with which a connection begins, "" if there is
// none: as a browser sends it, which cannot set headers of a WebSocket.
func tokenIn(payload json.RawMessage) (string, error) {
	var says map[string]any
	if json.Unmarshal(payload, &says) != nil {
		return "", nil // clients may begin with whatever they like
	}
	if headers, ok := says["headers"].(map[string]any); ok {
		maps.Copy(says, headers)
	}
	for _, name := range []string{"Authorization", "authorization"} {
		text, ok := says[name].(string)
		if !ok || text == "" {
			continue
		}
		if text = bearer(text); text == "" {
			return "", denied("token-malformed", "Authorization is no token: write Bearer TOKEN")
		}
		return text, nil
	}
	return "", nil
}

// watch ends the connection when the client may not go on.
func (k *socket) watch(who requester) {
	k.unknown()
	k.work.Go(func() {
		if err := k.s.disallowed(k.ctx, who, data); err != nil {
			k.forbid(err)
		}
	})
}

// barred reports whether the client may not go on. It is told so, and has some seconds to say
// goodbye in: what else it says counts for nothing.
func (k *socket) barred() bool {
	who := requesterOf(k.ctx)
	return who.over(time.Now()) || k.s.still(who, data) != nil
}

// forbid ends a connection whose client is not let in, or not any more.
func (k *socket) forbid(err error) {
	k.s.deny(k.request, err, DeniedOperation)
	k.close(closeForbidden, Reason(err)+": "+err.Error())
}

// handle acts on a message. It returns how to close the connection, if it must be.
func (k *socket) handle(m message, begun bool) (websocket.StatusCode, string) {
	switch m.Type {
	case "ping":
		k.send(message{Type: "pong", Payload: m.Payload})
		return 0, ""
	case "pong":
		return 0, ""
	case "complete":
		k.mu.Lock()
		defer k.mu.Unlock()
		if o := k.running[m.ID]; o != nil {
			o.end()
			delete(k.running, m.ID) // the client may use the id again
		}
		return 0, ""
	case "subscribe":
		if !begun {
			return closeUnauthorized, "Unauthorized: send connection_init first"
		}
		return k.subscribe(m)
	}
	return closeBadMessage, "Invalid message: unknown type"
}

func (k *socket) subscribe(m message) (websocket.StatusCode, string) {
	var op operationMessage
	if m.ID == "" || json.Unmarshal(m.Payload, &op) != nil || strings.TrimSpace(op.Query) == "" {
		return closeBadMessage, "Invalid message: subscribe needs an id and a payload with a query"
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running[m.ID] != nil {
		return closeTwoWithOneID, "Subscriber for " + m.ID + " already exists"
	}
	if len(k.running) >= maxFollowed || k.s.followed.Load() >= maxFollowedByAll {
		k.fail(m.ID, busy("%d operations run on this connection, %d on all: complete some, or retry later", len(k.running), k.s.followed.Load()))
		return 0, ""
	}
	if err := readJSON(m.Payload, &Request{}); err != nil { // of which members are there, for the rest was read
		k.fail(m.ID, err)
		return 0, ""
	}
	ctx, cancel := context.WithCancel(k.ctx)
	o := &running{cancel}
	k.running[m.ID] = o
	k.s.followed.Add(1)
	k.work.Go(func() {
		defer k.s.followed.Add(-1)
		end := k.run(ctx, m.ID, op)
		defer cancel()
		k.mu.Lock()
		wanted := k.running[m.ID] == o // else the client has completed it
		if wanted {
			delete(k.running, m.ID) // before the client hears of the end
		}
		k.mu.Unlock()
		if wanted && ctx.Err() == nil {
			k.send(end)
		}
	})
	return 0, ""
}

// run carries out an operation, and returns the message that ends it.
func (k *socket) run(ctx context.Context, id string, op operationMessage) message {
	if bytes.Equal(op.Variables, []byte("null")) {
		op.Variables = nil
	}
	in := pando.Request{Query: op.Query, Variables: op.Variables, OperationName: op.OperationName, Explain: op.Explain}
	db := k.s.as(ctx)
	if !db.Streams(in) {
		return k.exec(ctx, id, in)
	}
	var b []byte
	for e, err := range db.Subscribe(ctx, in, pando.SubscribeOptions{After: op.Extensions.Cursor}) {
		if err != nil {
			return failure(id, pando.FailedResult(err))
		}
		b = e.AppendMessage(b[:0])
		k.send(message{ID: id, Type: "next", Payload: b})
	}
	return message{ID: id, Type: "complete"}
}

// exec runs a query or a mutation.
func (k *socket) exec(ctx context.Context, id string, in pando.Request) message {
	select {
	case k.s.requestSlots <- struct{}{}:
		defer func() { <-k.s.requestSlots }()
	default:
		return failure(id, pando.FailedResult(busy("%d requests are running: retry in a moment", cap(k.s.requestSlots))))
	}
	result := k.s.as(ctx).Exec(ctx, in)
	k.s.denyResult(k.request, result)
	if len(result.Errors) > 0 && result.Stage != pando.StageExecute {
		return failure(id, result)
	}
	k.send(message{ID: id, Type: "next", Payload: result.AppendJSON(nil)})
	return message{ID: id, Type: "complete"}
}

func (k *socket) fail(id string, err error) { k.send(failure(id, pando.FailedResult(err))) }

// failure is the message that ends an operation with its errors.
func failure(id string, result *pando.Result) message {
	return message{ID: id, Type: "error", Payload: result.AppendErrors(nil)}
}

// send writes a message. A client that does not read loses its connection.
func (k *socket) send(m message) {
	raw := m.append(nil)
	ctx, cancel := context.WithTimeout(k.ctx, stallTimeout)
	defer cancel()
	_ = k.conn.Write(ctx, websocket.MessageText, raw) // whoever reads learns that it is gone
}

// beat shows the client, and what is between, that the connection lives, and finds
// out whether the client does.
func (k *socket) beat() {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-k.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(k.ctx, stallTimeout)
		err := k.conn.Ping(ctx)
		cancel()
		if err != nil {
			k.wire.Close()
			return
		}
	}
}
