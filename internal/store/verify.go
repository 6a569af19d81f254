package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// Verification is what the whole history of a document comes to when everything is
// checked again that a node checks before it applies a commit.
type Verification struct {
	Doc        dag.DocID
	Collection *schema.Collection
	Commits    []Verified // in the order in which they apply
	Heads      []dag.CID  // what was verified: these, with all their ancestors
	Access     *Access    // nil without a policy
	// State is the hash of the document's bytes as these commits make it: who has the
	// same heads has the same state.
	State [32]byte
	// Stored reports whether this node holds just that. Of an earlier state, which is
	// not held, it is true.
	Stored bool
}

// Verified is a commit with the verdict on it.
type Verified struct {
	Applied
	Err     error        // why no node should hold it; nil: it is right
	Verdict acp.Verdict  // of a collection with a policy: whether its operations count
	Opened  []crdt.Delta // all its operations, those in encrypted segments too; nil if it has none of these
}

// operations returns all operations of the commit.
func (v *Verified) operations() []crdt.Delta {
	if v.Opened != nil {
		return v.Opened
	}
	return v.Deltas
}

// Sound reports whether nothing is wrong. Void commits are not.
func (v *Verification) Sound() bool {
	for i := range v.Commits {
		if v.Commits[i].Err != nil {
			return false
		}
	}
	return v.Stored
}

// Verify checks the history of a document: names, signatures, delegations, parents and
// rights of every commit, and folds it again. With at it is the history of that
// commit. It costs about what it cost to receive the document.
func (tx *Tx) Verify(ctx context.Context, c *schema.Collection, id dag.DocID, at *dag.CID) (*Verification, error) {
	d, err := tx.Get(c, id)
	if err != nil {
		return nil, err
	}
	n, err := tx.short(c)
	if err != nil {
		return nil, err
	}
	v := &Verification{Doc: id, Collection: c}
	h := lineage{coll: n, doc: id}
	if h.entries, err = tx.verifiable(ctx, v, n, id, at); err != nil {
		return nil, err
	}
	h.verify()
	f, wrong := fold{}, map[dag.CID]error{}
	bad := func(cid dag.CID, err error) { wrong[cid] = err }
	for _, e := range h.entries {
		err := e.err
		if err == nil {
			err = e.commit.CheckCollection(c.ID)
		}
		if err == nil {
			err = f.add(e)
		}
		if err != nil {
			bad(e.at.cid, err)
		}
	}
	o, err := tx.openerOf(n, id)
	if err != nil {
		return nil, err
	}
	if err := f.judge(ctx, memberships{tx, tx.s.memory}, n, o, bad); err != nil {
		return nil, err
	}
	verdicts := map[dag.CID]acp.Verdict{}
	for i, e := range f.entries {
		if f.judged != nil {
			verdicts[e.at.cid] = f.judged.Verdicts[i]
		}
	}
	opened, err := o.openAll(&f)
	if err != nil {
		return nil, err
	}
	for i := range v.Commits {
		v.Commits[i].Opened = opened[v.Commits[i].CID]
		v.Commits[i].Err, v.Commits[i].Verdict = wrong[v.Commits[i].CID], verdicts[v.Commits[i].CID]
	}
	if err := v.concludes(d, f.doc, at != nil); err != nil {
		return nil, err
	}
	if f.judged != nil && at == nil {
		held, _, err := tx.kv.Get(eventsKey(n, id))
		if err != nil {
			return nil, err
		}
		v.Stored = v.Stored && bytes.Equal(held, f.events())
	}
	return v, nil
}

// verifiable returns the commits to be verified.
func (tx *Tx) verifiable(ctx context.Context, v *Verification, n short, id dag.DocID, at *dag.CID) (entries []entry, err error) {
	var below map[dag.CID]bool
	if at != nil {
		p, ok, err := tx.where(*at)
		if err != nil {
			return nil, err
		}
		if !ok || p.doc != id || p.coll != n {
			return nil, fault.NotFound.Errorf("commit %s is not one of document %s", at, id)
		}
		if below, err = tx.ancestors(ctx, p); err != nil {
			return nil, err
		}
	}
	add := func(e entry, a Applied) {
		if below != nil && !below[e.at.cid] {
			return
		}
		if e.err != nil {
			a.Commit = &dag.Commit{CID: e.at.cid, Doc: id, Height: e.at.height}
		}
		v.Commits, entries = append(v.Commits, Verified{Applied: a}), append(entries, e)
	}
	lo, hi := documentRange(n, id)
	for e, err := range tx.kv.Scan(lo, hi) {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, err
		}
		at, err := parseCommitKey(e.Key)
		if err != nil {
			return nil, err
		}
		x := entry{at: at}
		x.commit, x.stored, x.err = openStored(at, slices.Clone(e.Value))
		add(x, tx.describe(at, x.commit, x.stored))
	}
	if st := tx.staged[id]; st != nil && st.coll == n {
		for _, p := range st.commits {
			add(entry{at: p.place, commit: p.commit}, tx.ownCommit(p))
		}
	}
	return entries, nil
}

// concludes enters what the commits made, and compares it with what is held.
func (v *Verification) concludes(held Doc, made crdt.Document, past bool) error {
	// What keys the holder has is no part of what the commits make.
	held.State, made = held.State.Attach(crdt.FieldKeys, crdt.KindKeys, nil), made.Attach(crdt.FieldKeys, crdt.KindKeys, nil)
	for _, h := range made.Heads() {
		v.Heads = append(v.Heads, h.Commit)
	}
	v.State = sha256.Sum256(append([]byte("pando/1 state\n"), made.Bytes()...))
	v.Stored = past || string(held.State.Bytes()) == string(made.Bytes())
	if v.Collection.Access() == nil || len(made.Bytes()) == 0 {
		return nil
	}
	a, err := AccessOf(Doc{v.Doc, v.Collection, made})
	v.Access = &a
	return err
}

// Blamed says where the value of a field comes from.
type Blamed struct {
	Field  *schema.Field // nil: the mark that the document is deleted
	Shares []Share
}

// Share is a write that makes the value of a field, or a part of it.
type Share struct {
	Applied
	// Value is what the commit wrote. Of a counter it is what all commits of the same
	// author added, and the commit is the newest of them.
	Value value.Value
}

// Blame returns, for each field that has one, the commits that gave it its value: of a
// register the one that counts, of a multi-value register all that stand beside each
// other, of a counter one for each author. With at it is the document as that commit
// made it. It costs a pass over the history.
func (tx *Tx) Blame(ctx context.Context, c *schema.Collection, id dag.DocID, at *dag.CID) ([]Blamed, error) {
	v, err := tx.Verify(ctx, c, id, at)
	if err != nil {
		return nil, err
	}
	d, err := tx.Get(c, id)
	if err == nil && at != nil {
		d, err = tx.At(ctx, c, *at)
	}
	if err != nil {
		return nil, err
	}
	b := blaming{d: d.State, byCID: map[dag.CID]*Verified{}, authors: map[ident.PublicKey]*tally{}}
	for i := range v.Commits {
		if err := b.add(&v.Commits[i]); err != nil {
			return nil, err
		}
	}
	var all []Blamed
	if d.Deleted() {
		all = append(all, Blamed{nil, b.shares(crdt.FieldStatus, crdt.KindStatus)})
	}
	for i := range c.Fields {
		f := &c.Fields[i]
		if f.IsVirtual() {
			continue
		}
		if s := b.shares(f.ID, f.Kind()); len(s) > 0 {
			all = append(all, Blamed{f, s})
		}
	}
	return all, nil
}

type blaming struct {
	d       crdt.Document
	byCID   map[dag.CID]*Verified
	authors map[ident.PublicKey]*tally
	order   []ident.PublicKey // of the authors: by their first commits
}

// tally is what one author added to counters.
type tally struct {
	sums   *crdt.Folding
	newest map[schema.Cell]Applied
}

// add takes in the next commit.
func (b *blaming) add(v *Verified) error {
	if v.Err != nil || v.Verdict == acp.Void {
		return nil
	}
	b.byCID[v.CID] = v
	ch := crdt.Change{Commit: v.CID, Height: v.Height, HLC: v.HLC}
	for _, d := range v.operations() {
		if r := d.Kind.Rule(); !d.Void && (r == crdt.PCounter || r == crdt.PNCounter) {
			ch.Deltas = append(ch.Deltas, d)
		}
	}
	if len(ch.Deltas) == 0 {
		return nil
	}
	t := b.authors[v.Author.Key]
	if t == nil {
		sums, err := crdt.Document{}.Folding()
		if err != nil {
			return err
		}
		t = &tally{sums: sums, newest: map[schema.Cell]Applied{}}
		b.authors[v.Author.Key] = t
		b.order = append(b.order, v.Author.Key)
	}
	for _, d := range ch.Deltas {
		t.newest[schema.Cell{ID: d.Field, Kind: d.Kind}] = v.Applied
	}
	return t.sums.Fold(ch, nil)
}

// shares returns what gave a cell its value.
func (b *blaming) shares(f crdt.FieldID, k crdt.Kind) (all []Share) {
	write := func(commit [32]byte, op uint32) {
		v := b.byCID[commit]
		if v == nil {
			return
		}
		if ops := v.operations(); int(op) < len(ops) {
			all = append(all, Share{v.Applied, ops[op].Val})
		}
	}
	switch k.Rule() {
	case crdt.PCounter, crdt.PNCounter:
		for _, who := range b.order {
			t := b.authors[who]
			sums, err := t.sums.Document()
			if err != nil {
				continue // it was made here, and is not damaged
			}
			if sum, ok := sums.Value(f, k); ok {
				all = append(all, Share{t.newest[schema.Cell{ID: f, Kind: k}], sum})
			}
		}
	case crdt.MVR:
		for _, t := range b.d.Tags(f, k) {
			write(t.Commit, t.Op)
		}
	default:
		if s, ok := b.d.Stamp(f, k); ok {
			write(s.Commit, s.Op)
		}
	}
	return all
}
