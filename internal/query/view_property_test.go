package query

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// After a refresh, a materialized view shows what the plain view of the same query
// shows, whatever happened before, and however the refresh found out.
func TestRefreshedViewsAreCurrent(t *testing.T) {
	t.Parallel()
	queries := []string{
		`Book(filter: {pages: {_gt: 3}}) { s: title n: pages }`,
		`Book { s: title one: author { name n: born } }`,
		`Book(filter: {author: {name: {_like: "b%"}}}) { s: title n: pages one: author { name n: born } }`,
		`Book(filter: {_not: {author: {house: {name: {_like: "a%"}}}}}) { s: title one: author { name house { name } } }`,
		`Author { s: name many: books { name: title n: pages } }`,
		`Author { s: name n: _count(books: {filter: {pages: {_lt: 5}}}) many: books(order: {pages: DESC}, limit: 2) { name: title } }`,
		`Author(filter: {books: {title: {_nlike: "c%"}}}) { s: name sum: _sum(books: {field: pages}) }`,
		`House { s: name many: authors(order: [{name: ASC}]) { name n: born } sum: _count(authors: {}) }`,
		`House { s: name many: authors(filter: {books: {pages: {_gt: 2}}}) { name n: _count(books: {}) } }`,
		`House { s: name one: head { name n: born } }`,
		`Author { s: name one: heads { name } }`,
		`Author { s: heads_id }`,
		`Book(groupBy: [author_id], order: {author_id: ASC}) { s: author_id n: _count(_group: {}) sum: _sum(_group: {field: pages}) }`,
		`Book(order: [{pages: DESC}, {title: ASC}], limit: 3) { s: title n: pages }`,
		`Book(order: [{author: {name: ASC}}]) { s: title one: author { name } }`,
		`Book { s: title versions: _version { height } }`,
		`Book(showDeleted: true) { s: title gone: _deleted }`,
		`P4 { s many { name } }`,
	}
	rapid.Check(t, func(rt *rapid.T) {
		d := open(t)
		d.mustAdd(`type House { name: String  authors: [Author]  head: Author @primary @relation(name: "head") }
			type Author { name: String  born: Int  house: House  books: [Book]  heads: House @relation(name: "head") }
			type Book { title: String  pages: Int  author: Author }`)
		for i, q := range queries {
			for _, kind := range []string{"P", "M"} {
				name := fmt.Sprint(kind, i)
				sdl := fmt.Sprintf(`type %[1]s @materialized(if: %[2]v) { s: String n: Int sum: Int one: %[1]sOne many: [%[1]sMany] gone: Boolean versions: [%[1]sVersion] }
					interface %[1]sOne { name: String n: Int house: %[1]sHouse } interface %[1]sMany { name: String n: Int }
					interface %[1]sHouse { name: String } interface %[1]sVersion { height: Int }`, name, kind == "M")
				if err := d.addView(q + "\nas\n" + sdl); err != nil {
					rt.Fatalf("%s: %v", q, err)
				}
			}
		}
		w := &libraryWorld{d: d, t: rt}
		for range rapid.IntRange(1, 6).Draw(rt, "refreshes") {
			for range rapid.IntRange(0, 5).Draw(rt, "changes") {
				w.change()
			}
			did, err := d.refresh()
			if err != nil {
				rt.Fatal(err)
			}
			for _, r := range did {
				var n int
				fmt.Sscanf(r.Name, "M%d", &n)
				show := ` { s n sum gone one { name n house { name } } many { name n } versions { height } }`
				want := d.must(fmt.Sprintf("{ rows: P%d %s n: _count(P%d: {}) }", n, show, n))
				got := d.must(fmt.Sprintf("{ rows: M%d %s n: _count(M%d: {}) }", n, show, n))
				if got != want {
					rt.Fatalf("%s (whole: %v)\n got %s\nwant %s", queries[n], r.Whole, got, want)
				}
			}
		}
	})
}

// libraryWorld changes documents at random.
type libraryWorld struct {
	d                     *dbase
	t                     *rapid.T
	houses, authors, book []string
	n                     int
}

func (w *libraryWorld) text() string {
	return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(w.t, "text")
}

func (w *libraryWorld) one(ids []string) string {
	if len(ids) == 0 || rapid.IntRange(0, 4).Draw(w.t, "none") == 0 {
		return "null"
	}
	return `"` + rapid.SampledFrom(ids).Draw(w.t, "doc") + `"`
}

func (w *libraryWorld) change() {
	n := rapid.IntRange(0, 8).Draw(w.t, "n")
	switch rapid.IntRange(0, 8).Draw(w.t, "change") {
	case 0:
		w.create(&w.houses, fmt.Sprintf(`create_House(input: {name: %q, head: %s})`, w.fresh(), w.free()))
	case 1:
		w.create(&w.authors, fmt.Sprintf(`create_Author(input: {name: %q, born: %d, house: %s})`, w.fresh(), n, w.one(w.houses)))
	case 2, 3:
		w.create(&w.book, fmt.Sprintf(`create_Book(input: {title: %q, pages: %d, author: %s})`, w.fresh(), n, w.one(w.authors)))
	case 4:
		w.update("House", w.houses, fmt.Sprintf("name: %q", w.text()))
	case 5:
		w.update("Author", w.authors, fmt.Sprintf("name: %q, house: %s", w.text(), w.one(w.houses)))
	case 6:
		w.update("Book", w.book, fmt.Sprintf("pages: %d, author: %s", n, w.one(w.authors)))
	case 7:
		w.update("Book", w.book, fmt.Sprintf("title: %q", w.text()))
	case 8:
		kind := rapid.IntRange(0, 5).Draw(w.t, "kind")
		switch {
		case kind == 0:
			w.remove("House", &w.houses)
		case kind == 1:
			w.remove("Author", &w.authors)
		default:
			w.remove("Book", &w.book)
		}
	}
}

// free is an author who heads no house: the relation is one to one.
func (w *libraryWorld) free() string {
	if len(w.authors) == 0 {
		return "null"
	}
	out := w.d.must(`{ Author(filter: {heads: null}) { _docID } }`)
	var ids []string
	for _, m := range docIDOf.FindAllStringSubmatch(out, -1) {
		ids = append(ids, m[1])
	}
	return w.one(ids)
}

// fresh is a text that makes a document another than all before.
func (w *libraryWorld) fresh() string {
	w.n++
	return w.text() + strings.Repeat(" ", w.n)
}

func (w *libraryWorld) create(ids *[]string, mutation string) {
	out := w.d.must("mutation { " + mutation + " { _docID } }")
	*ids = append(*ids, docIDOf.FindStringSubmatch(out)[1])
}

func (w *libraryWorld) update(typ string, ids []string, input string) {
	if len(ids) > 0 {
		w.d.must(fmt.Sprintf(`mutation { update_%s(docID: "%s", input: {%s}) { _docID } }`, typ, rapid.SampledFrom(ids).Draw(w.t, "doc"), input))
	}
}

func (w *libraryWorld) remove(typ string, ids *[]string) {
	if len(*ids) == 0 {
		return
	}
	i := rapid.IntRange(0, len(*ids)-1).Draw(w.t, "doc")
	w.d.must(fmt.Sprintf(`mutation { delete_%s(docID: "%s") { _docID } }`, typ, (*ids)[i]))
	*ids = append((*ids)[:i:i], (*ids)[i+1:]...)
}
