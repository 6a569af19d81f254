package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// streamGraphQL answers a request that is a transaction by itself. A large answer is
// sent as it comes about; if it breaks off, so does the connection, which is the only
// way left to say so.
func (s *Server) streamGraphQL(w http.ResponseWriter, r *http.Request, in pando.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	out := &answerStream{w: w, control: http.NewResponseController(w), cancel: cancel}
	defer out.close()
	result := s.as(ctx).Stream(ctx, in, out)
	s.denyResult(r, result)
	switch {
	case !out.begun && len(result.Errors) > 0:
		s.answerGraphQL(w, result)
	case !out.begun:
		writeJSON(w, http.StatusOK, append(out.first, '\n'))
	case len(result.Errors) > 0:
		s.log.Warn("an answer broke off", "path", r.URL.Path, "error", result.Err())
		panic(http.ErrAbortHandler)
	default:
		_, _ = out.send([]byte{'\n'}) // the client has gone; there is nobody to tell
	}
}

// answerStream sends an answer of more than one piece. While it does, the database
// keeps the snapshot that the answer is made of, so the client has no more time than
// an explicit transaction has.
type answerStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	cancel  context.CancelCauseFunc
	first   []byte // the first piece, until there is another
	begun   bool
	start   time.Time
	end     *time.Timer
	sent    int
}

func (a *answerStream) Write(p []byte) (int, error) {
	if !a.begun && a.first == nil {
		a.first = append(a.first, p...)
		return len(p), nil
	}
	if !a.begun {
		a.begin()
		if _, err := a.send(a.first); err != nil {
			return 0, err
		}
		a.first = nil
	}
	return a.send(p)
}

func (a *answerStream) begin() {
	a.begun, a.start = true, time.Now()
	a.end = time.AfterFunc(txLifetime, func() {
		a.cancel(fault.Unavailable.Errorf("the answer was not read within %v: ask for less at once, or use the export operation", txLifetime))
	})
	h := a.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
}

// send allows as much time as the answer would have if it were sent at once, and no
// more for one piece than for a small answer: who stops reading gives way to others.
func (a *answerStream) send(p []byte) (int, error) {
	a.sent += len(p)
	end := a.start.Add(min(patience(a.sent), txLifetime))
	if stalled := time.Now().Add(patience(len(p))); stalled.Before(end) {
		end = stalled
	}
	// A recorder of a test has no deadline.
	_ = a.control.SetWriteDeadline(end)
	return a.w.Write(p)
}

func (a *answerStream) close() {
	if a.end != nil {
		a.end.Stop()
	}
}

// patience is how long a client may take to read n bytes. Who does not read must not
// hold a place for ever.
func patience(n int) time.Duration {
	return answerTimeout + time.Duration(n/answerRate)*time.Second
}

// Query runs a GraphQL request. The error says that it could not be run; what the
// node found wrong with it or with the data is in the response.
func (c *Client) Query(ctx context.Context, in Request) (*Response, error) {
	resp, err := c.send(ctx, in, "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), typeEventStream) {
		return nil, fault.Invalid.Errorf("the request is answered by a stream of events: follow it")
	}
	body, err := io.ReadAll(c.bound(resp.Body))
	if err != nil {
		return nil, c.brokenOff(ctx, err)
	}
	return responseOf(resp, body)
}

// Stream is Query for answers of any size: the data goes to w as it arrives, and the
// response comes without it, but with what follows it. After an error w may hold data that is not whole.
func (c *Client) Stream(ctx context.Context, in Request, w io.Writer) (*Response, error) {
	return c.Follow(ctx, in, "", w, func(Event) error {
		return fault.Invalid.Errorf("the request is answered by a stream of events: follow it")
	})
}

// Follow is Stream, also for subscriptions and live queries: each hears of every event
// behind the cursor after, until it returns an error, the context ends, or the node
// ends the stream.
//
// A stream that ends with the token of the client goes on with a new one.
func (c *Client) Follow(ctx context.Context, in Request, after pando.Cursor, w io.Writer, each func(Event) error) (*Response, error) {
	for {
		resp, last, err := c.follow(ctx, in, after, w, each)
		if !c.renews(err) || last == "" {
			return resp, err
		}
		after = last
	}
}

// follow is Follow until the stream ends. last is where it did.
func (c *Client) follow(ctx context.Context, in Request, after pando.Cursor, w io.Writer, each func(Event) error) (whole *Response, last pando.Cursor, err error) {
	resp, err := c.send(ctx, in, after)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), typeEventStream) {
		last, err = c.events(ctx, resp.Body, each)
		return nil, last, err
	}
	whole, err = c.whole(ctx, resp, w)
	return whole, "", err
}

// whole passes on the data of an answer that is no stream of events.
func (c *Client) whole(ctx context.Context, resp *http.Response, w io.Writer) (*Response, error) {
	body := bufio.NewReaderSize(resp.Body, 64<<10)
	const prefix = `{"data":`
	if start, _ := body.Peek(len(prefix)); resp.StatusCode != http.StatusOK || string(start) != prefix {
		raw, err := io.ReadAll(c.bound(body))
		if err != nil {
			return nil, c.brokenOff(ctx, err)
		}
		return responseOf(resp, raw)
	}
	_, _ = body.Discard(len(prefix))
	data := &dataOf{to: w}
	if _, err := io.Copy(data, body); data.err != nil {
		return nil, data.err
	} else if err != nil {
		return nil, c.brokenOff(ctx, err)
	}
	out, err := readResponse(append([]byte(prefix+"null"), data.rest...))
	if errors.Is(err, fault.TooLarge) {
		return nil, err
	}
	if !data.ended || err != nil {
		return nil, fault.Unavailable.Errorf("answer of %s: it has no end: is it a pando node of this version?", c.base)
	}
	out.Data = nil
	return out, nil
}

func (c *Client) send(ctx context.Context, in Request, after pando.Cursor) (*http.Response, error) {
	raw, err := json.Marshal(in)
	if err != nil {
		return nil, fault.Invalid.Errorf("variables: %w", err)
	}
	req, err := c.request(ctx, http.MethodPost, "/graphql", nil, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	if after != "" {
		req.Header.Set(headerLastEvent, string(after))
	}
	return c.exchange(req)
}

// brokenOff explains an answer whose end does not come.
func (c *Client) brokenOff(ctx context.Context, err error) error {
	if errors.Is(err, fault.TooLarge) {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) && ctx.Err() == nil {
		return fault.Unavailable.Errorf("the node broke off in the middle of its answer, which is not whole: its log says why")
	}
	return c.explain(ctx, err)
}

// responseOf reads a response that is at hand.
func responseOf(resp *http.Response, body []byte) (*Response, error) {
	out, err := readResponse(body)
	if errors.Is(err, fault.TooLarge) {
		return nil, err
	}
	if err != nil || (len(out.Errors) == 0 && resp.StatusCode != http.StatusOK) {
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return nil, problemIn(resp)
	}
	return out, nil
}

// readResponse reads a response. Errors, which become Go values, are what follows the data of an
// answer, and no more than that may be.
func readResponse(body []byte) (*Response, error) {
	var parts struct {
		Data               json.RawMessage
		Errors, Extensions json.RawMessage
	}
	if err := json.Unmarshal(body, &parts); err != nil {
		return nil, err
	}
	if len(parts.Errors)+len(parts.Extensions) > maxRest || objectsIn(parts.Errors)+objectsIn(parts.Extensions) > maxRestObjects {
		return nil, errLongRest
	}
	out := &Response{Data: parts.Data}
	if parts.Errors != nil {
		if err := json.Unmarshal(parts.Errors, &out.Errors); err != nil {
			return nil, err
		}
	}
	if parts.Extensions != nil {
		if err := json.Unmarshal(parts.Extensions, &out.Extensions); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// dataOf passes on an object, the data of a response, and keeps what follows it.
type dataOf struct {
	to    io.Writer
	depth int  // of braces
	text  bool // inside a string
	skip  bool // the next byte of it, after a backslash
	ended bool
	rest  []byte
	err   error // of to, or of what follows
}

// What follows the data of a response, errors and what it is about, is bounded by its bytes, and
// by its objects, which as Go values are larger. The body of a failure is likewise.
const (
	maxRest        = 1 << 20
	maxRestObjects = 16_384
)

var errLongRest = fault.TooLarge.Errorf("more than %d bytes, or %d objects, follow the data of an answer: is it a pando node?", maxRest, maxRestObjects)

func objectsIn(json []byte) int { return new(parts).add(json) / textsPerObject }

func (d *dataOf) Write(p []byte) (int, error) {
	n := d.end(p)
	if n > 0 {
		if _, d.err = d.to.Write(p[:n]); d.err != nil {
			return 0, d.err
		}
	}
	if d.rest = append(d.rest, p[n:]...); len(d.rest) > maxRest {
		d.err = errLongRest
		return 0, d.err
	}
	return len(p), nil
}

// end returns how much of p belongs to the data.
func (d *dataOf) end(p []byte) int {
	if d.ended {
		return 0
	}
	for i, c := range p {
		switch {
		case d.skip:
			d.skip = false
		case c == '"':
			d.text = !d.text
		case d.text:
			d.skip = c == '\\'
		case c == '{':
			d.depth++
		case c == '}':
			if d.depth--; d.depth <= 0 {
				d.ended = true
				return i + 1
			}
		}
	}
	return len(p)
}
