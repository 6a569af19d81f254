package pando

import (
	"context"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// naming are the documents of a collection that grant something to groups, and all
// groups that are meant by it, also through groups within them. Whoever joins or leaves
// one of these may read others of the documents, none of which has changed.
type naming struct {
	docs   map[DocID][]DocID // the groups that they name
	groups map[DocID]bool
	stale  bool // groups are to be found anew
}

// maxMeant bounds the groups that are followed. Behind them, what a change means shows
// when the documents change, or are all found anew.
const maxMeant = 1 << 16

// changed notes a change of a document of any collection, and returns whether others
// are to be looked at because of it.
func (n *naming) changed(doc DocID) bool {
	if !n.groups[doc] {
		return false
	}
	n.stale = true
	return true
}

// look notes which groups some documents name; nil are all of the collection.
func (n *naming) look(ctx context.Context, db *DB, coll CollectionID, docs []DocID) error {
	return db.store.View(ctx, store.System, func(tx *store.Tx) error {
		c, ok := tx.Set().ByID(coll)
		if !ok {
			return nil
		}
		all := tx.GetMany(c, docs)
		if docs == nil {
			n.docs, n.stale = map[DocID][]DocID{}, true
			all = tx.Scan(c, store.Range{Deleted: true})
		}
		for d, err := range all {
			if err == nil {
				err = n.note(d)
			}
			if err != nil {
				return err
			}
		}
		if !n.stale {
			return nil
		}
		return n.follow(tx)
	})
}

func (n *naming) note(d store.Doc) error {
	named, err := groupsOf(d)
	if err != nil {
		return err
	}
	switch {
	case len(named) > 0:
		n.docs[d.ID], n.stale = named, true
	case n.docs[d.ID] != nil:
		delete(n.docs, d.ID)
		n.stale = true
	}
	return nil
}

// follow finds all groups that are meant.
func (n *naming) follow(tx *store.Tx) error {
	var protected []*schema.Collection
	for _, c := range tx.Set().Collections() {
		if c.Access() != nil {
			protected = append(protected, c)
		}
	}
	n.groups, n.stale = map[DocID]bool{}, false
	var next []DocID
	add := func(named []DocID) {
		for _, g := range named {
			if !n.groups[g] && len(n.groups) < maxMeant {
				n.groups[g] = true
				next = append(next, g)
			}
		}
	}
	for _, named := range n.docs {
		add(named)
	}
	for len(next) > 0 {
		some := next
		next = nil
		for _, c := range protected {
			for d, err := range tx.GetMany(c, some) {
				if err != nil {
					return err
				}
				named, err := groupsOf(d)
				if err != nil {
					return err
				}
				add(named)
			}
		}
	}
	return nil
}

// groupsOf returns the groups to which a document grants something.
func groupsOf(d store.Doc) ([]DocID, error) {
	raw := d.State.Attached(crdt.FieldAccess, crdt.KindAccess)
	if len(raw) == 0 {
		return nil, nil
	}
	st, err := acp.Open(raw)
	if err != nil {
		return nil, err
	}
	var named []DocID
	for _, g := range st.Groups() {
		named = append(named, DocID(g))
	}
	return named, nil
}
