package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/veil"
)

// A document of a collection with a policy can be encrypted. Its row carries what
// package veil makes of the operations on keys in its commits, and whether there is a
// segment that no key here opens: then the document is locked, and to callers does not
// exist. What opens is folded like any other operation.
//
// Which private keys are here differs from node to node, and so do the rows of
// encrypted documents: all else about them does not.

// keysOf returns the state of the keys that a document carries.
func keysOf[D carrier](id dag.DocID, d D) (veil.State, error) {
	s, err := veil.Open(d.Attached(crdt.FieldKeys, crdt.KindKeys))
	if err != nil {
		return s, fault.Corrupt.Errorf("document %s: %w: run pando fsck --rebuild", id, err)
	}
	return s, nil
}

// locked reports whether a document has a segment that no key here opened.
func locked[D carrier](d D) bool {
	return veil.Locked(d.Attached(crdt.FieldKeys, crdt.KindKeys))
}

// sealedWhole reports whether all that a document says is encrypted: whoever keeps it
// without a key learns who writes and reads it, and when, and nothing else.
func sealedWhole(d crdt.Document) (bool, error) {
	raw := d.Attached(crdt.FieldKeys, crdt.KindKeys)
	if len(raw) == 0 {
		return false, nil
	}
	st, err := veil.Open(raw)
	return err == nil && st.Cover().All, err
}

// hasSealed reports whether a commit has other segments than that in clear.
func hasSealed(cm *dag.Commit) bool {
	return len(cm.Segs) > 1 || len(cm.Segs) == 1 && cm.Segs[0].Group != 0
}

// veiled is what a commit does to the keys of its document.
type veiled struct {
	keys veil.State // with the commit; nothing is encrypted if it is zero
	ops  []veil.Op  // of the commit
	at   veil.Standing
}

// veiled checks a commit by the keys of the document so far. history is what it may
// stand on, and c the commit as it was judged.
func (tx *Tx) veiled(rules *acp.Rules, history veil.History, d *crdt.Folding, cm *dag.Commit, c acp.Commit) (v veiled, err error) {
	v.keys, err = keysOf(cm.Doc, d)
	if err != nil || !v.keys.Encrypted() && !c.Need.Keys && !hasSealed(cm) {
		return v, err
	}
	if v.ops, err = veil.Ops(cm.Deltas); err != nil {
		return v, err
	}
	v.at = veil.Standing{Rules: rules, Access: history, Before: c.Before, Need: c.Need}
	if err := v.keys.Check(cm, v.ops, v.at); err != nil {
		return v, err
	}
	v.keys = v.keys.Add(c.ID, cm.Height, v.ops)
	return v, nil
}

// lift adds what a commit says in encrypted segments to the change that it makes, as
// far as keys are here. It reports whether the document has to be folded again, because
// the commit brought keys for what was locked.
func (tx *Tx) lift(v *veiled, cm *dag.Commit, ch *crdt.Change) (again bool, err error) {
	if !v.keys.Encrypted() {
		return false, nil
	}
	o := tx.opener()
	if !ch.Void && hasSealed(cm) {
		f := o.finder(cm.Doc, v.keys, func(id acp.ID) ([]veil.Op, error) {
			if id == acp.ID(cm.CID) {
				return v.ops, nil
			}
			return tx.keyOps(id)
		})
		deltas, ok, err := f.Open(cm, v.at)
		if err != nil {
			return false, err
		}
		ch.Deltas = deltas
		v.keys = v.keys.WithLocked(v.keys.Locked() || !ok)
		o.keep(f)
	}
	return v.keys.Locked() && o.served(v.ops), nil
}

// openAll returns all operations of those commits of a history that have encrypted
// segments which open here.
func (o opener) openAll(f *fold) (map[dag.CID][]crdt.Delta, error) {
	j := f.judged
	if j == nil || !j.keys.Encrypted() {
		return nil, nil
	}
	all := map[dag.CID][]crdt.Delta{}
	find := o.finderFor(j)
	for i, e := range f.entries {
		if !hasSealed(e.commit) {
			continue
		}
		deltas, ok, err := find.Open(e.commit, j.standing(i, acp.Need{}))
		if err != nil {
			return nil, err
		}
		if ok {
			all[e.at.cid] = deltas
		}
	}
	return all, nil
}

// showing opens commits of documents, one after the other, for who reads them.
type showing struct {
	tx  *Tx
	doc dag.DocID
	f   *finder // of doc
}

// shown opens what is yielded.
func (tx *Tx) shown(n short, yield func(Applied, error) bool) func(Applied, error) bool {
	if tx.set.rules[n] == nil {
		return yield
	}
	s := showing{tx: tx}
	return func(a Applied, err error) bool {
		if err == nil {
			a, err = s.open(n, a)
		}
		return yield(a, err) && err == nil
	}
}

// open returns the commit with all its operations, if they open here.
func (s *showing) open(n short, a Applied) (Applied, error) {
	if s.tx.set.rules[n] == nil || a.HeaderOnly() || !hasSealed(a.Commit) {
		return a, nil
	}
	if s.f == nil || s.doc != a.Doc {
		d, _, err := s.tx.document(n, a.Doc)
		if err != nil {
			return a, err
		}
		keys, err := keysOf(a.Doc, d)
		if err != nil {
			return a, err
		}
		s.doc, s.f = a.Doc, s.tx.opener().finder(a.Doc, keys, s.tx.keyOps)
	}
	deltas, ok, err := s.f.Open(a.Commit, veil.Standing{})
	if err != nil || !ok {
		return a, err
	}
	opened := *a.Commit
	opened.Deltas = deltas
	a.Commit = &opened
	return a, nil
}

// keyOps returns the operations on keys of an applied commit.
func (tx *Tx) keyOps(id acp.ID) ([]veil.Op, error) {
	at, ok, err := tx.where(dag.CID(id))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fault.Corrupt.Errorf("commit %s is not in the index: run pando fsck --rebuild", dag.CID(id))
	}
	cm, err := tx.commitAt(at)
	if err != nil {
		return nil, err
	}
	return veil.Ops(cm.Deltas)
}

// opener opens encrypted documents with the private keys that are here.
type opener struct {
	keys    []ident.Key
	secrets *secrets // nil: it remembers none

	// all is what a document's whole history says of keys, and source reads it. Who
	// was let in later needs it to open what it said earlier. Without source, a
	// history that is folded has it all.
	all    veil.State
	source veil.Source
}

// openerOf returns one for a document that is here.
func (tx *Tx) openerOf(n short, id dag.DocID) (opener, error) {
	o := tx.opener()
	if tx.set.rules[n] == nil {
		return o, nil
	}
	d, _, err := tx.document(n, id)
	if err == nil {
		o.all, err = keysOf(id, d)
	}
	o.source = tx.keyOps
	return o, err
}

// finderFor returns what finds the secrets of a history that is folded.
func (o opener) finderFor(j *judged) *finder {
	if o.source != nil {
		return o.finder(j.doc, o.all, o.source)
	}
	return o.finder(j.doc, j.keys, func(id acp.ID) ([]veil.Op, error) { return j.ops[id], nil })
}

// opener returns one with the keys of the store and of the caller.
func (tx *Tx) opener() opener {
	o := opener{keys: tx.s.keys, secrets: tx.s.secrets}
	if k := tx.who.Key; !k.IsZero() && !slices.ContainsFunc(o.keys, func(h ident.Key) bool { return h.Public() == k.Public() }) {
		o.keys = append(slices.Clone(o.keys), k)
	}
	return o
}

func (o opener) finder(doc dag.DocID, s veil.State, source veil.Source) *finder {
	known := o.secrets.of(s)
	f := &finder{veil.NewFinder(acp.ID(doc), s, o.keys, known, source), s}
	if o.secrets != nil && len(known) < len(s.Epochs()) {
		f.Without(o.secrets.missing(o.searched(s)))
	}
	return f
}

// finder is a veil.Finder, and where it looks.
type finder struct {
	*veil.Finder
	in veil.State
}

func (o opener) keep(f *finder) {
	if o.secrets == nil {
		return
	}
	o.secrets.keep(f.Found())
	if len(f.Missing()) > 0 {
		o.secrets.miss(o.searched(f.in), f.Missing())
	}
}

// searched names a search: what is said of keys, and those that are here.
func (o opener) searched(s veil.State) (name [32]byte) {
	b := s.WithLocked(false).Bytes()
	for _, k := range o.keys {
		b = append(b, k.Public()...)
	}
	return sha256.Sum256(b)
}

// served reports whether operations may help to open something that was locked.
func (o opener) served(ops []veil.Op) bool {
	return slices.ContainsFunc(ops, func(op veil.Op) bool {
		return op.Kind == veil.Publish || len(o.keys) > 0 && (op.Kind == veil.Link ||
			slices.ContainsFunc(op.Wraps, func(w veil.Wrap) bool {
				return slices.ContainsFunc(o.keys, func(k ident.Key) bool { return k.Public() == w.To })
			}))
	})
}

// secrets remembers those of epochs that were found, for what is opened often, and which
// searches found none: whoever owns a document can make a search long. It
// forgets what was not asked for while many others were.
type secrets struct {
	mu     sync.Mutex
	found  [2]map[veil.EpochID]veil.Secret       // new, old
	missed [2]map[[32]byte]map[veil.EpochID]bool // by search: new, old
	misses int                                   // epochs in the new ones
}

// maxSecrets is how many are remembered at most, twice: some 8 MiB. So many are also
// remembered as missing.
const maxSecrets = 1 << 15

func newSecrets() *secrets {
	return &secrets{found: [2]map[veil.EpochID]veil.Secret{{}, {}}, missed: [2]map[[32]byte]map[veil.EpochID]bool{{}, {}}}
}

// missing returns the epochs that a search did not find.
func (s *secrets) missing(search [32]byte) map[veil.EpochID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.missed[0][search]; m != nil {
		return m
	}
	return s.missed[1][search]
}

// miss remembers what a search did not find, besides what is known of it. The maps that
// are remembered do not change.
func (s *secrets) miss(search [32]byte, missing map[veil.EpochID]bool) {
	known := s.missing(search)
	all := make(map[veil.EpochID]bool, len(known)+len(missing))
	maps.Copy(all, known)
	maps.Copy(all, missing)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.misses += len(all); s.misses > maxSecrets {
		s.missed, s.misses = [2]map[[32]byte]map[veil.EpochID]bool{{}, s.missed[0]}, len(all)
	}
	s.missed[0][search] = all
}

func (s *secrets) of(keys veil.State) map[veil.EpochID]veil.Secret {
	if s == nil {
		return nil
	}
	known := map[veil.EpochID]veil.Secret{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range keys.Epochs() {
		secret, ok := s.found[0][e]
		if !ok {
			if secret, ok = s.found[1][e]; ok {
				s.put(e, secret)
			}
		}
		if ok {
			known[e] = secret
		}
	}
	return known
}

func (s *secrets) keep(found map[veil.EpochID]veil.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e, secret := range found {
		if s.found[0][e] != secret {
			s.put(e, secret)
		}
	}
}

func (s *secrets) put(e veil.EpochID, secret veil.Secret) {
	if len(s.found[0]) >= maxSecrets {
		s.found = [2]map[veil.EpochID]veil.Secret{{}, s.found[0]}
	}
	s.found[0][e] = secret
}

// CreateEncrypted is Create of a document that only those can read who may: of which
// the fields of the cover are encrypted, now and for ever. Its docID says nothing of
// what is in it.
func (tx *Tx) CreateEncrypted(c *schema.Collection, deltas []crdt.Delta, cover veil.Cover) (Doc, error) {
	if err := tx.writable(); err != nil {
		return Doc{}, err
	}
	n, err := tx.short(c)
	if err != nil {
		return Doc{}, err
	}
	if tx.set.rules[n] == nil {
		return Doc{}, fault.Invalid.Errorf("collection %s has no policy, which would say who may read: encrypted are documents of collections with @policy", c.Name)
	}
	if tx.who.Key.Public() != tx.who.Public() {
		return Doc{}, fault.Denied.Errorf("the database signs for %s and could not read what it encrypts for the owner: create the document with a database that has the owner's key", tx.who.Public())
	}
	b, err := tx.ahead.next(tx, c, cover)
	if err != nil {
		return Doc{}, err
	}
	seed := b.seed
	return tx.writeVeiled(c, n, crdt.Document{}, &dag.Commit{Root: seed, Doc: seed.DocID(), Deltas: deltas}, cover)
}

// seal encrypts what a commit of the caller says in fields that are to be, and adds the
// keys that its readers need. cover is that of a first commit.
func (tx *Tx) seal(n short, d crdt.Document, cm *dag.Commit, cover veil.Cover) error {
	rules := tx.set.rules[n]
	if rules == nil {
		return nil
	}
	keys, err := keysOf(cm.Doc, d)
	if err != nil || cm.Root == nil && !keys.Encrypted() || cm.Root != nil && cover.None() {
		return err
	}
	ops, err := acp.Ops(cm.Deltas)
	if err != nil {
		return err
	}
	if cm.Root == nil {
		cover = keys.Cover()
	}
	seals := cm.Root != nil || cover.Seals(cm.Deltas)
	if !seals && len(ops) == 0 && len(cm.Auth) == 0 && len(cm.Deltas) > 0 {
		return nil
	}
	plan, err := tx.planKeys(rules, n, keys, d, cm, ops, cover, seals)
	if err != nil {
		return err
	}
	if !seals && plan.Blind {
		return nil // a reader gives keys with his next commit
	}
	for _, o := range plan.Ops {
		cm.Deltas = append(cm.Deltas, o.Delta())
	}
	if !seals {
		return nil
	}
	return plan.Key.Seal(cm, cover, tx.s.rand)
}

func (tx *Tx) planKeys(rules *acp.Rules, n short, keys veil.State, d crdt.Document, cm *dag.Commit, ops []acp.Op, cover veil.Cover, seals bool) (plan veil.Plan, err error) {
	state := acp.Begin(cm.Author.Key)
	if cm.Root == nil {
		if state, err = rights(tx, n, cm.Doc, d); err != nil {
			return plan, err
		}
	}
	readers, err := tx.readersWith(rules, state, ops)
	if err != nil {
		return plan, err
	}
	if cm.Root != nil {
		if p := tx.ahead.planned(acp.ID(cm.Doc), readers); p != nil {
			plan = *p
		} else if plan, err = cover.Begin(acp.ID(cm.Doc), readers, tx.opener().keys, tx.s.rand); err != nil {
			return plan, err
		}
		tx.s.secrets.keep(map[veil.EpochID]veil.Secret{plan.Key.Epoch: plan.Key.Secret})
		return plan, nil
	}
	o := tx.opener()
	parts := false
	if !seals && !o.reads(readers) {
		now, err := tx.readersWith(rules, state, nil)
		if parts = o.reads(now); err != nil || !parts {
			if err == nil {
				err = handed(ops, now)
			}
			return plan, err // who manages rights and may not read, or signs for others, must not know the keys
		}
	}
	before, err := tx.before(state, cm.Parents)
	if err != nil {
		return plan, err
	}
	f := o.finder(cm.Doc, keys, tx.keyOps)
	at := veil.Standing{Rules: rules, Access: state, Before: before, Need: acp.Need{Ops: ops}}
	if parts {
		plan, err = f.HandOver(at, readers)
	} else {
		plan, err = f.Plan(at, readers, tx.s.rand)
	}
	o.keep(f)
	return plan, err
}

// reads reports whether the owner of a key that is here is among the readers.
func (o opener) reads(r veil.Readers) bool {
	return r.Everyone || slices.ContainsFunc(o.keys, func(k ident.Key) bool { return slices.Contains(r.Keys, k.Public()) })
}

// handed returns why a document cannot be given away by who has not its keys: to somebody
// who may not read it yet, and could not open what is his.
func handed(ops []acp.Op, now veil.Readers) error {
	for _, o := range ops {
		if o.Kind == acp.Transfer && !now.Everyone && !slices.Contains(now.Keys, o.Subject.Key) {
			return fault.Denied.Errorf("the document is encrypted, and its keys are not here to be handed to %s: transfer it with a database that has your key", o.Subject.Key)
		}
	}
	return nil
}

// readersWith returns who may read a document once access operations count too; of groups
// whoever is in them by what is known here.
func (tx *Tx) readersWith(rules *acp.Rules, state acp.State, ops []acp.Op) (r veil.Readers, err error) {
	owner := state.Owner()
	held := map[acp.Tuple]bool{}
	for _, t := range state.Tuples(rules) {
		held[t] = true
	}
	for _, o := range ops {
		switch o.Kind {
		case acp.Transfer:
			owner = o.Subject.Key
		case acp.Grant:
			held[acp.Tuple{Relation: o.Relation, Subject: o.Subject}] = true
		}
	}
	for _, o := range ops {
		if o.Kind == acp.Revoke {
			delete(held, acp.Tuple{Relation: o.Relation, Subject: o.Subject})
		}
	}
	g := gathered{tx: tx, asked: map[acp.Subject]bool{}}
	if owner != "" {
		g.Keys = append(g.Keys, owner)
	}
	for t := range maps.Keys(held) {
		if p, ok := rules.Holding(t.Relation); ok && rules.Read&p != 0 {
			if err := g.add(t.Subject); err != nil {
				return r, err
			}
		}
	}
	return g.Readers, nil
}

// gathered are readers, and the groups that were looked into.
type gathered struct {
	veil.Readers
	tx    *Tx
	asked map[acp.Subject]bool
}

func (g *gathered) add(s acp.Subject) error {
	switch {
	case s.All:
		g.Everyone = true
		return nil
	case s.Relation == "":
		g.Keys = append(g.Keys, s.Key)
		return nil
	case g.asked[s] || len(g.asked) >= maxAskedGroups:
		return nil
	}
	g.asked[s] = true
	n, d, ok, err := g.tx.group(dag.DocID(s.Group))
	if err != nil || !ok {
		return err
	}
	rules := g.tx.set.rules[n]
	p, ok := rules.Holding(s.Relation)
	if ok { // or the keys would tell the caller who is in it
		ok, err = g.tx.knows(n, dag.DocID(s.Group), d, p)
	}
	if err != nil || !ok {
		return err
	}
	state, err := accessState(dag.DocID(s.Group), d)
	if err != nil {
		return err
	}
	if state.Owner() != "" && state.Allows(rules, acp.Actor{Keys: []ident.PublicKey{state.Owner()}}, p) {
		g.Keys = append(g.Keys, state.Owner())
	}
	for _, t := range state.Tuples(rules) {
		if t.Relation != s.Relation {
			continue
		}
		if err := g.add(t.Subject); err != nil {
			return err
		}
	}
	return nil
}

// maxAskedGroups bounds the groups within groups that keys are given to.
const maxAskedGroups = 1024

// Documents that are locked are listed, for the day on which another key is here.
//
//	l                   the keys that were tried on all of them
//	l collection doc    a locked document
func lockedKey(n short, id dag.DocID) []byte {
	b := binary.BigEndian.AppendUint32([]byte{tableLocked}, uint32(n))
	return append(b, id[:]...)
}

// noteLocked brings the list up to what a document has become.
func (tx *Tx) noteLocked(n short, id dag.DocID, old, next carried) {
	switch {
	case next.locked && !old.locked:
		tx.kv.Set(lockedKey(n, id), nil)
	case old.locked && !next.locked:
		tx.kv.Delete(lockedKey(n, id))
	}
}

// unlock tries the keys that are here on what is locked, if one of them was not tried
// before. No live query waits for what it opens: it runs when the store is opened.
func (s *Store) unlock(ctx context.Context) error {
	var tried, keys []byte
	err := s.View(ctx, System, func(tx *Tx) (err error) {
		tried, _, err = tx.kv.Get([]byte{tableLocked})
		return err
	})
	if err != nil {
		return err
	}
	fresh := false
	for _, k := range s.keys {
		name := sha256.Sum256([]byte(k.Public()))
		keys = append(keys, name[:]...)
		fresh = fresh || !slices.ContainsFunc(slices.Collect(slices.Chunk(tried, len(name))), func(t []byte) bool { return bytes.Equal(t, name[:]) })
	}
	if bytes.Equal(tried, keys) {
		return nil
	}
	for after := []byte{tableLocked, 0}; fresh && after != nil; {
		err := s.Update(ctx, System, func(tx *Tx) (err error) {
			after, err = tx.unlock(ctx, after)
			return err
		})
		if err != nil {
			return err
		}
	}
	return s.Update(ctx, System, func(tx *Tx) error {
		tx.kv.Set([]byte{tableLocked}, keys)
		tx.unlocks = true
		return nil
	})
}

// unlockedAtOnce is how many locked documents one transaction tries to open.
const unlockedAtOnce = 128

// unlock folds some locked documents again, from that place in the list on, and returns
// where to go on, nil at the end.
func (tx *Tx) unlock(ctx context.Context, from []byte) (next []byte, err error) {
	var docs []place
	for e, err := range tx.kv.Scan(from, []byte{tableLocked + 1}) {
		if err != nil {
			return nil, err
		}
		if len(e.Key) != documentKeySize {
			return nil, fault.Corrupt.Errorf("list of locked documents: key of %d bytes, want %d: run pando fsck --rebuild", len(e.Key), documentKeySize)
		}
		docs = append(docs, place{coll: short(binary.BigEndian.Uint32(e.Key[1:])), doc: dag.DocID(e.Key[5:])})
		if len(docs) == unlockedAtOnce {
			next = append(slices.Clone(e.Key), 0)
			break
		}
	}
	for _, at := range docs {
		if err := tx.unlockDocument(ctx, at); err != nil {
			return nil, err
		}
	}
	return next, nil
}

func (tx *Tx) unlockDocument(ctx context.Context, at place) error {
	old, ok, err := tx.document(at.coll, at.doc)
	if err != nil || !ok || tx.set.rules[at.coll] == nil {
		return err
	}
	if tx.staged == nil {
		tx.staged, tx.byCID = map[dag.DocID]*staged{}, map[dag.CID]*pending{}
	}
	next, _, err := tx.refold(ctx, at.coll, at.doc, all)
	if err != nil || locked(next) {
		return err
	}
	tx.staged[at.doc] = &staged{coll: at.coll, doc: next}
	tx.unlocks = true
	tx.kv.Set(documentKey(at.coll, at.doc), next.Bytes())
	was, is := carriedBy(old), carriedBy(next)
	tx.noteLocked(at.coll, at.doc, was, is)
	tx.tally(at.coll, was, is)
	return tx.reindex(tx.set.indexes[at.coll], at.doc, old, next, false)
}
