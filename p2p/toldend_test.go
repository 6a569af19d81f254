package p2p

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pandodb/pando"
)

// busyWith waits until two people are connected, and keeps the node of the first from
// beginning sessions with the other, until the function that it returns is called.
func (p *person) busyWith(other *person) (free func()) {
	p.w.t.Helper()
	eventually(p.w.t, 5*time.Minute, func() (bool, string) {
		c, err := p.node.companion(other.id())
		if err != nil {
			return false, err.Error()
		}
		select {
		case c.turn <- struct{}{}:
			free = func() { <-c.turn }
		default:
		}
		return free != nil, "it compares already"
	})
	return free
}

// away runs something while nobody reaches a person.
func away(w *world, who *person, others []*person, what func()) {
	var rest []*member
	for _, o := range others {
		if o != who {
			rest = append(rest, o.member)
		}
	}
	w.cut([]*member{who.member}, rest)
	time.Sleep(2 * time.Minute)
	what()
	w.heal([]*member{who.member}, rest)
}

// Who lost a right while he was away is told so when he is back, whoever looks at the status
// first. Until he is told, it differs.
func TestAStatusKeepsNobodyFromBeingTold(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ps := acquainted(t, w, 2)
		slices.SortFunc(ps, func(a, b *person) int { return -cmpID(a.id(), b.id()) })
		ada, bob := ps[0], ps[1] // whose node begins the first session
		doc := ada.writes("for bob")[0]
		ada.shares(doc, "reader", bob.did())
		alike(t, 2*time.Second, doc, ps...)
		time.Sleep(10 * time.Second)
		away(w, bob, ps, func() { ada.takesBack(doc, "reader", bob.did()) })
		free := ada.busyWith(bob)
		time.Sleep(5 * time.Second)
		for range 2 {
			if one := copyOf(t, ada, bob); one.State != Differs || one.Differ != 1 {
				t.Errorf("while bob is not told: %s, %d differ", one.State, one.Differ)
			}
		}
		free()
		t.Logf("bob is told after %v", alike(t, 20*time.Second, doc, ps...))
		alikeByStatus(t, "told", ps...)
	})
}

// A right that was held through a group ends without a word: that is no difference.
func TestTheEndOfAGroupsRightIsNoDifference(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ps := acquainted(t, w, 2)
		ada, bob := ps[0], ps[1]
		crew := ada.founds("crew")
		ada.takesIn(crew, bob)
		doc := ada.writes("for the crew")[0]
		ada.shares(doc, "reader", crew.String()+"#member")
		alike(t, 20*time.Second, doc, ps...)
		time.Sleep(10 * time.Second)
		away(w, bob, ps, func() {
			ada.takesBack(doc, "reader", crew.String()+"#member")
		})
		time.Sleep(2 * time.Minute)
		alikeByStatus(t, "taken from the crew", ps...)
	})
}

// Of more ends than are told at a time somebody hears all.
func TestManyEndsAreAllTold(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ps := acquainted(t, w, 2)
		ada, bob := ps[0], ps[1]
		var texts []string
		for i := range maxFarewells + 20 {
			texts = append(texts, fmt.Sprint("for bob ", i))
		}
		docs := ada.writes(texts...)
		sharesWithAll(t, ada, docs, ps[1:])
		bob.has(20*time.Second, docs...)
		time.Sleep(10 * time.Second)
		away(w, bob, ps, func() {
			bobs, err := pando.ParseSubject(bob.did())
			if err == nil {
				err = ada.db.Update(ada.ctx, func(tx *pando.Tx) error {
					notes, err := tx.Collection("Note")
					for _, doc := range docs {
						if err == nil {
							_, err = notes.Revoke(doc, "reader", bobs)
						}
					}
					return err
				})
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		time.Sleep(2 * time.Minute)
		told, known := bob.holds("Note"), ada.holds("Note")
		for _, doc := range docs {
			if !slices.Equal(told[doc], known[doc]) {
				t.Errorf("bob was not told of the end of %s", doc)
			}
		}
		alikeByStatus(t, "told of all", ps...)
	})
}

// The end of a right that could not be told, as the line was cut, is open again.
func TestAnEndThatDidNotArriveIsToldAgain(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ps := acquainted(t, w, 2)
		ada, bob := ps[0], ps[1]
		doc := ada.writes("for bob")[0]
		ada.shares(doc, "reader", bob.did())
		alike(t, 2*time.Second, doc, ps...)
		time.Sleep(10 * time.Second)
		note, err := ada.db.Collection("Note")
		if err != nil {
			t.Fatal(err)
		}
		with, there := sharing{bob.id(), note.ID}, bob.holds("Note")[doc]
		away(w, bob, ps, func() {
			ada.takesBack(doc, "reader", bob.did())
			ada.node.agreements.note(with, doc, func(a *agreement) { a.had = sumOf(doc, there) })
			if !ada.node.sayFarewell(bob.id(), note.ID, doc, ada.holds("Note")[doc]) {
				t.Error("there is no room to tell of the end")
			}
			time.Sleep(time.Minute)
		})
		alike(t, 5*time.Minute, doc, ps...)
	})
}
