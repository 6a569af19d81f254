package store

import (
	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Rights is what a document says of who may do what with it.
type Rights struct {
	Owner       ident.PublicKey // "": nobody, because two transfers contradict each other
	Permissions []string        // those that the caller has, sorted
	Tuples      []acp.Tuple     // sorted by subject
	Voided      int             // how many commits do not count
}

// Rights returns the rights of a document. It is false for one that has none: in a
// collection without a policy, or shown as it was once.
func (tx *Tx) Rights(d Doc) (Rights, bool, error) {
	rules := d.Collection.Access()
	raw := d.State.Attached(crdt.FieldAccess, crdt.KindAccess)
	if rules == nil || len(raw) == 0 {
		return Rights{}, false, nil
	}
	s, err := acp.Open(raw)
	if err != nil {
		return Rights{}, false, fault.Corrupt.Errorf("document %s: %w: run pando fsck --rebuild", d.ID, err)
	}
	r := Rights{Owner: s.Owner(), Tuples: s.Tuples(rules), Voided: s.Voided()}
	actor := tx.reading().actor
	for _, name := range rules.Permissions() {
		p, _ := rules.Permission(name)
		if tx.who.system || s.Allows(rules, actor, p) {
			r.Permissions = append(r.Permissions, name)
		}
	}
	if err := tx.reading().failed.Load(); err != nil {
		return Rights{}, false, *err
	}
	return r, true, nil
}
