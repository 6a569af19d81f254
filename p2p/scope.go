package p2p

import (
	"context"
	"maps"
	"slices"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Scope says which documents of a collection a node keeps.
type Scope = pando.Scope

// maxFilter is how long the text of a filter may be: as long as the database takes.
const maxFilter = 16 << 10

// noteScope is where it is remembered what is kept of a collection that is not kept
// whole.
const noteScope = "p2p/scope/" // ‖ collection: [filter, docIDs]

// appendScope writes a scope in its canonical form: null if it is everything.
func appendScope(b []byte, s Scope) []byte {
	if s = s.Canonical(); s.Whole {
		return cbor.AppendNull(b)
	}
	b = cbor.AppendText(cbor.AppendArray(b, 2), s.Filter)
	packed := make([]byte, 0, 32*len(s.Docs))
	for _, d := range s.Docs {
		packed = append(packed, d[:]...)
	}
	return cbor.AppendBytes(b, packed)
}

func readScope(r *cbor.Reader) Scope {
	if r.Null() {
		return pando.Whole
	}
	tuple(r, 2)
	s := Scope{Filter: r.Text()}
	packed := r.Bytes()
	if r.Err() != nil {
		return s
	}
	if len(s.Filter) > maxFilter {
		r.Fail(fault.TooLarge.Errorf("a filter of %d bytes, allowed are %d", len(s.Filter), maxFilter))
	}
	if len(packed)%32 != 0 || len(packed) > 32*pando.MaxScopeDocs {
		r.Fail(fault.Invalid.Errorf("docIDs of %d bytes in all, want at most %d of 32", len(packed), pando.MaxScopeDocs))
		return s
	}
	for ; len(packed) > 0; packed = packed[32:] {
		s.Docs = append(s.Docs, dag.DocID(packed))
	}
	if c := s.Canonical(); c.Filter != s.Filter || !slices.Equal(c.Docs, s.Docs) {
		r.Fail(fault.Invalid.Errorf("a scope that is not in its canonical form"))
	}
	return s
}

func (n notes) scopes() (map[dag.CollectionID]Scope, error) {
	found := map[dag.CollectionID]Scope{}
	err := n.each(noteScope, func(key string, r *cbor.Reader) error {
		if len(key) != 32 {
			return fault.Corrupt.Errorf("its key is not a collection id")
		}
		found[dag.CollectionID([]byte(key))] = readScope(r)
		return nil
	})
	return found, err
}

// putScope remembers what is kept of a collection.
func (n notes) putScope(id dag.CollectionID, s Scope) error {
	var note []byte
	if !s.Whole {
		note = appendScope(nil, s)
	}
	return n.put(map[string][]byte{noteScope + string(id[:]): note})
}

// scopeOf returns what this node keeps of a collection: all of it, unless somebody said
// otherwise.
func (n *Node) scopeOf(id dag.CollectionID) Scope {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.scopes[id]; ok {
		return s
	}
	return pando.Whole
}

// partial reports whether this node keeps less than all of a collection.
func (n *Node) partial(id dag.CollectionID) bool { return !n.scopeOf(id).Whole }

// partials returns the collections of which this node keeps a part, or nothing.
func (n *Node) partials() map[dag.CollectionID]Scope {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.scopes)
}

// matches reports whether a document is here and belongs to a scope. Whoever asks often
// keeps the Matcher of n.replica instead.
func (n *Node) matches(ctx context.Context, id dag.CollectionID, s Scope, doc dag.DocID) (bool, error) {
	m, err := n.replica.Matcher(id, s)
	if err != nil {
		return false, err
	}
	return m.Matches(ctx, doc)
}
