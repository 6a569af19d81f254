package p2p

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/pace"
)

// door is where strangers stand: peers that are connected, and of which nothing is
// known. Only so many fit, and the newest takes the place of the oldest: a member
// proves itself in its first message, and leaves the door by that. At the door of a
// closed node nobody stands for long.
type door struct {
	alarm pace.Alarm

	mu    sync.Mutex // guards what follows
	since map[peer.ID]time.Time
}

func newDoor() *door { return &door{alarm: pace.NewAlarm(), since: map[peer.ID]time.Time{}} }

// familiar reports whether a peer is more than a stranger: one that the operator
// named or allowed, that proved a secret since it is connected, or a known client of the API.
func (n *Node) familiar(p peer.ID) bool {
	return n.named(p) || n.admission.knows(p) || n.gate.allows(p) || n.lines.Load().knows(p)
}

// locked reports whether a peer is to be told and given nothing: it stands at the
// door of a closed node.
func (n *Node) locked(p peer.ID) bool { return n.gate.closed && !n.familiar(p) }

// meet looks at a new connection.
func (n *Node) meet(c network.Conn) {
	p := c.RemotePeer()
	if n.gate.refuses(p) != nil {
		n.count.Gated.Add(1)
		n.spawn(func(context.Context) { c.Close() }) // it is gone for this node anyway
		return
	}
	if n.familiar(p) {
		return
	}
	n.door.mu.Lock()
	defer n.door.mu.Unlock()
	if _, there := n.door.since[p]; there {
		return
	}
	n.door.since[p] = time.Now()
	if len(n.door.since) > maxAtDoor {
		n.door.alarm.Set(0)
	} else if n.gate.closed {
		n.door.alarm.Set(strangerTimeout)
	}
}

// parted forgets a peer whose last connection ended.
func (n *Node) parted(p peer.ID) {
	if n.here(p) {
		return
	}
	n.finder.parted(p)
	n.door.mu.Lock()
	defer n.door.mu.Unlock()
	delete(n.door.since, p)
}

// keepDoor sends strangers away: all whose time is over, and those who are too many.
func (n *Node) keepDoor(ctx context.Context) {
	for n.door.alarm.Wait(ctx) {
		for _, p := range n.unwelcome(time.Now()) {
			n.count.Pruned.Add(1)
			n.log.Debug("a stranger is sent away", "peer", p)
			n.spawn(func(context.Context) { n.host.Network().ClosePeer(p) }) // one that is stuck holds up nobody
		}
	}
}

// unwelcome returns who has to leave the door. What strangers are worth to gossip or
// other parts of the host does not count: it is theirs to choose.
func (n *Node) unwelcome(now time.Time) []peer.ID {
	d := n.door
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.since, func(p peer.ID, _ time.Time) bool { return n.familiar(p) })
	all := slices.SortedFunc(maps.Keys(d.since), func(a, b peer.ID) int {
		return cmp.Or(d.since[a].Compare(d.since[b]), cmpID(a, b))
	})
	var out []peer.ID
	for i, p := range all {
		late := n.gate.closed && !now.Before(d.since[p].Add(strangerTimeout))
		if late || len(all)-i > maxAtDoor {
			out = append(out, p)
			delete(d.since, p)
		} else if n.gate.closed {
			d.alarm.Set(d.since[p].Add(strangerTimeout).Sub(now))
			break
		}
	}
	return out
}
