package schema

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"unsafe"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/value"
)

// passage is how documents pass between a version and its neighbour, by modules. It
// tells again what writers of both did: what is written in fields that only one of
// the versions has is put in the order of its stamps, and wherever that changes from
// one version to the other, modules take the document across. So a write to one
// version shows in the other beside what was there, and both agree. It is a pure
// function of the document, like any term.
type passage struct {
	here, from side
	form       [sha256.Size]byte
	kept       kept
}

// side is one of both versions.
type side struct {
	modules *Modules // lead to it; nil: nothing does
	fields  []sideField
}

// sideField is a stored field of a version, as its readers see it from whom the
// other side is hidden.
type sideField struct {
	*Field
	term   *term
	shared int  // its place on the other side, which has the cell too; -1: it has not
	made   bool // modules make it
	at     int  // its place among those that they make
}

// shown is a field while a document passes.
type shown struct {
	known
	own  bool // it is as the term reads it
	turn int  // of the events: when it was written; -1: never
}

// event is a write that only one of both versions sees by itself.
type event struct {
	stamp crdt.Stamp
	side  int
	field int
}

// The sides of a passage by number.
const (
	atHere = iota
	atFrom
	nowhere
)

// read returns own, or what the modules make of the document.
func (p *passage) read(r *reading, own known, at int) known {
	if len(r.Bytes()) == 0 {
		return own // there is no document
	}
	got, ok := p.kept.get(r.Bytes())
	if !ok {
		t := telling{passage: p, reading: r, cancel: func() {}}
		err := t.tell()
		t.cancel()
		if r.err != nil || err != nil {
			r.err = cmp.Or(r.err, err)
			return own
		}
		got = t.result()
		p.kept.put(r.Bytes(), got)
	}
	at = p.here.fields[at].at
	if got[at].own {
		return own
	}
	return got[at].known
}

// telling is one document under way through a passage.
type telling struct {
	*passage
	*reading
	ctx     context.Context // of all crossings, from the first on: opening modules may take longer
	cancel  func()
	docs    [2][]shown
	events  []event
	crossed bool // something came to here
}

func (t *telling) tell() error {
	t.gather(atHere, &t.here)
	t.gather(atFrom, &t.from)
	t.meet()
	slices.SortFunc(t.events, func(a, b event) int {
		return cmp.Or(a.stamp.Compare(b.stamp), cmp.Compare(a.side, b.side), cmp.Compare(a.field, b.field))
	})
	for i, e := range t.events {
		t.docs[e.side][e.field].turn = i
	}
	at := nowhere
	for i, e := range t.events {
		if at != nowhere && at != e.side {
			if err := t.cross(e.side, i); err != nil {
				return err
			}
		}
		at = e.side
		s := &t.docs[at][e.field]
		s.known, s.own = t.side(at).fields[e.field].read(t.reading), true
	}
	return t.arrive(at)
}

// arrive brings what was told last to here, and what nobody wrote.
func (t *telling) arrive(at int) error {
	if at == atFrom {
		return t.cross(atHere, len(t.events))
	}
	if t.crossed || !t.wants(atHere, 0) {
		return nil
	}
	if at == atHere {
		if err := t.cross(atFrom, len(t.events)); err != nil {
			return err
		}
	}
	return t.cross(atHere, 0)
}

func (t *telling) side(n int) *side {
	if n == atHere {
		return &t.here
	}
	return &t.from
}

// gather reads one side. What is written there alone is an event, and not shown yet.
func (t *telling) gather(n int, s *side) {
	t.docs[n] = make([]shown, len(s.fields))
	for i := range s.fields {
		f := &s.fields[i]
		k := f.read(t.reading)
		if f.shared < 0 && k.written && !f.IsCounter() {
			t.events = append(t.events, event{k.stamp, n, i})
			k = known{}
		}
		t.docs[n][i] = shown{known: k, own: true, turn: -1}
	}
}

// meet lets fields that both versions have show the newer of what each can see.
func (t *telling) meet() {
	for i := range t.here.fields {
		j := t.here.fields[i].shared
		if j < 0 {
			continue
		}
		a, b := &t.docs[atHere][i], &t.docs[atFrom][j]
		if b.newer(a.known) {
			a.known = b.known
		} else {
			b.known = a.known
		}
	}
}

func (f *sideField) read(r *reading) known {
	k := f.term.read(r)
	if !k.written && f.term.fallback != nil {
		k.val = *f.term.fallback
	}
	return k
}

// wants reports whether modules have something to say on a side: there is a field that
// they make, and nobody writes from that turn on. At turn 0: that nobody ever writes.
func (t *telling) wants(to, turn int) bool {
	for i, f := range t.side(to).fields {
		if s := t.docs[to][i]; f.made && s.turn < turn {
			return true
		}
	}
	return false
}

// cross takes the document to a side, before the event of that turn; before the first
// turn it fills in what is never written there.
func (t *telling) cross(to, turn int) error {
	s := t.side(to)
	if s.modules == nil || !t.wants(to, turn) {
		return nil
	}
	if err := s.modules.Ready(); err != nil {
		return err
	}
	if t.ctx == nil {
		t.ctx, t.cancel = context.WithTimeout(context.Background(), passTime)
	}
	t.crossed = t.crossed || to == atHere
	var last known
	if turn > 0 {
		last = known{stamp: t.events[turn-1].stamp, written: true}
	}
	o, ok := s.modules.pass(t.ctx, t.text(atFrom-to))
	for i, f := range s.fields {
		if !f.made || t.docs[to][i].turn >= turn {
			continue
		}
		var v value.Value
		if ok {
			m, _ := o.Get(f.Name)
			if v = coerced(m, f.Type); f.Size != 0 && len(v.List()) != f.Size {
				v = value.Value{}
			}
		}
		made := &t.docs[to][i]
		made.known, made.own = known{v, last.stamp, last.written || !v.IsNull()}, false
	}
	return nil
}

// text is a side as its readers would see it: a JSON object.
func (t *telling) text(n int) []byte {
	b := append(make([]byte, 0, 256), '{')
	for i, f := range t.side(n).fields {
		if i > 0 {
			b = append(b, ',')
		}
		name := f.Name
		if id := f.IDName(); id != "" {
			name = id
		}
		b = append(value.OfString(name).AppendJSON(b), ':')
		b = t.docs[n][i].val.AppendJSON(b)
	}
	return append(b, '}')
}

// result returns what is kept: of the fields that modules make, in order. What the
// document has itself is read there.
func (t *telling) result() []shown {
	var got []shown
	for i, s := range t.docs[atHere] {
		if !t.here.fields[i].made {
			continue
		}
		if s.own {
			s.known = known{}
		}
		got = append(got, s)
	}
	return got
}

// maxKept bounds what a passage keeps, in bytes of documents and of what was made of
// them: ten thousand documents or more, of half a kilobyte.
const maxKept = 16 << 20

// kept remembers what became of documents, by their bytes, in two generations: when
// the young one is full it becomes the old one, and what nobody asked for since goes.
type kept struct {
	mu         sync.Mutex // guards the rest
	young, old map[string]keptDoc
	size       int // of the young
}

type keptDoc struct {
	fields []shown
	size   int
}

func (k *kept) get(doc []byte) ([]shown, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if got, ok := k.young[string(doc)]; ok {
		return got.fields, true
	}
	got, ok := k.old[string(doc)]
	if ok {
		k.add(string(doc), got)
	}
	return got.fields, ok
}

func (k *kept) put(doc []byte, fields []shown) {
	size := 128 + len(doc) // with what an entry of a map takes
	for _, f := range fields {
		size += int(unsafe.Sizeof(f)) + sizeOf(f.val)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.add(string(doc), keptDoc{fields, size})
}

// sizeOf returns how many bytes hang on a value, about.
func sizeOf(v value.Value) int {
	n := 0
	switch v.Kind() {
	case value.String:
		n = len(v.Text())
	case value.Bytes:
		n = len(v.Bytes())
	case value.List:
		for _, e := range v.List() {
			n += int(unsafe.Sizeof(e)) + sizeOf(e)
		}
	case value.Map:
		for key, e := range v.Members() {
			n += 2*int(unsafe.Sizeof(e)) + len(key) + sizeOf(e)
		}
	}
	return n
}

// add is called with the lock held.
func (k *kept) add(doc string, got keptDoc) {
	if got.size > maxKept/4 {
		return
	}
	if k.size+got.size > maxKept/2 {
		k.old, k.young, k.size = k.young, nil, 0
	}
	if k.young == nil {
		k.young = map[string]keptDoc{}
	}
	k.young[doc] = got
	k.size += got.size
}

// edge is a passage between two versions.
type edge struct{ here, from *Collection }

// passage returns how documents pass from one version to its neighbour here, nil if
// no modules lead that way. Within one walk it is made once, so that all fields of
// here which modules make share it. The walk comes to here from came.
func (w *walk) passage(here, from *Collection, came dag.Digest) *passage {
	newer, back := here, false
	if from.Previous == here.Version {
		newer, back = from, true
	}
	if newer.Lens == "" || w.running == nil {
		return nil
	}
	e := edge{here, from}
	if p, ok := w.passages[e]; ok {
		return p
	}
	w.passages[e] = nil
	to := w.running(newer, back)
	if to == nil {
		return nil
	}
	budget := w.budget
	defer func() { w.budget = budget }()
	p := &passage{here: side{modules: to}, from: side{modules: w.running(newer, !back)}}
	p.here.fields = w.side(here, from, newer, func(t *term) { w.extend(t, here, came, from, nil) })
	p.from.fields = w.side(from, here, newer, func(t *term) { w.extend(t, from, here.Version, nil, nil) })
	p.form = p.formOf(newer.Lens, back)
	w.passages[e] = p
	return p
}

// side returns the stored fields of c; extend completes how one is read.
func (w *walk) side(c, other, newer *Collection, extend func(*term)) []sideField {
	made := c.made(other, newer)
	var fields []sideField
	makes := 0
	for i := range c.Fields {
		f := &c.Fields[i]
		if f.IsVirtual() {
			continue
		}
		s := sideField{Field: f, term: &term{cell: f.Cell()}, shared: -1, made: slices.Contains(made, f)}
		if w.budget = maxTerms; !f.IsCounter() {
			extend(s.term)
		}
		if s.at = makes; s.made {
			makes++
		}
		if other.hasCell(f.Cell()) {
			s.shared = other.place(f.Cell())
		}
		fields = append(fields, s)
	}
	return fields
}

// place returns where the cell is among the stored fields.
func (c *Collection) place(cell Cell) int {
	at := 0
	for i := range c.Fields {
		switch f := &c.Fields[i]; {
		case f.IsVirtual():
		case f.Cell() == cell:
			return at
		default:
			at++
		}
	}
	return -1
}

// formOf returns what tells the passage from another.
func (p *passage) formOf(lens string, back bool) [sha256.Size]byte {
	b := bytes.NewBufferString(lens)
	b.WriteByte(0)
	if back {
		b.WriteByte(1)
	}
	for _, s := range []*side{&p.here, &p.from} {
		for _, f := range s.fields {
			b.WriteString(f.Name)
			b.WriteByte(0)
			b.Write(f.term.append(nil))
		}
	}
	return sha256.Sum256(b.Bytes())
}
