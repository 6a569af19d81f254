package p2p

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
)

// beside makes so many commits beside each other, on the first commit of a database.
func beside(t *testing.T, db *pando.DB, id pando.CollectionID, n int) (out [][]byte) {
	t.Helper()
	for b, err := range db.Replica().Full(t.Context(), id, pando.DocID{}) {
		if err != nil {
			t.Fatal(err)
		}
		first, err := dag.Open(bytes.Clone(b.Envelope))
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			c := &dag.Commit{Doc: first.Doc, Author: first.Author, Schema: first.Schema, Deltas: slices.Clone(first.Deltas),
				Parents: []dag.CID{first.CID}, Height: 2, HLC: first.HLC + 1 + uint64(i)}
			if _, err := dag.Seal(c, db.Identity()); err != nil {
				t.Fatal(err)
			}
			out = append(out, bytes.Clone(c.Envelope()))
		}
		break
	}
	return out
}

// Two copies of a document that thousands wrote on while apart differ by a few commits.
// When they are compared, these cross the line, and some bytes for each head: not all
// commits. With PANDO_LONG=1 there are 16,000.
func TestManyHeadsAreNotSentAgain(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		heads := 3000
		if os.Getenv("PANDO_LONG") != "" {
			heads = 16_000
		}
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		addSchema(t, b.db, schemaText)
		createUsers(t, a.db, "x", 1)
		id := a.db.Collections()[0].ID
		all := append(commitsOf(t, a, id), beside(t, a.db, id, heads+20)...)
		for i, m := range []*member{a, b} {
			some := slices.Concat(all[:heads+1], all[heads+1+10*i:][:10])
			if got, err := m.db.Replica().Merge(t.Context(), id, some, ""); err != nil || got.Applied+got.Known != len(some) {
				t.Fatalf("%d applied, %v", got.Applied, err)
			}
		}
		startAll([]*member{a, b})
		took := converge(t, 30*time.Second, a, b)
		c := a.node.Counters()
		if sum := c.Received + c.Sent; sum > 64*uint64(heads) {
			t.Errorf("%d bytes crossed the line, want at most 64 for each of %d heads", sum, heads)
		}
		t.Logf("20 of %d heads: %v, %d bytes in, %d out, of %d bytes each", heads, took, c.Received, c.Sent, len(all[0]))
	})
}

// A peer of an older version can be told of few of the heads of a document that thousands
// wrote on: the others come again, more of them in a row than anybody is to repeat who is
// not trusted. They are not repeated, since each of them comes once.
func TestManyHeadsThatComeAgainAreNotRepeated(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		const heads = 2*maxUselessOfBlamed + maxOldLocator + maxOldHeads
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		addSchema(t, b.db, schemaText)
		createUsers(t, a.db, "x", 1)
		id := a.db.Collections()[0].ID
		all := append(commitsOf(t, a, id), beside(t, a.db, id, heads)...)
		slices.SortFunc(all[1:], func(x, y []byte) int { return bytes.Compare(cidOf(t, x), cidOf(t, y)) })
		for i, some := range [][][]byte{all[:len(all)-1], slices.Concat(all[:heads-1], all[heads:])} {
			m := []*member{a, b}[i]
			if got, err := m.db.Replica().Merge(t.Context(), id, some, ""); err != nil || got.Applied+got.Known != len(some) {
				t.Fatalf("%d applied, %v", got.Applied, err)
			}
		}
		startAll([]*member{a, b})
		for _, m := range []*member{a, b} {
			other := map[*member]*member{a: b, b: a}[m]
			m.node.host.RemoveStreamHandler(protocolFetch)
			m.node.blame(other.id(), blameBreach/2, "a test")
		}
		converge(t, 2*time.Minute, a, b)
		for _, m := range []*member{a, b} {
			if n := m.node.Counters().Blamed; n > 1 {
				t.Errorf("a peer was blamed %d times more", n-1)
			}
		}
	})
}

func cidOf(t *testing.T, envelope []byte) []byte {
	t.Helper()
	c, err := dag.Open(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return c.CID[:]
}

// Of a document with more heads than are shown nobody can say that all of it is here.
func TestHeadsThatAreCutOffAreNotAll(t *testing.T) {
	db := openDB(t, "")
	id := addSchema(t, db, schemaText)
	createUsers(t, db, "a", 1)
	all, docs := plainCopy(t, db, id)
	s := &session{n: &Node{replica: db.Replica(), agreements: newAgreements()}, ctx: t.Context(), peer: "peer"}
	d := docHeads{docs[0], []dag.CID{dag.CID(cidOf(t, all[0]))}}
	if had, err := s.had(pair{id: id}, d); err != nil || !had {
		t.Errorf("a document that is here: had %v, %v", had, err)
	}
	d.Heads = slices.Repeat(d.Heads, maxShownHeads)
	if had, err := s.had(pair{id: id}, d); err != nil || had {
		t.Errorf("a document of which as many heads are shown as can be: had %v, %v", had, err)
	}
}
