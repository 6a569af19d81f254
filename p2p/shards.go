package p2p

import (
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
)

// A collection is told of in 2^k topics, by the first k bits of docIDs. k is the
// largest that any version of the collection asks for: what a node uses of it is its
// own choice, where its changes are told must not be.

// maxTopics bounds the topics that a node takes part in, of all kinds. Names of more
// than some thousand do not fit into what the library says first on a connection,
// and then the peer learns of none, silently; other implementations take 1,000.
const maxTopics = 1000

// slots counts the topics that a node takes part in.
type slots struct {
	mu    sync.Mutex // guards taken; taken last
	taken int
}

// take takes places for n topics, all or none.
func (s *slots) take(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken+n > maxTopics {
		return false
	}
	s.taken += n
	return true
}

func (s *slots) give(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken -= n
}

func (s *slots) used() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// channel is the topics of one collection. Whoever cannot be reached in the shards of
// the secret in use, because it does not know that secret yet, or another number of
// them, or has no room, is reached in the topic for all documents of some secret.
type channel struct {
	secret ident.Secret // in use, whose shards these are
	bits   int
	shards []*topic // 2^bits, or none
	whole  []*topic // one for each secret, in their order
	quiet  bool     // this node only speaks there: it keeps a part, and watches that
}

// shardOf returns the topic, of 2^bits, in which a document is told of.
func shardOf(doc dag.DocID, bits int) int { return int(doc[0]) >> (8 - bits) }

// open takes part in some topics, all or none.
func (g *gossip) open(id dag.CollectionID, s ident.Secret, bits int, quiet bool) ([]*topic, bool) {
	if !g.n.topicSlots.take(1 << bits) {
		return nil, false
	}
	var all []*topic
	for shard := range 1 << bits {
		t, err := g.join(id, s, shardName(s, id, bits, shard), quiet)
		if err != nil {
			g.n.log.Warn("live changes of a collection cannot be followed", "collection", id, "error", err)
			g.close(all)
			g.n.topicSlots.give(1<<bits - len(all))
			return nil, false
		}
		all = append(all, t)
	}
	return all, true
}

func (g *gossip) close(all []*topic) {
	for _, t := range all {
		g.leave(t)
	}
	g.n.topicSlots.give(len(all))
}

// follow takes part in the topics of the collections that exist. What there is no
// room for converges by comparing.
func (g *gossip) follow() {
	ring, _ := g.n.admission.keys()
	g.mu.Lock()
	defer g.mu.Unlock()
	lacking := map[dag.CollectionID]bool{}
	for _, id := range ring.ids {
		if g.n.has(id) && !g.followWhole(id, ring.secrets[id]) {
			lacking[id] = true
		}
	}
	for id := range g.channels { // only now, so that no collection is without a topic for these
		if !g.followShards(id, ring.secrets[id][0]) {
			lacking[id] = true
		}
	}
	if len(lacking) > len(g.lacking) {
		g.n.log.Warn("there are more topics than a node takes part in: changes of some collections come late, or twice",
			"collections", len(lacking), "topics", maxTopics)
	}
	g.lacking = lacking
	g.n.watchAgain()
}

// followWhole takes part in the topics for all documents of a collection.
func (g *gossip) followWhole(id dag.CollectionID, secrets []ident.Secret) (all bool) {
	ch := g.channels[id]
	if quiet := g.n.partial(id); quiet != ch.quiet {
		g.close(ch.whole)
		ch.whole, ch.quiet = nil, quiet
	}
	if slices.EqualFunc(ch.whole, secrets, func(t *topic, s ident.Secret) bool { return t.name == topicName(s, id) }) {
		return true
	}
	whole := make([]*topic, 0, len(secrets))
	for _, s := range secrets {
		name := topicName(s, id)
		if i := slices.IndexFunc(ch.whole, func(t *topic) bool { return t.name == name }); i >= 0 {
			whole = append(whole, ch.whole[i])
		} else if one, ok := g.open(id, s, 0, ch.quiet); ok {
			whole = append(whole, one...)
		}
	}
	// Of secrets that gave way to others.
	g.close(slices.DeleteFunc(slices.Clone(ch.whole), func(t *topic) bool { return slices.Contains(whole, t) }))
	ch.whole = whole
	g.channels[id] = ch
	return len(whole) == len(secrets)
}

// followShards takes part in the shards of a collection, and leaves those that it is
// not told in any more.
func (g *gossip) followShards(id dag.CollectionID, s ident.Secret) (all bool) {
	ch, bits := g.channels[id], g.n.replica.ShardBits(id)
	if ch.quiet {
		bits = 0 // everybody follows the topic for all documents too
	}
	if len(ch.shards) > 0 && (ch.secret != s || ch.bits != bits) {
		g.close(ch.shards)
		ch.shards = nil
	}
	if bits > 0 && len(ch.shards) == 0 {
		ch.shards, _ = g.open(id, s, bits, false)
		ch.secret, ch.bits = s, bits
	}
	g.channels[id] = ch
	return bits == 0 || len(ch.shards) > 0
}

// lacks returns the collections that there was no room for.
func (g *gossip) lacks() map[dag.CollectionID]bool {
	if g == nil { // it does not run yet
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lacking
}

// voice is a topic to announce something in.
type voice struct {
	*topic
	inline int // commits of up to so many bytes are said in full
}

// voices returns the topics to announce a commit of a document in: its shard, and
// others with members that do not follow that. missed are the connected members to
// compare with soon, because they follow none.
func (g *gossip) voices(id dag.CollectionID, doc dag.DocID) (out []voice, missed []peer.ID) {
	g.mu.Lock()
	ch := g.channels[id]
	g.mu.Unlock()
	all := ch.whole
	if len(ch.shards) > 0 {
		all = append([]*topic{ch.shards[shardOf(doc, ch.bits)]}, all...)
	}
	reached := map[peer.ID]bool{}
	for _, t := range all {
		needed := len(out) == 0
		peers := t.handle.ListPeers()
		for _, p := range peers {
			if _, ok := g.n.admission.member(p, id); ok && !reached[p] {
				reached[p], needed = true, true
			}
		}
		if !needed {
			continue
		}
		v := voice{t, inlineBytes}
		if len(peers) > crowd {
			v.inline = inlineCrowded
		}
		out = append(out, v)
	}
	if ch.quiet { // that it arrived is known by comparing alone, and nobody else would find it
		return out, g.n.tellers(id)
	}
	for _, p := range g.n.sharers(id) {
		if !reached[p] && !g.n.keepsPart(p, id) {
			missed = append(missed, p)
		}
	}
	return out, missed
}
