package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/p2p"
)

// talking is a node on a network of its own, served over HTTP.
func talking(t *testing.T) (*Client, string) {
	t.Helper()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.AddSchema(t.Context(), `type Note { text: String }`); err != nil {
		t.Fatal(err)
	}
	node, err := p2p.Start(t.Context(), db, p2p.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	s := NewServer(Config{DB: db, Node: node})
	web := httptest.NewServer(s.Handler())
	t.Cleanup(web.Close)
	t.Cleanup(func() { s.Shutdown(context.Background()) })
	c, err := NewClient(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, web.URL
}

// What is published is heard as it was said, text or not, by everybody who listens.
func TestClientListensToATopic(t *testing.T) {
	t.Parallel()
	c, _ := talking(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var heard []string
	enough := errors.New("enough")
	ready := func() {
		for _, text := range []string{"hello\nthere", "", "\xff\x00", "bye"} {
			if _, err := c.Publish(ctx, "Note/a room/1", []byte(text)); err != nil {
				t.Error(err)
			}
		}
		here, err := c.Present(ctx, "Note/a room/1")
		if err != nil || len(here) != 1 || !here[0].Self || here[0].Text != "Ada" {
			t.Errorf("present: %+v %v, want this node as Ada", here, err)
		}
		all, err := c.Topics(ctx)
		if err != nil || len(all) != 1 || all[0].Name != "Note/a room/1" || all[0].Listeners != 1 {
			t.Errorf("topics: %+v %v", all, err)
		}
	}
	err := c.Listen(ctx, "Note/a room/1", TopicOptions{Presence: true, State: "Ada"}, ready, func(m TopicMessage) error {
		if !strings.HasPrefix(m.From, "did:key:") || m.Topic != "Note/a room/1" || time.Since(m.Time) > time.Minute {
			t.Errorf("a message without its origin: %+v", m)
		}
		if heard = append(heard, fmt.Sprintf("%s %q", m.Kind, m.Data())); string(m.Data()) == "bye" {
			return enough
		}
		return nil
	})
	want := []string{`here "Ada"`, `message "hello\nthere"`, `message ""`, `message "\xff\x00"`, `message "bye"`}
	if !errors.Is(err, enough) || strings.Join(heard, ", ") != strings.Join(want, ", ") {
		t.Errorf("heard %s and then %v, want %s", heard, err, want)
	}
}

// A WebSocket both listens and speaks.
func TestTopicOverAWebSocket(t *testing.T) {
	t.Parallel()
	_, url := talking(t)
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(url, "http", "ws", 1)+"/api/v0/topics/Note/lobby?presence=true&state=Bob",
		&websocket.DialOptions{Subprotocols: []string{"pando-topic"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	k := &talker{conn, t}
	var m message
	hears := func(kind, part string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, raw, err := conn.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		m = message{}
		if err := json.Unmarshal(raw, &m); err != nil || m.Type != kind || !strings.Contains(string(raw), part) {
			t.Errorf("heard %s, want %s with %s", raw, kind, part)
		}
	}
	hears("connection_ack", "")
	hears("next", `"text":"Bob"`)
	k.send(`{"type":"state","payload":{"text":"Bob is typing"}}`)
	kinds := map[string]bool{}
	for range 2 { // the event and the answer come in any order
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, raw, err := conn.Read(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		json.Unmarshal(raw, &m)
		kinds[m.Type] = true
	}
	if !kinds["next"] || !kinds["complete"] {
		t.Errorf("after a change of state: %v", kinds)
	}
	k.send(`{"type":"publish","id":"7","payload":{"text":"` + strings.Repeat("x", p2p.MaxTopicMessage+1) + `"}}`)
	hears("error", "allowed are 16384")
	if m.ID != "7" {
		t.Errorf("the error is of %q, want 7", m.ID)
	}
	k.send(`{"type":"ping"}`)
	hears("pong", "")
	k.send(`{"type":"publish","id":"8","payload":{"words":"x"}}`)
	hears("error", "unknown field")
	k.send(`{"type":"subscribe"}`)
	k.isClosed(closeBadMessage)
}

func TestWrongRequestsToTopics(t *testing.T) {
	t.Parallel()
	c, url := talking(t)
	for topic, kind := range map[string]error{"Note": fault.Invalid, "/x": fault.Invalid, "Note/..": fault.Invalid, "Nothing/x": fault.NotFound, "Note/a\x00": fault.Invalid} {
		if _, err := c.Publish(t.Context(), topic, nil); !errors.Is(err, kind) {
			t.Errorf("publish to %q: %v, want %v", topic, err, kind)
		}
		if err := c.Listen(t.Context(), topic, TopicOptions{}, nil, nil); !errors.Is(err, kind) {
			t.Errorf("listen to %q: %v, want %v", topic, err, kind)
		}
		if _, err := c.Present(t.Context(), topic); !errors.Is(err, kind) {
			t.Errorf("who is in %q: %v, want %v", topic, err, kind)
		}
	}
	if err := c.Listen(t.Context(), "Note/x", TopicOptions{State: strings.Repeat("x", p2p.MaxTopicState+1)}, nil, nil); !errors.Is(err, fault.TooLarge) {
		t.Errorf("a state that is too large: %v", err)
	}
	for _, one := range []struct {
		path, header, value string
		status              int
	}{
		{"/topics/Note/x?presence=perhaps", "", "", 400},
		{"/topics/Note/x?sound=loud", "", "", 400},
		{"/topics/Note/x", "Origin", "http://elsewhere.example", 403},
		{"/topics/Note/x", "X-Pando-Tx", "7", 400},
		{"/topics/Note/", "", "", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+Base+one.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if one.header != "" {
			req.Header.Set(one.header, one.value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != one.status {
			t.Errorf("GET %s with %s: status %d, want %d", one.path, one.header, resp.StatusCode, one.status)
		}
	}
}
