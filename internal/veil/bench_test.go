package veil_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/veil"
)

func sealedLetter(b *testing.B) (veil.Key, *dag.Commit) {
	k := veil.Key{Secret: veil.Secret{7}}
	k.Epoch = k.Secret.Epoch(acp.ID{1})
	c := &dag.Commit{Author: dag.Author{Key: people[0].Public()}, Height: 2, HLC: 77, Doc: dag.DocID{1}}
	c.Deltas = []crdt.Delta{set(body, strings.Repeat("x", 190))}
	if err := k.Seal(c, veil.Cover{All: true}, chance(1)); err != nil {
		b.Fatal(err)
	}
	return k, c
}

func BenchmarkSealSegment(b *testing.B) {
	k, _ := sealedLetter(b)
	deltas := []crdt.Delta{set(body, strings.Repeat("x", 190))}
	rand := chance(1)
	b.ReportAllocs()
	for b.Loop() {
		c := &dag.Commit{Author: dag.Author{Key: people[0].Public()}, Height: 2, HLC: 77, Doc: dag.DocID{1}, Deltas: deltas}
		if err := k.Seal(c, veil.Cover{All: true}, rand); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenSegment(b *testing.B) {
	k, c := sealedLetter(b)
	state := veil.State{}.Add(acp.ID{9}, 1, []veil.Op{{Kind: veil.Begin, Epoch: k.Epoch}})
	f := veil.NewFinder(acp.ID{1}, state, nil, map[veil.EpochID]veil.Secret{k.Epoch: k.Secret}, nil)
	b.ReportAllocs()
	for b.Loop() {
		if deltas, ok, err := f.Open(c, veil.Standing{}); err != nil || !ok || len(deltas) != 1 {
			b.Fatal(len(deltas), ok, err)
		}
	}
}

func BenchmarkBeginEpoch(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n, " readers"), func(b *testing.B) {
			var readers veil.Readers
			rand := chance(2)
			for range n {
				k, err := ident.GenerateFrom(ident.EdDSA, rand)
				if err != nil {
					b.Fatal(err)
				}
				readers.Keys = append(readers.Keys, k.Public())
			}
			for b.Loop() {
				if _, err := (veil.Cover{All: true}).Begin(acp.ID{1}, readers, nil, rand); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFindSecret(b *testing.B) {
	_, ann := newWorld(b)
	epoch := ann.keys.Epochs()[0]
	for b.Loop() {
		if _, ok, err := ann.finder(people[0]).Secret(epoch); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}

// A writer in a document whose readers changed a hundred times.
func BenchmarkPlanAboveAHundredEpochs(b *testing.B) {
	_, ann := newWorld(b)
	bo := acp.OfKey(people[1].Public())
	for range 100 {
		if _, err := ann.write("", grant("reader", bo)); err != nil {
			b.Fatal(err)
		}
		if _, err := ann.write("", revoke("reader", bo)); err != nil {
			b.Fatal(err)
		}
	}
	c := &dag.Commit{Author: dag.Author{Key: people[0].Public()}, Parents: ann.heads, Deltas: []crdt.Delta{set(body, "x")}}
	a, err := ann.standing(c)
	if err != nil {
		b.Fatal(err)
	}
	at := veil.Standing{Rules: rules, Access: ann.access, Before: a.Before, Need: a.Need}
	known := ann.finder(people[0])
	for _, e := range ann.keys.Epochs() {
		if _, ok, err := known.Secret(e); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
	for b.Loop() {
		f := veil.NewFinder(ann.doc, ann.keys, people[:1], known.Found(), ann.source)
		if p, err := f.Plan(at, ann.readers(), ann.rand); err != nil || len(p.Ops) > 0 {
			b.Fatal(len(p.Ops), err)
		}
	}
}

// Whoever owns a document begins as many epochs as he may, each linked to the one before,
// and gives the keys to nobody who keeps it: what it costs to find that out, once and for
// each further segment.
func BenchmarkFindNoSecret(b *testing.B) {
	for _, n := range []int{250, 1000, 4000} {
		var state veil.State
		doc, ops := acp.ID{1}, map[acp.ID][]veil.Op{}
		var first, last veil.EpochID
		for i := range n {
			e := veil.Secret{byte(i), byte(i >> 8), 1}.Epoch(doc)
			id := acp.ID(e)
			ops[id] = []veil.Op{{Kind: veil.Begin, Epoch: e}}
			if i == 0 {
				first = e
			} else {
				ops[id] = append(ops[id], veil.Op{Kind: veil.Link, Epoch: e, Older: last, Sealed: make([]byte, 72)})
			}
			last = e
			state = state.Add(id, uint64(i+1), ops[id])
		}
		source := func(id acp.ID) ([]veil.Op, error) { return ops[id], nil }
		find := func(b *testing.B, f *veil.Finder) {
			if _, ok, err := f.Secret(first); ok || err != nil {
				b.Fatal(ok, err)
			}
		}
		b.Run(fmt.Sprint(n, "/once"), func(b *testing.B) {
			for b.Loop() {
				find(b, veil.NewFinder(doc, state, people[:1], nil, source))
			}
		})
		b.Run(fmt.Sprint(n, "/again"), func(b *testing.B) {
			f := veil.NewFinder(doc, state, people[:1], nil, source)
			for b.Loop() {
				find(b, f)
			}
		})
	}
}
