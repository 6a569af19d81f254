package crdt_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

var (
	lwwInt     = crdt.KindOf(crdt.LWW, value.TypeInt)
	lwwString  = crdt.KindOf(crdt.LWW, value.TypeString)
	pcountInt  = crdt.KindOf(crdt.PCounter, value.TypeInt)
	countInt   = crdt.KindOf(crdt.PNCounter, value.TypeInt)
	countFloat = crdt.KindOf(crdt.PNCounter, value.TypeFloat64)
	count32    = crdt.KindOf(crdt.PNCounter, value.TypeFloat32)
	mvrString  = crdt.KindOf(crdt.MVR, value.TypeString)
	mvrInt     = crdt.KindOf(crdt.MVR, value.TypeInt)
)

// id names a commit of a test.
func id(name string) [32]byte { return sha256.Sum256([]byte(name)) }

// ids sorts and returns the identities of commits.
func ids(names ...string) [][32]byte {
	var out [][32]byte
	for _, n := range names {
		out = append(out, id(n))
	}
	slices.SortFunc(out, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	return out
}

func set(f crdt.FieldID, k crdt.Kind, v value.Value, over ...crdt.Tag) crdt.Delta {
	slices.SortFunc(over, crdt.Tag.Compare)
	return crdt.Delta{Field: f, Kind: k, Val: v, Over: over}
}

func add(f crdt.FieldID, n int64) crdt.Delta {
	return crdt.Delta{Field: f, Kind: countInt, Val: value.OfInt(n)}
}

// replica is one node's copy of a document.
type replica struct {
	doc  crdt.Document
	seen map[[32]byte]bool
}

// take folds a commit that the replica does not have yet.
func (r *replica) take(c crdt.Change) error {
	if r.seen == nil {
		r.seen = map[[32]byte]bool{}
	}
	next, err := r.doc.Fold(c, func(id [32]byte) bool { return r.seen[id] })
	if err != nil {
		return err
	}
	r.doc, r.seen[c.Commit] = next, true
	return nil
}

// takeAll folds the commits in that order.
func takeAll(commits []crdt.Change) (crdt.Document, error) {
	var r replica
	for _, c := range commits {
		if err := r.take(c); err != nil {
			return crdt.Document{}, err
		}
	}
	return r.doc, nil
}

// orders calls f with every topological order of the commits.
func orders(commits []crdt.Change, f func([]crdt.Change)) {
	var walk func(done, left []crdt.Change)
	walk = func(done, left []crdt.Change) {
		if len(left) == 0 {
			f(done)
		}
		for i, c := range left {
			if ready(c, left) {
				rest := slices.Delete(slices.Clone(left), i, i+1)
				walk(append(slices.Clone(done), c), rest)
			}
		}
	}
	walk(nil, commits)
}

// ready reports whether no parent of c is left.
func ready(c crdt.Change, left []crdt.Change) bool {
	return !slices.ContainsFunc(left, func(p crdt.Change) bool { return slices.Contains(c.Parents, p.Commit) })
}

// shuffled draws a topological order of the commits.
func shuffled(t *rapid.T, commits []crdt.Change) []crdt.Change {
	var out []crdt.Change
	for left := slices.Clone(commits); len(left) > 0; {
		var can []int
		for i, c := range left {
			if ready(c, left) {
				can = append(can, i)
			}
		}
		i := rapid.SampledFrom(can).Draw(t, "next")
		out = append(out, left[i])
		left = slices.Delete(left, i, i+1)
	}
	return out
}

// genHistory draws commits, parents first, of authors who keep to no rule but that
// parents exist: clocks and heights are arbitrary and often equal, operations may
// be malformed, overwrite writes that are concurrent, later, their own or of no
// commit, and hit one field several times.
func genHistory(t *rapid.T) []crdt.Change {
	n := rapid.IntRange(1, 12).Draw(t, "commits")
	salt := rapid.Uint16().Draw(t, "salt")
	names := make([][32]byte, n+1) // one more, which never arrives
	for i := range names {
		names[i] = id(fmt.Sprint(salt, "/", i))
	}
	commits := make([]crdt.Change, n)
	for i := range commits {
		c := crdt.Change{
			Commit: names[i],
			Height: rapid.Uint64Range(0, 3).Draw(t, "height"),
			HLC:    rapid.Uint64Range(0, 3).Draw(t, "hlc"),
			Void:   rapid.IntRange(0, 9).Draw(t, "void") == 0,
		}
		if i > 0 {
			for _, p := range rapid.SliceOfNDistinct(rapid.IntRange(0, i-1), 0, 3, rapid.ID[int]).Draw(t, "parents") {
				c.Parents = append(c.Parents, names[p])
			}
		}
		for range rapid.IntRange(0, 4).Draw(t, "ops") {
			c.Deltas = append(c.Deltas, genDelta(t, names))
		}
		commits[i] = c
	}
	return commits
}

// genDelta draws an operation and passes it through its commit form.
func genDelta(t *rapid.T, commits [][32]byte) crdt.Delta {
	field := rapid.SampledFrom([]crdt.FieldID{crdt.FieldStatus, 16, 17, 1 << 20}).Draw(t, "field")
	kind := rapid.SampledFrom([]crdt.Kind{
		lwwInt, lwwString, crdt.KindStatus, pcountInt, countInt, countFloat, count32,
		mvrString, mvrString, mvrInt, mvrInt, crdt.KindOf(9, value.TypeInt),
	}).Draw(t, "kind")
	b := cbor.AppendArray(nil, 3)
	b = cbor.AppendUint(b, uint64(field))
	b = cbor.AppendUint(b, uint64(kind))
	b = genArgument(t, b, kind, commits)
	r := cbor.NewReader(b)
	d := crdt.ReadDelta(r)
	if err := r.Done(); err != nil {
		t.Fatalf("read operation %x: %v", b, err)
	}
	if got := crdt.AppendDelta(nil, d); !bytes.Equal(got, b) {
		t.Fatalf("operation %x is written again as %x", b, got)
	}
	return d
}

func genArgument(t *rapid.T, b []byte, k crdt.Kind, commits [][32]byte) []byte {
	if rapid.IntRange(0, 9).Draw(t, "junk") == 0 {
		return genScalar(t, b, rapid.SampledFrom([]value.Type{value.TypeString, value.TypeInt, value.TypeBoolean}).Draw(t, "type"))
	}
	switch k.Rule() {
	case crdt.PCounter, crdt.PNCounter:
		if k.Type() == value.TypeInt {
			return cbor.AppendInt(b, rapid.OneOf(rapid.Int64Range(-3, 3), rapid.Int64()).Draw(t, "increment"))
		}
		return cbor.AppendText(b, genDecimal(t))
	case crdt.MVR:
		b = genScalar(t, cbor.AppendArray(b, 2), k.Type())
		tags := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) crdt.Tag {
			return crdt.Tag{Commit: rapid.SampledFrom(commits).Draw(t, "commit"), Op: rapid.Uint32Range(0, 3).Draw(t, "op")}
		}), 0, 4).Draw(t, "over")
		if rapid.IntRange(0, 9).Draw(t, "unsorted") > 0 {
			slices.SortFunc(tags, crdt.Tag.Compare)
			tags = slices.Compact(tags)
		}
		b = cbor.AppendArray(b, len(tags))
		for _, tag := range tags {
			b = cbor.AppendBytes(cbor.AppendArray(b, 2), tag.Commit[:])
			b = cbor.AppendUint(b, uint64(tag.Op))
		}
		return b
	}
	return genScalar(t, b, k.Type())
}

func genScalar(t *rapid.T, b []byte, as value.Type) []byte {
	if rapid.IntRange(0, 4).Draw(t, "null") == 0 {
		return cbor.AppendNull(b)
	}
	switch as {
	case value.TypeString:
		return cbor.AppendText(b, rapid.SampledFrom([]string{"", "a", "bee", "a rather long text"}).Draw(t, "text"))
	case value.TypeBoolean:
		return cbor.AppendBool(b, rapid.Bool().Draw(t, "bool"))
	}
	return cbor.AppendInt(b, rapid.Int64Range(-2, 1000).Draw(t, "int"))
}

func genDecimal(t *rapid.T) string {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"0", "0.1", "-0.1", "0.2", "12.5", "-12.5", "100", "1.", "-0", "1e3"}),
		rapid.StringMatching(`-?[1-9][0-9]{0,40}(\.[0-9]{0,40}[1-9])?`),
		rapid.StringMatching(`-?0\.[0-9]{0,324}[1-9]`),
	).Draw(t, "decimal")
}
