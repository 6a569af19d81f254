package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

func TestTransactionSeesItsOwnWritesAndNobodyElse(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	outside, err := n.Begin(As(n.key), true)
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Discard()
	var id dag.DocID
	n.update(func(tx *Tx) error {
		d, err := createIn(tx, "Page", "title", "a", "hits", 1)
		if err != nil {
			return err
		}
		id = d.ID
		if _, err := updateIn(tx, "Page", id, "hits", 2); err != nil {
			return err
		}
		seen := 0
		for d, err := range tx.Scan(n.coll("Page"), Range{}) {
			if err != nil {
				return err
			}
			if got := string(d.Value(field(t, n, "hits")).AppendJSON(nil)); got != "3" {
				t.Errorf("hits is %s inside, want 3", got)
			}
			seen++
		}
		count, err := tx.Count(n.coll("Page"))
		if seen != 1 || count != 1 {
			t.Errorf("transaction sees %d documents and counts %d, want its own one", seen, count)
		}
		return err
	})
	if _, err := outside.Get(n.coll("Page"), id); !errors.Is(err, fault.NotFound) {
		t.Errorf("an older snapshot gives %v, want NotFound", err)
	}
	if got := n.field("Page", id, "hits"); got != "3" {
		t.Errorf("hits is %s, want 3", got)
	}
}

func TestFailedUpdateWritesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	before := n.dump()
	failure := errors.New("no")
	err := n.Update(context.Background(), As(n.key), func(tx *Tx) error {
		if _, err := createIn(tx, "Page", "title", "a"); err != nil {
			return err
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Fatalf("update gives %v, want what its function returned", err)
	}
	wantSame(t, n.dump(), before)
}

// A closure that ends its own transaction must not leave commits without documents.
func TestUpdateCannotBeEndedFromWithin(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Tx) error{
		"discard": func(tx *Tx) error { tx.Discard(); return nil },
		"commit":  func(tx *Tx) error { return tx.Commit(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, "ada")
			before := n.dump()
			runs := 0
			err := n.Update(context.Background(), As(n.key), func(tx *Tx) error {
				runs++
				if _, err := createIn(tx, "Page", "title", "a"); err != nil {
					return err
				}
				return end(tx)
			})
			wantKind(t, err, fault.Invalid, name+" inside of an update")
			if runs != 1 {
				t.Errorf("the function ran %d times, want once", runs)
			}
			wantSame(t, n.dump(), before)
			wantSound(t, n)
		})
	}
}

func TestTryTakesBackWhatItWrote(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	old := n.create("Page", "title", "old", "hits", 1)
	failure := errors.New("no")
	var kept dag.DocID
	n.update(func(tx *Tx) error {
		d, err := createIn(tx, "Page", "title", "kept")
		if err != nil {
			return err
		}
		kept = d.ID
		err = tx.Try(func() error { // fails as a whole, after an inner part succeeded
			if _, err := updateIn(tx, "Page", old, "hits", 100); err != nil {
				return err
			}
			if err := tx.Try(func() error {
				if _, err := createIn(tx, "Page", "title", "inner"); err != nil {
					return err
				}
				_, err := updateIn(tx, "Page", kept, "title", "changed")
				return err
			}); err != nil {
				return err
			}
			if _, err := updateIn(tx, "Page", old, "hits", 100); err != nil {
				return err
			}
			return failure
		})
		if !errors.Is(err, failure) {
			t.Errorf("try gives %v, want what its function returned", err)
		}
		if count, err := tx.Count(n.coll("Page")); count != 2 || err != nil {
			t.Errorf("after the failure the transaction counts %d, %v, want 2", count, err)
		}
		if _, err := updateIn(tx, "Page", kept, "body", "b"); err != nil {
			return err
		}
		_, err = updateIn(tx, "Page", old, "hits", 1)
		return err
	})
	if got := n.field("Page", old, "hits"); got != "2" {
		t.Errorf("hits is %s, want 1 and the one that was added after the failure", got)
	}
	if got := n.field("Page", kept, "title"); got != `"kept"` {
		t.Errorf("title is %s, want kept", got)
	}
	if seq := n.Seq(); seq != 4 {
		t.Errorf("the feed has %d entries, want 4: what failed left commits", seq)
	}
	wantSound(t, n)
}

func TestFirstCommitterWins(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	a, b := n.create("Page", "title", "a"), n.create("Page", "title", "b")
	begin := func() *Tx {
		tx, err := n.Begin(As(n.key), false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tx.Discard)
		return tx
	}
	first, second, third := begin(), begin(), begin()
	for tx, id := range map[*Tx]dag.DocID{first: a, second: a, third: b} {
		if _, err := updateIn(tx, "Page", id, "hits", 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Commit(t.Context()); err != nil {
		t.Fatalf("the first committer gets %v", err)
	}
	wantKind(t, second.Commit(t.Context()), fault.Conflict, "the second committer of the same document")
	if err := third.Commit(t.Context()); err != nil {
		t.Fatalf("the committer of another document gets %v", err)
	}
	wantKind(t, second.Commit(t.Context()), fault.Invalid, "committing twice")
	if got := n.field("Page", a, "hits"); got != "1" {
		t.Errorf("hits is %s, want 1: one of two increments won", got)
	}
}

func TestTwoTransactionsCannotCreateTheSameDocument(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	var txs [2]*Tx
	for i := range txs {
		var err error
		if txs[i], err = n.Begin(As(n.key), false); err != nil {
			t.Fatal(err)
		}
		defer txs[i].Discard()
		if _, err := createIn(txs[i], "City", "name", "Bern", "people", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := txs[0].Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantKind(t, txs[1].Commit(t.Context()), fault.Conflict, "creating what another transaction created")
	wantSound(t, n)
}

func TestReadOnlyTransactionsCannotWrite(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	err := n.View(context.Background(), System, func(tx *Tx) error {
		_, err := createIn(tx, "Page", "title", "a")
		return err
	})
	wantKind(t, err, fault.Denied, "creating in a view")
	tx, err := n.Begin(As(n.key), true)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Discard()
	_, err = createIn(tx, "Page", "title", "a")
	wantKind(t, err, fault.Denied, "creating in a read-only transaction")
}

func TestDeletedDocumentsStayDeleted(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	id := n.create("Page", "title", "a")
	n.update(func(tx *Tx) error {
		_, err := tx.Delete(n.coll("Page"), id)
		return err
	})
	if !n.get("Page", id).Deleted() {
		t.Error("the document is not deleted")
	}
	for what, fn := range map[string]func(*Tx) error{
		"deleting again": func(tx *Tx) error { _, err := tx.Delete(n.coll("Page"), id); return err },
		"updating":       func(tx *Tx) error { _, err := updateIn(tx, "Page", id, "hits", 1); return err },
	} {
		wantKind(t, n.Update(context.Background(), As(n.key), fn), fault.NotFound, what)
	}
	err := n.Update(context.Background(), As(n.key), func(tx *Tx) error {
		_, err := createIn(tx, "Page", "title", "a")
		return err
	})
	wantKind(t, err, fault.Exists, "creating it again")
	n.view(func(tx *Tx) error {
		for d := range tx.Scan(n.coll("Page"), Range{}) {
			t.Errorf("a scan yields %s", d.ID)
		}
		all := 0
		for range tx.Scan(n.coll("Page"), Range{Deleted: true}) {
			all++
		}
		if count, err := tx.Count(n.coll("Page")); all != 1 || count != 0 || err != nil {
			t.Errorf("%d documents with deleted ones, %d alive, %v; want 1 and 0", all, count, err)
		}
		return nil
	})
}

// A document can have more heads than a commit may name. A write is still newer
// than every value that its author saw.
func TestWriteWinsOverMoreHeadsThanItNames(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	page := n.coll("Page")
	var roots []*dag.Commit
	for i := range dag.MaxParents + 8 {
		roots = append(roots, rootOf(t, page, keyOf("bob"), testStart.Add(time.Duration(i)*time.Second), "title", "a"))
	}
	id := roots[0].Doc
	last := roots[0]
	for _, r := range roots {
		if last.CID.Compare(r.CID) < 0 {
			last = r // heads of one height are named in the order of CIDs: this one is not
		}
	}
	title := field(t, n, "title")
	lead := forge(t, keyOf("eve"), dag.Commit{
		Root: last.Root, Height: 1, HLC: dag.HLC(testStart.Add(4*time.Minute), 0), Schema: page.Version, Deltas: last.Deltas,
	})
	for i := 0; lead.CID.Compare(last.CID) < 0; i++ { // any that is not named will do
		lead = forge(t, keyOf("eve"), dag.Commit{
			Root: last.Root, Height: 1, HLC: dag.HLC(testStart.Add(4*time.Minute), uint64(i)) + uint64(i), Schema: page.Version, Deltas: last.Deltas,
		})
	}
	n.merge("Page", envelopes(append(roots, lead)...))
	n.set("Page", id, "title", "mine")
	if got := n.field("Page", id, "title"); got != `"mine"` {
		t.Errorf("title is %s right after it was set to mine", got)
	}
	if heads := len(n.heads("Page", id)); heads != len(roots)+1-dag.MaxParents+1 {
		t.Errorf("%d heads, want the ones that were not named and the new one", heads)
	}
	if st, _ := n.get("Page", id).State.Stamp(title.ID, title.Kind()); (st == crdt.Stamp{}) {
		t.Error("no stamp")
	}
}

// An update that read what another transaction changed meanwhile runs again, and
// sees it, however it read.
func TestUpdateRunsAgainIfWhatItReadChanged(t *testing.T) {
	t.Parallel()
	type read func(n *node, tx *Tx, id dag.DocID) (any, error)
	history := func(n *node, tx *Tx, id dag.DocID) (any, error) {
		count := 0
		for _, err := range tx.History(n.coll("City"), id) {
			if err != nil {
				return nil, err
			}
			count++
		}
		return count, nil
	}
	for what, read := range map[string]read{
		"a document": func(n *node, tx *Tx, id dag.DocID) (any, error) {
			d, err := tx.Get(n.coll("City"), id)
			return string(d.State.Bytes()), err
		},
		"its heads": func(n *node, tx *Tx, id dag.DocID) (any, error) {
			h, err := tx.Heads(n.coll("City").ID, id)
			return h[0], err
		},
		"its history": history,
		"all commits": func(n *node, tx *Tx, id dag.DocID) (any, error) {
			count := 0
			for _, err := range tx.Commits(n.coll("City")) {
				if err != nil {
					return nil, err
				}
				count++
			}
			return count, nil
		},
		"the collection": func(n *node, tx *Tx, id dag.DocID) (any, error) {
			all := ""
			for d, err := range tx.Scan(n.coll("City"), Range{}) {
				if err != nil {
					return nil, err
				}
				all += string(d.State.Bytes())
			}
			return all, nil
		},
		"the count": func(n *node, tx *Tx, id dag.DocID) (any, error) { return tx.Count(n.coll("City")) },
		"what is absent": func(n *node, tx *Tx, id dag.DocID) (any, error) {
			_, err := tx.Get(n.coll("City"), cityID(t, n, "Rome"))
			return errors.Is(err, fault.NotFound), nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, "ada")
			id := n.create("City", "name", "Bern", "people", 1)
			var saw []any
			n.update(func(tx *Tx) error {
				x, err := read(n, tx, id)
				if err != nil {
					return err
				}
				if saw = append(saw, x); len(saw) == 1 { // somebody comes between
					n.set("City", id, "people", 2)
					n.create("City", "name", "Rome", "people", 1)
				}
				_, err = createIn(tx, "Page", "title", "a")
				return err
			})
			if len(saw) != 2 || saw[0] == saw[1] {
				t.Errorf("the update saw %v, want what was before and then what is now", saw)
			}
		})
	}
	t.Run("something else", func(t *testing.T) {
		t.Parallel()
		n := newNode(t, "ada")
		id := n.create("City", "name", "Bern", "people", 1)
		runs := 0
		n.update(func(tx *Tx) error {
			runs++
			n.create("Page", "title", fmt.Sprint(runs))
			_, err := updateIn(tx, "City", id, "people", 2)
			return err
		})
		if runs != 1 {
			t.Errorf("the update ran %d times, although nobody changed what it read", runs)
		}
	})
}

// cityID is the name of a document that need not exist.
func cityID(t tester, n *node, name string) dag.DocID {
	t.Helper()
	c := n.coll("City")
	deltas, err := c.Create(fields("name", name))
	if err != nil {
		t.Fatal(err)
	}
	return (dag.RootSeed{Mode: dag.ModeKeyed, Collection: c.ID, Seed: dag.KeyedSeed(deltas)}).DocID()
}

func TestScanResumesAfterADocument(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	for i := range 9 {
		n.create("Page", "title", fmt.Sprint(i))
	}
	n.create("City", "name", "Bern")
	n.view(func(tx *Tx) error {
		var ids []dag.DocID
		for d, err := range tx.Scan(n.coll("Page"), Range{}) {
			if err != nil {
				return err
			}
			ids = append(ids, d.ID)
		}
		for i, after := range ids {
			var rest []dag.DocID
			for d, err := range tx.Scan(n.coll("Page"), Range{After: after}) {
				if err != nil {
					return err
				}
				rest = append(rest, d.ID)
			}
			if !slices.Equal(rest, ids[i+1:]) {
				t.Errorf("after document %d come %d documents, want %d", i, len(rest), len(ids)-i-1)
			}
		}
		return nil
	})
}

// A transaction sees its own commits where they belong.
func TestOwnCommitsComeInOrder(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	for i := range 5 {
		n.create("Page", "title", fmt.Sprint(i))
	}
	n.update(func(tx *Tx) error {
		for i := range 5 {
			if _, err := createIn(tx, "Page", "title", fmt.Sprint("own ", i)); err != nil {
				return err
			}
		}
		var docs []dag.DocID
		for a, err := range tx.Commits(n.coll("Page")) {
			if err != nil {
				return err
			}
			docs = append(docs, a.Doc)
		}
		if len(docs) != 10 || !slices.IsSortedFunc(docs, dag.DocID.Compare) {
			t.Errorf("%d commits, in order: %v", len(docs), slices.IsSortedFunc(docs, dag.DocID.Compare))
		}
		return nil
	})
}
