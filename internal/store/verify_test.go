package store

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

func (n *node) verify(coll string, id dag.DocID, at *dag.CID) (v *Verification) {
	n.t.Helper()
	n.view(func(tx *Tx) (err error) {
		v, err = tx.Verify(context.Background(), n.coll(coll), id, at)
		return err
	})
	return v
}

// Two people who hold the same commits read the same hash to each other, and it is
// another one as soon as one of them has more.
func TestTwoPeopleCompareWhatTheyHave(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	id := ann.create("Paper", "title", "draft")
	ann.mustDo("Paper", id, grantTo("writer", person("bob")))
	bob.learns(ann)
	bob.set("Paper", id, "title", "bob's")
	ann.mustDo("Paper", id, revokeFrom("writer", person("bob")))
	before := ann.heads("Paper", id)[0]
	old := ann.verify("Paper", id, nil)
	if !old.Sound() || len(old.Commits) != 3 || old.Access.Owner() != ann.key.Public() {
		t.Fatalf("ann finds %+v", old)
	}
	if bob.verify("Paper", id, nil).State == old.State {
		t.Fatal("bob has something else, and finds the same")
	}
	meet(ann, bob)
	a, b := ann.verify("Paper", id, nil), bob.verify("Paper", id, nil)
	if a.State != b.State || !a.Sound() || !b.Sound() || a.Access.Voided() != 1 {
		t.Fatalf("ann finds %+v, bob %+v", a, b)
	}
	void := 0
	for _, c := range a.Commits {
		if c.Verdict == acp.Void {
			void++
		}
	}
	if void != 1 {
		t.Errorf("%d commits are void", void)
	}
	if then := bob.verify("Paper", id, &before); then.State != old.State || !then.Sound() {
		t.Errorf("at %s bob finds %x, ann found %x", before, then.State, old.State)
	}
}

// Whoever changes the files behind the back of the database is found out.
func TestATamperedHistoryIsNotSound(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"row", "signature", "foreign commit"} {
		t.Run(what, func(t *testing.T) {
			ann := newNode(t, "ann").policed()
			id := ann.create("Paper", "title", "draft")
			ann.set("Paper", id, "title", "final")
			n, _ := ann.Schema().short(ann.coll("Paper").ID)
			key, value := tampered(t, ann, n, id, what)
			b := ann.kv.NewBatch()
			b.Set(key, value)
			if err := ann.write(b); err != nil {
				t.Fatal(err)
			}
			v := ann.verify("Paper", id, nil)
			if v.Sound() {
				t.Fatalf("it is found sound: %+v", v)
			}
			for _, c := range v.Commits {
				if c.Err != nil && what == "row" {
					t.Errorf("commit %s: %v", c.CID, c.Err)
				}
			}
		})
	}
}

// tampered returns an entry that somebody might put into the files.
func tampered(t *testing.T, n *node, coll short, id dag.DocID, what string) (key, value []byte) {
	var history []Applied
	var row []byte
	n.view(func(tx *Tx) error {
		for a, err := range tx.historyOf(coll, id) {
			if err != nil {
				return err
			}
			history = append(history, a)
		}
		d, _, err := tx.document(coll, id)
		row = []byte(strings.Replace(string(d.Bytes()), "final", "FINAL", 1))
		return err
	})
	last := history[len(history)-1]
	at := place{coll, id, last.Height, last.CID}
	switch what {
	case "row":
		return documentKey(coll, id), row
	case "signature":
		e := []byte(string(last.Envelope()))
		e[len(e)-10] ^= 1
		return at.key(), stored{seq: last.Seq, envelope: e}.append(nil)
	}
	// A stranger's commit, well signed, on top of what is there.
	cm := childOf(t, keyOf("eve"), last.Deltas, last.Commit)
	return place{coll, id, cm.Height, cm.CID}.key(), stored{seq: last.Seq + 1, envelope: cm.Envelope()}.append(nil)
}

// Each field says who gave it its value.
func TestEveryValueHasAnAuthor(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	id := ann.create("Paper", "title", "draft", "hits", 1)
	ann.mustDo("Paper", id, grantTo("writer", person("bob")))
	bob.learns(ann)
	bob.set("Paper", id, "title", "bob's", "hits", 2)
	bob.set("Paper", id, "hits", 3)
	at := bob.heads("Paper", id)[0]
	meet(ann, bob)
	ann.set("Paper", id, "hits", 4)
	bob.learns(ann)
	want := map[bool]string{
		false: "hits: ann 5, bob 5; title: bob \"bob's\"; ",
		true:  "hits: ann 1, bob 5; title: bob \"bob's\"; ",
	}
	for past, want := range want {
		var when *dag.CID
		if past {
			when = &at
		}
		got := ""
		bob.view(func(tx *Tx) error {
			all, err := tx.Blame(context.Background(), bob.coll("Paper"), id, when)
			for _, b := range all {
				var shares []string
				for _, s := range b.Shares {
					name := map[bool]string{true: "ann", false: "bob"}[s.Author.Key == ann.key.Public()]
					shares = append(shares, fmt.Sprintf("%s %s", name, s.Value.AppendJSON(nil)))
				}
				got += b.Field.Name + ": " + strings.Join(shares, ", ") + "; "
			}
			return err
		})
		if got != want {
			t.Errorf("past %v: blamed are %s\nwant %s", past, got, want)
		}
	}
	ann.view(func(tx *Tx) error {
		_, err := tx.Verify(context.Background(), ann.coll("Paper"), id, &dag.CID{1})
		wantKind(t, err, fault.NotFound, "a commit that is not of the document")
		return nil
	})
}
