package sim

import (
	"cmp"
	"errors"
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// The documents of one collection belong to who creates them.
const policyText = `
name: papers
resources:
  paper:
    permissions:
      read:   {expr: owner + writer}
      update: {expr: owner + writer}
      delete: {expr: owner + writer}
    relations:
      owner:  {types: [actor]}
      writer: {types: [actor]}
      admin:  {types: [actor], manages: [writer, admin]}
`

const policedSDL = `type Paper @policy(id: "%s", resource: "paper") { title: String @index, hits: Int @crdt(type: pncounter) }`

func policy() (*acp.Policy, error) { return acp.ParsePolicy([]byte(policyText)) }

// share grants a right to a document, takes one away, hands the document over, or
// accepts what waits.
func (n *node) shareIn(tx *store.Tx) (dag.DocID, error) {
	w := n.w
	var here []docRef
	for _, d := range w.docs {
		if d.coll.Access() != nil && len(n.of[d.id]) > 0 {
			here = append(here, d)
		}
	}
	if len(here) == 0 {
		return n.createIn(tx)
	}
	d := pick(w, here)
	op := acp.Op{Kind: acp.Grant, Relation: pick(w, []string{"writer", "writer", "admin"}), Subject: w.somebody()}
	switch x := w.one(12); {
	case x < 4:
		op.Kind = acp.Revoke
	case x == 4:
		op = acp.Op{Kind: acp.Transfer, Subject: op.Subject}
	case x == 5:
		op.Subject = acp.Everyone
	case x == 6:
		op = acp.Op{Kind: acp.Accept}
		for _, c := range n.of[d.id] {
			if w.chance(2) {
				op.Commits = append(op.Commits, acp.ID(c))
			}
		}
		if len(op.Commits) == 0 {
			return d.id, errGivenUp
		}
	}
	_, err := tx.WriteAccess(d.coll, d.id, op)
	if err == nil {
		w.note("%s:   %v %s of %s to %v", n.name, op.Kind, op.Relation, name(d.id), op.Subject)
	}
	return d.id, err
}

// letIn lets everybody write a document, each for himself.
func (n *node) letIn(tx *store.Tx, d store.Doc) error {
	var ops []acp.Op
	for _, o := range n.w.nodes {
		ops = append(ops, acp.Op{Kind: acp.Grant, Relation: "writer", Subject: acp.OfKey(o.key.Public())})
	}
	_, err := tx.WriteAccess(d.Collection, d.ID, ops...)
	return err
}

func (n *node) share() {
	n.write("share", func(tx *store.Tx) error { _, err := n.shareIn(tx); return err })
}

// somebody draws a person, who may be the adversary.
func (w *world) somebody() acp.Subject {
	if i := w.one(len(w.nodes) + 1); i < len(w.nodes) {
		return acp.OfKey(w.nodes[i].key.Public())
	}
	return acp.OfKey(w.eve.Public())
}

// judged judges commits of a document, those of which hold the ancestors of each.
func judged(c *schema.Collection, commits []*dag.Commit) (*acp.Judged, error) {
	slices.SortFunc(commits, func(a, b *dag.Commit) int {
		return cmp.Or(cmp.Compare(a.Height, b.Height), a.CID.Compare(b.CID))
	})
	h := acp.NewHistory(c.Access(), commits[0].Author.Key)
	for _, cm := range commits {
		need, err := acp.NeedOf(cm.Deltas, false)
		if err != nil {
			return nil, err
		}
		var parents []acp.ID
		for _, p := range cm.Parents {
			parents = append(parents, acp.ID(p))
		}
		if err := h.Add(acp.Commit{ID: acp.ID(cm.CID), Height: cm.Height, Author: cm.Author.Key, Need: need}, parents...); err != nil {
			return nil, err
		}
	}
	return h.Judge(nil)
}

// allowed reports whether the author of a commit might make it, by its ancestors,
// which are all known.
func (w *world) allowed(c *schema.Collection, cm *dag.Commit) bool {
	if c.Access() == nil {
		return true
	}
	if ok, known := w.rights[cm.CID]; known {
		return ok
	}
	ancestors := map[dag.CID]*dag.Commit{}
	var add func(cm *dag.Commit)
	add = func(cm *dag.Commit) {
		if ancestors[cm.CID] == nil {
			ancestors[cm.CID] = cm
			for _, p := range cm.Parents {
				add(w.find(p))
			}
		}
	}
	add(cm)
	var all []*dag.Commit
	for _, a := range ancestors {
		all = append(all, a)
	}
	j, err := judged(c, all)
	if err == nil {
		err = j.Valid(slices.Index(all, cm))
	}
	if err != nil && !errors.Is(err, fault.Invalid) {
		w.must(err)
	}
	w.rights[cm.CID] = err == nil
	return err == nil
}

// void returns which commits of a document do not count.
func (o oracle) voids(c *schema.Collection) (map[dag.CID]bool, error) {
	void := map[dag.CID]bool{}
	if c.Access() == nil {
		return void, nil
	}
	all := o.sorted()
	j, err := judged(c, all)
	if err != nil {
		return nil, err
	}
	for i, cm := range all {
		void[cm.CID] = j.Verdicts[i] == acp.Void
	}
	return void, nil
}
