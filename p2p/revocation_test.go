package p2p

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pandodb/pando"
)

// A right that is taken away ends at every node that holds the document as soon as the
// news of it is there: among 50 who may all read it, in a mesh where everybody knows
// some others, within a few hops. With PANDO_LONG=1 it has 20 documents instead of 4.
func TestARevocationIsEffectiveEverywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("50 databases")
	}
	docs := 4
	if os.Getenv("PANDO_LONG") != "" {
		docs = 20
	}
	simulate(t, 80*time.Millisecond, func(t *testing.T, w *world) { // 40 ms one way
		ps := persons(t, w, 50)
		knowSome(t, ps)
		eventually(t, time.Minute, func() (bool, string) {
			for _, p := range ps {
				if len(p.member.db.Collections()) < 2 {
					return false, "a node has no collections"
				}
			}
			return true, ""
		})
		ada := ps[0]
		var ids []pando.DocID
		for i := range docs {
			ids = append(ids, ada.writes(fmt.Sprint("note ", i))...)
		}
		sharesWithAll(t, ada, ids, ps[1:])
		for _, doc := range ids {
			alike(t, 5*time.Minute, doc, ps...)
		}
		time.Sleep(time.Minute)
		note, err := ada.db.Collection("Note")
		if err != nil {
			t.Fatal(err)
		}
		var late []time.Duration
		for i, doc := range ids {
			out := ps[1+i]
			ada.takesBack(doc, "reader", out.did())
			late = append(late, endsAt(t, note.ID, doc, out, ps)...)
			time.Sleep(10 * time.Second)
		}
		slices.Sort(late)
		p50, p99 := late[len(late)/2], late[len(late)*99/100]
		t.Logf("a revocation is effective at %d nodes after %v (half of them), %v (99 of 100), %v (all)", len(late), p50, p99, late[len(late)-1])
		if p99 > time.Second {
			t.Errorf("99 of 100 nodes need %v, want at most a second", p99)
		}
		told, gossiped := uint64(0), uint64(0)
		for _, p := range ps {
			c := p.node.Counters()
			told, gossiped = told+c.Told, gossiped+c.Announced
			if c.Blamed+c.Breaches+c.Mismatches > 0 {
				t.Errorf("%s: %+v", p.id(), c)
			}
		}
		t.Logf("%d commits were told to peers, %d announced in topics", told, gossiped)
	})
}

// knowSome starts people of whom each names three that came before.
func knowSome(t *testing.T, ps []*person) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 50))
	for i, p := range ps {
		var known []*member
		for range min(i, 3) {
			if o := ps[rng.IntN(i)].member; !slices.Contains(known, o) {
				known = append(known, o)
			}
		}
		p.start(known...)
		for _, o := range known {
			if err := o.node.trust(*p.info()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// sharesWithAll lets people read documents.
func sharesWithAll(t *testing.T, p *person, docs []pando.DocID, with []*person) {
	t.Helper()
	err := p.db.Update(p.ctx, func(tx *pando.Tx) error {
		notes, err := tx.Collection("Note")
		for _, doc := range docs {
			for _, o := range with {
				who, bad := pando.ParseSubject(o.did())
				if err == nil {
					err = bad
				}
				if err == nil {
					_, err = notes.Grant(doc, "reader", who)
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// endsAt waits until nobody gives a document to somebody any more, and returns after
// which time each of the others knew.
func endsAt(t *testing.T, id pando.CollectionID, doc pando.DocID, out *person, ps []*person) (late []time.Duration) {
	t.Helper()
	begun, left := time.Now(), slices.DeleteFunc(slices.Clone(ps), func(p *person) bool { return p == out })
	as := pando.ReaderOf(out.key.Public())
	eventually(t, time.Minute, func() (bool, string) {
		left = slices.DeleteFunc(left, func(p *person) bool {
			may, err := p.member.db.Replica().Readable(context.Background(), id, doc, as)
			if err != nil {
				t.Fatal(err)
			}
			if !may {
				late = append(late, time.Since(begun))
			}
			return !may
		})
		return len(left) == 0, fmt.Sprintf("%d nodes give it still", len(left))
	})
	return late
}
