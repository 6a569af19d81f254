package room

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
)

// Gossip passes on only what a node takes part in itself: two members of a room that
// both know nobody but a third, who is not in it, would not hear each other. So
// members of the collection carry its rooms for others: a node sees in which lines
// its neighbours are, and which of these belong to a collection whose secret it
// knows.
//
// A room is carried as long as somebody in it is heard: two who carried it only for
// each other would never end.

// carrier is what is known of lines that others are in. Only Run uses it.
type carrier struct {
	houses     map[string]claim // by the part of a line's name that stands for the collection
	candidates map[string]*candidate
	perPeer    map[peer.ID]int
	next       time.Time // when to look again
}

// candidate is a line that this node may carry.
type candidate struct {
	house string
	tag   roomTag
	by    peer.ID   // who made it known
	at    time.Time // of the next look
	tries int
}

// sighting is that a peer takes part in a line.
type sighting struct {
	peer peer.ID
	name string
}

// Follows takes note of the lines among the topics that a peer says it follows.
func (rs *Rooms) Follows(p peer.ID, topics []string) {
	for _, name := range topics {
		if len(name) != len(linePrefix)+2*linePart+1 {
			continue
		}
		rs.noticing.Lock()
		if len(rs.noticed) < maxCandidates {
			rs.noticed = append(rs.noticed, sighting{p, name})
		}
		rs.noticing.Unlock()
		rs.poke()
	}
}

func newCarrier() carrier {
	return carrier{candidates: map[string]*candidate{}, houses: map[string]claim{}, perPeer: map[peer.ID]int{}}
}

// learn takes the secrets that collections have now.
func (c *carrier) learn(secrets map[dag.CollectionID][]ident.Secret) {
	clear(c.houses)
	for id, all := range secrets {
		for _, s := range all {
			c.houses[house(s, id)] = claim{id, s}
		}
	}
	for _, k := range c.candidates {
		k.at, k.tries = time.Time{}, 0
	}
}

// carry decides which lines to carry, and which no longer.
func (rs *Rooms) carry(now time.Time) {
	rs.noticing.Lock()
	noticed := rs.noticed
	rs.noticed = nil
	rs.noticing.Unlock()
	k := &rs.carrier
	for _, s := range noticed {
		if old := k.candidates[s.name]; old != nil {
			old.at, old.tries = now, 0
			continue
		}
		house, tag, ok := splitLine(s.name)
		if !ok || len(k.candidates) >= maxCandidates || k.perPeer[s.peer] >= candidatesPerPeer {
			continue
		}
		k.candidates[s.name] = &candidate{house: house, tag: tag, by: s.peer, at: now}
		k.perPeer[s.peer]++
	}
	k.next = time.Time{}
	for name, one := range k.candidates {
		if !now.Before(one.at) && !rs.consider(name, one, now) {
			delete(k.candidates, name)
			if k.perPeer[one.by]--; k.perPeer[one.by] <= 0 {
				delete(k.perPeer, one.by)
			}
			continue
		}
		if k.next.IsZero() || one.at.Before(k.next) {
			k.next = one.at
		}
	}
}

// consider looks at a line that others are in, and says when to do so again. It
// reports false if nobody is any more.
func (rs *Rooms) consider(name string, one *candidate, now time.Time) bool {
	rs.mu.Lock()
	c := rs.lines[name]
	carried := c != nil && !c.until.IsZero()
	joined, ended := c != nil && !carried, carried && !now.Before(c.until)
	if carried {
		one.at = c.until
	}
	rs.mu.Unlock()
	in := rs.gossip.Followers(name)
	switch {
	case joined: // by a user of this node
		one.at, one.tries = now.Add(linger), 0
		return true
	case carried && (ended || len(in) == 0):
		rs.joining.Lock()
		rs.mu.Lock()
		still := rs.lines[name] == c && !c.until.IsZero()
		rs.mu.Unlock()
		if still {
			rs.part(c)
		}
		rs.joining.Unlock()
		one.at, one.tries = now.Add(carryAgain), 0
		return len(in) > 0
	case carried:
		if soon := now.Add(presenceEvery); soon.Before(one.at) {
			one.at = soon
		}
		return true
	case len(in) == 0:
		return false
	}
	cl, ok := rs.carrier.houses[one.house]
	if !ok {
		one.at = now.Add(carryAgain)
		return true
	}
	if !rs.between(cl.id, in) || !rs.begin(cl, one.tag, now) {
		// Who is in it may have yet to prove that it may be.
		one.at = now.Add(min(carryFirst<<min(one.tries, 16), carryAgain))
		one.tries++
		return true
	}
	one.at, one.tries = now.Add(presenceEvery), 0
	return true
}

// between reports whether this node may be the only way between some peers that are
// in a room of a collection, and others.
func (rs *Rooms) between(id dag.CollectionID, in []peer.ID) bool {
	all, members := rs.members.Sharing(id), 0
	for _, p := range in {
		if slices.Contains(all, p) {
			members++
		}
	}
	return members > 0 && len(all) > 1 && (members > 1 || len(all) <= smallNetwork)
}

// begin carries a line.
func (rs *Rooms) begin(cl claim, tag roomTag, now time.Time) bool {
	rs.mu.Lock()
	carried := 0
	for _, c := range rs.lines {
		if !c.until.IsZero() {
			carried++
		}
	}
	rs.mu.Unlock()
	if carried >= maxRoomsCarried {
		return false
	}
	rs.joining.Lock()
	defer rs.joining.Unlock()
	rs.mu.Lock()
	_, joined := rs.lines[lineName(cl, tag)]
	rs.mu.Unlock()
	if joined {
		return true
	}
	c, err := rs.join(cl, tag, true)
	if err != nil {
		rs.log.Debug("a topic cannot be carried", "error", err)
		return false
	}
	rs.mu.Lock()
	c.until = now.Add(carryFor)
	rs.mu.Unlock()
	return true
}
