package p2p

import (
	"cmp"
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/crypto/chacha20poly1305"
	"google.golang.org/protobuf/proto"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/pace"
)

// gossip tells other peers of commits as they are made, and hears of theirs. It is
// fast and may lose; nothing but speed depends on it.
//
// Each collection has a topic. Whoever is connected can see the names of topics
// and subscribe to them: the library's filters act on peers as such, before this
// node knows to which collections a peer is admitted, and they do not bind the
// other members of the mesh. So names are blind, and messages sealed with a key
// that follows from the collection's secret: who was not admitted reads nothing,
// and can write nothing that a member would pass on.
type gossip struct {
	n      *Node
	pubsub *pubsub.PubSub
	inbox  *inbox
	losses *losses

	mu       sync.Mutex // guards what follows
	channels map[dag.CollectionID]channel
	lacking  map[dag.CollectionID]bool // that there was no room for
}

type topic struct {
	id     dag.CollectionID
	doc    *dag.DocID // that it is for; nil: for many
	name   string
	handle *pubsub.Topic
	mute   pubsub.RelayCancelFunc // ends taking part
	seal   cipher.AEAD
	nonces ident.Secret // what nonces are made with
}

// The shape of the mesh: each node looks for D neighbours if it has fewer than Dlo, so
// that a message reaches it about four times. Nodes that joined by a ticket know only
// who gave it, so hubs are common: with fewer than Dhi neighbours one has all of them
// in its mesh, behind that only D. The others it tells of what it heard at every
// heartbeat, all and not only some, because they will hear of it from nobody else.
// No place is kept for peers that were dialed (Dout), which takes a D of 4 and a quarter
// more bytes: who fills a mesh to keep things back delays them by a heartbeat.
func gossipParams() pubsub.GossipSubParams {
	p := pubsub.DefaultGossipSubParams()
	p.D, p.Dlo, p.Dhi, p.Dlazy, p.Dscore, p.Dout = 3, 2, crowd, 3, 2, 0
	p.GossipFactor = 1
	return p
}

// What peers are scored by: messages that are invalid for everybody, and what they
// are blamed for elsewhere. Distance in the network and number of peers behind one
// address are no fault.
func scoreParams(s *scores) (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	return &pubsub.PeerScoreParams{
			SkipAtomicValidation: true,
			Topics:               map[string]*pubsub.TopicScoreParams{},
			AppSpecificScore:     func(p peer.ID) float64 { return -s.blame(p, time.Now()) }, AppSpecificWeight: 1,
			BehaviourPenaltyWeight: -10, BehaviourPenaltyThreshold: 6, BehaviourPenaltyDecay: pubsub.ScoreParameterDecay(10 * time.Minute),
			DecayInterval: time.Second, DecayToZero: 0.01, RetainScore: quarantine,
		}, &pubsub.PeerScoreThresholds{
			SkipAtomicValidation: true,
			GossipThreshold:      -100, PublishThreshold: -200, GraylistThreshold: -400,
		}
}

func topicScore() *pubsub.TopicScoreParams {
	return &pubsub.TopicScoreParams{
		SkipAtomicValidation: true,
		TopicWeight:          1, TimeInMeshQuantum: time.Second,
		// Squared: the second invalid message silences gossip with the peer, the third
		// everything from it.
		InvalidMessageDeliveriesWeight: -50, InvalidMessageDeliveriesDecay: pubsub.ScoreParameterDecay(quarantine),
	}
}

func (n *Node) startGossip() error {
	score, thresholds := scoreParams(n.scores)
	score.AppSpecificScore = n.standing
	carried := &losses{n: n}
	ps, err := pubsub.NewGossipSub(n.ctx, n.host,
		pubsub.WithGossipSubParams(gossipParams()),
		pubsub.WithPeerScore(score, thresholds),
		pubsub.WithSubscriptionFilter(n.followed),
		pubsub.WithPeerFilter(func(p peer.ID, _ string) bool { return !n.host.Locked(p) }),
		pubsub.WithPeerScoreInspect(n.scores.inspect, inspectEvery),
		// Both: with StrictNoSign alone the messages still name an author, and
		// other implementations drop them silently.
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string {
			sum := sha256.Sum256(m.Data)
			return string(sum[:16]) // named again and again between peers
		}),
		pubsub.WithFloodPublish(true), // what is made here goes to all neighbours
		pubsub.WithMaxMessageSize(maxGossipFrame),
		pubsub.WithValidateQueueSize(validateQueue),
		pubsub.WithPeerOutboundQueueSize(outboundQueue),
		pubsub.WithRawTracer(carried),
		pubsub.WithLogger(slog.New(asides{n.log.Handler()}).With("part", "gossip")),
	)
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	n.gossip = &gossip{n: n, pubsub: ps, inbox: newInbox(), losses: carried, channels: map[dag.CollectionID]channel{}}
	n.gossip.follow()
	return nil
}

func newTopic(id dag.CollectionID, s ident.Secret, name string) (*topic, error) {
	seal, err := chacha20poly1305.NewX(gossipKey(s, id))
	return &topic{id: id, name: name, seal: seal, nonces: s}, err
}

func (g *gossip) join(id dag.CollectionID, s ident.Secret, name string, quiet bool) (*topic, error) {
	t, err := newTopic(id, s, name)
	if err == nil {
		err = g.enter(t, quiet)
	}
	return t, err
}

// enter begins to take part in a topic or, quietly, only to be able to speak in it.
func (g *gossip) enter(t *topic, quiet bool) (err error) {
	validate := func(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		return g.hear(t, from, m.Data)
	}
	if err := g.pubsub.RegisterTopicValidator(t.name, validate); err != nil {
		return err
	}
	g.losses.names.Store(t.name, t.id)
	if t.handle, err = g.pubsub.Join(t.name); err == nil {
		err = t.handle.SetScoreParams(topicScore())
	}
	if err == nil && !quiet {
		// A relay takes part in the mesh like a subscriber. What arrives is taken in by
		// the validator; a subscription would add a queue that drops, and a goroutine.
		t.mute, err = t.handle.Relay()
	}
	if err != nil {
		g.leave(t)
	}
	return err
}

// leave ends what join began, as far as it came. What fails there fails because the
// node closes.
func (g *gossip) leave(t *topic) {
	if t.mute != nil {
		t.mute()
	}
	if t.handle != nil {
		t.handle.Close()
	}
	g.pubsub.UnregisterTopicValidator(t.name)
	g.losses.names.Delete(t.name)
	g.losses.heard.Delete(t.name)
}

// told is one commit in an announcement.
type told struct {
	commit   *dag.Commit
	envelope []byte // nil: only the header came
}

// appendTold writes a commit for an announcement: the whole of it if it is small,
// else its header and signature, by which a receiver knows what it is and that it
// is genuine, and can ask for the rest.
func appendTold(b, envelope []byte, inline int) ([]byte, error) {
	b = cbor.AppendArray(b, 2)
	if len(envelope) <= inline {
		return cbor.AppendBytes(cbor.AppendUint(b, 0), envelope), nil
	}
	r := cbor.NewReader(envelope)
	r.Array()
	header, sig := r.Bytes(), r.Bytes()
	if r.Err() != nil {
		return nil, fmt.Errorf("announce: %w", r.Err())
	}
	// Three items in all: the head written above is replaced.
	b = cbor.AppendArray(b[:len(b)-1], 3)
	return cbor.AppendBytes(cbor.AppendBytes(cbor.AppendUint(b, 1), header), sig), nil
}

// sealed makes a message of announced commits.
func (t *topic) sealed(n int, items []byte) []byte {
	b := cbor.AppendUint(cbor.AppendArray(nil, 3), 1)
	b = cbor.AppendBytes(b, t.id[:])
	b = append(cbor.AppendArray(b, n), items...)
	// The nonce follows from the key and what is said: two nodes that announce the same
	// make one message, and no nonce is ever used for two texts.
	nonce := make([]byte, t.seal.NonceSize(), t.seal.NonceSize()+len(b)+t.seal.Overhead())
	copy(nonce, t.nonces.Derive(labelNonce, []byte(t.name), []byte{0}, b))
	return t.seal.Seal(nonce, nonce, b, []byte(t.name))
}

// open reads a message. Every error means that no member wrote it, or one that
// does not keep the protocol.
func (t *topic) open(data []byte) ([]told, error) {
	size := t.seal.NonceSize()
	if len(data) < size {
		return nil, fault.Invalid.Errorf("announcement of %d bytes: it is cut short", len(data))
	}
	b, err := t.seal.Open(nil, data[:size], data[size:], []byte(t.name))
	if err != nil {
		return nil, fault.Invalid.Errorf("announcement: it is not sealed with the key of its collection")
	}
	return readTold(b, t.id)
}

func readTold(b []byte, id dag.CollectionID) ([]told, error) {
	r := cbor.NewReader(b)
	tuple(r, 3)
	if v := r.Uint(); r.Err() == nil && v != 1 {
		return nil, fault.Invalid.Errorf("announcement: version %d", v)
	}
	var named dag.CollectionID
	exactly(r, "a collection id", named[:])
	if r.Err() == nil && named != id {
		return nil, fault.Invalid.Errorf("announcement: of collection %s in the topic of %s", named, id)
	}
	var all []told
	for n := list(r, "commits", maxGossipped); n > 0 && r.Err() == nil; n-- {
		t, err := readOneTold(r)
		if err != nil {
			return nil, fmt.Errorf("announcement: %w", err)
		}
		all = append(all, t)
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("announcement: %w", err)
	}
	return all, nil
}

func readOneTold(r *cbor.Reader) (t told, err error) {
	items, form := r.Array(), r.Uint()
	switch {
	case items == 2 && form == 0:
		if t.envelope = r.Bytes(); r.Err() == nil {
			t.commit, err = dag.Open(t.envelope)
		}
	case items == 3 && form == 1:
		if header, sig := r.Bytes(), r.Bytes(); r.Err() == nil {
			t.commit, err = dag.OpenHeader(header, sig)
		}
	default:
		r.Fail(fault.Invalid.Errorf("a commit of %d items in form %d", items, form))
	}
	if err == nil {
		err = r.Err()
	}
	return t, err
}

// hear judges an announcement, for this node and for whether it is passed on, and
// takes it in. It looks only at what every node sees alike: a commit whose parents
// are unknown here is as good as any.
func (g *gossip) hear(t *topic, from peer.ID, data []byte) pubsub.ValidationResult {
	if from == g.n.host.ID() {
		return pubsub.ValidationAccept
	}
	if g.n.isBanned(from) {
		return pubsub.ValidationIgnore
	}
	if len(data) > maxGossip {
		return pubsub.ValidationReject
	}
	all, err := t.open(data)
	if err == nil {
		commits := make([]*dag.Commit, len(all))
		for i, a := range all {
			commits[i] = a.commit
		}
		if bad := dag.Verify(commits); len(bad) > 0 {
			err = fault.Invalid.Errorf("commit %s: its signature does not verify", commits[bad[0]].CID)
		}
	}
	if errors.Is(err, dag.ErrDeferred) {
		return pubsub.ValidationIgnore // what this node cannot judge is nobody's fault
	}
	if err != nil {
		g.n.count.InvalidCommits.Add(1)
		g.n.log.Debug("announcement refused", "peer", from, "error", err)
		return pubsub.ValidationReject
	}
	for _, a := range all {
		if t.doc != nil && a.commit.Doc != *t.doc {
			g.n.count.InvalidCommits.Add(1)
			return pubsub.ValidationReject // a member said it who does not keep the protocol
		}
		way := ByGossip
		if a.envelope == nil {
			way = ByHeader
		}
		g.n.mark(a.commit.CID, Heard, way, from)
		if dag.Future(a.commit.HLC, g.n.replica.Now()) {
			return pubsub.ValidationIgnore // neither applied nor passed on early
		}
	}
	g.losses.heard.Store(t.name, time.Now())
	g.n.count.Heard.Add(uint64(len(all)))
	if g.n.identities.own.Blind && g.n.protected(t.id) {
		return pubsub.ValidationAccept // it is not sealed, as everybody may read it
	}
	if t.doc == nil && g.n.partial(t.id) {
		g.n.repair(from) // whether it concerns the part shows by comparing
		return pubsub.ValidationAccept
	}
	if lost := g.inbox.put(t.id, from, all); lost > 0 {
		g.n.count.Overflows.Add(uint64(lost))
		g.n.repair(from)
	}
	return pubsub.ValidationAccept
}

// repair compares roots with a peer soon, because something was lost.
func (n *Node) repair(p peer.ID) {
	if c, err := n.companion(p); err == nil {
		c.next.Set(pace.Jitter(repairDelay, 0.5))
	}
}

// announce publishes the commits that are made here, as the feed tells of them.
// Those of others are passed on by gossip itself. What is made after a pause goes
// at once; then commits are collected, so that a burst makes few messages.
func (n *Node) announce(ctx context.Context) {
	made := make(chan announcement, maxGossipped)
	var feed sync.WaitGroup
	feed.Go(func() {
		defer close(made)
		n.readFeed(ctx, n.replica.Changes, made)
	})
	defer feed.Wait()
	var last time.Time // when something was published
	for {
		first, ok := <-made
		if !ok {
			return
		}
		batch := []announcement{first}
		size := first.size()
		full := time.NewTimer(collectFor - time.Since(last))
	collect:
		for size < collectBytes && len(batch) < maxGossipped {
			select {
			case a, ok := <-made:
				if !ok {
					break collect
				}
				batch = append(batch, a)
				size += a.size()
			case <-full.C:
				break collect
			}
		}
		full.Stop()
		n.publish(ctx, batch)
		last = time.Now()
	}
}

// announcement is a commit to be told of.
type announcement struct {
	collection dag.CollectionID
	commit     dag.CID
	doc        dag.DocID
	envelope   []byte
	shard      int
}

func (a announcement) size() int { return min(len(a.envelope), inlineBytes) }

// readFeed follows the feed from now on: what happened before is found by
// comparing roots when a peer connects. What cannot be read is tried again, and
// after some times left to comparing too.
func (n *Node) readFeed(ctx context.Context, changes func(context.Context, uint64) iter.Seq2[pando.Change, error], made chan<- announcement) {
	after := n.db.Seq()
	for failures := 1; ; failures++ {
		for c, err := range changes(ctx, after) {
			if ctx.Err() != nil || errors.Is(err, fault.Closed) {
				return
			}
			if err != nil {
				n.log.Warn("changes cannot be announced: trying again", "after", after, "error", err)
				break
			}
			after, failures = c.Seq, 0
			if !n.tell(ctx, c, made) {
				return
			}
		}
		if !pace.Sleep(ctx, pace.Backoff(failures)) {
			return
		}
		if failures >= maxFeedFailures {
			after = n.db.Seq()
			n.spread("")
		}
	}
}

// maxFeedFailures is after how many attempts what cannot be read of the feed is
// stepped over.
const maxFeedFailures = 4

// tell hands a change to whoever tells others of it. It reports false when the
// node closes.
func (n *Node) tell(ctx context.Context, c pando.Change, made chan<- announcement) bool {
	n.pokeReplicators()
	n.lookouts.tell(c)
	protected := n.protected(c.Collection)
	if c.Origin != "" && !protected {
		return true
	}
	if c.Origin == "" {
		n.mark(c.Commit, Synced, "", "")
	}
	envelope, err := n.replica.Block(ctx, c.Commit)
	if err != nil {
		n.log.Debug("a change was not announced", "commit", c.Commit, "error", err)
		return true
	}
	if protected && n.tellOf(ctx, c, envelope) {
		return true
	}
	select {
	case made <- announcement{collection: c.Collection, doc: c.Doc, commit: c.Commit, envelope: envelope}:
		return true
	case <-ctx.Done():
		return false
	}
}

// publish announces commits, those of one topic together.
func (n *Node) publish(ctx context.Context, batch []announcement) {
	for i := range batch {
		batch[i].shard = shardOf(batch[i].doc, n.replica.ShardBits(batch[i].collection))
	}
	slices.SortStableFunc(batch, func(a, b announcement) int {
		return cmp.Or(a.collection.Compare(b.collection), a.shard-b.shard)
	})
	for len(batch) > 0 {
		some := 1
		for some < len(batch) && batch[some].collection == batch[0].collection && batch[some].shard == batch[0].shard {
			some++
		}
		n.publishIn(ctx, batch[0].collection, batch[:some])
		batch = batch[some:]
	}
}

// publishIn announces commits of documents that share their topics.
func (n *Node) publishIn(ctx context.Context, id dag.CollectionID, batch []announcement) {
	voices, missed := n.gossip.voices(id, batch[0].doc)
	for i, v := range voices {
		said, items := v.say(batch)
		if len(said) == 0 {
			continue
		}
		if err := v.handle.Publish(ctx, v.sealed(len(said), items)); err != nil {
			n.log.Debug("announcement failed", "error", err)
		} else if i == 0 {
			n.count.Announced.Add(uint64(len(said)))
			n.markAt(time.Now(), said, Announced, "", "")
		}
	}
	if len(voices) == 0 { // a collection of this second, or one that there is no room for
		n.spread("")
		return
	}
	for _, p := range missed {
		if c, err := n.companion(p); err == nil {
			c.next.Set(pace.Jitter(spreadDelay, 0.5))
		}
	}
}

// say returns what is announced, and which commits it is.
func (v voice) say(batch []announcement) (said []dag.CID, items []byte) {
	for _, a := range batch {
		if next, err := appendTold(items, a.envelope, v.inline); err == nil {
			said, items = append(said, a.commit), next
		}
	}
	return said, items
}

// losses hears from the library what it carried, and what it dropped in silence:
// each loss is made up for by comparing roots.
type losses struct {
	n     *Node
	names sync.Map // collection by the name of its topic
	heard sync.Map // when something was said in a topic last, by its name
}

func (l *losses) lost(p peer.ID) {
	l.n.count.Undelivered.Add(1)
	l.n.repair(p)
}

func (l *losses) RecvRPC(r *pubsub.RPC) {
	size := proto.Size(&r.RPC)
	l.n.count.GossipReceived.Add(uint64(size))
	l.book(&r.RPC, r.From(), size, (*tally).got)
	l.n.rooms.notice(r)
}

func (l *losses) SendRPC(r *pubsub.RPC, to peer.ID) {
	size := proto.Size(&r.RPC)
	l.n.count.GossipSent.Add(uint64(size))
	l.book(&r.RPC, to, size, (*tally).gave)
}

// book counts the messages of an exchange for their collections, and the rest for none.
func (l *losses) book(r *pb.RPC, p peer.ID, size int, count func(*tally, int)) {
	for _, m := range r.GetPublish() {
		if id, ok := l.names.Load(m.GetTopic()); ok {
			message := proto.Size(m)
			count(l.n.traffic.ledger.of(p, id.(dag.CollectionID)), message)
			size -= message
		}
	}
	count(l.n.traffic.ledger.of(p, dag.CollectionID{}), max(size, 0))
}

func (l *losses) DropRPC(r *pubsub.RPC, p peer.ID) {
	if l.n.rooms.lost(r) {
		return
	}
	l.lost(p)
}

func (l *losses) RejectMessage(m *pubsub.Message, reason string) {
	switch reason {
	case pubsub.RejectValidationQueueFull, pubsub.RejectValidationThrottled:
		if !l.n.rooms.missed(m.GetTopic()) {
			l.lost(m.ReceivedFrom)
		}
	}
}
func (l *losses) UndeliverableMessage(m *pubsub.Message) { l.lost(m.ReceivedFrom) }

// Graft hears of a new neighbour in a mesh. What was said in it since the last heartbeat
// the neighbour was not told, being none yet, and will not be told of at the next, being
// one by then.
func (l *losses) Graft(p peer.ID, topic string) {
	if at, ok := l.heard.Load(topic); ok && time.Since(at.(time.Time)) < lately {
		l.n.repair(p)
	}
}

// lately is longer than the second between two heartbeats of gossip.
const lately = 3 * time.Second / 2

func (*losses) OnNewOutboundStream(peer.ID, protocol.ID)             {}
func (*losses) OnClosedOutboundStream(peer.ID)                       {}
func (*losses) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (*losses) Join(string)                                          {}
func (*losses) Leave(string)                                         {}
func (*losses) Prune(peer.ID, string)                                {}
func (*losses) ValidateMessage(*pubsub.Message)                      {}
func (*losses) DeliverMessage(*pubsub.Message)                       {}
func (*losses) DuplicateMessage(*pubsub.Message)                     {}
func (*losses) ThrottlePeer(peer.ID)                                 {}
