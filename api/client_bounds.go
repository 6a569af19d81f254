package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"math"
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
	// write have half as many and more.
	answerPerObject = 256
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
	r       io.Reader
	limit   int
	bytes   int // that may still come, and one
	objects int // likewise
}

// bound returns a reader of an answer that is held as it comes.
func (c *Client) bound(body io.Reader) *bounded {
	limit := c.answerLimit()
	return &bounded{r: body, limit: limit, bytes: limit + 1, objects: math.MaxInt}
}

// boundValue returns a reader of JSON that becomes Go values.
func (c *Client) boundValue(body io.Reader) *bounded {
	b := c.bound(body)
	b.next()
	return b
}

// next begins another value of a stream.
func (b *bounded) next() { b.bytes, b.objects = b.limit+1, b.limit/answerPerObject+1 }

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(len(p), b.bytes)])
	b.bytes -= n
	b.objects -= bytes.Count(p[:n], []byte("{"))
	switch {
	case b.bytes <= 0:
		return n, tooLong(b.limit)
	case b.objects <= 0:
		return n, tooManyObjects(b.limit)
	}
	return n, err
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
