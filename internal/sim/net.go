package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// maxBag is how many messages may be under way; what is sent beyond is lost.
const maxBag = 12

// message is a pack of commits, or with a want, the request for one.
type message struct {
	from, to int
	coll     *schema.Collection
	pack     [][]byte
	want     *store.Want
	honest   bool
}

func (m message) String() string {
	if m.want != nil {
		return fmt.Sprintf("want of %s %s, has %v", m.coll.Name, name(m.want.Doc), names(m.want.Have))
	}
	return fmt.Sprintf("pack of %d of %s", len(m.pack), m.coll.Name)
}

func (w *world) send(m message) {
	if len(w.bag) < maxBag {
		w.bag = append(w.bag, m)
	}
}

// announce sends the newest commit of a document to everybody, as gossip does.
func (n *node) announce() {
	d, ok := n.document()
	if !ok {
		return
	}
	w := n.w
	last := w.commits[n.of[d.id][len(n.of[d.id])-1]]
	w.note("%s: announce %s of %s %s", n.name, name(last.CID), d.coll.Name, name(d.id))
	for i := range w.nodes {
		if i != n.place {
			w.send(message{from: n.place, to: i, coll: d.coll, pack: [][]byte{last.Envelope()}, honest: true})
		}
	}
}

// ask sends somebody a request for what the node lacks of a document.
func (n *node) ask() {
	if len(n.w.docs) == 0 {
		return
	}
	d := pick(n.w, n.w.docs)
	if _, ok := n.Schema().ByID(d.coll.ID); ok {
		n.request(n.w.one(len(n.w.nodes)), d)
	}
}

func (n *node) request(to int, d docRef) {
	want := store.Want{Doc: d.id}
	n.w.must(n.View(context.Background(), store.System, func(tx *store.Tx) (err error) {
		if want.Have, err = tx.Heads(d.coll.ID, d.id); err == nil {
			want.Locator, err = tx.Locator(d.coll.ID, d.id)
		}
		return err
	}))
	if n.w.chance(3) {
		want.Locator = nil
	}
	n.w.send(message{from: n.place, to: to, coll: d.coll, want: &want})
}

// deliver takes a message out of the bag: any, so that they overtake each other.
func (w *world) deliver() {
	if len(w.bag) == 0 {
		return
	}
	i := w.one(len(w.bag))
	m := w.bag[i]
	switch {
	case w.chance(10):
		w.note("lost: %v", m)
		w.bag = slices.Delete(w.bag, i, i+1)
		return
	case w.cutOff(m.from, m.to):
		return // it waits
	case !w.chance(5): // else it comes again
		w.bag = slices.Delete(w.bag, i, i+1)
	}
	w.nodes[m.to].receive(m)
}

func (n *node) receive(m message) {
	w := n.w
	w.note("%s: from %s: %v", n.name, w.nodes[m.from].name, m)
	if m.want != nil {
		pack := n.answer(m.coll, *m.want)
		if len(pack) > 1 && w.chance(4) {
			at := w.one(len(pack))
			pack = slices.Delete(pack, at, at+1) // somebody is careless
			w.note("%s:   one commit of the answer is left out", n.name)
		}
		if len(pack) > 0 {
			w.send(message{from: n.place, to: m.from, coll: m.coll, pack: pack, honest: true})
		}
		return
	}
	missing := n.merge(m)
	for _, d := range w.docs {
		if missing[d.id] != nil {
			n.request(m.from, d)
			delete(missing, d.id)
		}
	}
	if len(missing) > 0 { // of documents that nobody has met
		id := slices.MinFunc(slices.Collect(maps.Keys(missing)), dag.DocID.Compare)
		n.request(m.from, docRef{m.coll, id})
	}
}

// answer returns a pack, which must be exactly what the asker lacks.
func (n *node) answer(c *schema.Collection, want store.Want) (pack [][]byte) {
	w := n.w
	var got []dag.CID
	err := n.View(context.Background(), store.System, func(tx *store.Tx) error {
		for b, err := range tx.Pack(c.ID, want) {
			if err != nil {
				return err
			}
			got = append(got, b.CID)
			pack = append(pack, slices.Clone(b.Envelope))
		}
		return nil
	})
	n.mayFail(err, fault.NotFound)
	if err != nil {
		return nil
	}
	if expected := n.lacking(want); !slices.Equal(got, expected) {
		w.fail("pack: %s: answers %v with %v, want %v", n.name, want, names(got), names(expected))
	}
	return pack
}

// lacking says naively what an answer has to hold: all commits of the document
// that are no ancestors of what the asker has, by height and CID.
func (n *node) lacking(want store.Want) (list []dag.CID) {
	has := map[dag.CID]bool{}
	var mark func(c dag.CID)
	mark = func(c dag.CID) {
		if n.applied[c] && !has[c] {
			has[c] = true
			for _, p := range n.w.commits[c].Parents {
				mark(p)
			}
		}
	}
	for _, c := range want.Have {
		mark(c)
	}
	for _, id := range want.Locator {
		for _, c := range n.of[want.Doc] {
			if binary.BigEndian.Uint64(c[:]) == id {
				mark(c)
			}
		}
	}
	for _, c := range n.of[want.Doc] {
		if !has[c] {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b dag.CID) int {
		if x, y := n.w.commits[a].Height, n.w.commits[b].Height; x != y {
			return int(x) - int(y)
		}
		return a.Compare(b)
	})
	return list
}

// merge applies a pack, and compares what became of it with what should have.
func (n *node) merge(m message) map[dag.DocID][]dag.CID {
	w := n.w
	want, broken := n.predict(m)
	got, err := n.Merge(context.Background(), m.coll.ID, m.pack, w.nodes[m.from].name)
	if _, ok := n.Schema().ByID(m.coll.ID); !ok {
		n.mayFail(err, fault.NotFound)
		return nil
	}
	var invalid *store.InvalidCommit
	switch {
	case broken >= 0 && (!errors.As(err, &invalid) || invalid.Index != broken):
		w.fail("merge: %s: commit %d of the pack is invalid, got %v", n.name, broken, err)
	case broken < 0:
		w.must(err)
	}
	if got.Applied != want.Applied || got.Known != want.Known || !slices.Equal(got.Future, want.Future) ||
		!maps.EqualFunc(got.Missing, want.Missing, slices.Equal) {
		w.fail("merge: %s: %+v, want %+v", n.name, got, want)
	}
	w.note("%s:   %d applied, %d known, %d lacking, %d future, invalid: %v", n.name, got.Applied, got.Known, len(got.Missing), len(got.Future), err != nil)
	n.done()
	return got.Missing
}

// predict says naively what a merge has to do with a pack: apply what has all its
// parents. It returns the place of the first commit that is invalid, or -1.
func (n *node) predict(m message) (want store.Merged, broken int) {
	w := n.w
	want.Missing = map[dag.DocID][]dag.CID{}
	here, later := maps.Clone(n.applied), map[dag.CID]bool{}
	for i, e := range m.pack {
		c, err := dag.Open(e)
		if err != nil {
			return want, i
		}
		if here[c.CID] {
			want.Known++
			continue
		}
		if w.unsound[string(e)] {
			return want, i
		}
		var lacks []dag.CID
		strange := false
		for _, p := range c.Parents {
			if !here[p] {
				lacks = append(lacks, p)
			} else if w.find(p).Doc != c.Doc {
				strange = true
			}
		}
		switch {
		case strange || len(lacks) == 0 && w.invalid[c.CID]:
			return want, i
		case dag.Future(c.HLC, n.clock()):
			later[c.CID] = true
			want.Future = append(want.Future, c.CID)
		case len(lacks) > 0:
			later[c.CID] = true
			for _, p := range lacks {
				if !later[p] && !slices.Contains(want.Missing[c.Doc], p) {
					want.Missing[c.Doc] = append(want.Missing[c.Doc], p)
				}
			}
		case !w.allowed(m.coll, c):
			return want, i
		default:
			here[c.CID] = true
			want.Applied++
		}
	}
	return want, -1
}

// reconcile makes two nodes equal: they compare the roots of their trees, walk down
// where they differ, and send each other what is lacking.
func (w *world) reconcile(a, b *node) {
	if a == b || w.cutOff(a.place, b.place) {
		return
	}
	for _, c := range w.Collections {
		_, one := a.Schema().ByID(c.ID)
		_, two := b.Schema().ByID(c.ID)
		if !one || !two {
			continue
		}
		var ids []dag.DocID
		w.differing(a, b, c, radix.Prefix{}, &ids)
		if len(ids) == 0 {
			continue
		}
		w.note("reconcile %s and %s: %d of %s differ", a.name, b.name, len(ids), c.Name)
		for _, pair := range [][2]*node{{a, b}, {b, a}} {
			w.fetch(pair[0], pair[1], c, ids)
		}
	}
}

// differing collects the documents under a prefix that two nodes hold differently.
func (w *world) differing(a, b *node, c *schema.Collection, p radix.Prefix, ids *[]dag.DocID) {
	x, okA, err := a.Node(c.ID, p)
	w.must(err)
	y, okB, err := b.Node(c.ID, p)
	w.must(err)
	if okA && okB && x.Sum == y.Sum {
		return
	}
	if okA && okB && !x.Leaf && !y.Leaf {
		for i := range x.Children {
			if x.Children[i] != y.Children[i] {
				w.differing(a, b, c, p.Child(i), ids)
			}
		}
		return
	}
	mine, theirs := w.elements(a, c, p), w.elements(b, c, p)
	for _, list := range []map[dag.DocID][32]byte{mine, theirs} {
		for id := range list {
			if mine[id] != theirs[id] && !slices.Contains(*ids, id) {
				*ids = append(*ids, id)
			}
		}
	}
	slices.SortFunc(*ids, dag.DocID.Compare)
}

func (w *world) elements(n *node, c *schema.Collection, p radix.Prefix) map[dag.DocID][32]byte {
	all := map[dag.DocID][32]byte{}
	for e, err := range n.Elements(c.ID, p) {
		w.must(err)
		all[e.Key] = e.Sum
	}
	return all
}

// fetch brings one node what another has of some documents, in one pack.
func (w *world) fetch(to, from *node, c *schema.Collection, ids []dag.DocID) {
	if to.disk.lost() || from.disk.lost() {
		return
	}
	var pack [][]byte
	for _, id := range ids {
		want := store.Want{Doc: id}
		w.must(to.View(context.Background(), store.System, func(tx *store.Tx) (err error) {
			want.Have, err = tx.Heads(c.ID, id)
			return err
		}))
		pack = append(pack, from.answer(c, want)...)
	}
	if len(pack) > 0 {
		to.merge(message{from: from.place, to: to.place, coll: c, pack: pack, honest: true})
	}
}
