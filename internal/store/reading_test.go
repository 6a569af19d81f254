package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/schema"
)

// Notes and groups belong to who creates them; the other collections of the tests to
// everybody.
const notesPolicy = `
name: notes
actor: {name: actor}
resources:
  note:
    permissions:
      read:   {expr: owner + reader + writer}
      update: {expr: owner + writer + mute}
      delete: {expr: owner}
    relations:
      owner:  {types: [actor]}
      reader: {types: [actor]}
      writer: {types: [actor]}
      mute:   {types: [actor]}
      keeper: {types: [actor], manages: [reader, writer]}
  group:
    permissions:
      read:   {expr: owner + member}
      update: {expr: owner}
      delete: {expr: owner}
    relations:
      owner:  {types: [actor]}
      member: {types: [actor]}
`

const notesSDL = `
type Memo @policy(id: "%[1]s", resource: "note") @docID(mode: UNIQUE) @index(name: "pair", includes: [{field: "text"}, {field: "mark"}]) {
	text: String @index
	tags: [String] @index
	mark: Int @index(unique: true)
	body: String
}
type Deal @policy(id: "%[1]s", resource: "note") { text: String }
type Team @policy(id: "%[1]s", resource: "group") @docID(mode: UNIQUE) { name: String }
`

func addNotes(n *node) {
	n.t.Helper()
	p, err := acp.ParsePolicy([]byte(notesPolicy))
	if err != nil {
		n.t.Fatal(err)
	}
	n.update(func(tx *Tx) error {
		cs, err := schema.Parse(fmt.Sprintf(notesSDL, dag.Digest(p.Sum())), tx.Collections(), p)
		if err != nil {
			return err
		}
		return tx.AddCollections(cs)
	})
}

// someone is a caller with a key.
func someone(name string) Caller { return As(keyOf(name)) }

func keyText(name string) acp.Subject { return acp.OfKey(keyOf(name).Public()) }

// owned makes a document of somebody.
func (n *node) owned(who, coll string, nv ...any) (id dag.DocID) {
	n.t.Helper()
	err := n.Update(context.Background(), someone(who), func(tx *Tx) error {
		d, err := createIn(tx, coll, nv...)
		id = d.ID
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return id
}

// stateByHand changes the access state of a document by hand.
func (n *node) stateByHand(coll string, id dag.DocID, change func(acp.State) acp.State) {
	n.t.Helper()
	c := n.coll(coll)
	d := n.get(coll, id)
	st, _ := acp.Open(d.State.Attached(crdt.FieldAccess, crdt.KindAccess))
	st = change(st)
	b := n.kv.NewBatch()
	b.Set(documentKey(n.Schema().byID[c.ID].short, id), d.State.Attach(crdt.FieldAccess, crdt.KindAccess, st.Bytes()).Bytes())
	if err := n.write(b); err != nil {
		n.t.Fatal(err)
	}
}

// operate writes an access operation as the owner of a document, and reports whether he may.
func (n *node) operate(coll string, id dag.DocID, op acp.Op) (done bool) {
	n.t.Helper()
	acc, err := AccessOf(n.get(coll, id))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, who := range []string{"ann", "bo", "cy", "dan"} {
		if keyOf(who).Public() != acc.Owner() {
			continue
		}
		err := n.Update(context.Background(), someone(who), func(tx *Tx) error {
			_, err := tx.WriteAccess(n.coll(coll), id, op)
			return err
		})
		if errors.Is(err, fault.Denied) && op.Kind == acp.Transfer {
			return false // to who may not read the groups that write
		}
		if err != nil {
			n.t.Fatal(err)
		}
	}
	return true
}

func (n *node) grant(coll string, id dag.DocID, relation string, to acp.Subject) {
	n.t.Helper()
	n.operate(coll, id, acp.Op{Kind: acp.Grant, Relation: relation, Subject: to})
}

func (n *node) revoke(coll string, id dag.DocID, relation string, from acp.Subject) {
	n.t.Helper()
	n.operate(coll, id, acp.Op{Kind: acp.Revoke, Relation: relation, Subject: from})
}

func groupOf(id dag.DocID) acp.Subject { return acp.OfGroup(acp.ID(id), "member") }

// as runs a transaction of somebody that is thrown away.
func (n *node) as(who Caller, fn func(tx *Tx)) {
	n.t.Helper()
	tx, err := n.Begin(who, false)
	if err != nil {
		n.t.Fatal(err)
	}
	defer tx.Discard()
	fn(tx)
}

// archive is a node with documents of several people.
type archive struct {
	*node
	coll   string
	names  map[dag.DocID]string
	owners map[dag.DocID]Caller
	cids   map[dag.CID]dag.DocID
	past   uint64
	seq    uint64
}

func newArchive(t tester) *archive {
	l := &archive{node: newNode(t, "library"), coll: "Memo", names: map[dag.DocID]string{}, owners: map[dag.DocID]Caller{}, cids: map[dag.CID]dag.DocID{}}
	addNotes(l.node)
	l.create("Page", "title", "everybody's")
	return l
}

// memo makes a document of somebody.
func (l *archive) memo(owner, text string) dag.DocID {
	l.t.Helper()
	id := l.owned(owner, "Memo", "text", text, "tags", []string{"a", "b"}, "body", "first")
	l.names[id], l.owners[id] = text, someone(owner)
	return id
}

// settle ends the beginning: all documents are changed twice from here on.
func (l *archive) settle() {
	l.t.Helper()
	l.seq, l.past = l.Seq(), dag.HLC(l.now.tick(), 0)
	for id, who := range l.owners {
		for i := range 2 {
			err := l.Update(context.Background(), who, func(tx *Tx) error {
				_, err := updateIn(tx, l.coll, id, "body", fmt.Sprint("changed ", i))
				return err
			})
			if err != nil {
				l.t.Fatal(err)
			}
		}
	}
	l.view(func(tx *Tx) error {
		for a, err := range tx.Commits(l.memos()) {
			if err != nil {
				return err
			}
			l.cids[a.CID] = a.Doc
		}
		return nil
	})
}

func (l *archive) memos() *schema.Collection { return l.node.coll(l.coll) }

// visits returns what somebody is shown at each door.
func (l *archive) visits(who Caller) map[string]docSet {
	l.t.Helper()
	all := map[string]docSet{}
	ids := slices.SortedFunc(maps.Keys(l.names), compareIDs)
	for name, door := range doors {
		l.as(who, func(tx *Tx) {
			all[name] = door(&visitor{door: name, t: l.t, n: l.node, who: who, tx: tx, c: l.memos(), ids: ids, past: l.past, seq: l.seq, cids: l.cids})
		})
	}
	return all
}

// wantShown checks that every door shows exactly those documents.
func (l *archive) wantShown(who Caller, name string, want ...string) {
	l.t.Helper()
	slices.Sort(want)
	for door, s := range l.visits(who) {
		if got := s.names(l.names); !slices.Equal(got, want) {
			l.t.Errorf("%s is shown %v by %s, want %v", name, got, door, want)
		}
	}
	l.as(who, func(tx *Tx) {
		if n, err := tx.Count(l.memos()); err != nil || n != uint64(len(want)) {
			l.t.Errorf("%s counts %d, %v; want %d", name, n, err, len(want))
		}
	})
}

func TestWhatOneMayNotReadDoesNotExist(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	diary, letter, poster := l.memo("ann", "diary"), l.memo("ann", "letter"), l.memo("ann", "poster")
	l.memo("bo", "draft")
	l.settle()
	l.grant("Memo", letter, "reader", keyText("bo"))
	l.grant("Memo", poster, "reader", acp.Everyone)

	l.wantShown(someone("ann"), "ann", "diary", "letter", "poster")
	l.wantShown(someone("bo"), "bo", "letter", "poster", "draft")
	l.wantShown(someone("cy"), "cy", "poster")
	l.wantShown(Caller{}, "nobody", "poster")
	l.wantShown(Caller{Reads: []ident.PublicKey{keyOf("bo").Public(), keyOf("ann").Public()}}, "a peer of both", "diary", "letter", "poster", "draft")

	l.revoke("Memo", letter, "reader", keyText("bo"))
	l.operate("Memo", diary, acp.Op{Kind: acp.Transfer, Subject: keyText("cy")})
	l.wantShown(someone("ann"), "ann", "letter", "poster")
	l.wantShown(someone("bo"), "bo", "poster", "draft")
	l.wantShown(someone("cy"), "cy", "diary", "poster")
}

func TestSystemReadsEverything(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	l.memo("ann", "diary")
	l.memo("bo", "draft")
	l.settle()
	for door, s := range l.visits(System) {
		if door == "Tx.Readable" || door == "Tx.Reading" {
			continue // ask for those identities that the caller has: none
		}
		if got, want := s.names(l.names), []string{"diary", "draft"}; !slices.Equal(got, want) {
			t.Errorf("system is shown %v by %s, want %v", got, door, want)
		}
	}
	l.view(func(tx *Tx) error {
		if n, err := tx.Count(l.memos()); n != 2 || err != nil {
			t.Errorf("system counts %d, %v; want 2", n, err)
		}
		return nil
	})
}

// Who may update a document and not read it does not find it.
func TestWritingNeedsReading(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	id := l.memo("ann", "box")
	l.settle()
	l.grant("Memo", id, "mute", keyText("bo"))
	l.wantShown(someone("bo"), "bo")
	l.as(someone("bo"), func(tx *Tx) {
		_, err := tx.Delete(l.memos(), id)
		wantKind(t, err, fault.NotFound, "deleting what one may not read")
	})
}

// A snapshot is read by several goroutines at once, which learn together who is in a group.
func TestReadersSideBySide(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	team := l.owned("ann", "Team", "name", "team")
	l.grant("Team", team, "member", keyText("bo"))
	for i := range 8 {
		id := l.memo("ann", fmt.Sprint("memo ", i))
		l.grant("Memo", id, "reader", groupOf([]dag.DocID{team, {9}}[i%2]))
	}
	err := l.View(context.Background(), someone("bo"), func(tx *Tx) error {
		var g errgroup
		for range 4 {
			g.run(func() error {
				n, err := tx.Count(l.memos())
				if err == nil && n != 4 {
					err = fmt.Errorf("%d memos, want 4", n)
				}
				return err
			})
		}
		return g.wait()
	})
	if err != nil {
		t.Error(err)
	}
}

// errgroup runs functions side by side.
type errgroup struct {
	sync.WaitGroup
	mu   sync.Mutex
	errs []error
}

func (g *errgroup) run(fn func() error) {
	g.Go(func() {
		err := fn()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.errs = append(g.errs, err)
	})
}

func (g *errgroup) wait() error {
	g.Wait()
	return errors.Join(g.errs...)
}

// Who is shown nothing does not keep the node busy after he has gone.
func TestNobodyWaitsForWhatIsNotShown(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	err := l.Update(context.Background(), someone("ann"), func(tx *Tx) error {
		for i := range patience {
			if _, err := createIn(tx, "Memo", "text", fmt.Sprint("memo ", i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err = l.View(ctx, someone("bo"), func(tx *Tx) error {
		_, err := tx.Count(l.memos())
		return err
	})
	wantKind(t, err, fault.Unavailable, "counting for somebody who has gone")
}

// Who says who may read need not read. He changes nothing else, and is shown nothing.
func TestManagingNeedsNoReading(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	id := l.memo("ann", "box")
	l.settle()
	l.grant("Memo", id, "keeper", keyText("bo"))
	for door, s := range l.visits(someone("bo")) {
		if want := door == "Tx.Access"; s[id] != want {
			t.Errorf("bo, who manages the readers of the box, is shown it by %s: %v, want %v", door, s[id], want)
		}
	}
	err := l.Update(context.Background(), someone("bo"), func(tx *Tx) error {
		d, err := tx.WriteAccess(l.memos(), id, acp.Op{Kind: acp.Grant, Relation: "reader", Subject: keyText("cy")})
		if len(d.State.Bytes()) > 0 {
			t.Error("bo is shown the box as he lets cy read it")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	l.wantShown(someone("cy"), "cy, whom bo let read", "box")
	l.as(someone("bo"), func(tx *Tx) {
		_, err := tx.WriteAccess(l.memos(), id, acp.Op{Kind: acp.Transfer, Subject: keyText("bo")})
		wantKind(t, err, fault.Denied, "a transfer by who manages readers")
	})
	l.as(someone("dan"), func(tx *Tx) {
		_, err := tx.WriteAccess(l.memos(), id, acp.Op{Kind: acp.Grant, Relation: "reader", Subject: keyText("dan")})
		wantKind(t, err, fault.NotFound, "a grant by a stranger")
	})
}

func TestReadersOfAGroup(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	memo := l.memo("ann", "minutes")
	l.settle()
	team, board := l.owned("ann", "Team", "name", "team"), l.owned("ann", "Team", "name", "board")
	l.grant("Memo", memo, "reader", groupOf(team))
	l.grant("Team", team, "member", keyText("bo"))
	l.grant("Team", team, "member", groupOf(board))
	l.grant("Team", board, "member", keyText("cy"))
	l.grant("Team", board, "member", groupOf(team)) // and round again

	l.wantShown(someone("bo"), "bo, who is in the team", "minutes")
	l.wantShown(someone("cy"), "cy, who is on the board", "minutes")
	l.wantShown(someone("dan"), "dan")

	l.revoke("Team", team, "member", groupOf(board))
	l.wantShown(someone("bo"), "bo", "minutes")
	l.wantShown(someone("cy"), "cy, whose board is out of the team")
}

// Two groups are each within the other, and somebody is in them through a third: what
// was said on the way round, before it was found, is not remembered.
func TestGroupsInACircle(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		l := newArchive(t)
		first, second := l.memo("ann", "first"), l.memo("ann", "second")
		l.settle()
		var g []dag.DocID
		for i := range order {
			g = append(g, l.owned("ann", "Team", "name", fmt.Sprint("team ", i)))
		}
		a, b, c := g[order[0]], g[order[1]], g[order[2]]
		l.grant("Team", a, "member", groupOf(b))
		l.grant("Team", b, "member", groupOf(a))
		l.grant("Team", a, "member", groupOf(c))
		l.grant("Team", c, "member", keyText("bo"))
		l.grant("Memo", first, "reader", groupOf(a))
		l.grant("Memo", second, "reader", groupOf(b))
		l.view(func(tx *Tx) error {
			r := tx.Reading(keyOf("bo").Public())
			for _, id := range []dag.DocID{first, second} {
				if may, err := r.Readable(l.memos(), id); !may || err != nil {
					t.Errorf("bo reads the %s memo: %v, %v; want true", l.names[id], may, err)
				}
			}
			return nil
		})
	}
}

// Who may not read a group still sees what its members wrote, and can verify it.
func TestWhatAGroupWroteIsJudgedForEverybody(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	memo, team := l.memo("ann", "poster"), l.owned("ann", "Team", "name", "team")
	l.grant("Team", team, "member", keyText("cy"))
	l.grant("Memo", memo, "reader", acp.Everyone)
	l.grant("Memo", memo, "writer", groupOf(team))
	err := l.Update(context.Background(), someone("cy"), func(tx *Tx) error {
		_, err := updateIn(tx, "Memo", memo, "body", "of a member")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	l.as(someone("bo"), func(tx *Tx) {
		_, err := tx.Get(l.node.coll("Team"), team)
		wantKind(t, err, fault.NotFound, "a group that bo may not read")
		v, err := tx.Verify(context.Background(), l.memos(), memo, nil)
		if err != nil || !v.Sound() {
			t.Errorf("bo verifies the poster: %v, %v", v, err)
		}
	})
}

// A group that is not here has no members, and a document is none.
func TestAGroupThatIsNotHere(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	memo := l.memo("ann", "minutes")
	l.settle()
	l.grant("Memo", memo, "reader", groupOf(dag.DocID{7}))
	page := l.create("Page", "title", "no group")
	l.as(someone("ann"), func(tx *Tx) {
		_, err := tx.WriteAccess(l.memos(), memo, acp.Op{Kind: acp.Grant, Relation: "reader", Subject: groupOf(page)})
		wantKind(t, err, fault.Invalid, "a group in a collection without a policy")
	})
	l.wantShown(someone("bo"), "bo")
}

// A transaction sees who is in a group by its own writes too.
func TestAGroupThatTheTransactionChanges(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	memo := l.memo("ann", "minutes")
	team := l.owned("ann", "Team", "name", "team")
	l.grant("Memo", memo, "reader", groupOf(team))
	l.as(someone("ann"), func(tx *Tx) {
		r := tx.Reading(keyOf("bo").Public())
		sees := func() bool {
			may, err := r.Readable(l.memos(), memo)
			if err != nil {
				t.Fatal(err)
			}
			return may
		}
		if sees() {
			t.Fatal("bo reads the minutes before he is in the team")
		}
		takenBack := errors.New("taken back")
		for _, undone := range []error{takenBack, nil} {
			err := tx.Try(func() error {
				_, err := tx.WriteAccess(l.node.coll("Team"), team, acp.Op{Kind: acp.Grant, Relation: "member", Subject: keyText("bo")})
				if err != nil || !sees() {
					t.Errorf("bo does not read the minutes after he has joined the team: %v", err)
				}
				return undone
			})
			if err != undone || sees() != (undone == nil) {
				t.Errorf("bo reads the minutes: %v, after joining gave %v, want %v", sees(), err, undone)
			}
		}
	})
}

func TestCallersCountWhatTheyRead(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	for i := range 5 {
		id := l.memo("ann", fmt.Sprint("memo ", i))
		if i < 2 {
			l.grant("Memo", id, "reader", keyText("bo"))
		}
	}
	for who, want := range map[string]uint64{"ann": 5, "bo": 2, "cy": 0} {
		l.as(someone(who), func(tx *Tx) {
			if n, err := tx.Count(l.memos()); n != want || err != nil {
				t.Errorf("%s counts %d, %v; want %d", who, n, err, want)
			}
			if n, err := tx.Count(l.node.coll("Page")); n != 1 || err != nil {
				t.Errorf("%s counts %d pages, %v; want 1", who, n, err)
			}
		})
	}
}

// A refused write would tell what is in a document that its writer may not read.
func TestUniqueAmongWhatOneReads(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	first := l.owned("ann", "Memo", "text", "of ann", "mark", 1)
	l.owned("bo", "Memo", "text", "of bo", "mark", 1) // bo is not told

	try := func(who string) error {
		return l.Update(context.Background(), someone(who), func(tx *Tx) error {
			_, err := createIn(tx, "Memo", "text", "again", "mark", 1)
			return err
		})
	}
	err := try("ann")
	wantKind(t, err, fault.Exists, "a second one of ann's own")
	if !strings.Contains(err.Error(), first.String()) {
		t.Errorf("ann is told %v, which does not name her document", err)
	}
	check := func(who Caller) (err error) {
		l.as(who, func(tx *Tx) {
			c := l.memos()
			for i, ix := range c.Indexes {
				if ix.Unique {
					err = tx.CheckUnique(c, &c.Indexes[i])
				}
			}
		})
		return err
	}
	for _, who := range []string{"ann", "bo", "cy"} {
		if err := check(someone(who)); err != nil {
			t.Errorf("%s is told %v of documents that nobody but the database can compare", who, err)
		}
	}
	wantKind(t, check(System), fault.Exists, "a check by the system")

	l.grant("Memo", first, "reader", keyText("bo"))
	wantKind(t, check(someone("bo")), fault.Exists, "a check by bo, who reads both now")
}

// Two of them run side by side, and neither is told of the other's document.
func TestUniqueAmongWhatOneReadsSideBySide(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	begin := func(who string) *Tx {
		tx, err := l.Begin(someone(who), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := createIn(tx, "Memo", "text", who, "mark", 1); err != nil {
			t.Fatal(err)
		}
		return tx
	}
	a, b := begin("ann"), begin("bo")
	for _, tx := range []*Tx{a, b} {
		if err := tx.Commit(context.Background()); err != nil {
			t.Errorf("commit gives %v", err)
		}
	}
}

// The docID of a document that is owned holds its owner: only one's own can be in the
// way.
func TestCreatingTellsOfOnesOwnOnly(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	id := l.owned("ann", "Deal", "text", "the same")
	l.owned("bo", "Deal", "text", "the same")
	err := l.Update(context.Background(), someone("ann"), func(tx *Tx) error {
		_, err := createIn(tx, "Deal", "text", "the same")
		return err
	})
	wantKind(t, err, fault.Exists, "a second one of ann's own")

	l.operate("Deal", id, acp.Op{Kind: acp.Transfer, Subject: keyText("bo")})
	err = l.Update(context.Background(), someone("bo"), func(tx *Tx) error {
		_, err := tx.Delete(l.node.coll("Deal"), id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = l.Update(context.Background(), someone("ann"), func(tx *Tx) error {
		_, err := createIn(tx, "Deal", "text", "the same")
		return err
	})
	if wantKind(t, err, fault.Exists, "one that is bo's by now"); strings.Contains(err.Error(), "deleted") {
		t.Errorf("ann, who may not read it any more, is told %v", err)
	}
}

// Nobody reads a document that does not say whose it is; damage is told.
func TestADocumentWithoutAState(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	id := l.memo("ann", "lost")
	l.settle()
	l.stateByHand("Memo", id, func(acp.State) acp.State { return acp.State{} })
	l.wantShown(someone("ann"), "ann")

	c := l.memos()
	bad := l.get("Memo", id).State.Attach(crdt.FieldAccess, crdt.KindAccess, []byte("no state of anything"))
	b := l.kv.NewBatch()
	b.Set(documentKey(l.Schema().byID[c.ID].short, id), bad.Bytes())
	if err := l.write(b); err != nil {
		t.Fatal(err)
	}
	l.as(someone("ann"), func(tx *Tx) {
		_, err := tx.Get(c, id)
		wantKind(t, err, fault.Corrupt, "a document with a damaged state")
	})
}

// Random people, groups within groups and grants: every door shows to everybody what
// the rules give him, which is told here once more, as simply as can be.
func TestEveryDoorShowsWhatTheRulesGive(t *testing.T) {
	t.Parallel()
	people := []string{"ann", "bo", "cy", "dan"}
	rapid.Check(t, func(r *rapid.T) {
		l := newArchive(r)
		person := rapid.SampledFrom(people)
		type granted struct {
			in   dag.DocID
			what string
			to   acp.Subject
		}
		var held []granted
		var groups []dag.DocID
		for i := range rapid.IntRange(0, 4).Draw(r, "groups") {
			groups = append(groups, l.owned(person.Draw(r, "owner of the group"), "Team", "name", fmt.Sprint("group ", i)))
		}
		subject := func() acp.Subject {
			switch n := rapid.IntRange(0, 7).Draw(r, "subject"); {
			case n == 0:
				return acp.Everyone
			case n < 4 && len(groups) > 0:
				return groupOf(rapid.SampledFrom(groups).Draw(r, "group"))
			}
			return keyText(person.Draw(r, "person"))
		}
		for i := range rapid.IntRange(1, 6).Draw(r, "documents") {
			l.memo(person.Draw(r, "owner"), fmt.Sprint("memo ", i))
		}
		l.settle()
		memos := slices.SortedFunc(maps.Keys(l.names), compareIDs)
		for range rapid.IntRange(0, 12).Draw(r, "grants") {
			g := granted{rapid.SampledFrom(memos).Draw(r, "memo"), rapid.SampledFrom([]string{"reader", "writer", "mute"}).Draw(r, "relation"), subject()}
			coll := "Memo"
			if len(groups) > 0 && rapid.Bool().Draw(r, "in a group") {
				g.in, g.what, coll = rapid.SampledFrom(groups).Draw(r, "group"), "member", "Team"
			}
			if rapid.IntRange(0, 9).Draw(r, "transfer") == 0 {
				heir := person.Draw(r, "heir")
				done := l.operate(coll, g.in, acp.Op{Kind: acp.Transfer, Subject: keyText(heir)})
				if done && coll == "Memo" {
					l.owners[g.in] = someone(heir)
				}
				continue
			}
			if rapid.IntRange(0, 4).Draw(r, "revoke") == 0 {
				l.revoke(coll, g.in, g.what, g.to)
				held = slices.DeleteFunc(held, func(h granted) bool { return h == g })
				continue
			}
			l.grant(coll, g.in, g.what, g.to)
			held = append(held, g)
		}
		switch rapid.IntRange(0, 3).Draw(r, "then") {
		case 0:
			l.reopen()
		case 1:
			if err := l.Close(); err != nil {
				r.Fatal(err)
			}
			if _, err := Rebuild(context.Background(), "db", l.options(), func(p Problem) { r.Error(p) }); err != nil {
				r.Fatal(err)
			}
			l.open()
		}
		// Whom a relation reaches: again and again, until nothing is added.
		reached := map[granted]bool{}
		for more := true; more; {
			more = false
			for _, h := range held {
				for _, p := range people {
					now := granted{h.in, h.what, keyText(p)}
					is := h.to == acp.Everyone || h.to == now.to || h.to.Relation != "" && reached[granted{dag.DocID(h.to.Group), h.to.Relation, now.to}]
					if is && !reached[now] {
						reached[now], more = true, true
					}
				}
			}
		}
		for _, p := range people {
			var want []string
			for id, name := range l.names {
				if l.owners[id].Public() == keyOf(p).Public() || reached[granted{id, "reader", keyText(p)}] || reached[granted{id, "writer", keyText(p)}] {
					want = append(want, name)
				}
			}
			l.wantShown(someone(p), p, want...)
		}
	})
}
