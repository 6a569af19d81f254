package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pandodb/pando/api/pandov1"
	"github.com/pandodb/pando/internal/fault"
)

const (
	// maxAnswer bounds an answer that is one message. It is held several times while it is
	// packed and sent.
	maxAnswer = 16 << 20
	// rpcBatch is how much of a stream makes one message: each costs a tenth of a millisecond,
	// so that many small ones would take far longer than what they say.
	rpcBatch = 64 << 10
)

// serve takes a call: as long as its message comes in it has a place among the requests, and a
// large one in turn, as over HTTP.
func (p *rpc) serve(w http.ResponseWriter, r *http.Request) {
	s := p.s
	if name := strings.TrimPrefix(r.URL.Path, rpcPath); methods.ByName(protoreflect.Name(name)) == nil {
		p.refuseUnknown(w, r, name)
		return
	}
	slots := s.requestsOf(requesterOf(r.Context()))
	select {
	case slots <- struct{}{}:
	default:
		s.fail(w, r, busy("%d requests of this sort are running: retry in a moment", cap(slots)))
		return
	}
	if slots == s.strangerSlots {
		r.Body = http.MaxBytesReader(w, r.Body, largeBody)
	}
	c := &rpcCall{r: r, control: http.NewResponseController(w)}
	c.release = sync.OnceFunc(func() { <-slots })
	defer c.release()
	defer func() {
		if c.large {
			<-s.largeSlots
		}
	}()
	_ = c.control.SetReadDeadline(time.Now().Add(bodyTimeout))
	ctx := context.WithValue(r.Context(), rpcCallKey{}, c)
	r = r.WithContext(ctx)
	r.Body = &countedBody{ReadCloser: r.Body, s: s, c: c, ctx: ctx}
	p.service.ServeHTTP(flushed{w}, r)
}

// methods are those of the service.
var methods = pandov1.File_pando_proto.Services().ByName("Pando").Methods()

// refuseUnknown answers a call of a method that there is not, in the protocol that it came by.
func (p *rpc) refuseUnknown(w http.ResponseWriter, r *http.Request, name string) {
	err := fault.NotFound.Errorf("the service has no method %.64q: api/pandov1/pando.proto has them", name)
	if !p.errors.IsSupported(r) {
		p.s.fail(w, r, err)
		return
	}
	_ = p.errors.Write(w, r, connect.NewError(connect.CodeUnimplemented, err)) // the client has gone; there is nobody to tell
}

// countedBody takes a place for a large body when it turns out to be one: HTTP/2 does not
// say before.
type countedBody struct {
	io.ReadCloser
	s   *Server
	c   *rpcCall
	ctx context.Context
	n   int
}

func (b *countedBody) Read(p []byte) (int, error) {
	if b.n > largeBody && !b.c.large {
		select {
		case b.s.largeSlots <- struct{}{}:
			b.c.large = true
			_ = b.c.control.SetReadDeadline(time.Now().Add(bodyTimeout)) // it was not the client that took its time
		case <-b.ctx.Done():
			return 0, context.Cause(b.ctx)
		}
	}
	n, err := b.ReadCloser.Read(p)
	b.n += n
	return n, err
}

// flushed says that a writer can flush, which is known of what it wraps.
type flushed struct{ http.ResponseWriter }

func (f flushed) Flush()                      { _ = http.NewResponseController(f.ResponseWriter).Flush() }
func (f flushed) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// collected takes in what an operation answers.
type collected struct {
	header http.Header
	status int
	body   []byte
	over   error // it is too much, or no end is to be expected
}

func (c *collected) Header() http.Header {
	if c.header == nil {
		c.header = http.Header{}
	}
	return c.header
}

func (c *collected) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
}

func (c *collected) Write(b []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	switch {
	case strings.HasPrefix(c.header.Get("Content-Type"), typeEventStream):
		c.over = fault.Invalid.Errorf("the operation is answered by a stream of events: use Subscribe or Follow")
	case len(c.body)+len(b) > maxAnswer:
		c.over = fault.TooLarge.Errorf("the answer has more than %d MiB: ask for less, or use Follow", maxAnswer>>20)
	}
	if c.over != nil {
		return 0, c.over
	}
	c.body = append(c.body, b...)
	return len(b), nil
}

func (c *collected) begun() bool { return c.status != 0 }

// The sender has deadlines of its own.

func (c *collected) SetReadDeadline(time.Time) error  { return nil }
func (c *collected) SetWriteDeadline(time.Time) error { return nil }
func (c *collected) Flush()                           {}

// failure is what the answer reports, as the error of a call, or nil.
func (c *collected) failure() error {
	if c.over != nil {
		return rpcError(c.over, "")
	}
	if c.status < 300 {
		return nil
	}
	var wrong Response
	if json.Unmarshal(c.body, &wrong) == nil && len(wrong.Errors) > 0 {
		return rpcError(c.asSent(wrong.Errors[0].Err()), strings.TrimSuffix(string(c.body), "\n"))
	}
	var p problem
	if json.Unmarshal(c.body, &p) == nil && p.Error != "" {
		return rpcError(c.asSent(p.err()), "")
	}
	return rpcError(fault.NotFound.Errorf("there is no such operation"), "") // it would lead elsewhere
}

// asSent is err with what the status says beside it.
func (c *collected) asSent(err error) error {
	if c.status == http.StatusTooManyRequests {
		return &busyError{err}
	}
	return err
}

// piped hands an answer on while it comes about. The operation waits when a batch of it is
// not sent yet.
type piped struct {
	collected      // of a failure
	events    bool // only a stream of events is an answer

	mu    sync.Mutex // guards what follows
	moved *sync.Cond
	buf   []byte
	ended bool
	gone  error // nobody takes any more
}

func newPiped(events bool) *piped {
	w := &piped{events: events}
	w.moved = sync.NewCond(&w.mu)
	return w
}

func (w *piped) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	stream := strings.HasPrefix(w.header.Get("Content-Type"), typeEventStream)
	if w.status >= 300 {
		return w.collected.Write(b)
	}
	if w.events && !stream {
		// A request that fails on the data, or is no subscription.
		if w.over == nil {
			w.over = fault.Invalid.Errorf("the request is no subscription and no live query: use Execute")
		}
		var wrong Response
		if json.Unmarshal(b, &wrong) == nil && len(wrong.Errors) > 0 {
			w.over = wrong.Errors[0].Err()
		}
		return 0, w.over
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buf) >= rpcBatch && w.gone == nil {
		w.moved.Wait()
	}
	if w.gone != nil {
		return 0, w.gone
	}
	w.buf = append(w.buf, b...)
	w.moved.Broadcast()
	return len(b), nil
}

// end says that nothing more comes.
func (w *piped) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.moved.Broadcast()
}

// drain sends what is written until the end, in pieces of at most that size; 0 is
// whatever is there, which ends where a Write did.
func (w *piped) drain(size int, send func([]byte) error) error {
	for {
		piece := w.take(size)
		if piece == nil {
			return nil
		}
		if err := send(piece); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.gone = err
			w.moved.Broadcast()
			return err
		}
	}
}

func (w *piped) take(size int) (piece []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buf) == 0 && !w.ended {
		w.moved.Wait()
	}
	if len(w.buf) == 0 {
		return nil
	}
	if piece = w.buf; size > 0 && len(piece) > size {
		piece = piece[:size:size]
	}
	w.buf = w.buf[len(piece):]
	if len(w.buf) == 0 {
		w.buf = nil
	}
	w.moved.Broadcast()
	return piece
}
