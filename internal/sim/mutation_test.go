package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"regexp"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/store"
)

// The checks can fail: each kind of damage is seen, and as what it is. The tables
// are those of package store: c commits, i where they are, d documents, s the feed,
// x indexes.
func TestChecksSeeDamage(t *testing.T) {
	t.Parallel()
	drop := func(table byte) func(all []kv.Entry, b *kv.Batch) bool {
		return func(all []kv.Entry, b *kv.Batch) bool {
			of := entries(all, table)
			if len(of) > 0 {
				b.Delete(of[len(of)-1].Key)
			}
			return len(of) > 0
		}
	}
	for _, c := range []struct {
		name, want string
		damage     func(all []kv.Entry, b *kv.Batch) bool
	}{
		{"the last change is forgotten", `^I8: .* changes were acknowledged`, drop('s')},
		{"a commit is lost", `^I1: .* is indexed but missing`, drop('c')},
		{"a commit is not found", `^I1: .* is not here`, drop('i')},
		{"a document is lost", `^I4: .* is not in collection`, drop('d')},
		{"two documents are exchanged", `^I3: `, exchange},
		{"a value is changed", `^(I3|I4): `, func(all []kv.Entry, b *kv.Batch) bool {
			for _, e := range entries(all, 'd') {
				if d, err := crdt.Open(e.Value); err == nil {
					for range d.Fields() {
						e.Value[len(e.Value)-1] ^= 1
						b.Set(e.Key, e.Value)
						return true
					}
				}
			}
			return false
		}},
		{"an entry of an index is lost", `^I5: .* lacks the entry`, func(all []kv.Entry, b *kv.Batch) bool {
			of := longEntries(all)
			if len(of) > 0 {
				b.Delete(of[0].Key)
			}
			return len(of) > 0
		}},
		{"an entry of an index stays", `^I5: .* for which no document stands`, func(all []kv.Entry, b *kv.Batch) bool {
			of := longEntries(all)
			if len(of) > 0 {
				key := slices.Clone(of[0].Key)
				key[len(key)-1] ^= 1 // of another document
				b.Set(key, nil)
			}
			return len(of) > 0
		}},
		{"a trace is left that no value shows", `^I7: `, haunt},
		{"the count of a collection is wrong", `^(check|count|summary|convergence): `, func(all []kv.Entry, b *kv.Batch) bool {
			for _, e := range entries(all, 'k') {
				e.Value[len(e.Value)-1]++
				b.Set(e.Key, e.Value)
				return true
			}
			return false
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wantFailure(t, c.want, Options{Sabotage: func(d *Damage) bool { return d.Edit(c.damage) }})
		})
	}
}

func TestChecksSeeWrongFeeds(t *testing.T) {
	t.Parallel()
	// number counts on, so that only the mutation is seen.
	number := func(cs []store.Change) []store.Change {
		for i := range cs {
			cs[i].Seq = cs[0].Seq + uint64(i)
		}
		return cs
	}
	for _, c := range []struct {
		name, want string
		tamper     func([]store.Change) []store.Change
	}{
		{"a change comes twice", `^(I1: .* applied twice|I6: .* says number)`, func(cs []store.Change) []store.Change {
			if len(cs) == 0 {
				return cs
			}
			return number(append(cs, cs[0]))
		}},
		{"a child comes before its parent", `^(I2|I6: .* says number)`, func(cs []store.Change) []store.Change {
			for i := 1; i < len(cs); i++ {
				if cs[i].Doc == cs[i-1].Doc && cs[i].Height > cs[i-1].Height {
					a, b := cs[i-1], cs[i]
					a.Seq, b.Seq = b.Seq, a.Seq
					cs[i-1], cs[i] = b, a
					break
				}
			}
			return cs
		}},
		{"a change is left out", `^I6: `, func(cs []store.Change) []store.Change {
			if len(cs) > 1 {
				return cs[1:]
			}
			return cs
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wantFailure(t, c.want, Options{Tamper: c.tamper})
		})
	}
}

func TestChecksSeeDisksThatForget(t *testing.T) {
	t.Parallel()
	wantFailure(t, `^(I8: |unexpected error: )`, Options{Forgetful: true})
}

func TestChecksSeeNodesThatDiffer(t *testing.T) {
	t.Parallel()
	w := smallWorld(t)
	for len(w.nodes[0].applied) == 0 {
		w.nodes[0].create()
	}
	wantStop(t, `^convergence: `, w.converged)
}

func TestChecksSeeChildrenWithoutParents(t *testing.T) {
	t.Parallel()
	w := smallWorld(t)
	n := w.nodes[0]
	for {
		n.create()
		n.change()
		last := n.feed[len(n.feed)-1]
		c := w.commits[last.Commit]
		if len(c.Parents) == 0 {
			continue
		}
		n.feed = n.feed[:len(n.feed)-1]
		delete(n.applied, c.CID)
		delete(n.applied, c.Parents[0])
		wantStop(t, `^I2: .* its parent`, func() { n.take(last) })
		return
	}
}

func smallWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(1, Options{Collections: collections(t)})
	t.Cleanup(w.close)
	w.begin()
	for _, n := range w.nodes {
		n.learn(w.Collections)
	}
	return w
}

// wantStop expects fn to end the history.
func wantStop(t *testing.T, want string, fn func()) {
	t.Helper()
	defer func() {
		if f, ok := recover().(*Failure); !ok || !regexp.MustCompile(want).MatchString(f.What) {
			t.Errorf("got %v, want a failure like %s", f, want)
		}
	}()
	fn()
}

// wantFailure plays histories until one fails, and expects that failure.
func wantFailure(t *testing.T, want string, o Options) {
	t.Helper()
	o.Collections = collections(t)
	for seed := uint64(1); seed < 400; seed++ {
		_, err := Run(seed, nil, o)
		if err == nil {
			continue
		}
		var f *Failure
		if !errors.As(err, &f) || !regexp.MustCompile(want).MatchString(f.What) {
			t.Fatalf("seed %d fails with %v\nwant %s", seed, err, want)
		}
		return
	}
	t.Fatalf("no history fails, want %s", want)
}

func entries(all []kv.Entry, table byte) (of []kv.Entry) {
	for _, e := range all {
		if e.Key[0] == table {
			of = append(of, e)
		}
	}
	return of
}

// longEntries returns the entries of indexes, without those that say how far an index
// is built.
func longEntries(all []kv.Entry) []kv.Entry {
	return slices.DeleteFunc(entries(all, 'x'), func(e kv.Entry) bool { return len(e.Key) < 32 })
}

// exchange swaps two documents of one collection.
func exchange(all []kv.Entry, b *kv.Batch) bool {
	docs := entries(all, 'd')
	for i := 1; i < len(docs); i++ {
		if bytes.Equal(docs[i].Key[:5], docs[i-1].Key[:5]) {
			b.Set(docs[i].Key, docs[i-1].Value)
			b.Set(docs[i-1].Key, docs[i].Value)
			return true
		}
	}
	return false
}

// haunt adds a tombstone of a write that never was to a multi-value register: no
// reader sees it, but the document is not what its commits make.
func haunt(all []kv.Entry, b *kv.Batch) bool {
	for _, e := range entries(all, 'd') {
		at := 1
		number := func() uint64 {
			n, size := binary.Uvarint(e.Value[at:])
			at += size
			return n
		}
		at += int(number()) * 40 // the table of commits
		for range number() {     // the heads
			number()
			number()
		}
		for at < len(e.Value) { // the cells
			number()
			rule := crdt.Rule(e.Value[at])
			at += 2
			size := at
			payload := int(number())
			end := at + payload
			if rule == crdt.MVR {
				ghost := append(bytes.Repeat([]byte{0xff}, 32), 0)
				raw := slices.Clone(e.Value[:size])
				raw = binary.AppendUvarint(raw, uint64(payload+len(ghost)))
				raw = slices.Concat(raw, e.Value[at:end], ghost, e.Value[end:])
				b.Set(e.Key, raw)
				return true
			}
			at = end
		}
	}
	return false
}
