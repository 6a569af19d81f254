package p2p

import (
	"slices"
	"testing"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
)

// A scope is written in one way only, and read in no other.
func TestScopeHasOneForm(t *testing.T) {
	t.Parallel()
	a, b := dag.DocID{1}, dag.DocID{2}
	for _, s := range []Scope{pando.Whole, {}, {Filter: "{stars: {_gt: 3}}"}, {Docs: []dag.DocID{a, b}}, {Filter: "{}", Docs: []dag.DocID{b}}} {
		r := cbor.NewReader(appendScope(nil, s))
		if got := readScope(r); r.Done() != nil || !got.Equal(s) {
			t.Errorf("scope %s came back as %s, %v", s, got, r.Done())
		}
	}
	if got, want := appendScope(nil, Scope{Filter: " {} ", Docs: []dag.DocID{b, a, b}}), appendScope(nil, Scope{Filter: "{}", Docs: []dag.DocID{a, b}}); !slices.Equal(got, want) {
		t.Errorf("the same scope in other words: %x and %x", got, want)
	}
	pair := func(filter string, docs []byte) []byte {
		return cbor.AppendBytes(cbor.AppendText(cbor.AppendArray(nil, 2), filter), docs)
	}
	for what, bad := range map[string][]byte{
		"space around the filter": pair(" {}", nil),
		"documents out of order":  pair("", slices.Concat(b[:], a[:])),
		"a document twice":        pair("", slices.Concat(a[:], a[:])),
		"half a docID":            pair("", a[:16]),
		"a filter without end":    pair(string(make([]byte, 16<<10+1)), nil),
		"too many documents":      pair("", make([]byte, 32*(pando.MaxScopeDocs+1))),
	} {
		r := cbor.NewReader(bad)
		if readScope(r); r.Done() == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
