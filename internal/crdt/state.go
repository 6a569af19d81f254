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
	commits []entry          // in the order in which they came; cells name them by place
	sorted  int              // so many are sorted, those of the document it was
	places  map[[32]byte]int // of the others, if they are more than a few
	heads   int
	cells   []*cell                    // sorted
	tombs   map[[32]byte]map[tomb]bool // by the commits that are still to come
	fresh   []cell                     // backs new cells
	size    int                        // about that of the document
}

// entry is a commit that the document names, or did.
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
	writes []write // of a register: one for LWW, the live ones sorted by place and index for MVR
	dead   int     // so many of writes are dead: they have no value
	raw    []byte  // attached
}

// tomb is a write of an MVR cell, by its index in its commit.
type tomb struct {
	*cell
	op uint32
}

// write is a value of a register. by is the place of its commit in state.commits.
type write struct {
	by  int
	op  uint32
	val []byte // in binary form
}

func (w write) compare(o write) int {
	return cmp.Or(cmp.Compare(w.by, o.by), cmp.Compare(w.op, o.op))
}

// few is how many commits are looked through one by one.
const few = 8

// find returns the place of a commit.
func (s *state) find(commit [32]byte) (int, bool) {
	i, ok := slices.BinarySearchFunc(s.commits[:s.sorted], commit, func(e entry, c [32]byte) int {
		return bytes.Compare(e.commit[:], c[:])
	})
	if ok || len(s.commits) == s.sorted {
		return i, ok
	}
	if s.places != nil {
		i, ok = s.places[commit]
		return i, ok
	}
	for i := s.sorted; i < len(s.commits); i++ {
		if s.commits[i].commit == commit {
			return i, true
		}
	}
	return 0, false
}

// enter adds a head and returns its place.
func (s *state) enter(e entry) int {
	i := len(s.commits)
	s.commits = append(s.commits, e)
	s.heads++
	s.size += entrySize + 4
	switch n := len(s.commits) - s.sorted; {
	case s.places != nil:
		s.places[e.commit] = i
	case n > few:
		s.places = make(map[[32]byte]int, 2*n)
		for k := s.sorted; k <= i; k++ {
			s.places[s.commits[k].commit] = k
		}
	}
	return i
}

// cell returns where a cell stands, or would.
func (s *state) cell(f FieldID, k Kind) (int, bool) {
	return slices.BinarySearchFunc(s.cells, cell{field: f, kind: k}, func(c *cell, o cell) int {
		return cmp.Or(cmp.Compare(c.field, o.field), cmp.Compare(c.kind, o.kind))
	})
}

func (s *state) newCell(f FieldID, k Kind) *cell {
	if len(s.fresh) == cap(s.fresh) {
		s.fresh = make([]cell, 0, 16)
	}
	s.fresh = append(s.fresh, cell{field: f, kind: k})
	return &s.fresh[len(s.fresh)-1]
}

// insert merges new cells, which are sorted, into the others.
func (s *state) insert(fresh []*cell) {
	from := len(s.cells) - 1
	s.cells = append(s.cells, fresh...)
	for to := len(s.cells) - 1; len(fresh) > 0 && from >= 0; to-- {
		last := fresh[len(fresh)-1]
		if o := s.cells[from]; cmp.Or(cmp.Compare(o.field, last.field), cmp.Compare(o.kind, last.kind)) > 0 {
			s.cells[to] = o
			from--
		} else {
			s.cells[to], fresh = last, fresh[:len(fresh)-1]
		}
	}
	copy(s.cells, fresh) // before all others
}

// bury enters a tombstone.
func (s *state) bury(c *cell, t Tag) {
	if s.tombs == nil {
		s.tombs = map[[32]byte]map[tomb]bool{}
	}
	of := s.tombs[t.Commit]
	if of == nil {
		of = map[tomb]bool{}
		s.tombs[t.Commit] = of
	}
	of[tomb{c, t.Op}] = true
}

// parse takes the document apart and checks all that the accessors do not.
func (d Document) parse() (*state, error) {
	s := &state{size: len(d.raw)}
	if err := s.parseTable(d); err != nil {
		return nil, err
	}
	return s, s.parseCells(d)
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
	s.sorted = len(s.commits)
	next := uint64(0)
	for b := d.heads(); len(b) > 0; {
		var i, height uint64
		i, b = uvarint(b)
		height, b = uvarint(b)
		if i < next {
			return corrupt("heads out of order")
		}
		s.commits[i].head, s.commits[i].height = true, height
		s.heads++
		next = i + 1
	}
	return nil
}

// parseCells reads the cells.
func (s *state) parseCells(d Document) error {
	p := parsing{state: s, writes: make([]write, 0, 16)}
	s.fresh, s.cells = make([]cell, 0, 16), make([]*cell, 0, 16)
	for b := d.cells(); len(b) > 0; {
		f, k, payload, rest := nextCell(b)
		if rest == nil {
			return corrupt("cells")
		}
		b = rest
		if n := len(s.cells); n > 0 {
			if last := s.cells[n-1]; last.field > f || last.field == f && last.kind >= k {
				return corrupt("cells out of order")
			}
		}
		c := s.newCell(f, k)
		if !p.cell(c, payload) {
			return fault.Corrupt.Errorf("field %d, %v: %w", f, k, corrupt("cell"))
		}
		s.cells = append(s.cells, c)
	}
	return nil
}

// parsing reads payloads.
type parsing struct {
	*state
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
		if k := len(c.writes); k > 0 && c.writes[k-1].compare(w) >= 0 {
			return false
		}
		c.writes, b = append(c.writes, w), rest
	}
	var last *Tag
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
		if last != nil && last.Compare(t) >= 0 {
			return false
		}
		p.bury(c, t)
		last = &t
	}
	return b != nil && (len(c.writes) > 0 || last != nil)
}

func (p *parsing) write(i, op uint64, val []byte) (write, bool) {
	ok := val != nil && i < uint64(p.sorted) && op <= 1<<32-1
	return write{int(i), uint32(op), val}, ok
}

// encode puts the document together, in its canonical form.
func (s *state) encode() []byte {
	for i := range s.commits {
		s.commits[i].named = false
	}
	for _, c := range s.cells {
		for _, w := range c.writes {
			if w.val != nil {
				s.commits[w.by].named = true
			}
		}
	}
	tombs := s.tombsOf()
	b := make([]byte, 0, s.size+128)
	b = append(b, formatVersion)
	b = s.appendTable(b)
	var payload []byte
	for _, c := range s.cells {
		if payload = s.appendPayload(payload[:0], c, tombs[c]); len(payload) == 0 {
			continue
		}
		b = binary.AppendUvarint(b, uint64(c.field))
		b = append(b, byte(c.kind>>8), byte(c.kind))
		b = binary.AppendUvarint(b, uint64(len(payload)))
		b = append(b, payload...)
	}
	return b
}

// tombsOf returns the tombstones of each cell, sorted.
func (s *state) tombsOf() map[*cell][]Tag {
	if len(s.tombs) == 0 {
		return nil
	}
	of := map[*cell][]Tag{}
	for commit, tombs := range s.tombs {
		for t := range tombs {
			of[t.cell] = append(of[t.cell], Tag{Commit: commit, Op: t.op})
		}
	}
	for _, tags := range of {
		slices.SortFunc(tags, Tag.Compare)
	}
	return of
}

// inOrder returns the places of the commits that heads and writes name, sorted by commit.
func (s *state) inOrder() []int {
	came := make([]int, 0, len(s.commits)-s.sorted)
	for i := s.sorted; i < len(s.commits); i++ {
		if e := &s.commits[i]; e.head || e.named {
			came = append(came, i)
		}
	}
	compare := func(i, k int) int { return bytes.Compare(s.commits[i].commit[:], s.commits[k].commit[:]) }
	slices.SortFunc(came, compare)
	all := make([]int, 0, s.sorted+len(came))
	for i := range s.sorted {
		if e := &s.commits[i]; !e.head && !e.named {
			continue
		}
		for len(came) > 0 && compare(came[0], i) < 0 {
			all, came = append(all, came[0]), came[1:]
		}
		all = append(all, i)
	}
	return append(all, came...)
}

// appendTable appends the commits that heads and writes name, and the heads.
func (s *state) appendTable(b []byte) []byte {
	commits := s.inOrder()
	b = binary.AppendUvarint(b, uint64(len(commits)))
	for place, i := range commits {
		e := &s.commits[i]
		e.place = uint64(place)
		b = append(b, e.commit[:]...)
		b = binary.BigEndian.AppendUint64(b, e.hlc)
	}
	b = binary.AppendUvarint(b, uint64(s.heads))
	for _, i := range commits {
		if e := &s.commits[i]; e.head {
			b = binary.AppendUvarint(b, e.place)
			b = binary.AppendUvarint(b, e.height)
		}
	}
	return b
}

// appendPayload appends what a cell holds: nothing, if it is as if it had never been.
func (s *state) appendPayload(b []byte, c *cell, tombs []Tag) []byte {
	switch c.kind.Rule() {
	case LWW:
		w := c.writes[0]
		b = binary.AppendUvarint(b, s.commits[w.by].place)
		b = binary.AppendUvarint(b, uint64(w.op))
		return append(b, w.val...)
	case MVR:
		return s.appendMulti(b, c, tombs)
	}
	if c.kind.attached() {
		return append(b, c.raw...)
	}
	return append(b, c.sum...)
}

func (s *state) appendMulti(b []byte, c *cell, tombs []Tag) []byte {
	live := c.writes
	inOrder := func(a, b write) int {
		return cmp.Or(cmp.Compare(s.commits[a.by].place, s.commits[b.by].place), cmp.Compare(a.op, b.op))
	}
	if c.dead > 0 || !slices.IsSortedFunc(live, inOrder) {
		live = slices.DeleteFunc(slices.Clone(live), func(w write) bool { return w.val == nil })
		slices.SortFunc(live, inOrder)
	}
	if len(live)+len(tombs) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(live)))
	for _, w := range live {
		b = binary.AppendUvarint(b, s.commits[w.by].place)
		b = binary.AppendUvarint(b, uint64(w.op))
		b = binary.AppendUvarint(b, uint64(len(w.val)))
		b = append(b, w.val...)
	}
	for _, t := range tombs {
		b = append(b, t.Commit[:]...)
		b = binary.AppendUvarint(b, uint64(t.Op))
	}
	return b
}
