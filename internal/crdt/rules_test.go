package crdt_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

const points crdt.FieldID = 16

// everyOrder folds the commits in every topological order, checks that all end in
// the same bytes, and returns the document.
func everyOrder(t *testing.T, commits []crdt.Change) crdt.Document {
	t.Helper()
	var doc crdt.Document
	n := 0
	orders(commits, func(order []crdt.Change) {
		got, err := takeAll(order)
		if err != nil {
			t.Fatal(err)
		}
		if n++; n > 1 && !bytes.Equal(got.Bytes(), doc.Bytes()) {
			t.Fatalf("order %d ends in %x, others in %x", n, got.Bytes(), doc.Bytes())
		}
		doc = got
	})
	if err := doc.Check(); err != nil {
		t.Fatal(err)
	}
	return doc
}

func wantInt(t *testing.T, doc crdt.Document, f crdt.FieldID, k crdt.Kind, want int64) {
	t.Helper()
	got, ok := doc.Value(f, k)
	if !ok || got.Kind() != value.Int || got.Int() != want {
		t.Fatalf("field %d %v: got %v (%v), want %d", f, k, got, ok, want)
	}
}

func wantText(t *testing.T, doc crdt.Document, f crdt.FieldID, k crdt.Kind, want string) {
	t.Helper()
	got, ok := doc.Value(f, k)
	if !ok || got.Kind() != value.String || got.Text() != want {
		t.Fatalf("field %d %v: got %v (%v), want %q", f, k, got, ok, want)
	}
}

// A history that forks and joins reaches its root by two paths. A merge that walks
// both counts the root twice: 28.
func TestCounterOverDiamond(t *testing.T) {
	t.Parallel()
	doc := everyOrder(t, []crdt.Change{
		{Commit: id("root"), Height: 1, HLC: 1, Deltas: []crdt.Delta{add(points, 10)}},
		{Commit: id("left"), Parents: ids("root"), Height: 2, HLC: 2, Deltas: []crdt.Delta{add(points, 3)}},
		{Commit: id("right"), Parents: ids("root"), Height: 2, HLC: 2, Deltas: []crdt.Delta{add(points, 4)}},
		{Commit: id("join"), Parents: ids("left", "right"), Height: 3, HLC: 3, Deltas: []crdt.Delta{add(points, 1)}},
	})
	wantInt(t, doc, points, countInt, 18)
	if heads := doc.Heads(); len(heads) != 1 || heads[0].Commit != id("join") || heads[0].Height != 3 {
		t.Fatalf("heads: got %v, want the join at height 3", heads)
	}
}

// Diamonds on top of each other have as many paths as 2 to their number.
func TestCounterOverStackedDiamonds(t *testing.T) {
	t.Parallel()
	var r replica
	below := ids()
	for i := range 200 {
		name := func(s string) string { return s + string(rune(i)) }
		h := uint64(3 * i)
		for _, c := range []crdt.Change{
			{Commit: id(name("root")), Parents: below, Height: h + 1, HLC: h + 1, Deltas: []crdt.Delta{add(points, 1)}},
			{Commit: id(name("left")), Parents: ids(name("root")), Height: h + 2, HLC: h + 2, Deltas: []crdt.Delta{add(points, 1)}},
			{Commit: id(name("right")), Parents: ids(name("root")), Height: h + 2, HLC: h + 2, Deltas: []crdt.Delta{add(points, 1)}},
		} {
			if err := r.take(c); err != nil {
				t.Fatal(err)
			}
		}
		below = ids(name("left"), name("right"))
	}
	wantInt(t, r.doc, points, countInt, 600)
}

// One branch is longer than the other, and they meet, so that the heads to merge
// stand at different heights: a merge that stops at the height of the lower one
// loses the end of the longer, one that starts there again counts it twice.
func TestCounterOverUnequalHeads(t *testing.T) {
	t.Parallel()
	branches := []crdt.Change{
		{Commit: id("root"), Height: 1, HLC: 1, Deltas: []crdt.Delta{add(points, 10)}},
		{Commit: id("short"), Parents: ids("root"), Height: 2, HLC: 9, Deltas: []crdt.Delta{add(points, 1)}},
		{Commit: id("long1"), Parents: ids("root"), Height: 2, HLC: 2, Deltas: []crdt.Delta{add(points, 2)}},
		{Commit: id("long2"), Parents: ids("long1"), Height: 3, HLC: 3, Deltas: []crdt.Delta{add(points, 2)}},
		{Commit: id("long3"), Parents: ids("long2"), Height: 4, HLC: 4, Deltas: []crdt.Delta{add(points, 2)}},
	}
	doc := everyOrder(t, branches)
	wantInt(t, doc, points, countInt, 17)
	if heads := doc.Heads(); len(heads) != 2 {
		t.Fatalf("heads: got %v, want the ends of both branches", heads)
	}
	doc = everyOrder(t, append(branches,
		crdt.Change{Commit: id("early"), Parents: ids("short", "long1"), Height: 3, HLC: 10, Deltas: []crdt.Delta{add(points, 1)}},
		crdt.Change{Commit: id("join"), Parents: ids("early", "long3"), Height: 5, HLC: 11},
	))
	wantInt(t, doc, points, countInt, 18)
}

func TestRegisterKeepsTheNewestStamp(t *testing.T) {
	t.Parallel()
	write := func(name string, hlc uint64, v value.Value) crdt.Change {
		return crdt.Change{Commit: id(name), Height: 1, HLC: hlc, Deltas: []crdt.Delta{set(16, lwwString, v)}}
	}
	noon, evening := write("noon", 12, value.OfString("zebra")), write("evening", 20, value.OfString("ant"))
	wantText(t, everyOrder(t, []crdt.Change{noon, evening}), 16, lwwString, "ant")

	// Null is remembered, so that an older write does not come back.
	doc := everyOrder(t, []crdt.Change{noon, evening, write("night", 23, value.Value{})})
	if v, ok := doc.Value(16, lwwString); !ok || !v.IsNull() {
		t.Fatalf("got %v (%v), want null that was set", v, ok)
	}

	// A long private chain has great height, but its clock decides.
	private := write("private", 13, value.OfString("high"))
	private.Height = 1000
	wantText(t, everyOrder(t, []crdt.Change{private, evening}), 16, lwwString, "ant")

	// Of one commit the last operation on a field counts.
	twice := write("twice", 30, value.OfString("first"))
	twice.Deltas = append(twice.Deltas, set(16, lwwString, value.OfString("second")))
	doc = everyOrder(t, []crdt.Change{twice, evening})
	wantText(t, doc, 16, lwwString, "second")
	if s, ok := doc.Stamp(16, lwwString); !ok || s != (crdt.Stamp{HLC: 30, Commit: id("twice"), Op: 1}) {
		t.Fatalf("stamp: got %v (%v)", s, ok)
	}
}

// Kinds of one field do not see each other, and a schema picks one.
func TestKindsAreApart(t *testing.T) {
	t.Parallel()
	doc := everyOrder(t, []crdt.Change{
		{Commit: id("a"), HLC: 1, Deltas: []crdt.Delta{set(16, lwwInt, value.OfInt(5))}},
		{Commit: id("b"), HLC: 2, Deltas: []crdt.Delta{set(16, lwwString, value.OfString("five")), add(16, 7)}},
	})
	wantInt(t, doc, 16, lwwInt, 5)
	wantInt(t, doc, 16, countInt, 7)
	wantText(t, doc, 16, lwwString, "five")
	if _, ok := doc.Value(16, mvrInt); ok {
		t.Fatal("a kind that nobody wrote has a value")
	}
}

func TestDeletingIsExplicit(t *testing.T) {
	t.Parallel()
	status := func(name string, hlc uint64, deleted bool) crdt.Change {
		return crdt.Change{Commit: id(name), HLC: hlc, Deltas: []crdt.Delta{set(crdt.FieldStatus, crdt.KindStatus, value.OfBool(deleted))}}
	}
	create := crdt.Change{Commit: id("create"), HLC: 1, Deltas: []crdt.Delta{set(16, lwwInt, value.OfInt(1))}}
	edit := crdt.Change{Commit: id("edit"), HLC: 9, Deltas: []crdt.Delta{set(16, lwwInt, value.OfInt(2))}}
	gone := status("delete", 5, true)
	if everyOrder(t, []crdt.Change{create, edit}).Deleted() {
		t.Fatal("deleted by nobody")
	}
	doc := everyOrder(t, []crdt.Change{create, gone, edit})
	if !doc.Deleted() {
		t.Fatal("an edit undid a delete")
	}
	wantInt(t, doc, 16, lwwInt, 2)
	if everyOrder(t, []crdt.Change{create, gone, edit, status("restore", 6, false)}).Deleted() {
		t.Fatal("restored, but still deleted")
	}
}

func TestCounterIsExact(t *testing.T) {
	t.Parallel()
	count := func(k crdt.Kind, increments ...value.Value) value.Value {
		t.Helper()
		var c crdt.Change
		for _, v := range increments {
			c.Deltas = append(c.Deltas, crdt.Delta{Field: points, Kind: k, Val: v})
		}
		doc, err := crdt.Document{}.Fold(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, ok := doc.Value(points, k)
		if !ok {
			t.Fatalf("%v of %v has no value", k, increments)
		}
		return v
	}
	float := func(f float64) value.Value {
		t.Helper()
		v, err := crdt.Increment(value.TypeFloat64, value.OfFloat(f))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	most, one := value.OfInt(math.MaxInt64), value.OfInt(1)
	if got := count(countInt, most, one).Int(); got != math.MaxInt64 {
		t.Errorf("beyond 64 bits: got %d, want the greatest integer", got)
	}
	if got := count(countInt, most, one, value.OfInt(-2)).Int(); got != math.MaxInt64-1 {
		t.Errorf("back from beyond 64 bits: got %d", got)
	}
	if got := count(countInt, value.OfInt(math.MinInt64), value.OfInt(-1)).Int(); got != math.MinInt64 {
		t.Errorf("below 64 bits: got %d, want the least integer", got)
	}
	if got := count(countFloat, float(0.1), float(0.2)).Float(); got != 0.3 {
		t.Errorf("0.1 + 0.2: got %v, want 0.3", got)
	}
	if got := count(countFloat, float(1e300), float(1e-300), float(-1e300)).Float(); got != 1e-300 {
		t.Errorf("1e300 + 1e-300 - 1e300: got %v, want 1e-300", got)
	}
	if got := count(countFloat, float(math.MaxFloat64), float(math.MaxFloat64)).Float(); got != math.MaxFloat64 {
		t.Errorf("beyond the greatest float: got %v", got)
	}
	if got := count(countFloat, float(math.SmallestNonzeroFloat64)).Float(); got != math.SmallestNonzeroFloat64 {
		t.Errorf("smallest float: got %v", got)
	}
	if got := count(countFloat, float(math.Copysign(0, -1))).Float(); got != 0 || math.Signbit(got) {
		t.Errorf("-0: got %v", got)
	}
	tenth, err := crdt.Increment(value.TypeFloat32, value.OfFloat32(0.1))
	if err != nil {
		t.Fatal(err)
	}
	if got := count(count32, tenth, tenth, tenth); got.Kind() != value.Float32 || float32(got.Float()) != 0.3 {
		t.Errorf("three times 0.1 in 32 bits: got %v", got.Float())
	}
}

func TestConcurrentValuesAreKept(t *testing.T) {
	t.Parallel()
	root := crdt.Change{Commit: id("root"), HLC: 1, Deltas: []crdt.Delta{set(16, mvrString, value.OfString("draft"))}}
	seen := crdt.Tag{Commit: id("root")}
	ann := crdt.Change{Commit: id("ann"), Parents: ids("root"), HLC: 3, Deltas: []crdt.Delta{set(16, mvrString, value.OfString("by ann"), seen)}}
	bob := crdt.Change{Commit: id("bob"), Parents: ids("root"), HLC: 2, Deltas: []crdt.Delta{set(16, mvrString, value.OfString("by bob"), seen)}}
	doc := everyOrder(t, []crdt.Change{root, ann, bob})
	wantText(t, doc, 16, mvrString, "by ann")
	if got := doc.Conflicts(16, mvrString); len(got) != 1 || got[0].Text() != "by bob" {
		t.Fatalf("conflicts: got %v, want what bob wrote", got)
	}
	settle := crdt.Change{
		Commit: id("settle"), Parents: ids("ann", "bob"), HLC: 4,
		Deltas: []crdt.Delta{set(16, mvrString, value.OfString("by both"), doc.Tags(16, mvrString)...)},
	}
	doc = everyOrder(t, []crdt.Change{root, ann, bob, settle})
	wantText(t, doc, 16, mvrString, "by both")
	if got := doc.Conflicts(16, mvrString); len(got) != 0 {
		t.Fatalf("conflicts after settling: got %v", got)
	}
}

// A hostile author overwrites a write that it is concurrent with, and that other
// nodes get later.
func TestOverwriteThatComesBeforeItsWrite(t *testing.T) {
	t.Parallel()
	victim := crdt.Change{Commit: id("victim"), HLC: 9, Deltas: []crdt.Delta{
		set(16, mvrInt, value.OfInt(1)), set(16, mvrInt, value.OfInt(2)),
	}}
	attack := crdt.Change{Commit: id("attack"), HLC: 1, Deltas: []crdt.Delta{
		set(16, mvrInt, value.OfInt(3), crdt.Tag{Commit: id("victim"), Op: 1}),
	}}
	doc := everyOrder(t, []crdt.Change{victim, attack})
	wantInt(t, doc, 16, mvrInt, 1)
	if got := doc.Conflicts(16, mvrInt); len(got) != 1 || got[0].Int() != 3 {
		t.Fatalf("conflicts: got %v, want 3", got)
	}

	// Two writes that overwrite each other leave nothing, in either order.
	a := crdt.Change{Commit: id("a"), Deltas: []crdt.Delta{set(16, mvrInt, value.OfInt(1), crdt.Tag{Commit: id("b")})}}
	b := crdt.Change{Commit: id("b"), Deltas: []crdt.Delta{set(16, mvrInt, value.OfInt(2), crdt.Tag{Commit: id("a")})}}
	doc = everyOrder(t, []crdt.Change{a, b})
	if v, ok := doc.Value(16, mvrInt); ok {
		t.Fatalf("got %v, want nothing", v)
	}
}

// The operations of a commit that turned out not to count leave no trace but heads.
func TestVoidCommitIsStructureOnly(t *testing.T) {
	t.Parallel()
	revoked := crdt.Change{Commit: id("revoked"), Height: 1, HLC: 5, Void: true, Deltas: []crdt.Delta{
		add(points, 5), set(17, lwwInt, value.OfInt(5)), set(18, mvrInt, value.OfInt(5), crdt.Tag{Commit: id("elsewhere")}),
	}}
	doc := everyOrder(t, []crdt.Change{revoked, {Commit: id("honest"), Parents: ids("revoked"), HLC: 6, Deltas: []crdt.Delta{add(points, 1)}}})
	wantInt(t, doc, points, countInt, 1)
	for f := range doc.Fields() {
		if f != points {
			t.Fatalf("field %d was written by a void commit", f)
		}
	}
}

func TestFoldOnlyOnce(t *testing.T) {
	t.Parallel()
	c := crdt.Change{Commit: id("once"), Deltas: []crdt.Delta{add(points, 1)}}
	var r replica
	if err := r.take(c); err != nil {
		t.Fatal(err)
	}
	if err := r.take(c); err == nil || !strings.Contains(err.Error(), "already") {
		t.Fatalf("second fold: got %v, want a refusal", err)
	}
}
