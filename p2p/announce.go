package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/pace"
	"github.com/pandodb/pando/internal/room"
)

// announcer tells other peers of commits as they are made, and hears of theirs. It is
// fast and may lose; nothing but speed depends on it.
//
// Each collection has topics, under names and keys that follow from its secret: who was
// not admitted does not see what they are of, and hears and says nothing there.
type announcer struct {
	n     *Node
	inbox *inbox
	heard sync.Map // when something was said in a topic last, by its name

	mu       sync.Mutex // guards what follows
	channels map[dag.CollectionID]channel
	lacking  map[dag.CollectionID]bool // that there was no room for
}

// topic is one in which commits are announced.
type topic struct {
	*gossip.Topic
	doc *dag.DocID // that it is for; nil: for many
}

func (n *Node) startGossip() error {
	n.gossip = gossip.New(gossip.Config{Ties: ties{n}, Quarantine: quarantine, Logger: n.log})
	n.announcer = &announcer{n: n, inbox: newInbox(), channels: map[dag.CollectionID]channel{}}
	n.rooms = room.New(n.ctx, room.Config{Key: n.key, Gossip: n.gossip, Members: ties{n}, Logger: n.log})
	if err := n.gossip.Start(n.ctx, n.host); err != nil {
		return err
	}
	n.announcer.follow()
	return nil
}

// join begins to take part in a topic or, quietly, only to be able to speak in it.
func (a *announcer) join(c gossip.Channel, doc *dag.DocID, quiet bool) (*topic, error) {
	t := &topic{doc: doc}
	var err error
	t.Topic, err = a.n.gossip.Join(c, func(from peer.ID, said []byte, err error) gossip.Verdict {
		return a.hear(c, doc, from, said, err)
	})
	if err == nil && !quiet {
		if err = t.Listen(); err != nil {
			a.leave(t)
		}
	}
	return t, err
}

// leave ends what join began. What fails there fails because the node closes.
func (a *announcer) leave(t *topic) {
	t.Leave()
	a.heard.Delete(t.Name)
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

// announced is what is said of so many commits.
func announced(id dag.CollectionID, n int, items []byte) []byte {
	b := cbor.AppendUint(cbor.AppendArray(nil, 3), 1)
	b = cbor.AppendBytes(b, id[:])
	return append(cbor.AppendArray(b, n), items...)
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
func (a *announcer) hear(c gossip.Channel, doc *dag.DocID, from peer.ID, said []byte, err error) gossip.Verdict {
	if len(said)+gossip.Overhead > maxGossip {
		return gossip.Reject
	}
	var all []told
	if err == nil {
		all, err = readTold(said, c.Collection)
	}
	if err == nil {
		commits := make([]*dag.Commit, len(all))
		for i, t := range all {
			commits[i] = t.commit
		}
		if bad := dag.Verify(commits); len(bad) > 0 {
			err = fault.Invalid.Errorf("commit %s: its signature does not verify", commits[bad[0]].CID)
		}
	}
	if errors.Is(err, dag.ErrDeferred) {
		return gossip.Ignore // what this node cannot judge is nobody's fault
	}
	if err != nil {
		a.n.count.InvalidCommits.Add(1)
		a.n.log.Debug("announcement refused", "peer", from, "error", err)
		return gossip.Reject
	}
	for _, t := range all {
		if doc != nil && t.commit.Doc != *doc {
			a.n.count.InvalidCommits.Add(1)
			return gossip.Reject // a member said it who does not keep the protocol
		}
		way := ByGossip
		if t.envelope == nil {
			way = ByHeader
		}
		a.n.mark(t.commit.CID, Heard, way, from)
		if dag.Future(t.commit.HLC, a.n.replica.Now()) {
			return gossip.Ignore // neither applied nor passed on early
		}
	}
	a.heard.Store(c.Name, time.Now())
	a.n.count.Heard.Add(uint64(len(all)))
	if a.n.identities.own.Blind && a.n.protected(c.Collection) {
		return gossip.Accept // it is not sealed, as everybody may read it
	}
	if doc == nil && a.n.partial(c.Collection) {
		a.n.repair(from) // whether it concerns the part shows by comparing
		return gossip.Accept
	}
	if lost := a.inbox.put(c.Collection, from, all); lost > 0 {
		a.n.count.Overflows.Add(uint64(lost))
		a.n.repair(from)
	}
	return gossip.Accept
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
	voices, missed := n.announcer.voices(id, batch[0].doc)
	for i, v := range voices {
		said, items := v.say(batch)
		if len(said) == 0 {
			continue
		}
		if err := v.Publish(ctx, announced(id, len(said), items)); err != nil {
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

// lost makes up, by comparing roots, for announcements that were dropped on their way. Of
// what applications say it is only counted.
func (a *announcer) lost(p peer.ID, topics []string) {
	posts := 0
	for _, name := range topics {
		if a.n.rooms.Lost(name) {
			posts++
		}
	}
	if posts > 0 && posts == len(topics) {
		return
	}
	a.n.count.Undelivered.Add(1)
	a.n.repair(p)
}

// grafted hears of a new neighbour in a mesh. What was said in it since the last heartbeat
// the neighbour was not told, being none yet, and will not be told of at the next, being
// one by then.
func (a *announcer) grafted(p peer.ID, topic string) {
	if at, ok := a.heard.Load(topic); ok && time.Since(at.(time.Time)) < lately {
		a.n.repair(p)
	}
}

// lately is longer than the second between two heartbeats of gossip.
const lately = 3 * time.Second / 2
