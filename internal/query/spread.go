package query

import (
	"context"
	"encoding/binary"
	"iter"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/store"
)

// A pass over a large collection is spread over the cores: docIDs are hashes, so
// that parts of equal width hold about as many documents each. What the parts give
// is put together in their order, and the parts depend on the collection alone:
// answers are the same, to the last bit of a sum, however many cores help.

const (
	// spreadFrom is how many documents make it worthwhile to wake other cores.
	spreadFrom = 8192
	// partSize is about how many documents a part has, up to maxParts of them: small
	// enough that cores end at about the same time, large enough that beginning one
	// costs little beside it.
	partSize = 4096
	maxParts = 64
)

// cores hands out the cores that are idle: requests that run beside each other
// share them.
type cores struct{ busy atomic.Int32 }

// take returns how many of n goroutines may run, beside the one that asks. They are
// to be given back.
func (c *cores) take(n int) int {
	if c == nil {
		return 0
	}
	most := int32(runtime.GOMAXPROCS(0) - 1)
	for {
		busy := c.busy.Load()
		got := min(int32(n), most-busy)
		if got <= 0 {
			return 0
		}
		if c.busy.CompareAndSwap(busy, busy+got) {
			return int(got)
		}
	}
}

func (c *cores) give(n int) {
	if c != nil {
		c.busy.Add(int32(-n))
	}
}

// parts returns how many parts a scan is made in: 1 if it is to be one pass, because
// there are few documents, or the transaction belongs to one goroutine.
func (x *run) parts(s *scan) (int, error) {
	if s == nil || !x.tx.ReadOnly() || s.deleted || s.coll.View != nil {
		return 1, nil
	}
	n, err := x.tx.Size(s.coll.Collection)
	if err != nil || n < spreadFrom {
		return 1, err
	}
	parts := 4
	for parts < maxParts && uint64(parts)*partSize < n {
		parts *= 2
	}
	return parts, nil
}

// rangeOf is one of n ranges of docIDs, n a power of two up to 256.
func rangeOf(i, n int) store.Range {
	width := 256 / n
	var r store.Range
	if i > 0 {
		r.After = lastBefore(byte(i * width))
	}
	if i < n-1 {
		r.Through = lastBefore(byte((i + 1) * width))
	}
	return r
}

// lastBefore is the greatest docID that begins with less than b.
func lastBefore(b byte) (id dag.DocID) {
	for i := range id {
		id[i] = 0xff
	}
	id[0] = b - 1
	return id
}

// stretch is the range behind a docID in which about n documents are, if the caller may
// perhaps not read most of them: who passes over these does not see how many there were.
// Else it is all that is left.
func (x *run) stretch(g *collection, after dag.DocID, n int) (store.Range, error) {
	r := store.Range{After: after}
	if !x.tx.Guarded(g.Collection) {
		return r, nil
	}
	size, err := x.tx.Size(g.Collection)
	if err != nil || uint64(n) >= size {
		return r, err
	}
	from := binary.BigEndian.Uint64(after[:])
	through := from + (math.MaxUint64/size)*uint64(max(n, 1))
	if through > from { // it has not run over
		binary.BigEndian.PutUint64(r.Through[:], through)
	}
	return r, nil
}

// wide is a pass over a collection that can be made in parts.
type wide struct {
	scan  *scan
	cond  predicate // on the rows that are wanted
	parts int
	after dag.DocID // documents up to this one have been read
}

// number counts the documents that meet the condition.
func (x *run) number(p *wide) (uint64, error) {
	parts := make([]uint64, p.parts)
	err := x.spread(p, func(_, part int, _ *run, _ *row) error {
		parts[part]++
		return nil
	})
	var n uint64
	for _, k := range parts {
		n += k
	}
	return n, err
}

// widely returns the wide pass that an operator comes down to, if it is worthwhile;
// else nil, and the operator to run.
func (x *run) widely(o operator) (w *wide, rest operator, err error) {
	if x.stats != nil { // each operator is watched
		return nil, o, nil
	}
	w = &wide{}
	switch o := o.(type) {
	case *scan:
		w.scan, rest = o, o
	case *where:
		if !o.pure {
			return nil, o, nil
		}
		from := o.from
		if a, ok := from.(*access); ok {
			if from, err = a.choose(x); err != nil {
				return nil, nil, err
			}
		}
		w.scan, _ = from.(*scan)
		w.cond, rest = when(o.cond), &where{from: from, cond: o.cond, text: o.text}
	default:
		return nil, o, nil
	}
	if w.parts, err = x.parts(w.scan); err != nil || w.parts == 1 {
		return nil, rest, err
	}
	return w, rest, nil
}

// spread calls each for the documents of a scan that meet a condition, from several
// goroutines at once: who numbers them. Parts come in order to each of them, and no
// part to two.
func (x *run) spread(p *wide, each func(who, part int, w *run, r *row) error) error {
	helpers := x.cores.take(p.parts - 1)
	defer x.cores.give(helpers)
	ctx, cancel := context.WithCancelCause(x.ctx)
	defer cancel(nil)
	var held atomic.Int64
	held.Store(x.held)
	var next atomic.Int32
	work := func(who int) {
		w := &run{ctx: ctx, tx: x.tx, most: x.most, shared: &held}
		for {
			i := int(next.Add(1)) - 1
			if i >= p.parts {
				return
			}
			err := w.part(p, i, func(r *row) error { return each(who, i, w, r) })
			if err != nil {
				cancel(err)
				return
			}
		}
	}
	var wg sync.WaitGroup
	for who := range helpers {
		wg.Go(func() { work(who + 1) })
	}
	work(0)
	wg.Wait()
	x.held = held.Load()
	if ctx.Err() != nil && x.ctx.Err() == nil {
		return context.Cause(ctx)
	}
	return x.cancelled()
}

// workers bounds the numbers that spread gives.
func workers() int { return runtime.GOMAXPROCS(0) }

// part calls each for the documents of a part that meet the condition.
func (x *run) part(p *wide, i int, each func(*row) error) error {
	var r row
	rg := rangeOf(i, p.parts)
	if compareIDs(p.after, rg.After) > 0 {
		rg.After = p.after
	}
	for d, err := range x.tx.Scan(p.scan.coll.Collection, rg) {
		if err == nil {
			err = x.step()
		}
		if err != nil {
			return err
		}
		r.Doc = d
		ok := p.cond.truth != depends || p.cond.holds(x, &r)
		if ok && x.err == nil {
			err = each(&r)
		}
		if x.err != nil {
			return x.err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// batchBytes is how much of the matches of a part travels at once from one goroutine
// to another, and batchesAhead how many batches a part may be ahead of its reader.
const (
	batchBytes   = 32 << 10
	batchesAhead = 4
)

// batch is some matches of a part.
type batch struct {
	docs []store.Doc
	raw  []byte // room for their bytes
	err  error
}

// add copies a document into the batch.
func (b *batch) add(d store.Doc) (err error) {
	raw := d.State.Bytes()
	if b.raw == nil {
		b.raw = make([]byte, 0, batchBytes)
	}
	at := len(b.raw)
	if at+len(raw) > cap(b.raw) {
		if d, err = d.Clone(); err == nil {
			b.docs = append(b.docs, d)
		}
		b.raw = b.raw[:cap(b.raw)] // full
		return err
	}
	b.raw = append(b.raw, raw...)
	if d.State, err = crdt.Open(b.raw[at:len(b.raw):len(b.raw)]); err == nil {
		b.docs = append(b.docs, d)
	}
	return err
}

func (b *batch) full() bool { return len(b.raw) > batchBytes*3/4 }

// spreadRows yields the documents of a scan that meet a condition, in docID order; or
// all of them, if the caller perhaps may not read most.
// Perhaps the first few are enough; then goroutines look ahead of who reads.
func (x *run) spreadRows(p *wide) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		const few = 512
		var r row
		n := 0
		first := rangeOf(0, p.parts) // there may be hardly any that the caller reads
		for d, err := range x.tx.Scan(p.scan.coll.Collection, first) {
			if err == nil {
				err = x.step()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			r.Doc, p.after = d, d.ID
			ok := p.cond.truth != depends || p.cond.holds(x, &r)
			if x.err != nil {
				yield(nil, x.err)
				return
			}
			if ok && !yield(&r, nil) {
				return
			}
			if n++; n == few {
				break
			}
		}
		switch {
		case n < few:
			p.after = first.Through
		case p.cond.truth == always: // there is hardly anything to pass over
			p.scan.rest(x, p.after, yield)
			return
		}
		x.ahead(p, yield)
	}
}

// ahead is the rest of spreadRows.

func (x *run) ahead(p *wide, yield func(*row, error) bool) {
	helpers := x.cores.take(p.parts - 1)
	defer x.cores.give(helpers)
	ctx, cancel := context.WithCancel(x.ctx)
	out := make([]chan batch, p.parts)
	for i := range out {
		out[i] = make(chan batch, batchesAhead)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var next atomic.Int32
	for range helpers + 1 { // who reads waits most of the time
		wg.Go(func() {
			w := &run{ctx: ctx, tx: x.tx, most: x.most}
			for i := int(next.Add(1)) - 1; i < p.parts; i = int(next.Add(1)) - 1 {
				w.find(p, i, out[i])
			}
		})
	}
	var r row
	for _, ch := range out {
		for b := range ch {
			for _, d := range b.docs {
				if r.Doc = d; !yield(&r, nil) {
					return
				}
			}
			if b.err != nil {
				yield(nil, b.err)
				return
			}
		}
	}
	if err := x.cancelled(); err != nil { // parts may have ended early
		yield(nil, err)
	}
}

// find sends the matches of a part, and closes the channel.
func (x *run) find(p *wide, i int, out chan<- batch) {
	defer close(out)
	var b batch
	send := func() error {
		select {
		case out <- b:
			b = batch{}
			return nil
		case <-x.ctx.Done():
			return context.Cause(x.ctx)
		}
	}
	b.err = x.part(p, i, func(r *row) error {
		if err := b.add(r.Doc); err != nil || !b.full() {
			return err
		}
		return send()
	})
	if len(b.docs) > 0 || b.err != nil {
		_ = send() // if it fails nobody reads
	}
}
