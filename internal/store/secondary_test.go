package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// index returns the index of that name.
func (n *node) index(coll, name string) *schema.Index {
	n.t.Helper()
	c := n.coll(coll)
	for i := range c.Indexes {
		if c.Indexes[i].Name == name {
			return &c.Indexes[i]
		}
	}
	n.t.Fatalf("no index %s in %s: %v", name, coll, c.Indexes)
	return nil
}

// entries returns an index as text: the columns, and the documents by name.
func (n *node) entries(coll, name string, r IndexRange, reverse bool, names map[dag.DocID]string) string {
	n.t.Helper()
	var b strings.Builder
	n.view(func(tx *Tx) error {
		c, ix := n.coll(coll), n.index(coll, name)
		x := tx.secondary(c, ix)
		for e, err := range tx.Index(c, ix, r, reverse) {
			if err != nil {
				return err
			}
			vs, err := x.values(e.Key)
			if err != nil {
				return err
			}
			for _, v := range vs {
				fmt.Fprintf(&b, "%v ", text(v))
			}
			fmt.Fprintf(&b, "%s; ", names[e.Doc])
		}
		return nil
	})
	return strings.TrimSuffix(b.String(), "; ")
}

func key(vs ...value.Value) (b []byte) {
	for _, v := range vs {
		b = v.AppendKey(b)
	}
	return b
}

const indexedSDL = `
type Shop @index(name: "both", includes: [{field: "city"}, {field: "size", direction: DESC}]) {
	city: String @index
	size: Int @index(direction: DESC)
	tags: [String] @index(name: "tags")
	info: JSON @index(name: "info")
	owner: Person
}
type Person { name: String, shops: [Shop] }
`

func newShops(t tester) (n *node, names map[dag.DocID]string) {
	n = newNode(t, "ada")
	n.addSchema(indexedSDL)
	names = map[dag.DocID]string{}
	add := func(name string, in ...schema.Input) {
		n.update(func(tx *Tx) error {
			deltas, err := n.coll("Shop").Create(in)
			if err != nil {
				return err
			}
			d, err := tx.Create(n.coll("Shop"), deltas)
			names[d.ID] = name
			return err
		})
	}
	json := func(s string) value.Value {
		v, err := value.ParseJSON([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	texts := func(ss ...string) value.Value {
		list := []value.Value{}
		for _, s := range ss {
			if s == "" {
				list = append(list, value.Value{})
			} else {
				list = append(list, value.OfString(s))
			}
		}
		return value.OfList(list)
	}
	in := func(city any, size any, tags, info value.Value) []schema.Input {
		return append(fields("city", city, "size", size), schema.Input{Name: "tags", Val: tags}, schema.Input{Name: "info", Val: info})
	}
	add("a", in("oslo", 3, texts("x", "y", "x"), json(`{"a":{"b":1},"c":[true,null,"z"]}`))...)
	add("b", in("oslo", 5, texts(), json(`null`))...)
	add("c", in("bonn", nil, texts("", "y"), json(`{"a":{"b":2.5,"b\u0000":7},"e":{},"f":[]}`))...)
	add("d", in(nil, 4, value.Value{}, json(`"z"`))...)
	return n, names
}

// What an index holds, and in which order.
func TestIndexesHoldTheDocuments(t *testing.T) {
	t.Parallel()
	n, names := newShops(t)
	for _, c := range []struct{ index, want string }{
		{"Shop_city_ASC", `null d; "bonn" c; "oslo" a; "oslo" b`},
		{"Shop_size_ASC", `5 b; 4 d; 3 a; null c`},
		{"both", `null 4 d; "bonn" null c; "oslo" 5 b; "oslo" 3 a`},
		{"tags", `null c; "x" a; "y" a; "y" c`},
		{"info", `1 a; 2.5 c; 7 c; null a; true a; "z" a; "z" d`},
		{"Shop_owner_id_ASC", `null a; null b; null c; null d`},
	} {
		all := n.entries("Shop", c.index, IndexRange{}, false, names)
		if sorted(all) != sorted(c.want) {
			t.Errorf("%s holds %s, want %s", c.index, all, c.want)
		}
		forth := strings.Split(all, "; ")
		back := strings.Split(n.entries("Shop", c.index, IndexRange{}, true, names), "; ")
		slices.Reverse(back)
		if !slices.Equal(forth, back) {
			t.Errorf("%s is %v forward, %v backward", c.index, forth, back)
		}
	}
	wantSound(t, n)
}

// sorted orders the entries of equal columns by the names of the documents: their
// docIDs do not matter here.
func sorted(entries string) string {
	list := strings.Split(entries, "; ")
	columns := func(e string) string { return e[:strings.LastIndexByte(e, ' ')] }
	for i := 0; i < len(list); {
		end := i
		for end < len(list) && columns(list[end]) == columns(list[i]) {
			end++
		}
		slices.Sort(list[i:end])
		i = end
	}
	return strings.Join(list, "; ")
}

// A range selects by the columns, whole or their first ones.
func TestRangesOfAnIndex(t *testing.T) {
	t.Parallel()
	n, names := newShops(t)
	oslo := key(value.OfString("oslo"))
	five := value.OfInt(5).AppendKeyDesc(slices.Clone(oslo))
	b := AppendPath(nil, []string{"a", "b"})
	for _, c := range []struct {
		index string
		r     IndexRange
		want  string
	}{
		{"both", IndexRange{Lo: oslo}, `"oslo" 5 b; "oslo" 3 a`},
		{"both", IndexRange{Lo: oslo, Hi: five}, ``},
		{"both", IndexRange{Lo: oslo, Hi: after(five)}, `"oslo" 5 b`},
		{"both", IndexRange{Hi: key(value.OfString("c"))}, `null 4 d; "bonn" null c`},
		{"info", IndexRange{Lo: b, Hi: after(b)}, `1 a; 2.5 c`},
		{"info", IndexRange{Lo: value.OfInt(2).AppendKey(slices.Clone(b)), Hi: after(b)}, `2.5 c`},
	} {
		if got := n.entries("Shop", c.index, c.r, false, names); got != c.want {
			t.Errorf("%s from %x to %x is %s, want %s", c.index, c.r.Lo, c.r.Hi, got, c.want)
		}
	}
}

// Writes move entries, deletions remove them; a transaction sees its own, and what
// it takes back was never there.
func TestIndexesFollowWrites(t *testing.T) {
	t.Parallel()
	n, names := newShops(t)
	byName := map[string]dag.DocID{}
	for id, name := range names {
		byName[name] = id
	}
	n.set("Shop", byName["a"], "city", "rome")
	n.update(func(tx *Tx) error { _, err := tx.Delete(n.coll("Shop"), byName["c"]); return err })
	err := n.Update(context.Background(), As(n.key), func(tx *Tx) error {
		undone := tx.Try(func() error {
			if _, err := updateIn(tx, "Shop", byName["b"], "city", "wien"); err != nil {
				return err
			}
			return fault.Invalid.Errorf("no")
		})
		if undone == nil {
			t.Error("what fails is not taken back")
		}
		_, err := updateIn(tx, "Shop", byName["d"], "city", "york")
		var seen []string
		for e, err := range tx.Index(n.coll("Shop"), n.index("Shop", "Shop_city_ASC"), IndexRange{}, false) {
			if err != nil {
				return err
			}
			seen = append(seen, names[e.Doc])
		}
		if got, want := fmt.Sprint(seen), "[b a d]"; got != want {
			t.Errorf("in the transaction: %v, want %v", got, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := n.entries("Shop", "Shop_city_ASC", IndexRange{}, false, names), `"oslo" b; "rome" a; "york" d`; got != want {
		t.Errorf("cities are %s, want %s", got, want)
	}
	if got, want := n.entries("Shop", "tags", IndexRange{}, false, names), `"x" a; "y" a`; got != want {
		t.Errorf("tags are %s, want %s", got, want)
	}
}

// The path of a leaf never mixes with others, and the leaves right under a path are
// together.
func TestPathsOfJSON(t *testing.T) {
	t.Parallel()
	paths := [][]string{{}, {"a"}, {"a", "b"}, {"a", ""}, {"a\x00"}, {"ab"}, {"a", "\x00\x01"}, {""}, {"", "a"}}
	for i, p := range paths {
		for j, q := range paths {
			a, b := AppendPath(nil, p), AppendPath(nil, q)
			x := value.OfInt(1).AppendKey(slices.Clone(a))
			if under := bytes.HasPrefix(x, append(b, key(value.OfInt(1))...)); under != (i == j) {
				t.Errorf("leaf of %q under %q: %v", p, q, under)
			}
		}
	}
}

// A document of which an index would hold far more than the document itself is
// written all the same; nobody reads the index until it is gone.
func TestDocumentsTooLargeForAnIndex(t *testing.T) {
	t.Parallel()
	n, names := newShops(t)
	long := strings.Repeat("x", 20<<10)
	leaves := strings.TrimSuffix(strings.Repeat("0,1,", 2000), ",")
	v, err := value.ParseJSON([]byte(`{"` + long + `": [` + leaves + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	var id dag.DocID
	n.update(func(tx *Tx) error {
		deltas, err := n.coll("Shop").Create(append(fields("city", "riga"), schema.Input{Name: "info", Val: v}))
		if err != nil {
			return err
		}
		d, err := tx.Create(n.coll("Shop"), deltas)
		id = d.ID
		return err
	})
	wantReady := func(index string, want bool) {
		t.Helper()
		n.view(func(tx *Tx) error {
			if got := tx.IndexReady(n.coll("Shop"), n.index("Shop", index)); got != want {
				t.Errorf("%s is ready: %v, want %v", index, got, want)
			}
			return nil
		})
	}
	wantReady("info", false)
	wantReady("Shop_city_ASC", true)
	wantSound(t, n)
	n.update(func(tx *Tx) error { _, err := tx.Delete(n.coll("Shop"), id); return err })
	wantReady("info", true)
	if got, want := n.entries("Shop", "info", IndexRange{}, false, names), `1 a; 2.5 c; 7 c; null a; true a; "z" a; "z" d`; sorted(got) != sorted(want) {
		t.Errorf("the index has %s, want %s", got, want)
	}
	wantSound(t, n)
}
