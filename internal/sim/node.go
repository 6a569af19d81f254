package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// node is one machine: a store, a disk, a clock and a key.
type node struct {
	w      *world
	place  int
	name   string
	key    ident.Key
	disk   *disk
	skew   time.Duration
	random randomBytes
	*store.Store

	open bool

	tx    *store.Tx            // an explicit transaction under way
	wrote map[dag.DocID]bool   // the documents that it wrote
	began int                  // length of feed at its beginning
	colls int                  // collections that were acknowledged
	epoch [16]byte             // of the feed
	dirty map[dag.DocID]docRef // documents to check
	// Indexes came, went or were built: since the last check, since the begin of tx.
	indexed, other bool

	// What a reader of the feed has seen, and what follows from it.
	feed    []store.Change
	applied map[dag.CID]bool
	of      map[dag.DocID][]dag.CID
	// Where the feed may end after a power loss in the middle: after each
	// transaction that was not acknowledged.
	bounds []int
	doubt  []store.Change // what these wrote
}

type randomBytes struct{ r *rand.Rand }

func (b randomBytes) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b.r.Uint32())
	}
	return len(p), nil
}

var (
	keysMu sync.Mutex // guards made
	made   = map[string]ident.Key{}
)

// keys returns the key of a name, which it makes once.
func keys(name string) (ident.Key, error) {
	keysMu.Lock()
	defer keysMu.Unlock()
	if k, ok := made[name]; ok {
		return k, nil
	}
	var seed [32]byte
	copy(seed[:], name)
	k, err := ident.GenerateFrom(ident.EdDSA, randomBytes{rand.New(rand.NewChaCha8(seed))})
	if err == nil {
		made[name] = k
	}
	return k, err
}

func (n *node) clock() time.Time { return n.w.now.Add(n.skew) }

// files returns what the store lives in. Every second node encrypts its disk.
func (n *node) files() kv.FS {
	if n.place%2 == 0 {
		return n.disk
	}
	files, err := kv.Encrypt(n.disk, bytes.Repeat([]byte{byte(n.place)}, kv.KeyBytes))
	n.w.must(err)
	return files
}

// boot opens the store and looks whether it has what it must have.
func (n *node) boot() {
	s, err := store.Open("db", store.Options{FS: n.files(), CacheBytes: 1 << 20, Now: n.clock, Rand: n.random})
	n.w.must(err)
	n.Store, n.open = s, true
	n.recheck()
	if n.w.chance(2) {
		n.build()
	}
}

// done is called after each transaction. If the power is still on, it was
// acknowledged.
func (n *node) done() {
	fresh := n.unread()
	for _, c := range fresh {
		n.w.note("%s:   commit %s of %s", n.name, name(c.Commit), name(c.Doc))
	}
	if n.disk.lost() {
		n.doubt = fresh
		n.bounds = append(n.bounds, len(n.feed)+len(fresh))
		return
	}
	n.absorb(fresh)
	n.colls = len(n.Schema().Collections())
}

// shut closes the store.
func (n *node) shut() {
	n.drop()
	if n.open {
		n.open = false
		if err := n.Close(); err != nil && !n.disk.lost() {
			n.w.must(err)
		}
	}
}

// drop gives up the transaction under way.
func (n *node) drop() {
	if n.tx != nil {
		n.tx.Discard()
		n.tx, n.wrote = nil, nil
	}
}

// lose cuts the power and starts the node again.
func (n *node) lose(why string) {
	generous := n.w.chance(2)
	n.w.note("%s: %s, of what was not synced everything is left: %v", n.name, why, generous)
	left := n.disk.crash(generous)
	n.shut()
	n.disk = left
	n.boot()
}

// restart closes the node and opens it again.
func (n *node) restart() {
	n.w.note("%s: restart", n.name)
	n.shut()
	if n.w.Sabotage != nil {
		d := &Damage{n: n}
		if n.w.Sabotage(d) {
			n.w.note("%s: sabotage", n.name)
		}
	}
	n.boot()
}

// learn adds collections that the node does not have.
func (n *node) learn(cs []*schema.Collection) {
	var fresh []*schema.Collection
	for _, c := range cs {
		if _, ok := n.Schema().ByID(c.ID); !ok {
			fresh = append(fresh, c)
		}
	}
	n.w.rng.Shuffle(len(fresh), func(i, j int) { fresh[i], fresh[j] = fresh[j], fresh[i] })
	if len(fresh) == 0 {
		return
	}
	n.w.note("%s: %d new collections", n.name, len(fresh))
	n.w.must(n.Update(context.Background(), store.As(n.key), func(tx *store.Tx) error { return tx.AddCollections(fresh) }))
	n.done()
}

// A write may fail for these reasons, which are no fault of the store.
func (n *node) mayFail(err error, kinds ...error) {
	if !slices.ContainsFunc(kinds, func(k error) bool { return errors.Is(err, k) }) {
		n.w.must(err)
	}
}

var contents = []string{"ant", "bee", "cow"}

var leaves = []string{`1`, `[]`, `{"a":1,"b":[true,null,1.0]}`, `{"a":{"b":"ant"}}`, `["bee",["bee"],{"":0.5}]`}

// input draws fields of a collection. Values are few, so that documents meet.
func (n *node) input(c *schema.Collection, all bool) []schema.Input {
	w := n.w
	var in []schema.Input
	for i := range c.Fields {
		f := &c.Fields[i]
		if f.IsVirtual() || slices.Contains(c.Keys, f.ID) != all && len(c.Keys) > 0 && !all {
			continue
		}
		if slices.Contains(c.Keys, f.ID) {
			if all {
				in = append(in, schema.Input{Name: f.Name, Val: value.OfString(pick(w, contents))})
			}
			continue
		}
		if w.chance(2) {
			in = append(in, schema.Input{Name: f.Name, Val: n.draw(f)})
		}
	}
	return in
}

// draw draws a value of a field.
func (n *node) draw(f *schema.Field) value.Value {
	w := n.w
	if w.chance(6) {
		return value.Value{} // null
	}
	switch f.Type {
	case value.TypeString:
		return value.OfString(pick(w, contents))
	case value.TypeInt:
		if f.Rule == crdt.PNCounter {
			return value.OfInt(int64(w.one(9) - 4))
		}
		return value.OfInt(int64(w.one(4)))
	case value.TypeFloat64:
		return value.OfFloat(float64(w.one(5)) / 10)
	case value.TypeDateTime:
		return value.OfString(fmt.Sprintf("2026-01-0%dT00:00:00Z", 1+w.one(3)))
	case value.TypeRef:
		if len(w.docs) == 0 {
			return value.Value{}
		}
		return value.OfString(pick(w, w.docs).id.String())
	case value.TypeJSON:
		v, err := value.ParseJSON([]byte(pick(w, leaves)))
		w.must(err)
		return v
	}
	return value.OfList([]value.Value{value.OfInt(int64(w.one(3)))})
}

// collection draws one that the node has.
func (n *node) collection() *schema.Collection { return pick(n.w, n.Schema().Collections()) }

// document draws one that the node has.
func (n *node) document() (docRef, bool) {
	var here []docRef
	for _, d := range n.w.docs {
		if len(n.of[d.id]) > 0 {
			here = append(here, d)
		}
	}
	if len(here) == 0 {
		return docRef{}, false
	}
	return pick(n.w, here), true
}

func (n *node) createIn(tx *store.Tx) (dag.DocID, error) {
	c := n.collection()
	deltas, err := c.Create(n.input(c, true))
	n.w.must(err)
	d, err := tx.Create(c, deltas)
	if err == nil {
		n.w.note("%s:   create %s %s at %v", n.name, c.Name, name(d.ID), n.clock())
	}
	if err == nil && c.Access() != nil && n.w.chance(2) {
		err = n.letIn(tx, d)
	}
	return d.ID, err
}

func (n *node) changeIn(tx *store.Tx) (dag.DocID, error) {
	d, ok := n.document()
	if !ok {
		return n.createIn(tx)
	}
	old, err := tx.Get(d.coll, d.id)
	if err != nil {
		return d.id, err
	}
	deltas, err := d.coll.Update(old.State, n.input(d.coll, false))
	n.w.must(err)
	if len(deltas) == 0 {
		return dag.DocID{}, nil
	}
	_, err = tx.Write(d.coll, d.id, deltas)
	if err == nil {
		n.w.note("%s:   update %s %s, %d fields at %v", n.name, d.coll.Name, name(d.id), len(deltas), n.clock())
	}
	return d.id, err
}

func (n *node) removeIn(tx *store.Tx) (dag.DocID, error) {
	d, ok := n.document()
	if !ok {
		return d.id, nil
	}
	_, err := tx.Delete(d.coll, d.id)
	n.w.note("%s:   delete %s %s", n.name, d.coll.Name, name(d.id))
	return d.id, err
}

// write runs one transaction. It may find that the document exists or is deleted.
func (n *node) write(what string, fn func(tx *store.Tx) error) {
	n.w.note("%s: %s", n.name, what)
	err := n.Update(context.Background(), store.As(n.key), fn)
	if err != nil {
		n.w.note("%s:   %v", n.name, err)
	}
	n.mayFail(err, fault.Exists, fault.NotFound, fault.Denied)
	n.done()
}

func (n *node) create() {
	n.write("create", func(tx *store.Tx) error { _, err := n.createIn(tx); return err })
}

func (n *node) change() {
	n.write("update", func(tx *store.Tx) error { _, err := n.changeIn(tx); return err })
}

func (n *node) remove() {
	n.write("delete", func(tx *store.Tx) error { _, err := n.removeIn(tx); return err })
}

var errGivenUp = fault.NotFound.Errorf("given up")

// several writes several documents in one transaction, takes some of it back, and
// sometimes all.
func (n *node) several() {
	n.write("transaction", func(tx *store.Tx) error {
		for range 2 + n.w.one(3) {
			err := tx.Try(func() error {
				if _, err := n.any(tx); err != nil {
					return err
				}
				if _, err := n.any(tx); err != nil || n.w.chance(4) {
					return errors.Join(err, errGivenUp)
				}
				return nil
			})
			n.mayFail(err, fault.Exists, fault.NotFound, fault.Denied)
		}
		if n.w.chance(5) {
			return errGivenUp
		}
		return nil
	})
}

func (n *node) any(tx *store.Tx) (dag.DocID, error) {
	switch n.w.one(5) {
	case 0:
		return n.createIn(tx)
	case 1:
		return n.removeIn(tx)
	case 2:
		return n.shareIn(tx)
	}
	return n.changeIn(tx)
}

// explicit begins a transaction, or goes on with the one under way, or commits it:
// it must fail if and only if somebody changed a document that it wrote.
func (n *node) explicit() {
	w := n.w
	if n.tx == nil {
		w.note("%s: begin", n.name)
		tx, err := n.Begin(store.As(n.key), false)
		w.must(err)
		n.tx, n.wrote, n.began, n.other = tx, map[dag.DocID]bool{}, len(n.feed), false
	}
	for range 1 + w.one(2) {
		var id dag.DocID
		err := n.tx.Try(func() (err error) { id, err = n.any(n.tx); return err })
		n.mayFail(err, fault.Exists, fault.NotFound, fault.Denied)
		if err == nil && id != (dag.DocID{}) {
			n.wrote[id] = true
		}
	}
	if w.chance(2) {
		return
	}
	conflict := slices.ContainsFunc(n.feed[n.began:], func(c store.Change) bool { return n.wrote[c.Doc] })
	tx := n.tx
	n.tx, n.wrote = nil, nil
	err := tx.Commit(context.Background())
	w.note("%s: commit: %v", n.name, err)
	n.mayFail(err, fault.Conflict, fault.Exists) // something unique was written meanwhile
	if got := errors.Is(err, fault.Conflict); got != conflict && !(got && n.other) {
		w.fail("first committer wins: commit gives %v, want a conflict: %v", err, conflict)
	}
	n.done()
}

// wind sets the clock: mostly a little off, sometimes by an hour.
func (n *node) wind() {
	switch n.w.one(4) {
	case 0:
		n.skew = time.Duration(n.w.one(3)-1) * time.Hour
	case 1:
		n.skew = 0
	default:
		n.skew = time.Duration(n.w.one(10_000)-5_000) * time.Millisecond
	}
	n.w.note("%s: clock is off by %v", n.name, n.skew)
}
