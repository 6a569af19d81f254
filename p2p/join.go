package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/pace"
)

// Share makes a ticket for collections, named, or for all if none is. Whoever
// holds it may sync them.
func (n *Node) Share(names []string) (string, error) {
	if err := n.noticeCollections(); err != nil {
		return "", err
	}
	all := n.db.Collections()
	if len(names) > 0 {
		all = nil
		for _, name := range names {
			c, err := n.db.Collection(name)
			if err != nil {
				return "", err
			}
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	if len(all) == 0 {
		return "", fault.NotFound.Errorf("share: there are no collections yet: add a schema first")
	}
	if len(all) > maxTicketCollections {
		return "", fault.TooLarge.Errorf("share: %d collections, a ticket holds %d: name some of them", len(all), maxTicketCollections)
	}
	addrs := n.host.Addrs()
	t := Ticket{Peer: n.host.ID(), Addrs: addrs[:min(len(addrs), maxAddrs)]}
	for _, c := range all {
		s, ok := n.admission.secret(c.ID)
		if !ok {
			return "", fault.Unavailable.Errorf("share: collection %s has no secret yet: try again", c.Name)
		}
		t.Collections = append(t.Collections, TicketCollection{c.ID, c.Name, s})
	}
	slices.SortFunc(t.Collections, func(a, b TicketCollection) int { return a.ID.Compare(b.ID) })
	text := t.String()
	if len(text) > maxTicket {
		return "", fault.TooLarge.Errorf("share: the ticket would have %d characters, at most %d are allowed: name fewer collections", len(text), maxTicket)
	}
	return text, nil
}

// JoinResult is how a join ended.
type JoinResult struct {
	Peer        string // who shared
	Collections []JoinedCollection
	Documents   uint64 // of all
	Commits     uint64 // that came
	Bytes       uint64 // of the transfer, both ways
	Duration    time.Duration
}

// JoinedCollection is one collection of a join. Root is the whole root; the other
// side has the same.
type JoinedCollection struct {
	ID        string
	Name      string
	Part      string // what of it was joined, if not all
	Documents uint64
	Root      [32]byte
}

// joinRounds is how many sessions a join runs while the other side goes on writing.
const joinRounds = 8

// Join takes a ticket: it connects to the node that made it, gets the collections
// with their schemas, and from then on keeps them in sync with whoever shares
// them. It returns when everything the other node had is here, durably, which it
// knows by equal roots; otherwise the error says what is lacking, also if the other
// node itself keeps less than is joined for. progress may be nil.
func (n *Node) Join(ctx context.Context, ticket string, progress func(Progress)) (JoinResult, error) {
	start := time.Now()
	t, err := ParseTicket(ticket)
	if err != nil {
		return JoinResult{}, err
	}
	if t.Peer == n.host.ID() {
		return JoinResult{}, fault.Invalid.Errorf("join: this node made the ticket itself: use it on another node")
	}
	if err := n.checkNames(t); err != nil {
		return JoinResult{}, err
	}
	names := map[dag.CollectionID]string{}
	secrets := map[dag.CollectionID]ident.Secret{} // accepted when the other node proves them
	only := map[dag.CollectionID]bool{}
	for _, c := range t.Collections {
		names[c.ID], secrets[c.ID], only[c.ID] = c.Name, c.secret, true
	}
	info := peer.AddrInfo{ID: t.Peer, Addrs: t.Addrs}
	e := errand{only: only, joining: true}
	met := false
	e.met = func() error { // and not at the end: who dies in the middle has to know where to go on
		if met {
			return nil
		}
		met = true
		return n.remember(info, false)
	}
	n.introduce(ctx, info, secrets, e.only)
	n.startAfresh(info.ID)
	n.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.PermanentAddrTTL)
	if err := n.connect(ctx, info); err != nil {
		return JoinResult{}, fmt.Errorf("join: %w", err)
	}
	n.admission.try(info.ID, secrets)
	defer n.admission.endTrial(info.ID, secrets)
	if progress != nil {
		e.progress = func(p Progress) {
			p.Name = names[p.Collection]
			progress(p)
		}
	}
	res := JoinResult{Peer: t.Peer.String()}
	err = n.joinSessions(ctx, t, e, &res)
	res.Duration = time.Since(start)
	return res, err
}

// checkNames refuses a ticket whose collections cannot exist here.
func (n *Node) checkNames(t Ticket) error {
	for _, c := range t.Collections {
		if own, err := n.db.Collection(c.Name); err == nil && own.ID != c.ID {
			return fault.Exists.Errorf("join: a collection %s with another definition exists here: the same definition is needed on every node", c.Name)
		}
	}
	return nil
}

func (n *Node) joinSessions(ctx context.Context, t Ticket, e errand, res *JoinResult) error {
	var got report
	for range joinRounds {
		var err error
		for {
			got, err = n.sync(ctx, t.Peer, e)
			res.Bytes += got.Bytes
			res.Commits += uint64(got.Applied)
			refused := new(refuse)
			if !errors.As(err, &refused) || refused.Code != refusedBusy || !pace.Sleep(ctx, pace.Jitter(refused.After, 0.5)) {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("join: %w", err)
		}
		n.announcer.follow()
		if err := n.joined(ctx, t, got, res); err == nil {
			return nil
		} else if errors.Is(err, errNarrow) && pace.Sleep(ctx, punchTime) {
			continue // by then there may be a direct way
		} else if !errors.Is(err, errBehind) {
			return err
		}
	}
	return n.joined(ctx, t, got, res)
}

// errBehind says that copies differ still; trying again may help.
var errBehind = fault.Unavailable.Errorf("not all is here yet")

// joined reports what became of each collection of a ticket.
func (n *Node) joined(ctx context.Context, t Ticket, got report, res *JoinResult) error {
	res.Collections, res.Documents = nil, 0
	less := "" // than was asked for
	for _, c := range t.Collections {
		v := got.Collections[c.ID]
		if v == nil {
			return fault.Denied.Errorf("join: the other node does not share collection %s any more: ask for a new ticket", c.Name)
		}
		sum, err := n.replica.Summary(ctx, c.ID)
		if err != nil {
			return fmt.Errorf("join: collection %s: %w", c.Name, err)
		}
		if v.Problem != "" {
			return fault.Invalid.Errorf("join: collection %s: %w: %s", c.Name, errNoPart, v.Problem)
		}
		if v.Alike && v.lacks() && n.replica.Incomplete(c.ID) { // what is loose there comes with time
			less = cmp.Or(less, keepsLessHint(c.Name, v.Given, v.Keeps))
			continue
		}
		if !v.Equal && n.later.any(sharing{t.Peer, c.ID}) {
			return fault.Unavailable.Errorf("join: collection %s: %d documents here, %d there: some changes cannot be taken yet: %s", c.Name, v.Mine, v.Theirs, earlyHint)
		}
		if !v.Equal && got.Narrow {
			return fault.Unavailable.Errorf("join: collection %s: %d documents here, %d there: %w", c.Name, v.Mine, v.Theirs, errNarrow)
		}
		if !v.Equal {
			return fault.Unavailable.Errorf("join: collection %s: %d documents here, %d there: %w: %s", c.Name, v.Mine, v.Theirs, errBehind,
				cmp.Or(n.groupWanted(c.ID.String()), "the other node goes on writing faster than it is read; the rest follows"))
		}
		if s := n.scopeOf(c.ID); !s.Whole { // the other side has the same of it
			if _, part, err := n.parts.of(ctx, c.ID, s); err == nil {
				sum.Documents, sum.Root = part.Documents, part.Root
			}
		}
		res.Collections = append(res.Collections, JoinedCollection{c.ID.String(), sum.Name, v.Part, sum.Documents, sum.Root})
		res.Documents += sum.Documents
	}
	if less != "" {
		return fault.Unavailable.Errorf("join: %s", less)
	}
	return nil
}

// lacks reports whether the peer keeps less than this node does. Of documents that are
// named it is known whether all are there.
func (v *verdict) lacks() bool {
	named := v.Given.Filter == "" && v.Mine == uint64(len(v.Given.Docs))
	return !v.Keeps.Whole && !v.Keeps.Equal(v.Given) && (v.Given.Whole || !named)
}

// keepsLessHint says that the node that made a ticket keeps less of a collection than
// is joined for, and what to do.
func keepsLessHint(name string, asked, keeps Scope) string {
	text := fmt.Sprintf("collection %s: the other node keeps a part only (%s), of which all that was asked for is here now", name, keeps)
	if keeps.None() {
		text = fmt.Sprintf("collection %s: the other node keeps nothing of it", name)
	}
	text += "; this node goes on looking for the rest among the members: join with a ticket of a member that keeps all of it"
	switch {
	case asked.Whole && keeps.None():
	case asked.Whole && len(keeps.Docs) == 0:
		text += fmt.Sprintf(", or keep the same part (pando keep %s --filter '%s')", name, keeps.Filter)
	case asked.Whole:
		text += fmt.Sprintf(", or keep a part (pando keep %s --filter|--doc)", name)
	}
	return text
}
