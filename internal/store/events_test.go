package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// Whoever reads passes over rows: what rights follow from is not in them, and of a document
// that nobody else may read there is nothing of the kind.
func TestRowsAreAsLongAsWhatIsHeld(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ann").policed()
	id := n.create("Paper", "title", "draft")
	events := func() (size int) {
		snap := n.kv.Snapshot()
		defer snap.Close()
		for e, err := range snap.Scan([]byte{tableEvent}, []byte{tableEvent + 1}) {
			if err != nil {
				t.Fatal(err)
			}
			size += len(e.Value)
		}
		return size
	}
	row := func() int { return len(n.get("Paper", id).State.Attached(crdt.FieldAccess, crdt.KindAccess)) }
	n.set("Paper", id, "title", "second draft")
	if got := events(); got != 0 {
		t.Fatalf("a document that is shared with nobody has %d bytes of events", got)
	}
	n.mustDo("Paper", id, grantTo("reader", person("bob")))
	short, few := row(), events()
	for range 10 {
		n.mustDo("Paper", id, revokeFrom("reader", person("bob")))
		n.mustDo("Paper", id, grantTo("reader", person("bob")))
	}
	if got := row(); got > short || events() < 20*few {
		t.Errorf("once shared, %d bytes of rights in the row, %d beside; after 20 changes %d and %d", short, few, got, events())
	}
	wantSound(t, n)
}

// What a transaction takes back it takes back beside the row, too.
func TestTakenBackRightsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ann").policed()
	id := n.create("Paper", "title", "draft")
	n.mustDo("Paper", id, grantTo("reader", person("bob")))
	takenBack := errors.New("taken back")
	n.update(func(tx *Tx) error {
		err := tx.Try(func() error {
			if _, err := tx.WriteAccess(n.coll("Paper"), id, grantTo("reader", person("cy"))); err != nil {
				return err
			}
			return takenBack
		})
		if !errors.Is(err, takenBack) {
			return fmt.Errorf("got %v", err)
		}
		_, err = tx.WriteAccess(n.coll("Paper"), id, grantTo("writer", person("dan")))
		return err
	})
	n.mustDo("Paper", id, revokeFrom("writer", person("dan")))
	wantSound(t, n)
}

// Who only reads and updates does not miss the events; who changes rights is told what to do.
func TestMissingEventsAreToldToWhoNeedsThem(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ann").policed()
	id := n.create("Paper", "title", "draft")
	n.mustDo("Paper", id, grantTo("reader", person("bob")))
	n.damage(func(b *kv.Batch, snap *kv.Snapshot) {
		key, _ := first(t, snap, tableEvent)
		b.Delete(key)
	})
	n.open()
	n.set("Paper", id, "title", "final")
	wantKind(t, n.does("Paper", id, grantTo("reader", person("cy"))), fault.Corrupt, "changing rights without what they follow from")
	v := n.verify("Paper", id, nil)
	if v.Stored || v.Sound() {
		t.Error("what is missing is not seen when the document is verified")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.rebuild()
	n.open()
	n.mustDo("Paper", id, grantTo("reader", person("cy")))
	wantSound(t, n)
}

// Events of a document that has none are seen by whoever checks it, and all of the database.
func TestEventsOfNothingAreSeen(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ann").policed()
	id := n.create("Paper", "title", "draft")
	n.damage(func(b *kv.Batch, snap *kv.Snapshot) {
		row, _ := first(t, snap, tableDocument)
		b.Set(append([]byte{tableEvent}, row[1:]...), []byte("nothing"))
	})
	n.open()
	if n.verify("Paper", id, nil).Stored {
		t.Error("it is not seen when the document is verified")
	}
	if got := n.problems(); len(got) != 1 || got[0].What != "events" {
		t.Errorf("got problems %v, want one of events", got)
	}
}
