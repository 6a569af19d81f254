package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/pandodb/pando/internal/fault"
)

// event is one line of an answer that reports on its way: any number of progress
// lines, then one result or one failure.
type event[P, R any] struct {
	Progress *P     `json:"progress,omitempty"`
	Result   *R     `json:"result,omitempty"`
	Error    string `json:"error,omitempty"`
	Code     string `json:"code,omitempty"`
}

// reporter writes such an answer. A failure before the first line becomes an
// ordinary answer with the status of its kind.
type reporter[P, R any] struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	begun bool
	err   error // the client has gone
}

func (p *reporter[P, R]) progress(at P) { p.send(event[P, R]{Progress: &at}) }

func (p *reporter[P, R]) finish(result R, err error) {
	switch {
	case err == nil:
		p.send(event[P, R]{Result: &result})
	case p.begun:
		p.s.deny(p.r, err, DeniedOperation)
		p.send(event[P, R]{Error: err.Error(), Code: Code(err)})
	default:
		p.s.fail(p.w, p.r, err)
		_ = http.NewResponseController(p.w).Flush() // the client has gone; there is nobody to tell
	}
}

func (p *reporter[P, R]) send(e event[P, R]) {
	if p.err != nil {
		return
	}
	if !p.begun {
		p.begun = true
		p.w.Header().Set("Content-Type", "application/x-ndjson")
		p.w.WriteHeader(http.StatusOK)
	}
	control := http.NewResponseController(p.w)
	_ = control.SetWriteDeadline(time.Now().Add(stallTimeout)) // a recorder of a test has none
	if p.err = json.NewEncoder(p.w).Encode(e); p.err == nil {
		p.err = control.Flush()
	}
}

// follow reads such an answer to its end.
func follow[P, R any](c *Client, body io.Reader, progress func(P)) (R, error) {
	lines := c.boundValue(body)
	dec := json.NewDecoder(lines)
	for {
		lines.next()
		var e event[P, R]
		if err := dec.Decode(&e); err != nil {
			var zero R
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return zero, fault.Unavailable.Errorf("the node broke off before the end: what it reported so far is done; try again")
			}
			if errors.Is(err, fault.TooLarge) {
				return zero, err
			}
			return zero, fault.Unavailable.Errorf("the connection to the node broke off: %w", err)
		}
		switch {
		case e.Error != "":
			var zero R
			return zero, problem{Error: e.Error, Code: e.Code}.err()
		case e.Result != nil:
			return *e.Result, nil
		case e.Progress != nil && progress != nil:
			progress(*e.Progress)
		}
	}
}
