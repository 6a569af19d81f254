package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

const writers = 8

// together runs fn in several goroutines and waits for them.
func together(t *testing.T, fn func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// next reads a number from a register and writes the next one: the weakest thing
// that serial transactions keep right.
func (n *node) next(tx *Tx, id dag.DocID) error {
	c, err := tx.Collection("City")
	if err != nil {
		return err
	}
	d, err := tx.Get(c, id)
	if err != nil {
		return err
	}
	f, _ := c.Field("people")
	_, err = updateIn(tx, "City", id, "people", int(d.Value(f).Int())+1)
	return err
}

func TestUpdatesAreSerialInEffect(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	id := n.create("City", "name", "Bern", "people", 0)
	const each = 25
	together(t, func(int) error {
		for range each {
			if err := n.Update(context.Background(), As(n.key), func(tx *Tx) error { return n.next(tx, id) }); err != nil {
				return err
			}
		}
		return nil
	})
	if got := n.field("City", id, "people"); got != fmt.Sprint(writers*each) {
		t.Errorf("%d writers counted %d times each to %s", writers, each, got)
	}
	wantSound(t, n)
}

// Transfers between documents keep the sum, and every reader sees it kept: also one
// that scans, and one that decides by a scan what to write.
func TestTransfersKeepTheSum(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	const start, cities = 100, 5
	var ids []dag.DocID
	for i := range cities {
		ids = append(ids, n.create("City", "name", fmt.Sprint("city ", i), "people", start))
	}
	sum := func(tx *Tx) (total int, richest, poorest dag.DocID, err error) {
		c, err := tx.Collection("City")
		if err != nil {
			return 0, richest, poorest, err
		}
		f, _ := c.Field("people")
		most, least := int64(-1), int64(1<<40)
		for d, err := range tx.Scan(c, Range{}) {
			if err != nil {
				return 0, richest, poorest, err
			}
			v := d.Value(f).Int()
			total += int(v)
			if v > most {
				most, richest = v, d.ID
			}
			if v <= least {
				least, poorest = v, d.ID
			}
		}
		return total, richest, poorest, nil
	}
	move := func(tx *Tx, from, to dag.DocID, amount int) error {
		c, _ := tx.Collection("City")
		f, _ := c.Field("people")
		a, err := tx.Get(c, from)
		if err != nil {
			return err
		}
		b, err := tx.Get(c, to)
		if err != nil || from == to {
			return err
		}
		if _, err := updateIn(tx, "City", from, "people", int(a.Value(f).Int())-amount); err != nil {
			return err
		}
		_, err = updateIn(tx, "City", to, "people", int(b.Value(f).Int())+amount)
		return err
	}
	together(t, func(i int) error {
		for k := range 15 {
			var err error
			switch (i + k) % 3 {
			case 0:
				err = n.Update(context.Background(), As(n.key), func(tx *Tx) error {
					return move(tx, ids[(i+k)%cities], ids[(i*k+1)%cities], k%7)
				})
			case 1:
				err = n.Update(context.Background(), As(n.key), func(tx *Tx) error {
					total, rich, poor, err := sum(tx)
					if err != nil {
						return err
					}
					if total != start*cities {
						return fmt.Errorf("an update sees %d people", total)
					}
					return move(tx, rich, poor, 1)
				})
			default:
				err = n.View(context.Background(), System, func(tx *Tx) error {
					total, _, _, err := sum(tx)
					if err == nil && total != start*cities {
						err = fmt.Errorf("a view sees %d people", total)
					}
					return err
				})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	wantSound(t, n)
}

// Explicit transactions that conflict are repeated by their callers.
func TestExplicitTransactionsTogether(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	id := n.create("City", "name", "Bern", "people", 0)
	const each = 10
	together(t, func(int) error {
		for done := 0; done < each; {
			tx, err := n.Begin(As(n.key), false)
			if err != nil {
				return err
			}
			if err := n.next(tx, id); err != nil {
				tx.Discard()
				return err
			}
			switch err := tx.Commit(context.Background()); {
			case err == nil:
				done++
			case !errors.Is(err, fault.Conflict):
				return err
			}
		}
		return nil
	})
	if got := n.field("City", id, "people"); got != fmt.Sprint(writers*each) {
		t.Errorf("people is %s, want %d", got, writers*each)
	}
}

// Writers, merges, readers of the feed, of the trees and of packs, all at once.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	n, peer := newNode(t, "ada"), newNode(t, "bob")
	const each = 20
	var ids []dag.DocID
	for i := range each {
		ids = append(ids, peer.create("Page", "title", fmt.Sprint("of bob ", i), "hits", 1))
		peer.set("Page", ids[i], "hits", 1)
	}
	pack := peer.everything("Page")
	ctx, cancel := context.WithCancel(t.Context())
	var feed []Change
	var reader sync.WaitGroup
	reader.Go(func() {
		for c, err := range n.Changes(ctx, System, 0) {
			if err != nil {
				return
			}
			feed = append(feed, c)
			if len(feed) == 6*each+2*each {
				return
			}
		}
	})
	page := n.coll("Page").ID
	together(t, func(i int) error {
		switch i {
		case 0:
			for range each {
				if _, err := n.Summary(page); err != nil {
					return err
				}
			}
			return nil
		case 1:
			for k := range pack {
				if _, err := n.Store.Merge(context.Background(), page, pack[:k+1], "bob"); err != nil {
					return err
				}
			}
			return nil
		}
		for k := range each {
			err := n.Update(context.Background(), As(n.key), func(tx *Tx) error {
				_, err := createIn(tx, "Page", "title", fmt.Sprint(i, k))
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	reader.Wait()
	cancel()
	for i, c := range feed {
		if c.Seq != uint64(i+1) {
			t.Fatalf("entry %d of the feed has number %d", i, c.Seq)
		}
	}
	if len(feed) != int(n.Seq()) {
		t.Errorf("the feed had %d entries, it is at %d", len(feed), n.Seq())
	}
	wantTree(t, n)
	wantSound(t, n)
}

// Of several schemas that are added at once each is added whole, under a number of
// its own; of several that have a name in common, one.
func TestCollectionsAddedAtOnce(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	added := make([]bool, writers)
	together(t, func(i int) error {
		err := n.Update(context.Background(), As(n.key), func(tx *Tx) error {
			cs, err := schema.Parse(fmt.Sprintf("type Own%d { a: String } type Shared { f%d: Int }", i, i), tx.Collections())
			if err != nil {
				return err
			}
			return tx.AddCollections(cs)
		})
		added[i] = err == nil
		if err != nil && !errors.Is(err, fault.Exists) && !errors.Is(err, fault.Invalid) {
			return err
		}
		return nil
	})
	won := 0
	for i, ok := range added {
		if _, there := n.Schema().Collection(fmt.Sprint("Own", i)); there != ok {
			t.Errorf("schema %d was added: %v, its other collection is there: %v", i, ok, there)
		}
		if ok {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d schemas were added that have a name in common, want 1", won)
	}
	shorts := map[short]string{}
	for m := range n.Schema().members() {
		if other, taken := shorts[m.short]; taken {
			t.Errorf("collections %s and %s have the same number", m.Name, other)
		}
		shorts[m.short] = m.Name
	}
	before := len(n.Schema().Collections())
	n.reopen()
	if after := len(n.Schema().Collections()); after != before {
		t.Errorf("%d collections after a restart, want %d", after, before)
	}
}

func TestExplicitTransactionSeesSchemaConflict(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	tx, err := n.Begin(As(n.key), false)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Discard()
	cs, err := schema.Parse("type A { a: String }", tx.Collections())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.AddCollections(cs); err != nil {
		t.Fatal(err)
	}
	if _, err := createIn(tx, "A", "a", "in a collection of its own"); err != nil {
		t.Fatal(err)
	}
	n.addSchema("type B { b: String }")
	wantKind(t, tx.Commit(t.Context()), fault.Conflict, "adding collections beside somebody else")
	wantSound(t, n)
}
