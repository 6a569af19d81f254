package room

import (
	"slices"
	"strings"
)

// Status is a topic that this node takes part in.
type Status struct {
	Name      string // COLLECTION/ROOM
	Listeners int    // on this node; 0: it publishes, or left just now
	Carried   bool   // only to pass on what others say
	Present   int    // members that are here, this node included
	Peers     int    // connected peers that take part
	Heard     uint64 // messages
	Dropped   uint64 // messages that came too fast, for this node or for a listener
}

// Topics returns the topics that this node takes part in, by name.
func (rs *Rooms) Topics() []Status {
	all := rs.statuses()
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (rs *Rooms) statuses() []Status {
	names := rs.members.Names()
	type open struct {
		status Status
		lines  []*line
	}
	var found []open
	rs.mu.Lock()
	carried := map[*room][]*line{}
	for _, c := range rs.lines {
		if c.room != nil && !c.until.IsZero() {
			carried[c.room] = append(carried[c.room], c)
		}
	}
	for _, r := range rs.all {
		name, ok := names[r.id]
		if !ok {
			continue
		}
		st := Status{Name: name + "/" + r.name, Listeners: len(r.listeners), Carried: len(r.lines) == 0,
			Present: r.present(), Heard: r.heard, Dropped: r.dropped}
		if r.presence.on {
			st.Present++
		}
		found = append(found, open{st, append(slices.Clone(r.lines), carried[r]...)})
	}
	rs.mu.Unlock()
	all := []Status{}
	for _, o := range found {
		peers := map[string]bool{}
		for _, c := range o.lines {
			for _, p := range c.topic.Followers() {
				peers[string(p)] = true
			}
		}
		o.status.Peers = len(peers)
		all = append(all, o.status)
	}
	return all
}
