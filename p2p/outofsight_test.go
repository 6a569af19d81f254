package p2p

import (
	"testing"
	"time"

	"github.com/pandodb/pando"
)

// What somebody holds and may not read any more nobody shows him: that others have it, too,
// he knows only when he has given it.

// alikeByStatus requires that the status of each says of each that their notes are the same,
// a few seconds after something happened.
func alikeByStatus(t *testing.T, after string, all ...*person) {
	t.Helper()
	time.Sleep(5 * time.Second)
	for _, p := range all {
		for _, with := range all {
			if p == with {
				continue
			}
			if c := copyOf(t, p, with); c.State != Identical {
				t.Errorf("%s: %s of %s is %s, %d differ", after, p.id(), with.id(), c.State, c.Differ)
			}
		}
	}
}

// acquainted are people who have met, and each seen that there is nothing to exchange.
func acquainted(t *testing.T, w *world, n int) []*person {
	t.Helper()
	ps := persons(t, w, n)
	meet(ps...)
	eventually(t, 20*time.Second, func() (bool, string) {
		for _, p := range ps {
			if len(p.member.db.Collections()) < 2 {
				return false, "no collections"
			}
		}
		return true, ""
	})
	time.Sleep(20 * time.Second)
	return ps
}

func TestWhatWasGivenAwayIsNoDifference(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ps := acquainted(t, w, 4)
		ada, bob, cem, eve := ps[0], ps[1], ps[2], ps[3]
		for _, doc := range []pando.DocID{ada.writes("in clear")[0], ada.seals("sealed")} {
			ada.shares(doc, "reader", cem.did())
			ada.shares(doc, "writer", eve.did())
			alike(t, 2*time.Second, doc, ada, cem, eve)
			time.Sleep(10 * time.Second)
			if err := ada.db.Transfer(ada.ctx, "Note", doc, bob.key.DID()); err != nil {
				t.Fatal(err)
			}
			alike(t, 2*time.Second, doc, ps...)
			alikeByStatus(t, "given away", ps...)
			if err := eve.edits(doc, "not for ada"); err != nil {
				t.Fatal(err)
			}
			alike(t, 2*time.Second, doc, bob, cem, eve)
			alikeByStatus(t, "changed since", ps...)
		}
	})
}

// Who was given a document while he was away gets all of it when he is back. That he could
// do nothing with the last of it alone is no reason to wait with pushing.
func TestWhatIsNewToWhoIsBackIsNotRefused(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ps := acquainted(t, w, 2)
		ada, bob := ps[0], ps[1]
		doc := ada.writes("first")[0]
		if err := ada.edits(doc, "second"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute) // bob is past that in ada's feed
		w.cut([]*member{ada.member}, []*member{bob.member})
		time.Sleep(2 * time.Minute)
		if err := ada.db.Transfer(ada.ctx, "Note", doc, bob.key.DID()); err != nil {
			t.Fatal(err)
		}
		w.heal([]*member{ada.member}, []*member{bob.member})
		alike(t, 10*time.Minute, doc, ps...)
		alikeByStatus(t, "given away while bob was away", ps...)
		note, err := ada.db.Collection("Note")
		if err != nil {
			t.Fatal(err)
		}
		if ada.node.later.refuses(sharing{bob.id(), note.ID}) {
			t.Error("ada waits with pushing to bob")
		}
	})
}

// A right that ends at the moment in which something else changes is told with that.
func TestTheEndOfARightIsToldWithWhatIsBelow(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ps := acquainted(t, w, 3)
		ada, bob, cem := ps[0], ps[1], ps[2]
		doc := ada.writes("for all")[0]
		ada.shares(doc, "reader", "*")
		alike(t, 2*time.Second, doc, ps...)
		time.Sleep(10 * time.Second)
		ada.shares(doc, "admin", cem.did())
		ada.takesBack(doc, "reader", "*")
		t.Logf("all know it after %v", alike(t, 2*time.Second, doc, ps...))
		alikeByStatus(t, "taken from all", ps...)
		cem.shares(doc, "reader", bob.did())
		alike(t, 2*time.Second, doc, ps...)
		alikeByStatus(t, "shared by cem, who may not read it", ps...)
	})
}

// Whoever passes on what he may not read himself knows that it is there when somebody asked
// for his status twice, at the latest.
func TestWhatAStatusFindsIsCompared(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ps := acquainted(t, w, 4)
		ada, bob, cem := ps[0], ps[1], ps[2]
		guest := ada.member.db.As(personKey(t, 9)) // who works on ada's machine
		var doc pando.DocID
		err := guest.Update(ada.ctx, func(tx *pando.Tx) error {
			notes, err := tx.Collection("Note")
			if err == nil {
				var d pando.Document
				d, err = notes.Create(map[string]any{"text": "by a guest"})
				doc = d.ID
			}
			return err
		})
		for _, p := range []*person{bob, cem} {
			who, _ := pando.ParseSubject(p.did())
			if err == nil {
				_, err = guest.Grant(ada.ctx, "Note", doc, "writer", who)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		alike(t, 2*time.Second, doc, ada, bob, cem)
		alikeByStatus(t, "shared by a guest", ps...)
		time.Sleep(lookAgainAfter)
		err = guest.Update(ada.ctx, func(tx *pando.Tx) error {
			notes, err := tx.Collection("Note")
			if err == nil {
				_, err = notes.Update(doc, map[string]any{"text": "edited by a guest"})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		alike(t, 2*time.Second, doc, ada, bob, cem)
		copyOf(t, ada, cem) // it may say that something differs
		alikeByStatus(t, "edited", ps...)
	})
}

// One document that somebody cannot take, because he may not read the group of who wrote it,
// keeps no other from being given to him.
func TestWhatOneCannotTakeKeepsNothingElse(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ps := acquainted(t, w, 3)
		ada, bob, cem := ps[0], ps[1], ps[2]
		crew := ada.founds("crew") // of which bob knows nothing
		ada.takesIn(crew, cem)
		docs := ada.writes("bob cannot check", "for bob")
		ada.shares(docs[0], "reader", bob.did())
		ada.shares(docs[0], "writer", crew.String()+"#member")
		alike(t, 20*time.Second, docs[0], ada, cem)
		if err := cem.edits(docs[0], "by the crew"); err != nil {
			t.Fatal(err)
		}
		alike(t, 20*time.Second, docs[0], ada, cem)
		note, err := ada.db.Collection("Note")
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Minute, func() (bool, string) {
			return ada.node.later.refuses(sharing{bob.id(), note.ID}), "bob was not given what he cannot take"
		})
		time.Sleep(time.Minute)
		if err := ada.db.Transfer(ada.ctx, "Note", docs[1], bob.key.DID()); err != nil {
			t.Fatal(err)
		}
		alike(t, 20*time.Second, docs[1], ada, bob)
		time.Sleep(5 * time.Second)
		for _, c := range []struct{ of, with *person }{{ada, bob}, {bob, ada}} {
			if one := copyOf(t, c.of, c.with); one.State != Differs || one.Differ != 1 {
				t.Errorf("at %s: %s, %d differ, want the one that bob cannot take", c.of.id(), one.State, one.Differ)
			}
		}
	})
}
