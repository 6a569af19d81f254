package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/pandodb/pando/internal/fault"
)

// What a node that lies cannot fill a client with. Answers that go through, to a writer or event
// by event, are of any size.
const (
	// AnswerLimit bounds an answer, or one event of a stream, that a client holds whole, unless
	// LimitAnswers says otherwise: twice the largest that a node sends in one piece, which is a
	// WASM module, or what a live query comes to.
	AnswerLimit = 32 << 20
	// answerPerObject bounds the objects in an answer that becomes Go values, which take hundreds
	// of bytes each where {} is two: so many bytes of the limit for each. Those that nodes
	// write have half as many and more. Whatever stands in a list in the place of an object
	// counts as one, since it makes one; a text counts as 1/textsPerObject.
	answerPerObject = 256
	textsPerObject  = 4
	// maxAnswerHeader bounds the header of an answer, with all that are sent ahead of it. A
	// node's has some hundred bytes, and proxies add to it.
	maxAnswerHeader = 64 << 10
)

// LimitAnswers sets how many bytes of one answer, or of one event of a stream, the client holds
// at most, in place of AnswerLimit. It must be called before the first request.
func (c *Client) LimitAnswers(bytes int) { c.limit = bytes }

func (c *Client) answerLimit() int { return cmp.Or(c.limit, AnswerLimit) }

// transport bounds what a transport takes of a node.
func (c *Client) transport(t *http.Transport) {
	t.MaxResponseHeaderBytes = maxAnswerHeader
	c.http = &http.Client{Transport: t, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		return fault.Denied.Errorf("the node sends the request elsewhere, to %.100q, where neither it nor a token is for: is it a pando node?", r.URL.Host)
	}}
}

// bounded reads no more than an answer may have.
type bounded struct {
	r     io.Reader
	limit int
	bytes int    // that may still come, and one
	parts *parts // nil: it becomes no Go values
}

// bound returns a reader of an answer that is held as it comes.
func (c *Client) bound(body io.Reader) *bounded {
	limit := c.answerLimit()
	return &bounded{r: body, limit: limit, bytes: limit + 1}
}

// boundValue returns a reader of JSON that becomes Go values.
func (c *Client) boundValue(body io.Reader) *bounded {
	b := c.bound(body)
	b.parts = &parts{}
	return b
}

// next begins another value of a stream.
func (b *bounded) next() {
	b.bytes = b.limit + 1
	b.parts.weight = 0
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(len(p), b.bytes)])
	b.bytes -= n
	if b.parts != nil && b.parts.add(p[:n]) > b.limit/answerPerObject*textsPerObject {
		return n, tooManyObjects(b.limit)
	}
	if b.bytes <= 0 {
		return n, tooLong(b.limit)
	}
	return n, err
}

// parts weighs JSON as it comes, by the Go values that it makes.
type parts struct {
	weight  int    // textsPerObject for each object
	within  []byte // the brackets that are open
	last    byte   // that was no space, outside of texts
	text    bool   // in one
	escaped bool   // behind a backslash
}

// maxWithin is deeper than the decoder goes.
const maxWithin = 20_000

// add returns what there is by now.
func (p *parts) add(json []byte) int {
	for _, c := range json {
		switch {
		case p.escaped:
			p.escaped = false
		case p.text:
			p.text, p.escaped = c != '"', c == '\\'
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
		default:
			p.token(c)
			p.last, p.text = c, c == '"'
		}
	}
	return p.weight
}

// token takes in what begins, ends or goes on with c.
func (p *parts) token(c byte) {
	listed := len(p.within) > 0 && p.within[len(p.within)-1] == '[' && (p.last == '[' || p.last == ',') && c != ']'
	switch {
	case listed && c == '"':
		p.weight++
	case listed || c == '{':
		p.weight += textsPerObject
	}
	switch {
	case (c == '{' || c == '[') && len(p.within) < maxWithin:
		p.within = append(p.within, c)
	case (c == '}' || c == ']') && len(p.within) > 0:
		p.within = p.within[:len(p.within)-1]
	}
}

// tooLong says what to do about an answer that is too long to be held.
func tooLong(limit int) error {
	return fault.TooLarge.Errorf("the answer has more than %d bytes, and was not taken in: ask for less, by limit with offset or a cursor, or have it streamed, by Client.Stream or Client.Export; Client.LimitAnswers raises the bound", limit)
}

func tooManyObjects(limit int) error {
	return fault.TooLarge.Errorf("the answer has more than %d parts, and was not taken in: is it a pando node? Client.LimitAnswers raises the bound", limit/answerPerObject)
}

// decode reads an answer that is one JSON value.
func (c *Client) decode(body io.Reader, v any) error {
	err := json.NewDecoder(c.boundValue(body)).Decode(v)
	if err == nil || errors.Is(err, fault.TooLarge) {
		return err
	}
	return fault.Unavailable.Errorf("answer of %s: %w: is it a pando node of this version?", c.base, err)
}
