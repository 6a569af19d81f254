package p2p

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/pace"
)

// replicator pushes what changes in some collections to one peer. Its cursor moves
// only when the peer acknowledged that all before it is merged there, durably.
type replicator struct {
	peer  peer.ID
	addrs []ma.Multiaddr
	due   pace.Alarm
	stop  context.CancelFunc

	// guarded by Node.mu, as all below
	collections []dag.CollectionID         // sorted; none: all, also future ones
	scopes      map[dag.CollectionID]Scope // of those of which not everything is pushed
	since       time.Time                  // when it fell behind; zero: it is not
	mine        epoch                      // of the feed that seq is of
	seq         uint64
	lastErr     error
	lastAck     time.Time
}

// ReplicatorStatus describes a replicator.
type ReplicatorStatus struct {
	Peer          string
	Addrs         []string
	CollectionIDs []string // none: all
	Collections   []string // their names
	Connected     bool
	State         State            // Active, Unreachable, NotAdmitted or Failing
	Parts         map[string]Scope // of the collections, by name, of which a part is pushed
	Behind        uint64           // changes of this node, of any collection, not acknowledged yet
	Lag           time.Duration    // for how long it has been behind
	LastAck       time.Time
	Problem       string // of the last attempt, or what it waits for; "" if it went well
}

const (
	// pushDelay lets changes gather before they are pushed.
	pushDelay = 20 * time.Millisecond
	// maxReplicators bounds the peers that are pushed to.
	maxReplicators = 256
	// replicatorTag keeps connections from being closed when there are too many.
	replicatorTag = "pando-replicator"
)

func (r *replicator) encode() []byte {
	items := 4
	if len(r.scopes) > 0 {
		items = 5 // as older versions do not read it, who know of no parts
	}
	b := cbor.AppendArray(cbor.AppendArray(nil, items), len(r.addrs))
	for _, a := range r.addrs {
		b = cbor.AppendBytes(b, a.Bytes())
	}
	b = cbor.AppendArray(b, len(r.collections))
	for _, id := range r.collections {
		b = cbor.AppendBytes(b, id[:])
	}
	b = cbor.AppendBytes(b, r.mine[:])
	b = cbor.AppendUint(b, r.seq)
	if items == 4 {
		return b
	}
	b = cbor.AppendArray(b, len(r.scopes))
	for _, id := range slices.SortedFunc(maps.Keys(r.scopes), dag.CollectionID.Compare) {
		b = cbor.AppendBytes(cbor.AppendArray(b, 2), id[:])
		b = appendScope(b, r.scopes[id])
	}
	return b
}

func (n notes) replicators() ([]*replicator, error) {
	var all []*replicator
	err := n.each(noteReplicator, func(key string, r *cbor.Reader) error {
		rep := &replicator{peer: peer.ID(key)}
		items := r.Array()
		if r.Err() == nil && items != 4 && items != 5 {
			r.Fail(fault.Invalid.Errorf("an array of %d items, want 4 or 5", items))
		}
		for i := list(r, "addresses", maxAddrs); i > 0 && r.Err() == nil; i-- {
			if a, err := ma.NewMultiaddrBytes(r.Bytes()); err == nil {
				rep.addrs = append(rep.addrs, a)
			}
		}
		for i := list(r, "collections", maxCollections); i > 0 && r.Err() == nil; i-- {
			var id dag.CollectionID
			exactly(r, "a collection id", id[:])
			rep.collections = append(rep.collections, id)
		}
		exactly(r, "an epoch", rep.mine[:])
		rep.seq = r.Uint()
		if items == 5 {
			rep.scopes = map[dag.CollectionID]Scope{}
			for i := list(r, "parts", maxCollections); i > 0 && r.Err() == nil; i-- {
				var id dag.CollectionID
				tuple(r, 2)
				exactly(r, "a collection id", id[:])
				rep.scopes[id] = readScope(r)
			}
		}
		all = append(all, rep)
		return nil
	})
	return all, err
}

func (n *Node) startReplicators() error {
	all, err := n.notes.replicators()
	if err != nil {
		return err
	}
	for _, r := range all {
		n.startReplicator(r)
	}
	return nil
}

func (n *Node) startReplicator(r *replicator) {
	ctx, stop := context.WithCancel(n.ctx)
	r.due, r.stop, r.since = pace.NewAlarm(), stop, time.Now()
	n.mu.Lock()
	n.replicators[r.peer] = r
	n.mu.Unlock()
	n.host.ConnManager().Protect(r.peer, replicatorTag)
	r.due.Set(0)
	if !n.spawn(func(context.Context) { n.replicate(ctx, r) }) {
		stop()
	}
}

// AddReplicator pushes every change of some collections, named, or of all if none
// is, to a peer from now on, and first what the peer lacks. The peer is trusted
// with these collections, and with no others, until the replicator is removed; it
// has to admit this node in turn. Added again, collections and addresses add up.
func (n *Node) AddReplicator(ctx context.Context, addr string, collections []string) error {
	return n.AddPartReplicator(ctx, addr, collections, pando.Whole)
}

// AddPartReplicator is AddReplicator of a part of one collection. A peer that has not
// got the collection keeps that part of it; one that has gets what it lacks of it.
// Added again, another part takes the place of the first.
func (n *Node) AddPartReplicator(ctx context.Context, addr string, collections []string, part Scope) error {
	infos, err := parsePeers([]string{addr})
	if err != nil {
		return err
	}
	ids, err := n.collectionIDs(collections)
	if err != nil {
		return err
	}
	info := infos[0]
	if info.ID == n.host.ID() {
		return errSelf(info.ID)
	}
	scopes := map[dag.CollectionID]Scope{}
	if !part.Whole {
		if len(ids) != 1 {
			return fault.Invalid.Errorf("replicator: a part is one of one collection, and %d are named: name the one that it is of", len(ids))
		}
		if _, err := n.replica.Matcher(ids[0], part); err != nil {
			return err
		}
		scopes[ids[0]] = part.Canonical()
	}
	n.pardon(info.ID)
	n.mu.Lock()
	full := n.replicators[info.ID] == nil && len(n.replicators) >= maxReplicators
	n.mu.Unlock()
	if full {
		return fault.TooLarge.Errorf("replicator: there are %d already: remove one", maxReplicators)
	}
	n.noting.Lock()
	defer n.noting.Unlock()
	n.mu.Lock()
	r := n.replicators[info.ID]
	fresh := r == nil
	if fresh {
		r = &replicator{peer: info.ID, addrs: info.Addrs, collections: ids, scopes: scopes}
	} else {
		r.scopes = rescoped(r.scopes, ids, scopes)
		if len(ids) == 0 || len(r.collections) == 0 {
			r.collections = nil
		} else {
			r.collections = append(slices.Clone(r.collections), ids...)
			slices.SortFunc(r.collections, dag.CollectionID.Compare)
			r.collections = slices.Compact(r.collections)
		}
		for _, a := range info.Addrs { // the newest in front
			if !slices.ContainsFunc(r.addrs, a.Equal) {
				r.addrs = append([]ma.Multiaddr{a}, r.addrs...)
			}
		}
		r.addrs = r.addrs[:min(len(r.addrs), maxAddrs)]
		r.seq = 0 // until what is new is acknowledged too
		if r.since.IsZero() {
			r.since = time.Now()
		}
	}
	note := r.encode()
	n.mu.Unlock()
	if err := n.notes.put(map[string][]byte{noteReplicator + string(info.ID): note}); err != nil {
		return err
	}
	if fresh {
		n.startReplicator(r)
	} else {
		r.due.Set(0)
	}
	return nil
}

// rescoped returns the parts that are pushed once some collections, or all if none is
// named, are pushed as they are added now.
func rescoped(old map[dag.CollectionID]Scope, ids []dag.CollectionID, added map[dag.CollectionID]Scope) map[dag.CollectionID]Scope {
	next := map[dag.CollectionID]Scope{}
	for id, s := range old {
		if len(ids) > 0 && !slices.Contains(ids, id) {
			next[id] = s
		}
	}
	maps.Copy(next, added)
	return next
}

// RemoveReplicator stops pushing some collections to a peer, or all if none is
// named, and trusting it with them. What the peer was given, documents and join
// secrets, it keeps.
func (n *Node) RemoveReplicator(_ context.Context, id string, collections []string) error {
	p, err := peer.Decode(id)
	if err != nil {
		return fault.Invalid.Errorf("peer id %q: %w: copy it from the list of replicators", id, err)
	}
	ids, err := n.collectionIDs(collections)
	if err != nil {
		return err
	}
	n.noting.Lock()
	defer n.noting.Unlock()
	n.mu.Lock()
	r := n.replicators[p]
	if r == nil {
		n.mu.Unlock()
		return fault.NotFound.Errorf("nothing is replicated to peer %s", id)
	}
	if len(ids) > 0 && len(r.collections) == 0 {
		n.mu.Unlock()
		return fault.Invalid.Errorf("every collection is replicated to peer %s: remove the replicator, and add it again with the collections to keep", id)
	}
	var note []byte
	r.collections = slices.DeleteFunc(slices.Clone(r.collections), func(id dag.CollectionID) bool { return slices.Contains(ids, id) })
	r.scopes = rescoped(r.scopes, ids, nil)
	if len(ids) > 0 && len(r.collections) > 0 {
		note = r.encode()
	} else {
		delete(n.replicators, p)
	}
	n.mu.Unlock()
	if note == nil {
		n.host.ConnManager().Unprotect(p, replicatorTag)
		r.stop()
	}
	return n.notes.put(map[string][]byte{noteReplicator + string(p): note})
}

// Replicators lists the replicators, by peer.
func (n *Node) Replicators() []ReplicatorStatus {
	seq, epoch := n.db.Seq(), n.epoch()
	names := map[dag.CollectionID]string{}
	for _, c := range n.db.Collections() {
		names[c.ID] = c.Name
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []ReplicatorStatus
	for _, r := range n.replicators {
		_, patient := waits(r.lastErr)
		s := ReplicatorStatus{Peer: r.peer.String(), Connected: n.companions[r.peer] != nil, Behind: seq, LastAck: r.lastAck}
		if r.mine == epoch {
			s.Behind = seq - min(seq, r.seq)
		}
		if s.Behind > 0 && !r.since.IsZero() {
			s.Lag = time.Since(r.since)
		}
		for id, part := range r.scopes {
			if s.Parts == nil {
				s.Parts = map[string]Scope{}
			}
			s.Parts[names[id]] = part
		}
		for _, a := range r.addrs {
			s.Addrs = append(s.Addrs, a.String())
		}
		for _, id := range r.collections {
			s.CollectionIDs = append(s.CollectionIDs, id.String())
			s.Collections = append(s.Collections, names[id])
		}
		switch {
		case !s.Connected:
			s.State = Unreachable
		case errors.Is(r.lastErr, fault.Denied):
			s.State = NotAdmitted
		case r.lastErr != nil && !patient:
			s.State = Failing
		default:
			s.State = Active
		}
		if r.lastErr != nil {
			s.Problem = r.lastErr.Error()
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b ReplicatorStatus) int { return slices.Compare([]byte(a.Peer), []byte(b.Peer)) })
	return all
}

func (n *Node) pokeReplicators() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for _, r := range n.replicators {
		if r.since.IsZero() {
			r.since = now
		}
		r.due.Set(pushDelay)
	}
}

// replicate pushes whenever there is something to push.
func (n *Node) replicate(ctx context.Context, r *replicator) {
	failures := 0
	for r.due.Wait(ctx) {
		err := n.pushTo(ctx, r)
		if ctx.Err() != nil {
			return
		}
		n.mu.Lock()
		r.lastErr = err
		n.mu.Unlock()
		if err == nil {
			failures = 0
			continue
		}
		n.log.Debug("replication failed", "peer", r.peer, "error", err)
		// Whatever is made meanwhile waits for the same attempt.
		again, patient := waits(err)
		if patient {
			again = pace.Jitter(again, 0.5)
		} else {
			failures++
			again = min(pace.Backoff(failures), pace.Jitter(redialNamed, 0.5))
		}
		if !pace.Sleep(ctx, again) {
			return
		}
		r.due.Set(0)
	}
}

// errAsks says that the peer lacks so much of a collection that it asks for it itself, of
// all who have it.
type errAsks struct{ collection string }

func (e *errAsks) Error() string {
	return fmt.Sprintf("the peer copies collection %s itself, from all members it knows", e.collection)
}
func (*errAsks) Unwrap() error { return fault.Unavailable }

// waits reports whether an attempt to push ended with something to wait for, which is no
// failure, and for how long.
func waits(err error) (time.Duration, bool) {
	if asks := new(errAsks); errors.As(err, &asks) {
		return copiesFor, true
	}
	busy := new(refuse)
	if errors.As(err, &busy) && busy.Code == refusedBusy {
		return max(busy.After, busyFor), true
	}
	return 0, false
}

// pushTo runs one session that only gives. The peer's cursor into this node's
// feed, which it keeps durably and shows in its HELLO, says where to begin.
func (n *Node) pushTo(ctx context.Context, r *replicator) error {
	n.mu.Lock()
	e := errand{pushOnly: true}
	for _, id := range r.collections {
		if e.only == nil {
			e.only = map[dag.CollectionID]bool{}
		}
		e.only[id] = true
	}
	e.parts = r.scopes // which is never changed, but replaced
	addrs := r.addrs
	n.mu.Unlock()
	if _, err := n.companion(r.peer); err != nil {
		dial, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		if err := n.connect(dial, peer.AddrInfo{ID: r.peer, Addrs: addrs}); err != nil {
			return err
		}
	}
	mine, begun := n.epoch(), time.Now()
	got, err := n.sync(ctx, r.peer, e)
	if err != nil {
		return err
	}
	seq, asks := n.db.Seq(), ""
	for _, c := range n.db.Collections() {
		if e.only != nil && !e.only[c.ID] {
			continue
		}
		v := got.Collections[c.ID]
		if s, ok := e.parts[c.ID]; (ok || n.partial(c.ID)) && v == nil && got.Version < versionOfParts {
			return fault.Unavailable.Errorf("the peer cannot keep %s of collection %s: it speaks an older version: update it", s, c.Name)
		}
		if v == nil {
			return fault.Denied.Errorf("the peer does not admit this node to collection %s: %s", c.Name, admissionHint)
		}
		if v.Problem != "" {
			return fault.Invalid.Errorf("collection %s: %s", c.Name, v.Problem)
		}
		if err := n.keptThere(ctx, c, v); err != nil {
			return err
		}
		if !v.Equal && !v.Acked && n.later.refuses(sharing{r.peer, c.ID}) {
			return fault.Unavailable.Errorf("the peer cannot take all of collection %s yet: %s", c.Name, earlyHint)
		}
		if !v.Equal && v.Asks {
			asks = c.Name // and what of the others was acknowledged is shown next time
			continue
		}
		if !v.Equal && !v.Acked {
			return fault.Unavailable.Errorf("the peer has not acknowledged all of collection %s yet", c.Name)
		}
		seq = min(seq, v.Seq)
	}
	if asks != "" {
		return &errAsks{asks}
	}
	n.noting.Lock()
	defer n.noting.Unlock()
	n.mu.Lock()
	r.mine, r.lastAck = mine, time.Now()
	if r.since = begun; n.db.Seq() <= seq {
		r.since = time.Time{}
	}
	moved := r.seq != seq
	r.seq = seq
	note := r.encode()
	current := n.replicators[r.peer] == r
	n.mu.Unlock()
	if !moved || !current {
		return nil
	}
	return n.notes.put(map[string][]byte{noteReplicator + string(r.peer): note})
}

// keptThere says what is wrong if a peer does not keep all that is pushed to it of a
// collection: what lies outside of its part it does not take, so that nothing of that
// can be acknowledged. Of two filters only the documents tell; those of now.
func (n *Node) keptThere(ctx context.Context, c *pando.Collection, v *verdict) error {
	given, keeps := v.Given, v.Keeps
	if v.Part == "" || keeps.Whole || keeps.Equal(given) {
		return nil
	}
	const hint = "keep that there, too (pando keep), or replicate only what the peer keeps"
	if given.Whole {
		return fault.Invalid.Errorf("the peer keeps only a part of collection %s (%s), and the whole of it is replicated: %s", c.Name, keeps, hint)
	}
	_, all, err := n.parts.of(ctx, c.ID, given)
	if err != nil {
		return err
	}
	_, both, err := n.parts.of(ctx, c.ID, given, keeps)
	if err != nil {
		return err
	}
	if both.Documents < all.Documents { // or what was written meanwhile belongs to both: the next time tells
		return fault.Invalid.Errorf("the peer keeps another part of collection %s (%s): %d of %d documents that are replicated lie outside of it: %s",
			c.Name, keeps, all.Documents-both.Documents, all.Documents, hint)
	}
	return nil
}

// admissionHint is what to do about a peer that is not admitted.
const admissionHint = "let one side join with a ticket (share, join), or name each other (peer connect, on both sides)"

// collectionIDs returns the IDs of named collections, sorted.
func (n *Node) collectionIDs(names []string) ([]dag.CollectionID, error) {
	var ids []dag.CollectionID
	for _, name := range names {
		c, err := n.db.Collection(name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, c.ID)
	}
	slices.SortFunc(ids, dag.CollectionID.Compare)
	return slices.Compact(ids), nil
}
