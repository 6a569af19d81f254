package crdt_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

// After every single commit, whatever the order, the document is what the oracle
// makes of the set.
func TestDocumentIsAFunctionOfTheSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		commits := shuffled(t, genHistory(t))
		var r replica
		for i, c := range commits {
			if err := r.take(c); err != nil {
				t.Fatalf("fold: %v", err)
			}
			want := oracleOf(commits[:i+1]).encode()
			if got := r.doc.Bytes(); !bytes.Equal(got, want) {
				t.Fatalf("after %d commits:\n got %x\nwant %x", i+1, got, want)
			}
			if err := r.doc.Check(); err != nil {
				t.Fatalf("check: %v", err)
			}
		}
	})
}

// The same set in any two orders gives the same bytes: without trusting the oracle.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		commits := genHistory(t)
		first, err := takeAll(shuffled(t, commits))
		if err != nil {
			t.Fatal(err)
		}
		second, err := takeAll(shuffled(t, commits))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("two orders of one set differ:\n%x\n%x", first.Bytes(), second.Bytes())
		}
	})
}

// What readers see is what the oracle says.
func TestAccessorsAgreeWithTheOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		commits := shuffled(t, genHistory(t))
		doc, err := takeAll(commits)
		if err != nil {
			t.Fatal(err)
		}
		o := oracleOf(commits)
		if got, want := doc.Heads(), o.heads(); !slices.Equal(got, want) {
			t.Fatalf("heads: got %v, want %v", got, want)
		}
		shown := 0
		for name, ws := range o.cells() {
			if checkCell(t, doc, o, name, ws) {
				shown++
			}
		}
		count := 0
		for range doc.Fields() {
			count++
		}
		if count != shown {
			t.Fatalf("document has %d cells, want %d", count, shown)
		}
	})
}

// checkCell compares what readers see of one cell, and returns whether the cell exists.
func checkCell(t *rapid.T, doc crdt.Document, o oracle, name cellName, ws []written) bool {
	got, ok := doc.Value(name.field, name.kind)
	visible := newestFirst(ws)
	var tombs []crdt.Tag
	switch name.kind.Rule() {
	case crdt.PCounter, crdt.PNCounter:
		want, _ := total(ws).Float64()
		if name.kind.Type() == value.TypeInt {
			want = max(-1<<63, min(want, 1<<63))
			if sum := total(ws).Num(); sum.IsInt64() && got.Int() != sum.Int64() {
				t.Fatalf("%v: got %d, want %v", name, got.Int(), sum)
			}
			if f := float64(got.Int()); f != want {
				t.Fatalf("%v: got %v, want %v", name, f, want)
			}
		} else if name.kind == countFloat && got.Float() != want {
			t.Fatalf("%v: got %v, want %v", name, got.Float(), want)
		}
		if _, stamped := doc.Stamp(name.field, name.kind); !ok || stamped {
			t.Fatalf("%v: value %v, stamp %v; want a value without a stamp", name, ok, stamped)
		}
		return true
	case crdt.MVR:
		visible, tombs = o.live(ws)
	}
	if ok != (len(visible) > 0) {
		t.Fatalf("%v: has a value: %v, want %v", name, ok, !ok)
	}
	if !ok {
		return len(tombs) > 0
	}
	stamp, _ := doc.Stamp(name.field, name.kind)
	if stamp != visible[0].stamp || !value.Equal(got, visible[0].delta.Val) {
		t.Fatalf("%v: got %v by %v, want %v", name, got, stamp, visible[0])
	}
	if name.kind.Rule() == crdt.MVR {
		checkConflicts(t, doc, name, visible)
	}
	return true
}

func checkConflicts(t *rapid.T, doc crdt.Document, name cellName, visible []written) {
	var others []value.Value
	var tags []crdt.Tag
	for i, w := range visible {
		if i > 0 {
			others = append(others, w.delta.Val)
		}
		tags = append(tags, crdt.Tag{Commit: w.stamp.Commit, Op: w.stamp.Op})
	}
	slices.SortFunc(tags, crdt.Tag.Compare)
	if got := doc.Tags(name.field, name.kind); !slices.Equal(got, tags) {
		t.Fatalf("%v: tags: got %v, want %v", name, got, tags)
	}
	if got := doc.Conflicts(name.field, name.kind); !slices.EqualFunc(got, others, value.Equal) {
		t.Fatalf("%v: conflicts: got %v, want %v", name, got, others)
	}
}

// Honest authors overwrite what they see, so that a value is lost only to somebody
// who had seen it, and a register written by one author at a time has no conflicts.
func TestHonestAuthorsLoseNothingUnseen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		replicas := make([]replica, 3)
		var log []crdt.Change
		lastOf := make([]crdt.Tag, len(replicas))
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			i := rapid.IntRange(0, len(replicas)-1).Draw(t, "replica")
			r := &replicas[i]
			if rapid.Bool().Draw(t, "pull") {
				pull(t, r, log)
			}
			c := writeMVR(r, len(log))
			if err := r.take(c); err != nil {
				t.Fatal(err)
			}
			lastOf[i] = crdt.Tag{Commit: c.Commit}
			log = append(log, c)
			if tags := r.doc.Tags(16, mvrInt); !slices.Equal(tags, []crdt.Tag{lastOf[i]}) {
				t.Fatalf("after its own write replica %d has %v, want only that", i, tags)
			}
		}
		for i := range replicas {
			pull(t, &replicas[i], log)
			if !bytes.Equal(replicas[i].doc.Bytes(), replicas[0].doc.Bytes()) {
				t.Fatalf("replicas 0 and %d differ after they have all", i)
			}
		}
	})
}

// pull folds what the replica lacks.
func pull(t *rapid.T, r *replica, log []crdt.Change) {
	var missing []crdt.Change
	for _, c := range log {
		if !r.seen[c.Commit] {
			missing = append(missing, c)
		}
	}
	for _, c := range shuffled(t, missing) {
		if err := r.take(c); err != nil {
			t.Fatal(err)
		}
	}
}

// writeMVR makes the commit of an honest author who sees what r has.
func writeMVR(r *replica, n int) crdt.Change {
	c := crdt.Change{Commit: id("honest" + string(rune('a'+n)))}
	for _, h := range r.doc.Heads() {
		c.Parents = append(c.Parents, h.Commit)
		c.Height, c.HLC = max(c.Height, h.Height+1), max(c.HLC, h.HLC+1)
	}
	c.Deltas = []crdt.Delta{set(16, mvrInt, value.OfInt(int64(n)), r.doc.Tags(16, mvrInt)...)}
	return c
}
