package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// The types of most tests: one of each way to name documents, and a field of each
// rule by which writes merge, with indexes on each.
const testSDL = `
type Page @index(name: "mixed", includes: [{field: "tags"}, {field: "hits", direction: DESC}, {field: "_docID"}]) { title: String @index, hits: Int @crdt(type: pncounter) @index, tags: String @crdt(type: mvregister), body: String }
type City @docID(mode: KEYED, fields: ["name"]) { name: String, people: Int }
type Note @docID(mode: UNIQUE) { text: String }
type Deed @docID(mode: OWNED) { text: String }
`

var testStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// tester is a test, or one case of a property.
type tester interface {
	rapid.TB
	Cleanup(func())
}

// node is a store with a clock that goes when somebody looks, and a writer.
type node struct {
	*Store
	t   tester
	fs  kv.FS
	key ident.Key
	now *clock
	rng *counterReader

	opens []ident.Key // encrypted documents, whoever asks
}

func keyOf(name string) ident.Key {
	seed := sha256.Sum256([]byte(name))
	k, err := ident.GenerateFrom(ident.EdDSA, seedReader(seed))
	if err != nil {
		panic(err)
	}
	return k
}

// seedReader yields the same bytes again and again, which is random enough for a key.
type seedReader [32]byte

func (r seedReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r[i%len(r)]
	}
	return len(p), nil
}

// counterReader yields bytes that never repeat.
type counterReader struct{ n uint64 }

func (r *counterReader) Read(p []byte) (int, error) {
	for i := 0; i < len(p); i += 32 {
		r.n++
		sum := sha256.Sum256(fmt.Append(nil, r.n))
		copy(p[i:], sum[:])
	}
	return len(p), nil
}

func newNode(t tester, name string) *node {
	t.Helper()
	n := &node{t: t, fs: kv.NewMemFS(), key: keyOf(name), now: &clock{now: testStart}}
	n.rng = &counterReader{n: uint64(n.key.Public()[5]) << 32}
	n.open()
	n.addSchema(testSDL)
	return n
}

func (n *node) options() Options {
	return Options{FS: n.fs, Rand: n.rng, Now: n.now.tick, Keys: n.opens}
}

// clock goes on by a millisecond whenever somebody looks.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) tick() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Millisecond)
	return c.now
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

func (n *node) open() {
	n.t.Helper()
	s, err := Open("db", n.options())
	if err != nil {
		n.t.Fatal(err)
	}
	n.Store = s
	n.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			n.t.Errorf("close: %v", err)
		}
	})
}

func (n *node) reopen() {
	n.t.Helper()
	if err := n.Close(); err != nil {
		n.t.Fatal(err)
	}
	n.open()
}

func (n *node) addSchema(sdl string) {
	n.t.Helper()
	n.update(func(tx *Tx) error {
		cs, err := schema.Parse(sdl, tx.Collections())
		if err != nil {
			return err
		}
		return tx.AddCollections(cs)
	})
}

func (n *node) coll(name string) *schema.Collection {
	n.t.Helper()
	c, ok := n.Schema().Collection(name)
	if !ok {
		n.t.Fatalf("no collection %s", name)
	}
	return c
}

func (n *node) update(fn func(*Tx) error) {
	n.t.Helper()
	if err := n.Update(context.Background(), As(n.key), fn); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) view(fn func(*Tx) error) {
	n.t.Helper()
	if err := n.View(context.Background(), System, fn); err != nil {
		n.t.Fatal(err)
	}
}

// fields are inputs in the order of writing: name, value, name, value …
func fields(nv ...any) []schema.Input {
	var in []schema.Input
	for i := 0; i < len(nv); i += 2 {
		in = append(in, schema.Input{Name: nv[i].(string), Val: val(nv[i+1])})
	}
	return in
}

func val(x any) value.Value {
	switch x := x.(type) {
	case int:
		return value.OfInt(int64(x))
	case string:
		return value.OfString(x)
	case []string:
		var list []value.Value
		for _, e := range x {
			list = append(list, value.OfString(e))
		}
		return value.OfList(list)
	}
	return value.Value{}
}

func createIn(tx *Tx, coll string, nv ...any) (Doc, error) {
	c, err := tx.Collection(coll)
	if err != nil {
		return Doc{}, err
	}
	deltas, err := c.Create(fields(nv...))
	if err != nil {
		return Doc{}, err
	}
	return tx.Create(c, deltas)
}

func updateIn(tx *Tx, coll string, id dag.DocID, nv ...any) (Doc, error) {
	c, err := tx.Collection(coll)
	if err != nil {
		return Doc{}, err
	}
	d, err := tx.Get(c, id)
	if err != nil {
		return Doc{}, err
	}
	deltas, err := c.Update(d.State, fields(nv...))
	if err != nil {
		return Doc{}, err
	}
	return tx.Write(c, id, deltas)
}

func (n *node) create(coll string, nv ...any) (id dag.DocID) {
	n.t.Helper()
	n.update(func(tx *Tx) error {
		d, err := createIn(tx, coll, nv...)
		id = d.ID
		return err
	})
	return id
}

func (n *node) set(coll string, id dag.DocID, nv ...any) {
	n.t.Helper()
	n.update(func(tx *Tx) error {
		_, err := updateIn(tx, coll, id, nv...)
		return err
	})
}

func (n *node) get(coll string, id dag.DocID) (d Doc) {
	n.t.Helper()
	n.view(func(tx *Tx) (err error) {
		d, err = tx.Get(n.coll(coll), id)
		return err
	})
	return d
}

// field returns the visible value of a field as JSON.
func (n *node) field(coll string, id dag.DocID, name string) string {
	n.t.Helper()
	f, ok := n.coll(coll).Field(name)
	if !ok {
		n.t.Fatalf("no field %s in %s", name, coll)
	}
	return string(n.get(coll, id).Value(f).AppendJSON(nil))
}

// pack returns the envelopes that a want yields.
func (n *node) pack(coll string, w Want) (envelopes [][]byte) {
	n.t.Helper()
	n.view(func(tx *Tx) error {
		for b, err := range tx.Pack(n.coll(coll).ID, w) {
			if err != nil {
				return err
			}
			envelopes = append(envelopes, slices.Clone(b.Envelope))
		}
		return nil
	})
	return envelopes
}

// everything returns all commits of a collection.
func (n *node) everything(coll string) (envelopes [][]byte) {
	n.t.Helper()
	n.view(func(tx *Tx) error {
		for b, err := range tx.Full(n.coll(coll).ID, dag.DocID{}) {
			if err != nil {
				return err
			}
			envelopes = append(envelopes, slices.Clone(b.Envelope))
		}
		return nil
	})
	return envelopes
}

func (n *node) merge(coll string, envelopes [][]byte) Merged {
	n.t.Helper()
	m, err := n.Merge(context.Background(), n.coll(coll).ID, envelopes, "peer")
	if err != nil {
		n.t.Fatalf("merge: %v", err)
	}
	return m
}

// heads returns the heads of a document.
func (n *node) heads(coll string, id dag.DocID) (heads []dag.CID) {
	n.t.Helper()
	n.view(func(tx *Tx) (err error) {
		heads, err = tx.Heads(n.coll(coll).ID, id)
		return err
	})
	return heads
}

// forge makes a commit by hand: author, deltas and place are the caller's.
func forge(t tester, key ident.Key, c dag.Commit) *dag.Commit {
	t.Helper()
	c.Author.Key = key.Public()
	if _, err := dag.Seal(&c, key); err != nil {
		t.Fatal(err)
	}
	return &c
}

// rootOf makes the root of a document with those fields, by somebody at some time.
func rootOf(t tester, c *schema.Collection, key ident.Key, at time.Time, nv ...any) *dag.Commit {
	t.Helper()
	deltas, err := c.Create(fields(nv...))
	if err != nil {
		t.Fatal(err)
	}
	return forge(t, key, dag.Commit{
		Root:   &dag.RootSeed{Mode: dag.ModeContent, Collection: c.ID, Seed: dag.ContentSeed(deltas)},
		Height: 1, HLC: dag.HLC(at, 0), Schema: c.Version, Deltas: deltas,
	})
}

// childOf makes a commit on top of others.
func childOf(t tester, key ident.Key, deltas []crdt.Delta, parents ...*dag.Commit) *dag.Commit {
	t.Helper()
	c := dag.Commit{Doc: parents[0].Doc, Height: 1, Deltas: deltas, Schema: parents[0].Schema}
	for _, p := range parents {
		c.Parents = append(c.Parents, p.CID)
		c.Height, c.HLC = max(c.Height, p.Height+1), max(c.HLC, p.HLC+1)
	}
	return forge(t, key, c)
}

func envelopes(cs ...*dag.Commit) (list [][]byte) {
	for _, c := range cs {
		list = append(list, c.Envelope())
	}
	return list
}

// dump returns the whole key space.
func (n *node) dump() map[string]string { return dump(n.t, n.kv) }

func dump(t tester, db *kv.DB) map[string]string {
	t.Helper()
	snap := db.Snapshot()
	defer snap.Close()
	all := map[string]string{}
	for e, err := range snap.Scan(nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		all[string(e.Key)] = string(e.Value)
	}
	return all
}

// problems returns what a check finds.
func (n *node) problems() (all []Problem) {
	n.t.Helper()
	if err := n.Check(context.Background(), func(p Problem) { all = append(all, p) }); err != nil {
		n.t.Fatalf("check: %v", err)
	}
	return all
}

func wantSound(t tester, n *node) {
	t.Helper()
	for _, p := range n.problems() {
		t.Errorf("check finds %v", p)
	}
}

func wantKind(t tester, err, kind error, what string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("%s gives %v, want kind %v", what, err, kind)
	}
}

func field(t tester, n *node, name string) *schema.Field {
	t.Helper()
	f, ok := n.coll("Page").Field(name)
	if !ok {
		t.Fatalf("no field %s", name)
	}
	return f
}

// wantSame compares two key spaces.
func wantSame(t tester, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if g, ok := got[k]; !ok {
			t.Errorf("key %q is missing", k)
		} else if g != v {
			t.Errorf("key %q has %x, want %x", k, g, v)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("key %q should not be there", k)
		}
	}
}
