package pando

import (
	"bytes"
	"slices"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// OpenCollection decodes the definition of a version of a collection, as nodes send it. Its
// Version is the hash of these very bytes.
func OpenCollection(definition []byte) (*Collection, error) { return schema.Decode(definition) }

// Creates returns why the proposal is not exactly the beginning of a document of a
// collection with these fields, or nil. What the fields are written as is worked out
// here, not taken from whoever prepared it; only the random part of a unique docID is theirs.
func (p Proposal) Creates(c *Collection, fields any) error {
	in, err := inputs(fields)
	if err != nil {
		return err
	}
	want, err := c.Create(in)
	if err != nil {
		return err
	}
	if err := p.within(c); err != nil {
		return err
	}
	root := p.commit.Root
	switch {
	case root == nil || p.Deletes:
		return fault.Denied.Errorf("it does not begin a document")
	case root.Mode != c.Mode || len(root.Namespace) > 0 || root.Mode == dag.ModeKeyed && !bytes.Equal(root.Seed, keyedSeed(c, want)):
		return fault.Denied.Errorf("it begins another document than that of these fields")
	case len(p.deltas) != len(want) || !allAmong(p.deltas, want):
		return fault.Denied.Errorf("it writes other fields than it should")
	}
	return nil
}

func keyedSeed(c *Collection, deltas []crdt.Delta) []byte {
	var keys []crdt.Delta
	for _, k := range c.Keys {
		for _, d := range deltas {
			if d.Field == k {
				keys = append(keys, d)
			}
		}
	}
	return dag.KeyedSeed(keys)
}

// Updates returns why the proposal does something else than to write these fields of a
// document, or some of them, or nil: those that have their value already are not written again.
func (p Proposal) Updates(c *Collection, doc DocID, fields any) error {
	in, err := inputs(fields)
	if err != nil {
		return err
	}
	want, err := c.Update(crdt.Document{}, in)
	if err != nil {
		return err
	}
	for _, i := range in { // on a document without values null changes nothing
		if f, ok := c.Field(i.Name); ok && i.Val.IsNull() && !f.IsVirtual() {
			want = append(want, crdt.Delta{Field: f.ID, Kind: f.Kind()})
		}
	}
	if err := p.within(c); err != nil {
		return err
	}
	switch {
	case p.Begins || p.Doc != doc:
		return fault.Denied.Errorf("it is about document %s, and not about %s", p.Doc, doc)
	case p.Deletes || !allAmong(p.deltas, want):
		return fault.Denied.Errorf("it writes other fields than it should")
	}
	return nil
}

// DeletesOnly returns why the proposal does something else than to delete a document, or
// nil.
func (p Proposal) DeletesOnly(c *Collection, doc DocID) error {
	if err := p.within(c); err != nil {
		return err
	}
	if p.Begins || p.Doc != doc || len(p.deltas) != 1 || !allAmong(p.deltas, []crdt.Delta{{Field: crdt.FieldStatus, Kind: crdt.KindStatus, Val: value.OfBool(true)}}) {
		return fault.Denied.Errorf("it does something else than to delete document %s", doc)
	}
	return nil
}

// within returns why the proposal is not one of that version of a collection, or nil.
func (p Proposal) within(c *Collection) error {
	if p.commit == nil || p.Collection != c.ID || p.Version != c.Version {
		return fault.Denied.Errorf("it writes to version %s of collection %s, and not to %s %s", p.Version, p.Collection, c.Name, c.Version)
	}
	return nil
}

// allAmong reports whether every operation is one of those wanted, and none is there
// twice. Which writes a multi-value register overwrites is not compared: that depends on
// what was there.
func allAmong(got, want []crdt.Delta) bool {
	want = slices.Clone(want)
	for _, d := range got {
		i := slices.IndexFunc(want, func(w crdt.Delta) bool { return !d.Void && bytes.Equal(said(w), said(d)) })
		if i < 0 {
			return false
		}
		want = slices.Delete(want, i, i+1)
	}
	return true
}

// said is what an operation says, in its one form.
func said(d crdt.Delta) []byte {
	return crdt.AppendDelta(nil, crdt.Delta{Field: d.Field, Kind: d.Kind, Val: d.Val})
}
