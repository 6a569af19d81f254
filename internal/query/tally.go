package query

import (
	"iter"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/value"
)

// slot is one aggregate over rows that pass by once: which of them count, and
// what is read of each.
type slot struct {
	fn            function
	cond          predicate
	filter        value.Value                            // of which cond is made
	own           bool                                   // of more than filter
	read          reader                                 // nil: rows are counted
	list          func(*run, *row) ([]value.Value, bool) // instead of read
	limit, offset int                                    // in the order in which rows pass
}

// add takes in a row.
func (s *slot) add(x *run, a *acc, r *row) {
	if s.cond.truth != always && (s.cond.truth == never || !s.cond.holds(x, r)) {
		return
	}
	if s.limit > 0 || s.offset != 0 {
		if a.seen++; s.offset < 0 || a.seen <= uint64(s.offset) || s.limit > 0 && a.seen > uint64(s.offset+s.limit) {
			return
		}
	}
	if s.list != nil {
		list, _ := s.list(x, r)
		for i := range list {
			a.add(s.fn, &list[i])
		}
		return
	}
	if s.read == nil {
		a.n++
		return
	}
	v := s.read(x, r)
	a.add(s.fn, &v)
}

func addAll(x *run, slots []slot, accs []acc, r *row) {
	for i := range slots {
		slots[i].add(x, &accs[i], r)
	}
}

// tally is all aggregates of one level over the same source, for which it is read
// once: the far side of a relation, by the documents that it refers to, or what a
// filter chooses of a collection.
type tally struct {
	to    *relation
	from  operator // without a relation
	name  string
	slots []slot
	// inTurn says that something depends on more than each row.
	inTurn bool
}

// add adds an aggregate and returns its place.
func (t *tally) add(s slot) int {
	t.slots = append(t.slots, s)
	return len(t.slots) - 1
}

// finish lets the source do what all aggregates ask of it, so that it may find a
// shorter way than to read everything.
func (t *tally) finish(c *compiler) {
	if t.to == nil {
		return
	}
	first := t.slots[0]
	for _, s := range t.slots {
		if s.own || s.filter.IsNull() || !value.Equal(s.filter, first.filter) {
			return
		}
	}
	t.to.filter, t.to.text = first.cond, text(first.filter)
	if t.to.indexed {
		t.to.ways = c.demandsOf(t.to.target, first.filter).all()
	}
	for i := range t.slots {
		t.slots[i].cond = predicate{}
	}
}

// finish finishes the tallies over relations of a root field, once all aggregates in it
// are known. Those over collections are shared with the root fields to come.
func (c *compiler) finish() {
	c.tallies = slices.DeleteFunc(c.tallies, func(t *tally) bool {
		t.finish(c)
		return t.to != nil
	})
}

func (t *tally) tree(p *printer) {
	if t.to == nil {
		p.operator(t.from)
		return
	}
	p.line((&children{t.to}).describe())
}

// tallied is the result of a tally: accumulators by document.
type tallied struct {
	place map[dag.DocID]int32
	accs  []acc // as many for each document as there are slots
}

// of returns the accumulators of a document, nil if nothing refers to it.
func (t *tallied) of(id dag.DocID, slots int) []acc {
	i, ok := t.place[id]
	if !ok {
		return nil
	}
	return t.accs[int(i)*slots:][:slots]
}

// tallied returns the result of a tally, reading its source the first time.
func (x *run) tallied(t *tally) *tallied {
	if d := x.sums[t]; d != nil {
		return d
	}
	d := &tallied{place: map[dag.DocID]int32{}}
	var err error
	if t.to == nil {
		d.accs, err = x.tallyAll(t)
	} else {
		err = x.tallyFar(t, d)
	}
	if err != nil {
		x.err = err
	}
	if x.sums == nil {
		x.sums = map[*tally]*tallied{}
	}
	x.sums[t] = d
	return d
}

// tallyAll accumulates over all rows.
func (x *run) tallyAll(t *tally) ([]acc, error) {
	accs, from := make([]acc, len(t.slots)), t.from
	if !t.inTurn {
		p, rest, err := x.widely(from)
		if err != nil {
			return nil, err
		}
		if p != nil {
			return accs, x.tallyParts(t, p, accs)
		}
		from = rest
	}
	return accs, x.pass(x.rows(from, nil), func(r *row) { addAll(x, t.slots, accs, r) })
}

// tallyParts is tallyAll part by part.
func (x *run) tallyParts(t *tally, p *wide, accs []acc) error {
	n := len(t.slots)
	parts := make([]acc, p.parts*n)
	err := x.spread(p, func(_, part int, w *run, r *row) error {
		addAll(w, t.slots, parts[part*n:][:n], r)
		return nil
	})
	for i := range parts {
		accs[i%n].merge(t.slots[i%n].fn, &parts[i])
	}
	return err
}

// pass passes rows on until one fails.
func (x *run) pass(rows iter.Seq2[*row, error], do func(*row)) error {
	for r, err := range rows {
		if err != nil {
			return err
		}
		if do(r); x.err != nil {
			return x.err
		}
	}
	return nil
}

func (x *run) tallyFar(t *tally, d *tallied) error {
	const entry = 64 // bytes of a map per docID
	only, n := x.only[t.to], len(t.slots)
	for r, err := range x.sourcesOf(t.to, only) {
		if err != nil {
			return err
		}
		id, ok := t.to.reference(r)
		if !ok {
			continue
		}
		i, known := d.place[id]
		if !known {
			if _, wanted := only[id]; !wanted && only != nil {
				continue
			}
			if err := x.reserve(int64(entry + n*accSize)); err != nil {
				return err
			}
			i = int32(len(d.place))
			d.place[id] = i
			for range n {
				d.accs = append(d.accs, acc{})
			}
		}
		if addAll(x, t.slots, d.accs[int(i)*n:][:n], r); x.err != nil {
			return x.err
		}
	}
	return nil
}
