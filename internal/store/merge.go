package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Merged says what became of a pack of commits.
type Merged struct {
	Applied int // now part of their documents
	Known   int // were already
	// Missing lists, per document, the commits to fetch before the rest of the
	// pack can apply.
	Missing map[dag.DocID][]dag.CID
	// Future lists commits whose clock is too far ahead: they apply later.
	Future []dag.CID
}

// InvalidCommit is the error of a commit that no node may apply.
type InvalidCommit struct {
	Index int // in the pack
	CID   dag.CID
	Err   error
}

func (e *InvalidCommit) Error() string { return fmt.Sprintf("commit %s is invalid: %v", e.CID, e.Err) }
func (e *InvalidCommit) Unwrap() error { return e.Err }

// Merge applies commits of others, whose signatures were verified, in one
// transaction; what it reports as applied is durable. Parents come before their
// children. A commit that breaks a rule ends the merge with *InvalidCommit; the
// commits before it stay applied.
func (s *Store) Merge(ctx context.Context, coll dag.CollectionID, cs []*dag.Commit, origin string) (m Merged, err error) {
	var invalid *InvalidCommit
	err = s.Update(ctx, ident.Key{}, func(tx *Tx) error {
		m, err = tx.merge(coll, cs, origin)
		if errors.As(err, &invalid) {
			return nil
		}
		return err
	})
	if err == nil && invalid != nil {
		err = invalid
	}
	return m, err
}

func (tx *Tx) merge(coll dag.CollectionID, cs []*dag.Commit, origin string) (Merged, error) {
	m := Merged{Missing: map[dag.DocID][]dag.CID{}}
	n, ok := tx.set.short(coll)
	if !ok {
		return m, fault.NotFound.Errorf("merge: collection %s is unknown: its schema has to come first", coll)
	}
	skipped := map[dag.CID]bool{}
	for i, cm := range cs {
		err := tx.mergeOne(n, coll, cm, origin, &m, skipped)
		if errors.Is(err, fault.Invalid) {
			return m, &InvalidCommit{i, cm.CID, err}
		}
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

func (tx *Tx) mergeOne(n short, coll dag.CollectionID, cm *dag.Commit, origin string, m *Merged, skipped map[dag.CID]bool) error {
	known, err := tx.applied(cm.CID)
	if err != nil {
		return err
	}
	if known {
		m.Known++
		return nil
	}
	if cm.Delegated() {
		return fault.Invalid.Errorf("delegated commits are not supported by this version")
	}
	if cm.Root != nil && cm.Root.Collection != coll {
		return fault.Invalid.Errorf("root of collection %s in a pack of collection %s", cm.Root.Collection, coll)
	}
	missing, err := tx.checkParents(n, cm)
	if err != nil {
		return err
	}
	switch {
	case dag.Future(cm.HLC, tx.s.now()):
		m.Future = append(m.Future, cm.CID)
		skipped[cm.CID] = true
		return nil
	case cm.Payload == nil:
		missing = append(missing, cm.CID)
	}
	if len(missing) > 0 {
		skipped[cm.CID] = true
		m.Missing[cm.Doc] = lacking(m.Missing[cm.Doc], missing, skipped, cm.CID)
		return nil
	}
	d, _, err := tx.document(n, cm.Doc)
	if err != nil {
		return err
	}
	if _, err := tx.apply(n, d, cm, &pending{origin: origin}); err != nil {
		return err
	}
	m.Applied++
	return nil
}

// lacking adds to list what has to be fetched: not the commits of this pack that
// only wait for others.
func lacking(list, missing []dag.CID, skipped map[dag.CID]bool, self dag.CID) []dag.CID {
	for _, c := range missing {
		if (c == self || !skipped[c]) && !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	return list
}

// checkParents returns the parents that are not applied. If none lacks, it checks
// the commit against them.
func (tx *Tx) checkParents(n short, cm *dag.Commit) (missing []dag.CID, err error) {
	infos := make([]dag.ParentInfo, 0, len(cm.Parents))
	for _, p := range cm.Parents {
		at, ok, err := tx.where(p)
		if err != nil {
			return nil, err
		}
		if !ok {
			missing = append(missing, p)
			continue
		}
		if at.coll != n {
			return nil, fault.Invalid.Errorf("parent %s belongs to another collection", p)
		}
		info := dag.ParentInfo{CID: p, Doc: at.doc, Height: at.height}
		if info.HLC, err = tx.clock(at); err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	if len(missing) > 0 {
		return missing, nil
	}
	return nil, cm.CheckParents(infos)
}

// clock returns the HLC of an applied commit, from the heads where it is one of
// them, as parents mostly are.
func (tx *Tx) clock(at place) (uint64, error) {
	if p, ok := tx.byCID[at.cid]; ok {
		return p.commit.HLC, nil
	}
	d, _, err := tx.document(at.coll, at.doc)
	if err != nil {
		return 0, err
	}
	for _, h := range d.Heads() {
		if h.Commit == at.cid {
			return h.HLC, nil
		}
	}
	cm, _, err := tx.load(at)
	if err != nil {
		return 0, err
	}
	return cm.HLC, nil
}

// highest returns the n highest heads, in the order of their commits.
func highest(heads []crdt.Head, n int) []crdt.Head {
	hs := slices.Clone(heads)
	slices.SortFunc(hs, func(a, b crdt.Head) int {
		if a.Height != b.Height {
			return int(int64(b.Height) - int64(a.Height))
		}
		return slices.Compare(a.Commit[:], b.Commit[:])
	})
	hs = hs[:n]
	slices.SortFunc(hs, func(a, b crdt.Head) int { return slices.Compare(a.Commit[:], b.Commit[:]) })
	return hs
}

// Documents returns the documents that the merge could not complete.
func (m Merged) Documents() []dag.DocID { return slices.Collect(maps.Keys(m.Missing)) }
