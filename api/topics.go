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
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/p2p"
)

// topicProtocol is the subprotocol of WebSockets that follow a topic.
const topicProtocol = "pando-topic"

// publishPatience is how long a message waits for its turn before its sender is told
// to come again.
const publishPatience = 2 * time.Second

// TopicMessage is one thing that is heard in a topic.
type TopicMessage struct {
	Topic   string    `json:"topic"`
	Kind    p2p.Kind  `json:"kind"` // "message", or with presence "here" and "gone"
	From    string    `json:"from"` // DID of the sender, whose signature was checked
	Time    time.Time `json:"time"` // by the sender's clock
	Seq     uint64    `json:"seq,omitempty"`
	Text    string    `json:"text,omitempty"`    // what was said or, of "here", the state
	Bytes   []byte    `json:"bytes,omitempty"`   // in place of it, if it is no UTF-8
	Dropped uint64    `json:"dropped,omitempty"` // messages lost right before: the reader did not keep up
}

// Data returns what was said.
func (m TopicMessage) Data() []byte {
	if m.Bytes != nil {
		return m.Bytes
	}
	return []byte(m.Text)
}

// TopicMember is somebody who is in a topic.
type TopicMember struct {
	DID   string    `json:"did"`
	Self  bool      `json:"self,omitempty"` // the node that answers
	Since time.Time `json:"since"`          // as that node knows
	Text  string    `json:"text,omitempty"` // its state
	Bytes []byte    `json:"bytes,omitempty"`
}

// Topic is a topic that a node takes part in.
type Topic struct {
	Name      string `json:"name"`
	Listeners int    `json:"listeners"`         // on the node
	Carried   bool   `json:"carried,omitempty"` // only to pass on what others say
	Present   int    `json:"present"`           // members that are here
	Peers     int    `json:"peers"`             // connected peers that take part
	Heard     uint64 `json:"heard"`
	Dropped   uint64 `json:"dropped"`
}

// Published says where a message went at once.
type Published struct {
	Peers int `json:"peers"` // connected peers; they pass it on
}

// TopicOptions say how to listen to a topic.
type TopicOptions struct {
	Presence bool   // hear who comes and goes, too
	State    string // what the node shows of itself in the topic; "" leaves it
}

type publishRequest struct {
	Collection string `path:"collection"`
	Room       string `path:"room"`
	Message    []byte `body:"bytes"`
}

type topicRequest struct {
	Collection string `path:"collection"`
	Room       string `path:"room"`
}

var (
	opPublish  = op[publishRequest, Published]{"POST /topics/{collection}/{room}", data, (*Server).publish}
	opRooms    = op[none, []Topic]{"GET /topics", observe, (*Server).rooms}
	opPresence = op[topicRequest, []TopicMember]{"GET /topics/{collection}/{room}/presence", data, (*Server).presence}
)

func (s *Server) publish(ctx context.Context, in publishRequest) (Published, error) {
	n, err := s.network()
	if err != nil {
		return Published{}, err
	}
	return publish(ctx, n, in.Collection+"/"+in.Room, in.Message)
}

func publish(ctx context.Context, n *p2p.Node, topic string, data []byte) (Published, error) {
	ctx, cancel := context.WithTimeout(ctx, publishPatience)
	defer cancel()
	reached, err := n.Publish(ctx, topic, data)
	if errors.Is(err, p2p.ErrTooFast) || errors.Is(err, context.DeadlineExceeded) {
		err = busy("%w", err)
	}
	return Published{reached}, err
}

func (s *Server) rooms(context.Context, none) ([]Topic, error) {
	n, err := s.network()
	if err != nil {
		return nil, err
	}
	all := []Topic{}
	for _, t := range n.Topics() {
		all = append(all, Topic(t))
	}
	return all, nil
}

func (s *Server) presence(ctx context.Context, in topicRequest) ([]TopicMember, error) {
	n, err := s.network()
	if err != nil {
		return nil, err
	}
	here, err := n.Present(ctx, in.Collection+"/"+in.Room)
	if err != nil {
		return nil, err
	}
	all := []TopicMember{}
	for _, m := range here {
		out := TopicMember{DID: string(m.DID), Self: m.Self, Since: m.Since.UTC()}
		out.Text, out.Bytes = textOr(m.State)
		all = append(all, out)
	}
	return all, nil
}

// textOr returns data as text, if it is.
func textOr(data []byte) (string, []byte) {
	if utf8.Valid(data) {
		return string(data), nil
	}
	return "", data
}

func topicMessage(m p2p.Message) TopicMessage {
	out := TopicMessage{Topic: m.Topic, Kind: m.Kind, From: string(m.From), Time: m.Time.UTC(), Seq: m.Seq, Dropped: m.Dropped}
	out.Text, out.Bytes = textOr(m.Data)
	return out
}

// listen follows a topic: by a WebSocket for who asks for one, else by Server-Sent
// Events.
func (s *Server) listen(w http.ResponseWriter, r *http.Request) {
	topic, o, err := s.listening(r)
	upgrade := wantsSocket(r)
	if err == nil && upgrade && !offers(r, topicProtocol) { // before others see that somebody comes
		err = errProtocol(topicProtocol)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := s.streamContext(r, requesterOf(r.Context()), data)
	defer cancel()
	sub, err := s.node.Subscribe(ctx, topic, o)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer sub.Close()
	if upgrade {
		s.openSocket(w, r, topicProtocol, func(k *socket) { k.follow(sub, topic) })
		return
	}
	s.sendTopic(ctx, w, sub)
}

// listening reads what a client wants to listen to.
func (s *Server) listening(r *http.Request) (topic string, o p2p.TopicOptions, err error) {
	if _, err := s.network(); err != nil {
		return "", o, err
	}
	if err := foreign(r); err != nil {
		return "", o, err
	}
	if err := refuseTx(r); err != nil {
		return "", o, err
	}
	query, err := parameters(r, "presence", "state")
	if err != nil {
		return "", o, err
	}
	if p := query.Get("presence"); p != "" {
		if o.Presence, err = strconv.ParseBool(p); err != nil {
			return "", o, fault.Invalid.Errorf("query string: presence is %q, want true or false", p)
		}
	}
	if query.Has("state") {
		o.State = []byte(query.Get("state"))
	}
	return r.PathValue("collection") + "/" + r.PathValue("room"), o, nil
}

// sendTopic answers with Server-Sent Events. The first thing sent is an empty comment:
// from then on nothing is missed.
func (s *Server) sendTopic(ctx context.Context, w http.ResponseWriter, sub *p2p.Subscription) {
	control := http.NewResponseController(w)
	h := w.Header()
	h.Set("Content-Type", typeEventStream)
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // a proxy must pass events on at once
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	b := []byte(":\n\n")
	for {
		_ = control.SetWriteDeadline(time.Now().Add(stallTimeout)) // a recorder of a test has none
		if _, err := w.Write(b); err != nil || control.Flush() != nil {
			return
		}
		quiet, cancel := context.WithTimeout(ctx, heartbeat)
		m, err := sub.Next(quiet)
		cancel()
		switch {
		case err == nil:
			raw, _ := json.Marshal(topicMessage(m)) // it always can be
			b = append(append(append(b[:0], "data: "...), raw...), "\n\n"...)
		case ctx.Err() == nil && quiet.Err() != nil && !errors.Is(err, fault.Closed):
			b = append(b[:0], ":\n\n"...)
		default: // the client has gone or may not go on, or the node closes
			if why := context.Cause(ctx); Reason(why) != "" {
				_, _ = w.Write(appendEvent(nil, pando.Event{}, why))
			}
			return
		}
	}
}

// said is the payload of messages that a client sends over a WebSocket.
type said struct {
	Text  string `json:"text"`
	Bytes []byte `json:"bytes"`
}

func (m said) data() []byte {
	if m.Bytes != nil {
		return m.Bytes
	}
	return []byte(m.Text)
}

// follow serves a WebSocket that follows a topic: what is heard goes out, what the
// client publishes comes in, one after the other.
func (k *socket) follow(sub *p2p.Subscription, topic string) {
	k.watch(requesterOf(k.ctx))
	k.send(message{Type: "connection_ack"})
	k.work.Go(k.beat)
	k.work.Go(func() {
		for m, err := range sub.All(k.ctx) {
			if err != nil {
				return
			}
			raw, _ := json.Marshal(topicMessage(m)) // it always can be
			k.send(message{Type: "next", Payload: raw})
		}
	})
	for {
		var m message
		kind, raw, err := k.conn.Read(k.ctx)
		if err != nil {
			return
		}
		if k.barred() {
			continue
		}
		if kind != websocket.MessageText || json.Unmarshal(raw, &m) != nil {
			k.close(closeBadMessage, "Invalid message: want a JSON object as text")
			return
		}
		if !k.obey(sub, topic, m) {
			k.close(closeBadMessage, "Invalid message: want publish, state, ping or pong")
			return
		}
	}
}

// obey does what a message says. It reports false if that says nothing known.
func (k *socket) obey(sub *p2p.Subscription, topic string, m message) bool {
	switch m.Type {
	case "ping":
		k.send(message{Type: "pong", Payload: m.Payload})
		return true
	case "pong":
		return true
	case "publish", "state":
	default:
		return false
	}
	var in said
	var done Published
	err := readJSON(m.Payload, &in)
	if err == nil && m.Type == "state" {
		err = sub.SetState(in.data())
	} else if err == nil {
		done, err = publish(k.ctx, k.s.node, topic, in.data())
	}
	if err != nil {
		k.send(message{ID: m.ID, Type: "error", Payload: pando.FailedResult(err).AppendErrors(nil)})
		return true
	}
	raw, _ := json.Marshal(done) // it always can be
	k.send(message{ID: m.ID, Type: "complete", Payload: raw})
	return true
}

// splitTopic takes a topic apart, as the path names it.
func splitTopic(topic string) (topicRequest, error) {
	collection, room, _ := strings.Cut(topic, "/")
	if collection == "" || room == "" || room == "." || room == ".." { // which a path cannot say
		return topicRequest{}, fault.Invalid.Errorf("topic %q: write it as COLLECTION/ROOM, such as Note/lobby", topic)
	}
	return topicRequest{collection, room}, nil
}

// Publish sends a message to everybody who listens to a topic, COLLECTION/ROOM, and
// returns how many peers of the node it was handed to. One that comes too fast is refused
// with fault.Unavailable, and may be tried again.
func (c *Client) Publish(ctx context.Context, topic string, data []byte) (int, error) {
	in, err := splitTopic(topic)
	if err != nil {
		return 0, err
	}
	out, err := opPublish.call(ctx, c, publishRequest{in.Collection, in.Room, data})
	return out.Peers, err
}

// Topics returns the topics that the node takes part in.
func (c *Client) Topics(ctx context.Context) ([]Topic, error) { return opRooms.call(ctx, c, none{}) }

// Present returns who is in a topic, by DID.
func (c *Client) Present(ctx context.Context, topic string) ([]TopicMember, error) {
	in, err := splitTopic(topic)
	if err != nil {
		return nil, err
	}
	return opPresence.call(ctx, c, in)
}

// Listen calls each with everything that is heard in a topic, from when it has called
// ready, which may be nil, until ctx is done, each fails, or the node ends the stream. One
// that ends with the token of the client goes on with a new one, and may miss what was said
// between.
func (c *Client) Listen(ctx context.Context, topic string, o TopicOptions, ready func(), each func(TopicMessage) error) error {
	in, err := splitTopic(topic)
	if err != nil {
		return err
	}
	query := url.Values{}
	if o.Presence {
		query.Set("presence", "true")
	}
	if o.State != "" {
		query.Set("state", o.State)
	}
	for {
		heard, err := c.listen(ctx, in, query, ready, each)
		if !heard || !c.renews(err) {
			return err
		}
		ready = nil // it was called
	}
}

// listen is Listen until the stream ends. heard is whether there was one.
func (c *Client) listen(ctx context.Context, in topicRequest, query url.Values, ready func(), each func(TopicMessage) error) (heard bool, err error) {
	req, err := c.request(ctx, http.MethodGet, "/topics/"+url.PathEscape(in.Collection)+"/"+url.PathEscape(in.Room), query, nil)
	if err != nil {
		return false, err
	}
	resp, err := c.do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if ready != nil {
		ready()
	}
	_, err = c.events(ctx, resp.Body, func(e Event) error {
		var m TopicMessage
		if err := json.Unmarshal(e.Body, &m); err != nil {
			return fault.Unavailable.Errorf("an event that is no message: %w: is it a pando node of this version?", err)
		}
		return each(m)
	})
	return true, err
}
