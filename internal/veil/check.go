package veil

import (
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// History is the access history of a document: acp.State and acp.Review are.
type History interface {
	StandsOnAll(acp.Frontier) bool
	Past(acp.Frontier) (*acp.Past, error)
}

// Standing is where a commit stands in the access history of its document.
type Standing struct {
	Rules  *acp.Rules
	Access History // at least with what the commit stands on; nil: it stands on all
	Before acp.Frontier
	Need   acp.Need
}

// view is what a commit stands on, as far as keys go.
type view struct {
	Standing
	cover  Cover
	epochs []begun // sorted by ID

	past *acp.Past // nil until somebody asks
}

// begun is an epoch, and the commits that began it: one, unless somebody copied its
// name.
type begun struct {
	id     EpochID
	by     []*giver
	linked bool // its secret is sealed under a later one
}

func (s State) view(at Standing) (*view, error) {
	v := &view{Standing: at, epochs: make([]begun, len(s.epochs))}
	for i, e := range s.epochs {
		v.epochs[i].id = e
	}
	all := at.Access == nil || at.Access.StandsOnAll(at.Before)
	for i := range s.commits {
		g := &s.commits[i]
		if !all {
			if below, err := v.has(g.id); err != nil {
				return nil, err
			} else if !below {
				continue
			}
		}
		if !g.cover.None() {
			v.cover = v.cover.with(g.cover)
		}
		for _, m := range g.names {
			if at, ok := v.find(m.epoch); ok && m.begins {
				v.epochs[at].by = append(v.epochs[at].by, g)
			}
		}
	}
	v.epochs = slices.DeleteFunc(v.epochs, func(e begun) bool { return len(e.by) == 0 })
	for i := range s.commits {
		for _, m := range s.commits[i].names {
			if at, ok := v.find(m.epoch); ok && m.linked {
				v.epochs[at].linked = true
			}
		}
	}
	return v, nil
}

func (v *view) find(e EpochID) (int, bool) {
	return slices.BinarySearchFunc(v.epochs, e, func(b begun, e EpochID) int { return b.id.Compare(e) })
}

func (v *view) below() (*acp.Past, error) {
	var err error
	if v.past == nil {
		v.past, err = v.Access.Past(v.Before)
	}
	return v.past, err
}

func (v *view) has(event ID) (bool, error) {
	p, err := v.below()
	return err == nil && p.Has(event), err
}

// fresh reports whether the epoch began above all that took a right to read away from
// somebody below the commit.
func (v *view) fresh(e *begun) (bool, error) {
	if v.Rules.Removes(v.Need) {
		return false, nil
	}
	if len(v.Before) == 1 && len(e.by) == 1 && v.Before[0] == e.by[0].id {
		return true, nil // nothing stands between
	}
	p, err := v.below()
	if err != nil {
		return false, err
	}
	for _, r := range p.Removals(v.Rules) {
		for _, g := range e.by {
			if r != g.id && !p.StandsOn(g.id, r) {
				return false, nil
			}
		}
	}
	return true, nil
}

func invalid(format string, args ...any) error { return fault.Invalid.Errorf(format, args...) }

// Check returns Invalid if a commit breaks a rule of encryption, as everybody can
// tell by it and its ancestors: ops are its own operations on keys. It is for commits
// of a collection with a policy.
//
// What is to be encrypted is; and a segment is sealed under an epoch that began above
// everything below the commit by which somebody lost a right to read.
func (s State) Check(c *dag.Commit, ops []Op, at Standing) error {
	v, err := s.view(at)
	if err != nil {
		return err
	}
	began, err := v.checkOps(c, ops)
	if err != nil {
		return err
	}
	if c.Kind != dag.Write {
		return nil
	}
	for i := range c.Deltas {
		if g := v.cover.Group(c.Deltas[i].Field); g != 0 {
			return invalid("operation %d on field %d is in clear, and in this document the field is encrypted", i, c.Deltas[i].Field)
		}
	}
	for _, seg := range c.Segs {
		if seg.Group == 0 {
			continue
		}
		if !v.cover.has(seg.Group) {
			return invalid("segment of group %d: nothing of the document is encrypted for that group", seg.Group)
		}
		if began != nil && began.Number() == seg.Epoch {
			continue
		}
		if err := v.checkEpoch(seg.Epoch); err != nil {
			return err
		}
	}
	return nil
}

// checkEpoch checks that segments may be sealed under an epoch with that number.
func (v *view) checkEpoch(number uint64) error {
	known := false
	for i := range v.epochs {
		if v.epochs[i].id.Number() != number {
			continue
		}
		known = true
		if ok, err := v.fresh(&v.epochs[i]); err != nil || ok {
			return err
		}
	}
	if !known {
		return invalid("segment of epoch %d, which did not begin below the commit", number)
	}
	return invalid("segment of epoch %d, which began before somebody lost the right to read: begin another", number)
}

// checkOps checks the operations on keys, and returns the epoch that they begin.
func (v *view) checkOps(c *dag.Commit, ops []Op) (began *EpochID, err error) {
	for i := range ops {
		switch o := &ops[i]; o.Kind {
		case Hide:
			if c.Root == nil {
				return nil, invalid("what is encrypted is said when a document begins")
			}
			v.cover = v.cover.with(o.Cover)
		case Begin:
			began = &o.Epoch
			if slices.ContainsFunc(v.epochs, func(b begun) bool { return b.id.Number() == o.Epoch.Number() }) {
				return nil, invalid("epoch %d began before", o.Epoch.Number())
			}
		}
	}
	if len(ops) > 0 && v.cover.None() {
		return nil, invalid("keys for a document of which nothing is encrypted")
	}
	for i := range ops {
		o := &ops[i]
		if o.Kind == Hide || o.Kind == Begin {
			continue
		}
		_, below := v.find(o.Epoch)
		if !below && (began == nil || *began != o.Epoch) {
			return nil, invalid("%v of epoch %d, which did not begin below the commit", o.Kind, o.Epoch.Number())
		}
		if o.Kind == Publish && o.Secret.Epoch(ID(c.Doc)) != o.Epoch {
			return nil, invalid("the secret that is published is not that of epoch %d", o.Epoch.Number())
		}
		if o.Kind == Link {
			if err := v.checkLink(o, !below); err != nil {
				return nil, err
			}
		}
	}
	return began, nil
}

// checkLink checks that the epoch whose secret is sealed began below the one under
// which it is: so who is given an epoch learns of earlier ones only.
func (v *view) checkLink(o *Op, begins bool) error {
	at, ok := v.find(o.Older)
	if ok && begins {
		return nil
	}
	if ok {
		newer, _ := v.find(o.Epoch)
		if ok, err := v.above(&v.epochs[newer], &v.epochs[at]); err != nil || ok {
			return err
		}
	}
	return invalid("link from epoch %d to %d, which did not begin below it", o.Epoch.Number(), o.Older.Number())
}

// above reports whether an epoch began above another, wherever it began.
func (v *view) above(newer, older *begun) (bool, error) {
	p, err := v.below()
	if err != nil {
		return false, err
	}
	for _, n := range newer.by {
		if !slices.ContainsFunc(older.by, func(o *giver) bool { return p.StandsOn(n.id, o.id) }) {
			return false, nil
		}
	}
	return true, nil
}
