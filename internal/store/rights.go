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
// relation, or no policy: nobody will ever be in it.
func (tx *Tx) seated(s acp.Subject) error {
	if s.Relation == "" {
		return nil
	}
	n, d, ok, err := tx.group(dag.DocID(s.Group))
	if err != nil {
		return err
	}
	if !ok {
		return tx.governable(dag.DocID(s.Group))
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

// governable gives Invalid for a document of a collection without a policy.
func (tx *Tx) governable(id dag.DocID) error {
	for m := range tx.set.members() {
		if m.View != nil || tx.set.rules[m.short] != nil {
			continue
		}
		if _, ok, err := tx.document(m.short, id); err != nil {
			return err
		} else if ok {
			return fault.Invalid.Errorf("document %s is no group: collection %s has no policy, so nobody is ever in a relation to it", id, m.Name)
		}
	}
	return nil
}

// CannotCheck is a reader of a document who may not read a group whose members may write
// it. Whether they could when they wrote he cannot tell: for him the document stays as it
// was before.
type CannotCheck struct{ Reader, Group acp.Subject }

// maxCannotCheck bounds what is told of them.
const maxCannotCheck = 256

// CannotCheck returns the readers of what Access returned who cannot check what groups
// write, as far as the caller may be told of the groups.
func (tx *Tx) CannotCheck(a Access) (all []CannotCheck, err error) {
	seats := a.Seats(a.Rules.Powers())
	if len(seats) == 0 {
		return nil, nil
	}
	var readers []acp.Subject
	if owner := a.Owner(); owner != "" {
		readers = append(readers, acp.OfKey(owner))
	}
	for _, t := range a.Tuples(a.Rules) {
		if p, ok := a.Rules.Holding(t.Relation); ok && p&a.Rules.Read != 0 && !slices.Contains(readers, t.Subject) {
			readers = append(readers, t.Subject)
		}
	}
	for _, seat := range seats {
		g, ok, err := tx.known(seat)
		if err != nil {
			return nil, err
		}
		for i := 0; ok && i < len(readers); i++ {
			may, err := tx.informs(g, seat, readers[i])
			if err != nil {
				return nil, err
			}
			if !may {
				all = append(all, CannotCheck{readers[i], seat})
			}
			if len(all) == maxCannotCheck {
				return all, nil
			}
		}
	}
	return all, nil
}

// known returns who may do what with a group, if the caller may be told of it.
func (tx *Tx) known(seat acp.Subject) (a Access, ok bool, err error) {
	n, d, ok, err := tx.group(dag.DocID(seat.Group))
	if err == nil && ok {
		ok, err = tx.knows(n, dag.DocID(seat.Group), d, anyRelation)
	}
	if err != nil || !ok {
		return a, false, err
	}
	s, err := accessState(dag.DocID(seat.Group), d)
	return Access{s, tx.set.rules[n]}, err == nil, err
}

// informs reports whether those may read a group who are the subject.
func (tx *Tx) informs(g Access, seat, reader acp.Subject) (bool, error) {
	if reader.Key != "" {
		r := tx.Reading(reader.Key)
		r.asks = true
		return r.allowed(g, "read")
	}
	if p, ok := g.Rules.Holding(seat.Relation); ok && p&g.Rules.Read != 0 && reader == seat {
		return true, nil
	}
	return slices.ContainsFunc(g.Tuples(g.Rules), func(t acp.Tuple) bool {
		p, ok := g.Rules.Holding(t.Relation)
		return ok && p&g.Rules.Read != 0 && (t.Subject.All || t.Subject == reader)
	}), nil
}

// informed gives Denied for access operations after which the owner of the document, as far
// as is known here, may not read a group that may write it.
func (tx *Tx) informed(a Access, ops []acp.Op) error {
	owner, seats := a.Owner(), granted(a.Rules, ops)
	for _, o := range ops {
		if o.Kind == acp.Transfer {
			owner, seats = o.Subject.Key, append(seats, a.Seats(a.Rules.Powers())...)
		}
	}
	if owner == "" {
		return nil
	}
	for _, seat := range seats {
		g, ok, err := tx.known(seat)
		if err == nil && ok {
			ok, err = tx.informs(g, seat, acp.OfKey(owner))
			if err == nil && !ok {
				err = fault.Denied.Errorf("%s, who would own the document, may not read group %s, and could not check what its members write: let the owner read the group first", owner, dag.DocID(seat.Group))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
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
