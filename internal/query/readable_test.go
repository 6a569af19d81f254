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
	asking.Lock()
	defer asking.Unlock()
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
	if err := d.addShared(typeLine.ReplaceAllString(w.sdl(indexed), "type $1 @policy")); err != nil {
		rt.Fatalf("%s: %v", w.sdl(indexed), err)
	}
	return d
}

var typeLine = regexp.MustCompile(`type (\w+)`)

// addShared adds types in which @policy stands for sharedPolicy.
func (d *dbase) addShared(sdl string) error {
	p, err := acp.ParsePolicy([]byte(sharedPolicy))
	if err != nil {
		return err
	}
	if err := d.store.Update(context.Background(), store.As(d.key), func(tx *store.Tx) error { return tx.AddPolicy(p) }); err != nil {
		return err
	}
	return d.addSchema(strings.ReplaceAll(sdl, "@policy", fmt.Sprintf(`@policy(id: "%s", resource: "note")`, dag.Digest(p.Sum()))))
}

// half is a database of two people, and one of the documents alone that one of them
// reads: commit by commit the same.
type half struct {
	t          *testing.T
	whole, own *dbase
	other      ident.Key
	names      names
}

const libraryTypes = `
type Author @policy @index(includes: [{field: "name"}]) { name: String @index(unique: true) born: Int @index books: [Book] }
type Book @policy @index(includes: [{field: "title"}, {field: "pages"}]) { title: String pages: Int @index tags: [String] @index author: Author sequel: Book @primary @relation(name: "series") prequel: Book @relation(name: "series") }
`

func newHalf(t *testing.T) *half {
	h := &half{t: t, whole: open(t), own: open(t), other: keyOf("other"), names: names{ids: map[string]string{}, of: map[string]string{}}}
	for _, d := range []*dbase{h.whole, h.own} {
		d.reader = store.As(d.key)
		if err := d.addShared(libraryTypes); err != nil {
			t.Fatal(err)
		}
		if err := d.addView("Book(filter: {pages: {_gt: 100}}) { title author { name } }\nas\ntype Thick @materialized(if: false) { title: String author: ThickAuthor } interface ThickAuthor { name: String }"); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// mine makes documents of the reader, which both databases have.
func (h *half) mine(mutation string) string {
	h.t.Helper()
	out, err := h.own.execAs(store.As(h.own.key), Request{Query: "mutation { " + mutation + " }"})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range h.own.store.Schema().Collections() {
		var envelopes [][]byte
		err := h.own.store.View(context.Background(), store.System, func(tx *store.Tx) error {
			for b, err := range tx.Full(c.ID, dag.DocID{}) {
				if err != nil {
					return err
				}
				envelopes = append(envelopes, slices.Clone(b.Envelope))
			}
			return nil
		})
		if err == nil {
			_, err = h.whole.store.Merge(context.Background(), c.ID, envelopes, "")
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	return docIDOf.FindStringSubmatch(string(out))[1]
}

// theirs makes documents of somebody else in the whole database.
func (h *half) theirs(mutation string) string {
	h.t.Helper()
	out, err := h.whole.execAs(store.As(h.other), Request{Query: "mutation { " + mutation + " }"})
	if err != nil {
		h.t.Fatal(err)
	}
	return docIDOf.FindStringSubmatch(string(out))[1]
}

// elapsed is what differs between two runs of one request.
var elapsed = regexp.MustCompile(`"microseconds":\d+|\b[0-9.]+(µs|ms|s)[,\]]`)

// wantSame compares what the reader is answered by both.
func (h *half) wantSame(req Request) {
	h.t.Helper()
	answer := func(d *dbase) string {
		out, err := d.execAs(store.As(d.key), req)
		if err != nil {
			return err.Error()
		}
		return elapsed.ReplaceAllString(string(out), "some time")
	}
	if got, want := answer(h.whole), answer(h.own); got != want {
		h.t.Errorf("%s\nis answered %s\nwithout what may not be read %s", req.Query, got, want)
	}
}

// What may not be read shows nowhere: every answer, every error and every plan is that of
// a database without it.
func TestNothingTellsOfWhatMayNotBeRead(t *testing.T) {
	t.Parallel()
	h := newHalf(t)
	ann := h.mine(`create_Author(input: {name: "Ann", born: 1950}) { _docID }`)
	first := h.mine(fmt.Sprintf(`create_Book(input: {title: "First", pages: 200, tags: ["a", "b"], author: %q}) { _docID }`, ann))
	h.mine(fmt.Sprintf(`create_Book(input: {title: "Second", pages: 90, tags: ["b"], author: %q}) { _docID }`, ann))
	h.mine(fmt.Sprintf(`update_Book(docID: %q, input: {pages: 201}) { _docID }`, first))
	gone := h.mine(`create_Book(input: {title: "Gone", pages: 10}) { _docID }`)
	h.mine(fmt.Sprintf(`delete_Book(docID: %q) { _docID }`, gone))

	zoe := h.theirs(`create_Author(input: {name: "Zoe", born: 1950}) { _docID }`)
	secret := h.theirs(fmt.Sprintf(`create_Book(input: {title: "Secret", pages: 200, tags: ["a", "z"], author: %q, sequel: %q}) { _docID }`, ann, first))
	h.theirs(fmt.Sprintf(`create_Book(input: {title: "First", pages: 999, tags: ["z"], author: %q}) { _docID }`, zoe))
	h.theirs(fmt.Sprintf(`update_Book(docID: %q, input: {pages: 300}) { _docID }`, secret))
	dropped := h.theirs(`create_Book(input: {title: "Dropped", pages: 5}) { _docID }`)
	h.theirs(fmt.Sprintf(`delete_Book(docID: %q) { _docID }`, dropped))
	cids := h.commitsOf(secret)

	ask := []string{
		`{ Book { _docID title pages tags } }`,
		`{ Book(showDeleted: true) { title _deleted } }`,
		`{ Book(filter: {title: {_eq: "Secret"}}) { title } }`,
		`{ Book(filter: {pages: {_ge: 200}}) { title } }`,
		`{ Book(filter: {tags: {_any: {_eq: "z"}}}) { title } }`,
		`{ Book(filter: {_or: [{pages: {_eq: 300}}, {title: {_eq: "First"}}]}) { title } }`,
		`{ Book(order: {pages: DESC}, limit: 2) { title } }`,
		`{ Book(order: [{title: ASC}, {pages: DESC}], offset: 1) { title pages } }`,
		`{ Book(order: {author: {name: DESC}}) { title } }`,
		`{ Book(filter: {author: {name: {_ne: "Ann"}}}) { title } }`,
		`{ Book(filter: {author: {born: {_eq: 1950}}}) { title } }`,
		`{ Author { name books { title } } }`,
		`{ Author(filter: {books: {pages: {_gt: 200}}}) { name } }`,
		`{ Author { name _count(books: {}) _sum(books: {field: pages}) } }`,
		`{ Book { title prequel { title } sequel { title } } }`,
		`{ Book(groupBy: [pages]) { pages _group { title } _count(_group: {}) } }`,
		`{ _count(Book: {}) }`,
		`{ _count(Book: {filter: {pages: {_eq: 300}}}) }`,
		`{ _count(Book: {filter: {title: {_eq: "First"}}}) }`,
		`{ _sum(Book: {field: pages}) }`,
		`{ _avg(Book: {field: pages}) }`,
		`{ _max(Book: {field: pages}) }`,
		`{ _min(Author: {field: born}) }`,
		`{ Thick { title author { name } } }`,
		`{ Book { title _acl { owner permissions pending tuples { relation } } } }`,
		`{ Book { title _version { cid height } } }`,
		`{ commits { cid docID height } }`,
		`{ latestCommits(docID: "SECRET") { cid } }`,
		`{ commits(docID: "SECRET") { cid } }`,
		`{ commits(order: {height: DESC}) { cid docID height fieldName delta } }`,
		`{ Book(docID: "SECRET") { title } }`,
		`{ Book(docID: ["SECRET", "` + first + `"]) { title } }`,
		`{ Book(filter: {_docID: {_in: ["SECRET", "DROPPED"]}}) { title } }`,
		`{ Book(docID: "DROPPED", showDeleted: true) { title } }`,
		`{ Book(asOf: "2030-01-01T00:00:00Z") { title pages } }`,
		`{ Book(asOf: "2026-01-02T03:04:20Z") { title pages } }`,
		`{ Book(filter: {author_id: {_eq: "` + ann + `"}}) { title } }`,
		`{ Book(filter: {author_id: {_eq: "` + zoe + `"}}) { title } }`,
	}
	for _, cid := range cids {
		for _, q := range []string{`{ Book(cid: "CID") { title } }`, `{ Author(cid: "CID") { name } }`, `{ commits(cid: "CID") { height } }`, `{ commits(docID: "SECRET", cid: "CID") { height } }`, `{ commits(docID: "` + first + `", cid: "CID") { height } }`} {
			ask = append(ask, strings.ReplaceAll(q, "CID", cid))
		}
	}
	for _, q := range ask {
		q = strings.NewReplacer("SECRET", secret, "DROPPED", dropped).Replace(q)
		h.wantSame(Request{Query: q})
		h.wantSame(Request{Query: q, Explain: explainSimple})
		h.wantSame(Request{Query: q, Explain: explainExecute})
	}
	for _, q := range []string{
		`mutation { update_Book(docID: "SECRET", input: {pages: 1}) { title } }`,
		`mutation { delete_Book(docID: "SECRET") { title } }`,
		`mutation { delete_Book(docID: "DROPPED") { title } }`,
		`mutation { update_Book(filter: {title: {_eq: "Secret"}}, input: {pages: 1}) { title } }`,
		`mutation { update_Book(filter: {pages: {_ge: 300}}, input: {tags: ["mine"]}) { title } }`,
		`mutation { upsert_Author(filter: {name: {_eq: "Zoe"}}, create: {name: "Zoe"}, update: {born: 1}) { name born } }`,
		`mutation { create_Author(input: {name: "Zoe", born: 3}) { name } }`,
		`mutation { create_Author(input: {name: "Ann", born: 3}) { name } }`,
		`mutation { create_Book(input: {title: "Third", sequel: "` + first + `"}) { title } }`,
	} {
		h.wantSame(Request{Query: strings.NewReplacer("SECRET", secret, "DROPPED", dropped).Replace(q)})
	}
	if out, err := h.whole.execAs(store.As(h.other), Request{Query: `{ Book(docID: "` + secret + `") { title pages tags } }`}); err != nil || !strings.Contains(string(out), `"title":"Secret","pages":300,"tags":["a","z"]`) {
		t.Errorf("whose it is finds %s, %v", out, err)
	}
}

// commitsOf returns the commits of a document in the whole database.
func (h *half) commitsOf(id string) (cids []string) {
	h.t.Helper()
	out, err := h.whole.execAs(store.As(h.other), Request{Query: `{ commits(docID: "` + id + `") { cid } }`})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`"cid":"([a-z0-9]+)"`).FindAllStringSubmatch(string(out), -1) {
		cids = append(cids, m[1])
	}
	if len(cids) != 2 {
		h.t.Fatalf("%d commits, want 2", len(cids))
	}
	return cids
}
