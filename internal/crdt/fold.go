package crdt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// state is a document taken apart, to be changed and put together again.
type state struct {
	commits []entry // sorted
	cells   []cell  // sorted
	size    int     // of the document it was
}

// entry is a commit that the document names.
type entry struct {
	commit      [32]byte
	hlc, height uint64
	head        bool
	named       bool   // by a write
	place       uint64 // in the encoded table
}

type cell struct {
	field  FieldID
	kind   Kind
	sum    string  // of a counter
	writes []write // of a register: one for LWW, the live ones sorted by tag for MVR
	tombs  []Tag   // of MVR, sorted
	raw    []byte  // attached
}

// write is a value of a register. by is the place of its commit in state.commits.
type write struct {
	by  int
	op  uint32
	val []byte // in binary form
}

// op is an operation that counts, and its index in the commit.
type op struct {
	*Delta
	index uint32
}

func (o op) compare(c *cell) int {
	return cmp.Or(cmp.Compare(o.Field, c.field), cmp.Compare(o.Kind, c.kind))
}

// Fold returns the document with one commit more. It must be called once for each
// commit, parents first; applied says whether a commit was folded into this document
// before, and is asked for the commits of overwritten tags; nil means none. The cost depends on the
// size of the document and of c, not on how many commits were folded before.
func (d Document) Fold(c Change, applied func(commit [32]byte) bool) (Document, error) {
	s, self, err := d.parseFor(&c)
	if err != nil {
		return Document{}, err
	}
	for _, p := range c.Parents {
		if i, ok := s.find(p); ok {
			s.commits[i].head = false
		}
	}
	f := folding{state: s, self: self, commit: c.Commit, applied: applied}
	f.fold(c.ops())
	return Open(s.encode())
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
	writes  []write // backs cells with a single write
}

// fold merges the operations into the cells, both sorted.
func (f *folding) fold(ops []op) {
	cells := make([]cell, 0, len(f.cells)+len(ops))
	f.writes = make([]write, 0, len(ops))
	old := f.cells
	for len(old) > 0 || len(ops) > 0 {
		var c cell
		if len(ops) == 0 || len(old) > 0 && ops[0].compare(&old[0]) >= 0 {
			c, old = old[0], old[1:]
		} else {
			c = cell{field: ops[0].Field, kind: ops[0].Kind}
		}
		n := 0
		for n < len(ops) && ops[n].compare(&c) == 0 {
			n++
		}
		f.apply(&c, ops[:n])
		ops = ops[n:]
		if c.sum != "" || len(c.writes) > 0 || len(c.tombs) > 0 || len(c.raw) > 0 {
			cells = append(cells, c)
		}
	}
	f.cells = cells
}

// apply folds the operations of the commit on one cell, which may be none.
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
	if len(ops) == 0 {
		return
	}
	if len(c.writes) > 0 {
		old, self := &f.commits[c.writes[0].by], &f.commits[f.self]
		if cmp.Or(cmp.Compare(old.hlc, self.hlc), bytes.Compare(old.commit[:], self.commit[:])) > 0 {
			return
		}
	}
	last := ops[len(ops)-1]
	f.writes = append(f.writes, write{f.self, last.index, last.Val.AppendBinary(nil)})
	c.writes = f.writes[len(f.writes)-1:]
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
	if len(ops) > 0 {
		over := overwritten(ops)
		var kept []write
		kept, over = f.without(c.writes, over)
		for _, o := range ops {
			if _, dead := slices.BinarySearchFunc(c.tombs, Tag{f.commit, o.index}, Tag.Compare); !dead {
				kept = append(kept, write{f.self, o.index, o.Val.AppendBinary(nil)})
			}
		}
		slices.SortFunc(kept, func(a, b write) int {
			return cmp.Or(cmp.Compare(a.by, b.by), cmp.Compare(a.op, b.op))
		})
		c.writes = kept
		c.tombs = f.remember(c.tombs, over)
	}
	// Also those that the commit set itself: it cannot overwrite its own writes.
	c.tombs = slices.DeleteFunc(c.tombs, func(t Tag) bool { return t.Commit == f.commit })
}

// overwritten returns the tags that the operations overwrite, sorted and unique.
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

// without returns the writes that are not overwritten, and the tags that did not
// meet a write. Both come sorted by tag.
func (f *folding) without(writes []write, over []Tag) (kept []write, missed []Tag) {
	kept = make([]write, 0, len(writes)+1)
	for _, w := range writes {
		tag := Tag{f.commits[w.by].commit, w.op}
		for len(over) > 0 && over[0].Compare(tag) < 0 {
			missed, over = append(missed, over[0]), over[1:]
		}
		if len(over) > 0 && over[0] == tag {
			over = over[1:]
			continue
		}
		kept = append(kept, w)
	}
	return kept, append(missed, over...)
}

// remember returns the tombstones and those of over that are still to come.
func (f *folding) remember(tombs, over []Tag) []Tag {
	n := len(tombs)
	for _, t := range over {
		if f.applied == nil || !f.applied(t.Commit) {
			tombs = append(tombs, t)
		}
	}
	if len(tombs) == n {
		return tombs
	}
	slices.SortFunc(tombs, Tag.Compare)
	return slices.Compact(tombs)
}

func (s *state) find(commit [32]byte) (int, bool) {
	return slices.BinarySearchFunc(s.commits, commit, func(e entry, c [32]byte) int {
		return bytes.Compare(e.commit[:], c[:])
	})
}

// parse takes the document apart and checks all that the accessors do not.
func (d Document) parse() (*state, error) {
	s, _, err := d.parseFor(nil)
	return s, err
}

// parseFor is parse, and enters the commit c as a head if it is not nil.
func (d Document) parseFor(c *Change) (s *state, self int, err error) {
	s = &state{size: len(d.raw)}
	if err := s.parseTable(d); err != nil {
		return nil, 0, err
	}
	self = len(s.commits)
	if c != nil {
		var known bool
		if self, known = s.find(c.Commit); known {
			return nil, 0, fault.Invalid.Errorf("commit %x is part of the document already: fold each commit once", c.Commit)
		}
		s.commits = slices.Insert(s.commits, self, entry{commit: c.Commit, hlc: c.HLC, height: c.Height, head: true})
	}
	return s, self, s.parseCells(d, self)
}

func (s *state) parseTable(d Document) error {
	s.commits = make([]entry, len(d.table())/entrySize, len(d.table())/entrySize+1)
	for i := range s.commits {
		e := &s.commits[i]
		e.commit, e.hlc = d.commit(uint64(i))
		if i > 0 && bytes.Compare(s.commits[i-1].commit[:], e.commit[:]) >= 0 {
			return corrupt("commits out of order")
		}
	}
	next := uint64(0)
	for b := d.heads(); len(b) > 0; {
		var i, height uint64
		i, b = uvarint(b)
		height, b = uvarint(b)
		if i < next {
			return corrupt("heads out of order")
		}
		s.commits[i].head, s.commits[i].height = true, height
		next = i + 1
	}
	return nil
}

// parseCells reads the cells. Places in the table from self on moved up by one if
// a commit was entered there.
func (s *state) parseCells(d Document, self int) error {
	p := parsing{known: uint64(len(d.table()) / entrySize), self: uint64(self), writes: make([]write, 0, 16)}
	s.cells = make([]cell, 0, 16)
	for b := d.cells(); len(b) > 0; {
		f, k, payload, rest := nextCell(b)
		if rest == nil {
			return corrupt("cells")
		}
		b = rest
		c := cell{field: f, kind: k}
		if n := len(s.cells); n > 0 {
			if last := &s.cells[n-1]; last.field > f || last.field == f && last.kind >= k {
				return corrupt("cells out of order")
			}
		}
		if !p.cell(&c, payload) {
			return fault.Corrupt.Errorf("field %d, %v: %w", f, k, corrupt("cell"))
		}
		s.cells = append(s.cells, c)
	}
	return nil
}

// parsing reads payloads.
type parsing struct {
	known  uint64  // commits in the document's table
	self   uint64  // where a commit was inserted
	writes []write // backs cells with a single write
}

func (p *parsing) cell(c *cell, payload []byte) bool {
	if c.kind.attached() {
		c.raw = payload
		return len(payload) > 0
	}
	if !c.kind.Known() {
		return false
	}
	switch c.kind.Rule() {
	case LWW:
		i, rest := uvarint(payload)
		op, rest := uvarint(rest)
		w, ok := p.write(i, op, rest)
		p.writes = append(p.writes, w)
		c.writes = p.writes[len(p.writes)-1:]
		return ok
	case MVR:
		return p.multi(c, payload)
	}
	_, fraction, ok := splitDecimal(payload)
	c.sum = string(payload)
	return ok && (len(fraction) == 0 || c.kind.Type() != value.TypeInt)
}

func (p *parsing) multi(c *cell, payload []byte) bool {
	n, b := uvarint(payload)
	if n > uint64(len(b)) {
		return false
	}
	for range n {
		i, op, val, rest := nextLive(b)
		w, ok := p.write(i, op, val)
		if rest == nil || !ok {
			return false
		}
		if k := len(c.writes); k > 0 && cmp.Or(cmp.Compare(c.writes[k-1].by, w.by), cmp.Compare(c.writes[k-1].op, w.op)) >= 0 {
			return false
		}
		c.writes, b = append(c.writes, w), rest
	}
	for len(b) > 0 {
		if len(b) <= 32 {
			return false
		}
		t := Tag{Commit: [32]byte(b)}
		op, rest := uvarint(b[32:])
		if rest == nil || op > 1<<32-1 {
			return false
		}
		t.Op, b = uint32(op), rest
		if k := len(c.tombs); k > 0 && c.tombs[k-1].Compare(t) >= 0 {
			return false
		}
		c.tombs = append(c.tombs, t)
	}
	return b != nil && len(c.writes)+len(c.tombs) > 0
}

func (p *parsing) write(i, op uint64, val []byte) (write, bool) {
	ok := val != nil && i < p.known && op <= 1<<32-1
	if i >= p.self {
		i++
	}
	return write{int(i), uint32(op), val}, ok
}

// encode puts the document together, in its canonical form.
func (s *state) encode() []byte {
	for i := range s.cells {
		for _, w := range s.cells[i].writes {
			s.commits[w.by].named = true
		}
	}
	b := make([]byte, 0, s.size+128)
	b = append(b, formatVersion)
	b = s.appendTable(b)
	var payload []byte
	for i := range s.cells {
		c := &s.cells[i]
		payload = s.appendPayload(payload[:0], c)
		b = binary.AppendUvarint(b, uint64(c.field))
		b = append(b, byte(c.kind>>8), byte(c.kind))
		b = binary.AppendUvarint(b, uint64(len(payload)))
		b = append(b, payload...)
	}
	return b
}

// appendTable appends the commits that heads and writes name, and the heads.
func (s *state) appendTable(b []byte) []byte {
	var commits, heads uint64
	for i := range s.commits {
		e := &s.commits[i]
		if e.head {
			heads++
		}
		if e.head || e.named {
			e.place = commits
			commits++
		}
	}
	b = binary.AppendUvarint(b, commits)
	for i := range s.commits {
		if e := &s.commits[i]; e.head || e.named {
			b = append(b, e.commit[:]...)
			b = binary.BigEndian.AppendUint64(b, e.hlc)
		}
	}
	b = binary.AppendUvarint(b, heads)
	for i := range s.commits {
		if e := &s.commits[i]; e.head {
			b = binary.AppendUvarint(b, e.place)
			b = binary.AppendUvarint(b, e.height)
		}
	}
	return b
}

func (s *state) appendPayload(b []byte, c *cell) []byte {
	switch c.kind.Rule() {
	case LWW:
		w := c.writes[0]
		b = binary.AppendUvarint(b, s.commits[w.by].place)
		b = binary.AppendUvarint(b, uint64(w.op))
		return append(b, w.val...)
	case MVR:
		b = binary.AppendUvarint(b, uint64(len(c.writes)))
		for _, w := range c.writes {
			b = binary.AppendUvarint(b, s.commits[w.by].place)
			b = binary.AppendUvarint(b, uint64(w.op))
			b = binary.AppendUvarint(b, uint64(len(w.val)))
			b = append(b, w.val...)
		}
		for _, t := range c.tombs {
			b = append(b, t.Commit[:]...)
			b = binary.AppendUvarint(b, uint64(t.Op))
		}
		return b
	}
	if c.kind.attached() {
		return append(b, c.raw...)
	}
	return append(b, c.sum...)
}
