package p2p

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
)

// lengthen writes a document so many times, so many bytes each time.
func lengthen(t testing.TB, db *pando.DB, id pando.DocID, times, size int) {
	t.Helper()
	for start := 0; start < times; start += 500 {
		err := db.Update(t.Context(), func(tx *pando.Tx) error {
			users, err := tx.Collection("User")
			for i := start; i < min(times, start+500) && err == nil; i++ {
				_, err = users.Update(id, map[string]any{"name": fmt.Sprint(i, strings.Repeat("x", size)), "points": i})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// plainCopy is all that a database has of a collection: what any way to copy it has
// to bring.
func plainCopy(t testing.TB, db *pando.DB, id pando.CollectionID) (all [][]byte, docs []pando.DocID) {
	t.Helper()
	for b, err := range db.Replica().Full(t.Context(), id, pando.DocID{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bytes.Clone(b.Envelope))
		if len(docs) == 0 || docs[len(docs)-1] != b.Doc {
			docs = append(docs, b.Doc)
		}
	}
	return all, docs
}

// asked sends a question over a stream and returns the answer up to END, without
// merging any of it.
func (f *fetching) asked(t *testing.T, m message) (envelopes [][]byte, cut []*more, mark uint64, done *pando.DocID) {
	t.Helper()
	if err := f.w.send(m); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := f.w.receive()
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *blocks:
			envelopes = append(envelopes, m.Envelopes...)
			if m.Done != nil {
				done = m.Done
			}
		case *more:
			cut = append(cut, m)
		case *end:
			return envelopes, cut, m.Mark, done
		default:
			t.Fatalf("%T among commits", m)
		}
	}
}

// byPlace sorts commits as a plain copy does.
func byPlace(t *testing.T, envelopes [][]byte) [][]byte {
	t.Helper()
	opened := map[*byte]*dag.Commit{}
	for _, e := range envelopes {
		c, err := dag.Open(e)
		if err != nil {
			t.Fatal(err)
		}
		opened[&e[0]] = c
	}
	slices.SortFunc(envelopes, func(x, y []byte) int {
		a, b := opened[&x[0]], opened[&y[0]]
		if c := a.Doc.Compare(b.Doc); c != 0 {
			return c
		}
		return pando.Point{Height: a.Height, CID: a.CID}.Compare(pando.Point{Height: b.Height, CID: b.CID})
	})
	return envelopes
}

func sameCommits(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// Ranges, wherever they are cut and gone on with, and the parts of histories that
// are longer than an answer, make the plain copy: nothing is left out, and nothing
// comes twice.
func TestPartsMakeThePlainCopy(t *testing.T) {
	simulate(t, 2*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		id := addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "a", 200)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		b.node.wants.alarm.Clear(time.Now())
		_, docs := plainCopy(t, a.db, id)
		for _, doc := range []pando.DocID{docs[0], docs[90], docs[199]} {
			lengthen(t, a.db, doc, 40, 60_000) // 2.4 MB
		}
		want, _ := plainCopy(t, a.db, id)
		f, err := b.node.openFetch(t.Context(), a.id(), id)
		if err != nil {
			t.Fatal(err)
		}
		defer f.close(nil)
		rng := rand.New(rand.NewPCG(1, 2))
		for range 4 {
			var bounds []*pando.DocID // the last is the end
			for range rng.IntN(4) {
				cut := docs[rng.IntN(len(docs))]
				cut[31] ^= byte(rng.IntN(2)) // also between documents
				bounds = append(bounds, &cut)
			}
			slices.SortFunc(bounds, func(a, b *pando.DocID) int { return a.Compare(*b) })
			var got [][]byte
			var cut []*more
			var after *pando.DocID
			for _, until := range append(bounds, nil) {
				for mark := uint64(0); mark == 0; {
					part, more, m, done := f.asked(t, &getRange{f.proof, after, until})
					got, cut, mark = append(got, part...), append(cut, more...), m
					if mark == 0 {
						after = done
					}
				}
				after = until
			}
			if len(cut) != 3 {
				t.Fatalf("%d documents were cut, want the 3 long ones", len(cut))
			}
			for _, m := range cut {
				for below := m.After.Height + 1 + rng.Uint64N(10); ; below += 1 + rng.Uint64N(20) {
					last := below > m.Top
					if last {
						below = 0
					}
					part, more, _, _ := f.asked(t, &getPart{Proof: f.proof, Doc: m.Doc, After: m.After, Below: below})
					if got = append(got, part...); len(more) > 0 {
						t.Fatalf("a part of a part: %+v", more[0])
					}
					if last {
						break
					}
					// The next begins after the last commit below.
					m.After = pando.Point{Height: below - 1, CID: fill[dag.CID](0xff)}
				}
			}
			if !sameCommits(byPlace(t, got), want) {
				t.Fatalf("%d commits came in parts, want the %d of a plain copy", len(got), len(want))
			}
		}
	})
}

// The log from any place on, and a full copy from any document on, are what a plain copy
// has from there, parents first and nothing twice.
func TestLogAndFullMakeThePlainCopy(t *testing.T) {
	db := openDB(t, "")
	id, other := addSchema(t, db, schemaText), addSchema(t, db, `type Note { text: String }`)
	createUsers(t, db, "a", 40)
	_, docs := plainCopy(t, db, id)
	rng := rand.New(rand.NewPCG(3, 4))
	before := map[uint64][][]byte{db.Seq(): nil} // by where the feed was: what there was
	for range 12 {
		before[db.Seq()], _ = plainCopy(t, db, id)
		lengthen(t, db, docs[rng.IntN(len(docs))], 1+rng.IntN(200), 10)
		createUsers(t, db, fmt.Sprint(rng.Uint64()), rng.IntN(40))
		err := db.Update(t.Context(), func(tx *pando.Tx) error {
			notes, err := tx.Collection("Note")
			if err == nil {
				_, err = notes.Create(map[string]any{"text": fmt.Sprint(rng.Uint64())})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	all, docs := plainCopy(t, db, id)
	n := &Node{replica: db.Replica()}
	sent := func(of pando.CollectionID, fill func(*sender) error) (got [][]byte) {
		var to collector
		out := &sender{w: newWire(&to, new(traffic)), to: n.reader("peer", of), ctx: t.Context()}
		if err := fill(out); err != nil {
			t.Fatal(err)
		}
		if err := out.flush(); err != nil {
			t.Fatal(err)
		}
		return to.commits(t)
	}
	for seq, had := range before {
		got := sent(id, func(s *sender) error { return s.sendLog(t.Context(), seq, db.Seq()) })
		parentsFirst(t, got)
		if !sameCommits(byPlace(t, append(got, had...)), all) {
			t.Errorf("the %d commits of the log after %d do not make the plain copy", len(got), seq)
		}
	}
	for _, at := range []int{0, len(docs) / 3, len(docs) - 1} {
		got := sent(id, func(s *sender) error { return s.sendFull(t.Context(), docs[at]) })
		if first := len(all) - len(got); first <= at || !sameCommits(got, all[first:]) || at+1 == len(docs) && len(got) > 0 {
			t.Errorf("a full copy after document %d of %d has %d commits of %d", at, len(docs), len(got), len(all))
		}
	}
	if got := sent(other, func(s *sender) error { return s.sendFull(t.Context(), pando.DocID{}) }); len(got) != 12 {
		t.Errorf("%d commits of the other collection, want 12", len(got))
	}
}

// parentsFirst fails if a commit comes before one of its parents.
func parentsFirst(t *testing.T, envelopes [][]byte) {
	t.Helper()
	at := map[dag.CID]int{}
	var opened []*dag.Commit
	for i, e := range envelopes {
		c, err := dag.Open(e)
		if err != nil {
			t.Fatal(err)
		}
		at[c.CID] = i
		opened = append(opened, c)
	}
	for i, c := range opened {
		for _, p := range c.Parents {
			if at[p] > i {
				t.Fatalf("commit %d comes before its parent, which is commit %d", i, at[p])
			}
		}
	}
}

// collector is a stream that keeps what is written.
type collector struct {
	sink
	written bytes.Buffer
}

func (c *collector) Write(b []byte) (int, error)     { return c.written.Write(b) }
func (c *collector) Read(b []byte) (int, error)      { return c.written.Read(b) }
func (c *collector) SetReadDeadline(time.Time) error { return nil }
func (c *collector) Close() error                    { return nil }
func (c *collector) commits(t *testing.T) (all [][]byte) {
	t.Helper()
	w := newWire(c, new(traffic))
	for {
		m, err := w.receive()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.(*blocks).Envelopes...)
	}
}

// A peer of the first version is answered in full, since it cannot ask for the rest.
func TestOlderPeersGetLongHistoriesInOneAnswer(t *testing.T) {
	simulate(t, 2*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		id := addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "a", 1)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		_, docs := plainCopy(t, a.db, id)
		lengthen(t, a.db, docs[0], 40, 60_000)
		want, _ := plainCopy(t, a.db, id)
		time.Sleep(5 * time.Second) // what was announced is fetched
		for version, protocols := range map[uint64]int{3: 0, 2: 1, 1: 2} {
			f, err := b.node.openFetch(t.Context(), a.id(), id)
			if err != nil {
				t.Fatal(err)
			}
			s, err := b.node.open(t.Context(), a.id(), fetchProtocols[protocols:])
			if err != nil {
				t.Fatal(err)
			}
			f.w.abort()
			f.w = newAsking(s, &b.node.traffic)
			got, cut, _, _ := f.asked(t, &fetch{f.proof, false, []item{{Doc: docs[0][:]}}})
			f.close(nil)
			if version == 1 && (len(cut) > 0 || !sameCommits(got, want)) {
				t.Errorf("version 1: %d commits, %d cut, want all %d", len(got), len(cut), len(want))
			}
			if version > 1 && (len(cut) != 1 || !sameCommits(got, want[:len(got)])) {
				t.Errorf("version %d: %d commits, %d cut, want the beginning of %d", version, len(got), len(cut), len(want))
			}
		}
	})
}

// However well it compresses, an answer says of no more documents that they go on than
// the asker takes for honest, and the rest is asked for again.
func TestAnAnswerSaysMoreOfSoManyOnly(t *testing.T) {
	db := openDB(t, "")
	id := addSchema(t, db, schemaText)
	createUsers(t, db, "a", 5)
	_, docs := plainCopy(t, db, id)
	var items []item
	for _, doc := range docs {
		lengthen(t, db, doc, 8, 200_000)
		items = append(items, item{Doc: doc[:]})
	}
	n := &Node{replica: db.Replica()}
	const room = 3
	sender := func() *sender {
		return &sender{w: newWire(sink{}, new(traffic)), to: n.reader("peer", id), ctx: t.Context(), cuts: maxMore - leafDocuments - room}
	}
	if answered, err := sender().sendItems(t.Context(), items, tallBytes); err != nil || answered != room {
		t.Errorf("FETCH of tall documents: %d were answered, want %d: %v", answered, room, err)
	}
	s := sender()
	if whole, err := s.sendRange(t.Context(), nil, nil); err != nil || whole || s.cuts != maxMore-leafDocuments {
		t.Errorf("RANGE of tall documents: whole %v, %d cut, want %d: %v", whole, s.cuts, maxMore-leafDocuments, err)
	}
	if whole, err := sender().sendRange(t.Context(), &docs[2], nil); err != nil || !whole {
		t.Errorf("RANGE of fewer than there is room for is cut: %v", err)
	}
}

// sink is a stream that takes everything.
type sink struct{ stream }

func (sink) Write(b []byte) (int, error)      { return len(b), nil }
func (sink) SetWriteDeadline(time.Time) error { return nil }
