package host

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
func (h *Host) familiar(p peer.ID) bool {
	return h.known(p) || h.gate.allows(p) || h.lines.Load().knows(p)
}

// known reports whether a peer was named by the operator, or proved to be a member.
func (h *Host) known(p peer.ID) bool { return h.ties.Named(p) || h.ties.Member(p) }

// Locked reports whether a peer is to be told and given nothing: it stands at the
// door of a closed node.
func (h *Host) Locked(p peer.ID) bool { return h.gate.closed && !h.familiar(p) }

// meet looks at a new connection.
func (h *Host) meet(c network.Conn) {
	p := c.RemotePeer()
	if h.Refuses(p) != nil {
		h.count.gated.Add(1)
		h.spawn(func(context.Context) { c.Close() }) // it is gone for this node anyway
		return
	}
	if h.familiar(p) {
		return
	}
	h.door.mu.Lock()
	defer h.door.mu.Unlock()
	if _, there := h.door.since[p]; there {
		return
	}
	h.door.since[p] = time.Now()
	if len(h.door.since) > maxAtDoor {
		h.door.alarm.Set(0)
	} else if h.gate.closed {
		h.door.alarm.Set(StrangerTimeout)
	}
}

// meetAll looks again at all connections.
func (h *Host) meetAll() {
	for _, c := range h.Network().Conns() {
		h.meet(c)
	}
}

// parted forgets a peer whose last connection ended.
func (h *Host) parted(p peer.ID) {
	if h.Here(p) {
		return
	}
	h.door.mu.Lock()
	defer h.door.mu.Unlock()
	delete(h.door.since, p)
}

// keepDoor sends strangers away: all whose time is over, and those who are too many.
func (h *Host) keepDoor(ctx context.Context) {
	for h.door.alarm.Wait(ctx) {
		for _, p := range h.unwelcome(time.Now()) {
			h.count.pruned.Add(1)
			h.log.Debug("a stranger is sent away", "peer", p)
			h.spawn(func(context.Context) { h.Network().ClosePeer(p) }) // one that is stuck holds up nobody
		}
	}
}

// unwelcome returns who has to leave the door. What strangers are worth to gossip or
// other parts of the host does not count: it is theirs to choose.
func (h *Host) unwelcome(now time.Time) []peer.ID {
	d := h.door
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.since, func(p peer.ID, _ time.Time) bool { return h.familiar(p) })
	all := slices.SortedFunc(maps.Keys(d.since), func(a, b peer.ID) int {
		return cmp.Or(d.since[a].Compare(d.since[b]), cmp.Compare(a, b))
	})
	var out []peer.ID
	for i, p := range all {
		late := h.gate.closed && !now.Before(d.since[p].Add(StrangerTimeout))
		if late || len(all)-i > maxAtDoor {
			out = append(out, p)
			delete(d.since, p)
		} else if h.gate.closed {
			d.alarm.Set(d.since[p].Add(StrangerTimeout).Sub(now))
			break
		}
	}
	return out
}
