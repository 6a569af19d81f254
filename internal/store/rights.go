package store

import (
	"slices"
	"strings"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
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

// Rights returns the rights of a document; of one as it was once, those of then. It is
// false for a document in a collection without a policy.
func (tx *Tx) Rights(d Doc) (Rights, bool, error) {
	a, ok, err := accessIfAny(d)
	if err != nil || !ok {
		return Rights{}, false, err
	}
	r, err := tx.RightsIn(a)
	return r, err == nil, err
}

// RightsIn is Rights of what Access returned.
func (tx *Tx) RightsIn(a Access) (Rights, error) {
	r := Rights{Owner: a.Owner(), Tuples: a.Tuples(a.Rules), Voided: a.Voided()}
	for _, name := range a.Rules.Permissions() {
		may, err := tx.reading().allowed(a, name)
		if err != nil {
			return Rights{}, err
		}
		if may {
			r.Permissions = append(r.Permissions, name)
		}
	}
	return r, nil
}

// Allowed reports whether those may do what a permission of the policy says who are
// all of these identities, as far as is known here. Of others the caller is told what
// follows from groups that he may read, manage or belongs to: or whoever knows the name
// of a group could ask who is in it, by a document of his own.
func (tx *Tx) Allowed(d Doc, permission string, keys ...ident.PublicKey) (bool, error) {
	r := tx.Reading(keys...)
	own := tx.who.Keys()
	r.asks = slices.ContainsFunc(keys, func(k ident.PublicKey) bool { return !slices.Contains(own, k) })
	return r.permitted(d, permission)
}

// MayI is Allowed of the caller.
func (tx *Tx) MayI(d Doc, permission string) (bool, error) {
	return tx.reading().permitted(d, permission)
}

func (r *Reading) permitted(d Doc, permission string) (bool, error) {
	a, err := AccessOf(d)
	if err != nil {
		return false, err
	}
	if _, ok := a.Rules.Permission(permission); !ok {
		return false, fault.Invalid.Errorf("the policy of %s has no permission %.140q for resource %s: it has %s",
			d.Collection.Name, permission, d.Collection.Policy.Resource, strings.Join(a.Rules.Permissions(), ", "))
	}
	return r.allowed(a, permission)
}

// seated gives Invalid for a group that the caller may read and that has no such
// relation: nobody will ever be in it.
func (tx *Tx) seated(s acp.Subject) error {
	if s.Relation == "" {
		return nil
	}
	n, d, ok, err := tx.group(dag.DocID(s.Group))
	if err != nil || !ok {
		return err
	}
	g := tx.guard(n)
	if may, err := g.passes(dag.DocID(s.Group), d); err != nil || !may {
		return err
	}
	if _, ok := tx.set.rules[n].Holding(s.Relation); ok {
		return nil
	}
	return fault.Invalid.Errorf("group %s has no relation %.140q: it has %s", dag.DocID(s.Group), s.Relation, strings.Join(tx.set.rules[n].Relations(), ", "))
}

func (r *Reading) allowed(a Access, permission string) (bool, error) {
	if r.all {
		return true, nil
	}
	p, _ := a.Rules.Permission(permission)
	if a.Allows(a.Rules, r.actor, p) {
		return true, nil
	}
	if err := r.failed.Load(); err != nil {
		return false, *err
	}
	return false, nil
}

func accessIfAny(d Doc) (Access, bool, error) {
	if d.Collection.Access() == nil || len(d.State.Attached(crdt.FieldAccess, crdt.KindAccess)) == 0 {
		return Access{}, false, nil
	}
	a, err := AccessOf(d)
	return a, err == nil, err
}
