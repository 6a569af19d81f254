package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// streamEvents answers a subscription or a live query with Server-Sent Events.
func (s *Server) streamEvents(w http.ResponseWriter, r *http.Request, in pando.Request) {
	id, err := txOf(r)
	if err == nil && id != 0 {
		err = fault.Invalid.Errorf("subscriptions and live queries do not run in a transaction: leave out the header %s, or @live", headerTx)
	}
	if err == nil {
		err = foreign(r)
	}
	if err != nil {
		s.refuseGraphQL(w, r, err)
		return
	}
	s.admit(s.eventSlots, func(w http.ResponseWriter, r *http.Request) { s.sendEvents(w, r, in) })(w, r)
}

// resumed returns the cursor behind which a client wants events.
func resumed(r *http.Request) pando.Cursor {
	if last := r.Header.Get(headerLastEvent); last != "" {
		return pando.Cursor(last)
	}
	return pando.Cursor(r.URL.Query().Get("after")) // a browser cannot set the header
}

func (s *Server) sendEvents(w http.ResponseWriter, r *http.Request, in pando.Request) {
	ctx, cancel := s.streamContext(r, requesterOf(r.Context()), data)
	defer cancel()
	control := http.NewResponseController(w)
	begun := false
	var b []byte
	for e, err := range s.as(ctx).Subscribe(ctx, in, pando.SubscribeOptions{After: resumed(r), Heartbeat: heartbeat}) {
		if err != nil && !begun {
			s.denyResult(r, pando.FailedResult(err))
			s.answerGraphQL(w, pando.FailedResult(err))
			return
		}
		if why := context.Cause(ctx); Reason(why) != "" {
			e, err = pando.Event{}, why
		} else if why != nil || errors.Is(err, fault.Closed) {
			return // the client has gone, or comes again
		}
		if !begun {
			begun = true
			h := w.Header()
			h.Set("Content-Type", typeEventStream)
			h.Set("Cache-Control", "no-cache")
			h.Set("X-Accel-Buffering", "no") // a proxy must pass events on at once
			h.Set("X-Content-Type-Options", "nosniff")
			w.WriteHeader(http.StatusOK)
		}
		b = appendEvent(b[:0], e, err)
		_ = control.SetWriteDeadline(time.Now().Add(stallTimeout)) // a recorder of a test has none
		if _, err := w.Write(b); err != nil {
			return
		}
		if control.Flush() != nil {
			return
		}
	}
}

// appendEvent appends one event as a stream carries it: a heartbeat is a comment, and
// its id a place to come back to.
func appendEvent(b []byte, e pando.Event, err error) []byte {
	if e.Cursor != "" {
		b = append(append(append(b, "id: "...), e.Cursor...), '\n')
	}
	switch {
	case Reason(err) != "":
		raw, _ := json.Marshal(failedResponse(err).Errors) // it always can be
		b = append(append(append(b, `data: {"errors":`...), raw...), `,"data":null}`...)
	case err != nil:
		b = pando.FailedResult(err).AppendJSON(append(b, "data: "...))
	case e.IsHeartbeat():
		b = append(b, ':')
	default:
		b = e.AppendJSON(append(b, "data: "...)) // JSON as it is made here has no line ends
	}
	return append(b, "\n\n"...)
}

// Event is one event of a stream as a client reads it.
type Event struct {
	Cursor pando.Cursor
	Body   json.RawMessage // {"data": …}, or what docs/subscriptions.md says of live queries
}

// events reads a stream to its end, and returns where that is. The error of each ends it.
func (c *Client) events(ctx context.Context, body io.Reader, each func(Event) error) (last pando.Cursor, err error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, c.answerLimit())
	var e Event
	for lines.Scan() {
		line := lines.Bytes()
		name, rest, _ := bytes.Cut(line, []byte(":"))
		rest = bytes.TrimPrefix(rest, []byte(" "))
		switch {
		case len(line) == 0 && e.Body != nil:
			if err := failureIn(e.Body); err != nil {
				return e.Cursor, err
			}
			if err := each(e); err != nil {
				return e.Cursor, err
			}
			e.Body = nil
		case string(name) == "id":
			e.Cursor = pando.Cursor(rest)
		case string(name) == "data":
			e.Body = bytes.Clone(rest)
		}
	}
	if ctx.Err() != nil {
		return e.Cursor, context.Cause(ctx)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return e.Cursor, fault.TooLarge.Errorf("an event of the stream has more than %d bytes, and was not taken in: select less, or follow fewer documents at once; Client.LimitAnswers raises the bound", c.answerLimit())
	} else if err != nil {
		return e.Cursor, fault.Unavailable.Errorf("the connection to the node broke off: %w", err)
	}
	return e.Cursor, fault.Unavailable.Errorf("the node ended the stream: it closes, or was too busy")
}

// failureIn returns the error that an event tells of.
func failureIn(body []byte) error {
	if !bytes.HasPrefix(body, []byte(`{"errors":`)) {
		return nil
	}
	resp, err := readResponse(body)
	if errors.Is(err, fault.TooLarge) {
		return err
	}
	if err != nil || len(resp.Errors) == 0 {
		return fault.Unavailable.Errorf("an event that is no answer: is it a pando node of this version?")
	}
	return resp.Errors[0].Err()
}
