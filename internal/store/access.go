package store

import (
	"context"
	"errors"
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/veil"
)

// A document of a collection with a policy carries its access state, which package
// acp makes of its commits: who owns it, and who has which relation. What these follow
// from, its events, is beside it: rows are what whoever reads passes over. The index of commits says of each what those stand on that stand on
// it. Each commit is judged by both before it is applied. One that arrives late can
// change what earlier ones count for: then the document is folded again.

// Access is who may do what with a document.
type Access struct {
	acp.State
	Rules *acp.Rules
}

// Access returns who may do what with a document, also to who may change that and not
// read the document; or NotFound. It is Invalid for one of a collection without a policy.
func (tx *Tx) Access(c *schema.Collection, id dag.DocID) (Access, error) {
	d, err := tx.governed(c, id)
	if err != nil {
		return Access{}, err
	}
	return AccessOf(d)
}

// AccessOf is Tx.Access of a document at hand.
func AccessOf(d Doc) (Access, error) {
	rules := d.Collection.Access()
	if rules == nil {
		return Access{}, errNoPolicy(d.Collection)
	}
	s, err := accessState(d.ID, d.State)
	return Access{s, rules}, err
}

func errNoPolicy(c *schema.Collection) error {
	return fault.Invalid.Errorf("collection %s has no policy: everybody who has it may read and write its documents; a policy is chosen when a collection is made, by @policy", c.Name)
}

// accessState returns the access state that a document carries, without its events: as
// who reads needs it.
func accessState[D carrier](id dag.DocID, d D) (acp.State, error) {
	return openAccess(id, d.Attached(crdt.FieldAccess, crdt.KindAccess))
}

func openAccess(id dag.DocID, raw []byte) (acp.State, error) {
	s, err := acp.Open(raw)
	if err != nil {
		return s, fault.Corrupt.Errorf("document %s: %w: run pando fsck --rebuild", id, err)
	}
	return s, nil
}

// rights is accessState with the events, which are read when they are needed: for who
// judges commits of the document as the transaction has it.
func rights[D carrier](tx *Tx, n short, id dag.DocID, d D) (acp.State, error) {
	s, err := accessState(id, d)
	if err != nil || s.Events() == 0 {
		return s, err
	}
	return s.WithLog(func() ([]byte, error) { return tx.eventsOf(n, id) }), nil
}

// eventsOf returns the events of a document that has some.
func (tx *Tx) eventsOf(n short, id dag.DocID) ([]byte, error) {
	if st := tx.staged[id]; st != nil && st.log != nil {
		return st.log, nil
	}
	log, ok, err := tx.kv.Get(eventsKey(n, id))
	if err == nil && !ok {
		err = fault.Corrupt.Errorf("the events of document %s are missing: run pando fsck --rebuild", id)
	}
	return log, err
}

// carry gives a document the state of access and of keys.
func carry(f *crdt.Folding, s acp.State, keys veil.State) {
	f.Attach(crdt.FieldAccess, crdt.KindAccess, s.Bytes())
	if keys.Encrypted() {
		f.Attach(crdt.FieldKeys, crdt.KindKeys, keys.Bytes())
	}
}

// carrier is a document, or one that commits are being folded to.
type carrier interface {
	crdt.Document | *crdt.Folding
	Attached(crdt.FieldID, crdt.Kind) []byte
	Deleted() bool
	Empty() bool
}

// carried is what the database notes of a document beside its row.
type carried struct {
	exists, deleted, locked bool
	access                  []byte
}

func carriedBy[D carrier](d D) carried {
	return carried{!d.Empty(), d.Deleted(), locked(d), d.Attached(crdt.FieldAccess, crdt.KindAccess)}
}

// judgeable returns what package acp has to know of a commit, but for what it stands
// on. A commit that has no place in a collection with a policy is Invalid.
func judgeable(cm *dag.Commit) (c acp.Commit, err error) {
	if cm.Root != nil && cm.Root.Mode != dag.ModeOwned && cm.Root.Mode != dag.ModeUnique {
		return c, fault.Invalid.Errorf("documents of a collection with a policy are owned by who begins them: this one begins in mode %d", cm.Root.Mode)
	}
	c = acp.Commit{ID: acp.ID(cm.CID), Height: cm.Height, Author: cm.Author.Key}
	for _, link := range cm.Auth {
		c.Auth = append(c.Auth, acp.ID(link))
	}
	if c.Need, err = acp.NeedOf(cm.Deltas, cm.Kind != dag.Write || hasSealed(cm)); err == nil && c.Need.Keys {
		_, err = veil.Ops(cm.Deltas)
	}
	return c, err
}

// aboveOf returns what those stand on that stand on an applied commit.
func (tx *Tx) aboveOf(cid dag.CID) (acp.Frontier, error) {
	if p, ok := tx.byCID[cid]; ok {
		return p.above, nil
	}
	v, ok, err := tx.kv.Get(indexKey(cid))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fault.Corrupt.Errorf("commit %s is not in the index: run pando fsck --rebuild", cid)
	}
	return parseAbove(cid, v)
}

// settle folds a document again after commits that changed what others count for.
func (tx *Tx) settle(n short, id dag.DocID) error {
	st := tx.staged[id]
	old, err := st.document()
	if err != nil {
		return err
	}
	next, j, err := tx.refold(context.Background(), n, id, all)
	if err != nil {
		return err
	}
	if j != nil {
		st.made(j.State)
	}
	tx.putEvents(n, id)
	st.doc, st.folding, st.voids, st.unsettled, st.review = next, nil, 0, false, nil
	tx.kv.Set(documentKey(n, id), next.Bytes())
	return tx.note(n, id, carriedBy(old), carriedBy(next))
}

// refold makes a document of some of its commits, with what they count for among
// each other. keep must choose with every commit its ancestors too. It costs two
// passes over the history in a collection with a policy, and one in others.
func (tx *Tx) refold(ctx context.Context, n short, id dag.DocID, keep func(*Applied) bool) (crdt.Document, *judged, error) {
	kept := func(yield func(*dag.Commit, error) bool) {
		for a, err := range tx.historyOf(n, id) {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err == nil && !keep(&a) {
				continue
			}
			if !yield(a.Commit, err) || err != nil {
				return
			}
		}
	}
	var j *judged
	if rules := tx.set.rules[n]; rules != nil {
		var err error
		if j, err = judgeAll(rules, kept, tx.members()); err != nil {
			return crdt.Document{}, nil, err
		}
	}
	o, err := tx.openerOf(n, id)
	if err != nil {
		return crdt.Document{}, nil, err
	}
	d, err := foldAll(kept, j, o)
	if err != nil && context.Cause(ctx) == nil {
		err = fault.Corrupt.Errorf("history of document %s: %w: run pando fsck", id, err)
	}
	return d, j, err
}

func all(*Applied) bool { return true }

// WriteAccess writes access operations: one commit on top of all heads of the
// document. Who may not gets Denied, if he may read it. Who may and does not read it
// gets the document without its contents. Taking somebody out of a group also anchors the
// group in documents here that name it, as far as the caller may write them, so that
// it takes effect in these at once; letting somebody in gives him the keys of those that
// are encrypted.
func (tx *Tx) WriteAccess(c *schema.Collection, id dag.DocID, ops ...acp.Op) (Doc, error) {
	if err := tx.writable(); err != nil {
		return Doc{}, err
	}
	if c.Access() == nil {
		return Doc{}, errNoPolicy(c)
	}
	deltas := make([]crdt.Delta, 0, len(ops))
	revokes, grants := false, false
	for _, o := range ops {
		if o.Kind == acp.Grant {
			if err := tx.seated(o.Subject); err != nil {
				return Doc{}, err
			}
		}
		deltas = append(deltas, o.Delta())
		revokes, grants = revokes || o.Kind == acp.Revoke, grants || o.Kind == acp.Grant
	}
	if _, err := acp.Ops(deltas); err != nil {
		return Doc{}, err
	}
	d, err := tx.governed(c, id)
	if err != nil {
		return Doc{}, err
	}
	a, err := AccessOf(d)
	if err == nil {
		err = tx.informed(a, ops)
	}
	if err == nil {
		d, err = tx.writeOn(d, deltas) // also on a deleted one, whose past can be read
	}
	if err == nil && (revokes || grants) {
		err = tx.anchorWhereNamed(id, revokes)
	}
	if err != nil {
		return Doc{}, err
	}
	if may, err := tx.MayRead(d); err != nil || !may {
		return Doc{ID: id, Collection: c}, err
	}
	return d, nil
}

// mayUpdate gives Denied if the caller may not update a document.
func (tx *Tx) mayUpdate(d Doc) error {
	if d.Collection.Access() == nil || tx.who.system {
		return nil
	}
	a, err := AccessOf(d)
	if err != nil {
		return err
	}
	me := tx.who.Public()
	if may, err := tx.Reading(me).allowed(a, "update"); err != nil || may {
		return err
	}
	return refused(fault.Invalid.Errorf("%w", acp.ErrRefused), &dag.Commit{Doc: d.ID, Author: dag.Author{Key: me}}, d.Collection, d.State)
}

// refused says in the words of a caller why a commit of its own may not be.
func refused(err error, cm *dag.Commit, c *schema.Collection, d crdt.Document) error {
	switch {
	case err == nil || !errors.Is(err, fault.Invalid):
		return err
	case errors.Is(err, acp.ErrRefused):
		who := "its owner can grant it"
		if ops, err := acp.Ops(cm.Deltas); err == nil && slices.ContainsFunc(ops, func(o acp.Op) bool { return o.Kind == acp.Transfer || o.Kind == acp.Accept }) {
			who = "only its owner can"
		}
		if s, err := accessState(cm.Doc, d); err == nil && s.Owner() == "" {
			who = "nobody owns it, for it was given to two people at once"
		}
		return fault.Denied.Errorf("%s may not %s document %s of collection %s: %s", cm.Author.Key, doing(cm), cm.Doc, c.Name, who)
	}
	return err
}

// doing names what a commit does.
func doing(cm *dag.Commit) string {
	need, err := acp.NeedOf(cm.Deltas, false)
	switch {
	case err != nil:
		return "write"
	case len(need.Ops) > 0 && need.Ops[0].Relation != "":
		return need.Ops[0].Kind.String() + " relation " + need.Ops[0].Relation + " of"
	case len(need.Ops) > 0:
		return need.Ops[0].Kind.String()
	case need.Keys:
		return "give the keys of"
	case need.Delete:
		return "delete"
	}
	return "update"
}
