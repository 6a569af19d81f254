package p2p

import (
	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
)

// Scope says which documents of a collection a node keeps.
type Scope = pando.Scope

func appendScope(b []byte, s Scope) []byte { return s.AppendBinary(b) }

func readScope(r *cbor.Reader) Scope { return pando.ReadScope(r) }

// scopeOf returns what this node keeps of a collection: all of it, unless somebody said
// otherwise.
func (n *Node) scopeOf(id dag.CollectionID) Scope {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.scopeHeld(id)
}

// scopeHeld is scopeOf for who holds mu.
func (n *Node) scopeHeld(id dag.CollectionID) Scope {
	if s, ok := n.scopes[id]; ok {
		return s
	}
	return pando.Whole
}

// partial reports whether this node keeps less than all of a collection.
func (n *Node) partial(id dag.CollectionID) bool { return !n.scopeOf(id).Whole }

// hides reports whether a collection is not mentioned to peers of a version of the
// protocol: those of the first know of no parts, and would give and take everything; to
// those of the second nobody has shown yet who they are.
func (n *Node) hides(id dag.CollectionID, version uint64) bool {
	return version < versionOfParts && n.partial(id) || version < versionOfAccess && n.protected(id)
}

// versionOfParts is the version of the protocol that can compare parts of collections.
const versionOfParts = 2
