package veil_test

import (
	"bytes"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/veil"
)

// What is read as an operation has one form, and what it amounts to is a state whose
// bytes open as the same.
func FuzzOps(f *testing.F) {
	_, ann := newWorld(f)
	if _, err := ann.write("", grant("reader", acp.OfKey(people[1].Public()))); err != nil {
		f.Fatal(err)
	}
	if _, err := ann.write("", revoke("reader", acp.OfKey(people[1].Public()))); err != nil {
		f.Fatal(err)
	}
	if _, err := ann.write("", grant("reader", acp.Everyone)); err != nil {
		f.Fatal(err)
	}
	for _, e := range ann.order {
		for _, d := range e.Deltas {
			if d.Field == crdt.FieldKeys {
				f.Add(d.Raw)
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := cbor.NewReader(raw)
		r.Skip()
		if r.Done() != nil {
			return // not what a commit can hold
		}
		d := crdt.Delta{Field: crdt.FieldKeys, Kind: crdt.KindKeys, Void: true, Raw: raw}
		ops, err := veil.Ops([]crdt.Delta{d})
		if err != nil {
			return
		}
		if got := ops[0].Delta().Raw; !bytes.Equal(got, raw) {
			t.Fatalf("%x is read, and written as %x", raw, got)
		}
		s := veil.State{}.Add(acp.ID{1}, 1, ops)
		same, err := veil.Open(s.Bytes())
		if err != nil || !bytes.Equal(same.Bytes(), s.Bytes()) {
			t.Fatalf("%x makes %x, which opens as %x, %v", raw, s.Bytes(), same.Bytes(), err)
		}
	})
}

// Bytes that open are canonical, whoever made them.
func FuzzState(f *testing.F) {
	_, ann := newWorld(f)
	f.Add(ann.keys.Bytes())
	f.Add(ann.keys.WithLocked(true).Bytes())
	if _, err := ann.write("", revoke("reader", acp.OfKey(people[1].Public()))); err != nil {
		f.Fatal(err)
	}
	f.Add(ann.keys.Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := veil.Open(raw)
		if err != nil {
			return
		}
		if got := s.Bytes(); !bytes.Equal(got, raw) {
			t.Fatalf("%x opens as %x", raw, got)
		}
		if s.Locked() != veil.Locked(raw) {
			t.Fatalf("%x: locked %v", raw, s.Locked())
		}
		s.Cover()
	})
}

// Whatever a segment holds, to open it is no more than to read it.
func FuzzSegment(f *testing.F) {
	f.Add([]byte{0x80}, uint64(1))
	f.Add([]byte{0x81, 0x83, 0x11, 0x19, 0x01, 0x06, 0x61, 0x61}, uint64(17))
	secret := veil.Secret{7}
	doc := acp.ID{1}
	epoch := secret.Epoch(doc)
	state := veil.State{}.Add(acp.ID{9}, 1, []veil.Op{{Kind: veil.Begin, Epoch: epoch}})
	f.Fuzz(func(t *testing.T, text []byte, group uint64) {
		c := &dag.Commit{Author: dag.Author{Key: people[0].Public()}, Height: 2, HLC: 77, Doc: dag.DocID(doc)}
		sealed, err := veil.SealText(veil.Key{Epoch: epoch, Secret: secret}, c, group, text, chance(1))
		if err != nil {
			t.Fatal(err)
		}
		c.Segs = []dag.Segment{{Group: group, Epoch: epoch.Number()}}
		c.Payload = [][]byte{sealed}
		if group == 0 {
			return
		}
		found := veil.NewFinder(doc, state, nil, map[veil.EpochID]veil.Secret{epoch: secret}, nil)
		deltas, ok, err := found.Open(c, veil.Standing{})
		if err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
		for _, d := range deltas {
			if !d.Void && (d.Field < crdt.FirstField || group != veil.GroupDocument && uint64(d.Field) != group) {
				t.Fatalf("segment of group %d writes field %d", group, d.Field)
			}
		}
	})
}
