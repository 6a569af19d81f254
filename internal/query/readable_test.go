package query

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/store"
)

// sharedPolicy lets whom a document was given to do everything with it.
var sharedPolicy = strings.NewReplacer("delete: {expr: owner}", "delete: {expr: owner + writer}").Replace(notesPolicy)

func keyOf(name string) ident.Key {
	k, err := ident.GenerateFrom(ident.EdDSA, strings.NewReader(strings.Repeat(name+" ", 32)))
	if err != nil {
		panic(err)
	}
	return k
}

// halfWorld is a world in databases of which somebody reads a part: what the naive
// evaluator is asked about is that part.
type halfWorld struct {
	*world
	ds     []*dbase
	other  ident.Key
	others map[docID]bool // documents of somebody else
	hidden map[docID]bool // of these, those that the reader does not read
}

// seen runs fn while the world is what may be read of it.
func (w *halfWorld) seen(fn func()) {
	all := make([][]*naiveDoc, len(w.types))
	for i, typ := range w.types {
		all[i] = typ.docs
		typ.docs = slices.DeleteFunc(slices.Clone(typ.docs), func(d *naiveDoc) bool { return w.hidden[d.id] })
	}
	defer func() {
		for i, typ := range w.types {
			typ.docs = all[i]
		}
	}()
	fn()
}

// write makes a change in all databases: as the reader, or as somebody else of documents
// that the reader does not see.
func (w *halfWorld) write(t *rapid.T, who ident.Key) {
	var text string
	var made *naiveDoc
	if who.Public() == w.other.Public() {
		typ := rapid.SampledFrom(w.types).Draw(t, "type")
		made = &naiveDoc{typ: typ, values: map[string]any{"n": int64(w.next)}}
		input := map[string]any{"n": int64(w.next)}
		w.next++
		w.set(t, []*naiveDoc{made}, input, 5) // with links to what the reader sees, too
		text = fmt.Sprintf("mutation { create_%s(input: %s) { _docID } }", typ.name, literal(input))
	} else {
		w.seen(func() { text, made, _ = w.change(t) })
	}
	for _, d := range w.ds {
		out, err := d.execAs(store.As(who), Request{Query: text})
		if err != nil {
			t.Fatalf("%s\n%s: %v", w.sdl(true), text, err)
		}
		if made != nil {
			made.id = docID(docIDOf.FindSubmatch(out)[1])
		}
	}
	if made != nil {
		w.insert(made)
		if who.Public() == w.other.Public() {
			w.others[made.id], w.hidden[made.id] = true, true
		}
	}
}

// share gives a document of the other to the reader, or takes it away again.
func (w *halfWorld) share(t *rapid.T) {
	var ids []docID
	for _, typ := range w.types {
		for _, d := range typ.docs {
			if w.others[d.id] && !d.deleted {
				ids = append(ids, d.id)
			}
		}
	}
	if len(ids) == 0 {
		return
	}
	id := rapid.SampledFrom(ids).Draw(t, "shared")
	op := acp.Op{Kind: acp.Grant, Relation: "writer", Subject: acp.OfKey(w.ds[0].key.Public())}
	if !w.hidden[id] {
		op.Kind = acp.Revoke
	}
	doc, err := dag.ParseDocID(string(id))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range w.ds {
		err := d.store.Update(context.Background(), store.As(w.other), func(tx *store.Tx) error {
			for _, c := range tx.Collections() {
				if _, err := tx.Get(c, doc); err == nil {
					_, err = tx.WriteAccess(c, doc, op)
					return err
				}
			}
			return fmt.Errorf("%s is nowhere", id)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.hidden[id] = !w.hidden[id]
}

// Whatever somebody may read, the answers are those of a database that has nothing else:
// of filters and orders, with and without indexes, over relations, of aggregates and
// groups, and about the past.
func TestAnswersAreThoseOfWhatOneReads(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := &halfWorld{world: newWorld(rt), other: keyOf("other"), others: map[docID]bool{}, hidden: map[docID]bool{}}
		plain, indexed := w.openShared(t, rt, false), w.openShared(t, rt, true)
		defer plain.store.Close()
		defer func() { indexed.store.Close() }()
		w.ds = []*dbase{plain, indexed}
		for range 4 {
			for range rapid.IntRange(1, 12).Draw(rt, "changes") {
				switch rapid.IntRange(0, 4).Draw(rt, "who") {
				case 0, 1:
					w.write(rt, w.other)
				case 2:
					w.share(rt)
				default:
					w.write(rt, plain.key)
				}
			}
			w.remember(plain, indexed)
			w.pass(rt, indexed)
			for range 6 {
				w.askSeen(rt)
			}
		}
	})
}

// askSeen draws a request of the reader and compares the answers.
func (w *halfWorld) askSeen(t *rapid.T) {
	overflown = 0
	p := past{at: make([]time.Time, len(w.ds))}
	ask := func() {
		w.seen(func() {
			reqs, want := w.requests(t, p.at)
			w.compare(t, w.ds, reqs, want)
		})
	}
	if rapid.IntRange(0, 5).Draw(t, "past") > 0 {
		ask()
		return
	}
	p = rapid.SampledFrom(w.past).Draw(t, "then")
	w.as(p, ask)
}

// openShared makes a database whose documents belong to who creates them.
func (w *halfWorld) openShared(t *testing.T, rt *rapid.T, indexed bool) *dbase {
	d := openStore(t)
	d.reader = store.As(d.key)
	if err := d.addShared(strings.ReplaceAll(w.sdl(indexed), "type ", "type @policy ")); err != nil {
		rt.Fatalf("%s: %v", w.sdl(indexed), err)
	}
	return d
}

var typeLine = regexp.MustCompile(`type @policy (\w+)`)

// addShared adds types in which @policy stands for sharedPolicy.
func (d *dbase) addShared(sdl string) error {
	p, err := acp.ParsePolicy([]byte(sharedPolicy))
	if err != nil {
		return err
	}
	if err := d.store.Update(context.Background(), store.As(d.key), func(tx *store.Tx) error { return tx.AddPolicy(p) }); err != nil {
		return err
	}
	return d.addSchema(typeLine.ReplaceAllString(sdl, fmt.Sprintf(`type $1 @policy(id: "%s", resource: "note")`, dag.Digest(p.Sum()))))
}
