package p2p

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// Trouble with reading the feed ends when it ends, and what stays unreadable is
// stepped over.
func TestAnnouncementsOutliveTroubleWithTheFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		db := openDB(t, "")
		addSchema(t, db, schemaText)
		n := &Node{db: db, replica: db.Replica(), lookouts: newLookouts(), log: slog.New(slog.DiscardHandler)}
		made := make(chan announcement, 100)
		trouble := 2
		changes := func(ctx context.Context, after uint64) iter.Seq2[pando.Change, error] {
			return func(yield func(pando.Change, error) bool) {
				for c, err := range n.replica.Changes(ctx, after) {
					if err == nil && (trouble > 0 || c.Seq == 3) { // the third is damaged
						trouble--
						err = fault.Corrupt.Errorf("a test")
					}
					if !yield(c, err) || err != nil {
						return
					}
				}
			}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.readFeed(ctx, changes, made)
		}()
		synctest.Wait()
		createUsers(t, db, "a", 4)
		time.Sleep(10 * time.Minute)
		createUsers(t, db, "b", 1)
		synctest.Wait()
		if len(made) != 3 {
			t.Errorf("%d changes were announced, want the two before the damage and the one after it was given up", len(made))
		}
		cancel()
		<-done
	})
}

// A rebuild may step over commits. Cursors from before it would say that they are here.
func TestARebuiltFeedHasNoCursors(t *testing.T) {
	db := openDB(t, "")
	id := addSchema(t, db, schemaText)
	open := func() *cursors {
		t.Helper()
		c, err := newCursors(notes{db.Replica()})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	c.set("p", id, cursor{seq: 7})
	if err := c.write(); err != nil {
		t.Fatal(err)
	}
	if got := open().get("p", id); got.seq != 7 {
		t.Errorf("after a restart the cursor is at %d, want 7", got.seq)
	}
	// A rebuild that lost something gives the feed a new epoch, and keeps the notes.
	if err := c.notes.put(map[string][]byte{noteEpoch: make([]byte, 16)}); err != nil {
		t.Fatal(err)
	}
	if got := open().get("p", id); got.seq != 0 {
		t.Errorf("after a rebuild the cursor is at %d, want none", got.seq)
	}
	if got := open().get("p", id); got.seq != 0 {
		t.Errorf("after another start the cursor is at %d, want none", got.seq)
	}
}

func TestAReplicatedPeerIsNotForgotten(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		a.start()
		b.start()
		if err := a.node.AddReplicator(t.Context(), b.addr(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if err := a.node.Forget(b.id().String()); !errors.Is(err, fault.Invalid) {
			t.Errorf("got %v, want Invalid and what to do first", err)
		}
		b.port = 8001 // added again, under another address too
		if err := a.node.AddReplicator(t.Context(), b.addr(), nil); err != nil {
			t.Fatal(err)
		}
		if r := a.node.Replicators(); len(r) != 1 || len(r[0].Addrs) != 2 {
			t.Errorf("replicators %+v, want one with both addresses", r)
		}
		if err := a.node.RemoveReplicator(t.Context(), b.id().String(), nil); err != nil {
			t.Fatal(err)
		}
		if err := a.node.Forget(b.id().String()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if _, err := a.node.companion(b.id()); err == nil {
			t.Error("the forgotten peer was connected again")
		}
	})
}

// A peer whose commits cannot be stored is told, however many are on the way.
func TestAFailedPushIsAnswered(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, _, id := attack(t, w, true)
		wire := x.stream(t, a, &id)
		a.db.Close() // as a full disk would
		wire.send(&push{0})
		var err error
		for err == nil {
			err = wire.send(&blocks{Envelopes: [][]byte{make([]byte, packBytes)}})
		}
		wire.patient = courtesyDelay
		_, why := wire.receive()
		if r := new(refuse); !errors.As(why, &r) || r.Code != refusedFailed {
			t.Errorf("got %v, want a refusal", why)
		}
	})
}
