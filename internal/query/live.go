package query

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// A live query is a query whose result is told again as it changes. A list of
// documents that depends on nothing but its own documents is kept, row by row: a
// change costs what it changes. Any other result is made anew when a collection that
// it reads has changed, and compared with the one before.

// liveQuery is what Compile knows of a query @live.
type liveQuery struct {
	kept  []*keptList // one for each root field; nil: made anew
	reads []Interest
	anew  []root // the plan, its objects marked with the docIDs of their documents
}

// Interest says which documents a result may depend on: those of a collection, or of
// these only the ones with certain docIDs, or a certain value in a field.
type Interest struct {
	Collection *schema.Collection
	Docs       []dag.DocID
	Field      *schema.Field
	Keys       []string // as Key returns them
}

// Key returns what a document's value in a field of an interest is told apart by.
func Key(b []byte, f *schema.Field, d store.Doc) []byte { return d.Value(f).AppendKey(b) }

func (c *compiler) isLive(op *ast.OperationDefinition) (bool, error) {
	d := op.Directives.ForName("live")
	if d == nil {
		return false, nil
	}
	a := d.Arguments.ForName("if")
	if a == nil {
		return true, nil
	}
	v, err := c.in.literal(named("Boolean"), a.Value)
	return err == nil && (v.IsNull() || v.Bool()), err
}

// live plans how the result of a query is kept. Its own compiler makes the plan, so
// that it costs no request more than it may.
func (c *compiler) live(op *ast.OperationDefinition) (*liveQuery, error) {
	own := &compiler{schema: c.schema, in: c.in}
	fields, err := own.collect(op.SelectionSet)
	if err != nil {
		return nil, err
	}
	l := &liveQuery{}
	for _, f := range fields {
		k, err := own.keep(f)
		if err != nil {
			return nil, err
		}
		if k == nil {
			return c.liveAnew(op, fields)
		}
		l.kept = append(l.kept, k)
		l.reads = append(l.reads, k.reads)
	}
	return l, nil
}

func (c *compiler) liveAnew(op *ast.OperationDefinition, fields []*selected) (l *liveQuery, err error) {
	l = &liveQuery{reads: c.reached(fields)}
	marking := &compiler{schema: c.schema, in: c.in, marks: true}
	l.anew, err = marking.roots(op)
	return l, err
}

// reached is the interest in the collections that root fields name, and in all to which
// relations lead from these: whether they are followed does not matter, so that nothing
// is missed. What is not known to name collections may read all.
func (c *compiler) reached(fields []*selected) (list []Interest) {
	var from []string
	for _, f := range fields {
		name := canonical(f.Definition)
		switch {
		case c.schema.collections[f.Name] != nil:
			from = append(from, f.Name)
		case name == "_count" || functionOf(name) != nil:
			for _, a := range f.Arguments {
				from = append(from, a.Name)
			}
		case name != "__typename":
			from = slices.Collect(maps.Keys(c.schema.collections))
		}
	}
	met := map[string]bool{}
	for len(from) > 0 {
		g := c.schema.collections[from[0]]
		from = from[1:]
		if g == nil || met[g.Name] {
			continue
		}
		met[g.Name] = true
		if g.View != nil { // its query may read any
			from = slices.Collect(maps.Keys(c.schema.collections))
		}
		list = append(list, Interest{Collection: g.Collection})
		for _, f := range g.fields {
			if f.role == roleOne || f.role == roleMany {
				from = append(from, f.Target)
			}
		}
	}
	return list
}

// plainArguments are the arguments of a list that can be kept.
var plainArguments = map[string]bool{"filter": true, "order": true, "limit": true, "offset": true, "docID": true}

// keptList is a list of documents that depends on nothing but them.
type keptList struct {
	key           string
	coll          *collection
	cond          predicate
	keys          []sortKey
	offset, limit int
	object        object
	from          operator // the rows that are kept, in order
	most          int      // how many these are; 0: all
	reads         Interest
}

// minSlack is how many rows behind the end of a limited list are kept at least, so
// that the query is not run again for every row that leaves it.
const minSlack = 16

// keep plans a root field as a list that is kept, or returns nil if it is none.
func (c *compiler) keep(f *selected) (*keptList, error) {
	g := c.schema.collections[f.Name]
	if g == nil || g.View != nil {
		return nil, nil
	}
	for _, a := range f.Arguments {
		if v, _, err := c.in.argument(f.Field, a.Name); err != nil || !plainArguments[a.Name] && !v.IsNull() {
			return nil, err
		}
	}
	lv, err := c.level(g, f, nil)
	if err != nil {
		return nil, err
	}
	order, _, err := c.in.argument(f.Field, "order")
	if err != nil {
		return nil, err
	}
	filter, _, err := c.in.argument(f.Field, "filter")
	if err != nil || !g.selectsOwn(lv.fields) || !g.ordersByOwn(order) || !g.filtersOwn(filter) {
		return nil, err
	}
	w, err := c.wanted(lv, f)
	if err != nil || w.offset < 0 || w.limit > maxKeptWindow || w.offset > maxKeptWindow {
		return nil, err
	}
	k := &keptList{key: f.key, coll: g, cond: w.cond, keys: w.keys, offset: w.offset, limit: w.limit}
	if k.object, _, err = c.columns(lv); err != nil {
		return nil, err
	}
	k.reads = g.interest(w)
	if w.restricted {
		k.cond = allOf(idIn(idSet(w.ids), true), k.cond)
	}
	if w.limit > 0 {
		k.most = w.offset + w.limit + max(minSlack, w.limit)
	}
	w.offset, w.limit = 0, k.most
	k.from = c.arranged(lv, w)
	return k, nil
}

// maxKeptWindow bounds the place of a list's end that is kept: beyond, a result is
// made anew.
const maxKeptWindow = 1 << 20

// own reports whether a field's value is part of the document.
func (f *field) own() bool {
	if f == nil {
		return false
	}
	switch f.role {
	case roleValue, roleDocID:
		return true
	case roleOneID:
		return f.stored()
	}
	return false
}

func (g *collection) selectsOwn(fields []*selected) bool {
	for _, s := range fields {
		f := g.byName[canonical(s.Definition)]
		if s.Name != "__typename" && !f.own() && (f == nil || f.role != roleDeleted && f.role != roleConflicts && f.role != roleAccess) {
			return false
		}
	}
	return true
}

func (g *collection) ordersByOwn(order value.Value) bool {
	for _, o := range order.List() {
		for name := range o.Members() {
			if !g.byName[name].own() {
				return false
			}
		}
	}
	return true
}

func (g *collection) filtersOwn(filter value.Value) bool {
	for name, v := range filter.Members() {
		switch name {
		case "_not":
			if !g.filtersOwn(v) {
				return false
			}
		case "_and", "_or":
			for _, e := range v.List() {
				if !g.filtersOwn(e) {
					return false
				}
			}
		default:
			if !g.byName[name].own() {
				return false
			}
		}
	}
	return true
}

// interest returns the narrowest that a filter shows.
func (g *collection) interest(w wanted) Interest {
	all := Interest{Collection: g.Collection}
	if w.restricted {
		if all.Docs = w.ids; len(w.ids) == 0 {
			all.Docs = []dag.DocID{} // none
		}
		return all
	}
	if f, keys := g.equality(w.filter); f != nil {
		all.Field, all.Keys = f, keys
	}
	return all
}

// equality finds a condition that holds for certain values of a field alone.
func (g *collection) equality(filter value.Value) (*schema.Field, []string) {
	for name, block := range filter.Members() {
		f := g.byName[name]
		if !f.own() || f.role == roleDocID || f.Type.IsList() || f.Type == value.TypeJSON || block.Kind() != value.Map {
			continue
		}
		for op, v := range block.Members() {
			list := []value.Value{v}
			if op == "_in" {
				list = v.List()
			} else if op != "_eq" {
				continue
			}
			var keys []string
			for _, e := range list {
				if f.role == roleOneID {
					e = fit(e)
				}
				keys = append(keys, string(e.AppendKey(nil)))
			}
			return f.Field, keys
		}
	}
	and, _ := filter.Get("_and")
	for _, e := range and.List() {
		if f, keys := g.equality(e); f != nil {
			return f, keys
		}
	}
	return nil, nil
}

// IsLive reports whether the result of the plan is wanted again as it changes.
func (p *Plan) IsLive() bool { return p.live != nil }

// Live is the result of a live query as its reader knows it, with the changes that it
// is not told of yet. It belongs to one goroutine at a time.
type Live struct {
	plan  *Plan
	lists []*kept
	last  []byte // the result, if it is made anew
	ops   []byte // of the patch, with commas between
	told  int    // how much of a whole result has been made
}

// Live returns a result that is not loaded yet.
func (p *Plan) Live() *Live {
	l := &Live{plan: p}
	for i, k := range p.live.kept {
		l.lists = append(l.lists, &kept{keptList: k, out: l, root: &p.roots[i]})
	}
	return l
}

// Kept reports whether the result is kept document by document, by Change. Else Anew
// makes it again.
func (l *Live) Kept() bool { return len(l.lists) > 0 }

// Interests says which documents the result may depend on. Every document that does
// change it meets one of them before the change or after it.
func (l *Live) Interests() []Interest { return l.plan.live.reads }

// TakePatch returns the changes since it was called last, an array of operations, or
// nil if there are none.
func (l *Live) TakePatch() []byte {
	if len(l.ops) == 0 {
		return nil
	}
	patch := append(append([]byte{'['}, l.ops...), ']')
	l.ops = l.ops[:0]
	return patch
}

// Held returns how many bytes the result takes while it is followed.
func (l *Live) Held() (n int64) {
	n = int64(cap(l.last))
	for _, k := range l.lists {
		n += k.size
	}
	return n
}

// Pending returns how many bytes of changes wait to be taken.
func (l *Live) Pending() int { return len(l.ops) }

func (l *Live) op(name, key string, at int, v []byte) {
	if len(l.ops) > 0 {
		l.ops = append(l.ops, ',')
	}
	l.ops = append(append(append(l.ops, `{"op":"`...), name...), `","path":"/`...)
	l.ops = append(append(l.ops, key...), '/')
	l.ops = append(strconv.AppendInt(l.ops, int64(at), 10), '"')
	if v != nil {
		l.ops = append(append(l.ops, `,"value":`...), v...)
	}
	l.ops = append(l.ops, '}')
}

// Load runs the query and returns the whole result. What was known before, and the
// changes that were not taken, are forgotten.
func (l *Live) Load(ctx context.Context, tx *store.Tx) ([]byte, error) {
	l.ops, l.told = nil, 0
	if !l.Kept() {
		var err error
		if l.last, err = l.anew(ctx, tx); err != nil {
			return nil, err
		}
		return unmarked(l.last), nil
	}
	var b bytes.Buffer
	b.WriteByte('{')
	for i, k := range l.lists {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(newColumn(k.key, nil).label)
		b.WriteByte('[')
		rows, err := k.load(ctx, tx)
		if err != nil {
			return nil, failed(k.root.pos, under(k.key, err))
		}
		for j, r := range k.shown(rows) {
			if j > 0 {
				b.WriteByte(',')
			}
			b.Write(r.json)
			r.json = nil
		}
		k.take(rows)
		b.WriteByte(']')
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Change tells the result of a document as it is now, to who may read it.
func (l *Live) Change(ctx context.Context, tx *store.Tx, d store.Doc) error {
	return l.each(ctx, tx, d, true)
}

// Gone tells the result that the reader may not read a document.
func (l *Live) Gone(ctx context.Context, tx *store.Tx, c *schema.Collection, id dag.DocID) error {
	return l.each(ctx, tx, store.Doc{ID: id, Collection: c}, false)
}

func (l *Live) each(ctx context.Context, tx *store.Tx, d store.Doc, there bool) error {
	for _, k := range l.lists {
		if k.coll.ID != d.Collection.ID {
			continue
		}
		if err := k.change(ctx, tx, d, there); err != nil {
			return failed(k.root.pos, under(k.key, err))
		}
	}
	return nil
}

// kept is a list on its way: the rows that are shown, those before the offset, and a
// few behind the end.
type kept struct {
	*keptList
	out  *Live
	root *root
	rows []*keptRow // in order
	size int64      // of these
	told []toldStep // of the change that is being told
	byID map[dag.DocID]*keptRow
	more bool // there may be documents behind the last row
}

// keptRow is a document of a list.
type keptRow struct {
	id   dag.DocID
	key  []byte // of the order
	sum  uint64 // of what is shown of it: 64 random bits, which two values share by no accident
	json []byte // only while it is on its way to the reader
}

var sums = maphash.MakeSeed()

func (r *keptRow) compare(o *keptRow) int {
	if c := bytes.Compare(r.key, o.key); c != 0 {
		return c
	}
	return bytes.Compare(r.id[:], o.id[:])
}

// row makes the row of a document.
func (k *kept) row(x *run, r *row) (*keptRow, error) {
	n := &keptRow{id: r.ID, key: (&sortBy{keys: k.keys}).key(x, r, nil)}
	if x.err != nil {
		return nil, x.err
	}
	err := n.show(x, k.object, r)
	return n, err
}

func (n *keptRow) show(x *run, o object, r *row) error {
	x.out.buf = x.out.buf[:0]
	if err := o.write(x, r); err != nil {
		return err
	}
	n.json = bytes.Clone(x.out.buf)
	n.sum = maphash.Bytes(sums, n.json)
	return nil
}

func (k *kept) run(ctx context.Context, tx *store.Tx) *run {
	return &run{ctx: ctx, tx: tx, most: k.out.plan.held, out: &writer{to: &bytes.Buffer{}}}
}

// load runs the query; the rows have their JSON.
func (k *kept) load(ctx context.Context, tx *store.Tx) ([]*keptRow, error) {
	x := k.run(ctx, tx)
	var rows []*keptRow
	for r, err := range x.rows(k.from, nil) {
		if err != nil {
			return nil, err
		}
		n, err := k.row(x, r)
		if err == nil {
			err = x.reserve(rowSize(n) + int64(len(n.json)))
		}
		if k.out.told += len(n.json); err == nil && k.out.told > maxLiveResult {
			err = errLiveResult()
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, n)
	}
	return rows, nil
}

// rowSize is what keeping a row takes, with its places in the slice and the map.
func rowSize(n *keptRow) int64 { return int64(len(n.key)) + 160 }

// take makes rows the ones that are known.
func (k *kept) take(rows []*keptRow) {
	k.rows, k.byID, k.size = rows, make(map[dag.DocID]*keptRow, len(rows)), 0
	for _, n := range rows {
		k.size += rowSize(n)
		n.json = nil
		k.byID[n.id] = n
	}
	k.more = k.most > 0 && len(rows) >= k.most
}

// shown returns the rows that the reader sees.
func (k *kept) shown(rows []*keptRow) []*keptRow {
	lo, hi := min(k.offset, len(rows)), len(rows)
	if k.limit > 0 {
		hi = min(hi, k.offset+k.limit)
	}
	return rows[lo:hi]
}

// toldStep is an operation on the rows that the reader sees.
type toldStep struct {
	name string
	at   int
	sum  uint64 // of the row that comes or goes
}

func (k *kept) op(name string, at int, n *keptRow) {
	k.told = append(k.told, toldStep{name, at, n.sum})
	v := n.json
	if name == "remove" {
		v = nil
	}
	k.out.op(name, k.key, at, v)
}

// idle reports whether what was told of a change leaves all as it looked: a row went,
// and one came, and those between them look the same.
func (k *kept) idle() bool {
	if len(k.told) != 2 || k.told[0].sum != k.told[1].sum {
		return false
	}
	a, b := k.told[0], k.told[1]
	lo, hi := min(a.at, b.at), max(a.at, b.at)
	switch {
	case a.name == "remove" && b.name == "add":
		hi++
	case a.name != "add" || b.name != "remove":
		return false
	}
	for _, n := range k.shown(k.rows)[lo:hi] {
		if n.sum != a.sum {
			return false
		}
	}
	return true
}

// change tells of a document as it is now, if the reader sees a difference. One that
// is not there has nothing but its docID.
func (k *kept) change(ctx context.Context, tx *store.Tx, d store.Doc, there bool) error {
	before := len(k.out.ops)
	k.told = k.told[:0]
	err := k.apply(ctx, tx, d, there)
	if err == nil && k.idle() {
		k.out.ops = k.out.ops[:before]
	}
	return err
}

func (k *kept) apply(ctx context.Context, tx *store.Tx, d store.Doc, there bool) error {
	x := k.run(ctx, tx)
	r := &row{Doc: d}
	old := k.byID[d.ID]
	matches := there && !d.Deleted() && (k.cond.truth == always || k.cond.truth == depends && k.cond.holds(x, r))
	if x.err != nil || old == nil && !matches {
		return x.err
	}
	var now *keptRow
	if matches {
		var err error
		if now, err = k.row(x, r); err != nil {
			return err
		}
	}
	if old != nil && now != nil && bytes.Equal(old.key, now.key) {
		return k.replace(old, now)
	}
	count := len(k.shown(k.rows))
	if old != nil {
		count -= k.remove(old)
	}
	if now != nil && !(k.more && (len(k.rows) == 0 || now.compare(k.rows[len(k.rows)-1]) > 0)) {
		if k.size+rowSize(now) > x.most {
			return fault.TooLarge.Errorf("the live query holds more than %d MiB: add a limit or a filter", x.most>>20)
		}
		added, err := k.insert(x, now, count)
		if err != nil {
			return err
		}
		count += added
	}
	if k.more && len(k.rows) < k.offset+k.limit {
		return k.refill(ctx, tx, count)
	}
	return k.settle(x, count)
}

// replace shows a document anew in its place.
func (k *kept) replace(old, now *keptRow) error {
	if old.sum != now.sum {
		at, _ := slices.BinarySearchFunc(k.rows, old, (*keptRow).compare)
		if at -= k.offset; at >= 0 && at < len(k.shown(k.rows)) {
			k.op("replace", at, now)
		}
		old.sum = now.sum
	}
	return nil
}

// remove takes a row out, and returns how many fewer the reader sees before another
// comes after them.
func (k *kept) remove(old *keptRow) int {
	at, _ := slices.BinarySearchFunc(k.rows, old, (*keptRow).compare)
	shown := len(k.shown(k.rows))
	gone := k.rows[max(at, min(k.offset, len(k.rows)-1))]
	k.rows = slices.Delete(k.rows, at, at+1)
	delete(k.byID, old.id)
	k.size -= rowSize(old)
	if at -= k.offset; at >= shown || shown == 0 {
		return 0
	}
	k.op("remove", max(at, 0), gone)
	return 1
}

// insert puts a row in, the reader seeing count rows, and returns how many more that
// are, one at most.
func (k *kept) insert(x *run, now *keptRow, count int) (int, error) {
	at, _ := slices.BinarySearchFunc(k.rows, now, (*keptRow).compare)
	k.rows = slices.Insert(k.rows, at, now)
	k.byID[now.id] = now
	k.size += rowSize(now)
	at -= k.offset
	if at < 0 { // one from before the offset moves in
		if len(k.rows) <= k.offset {
			now.json = nil
			return 0, nil
		}
		first := k.rows[k.offset]
		if err := k.fetch(x, first); err != nil {
			return 0, err
		}
		k.op("add", 0, first)
		first.json, now.json = nil, nil
		return 1, nil
	}
	added := 0
	if at <= count && (k.limit == 0 || at < k.limit) {
		k.op("add", at, now)
		added = 1
	}
	now.json = nil
	return added, nil
}

// fetch reads what is shown of a row that was not shown so far.
func (k *kept) fetch(x *run, n *keptRow) error {
	if n.json != nil {
		return nil
	}
	d, err := x.tx.Get(k.coll.Collection, n.id)
	if err != nil {
		return err
	}
	return n.show(x, k.object, &row{Doc: d})
}

// settle makes what the reader sees, count rows, as long as it is to be.
func (k *kept) settle(x *run, count int) error {
	shown := k.shown(k.rows)
	for ; count > len(shown); count-- {
		k.op("remove", count-1, k.rows[k.offset+count-1])
	}
	for ; count < len(shown); count++ {
		n := shown[count]
		if err := k.fetch(x, n); err != nil {
			return err
		}
		k.op("add", count, n)
		n.json = nil
	}
	if k.most > 0 && len(k.rows) > 2*k.most { // in proportion, so that it is rare
		for _, n := range k.rows[k.most:] {
			delete(k.byID, n.id)
			k.size -= rowSize(n)
		}
		clear(k.rows[k.most:])
		k.rows, k.more = k.rows[:k.most], true
	}
	return nil
}

// refill runs the query again, because documents that were not kept come into view.
// The reader sees the first count of the rows that are shown.
func (k *kept) refill(ctx context.Context, tx *store.Tx, count int) error {
	old := slices.Clone(k.shown(k.rows)[:count])
	k.out.told = 0
	rows, err := k.load(ctx, tx)
	if err != nil {
		return err
	}
	shown := k.shown(rows)
	for _, s := range align(ids(old), ids(shown)) {
		switch {
		case s.remove:
			k.op("remove", s.at, old[s.at])
		case s.from < 0:
			k.op("add", s.at, shown[s.at])
		case old[s.from].sum != shown[s.at].sum:
			k.op("replace", s.at, shown[s.at])
		}
	}
	k.take(rows)
	return nil
}

func ids(rows []*keptRow) []string {
	list := make([]string, len(rows))
	for i, n := range rows {
		list[i] = string(n.id[:])
	}
	return list
}

// anew runs the marked plan.
func (l *Live) anew(ctx context.Context, tx *store.Tx) ([]byte, error) {
	marked := &Plan{kind: l.plan.kind, roots: l.plan.live.anew, held: l.plan.held}
	var b resultBuffer
	err := marked.Run(ctx, tx, &b)
	return b.Bytes(), err
}

// maxLiveResult bounds a result: it is told as one event, and one that is made anew is
// held to be compared with the next.
const maxLiveResult = 16 << 20

func errLiveResult() error {
	return fault.TooLarge.Errorf("the result of the live query has more than %d MiB: add a limit or a filter", maxLiveResult>>20)
}

// resultBuffer holds a result, and ends a run that makes too much of it.
type resultBuffer struct{ bytes.Buffer }

func (b *resultBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxLiveResult {
		return 0, errLiveResult()
	}
	return b.Buffer.Write(p)
}

// Anew runs the query again; what has changed waits to be taken.
func (l *Live) Anew(ctx context.Context, tx *store.Tx) error {
	now, err := l.anew(ctx, tx)
	if err != nil {
		return err
	}
	d := patcher{ops: l.ops}
	if err := d.values("", l.last, now); err != nil {
		return failed(nil, fmt.Errorf("compare results: %w", err))
	}
	l.ops, l.last = d.ops, now
	return nil
}

// GetOrNone returns a document, and false if it is not there.
func GetOrNone(tx *store.Tx, c *schema.Collection, id dag.DocID) (store.Doc, bool, error) {
	d, err := tx.Get(c, id)
	if errors.Is(err, fault.NotFound) {
		return d, false, nil
	}
	return d, err == nil, err
}
