package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/veil"
)

// Problem is one thing that a check found wrong.
type Problem struct {
	What string // file, commit, document, events, feed, index, count or schema
	Name string // which one
	Text string
}

func (p Problem) String() string { return p.What + " " + p.Name + ": " + p.Text }

// Check reads everything: the checksum of every block of every file, every commit
// with its signature and parents, and it folds every document again and compares it,
// and its entries in the indexes, with what is there. It reports what it finds and
// goes on; its own error means that it could not go on.
func (s *Store) Check(ctx context.Context, report func(Problem)) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	damaged := false
	err := s.kv.Verify(ctx, func(p kv.Problem) {
		damaged = true
		report(Problem{"file", p.File, blockText(p)})
	})
	if err != nil || damaged {
		return err // what follows would stop at the first damaged block
	}
	s.mu.Lock()
	snap, set := s.kv.Snapshot(), s.set.Load()
	s.mu.Unlock()
	defer snap.Close()
	c := &check{ctx: ctx, set: set, snap: snap, report: report, ids: set.ids(), counts: map[short]count{}, indexes: map[string]*indexCheck{}, memory: newMemory(), opener: opener{keys: s.keys}}
	if err := c.beginIndexes(); err != nil {
		return err
	}
	if err := c.commits(); err != nil {
		return err
	}
	return c.leftovers()
}

func blockText(p kv.Problem) string {
	if p.Offset < 0 {
		return fmt.Sprintf("%v; rebuild with pando fsck --rebuild, then sync with a peer", p.Err)
	}
	return fmt.Sprintf("the block of %d bytes at offset %d does not have its checksum; rebuild with pando fsck --rebuild, then sync with a peer", p.Size, p.Offset)
}

type check struct {
	ctx     context.Context
	set     *Set
	snap    *kv.Snapshot
	report  func(Problem)
	counts  map[short]count
	indexes map[string]*indexCheck // by prefix
	ids     map[short]dag.CollectionID
	total   int // commits
	groups  int // that documents name
	locked  int // documents that no key here opened
	events  int // documents that have some
	memory  *memory
	opener  opener
}

func (c *check) bad(what string, name any, format string, args ...any) {
	c.report(Problem{what, fmt.Sprint(name), fmt.Sprintf(format, args...)})
}

// commits checks commit by commit, document by document.
func (c *check) commits() error {
	for h, err := range histories(c.snap, []byte{tableCommit}, c.report) {
		if err == nil && c.ctx.Err() != nil {
			err = context.Cause(c.ctx)
		}
		if err != nil {
			return err
		}
		if err := c.history(h); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) history(h lineage) error {
	f := fold{}
	bad := func(cid dag.CID, err error) { c.bad("commit", cid, "%v", err) }
	for _, e := range h.entries {
		c.total++
		err := e.err
		if id, ok := c.ids[e.at.coll]; ok && err == nil {
			err = e.commit.CheckCollection(id)
		}
		if err == nil {
			err = f.add(e)
		}
		if err != nil {
			bad(e.at.cid, err)
		}
	}
	err := f.judge(c.ctx, memberships{shelf{c.snap, c.set}, c.memory}, h.coll, c.opener, bad)
	if errors.Is(err, fault.Unavailable) {
		c.bad("document", h.doc, "it cannot be judged: %v", err)
	} else if err != nil {
		return err
	}
	for i, e := range f.entries {
		if err := c.same("index", e.at.cid, indexKey(e.at.cid), e.at.indexValue(f.above(i))); err != nil {
			return err
		}
		if err := c.same("feed", e.stored.seq, feedKey(e.stored.seq), e.at.feedValue(e.stored.origin)); err != nil {
			return err
		}
	}
	if len(f.entries) == 0 {
		return nil
	}
	k := c.counts[h.coll]
	k.all++
	if !f.doc.Deleted() {
		k.alive++
	}
	c.counts[h.coll] = k
	if err := c.document(h, &f); err != nil {
		return err
	}
	if err := c.named(h, f.doc); err != nil {
		return err
	}
	return c.indexed(h, f.doc)
}

// document compares a document with what is there. Of one that no key here opens, that
// is what everybody knows of it; f is left with what is there, for the rest.
func (c *check) document(h lineage, f *fold) error {
	key := documentKey(h.coll, h.doc)
	raw, ok, err := c.snap.Get(key)
	if err != nil {
		return err
	}
	if ok && veil.Locked(f.doc.Attached(crdt.FieldKeys, crdt.KindKeys)) {
		if d, err := crdt.Open(raw); err == nil && sameVeiled(h.doc, d, f.doc) {
			f.doc = d
		}
	}
	if locked(f.doc) {
		c.locked++
		if err := c.same("locked", h.doc, lockedKey(h.coll, h.doc), nil); err != nil {
			return err
		}
	}
	if log := f.events(); log != nil {
		c.events++
		if err := c.same("events", h.doc, eventsKey(h.coll, h.doc), log); err != nil {
			return err
		}
	}
	return c.same("document", h.doc, key, f.doc.Bytes())
}

// sameVeiled reports whether two documents have the same commits, and say the same of
// rights and keys.
func sameVeiled(id dag.DocID, a, b crdt.Document) bool {
	ka, err := keysOf(id, a)
	kb, err2 := keysOf(id, b)
	return err == nil && err2 == nil && ka.Equal(kb) && slices.Equal(a.Heads(), b.Heads()) && a.Deleted() == b.Deleted() &&
		bytes.Equal(a.Attached(crdt.FieldAccess, crdt.KindAccess), b.Attached(crdt.FieldAccess, crdt.KindAccess))
}

// veiled returns Invalid if the commit at that place breaks a rule of encryption.
func (j *judged) veiled(i int, cm *dag.Commit) error {
	if !j.keys.Encrypted() && !hasSealed(cm) {
		return nil
	}
	c, err := judgeable(cm)
	if err != nil {
		return err
	}
	return j.keys.Check(cm, j.ops[c.ID], j.standing(i, c.Need))
}

// named looks for the entries of the groups that a document names.
func (c *check) named(h lineage, d crdt.Document) error {
	if c.set.rules[h.coll] == nil {
		return nil
	}
	groups, err := groupsOf(h.doc, d)
	for _, g := range groups {
		c.groups++
		if err := c.same("group", dag.DocID(g), namedKey(dag.DocID(g), h.coll, h.doc), nil); err != nil {
			return err
		}
	}
	return err
}

// same compares a derived entry with what it should be.
func (c *check) same(what string, name any, key, want []byte) error {
	got, ok, err := c.snap.Get(key)
	switch {
	case err != nil:
		return err
	case !ok:
		c.bad(what, name, "entry is missing; pando fsck --rebuild makes it again")
	case !bytes.Equal(got, want):
		c.bad(what, name, "entry differs from its commits; pando fsck --rebuild makes it again")
	}
	return nil
}

// leftovers finds derived entries that no commit stands for.
func (c *check) leftovers() error {
	docs := int64(0)
	for _, k := range c.counts {
		docs += k.all
	}
	for _, t := range []struct {
		table byte
		name  string
		want  int
	}{{tableIndex, "index", c.total}, {tableFeed, "feed", c.total}, {tableDocument, "document", int(docs)}, {tableEvent, "events", c.events}, {tableNamed, "group", c.groups}, {tableLocked, "locked", c.locked}} {
		n := 0
		for e, err := range c.snap.Scan([]byte{t.table}, []byte{t.table + 1}) {
			if err != nil {
				return err
			}
			if len(e.Key) > 1 { // not what is said of a table as a whole
				n++
			}
		}
		if n != t.want {
			c.bad(t.name, "table", "%d entries for %d; pando fsck --rebuild makes it again", n, t.want)
		}
	}
	if err := c.endIndexes(); err != nil {
		return err
	}
	return c.tallies()
}

// tallies compares the counts of the collections.
func (c *check) tallies() error {
	names := map[short]string{}
	for m := range c.set.members() {
		names[m.short] = m.Name
	}
	for n, k := range c.counts {
		name, ok := names[n]
		if !ok {
			name = fmt.Sprint("number ", n)
			c.bad("schema", name, "there are documents of a collection that is not known: restore the directory, or sync a new one from a peer")
		}
		if err := c.same("count", name, collectionPrefix(tableCount, n), k.append(nil)); err != nil {
			return err
		}
	}
	for e, err := range c.snap.Scan([]byte{tableCount}, []byte{tableCount + 1}) {
		if err != nil {
			return err
		}
		if len(e.Key) != 5 || c.counts[short(binary.BigEndian.Uint32(e.Key[1:]))] == (count{}) {
			c.bad("count", fmt.Sprintf("%x", e.Key), "of a collection without documents; pando fsck --rebuild removes it")
		}
	}
	return nil
}

// lineage is the stored history of one document.
type lineage struct {
	coll    short
	doc     dag.DocID
	entries []entry
}

// entry is one stored commit, or why it cannot be read.
type entry struct {
	at     place
	stored stored
	commit *dag.Commit
	err    error
}

// histories yields the stored commits whose keys start with a prefix, grouped by
// document, in the order of the keys. What has no place there is told to bad.
func histories(snap *kv.Snapshot, prefix []byte, bad func(Problem)) iter.Seq2[lineage, error] {
	return func(yield func(lineage, error) bool) {
		var h lineage
		for e, err := range snap.Scan(prefix, after(prefix)) {
			if err != nil {
				yield(lineage{}, err)
				return
			}
			at, err := parseCommitKey(e.Key)
			if err != nil {
				bad(Problem{"commit", fmt.Sprintf("%x", e.Key), err.Error()})
				continue
			}
			if len(h.entries) > 0 && (at.coll != h.coll || at.doc != h.doc) {
				h.verify()
				if !yield(h, nil) {
					return
				}
				h.entries = nil
			}
			h.coll, h.doc = at.coll, at.doc
			x := entry{at: at}
			x.commit, x.stored, x.err = openStored(at, bytes.Clone(e.Value))
			h.entries = append(h.entries, x)
		}
		if len(h.entries) > 0 {
			h.verify()
			yield(h, nil)
		}
	}
}

// verify notes which commits have a wrong signature.
func (h lineage) verify() {
	var cs []*dag.Commit
	var places []int
	for i, e := range h.entries {
		if e.err == nil {
			cs, places = append(cs, e.commit), append(places, i)
		}
	}
	for _, i := range dag.Verify(cs) {
		h.entries[places[i]].err = fault.Corrupt.Errorf("its signature does not verify")
	}
}

// fold makes a document again from its commits.
type fold struct {
	doc     crdt.Document // when it is made
	folding *crdt.Folding // until then
	entries []entry
	at      map[dag.CID]*dag.Commit
	judged  *judged // of a collection with a policy, when all are added
}

// add applies the next commit of a history, checked against its parents.
func (f *fold) add(e entry) error {
	var infos []dag.ParentInfo
	for _, p := range e.commit.Parents {
		cm, ok := f.at[p]
		if !ok {
			return fault.Corrupt.Errorf("its parent %s is missing", p)
		}
		infos = append(infos, dag.ParentInfo{CID: p, Doc: cm.Doc, Height: cm.Height, HLC: cm.HLC})
	}
	if err := e.commit.CheckParents(infos); err != nil {
		return err
	}
	if f.folding == nil {
		var err error
		if f.folding, err = f.doc.Folding(); err != nil {
			return err
		}
		f.at = map[dag.CID]*dag.Commit{}
	}
	if err := f.folding.Fold(change(e.commit), func(c [32]byte) bool { _, ok := f.at[c]; return ok }); err != nil {
		return err
	}
	f.at[e.commit.CID] = e.commit
	f.entries = append(f.entries, e)
	return nil
}

// make makes the document, when all commits are added.
func (f *fold) make() (err error) {
	if f.folding != nil {
		f.doc, err = f.folding.Document()
	}
	return err
}

func (f *fold) commits(yield func(*dag.Commit, error) bool) {
	for _, e := range f.entries {
		if !yield(e.commit, nil) {
			return
		}
	}
}

// above returns what those stand on that stand on the i-th commit.
func (f *fold) above(i int) acp.Frontier {
	if f.judged == nil {
		return nil
	}
	return f.judged.Above(i)
}

// events returns what the document keeps apart of its rights, nil if that is nothing.
func (f *fold) events() []byte {
	if f.judged == nil {
		return nil
	}
	log, _ := f.judged.State.Log()
	return log
}

// judge makes the document once more by the policy of its collection, if that has
// one. What may not be, or cannot be judged, is left out with what stands on it, and
// told to bad.
func (f *fold) judge(ctx context.Context, m memberships, n short, o opener, bad func(dag.CID, error)) error {
	if err := f.make(); err != nil {
		return err
	}
	rules, err := m.rulesOf(n)
	if err != nil {
		return nil // by which rules nobody knows: nobody reads it
	}
	for rules != nil && len(f.entries) > 0 {
		wrong, err := f.wrong(ctx, rules, m)
		if err != nil {
			return err
		}
		if len(wrong) > 0 {
			f.leaveOut(wrong, bad)
			if err := f.make(); err != nil {
				return err
			}
			continue
		}
		f.doc, err = foldAll(f.commits, f.judged, o)
		return err
	}
	return nil
}

// wrong judges the commits and returns which may not be here.
func (f *fold) wrong(ctx context.Context, rules *acp.Rules, m memberships) (map[dag.CID]error, error) {
	wrong := map[dag.CID]error{}
	for _, e := range f.entries {
		if _, err := judgeable(e.commit); err != nil {
			wrong[e.at.cid] = err
		}
		for _, link := range e.commit.Auth {
			if _, err := m.placeOf(link); errors.Is(err, fault.Corrupt) {
				wrong[e.at.cid] = err
			} else if err != nil {
				return nil, err
			}
		}
	}
	if len(wrong) > 0 {
		return wrong, nil
	}
	j, err := judgeAll(rules, f.commits, m)
	if err != nil && !errors.Is(err, fault.Corrupt) {
		return nil, err
	}
	for i, e := range f.entries {
		if ended := context.Cause(ctx); ended != nil {
			return nil, ended
		}
		switch {
		case err == nil:
			if err := errors.Join(j.Valid(i), j.veiled(i, e.commit)); err != nil {
				wrong[e.at.cid] = err
			}
		case len(e.commit.Auth) > 0: // of what the groups say, something is missing
			wrong[e.at.cid] = err
		}
	}
	if f.judged = j; err != nil && len(wrong) == 0 {
		return nil, err
	}
	return wrong, nil
}

// leaveOut adds the commits once more without those, and what stands on them.
func (f *fold) leaveOut(wrong map[dag.CID]error, bad func(dag.CID, error)) {
	next := fold{}
	for _, e := range f.entries {
		err := wrong[e.at.cid]
		if err == nil {
			err = next.add(e)
		}
		if err != nil {
			bad(e.at.cid, err)
		}
	}
	*f = next
}

// shelf is a snapshot as a library.
type shelf struct {
	*kv.Snapshot
	set *Set
}

func (s shelf) rulesOf(n short) (*acp.Rules, error) {
	if s.set == nil {
		return nil, nil
	}
	return s.set.rulesOf(n)
}

func (s shelf) where(cid dag.CID) (place, bool, error) {
	v, ok, err := s.Get(indexKey(cid))
	if err != nil || !ok {
		return place{}, false, err
	}
	p, err := parseIndexValue(cid, v)
	return p, err == nil, err
}

func (s shelf) historyOf(n short, id dag.DocID) iter.Seq2[Applied, error] {
	return func(yield func(Applied, error) bool) {
		prefix, _ := documentRange(n, id)
		for h, err := range histories(s.Snapshot, prefix, func(Problem) {}) {
			if err != nil {
				yield(Applied{}, err)
				return
			}
			for _, e := range h.entries {
				if !yield(Applied{Commit: e.commit, Seq: e.stored.seq}, e.err) || e.err != nil {
					return
				}
			}
		}
	}
}
