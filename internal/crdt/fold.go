package crdt

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// Fold returns the document with one commit more. It must be called once for each
// commit, parents first; applied says whether a commit was folded into this document
// before, and is asked for the commits of overwritten tags; nil means none. The cost depends on the
// size of the document and of c, not on how many commits were folded before.
func (d Document) Fold(c Change, applied func(commit [32]byte) bool) (Document, error) {
	f, err := d.Folding()
	if err == nil {
		err = f.Fold(c, applied)
	}
	if err != nil {
		return Document{}, err
	}
	return f.Document()
}

// Folding is a document that takes many commits: each costs what is in it, and only to
// take the document apart and to put it together costs what the document holds.
type Folding struct {
	doc   Document
	state *state // taken apart; nil: not yet
	ahead bool   // of doc
}

// Folding takes the document apart.
func (d Document) Folding() (*Folding, error) {
	f := &Folding{doc: d}
	return f, f.open()
}

func (f *Folding) open() (err error) {
	if f.state == nil {
		f.state, err = f.doc.parse()
	}
	return err
}

// Document returns the document with all commits so far.
func (f *Folding) Document() (d Document, err error) {
	if f.ahead {
		if f.doc, err = Open(f.state.encode()); err != nil {
			return d, err
		}
		f.ahead = false
	}
	return f.doc, nil
}

// manyDead is when a Folding looks for commits that the document names no more.
const manyDead = 1024

// Fold is Document.Fold in place. If it fails, nothing has changed.
func (f *Folding) Fold(c Change, applied func(commit [32]byte) bool) error {
	if err := f.open(); err != nil {
		return err
	}
	if s := f.state; len(s.commits)-s.sorted > max(s.sorted, manyDead) {
		d, err := f.Document()
		if err != nil {
			return err
		}
		if f.state, err = d.parse(); err != nil {
			return err
		}
	}
	s := f.state
	if _, known := s.find(c.Commit); known {
		return fault.Invalid.Errorf("commit %x is part of the document already: fold each commit once", c.Commit)
	}
	for _, p := range c.Parents {
		if i, ok := s.find(p); ok && s.commits[i].head {
			s.commits[i].head = false
			s.heads--
		}
	}
	one := folding{state: s, self: s.enter(entry{commit: c.Commit, hlc: c.HLC, height: c.Height, head: true}), commit: c.Commit, applied: applied}
	one.fold(c.ops())
	f.ahead = true
	return nil
}

// Empty reports whether there are no commits.
func (f *Folding) Empty() bool { return f.Heads() == 0 }

// Heads returns how many commits no other commit has as a parent.
func (f *Folding) Heads() int {
	if f.open() != nil {
		return 0
	}
	return f.state.heads
}

// Head returns the commit if it is a head.
func (f *Folding) Head(commit [32]byte) (Head, bool) {
	if f.open() != nil {
		return Head{}, false // Fold says why
	}
	i, ok := f.state.find(commit)
	if !ok || !f.state.commits[i].head {
		return Head{}, false
	}
	e := &f.state.commits[i]
	return Head{Commit: commit, Height: e.height, HLC: e.hlc}, true
}

// Size returns about how many bytes the document has.
func (f *Folding) Size() int {
	if !f.ahead {
		return len(f.doc.raw)
	}
	return f.state.size
}

// Deleted is Document.Deleted.
func (f *Folding) Deleted() bool {
	if !f.ahead {
		return f.doc.Deleted()
	}
	i, ok := f.state.cell(FieldStatus, KindStatus)
	if !ok || len(f.state.cells[i].writes) == 0 {
		return false
	}
	v, ok := decode(f.state.cells[i].writes[0].val)
	return ok && v.Kind() == value.Bool && v.Bool()
}

// Attached is Document.Attached.
func (f *Folding) Attached(field FieldID, k Kind) []byte {
	if !f.ahead || !k.attached() {
		return f.doc.Attached(field, k)
	}
	if i, ok := f.state.cell(field, k); ok {
		return f.state.cells[i].raw
	}
	return nil
}

// Attach is Document.Attach in place. The payload must not change afterwards.
func (f *Folding) Attach(field FieldID, k Kind, payload []byte) {
	if !k.attached() || f.Empty() {
		return
	}
	i, ok := f.state.cell(field, k)
	if !ok {
		f.state.cells = slices.Insert(f.state.cells, i, &cell{field: field, kind: k})
	}
	c := f.state.cells[i]
	f.state.size += len(payload) - len(c.raw)
	c.raw, f.ahead = payload, true
}

// op is an operation that counts, and its index in the commit.
type op struct {
	*Delta
	index uint32
}

func (o op) compare(c *cell) int {
	return cmp.Or(cmp.Compare(o.Field, c.field), cmp.Compare(o.Kind, c.kind))
}

// ops returns the operations that count, sorted by cell and then index.
func (c *Change) ops() []op {
	if c.Void {
		return nil
	}
	ops := make([]op, 0, len(c.Deltas))
	for i := range c.Deltas {
		if d := &c.Deltas[i]; !d.Void && d.Kind.Known() {
			ops = append(ops, op{d, uint32(i)})
		}
	}
	slices.SortStableFunc(ops, func(a, b op) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Kind, b.Kind))
	})
	return ops
}

// folding applies the operations of one commit to a state.
type folding struct {
	*state
	self    int // place of the commit in commits
	commit  [32]byte
	applied func([32]byte) bool
	dead    map[tomb]bool // operations of the commit that were overwritten before it came
	writes  []write       // backs cells with a single write
}

// fold merges the operations, which are sorted, into the cells.
func (f *folding) fold(ops []op) {
	f.dead = f.tombs[f.commit]
	delete(f.tombs, f.commit) // also those that the commit set itself: it cannot overwrite its own writes
	f.writes = make([]write, 0, len(ops))
	var fresh []*cell
	for len(ops) > 0 {
		i, ok := f.cell(ops[0].Field, ops[0].Kind)
		var c *cell
		if ok {
			c = f.cells[i]
		} else {
			c = f.newCell(ops[0].Field, ops[0].Kind)
			fresh = append(fresh, c)
		}
		n := 1
		for n < len(ops) && ops[n].compare(c) == 0 {
			n++
		}
		f.apply(c, ops[:n])
		ops = ops[n:]
	}
	f.insert(fresh)
}

// apply folds the operations of the commit on one cell.
func (f *folding) apply(c *cell, ops []op) {
	switch c.kind.Rule() {
	case LWW:
		f.setLWW(c, ops)
	case PCounter, PNCounter:
		count(c, ops)
	case MVR:
		f.setMVR(c, ops)
	}
}

// setLWW keeps the write with the greatest stamp. Of one commit that is the last.
func (f *folding) setLWW(c *cell, ops []op) {
	if len(c.writes) > 0 {
		old, self := &f.commits[c.writes[0].by], &f.commits[f.self]
		if cmp.Or(cmp.Compare(old.hlc, self.hlc), bytes.Compare(old.commit[:], self.commit[:])) > 0 {
			return
		}
		f.size -= len(c.writes[0].val)
	}
	last := ops[len(ops)-1]
	f.writes = append(f.writes, f.write(last))
	c.writes = f.writes[len(f.writes)-1:]
}

func (f *folding) write(o op) write {
	val := o.Val.AppendBinary(nil)
	f.size += len(val)
	return write{f.self, o.index, val}
}

func count(c *cell, ops []op) {
	for _, o := range ops {
		text, err := increment(o.Kind, o.Val)
		if err != nil {
			continue // void, though nobody marked it so
		}
		if c.sum == "" {
			c.sum = "0"
		}
		c.sum = addDecimal(c.sum, text)
	}
}

// setMVR removes the live writes that the commit overwrites, remembers overwritten
// writes that are still to come, and adds the commit's own writes unless their
// overwriting was remembered.
func (f *folding) setMVR(c *cell, ops []op) {
	for _, t := range overwritten(ops) {
		if t.Commit != f.commit && !f.overwrite(c, t) {
			f.remember(c, t)
		}
	}
	if c.dead > len(c.writes)/2 {
		c.writes = slices.DeleteFunc(c.writes, func(w write) bool { return w.val == nil })
		c.dead = 0
	}
	for _, o := range ops {
		if !f.dead[tomb{c, o.index}] {
			c.writes = append(c.writes, f.write(o)) // the last of all by place and index
		}
	}
}

// overwritten returns the tags that the operations overwrite, unique.
func overwritten(ops []op) []Tag {
	if len(ops) == 1 {
		return ops[0].Over
	}
	var over []Tag
	for _, o := range ops {
		over = append(over, o.Over...)
	}
	slices.SortFunc(over, Tag.Compare)
	return slices.Compact(over)
}

// overwrite removes a write, and reports whether it was live.
func (f *folding) overwrite(c *cell, t Tag) bool {
	by, ok := f.find(t.Commit)
	if !ok {
		return false
	}
	i, ok := slices.BinarySearchFunc(c.writes, write{by: by, op: t.Op}, write.compare)
	if !ok || c.writes[i].val == nil {
		return false
	}
	f.size -= len(c.writes[i].val)
	c.writes[i].val = nil
	c.dead++
	return true
}

// remember enters a tombstone of a write that is still to come.
func (f *folding) remember(c *cell, t Tag) {
	if f.applied != nil && f.applied(t.Commit) {
		return
	}
	f.bury(c, t)
}
