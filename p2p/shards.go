package p2p

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/ident"
)

// A collection is told of in 2^k topics, by the first k bits of docIDs. k is the
// largest that any version of the collection asks for: what a node uses of it is its
// own choice, where its changes are told must not be.

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
func (a *announcer) open(id dag.CollectionID, s ident.Secret, bits int, quiet bool) ([]*topic, bool) {
	if a.n.gossip.Topics()+1<<bits > gossip.MaxTopics {
		return nil, false
	}
	var all []*topic
	for shard := range 1 << bits {
		c := gossip.Channel{Name: shardName(s, id, bits, shard), Collection: id, Secret: s, Key: gossipKey(s, id)}
		t, err := a.join(c, nil, quiet)
		if err != nil {
			a.n.log.Warn("live changes of a collection cannot be followed", "collection", id, "error", err)
			a.close(all)
			return nil, false
		}
		all = append(all, t)
	}
	return all, true
}

func (a *announcer) close(all []*topic) {
	for _, t := range all {
		a.leave(t)
	}
}

// follow takes part in the topics of the collections that exist. What there is no
// room for converges by comparing.
func (a *announcer) follow() {
	ring, _ := a.n.admission.keys()
	a.mu.Lock()
	defer a.mu.Unlock()
	lacking := map[dag.CollectionID]bool{}
	for _, id := range ring.ids {
		if a.n.has(id) && !a.followWhole(id, ring.secrets[id]) {
			lacking[id] = true
		}
	}
	for id := range a.channels { // only now, so that no collection is without a topic for these
		if !a.followShards(id, ring.secrets[id][0]) {
			lacking[id] = true
		}
	}
	if len(lacking) > len(a.lacking) {
		a.n.log.Warn("there are more topics than a node takes part in: changes of some collections come late, or twice",
			"collections", len(lacking), "topics", gossip.MaxTopics)
	}
	a.lacking = lacking
	a.n.watchAgain()
}

// followWhole takes part in the topics for all documents of a collection.
func (a *announcer) followWhole(id dag.CollectionID, secrets []ident.Secret) (all bool) {
	ch := a.channels[id]
	if quiet := a.n.partial(id); quiet != ch.quiet {
		a.close(ch.whole)
		ch.whole, ch.quiet = nil, quiet
	}
	if slices.EqualFunc(ch.whole, secrets, func(t *topic, s ident.Secret) bool { return t.Name == topicName(s, id) }) {
		return true
	}
	whole := make([]*topic, 0, len(secrets))
	for _, s := range secrets {
		name := topicName(s, id)
		if i := slices.IndexFunc(ch.whole, func(t *topic) bool { return t.Name == name }); i >= 0 {
			whole = append(whole, ch.whole[i])
		} else if one, ok := a.open(id, s, 0, ch.quiet); ok {
			whole = append(whole, one...)
		}
	}
	// Of secrets that gave way to others.
	a.close(slices.DeleteFunc(slices.Clone(ch.whole), func(t *topic) bool { return slices.Contains(whole, t) }))
	ch.whole = whole
	a.channels[id] = ch
	return len(whole) == len(secrets)
}

// followShards takes part in the shards of a collection, and leaves those that it is
// not told in any more.
func (a *announcer) followShards(id dag.CollectionID, s ident.Secret) (all bool) {
	ch, bits := a.channels[id], a.n.replica.ShardBits(id)
	if ch.quiet {
		bits = 0 // everybody follows the topic for all documents too
	}
	if len(ch.shards) > 0 && (ch.secret != s || ch.bits != bits) {
		a.close(ch.shards)
		ch.shards = nil
	}
	if bits > 0 && len(ch.shards) == 0 {
		ch.shards, _ = a.open(id, s, bits, false)
		ch.secret, ch.bits = s, bits
	}
	a.channels[id] = ch
	return bits == 0 || len(ch.shards) > 0
}

// lacks returns the collections that there was no room for.
func (a *announcer) lacks() map[dag.CollectionID]bool {
	if a == nil { // it does not run yet
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lacking
}

// voice is a topic to announce something in.
type voice struct {
	*topic
	inline int // commits of up to so many bytes are said in full
}

// voices returns the topics to announce a commit of a document in: its shard, and
// others with members that do not follow that. missed are the connected members to
// compare with soon, because they follow none.
func (a *announcer) voices(id dag.CollectionID, doc dag.DocID) (out []voice, missed []peer.ID) {
	a.mu.Lock()
	ch := a.channels[id]
	a.mu.Unlock()
	all := ch.whole
	if len(ch.shards) > 0 {
		all = append([]*topic{ch.shards[shardOf(doc, ch.bits)]}, all...)
	}
	reached := map[peer.ID]bool{}
	for _, t := range all {
		needed := len(out) == 0
		peers := t.Followers()
		for _, p := range peers {
			if _, ok := a.n.admission.member(p, id); ok && !reached[p] {
				reached[p], needed = true, true
			}
		}
		if !needed {
			continue
		}
		v := voice{t, inlineBytes}
		if len(peers) > gossip.Crowd {
			v.inline = inlineCrowded
		}
		out = append(out, v)
	}
	if ch.quiet { // that it arrived is known by comparing alone, and nobody else would find it
		return out, a.n.tellers(id)
	}
	for _, p := range a.n.sharers(id) {
		if !reached[p] && !a.n.keepsPart(p, id) {
			missed = append(missed, p)
		}
	}
	return out, missed
}
