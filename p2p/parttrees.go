package p2p

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/radix"
)

const (
	// maxParts and maxPartBytes are how many trees over parts of collections are kept, and
	// how much memory they may take: a million documents. One that is asked for again
	// without having been kept is made anew, by a query. Of a collection with a policy there
	// is one for each peer, or for each identity that several act for.
	maxParts     = 512
	maxPartBytes = 72 << 20
	// maxPartQueries is how many such trees are made or brought up to date at once: each
	// may be a pass over a collection, and peers ask for them.
	maxPartQueries = 2
)

// partTrees are the trees over parts of collections that were asked for last.
type partTrees struct {
	replica *pando.Replica
	turns   chan struct{} // one token per tree that is being brought up to date

	mu sync.Mutex // guards what follows
	at map[treeKey]*partUse
	// quiet is up to where a peer needs nothing more of this node's feed of a collection:
	// whatever this node keeps of it by now, the peer got that while it kept what it keeps.
	quiet map[sharing]quiet
}

// treeKey says what a tree is over.
type treeKey struct {
	part string // the collection, and the scopes
	seen bool   // only what a reader may read,
	by   pando.Reader
}

type quiet struct {
	cursor
	keeps Scope // the peer
}

type partUse struct {
	part *pando.Part
	used time.Time
}

func newPartTrees(r *pando.Replica) *partTrees {
	return &partTrees{replica: r, turns: make(chan struct{}, maxPartQueries), at: map[treeKey]*partUse{}, quiet: map[sharing]quiet{}}
}

// of returns the tree over what belongs to all of some scopes, and how it stands now. A
// filter that does not fit the collection here is Invalid.
func (ps *partTrees) of(ctx context.Context, id dag.CollectionID, scopes ...Scope) (*pando.Part, pando.Summary, error) {
	return ps.get(ctx, treeKey{part: partKey(id, scopes)}, func() (*pando.Part, error) { return ps.replica.Part(id, scopes...) })
}

// get returns the tree that is kept under a key, or a new one, and how it stands now.
func (ps *partTrees) get(ctx context.Context, key treeKey, anew func() (*pando.Part, error)) (*pando.Part, pando.Summary, error) {
	part, err := ps.find(key, anew)
	if err != nil {
		return nil, pando.Summary{}, err
	}
	if sum, ok := part.Fresh(); ok { // as mostly: that waits for nobody else's
		return part, sum, nil
	}
	select {
	case ps.turns <- struct{}{}:
		defer func() { <-ps.turns }()
	case <-ctx.Done():
		return nil, pando.Summary{}, context.Cause(ctx)
	}
	sum, err := part.Summary(ctx)
	ps.trim(part)
	return part, sum, err
}

// has reports whether a tree is kept, and need not be made by a query.
func (ps *partTrees) has(r *reader, scopes ...Scope) bool {
	key := treeKey{part: partKey(r.id, scopes)}
	if !r.all {
		key.seen, key.by = true, r.by
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.at[key] != nil
}

func partKey(id dag.CollectionID, scopes []Scope) string {
	var forms []string // sorted: it does not matter who keeps which
	for _, s := range scopes {
		if !s.Whole {
			forms = append(forms, string(appendScope(nil, s)))
		}
	}
	slices.Sort(forms)
	key := string(id[:])
	for _, f := range slices.Compact(forms) {
		key += f
	}
	return key
}

func (ps *partTrees) find(key treeKey, anew func() (*pando.Part, error)) (*pando.Part, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if u := ps.at[key]; u != nil {
		u.used = time.Now()
		return u.part, nil
	}
	part, err := anew()
	if err == nil {
		ps.at[key] = &partUse{part, time.Now()}
	}
	return part, err
}

// trim drops the trees that were used longest ago, while there are too many.
func (ps *partTrees) trim(last *pando.Part) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for {
		size, oldest := int64(0), treeKey{}
		for key, u := range ps.at {
			size += u.part.Bytes()
			if u.part != last && (oldest.part == "" || u.used.Before(ps.at[oldest].used)) {
				oldest = key
			}
		}
		if oldest.part == "" || len(ps.at) <= maxParts && size <= maxPartBytes {
			return
		}
		delete(ps.at, oldest)
	}
}

// quietUntil returns up to where a peer that keeps some part needs nothing of this
// node's feed.
func (ps *partTrees) quietUntil(s sharing, theirs epoch, keeps Scope) uint64 {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if q := ps.quiet[s]; q.epoch == theirs && (q.keeps.Whole || q.keeps.Equal(keeps)) {
		return q.seq
	}
	return 0
}

func (ps *partTrees) setQuiet(s sharing, theirs epoch, seq uint64, keeps Scope) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if q := ps.quiet[s]; q.epoch != theirs || !q.keeps.Equal(keeps) || q.seq < seq {
		ps.quiet[s] = quiet{cursor{epoch: theirs, seq: seq}, keeps}
	}
}

// forget drops what is known of peers that are gone.
func (ps *partTrees) forget(gone func(sharing) bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for s := range ps.quiet {
		if gone(s) {
			delete(ps.quiet, s)
		}
	}
}

// partSide is this node's side of a walk over a part.
type partSide struct{ *pando.Part }

func (s partSide) Node(ctx context.Context, p radix.Prefix) (radix.Node, bool, error) {
	return s.Part.Node(ctx, p)
}

func (s partSide) Elements(ctx context.Context, p radix.Prefix) iter.Seq2[radix.Element, error] {
	return s.Part.Elements(ctx, p)
}

// loose finds the documents that changed here, lie outside of a part, and that a peer
// that keeps theirs of the collection may lack: those in this node's feed after a
// number, less what came from the peer. Up to until it found all.
func (n *Node) loose(ctx context.Context, p peer.ID, id dag.CollectionID, part *pando.Part, theirs Scope, after uint64) (docs []dag.DocID, until uint64, more bool, err error) {
	found := map[dag.DocID]bool{}
	for c, err := range n.replica.Log(ctx, after) {
		if err != nil {
			return nil, 0, false, err
		}
		if after = c.Seq; c.Collection == id && c.Origin != p.String() && !part.Has(c.Doc) {
			found[c.Doc] = true
		}
		if more = len(found) == maxLoose; more {
			break
		}
	}
	for doc := range found {
		docs = append(docs, doc)
	}
	slices.SortFunc(docs, dag.DocID.Compare)
	if theirs.Whole || len(docs) == 0 {
		return docs, after, more, nil
	}
	m, err := n.replica.Matcher(id, theirs)
	if err != nil {
		return nil, 0, false, err
	}
	var wanted []dag.DocID
	for j, err := range m.Some(ctx, docs) {
		if err != nil {
			return nil, 0, false, err
		}
		if j.In {
			wanted = append(wanted, j.Key)
		}
	}
	return wanted, after, more, nil
}

// maxLoose is how many documents outside of a part are given at once; the rest follows
// in the next round.
const maxLoose = 1 << 14
