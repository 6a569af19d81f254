package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// thingSDL has a field of each kind that an index treats differently.
const thingSDL = `
type Thing @docID(mode: UNIQUE) @index(name: "mixed", includes: [{field: "name", direction: DESC}, {field: "info"}, {field: "size"}]) {
	name: String @index
	size: Int @index(direction: DESC)
	hits: Int @crdt(type: pncounter)
	mood: String @crdt(type: mvregister) @index
	tags: [Int] @index(direction: DESC)
	info: JSON
	code: Int @index(unique: true)
	boss: Thing
}
`

// wantIndexes compares all entries there are with those that the documents stand for,
// which it makes by itself.
func wantIndexes(t tester, n *node) {
	t.Helper()
	want := map[string]bool{}
	ready := map[string]bool{}
	n.view(func(tx *Tx) error {
		for _, m := range tx.set.byID {
			for d, err := range tx.Scan(m.Collection, Range{}) {
				if err != nil {
					return err
				}
				for _, ix := range m.Indexes {
					for _, k := range naiveEntries(m.Collection, ix, d) {
						want[string(appendUint32s([]byte("x"), uint32(m.short), ix.ID))+k+string(d.ID[:])] = true
					}
				}
			}
			for _, x := range m.indexes {
				ready[string(x.prefix)] = x.ready
			}
		}
		return nil
	})
	got := map[string]bool{}
	for k := range n.dump() {
		if k[0] == 'x' && len(k) > 9 {
			got[k] = true
			if !want[k] {
				t.Fatalf("entry %q stands for no document", k)
			}
		}
	}
	for k := range want {
		if ready[k[:9]] && !got[k] {
			t.Fatalf("entry %q is missing", k)
		}
	}
	wantSound(t, n)
}

func appendUint32s(b []byte, ns ...uint32) []byte {
	for _, n := range ns {
		b = append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return b
}

// naiveEntries makes the columns of a document's entries, each once.
func naiveEntries(c *schema.Collection, ix schema.Index, d Doc) []string {
	all := []string{""}
	for _, col := range ix.Fields {
		var parts []string
		add := func(path string, v value.Value) {
			k := v.AppendKey(nil)
			if col.Descending {
				for i := range k {
					k[i] ^= 0xff
				}
			}
			parts = append(parts, path+string(k))
		}
		f, ok := c.Field(col.Name)
		switch {
		case !ok:
			add("", value.OfRef(d.ID))
		case f.Type == value.TypeJSON:
			naiveLeaves("", d.Value(f), add)
		case f.Type.IsList():
			for _, e := range d.Value(f).List() {
				add("", e)
			}
		default:
			add("", d.Value(f))
		}
		var next []string
		for _, a := range all {
			for _, p := range parts {
				if !slices.Contains(next, a+p) {
					next = append(next, a+p)
				}
			}
		}
		all = next
	}
	return all
}

func naiveLeaves(path string, v value.Value, add func(string, value.Value)) {
	switch {
	case v.Kind() == value.List:
		for _, e := range v.List() {
			if e.IsNull() {
				add(path, e)
			} else {
				naiveLeaves(path, e, add)
			}
		}
	case v.Kind() == value.Map:
		for k, e := range v.Members() {
			step := path + "\x01\x06" + strings.ReplaceAll(k, "\x00", "\x00\xff") + "\x00\x01"
			if e.IsNull() {
				add(step, e)
			} else {
				naiveLeaves(step, e, add)
			}
		}
	case !v.IsNull():
		add(path, v)
	}
}

// things drives random writes of things on two nodes.
type things struct {
	*rapid.T
	n, other *node
	files    *kv.CrashFS
	ids      []dag.DocID
	open     *Tx // an explicit transaction under way
	versions []*schema.Collection
}

func (w *things) json() value.Value {
	texts := []string{`null`, `{}`, `[]`, `1`, `"a"`, `{"a":1,"b":[1,null,"x",1.0]}`, `{"a":{"b":true}}`, `{"a\u0000":{"":0.5}}`, `[[1,[2]],{"a":1}]`}
	v, err := value.ParseJSON([]byte(rapid.SampledFrom(texts).Draw(w.T, "json")))
	if err != nil {
		w.Fatal(err)
	}
	return v
}

func (w *things) fields() (in []schema.Input) {
	add := func(name string, v value.Value) {
		if rapid.Bool().Draw(w.T, "has "+name) {
			in = append(in, schema.Input{Name: name, Val: v})
		}
	}
	small := func() value.Value { return value.OfInt(int64(rapid.IntRange(0, 3).Draw(w.T, "int"))) }
	text := func() value.Value {
		return value.OfString(rapid.SampledFrom([]string{"", "a", "a\x00", "b"}).Draw(w.T, "text"))
	}
	maybe := func(v value.Value) value.Value {
		if rapid.IntRange(0, 3).Draw(w.T, "null") == 0 {
			return value.Value{}
		}
		return v
	}
	add("name", maybe(text()))
	add("size", maybe(small()))
	add("hits", small())
	add("mood", text())
	var list []value.Value
	for range rapid.IntRange(0, 3).Draw(w.T, "tags") {
		list = append(list, maybe(small()))
	}
	add("tags", maybe(value.OfList(list)))
	add("info", maybe(w.json()))
	add("code", maybe(value.OfInt(int64(rapid.IntRange(0, 20).Draw(w.T, "code")))))
	if len(w.ids) > 0 {
		add("boss", maybe(value.OfRef(rapid.SampledFrom(w.ids).Draw(w.T, "boss"))))
	}
	return in
}

// write makes one random change. It may fail as writes fail.
func (w *things) write(n *node, tx *Tx) error {
	c, err := tx.Collection("Thing")
	if err != nil {
		return err
	}
	kind := rapid.IntRange(0, 5).Draw(w.T, "write")
	if kind < 2 || len(w.ids) == 0 {
		deltas, err := c.Create(w.fields())
		if err != nil {
			return err
		}
		d, err := tx.Create(c, deltas)
		if err == nil {
			w.ids = append(w.ids, d.ID)
		}
		return err
	}
	id := rapid.SampledFrom(w.ids).Draw(w.T, "id")
	if kind == 5 {
		_, err = tx.Delete(c, id)
		return err
	}
	d, err := tx.Get(c, id)
	if err != nil {
		return err
	}
	deltas, err := c.Update(d.State, w.fields())
	if err != nil {
		return err
	}
	_, err = tx.Write(c, id, deltas)
	return err
}

func (w *things) several(n *node, tx *Tx) error {
	for range rapid.IntRange(1, 4).Draw(w.T, "writes") {
		undo := rapid.IntRange(0, 3).Draw(w.T, "undo") == 0
		err := tx.Try(func() error {
			if err := w.write(n, tx); err != nil {
				return err
			}
			if undo {
				return errUndo
			}
			return nil
		})
		w.expect(err, fault.Exists, fault.NotFound, fault.Invalid)
	}
	return nil
}

// expect ends the test on an error of another kind.
func (w *things) expect(err error, kinds ...error) {
	w.Helper()
	if err != nil && err != errUndo && !slices.ContainsFunc(kinds, func(k error) bool { return errors.Is(err, k) }) {
		w.Fatalf("unexpected: %v", err)
	}
}

func (w *things) drop() {
	if w.open != nil {
		w.open.Discard()
		w.open = nil
	}
}

// reindex creates an index, or drops one.
func (w *things) reindex() {
	err := w.n.Update(context.Background(), As(w.n.key), func(tx *Tx) error {
		c, err := tx.Collection("Thing")
		if err != nil {
			return err
		}
		if rapid.Bool().Draw(w.T, "drop") {
			return tx.DropIndex(c, rapid.SampledFrom(c.Indexes).Draw(w.T, "index").Name)
		}
		ix := schema.Index{Unique: rapid.Bool().Draw(w.T, "unique")}
		fields := rapid.Permutation([]string{"name", "size", "hits", "tags", "info", "boss", "_docID", "mood"}).Draw(w.T, "fields")
		for _, f := range fields[:rapid.IntRange(1, 3).Draw(w.T, "columns")] {
			ix.Fields = append(ix.Fields, schema.IndexField{Name: f, Descending: rapid.Bool().Draw(w.T, "descending")})
		}
		if _, err := tx.CreateIndex(c, ix); err != nil {
			return err
		}
		return w.several(w.n, tx)
	})
	w.expect(err, fault.Invalid)
}

// use uses another version, perhaps for a moment, with writes.
func (w *things) use() {
	for range rapid.IntRange(1, 2).Draw(w.T, "versions") {
		w.expect(w.n.Update(context.Background(), As(w.n.key), func(tx *Tx) error {
			if err := tx.Activate(rapid.SampledFrom(w.versions).Draw(w.T, "version").Version); err != nil {
				return err
			}
			return w.several(w.n, tx)
		}))
	}
}

// build makes the entries of one batch, perhaps with a write or other versions between
// the snapshot of the batch and its end.
func (w *things) build() {
	tx, err := w.n.begin(As(w.n.key))
	if err != nil {
		w.Fatal(err)
	}
	defer tx.release()
	tx.readOnly = true
	if rapid.Bool().Draw(w.T, "write between") {
		w.expect(w.n.Update(context.Background(), As(w.n.key), func(tx *Tx) error { return w.several(w.n, tx) }))
	}
	if rapid.IntRange(0, 3).Draw(w.T, "version between") == 0 {
		w.use()
	}
	for m := range tx.set.members() {
		if m.Name == "Thing" && slices.ContainsFunc(m.indexes, func(x *secondary) bool { return !x.ready }) {
			if err := tx.build(m); err != nil {
				w.Fatal(err)
			}
			return
		}
	}
}

// exchange merges what the nodes lack of each other.
func (w *things) exchange() {
	from, to := w.other, w.n
	if rapid.Bool().Draw(w.T, "there") {
		from, to = to, from
	}
	to.merge("Thing", from.everything("Thing"))
}

func (w *things) start(again bool) {
	w.drop()
	if again && rapid.Bool().Draw(w.T, "crash") {
		left := w.files.Crash(rapid.Uint64().Draw(w.T, "crash seed"))
		w.n.Close() // what it writes is lost
		w.files = left
		w.n.fs = left
		w.n.open()
		w.n.buildStep = 2
		return
	}
	w.n.reopen()
	w.n.buildStep = 2
}

// Whatever happens to documents and to indexes, also in the middle of a build, an
// index holds what the documents stand for and nothing else.
func TestIndexesAreAFunctionOfTheDocuments(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := &things{T: t, n: newNode(t, "ada"), other: newNode(t, "bob")}
		if err := w.n.Close(); err != nil {
			t.Fatal(err)
		}
		w.files = kv.NewCrashFS()
		w.n.fs = w.files
		w.n.open()
		w.n.buildStep = 2
		w.n.addSchema(thingSDL)
		w.other.addSchema(thingSDL)
		w.versions = []*schema.Collection{w.n.coll("Thing"), w.n.patched(`[{"op": "replace", "path": "/Thing/Fields/size/Kind", "value": "String"},
			{"op": "remove", "path": "/Thing/Fields/tags"}, {"op": "replace", "path": "/Thing/Fields/name/Name", "value": "title"}]`)}
		defer w.drop()
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 11).Draw(t, "step") {
			case 0, 1:
				w.expect(w.n.Update(context.Background(), As(w.n.key), func(tx *Tx) error { return w.several(w.n, tx) }))
			case 2:
				w.expect(w.other.Update(context.Background(), As(w.other.key), func(tx *Tx) error { return w.several(w.other, tx) }))
			case 3:
				w.exchange()
			case 4:
				w.reindex()
			case 5, 6:
				w.build()
			case 7:
				if w.open == nil {
					tx, err := w.n.Begin(As(w.n.key), false)
					if err != nil {
						t.Fatal(err)
					}
					w.open = tx
				}
				w.expect(w.several(w.n, w.open))
			case 8:
				if w.open != nil {
					w.expect(w.open.Commit(context.Background()), fault.Conflict, fault.Exists)
					w.open = nil
				}
			case 9:
				w.start(true)
			case 10, 11:
				w.use()
			}
			wantIndexes(t, w.n)
		}
		w.drop()
		if err := w.n.BuildIndexes(context.Background()); err != nil {
			t.Fatal(err)
		}
		wantIndexes(t, w.n)
		for _, ix := range w.n.coll("Thing").Indexes {
			if !w.n.Schema().IndexReady(w.n.coll("Thing"), ix.Name) {
				t.Fatalf("index %s is not ready", ix.Name)
			}
		}
		want := w.n.dump()
		if err := w.n.Close(); err != nil {
			t.Fatal(err)
		}
		w.n.rebuild()
		w.n.open()
		wantSame(t, w.n.dump(), want)
	})
}
