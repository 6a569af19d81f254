package p2p

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/pace"
)

// Keep says what this node gets of a collection from now on, and makes it compare that
// with its peers soon. What is here stays here: documents that do not belong to the
// scope are not followed any more, and what this node writes to them reaches the others
// all the same.
func (n *Node) Keep(_ context.Context, collection string, s Scope) error {
	c, err := n.db.Collection(collection)
	if err != nil {
		return err
	}
	if _, err := n.replica.Matcher(c.ID, s); err != nil {
		return err
	}
	return n.keep(c.ID, s)
}

// KeepDocs adds documents to what this node keeps of a collection, or takes them out.
func (n *Node) KeepDocs(_ context.Context, collection string, add, remove []dag.DocID) error {
	c, err := n.db.Collection(collection)
	if err != nil {
		return err
	}
	n.noting.Lock() // two that add documents at once both do
	defer n.noting.Unlock()
	s := n.scopeOf(c.ID)
	if s.Whole {
		if len(remove) > 0 {
			return fault.Invalid.Errorf("collection %s is kept whole, and single documents cannot be left out: say by a filter, or by naming them, what to keep instead", collection)
		}
		return nil // they are kept already
	}
	s.Docs = slices.DeleteFunc(slices.Concat(s.Docs, add), func(d dag.DocID) bool { return slices.Contains(remove, d) })
	if _, err := n.replica.Matcher(c.ID, s); err != nil {
		return err
	}
	return n.keepHeld(c.ID, s)
}

// Kept tells of each collection what this node keeps of it, and when it was last known
// to have all of that.
func (n *Node) Kept() []pando.Coverage { return n.db.Coverage() }

// keep changes the scope of a collection, which need not be here yet.
func (n *Node) keep(id dag.CollectionID, s Scope) error {
	n.noting.Lock()
	defer n.noting.Unlock()
	return n.keepHeld(id, s)
}

// keepHeld is keep for who holds noting.
func (n *Node) keepHeld(id dag.CollectionID, s Scope) error {
	s = s.Canonical()
	if n.scopeOf(id).Equal(s) {
		return nil
	}
	if err := n.replica.SetScope(id, s); err != nil {
		return err
	}
	n.mu.Lock()
	n.scopes = maps.Clone(n.scopes)
	if n.scopes == nil {
		n.scopes = map[dag.CollectionID]Scope{}
	}
	if s.Whole {
		delete(n.scopes, id)
	} else {
		n.scopes[id] = s
	}
	n.mu.Unlock()
	// That all of a peer's feed is here was true of another part.
	n.cursors.dropCollection(id)
	n.followAndTell()
	return nil
}

// keepFirst notes the part that a peer offers of a collection which is not here yet,
// unless the operator has said already what to keep of it.
func (n *Node) keepFirst(id dag.CollectionID, parts map[dag.CollectionID]Scope) error {
	s, ok := parts[id]
	if !ok || s.Whole || n.partial(id) {
		return nil
	}
	return n.keep(id, s)
}

// covered notes that this node has all that it keeps of a collection, as the comparison
// with a peer that keeps the whole of it shows. at is before the peer looked: it may have
// changed something since.
func (n *Node) covered(id dag.CollectionID, s Scope, p peer.ID, at time.Time) {
	if err := n.replica.Covered(id, s, p.String(), at); err != nil {
		n.log.Warn("that a collection is complete cannot be stored", "collection", id, "error", err)
	}
}

// JoinPart is Join with a ticket for one collection, of which this node keeps a part.
func (n *Node) JoinPart(ctx context.Context, ticket string, s Scope, progress func(Progress)) (JoinResult, error) {
	t, err := ParseTicket(ticket)
	if err != nil {
		return JoinResult{}, err
	}
	if s.Whole {
		return n.Join(ctx, ticket, progress)
	}
	if len(t.Collections) != 1 {
		return JoinResult{}, fault.Invalid.Errorf("join: the ticket is for %d collections, and the part is of one: ask for a ticket for that one (pando share NAME), or join and then say what to keep (pando keep)", len(t.Collections))
	}
	c := t.Collections[0]
	here := n.has(c.ID)
	if here {
		if _, err := n.replica.Matcher(c.ID, s); err != nil {
			return JoinResult{}, err
		}
	}
	if err := n.partAtPeer(ctx, t, s); err != nil { // before anything changes here
		return JoinResult{}, fmt.Errorf("join: %w", err)
	}
	before := n.scopeOf(c.ID)
	if err := n.keep(c.ID, s); err != nil {
		return JoinResult{}, err
	}
	res, err := n.Join(ctx, ticket, progress)
	switch late := errors.Is(err, errNoPart) && !here; {
	case late && n.has(c.ID): // the collection itself has come, and should not come whole
		before = Scope{}
		err = fmt.Errorf("%w; nothing of it is kept (say what: pando keep %s)", err, c.Name)
	case !errors.Is(err, errNoPart) && (err == nil || n.has(c.ID)):
		return res, err
	}
	if err := n.keep(c.ID, before); err != nil { // as if nobody had asked
		n.log.Warn("what to keep of a collection cannot be stored", "collection", c.ID, "error", err)
	}
	return res, err
}

// partAtPeer asks the node that made a ticket for one collection whether it can tell a
// part of that. Nothing changes on either side: the secret of the ticket is shown, and
// not accepted.
func (n *Node) partAtPeer(ctx context.Context, t Ticket, s Scope) error {
	if t.Peer == n.host.ID() {
		return fault.Invalid.Errorf("this node made the ticket itself: use it on another node")
	}
	if err := n.checkNames(t); err != nil {
		return err
	}
	c := claim{t.Collections[0].ID, t.Collections[0].secret}
	n.startAfresh(t.Peer)
	if err := n.connect(ctx, peer.AddrInfo{ID: t.Peer, Addrs: t.Addrs}); err != nil {
		return err
	}
	for {
		why, err := n.askPart(ctx, t.Peer, c, s)
		refused := new(refuse)
		switch {
		case err == nil && why != "":
			return fault.Invalid.Errorf("collection %s: %w: %s", t.Collections[0].Name, errNoPart, why)
		case !errors.As(err, &refused) || refused.Code != refusedBusy || !pace.Sleep(ctx, pace.Jitter(refused.After, 0.5)):
			return err
		}
	}
}

// askPart runs a session that shows one secret, and asks about one part. why is the
// peer's reason if it cannot tell the part.
func (n *Node) askPart(ctx context.Context, p peer.ID, c claim, s Scope) (why string, err error) {
	stream, err := n.open(ctx, p, syncProtocols)
	if err != nil {
		return "", err
	}
	w := newAsking(stream, &n.traffic)
	defer context.AfterFunc(ctx, w.abort)()
	defer func() {
		if err != nil {
			w.abort()
			n.judge(p, err)
			err = fmt.Errorf("sync with %s: %w", p, err)
			return
		}
		stream.Close()
	}()
	if w.version < versionOfParts {
		return "", fault.Unavailable.Errorf("the peer speaks an older version, which knows of no parts of collections: update it, or join for the whole")
	}
	ps := &proofs{mine: map[claim]proof{c: prove(c.secret, n.host.ID(), p, c.id)}}
	mine, err := n.greeting(ctx, p, ps, []claim{c}, w.version, func(dag.CollectionID) bool { return false })
	if err != nil {
		return "", err
	}
	if err := w.send(&mine.hello); err != nil {
		return "", err
	}
	theirs, _, err := greeted(w)
	if err != nil {
		return "", err
	}
	shown := prove(c.secret, p, n.host.ID(), c.id)
	i := slices.IndexFunc(theirs.Entries, func(e entry) bool { return e.Proof == shown })
	if i < 0 {
		return "", nil // joining says what that means
	}
	if err := w.send(&scopeSays{uint64(i), s}); err != nil {
		return "", err
	}
	answer, err := expect[*scopeAnswer](w)
	if err != nil {
		return "", err
	}
	return answer.Why, nil
}

// errNoPart says that a part cannot be told from the rest, on either side.
var errNoPart = fault.Invalid.Errorf("the part cannot be told from the rest")
