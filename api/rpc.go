package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/pandodb/pando/api/pandov1"
	"github.com/pandodb/pando/api/pandov1/pandov1connect"
	"github.com/pandodb/pando/internal/fault"
)

// rpc answers gRPC, gRPC-Web and Connect. It knows no operation of its own: each method
// is the request of the HTTP API that it stands for, made here and carried out by the
// same handlers. So what the one wire refuses, limits or logs, the other does.
type rpc struct {
	s       *Server
	inner   http.Handler // the HTTP API, without its guard: the call has passed that
	service http.Handler
	errors  *connect.ErrorWriter
}

// rpcPath is what the paths of the methods begin with.
const rpcPath = "/" + pandov1connect.PandoName + "/"

func newRPC(s *Server, inner http.Handler) *rpc {
	p := &rpc{s: s, inner: inner}
	// Without compression: a small message could unpack to a large one.
	plain := connect.WithCompression("gzip", nil, nil)
	_, p.service = pandov1connect.NewPandoHandler(p, plain, connect.WithConditionalHandlerOptions(func(m connect.Spec) []connect.HandlerOption {
		if m.StreamType == connect.StreamTypeUnary {
			return []connect.HandlerOption{connect.WithReadMaxBytes(maxBody)}
		}
		return []connect.HandlerOption{connect.WithReadMaxBytes(maxMessage)}
	}))
	p.errors = connect.NewErrorWriter(plain)
	return p
}

// isRPC reports whether a request is a call of a method.
func isRPC(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, rpcPath) }

// rpcCode returns the code of a call that fails with err.
func rpcCode(err error) connect.Code {
	if StatusCode(err) == http.StatusUnauthorized {
		return connect.CodeUnauthenticated
	}
	return outcomeOf(err).rpc
}

// rpcError is err as a call reports it; graphql is the answer of a GraphQL request that
// is wrong, "" for others.
func rpcError(err error, graphql string) *connect.Error {
	e := connect.NewError(rpcCode(err), errors.New(err.Error()))
	p := problemOf(err)
	if d, err := connect.NewErrorDetail(&pandov1.Failure{Code: p.Code, Reason: string(p.Reason), Graphql: graphql}); err == nil {
		e.AddDetail(d)
	}
	return e
}

// RPCError gives back the failure that a call of the generated client ended with, so
// that errors.Is finds its kind as at the node.
func RPCError(err error) error {
	var e *connect.Error
	if !errors.As(err, &e) {
		return err
	}
	if !connect.IsWireError(err) { // it happened here
		switch {
		case fault.Of(err) != nil:
			return err
		case e.Code() == connect.CodeResourceExhausted:
			return fault.TooLarge.Errorf("%s: ask for less, by limit with offset or a cursor, or use Follow; connect.WithReadMaxBytes and Client.LimitAnswers raise the bound", e.Message())
		}
	}
	for _, d := range e.Details() {
		v, err := d.Value()
		if f, ok := v.(*pandov1.Failure); ok && err == nil {
			return problem{Error: e.Message(), Code: f.GetCode(), Reason: reason(f.GetReason())}.err()
		}
	}
	for _, o := range outcomes {
		if o.rpc == e.Code() {
			return o.kind.Errorf("%s", e.Message())
		}
	}
	return err
}

// The methods.

func (p *rpc) Execute(ctx context.Context, r *connect.Request[pandov1.ExecuteRequest]) (*connect.Response[pandov1.ExecuteResponse], error) {
	m := r.Msg
	body, err := requestBody(Request{Query: m.GetQuery(), Variables: json.RawMessage(m.GetVariables()), OperationName: m.GetOperationName(), Explain: m.GetExplain()})
	if err != nil {
		return nil, rpcError(err, "")
	}
	answer, err := p.call(ctx, operationRequest{method: http.MethodPost, path: "/graphql", body: body, tx: m.GetTransaction()})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pandov1.ExecuteResponse{Json: strings.TrimSuffix(string(answer), "\n")}), nil
}

func requestBody(r Request) ([]byte, error) {
	if len(r.Variables) == 0 {
		r.Variables = nil
	} else if !json.Valid(r.Variables) {
		return nil, fault.Invalid.Errorf("variables are no JSON")
	}
	return json.Marshal(r)
}

func (p *rpc) Begin(ctx context.Context, r *connect.Request[pandov1.BeginRequest]) (*connect.Response[pandov1.BeginResponse], error) {
	query := url.Values{}
	if r.Msg.GetReadOnly() {
		query.Set("read_only", "true")
	}
	answer, err := p.call(ctx, operationRequest{method: http.MethodPost, path: "/tx", query: query})
	if err != nil {
		return nil, err
	}
	var tx TxID
	if err := json.Unmarshal(answer, &tx); err != nil {
		return nil, rpcError(err, "")
	}
	return connect.NewResponse(&pandov1.BeginResponse{Transaction: tx.ID}), nil
}

func (p *rpc) Commit(ctx context.Context, r *connect.Request[pandov1.CommitRequest]) (*connect.Response[pandov1.CommitResponse], error) {
	_, err := p.call(ctx, operationRequest{method: http.MethodPost, path: txPath(r.Msg.GetTransaction())})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pandov1.CommitResponse{}), nil
}

func (p *rpc) Discard(ctx context.Context, r *connect.Request[pandov1.DiscardRequest]) (*connect.Response[pandov1.DiscardResponse], error) {
	_, err := p.call(ctx, operationRequest{method: http.MethodDelete, path: txPath(r.Msg.GetTransaction())})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pandov1.DiscardResponse{}), nil
}

func txPath(id uint64) string { return "/tx/" + strconv.FormatUint(id, 10) }

func (p *rpc) Call(ctx context.Context, r *connect.Request[pandov1.CallRequest]) (*connect.Response[pandov1.CallResponse], error) {
	m := r.Msg
	o, err := operationOf(m.GetOperation(), m.GetParameters(), m.GetBody())
	if err != nil {
		return nil, rpcError(err, "")
	}
	answer, err := p.call(ctx, o)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pandov1.CallResponse{Body: answer}), nil
}

func (p *rpc) Follow(ctx context.Context, r *connect.Request[pandov1.FollowRequest], stream *connect.ServerStream[pandov1.FollowResponse]) error {
	m := r.Msg
	o, err := operationOf(m.GetOperation(), m.GetParameters(), m.GetBody())
	if err != nil {
		return rpcError(err, "")
	}
	return p.follow(ctx, o, rpcBatch, func(piece []byte) error {
		return stream.Send(&pandov1.FollowResponse{Piece: piece})
	})
}

// Subscribe asks as a GET does, which runs no mutation.
func (p *rpc) Subscribe(ctx context.Context, r *connect.Request[pandov1.SubscribeRequest], stream *connect.ServerStream[pandov1.SubscribeResponse]) error {
	m := r.Msg
	query := url.Values{"query": {m.GetQuery()}}
	for name, text := range map[string]string{"variables": m.GetVariables(), "operationName": m.GetOperationName(), "after": m.GetAfter()} {
		if text != "" {
			query.Set(name, text)
		}
	}
	o := operationRequest{method: http.MethodGet, path: "/graphql", query: query, events: true}
	return p.follow(ctx, o, 0, func(raw []byte) error {
		events, failed := readEvents(raw)
		if len(events) > 0 {
			if err := stream.Send(&pandov1.SubscribeResponse{Events: events}); err != nil {
				return err
			}
		}
		if failed != nil {
			return rpcError(failed, "")
		}
		return nil
	})
}

// readEvents reads events as they are sent over HTTP, up to one that ends the stream by
// a failure.
func readEvents(raw []byte) (events []*pandov1.Event, failed error) {
	for block := range strings.SplitSeq(string(raw), "\n\n") {
		if block == "" {
			continue
		}
		e := &pandov1.Event{}
		for line := range strings.SplitSeq(block, "\n") {
			if text, ok := strings.CutPrefix(line, "id: "); ok {
				e.Cursor = text
			} else if text, ok := strings.CutPrefix(line, "data: "); ok {
				e.Json = text
			}
		}
		if err := failureIn([]byte(e.Json)); err != nil {
			return events, err
		}
		events = append(events, e)
	}
	return events, nil
}

// operationRequest is the request of the HTTP API that a call stands for.
type operationRequest struct {
	method, path string // below Base, escaped
	query        url.Values
	body         []byte
	tx           uint64
	events       bool // only a stream of events is an answer
}

// operationOf reads the name of an operation as docs/http.md writes it, and puts the
// parameters in their places.
func operationOf(name string, parameters map[string]string, body []byte) (operationRequest, error) {
	method, path, ok := strings.Cut(name, " ")
	o := operationRequest{method: method, query: url.Values{}, body: body}
	if !ok || !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#% ") {
		return o, fault.Invalid.Errorf("operation %q: want a method and a path below %s, such as \"GET /collections\"", name, Base)
	}
	for part, value := range parameters {
		if hole := "{" + part + "}"; strings.Contains(path, hole) {
			path = strings.ReplaceAll(path, hole, url.PathEscape(value))
		} else {
			o.query.Set(part, value)
		}
	}
	if strings.ContainsAny(path, "{}") {
		return o, fault.Invalid.Errorf("operation %q: the parameters lack a part of its path", name)
	}
	o.path = path
	return o, nil
}

// request makes the request that an operation is, of whom the call comes from.
func (o operationRequest) request(ctx context.Context, c *rpcCall) (*http.Request, error) {
	target := Base + o.path
	if len(o.query) > 0 {
		target += "?" + o.query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, o.method, target, strings.NewReader(string(o.body)))
	if err != nil {
		return nil, fault.Invalid.Errorf("operation %s %s: %w", o.method, o.path, err)
	}
	r.Header = c.r.Header.Clone()
	for name := range r.Header {
		if ofBody(name) {
			delete(r.Header, name)
		}
	}
	if o.tx != 0 {
		r.Header.Add(headerTx, strconv.FormatUint(o.tx, 10))
	}
	r.Host, r.RemoteAddr = c.r.Host, c.r.RemoteAddr
	return r, nil
}

// ofBody reports whether a header is about the message that brought a call, or how it is
// to be answered, and not about who calls.
func ofBody(name string) bool {
	for _, prefix := range []string{"Content-", "Accept", "Grpc-", "Connect-", "Connection", "Sec-Websocket-", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "If-", "Range", "Expect", http.CanonicalHeaderKey(headerLastEvent)} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// call carries an operation out whose answer comes at once.
func (p *rpc) call(ctx context.Context, o operationRequest) ([]byte, error) {
	c := callOf(ctx)
	c.arrived()
	r, err := o.request(ctx, c)
	if err != nil {
		return nil, rpcError(err, "")
	}
	w := &collected{}
	if err := p.run(w, r); err != nil && w.over == nil {
		return nil, rpcError(err, "")
	}
	if err := w.failure(); err != nil {
		return nil, err
	}
	c.patient(len(w.body))
	return w.body, nil
}

// follow carries an operation out whose answer is sent while it comes about, in pieces of
// that size, or of whatever there is.
func (p *rpc) follow(ctx context.Context, o operationRequest, size int, send func([]byte) error) error {
	c := callOf(ctx)
	c.arrived()
	r, err := o.request(ctx, c)
	if err != nil {
		return rpcError(err, "")
	}
	w := newPiped(o.events)
	var sent error
	done := make(chan struct{})
	go func() { // ends when the operation has ended, and what it wrote is sent
		defer close(done)
		sent = w.drain(size, func(piece []byte) error {
			c.deadline(stallTimeout)
			defer c.deadline(0)
			return send(piece)
		})
	}()
	defer func() { w.end(); <-done }() // also when the handler panics
	err = p.run(w, r)
	w.end()
	<-done
	switch {
	case sent != nil:
		return sent
	case err != nil:
		return rpcError(err, "")
	}
	if err := w.failure(); err != nil {
		return err
	}
	if p.s.closing.Load() {
		return rpcError(fault.Closed.Errorf("the node is closing"), "")
	}
	return nil
}

// run lets the HTTP API answer. What it breaks off is an error.
func (p *rpc) run(w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		if cut := recover(); cut == http.ErrAbortHandler {
			err = fault.Unavailable.Errorf("the node broke off in the middle of its answer, which is not whole: its log says why")
		} else if cut != nil {
			panic(cut)
		}
	}()
	p.inner.ServeHTTP(w, r)
	return nil
}

// rpcCall is a call under way, with the request that brought it.
type rpcCall struct {
	r       *http.Request
	control *http.ResponseController
	release func() // gives back the place that reading takes
	large   bool   // it holds a place for a large body
}

type rpcCallKey struct{}

func callOf(ctx context.Context) *rpcCall { return ctx.Value(rpcCallKey{}).(*rpcCall) }

// holdsLarge reports whether a request is made by a call that holds a place for a large
// body already: to wait for another would be to wait for itself.
func holdsLarge(ctx context.Context) bool {
	c, ok := ctx.Value(rpcCallKey{}).(*rpcCall)
	return ok && c.large
}

// arrived is to be called when the message is here: the operation itself takes a place
// of its kind.
func (c *rpcCall) arrived() {
	_ = c.control.SetReadDeadline(time.Time{}) // a recorder of a test has none
	c.release()
}

// patient gives the client as much time to read an answer as it has over HTTP.
func (c *rpcCall) patient(n int) { c.deadline(patience(n)) }

// deadline bounds what is written next; 0 takes the bound away: HTTP/2 ends a stream
// that is idle, too.
func (c *rpcCall) deadline(d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = c.control.SetWriteDeadline(at)
}
