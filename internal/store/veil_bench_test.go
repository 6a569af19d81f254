package store

import (
	"fmt"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/veil"
)

// What encryption costs: the same work on documents of one collection, in clear and
// encrypted. Batches of a hundred, so that no disk is measured.
func BenchmarkEncryption(b *testing.B) {
	for _, how := range []string{"plain", "encrypted"} {
		create := func(tx *Tx, n *node, i int) (Doc, error) {
			c := n.coll("Paper")
			deltas, err := c.Create(fields("title", fmt.Sprintf("the title of paper %d", i), "hits", i))
			if err != nil {
				return Doc{}, err
			}
			if how == "plain" {
				return tx.Create(c, deltas)
			}
			return tx.CreateEncrypted(c, deltas, veil.Cover{All: true})
		}
		b.Run("create/"+how, func(b *testing.B) {
			n := benchHome(b)
			i := 0
			for b.Loop() {
				n.update(func(tx *Tx) error {
					for range 100 {
						i++
						if _, err := create(tx, n, i); err != nil {
							return err
						}
					}
					return nil
				})
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(100*b.N), "µs/document")
		})
		b.Run("update/"+how, func(b *testing.B) {
			n := benchHome(b)
			ids := benchPapers(b, n, create)
			for b.Loop() {
				n.update(func(tx *Tx) error {
					for _, id := range ids[:100] {
						if _, err := updateIn(tx, "Paper", id, "hits", 1); err != nil {
							return err
						}
					}
					return nil
				})
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(100*b.N), "µs/document")
		})
		b.Run("scan/"+how, func(b *testing.B) {
			n := benchHome(b)
			benchPapers(b, n, create)
			title, _ := n.coll("Paper").Field("title")
			for b.Loop() {
				err := n.View(b.Context(), As(n.key), func(tx *Tx) error {
					for d, err := range tx.Scan(n.coll("Paper"), Range{}) {
						if err != nil {
							return err
						}
						d.Value(title)
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(1000*b.N), "ns/document")
		})
		for _, who := range []string{"who reads", "who does not"} {
			b.Run("merge for "+who+"/"+how, func(b *testing.B) {
				from := benchHome(b)
				ids := benchPapers(b, from, create)
				for _, id := range ids {
					from.mustDo("Paper", id, grantTo("reader", person("bob")))
				}
				pack := from.everything("Paper")
				for b.Loop() {
					b.StopTimer()
					to := benchHome(b)
					if to.opens = nil; who == "who reads" {
						to.opens = []ident.Key{keyOf("bob")}
					}
					to.reopen()
					b.StartTimer()
					to.merge("Paper", pack)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(1000*b.N), "µs/document")
			})
		}
	}
}

func benchHome(b *testing.B) *node { return newHome(b, "ann") }

func benchPapers(b *testing.B, n *node, create func(*Tx, *node, int) (Doc, error)) (ids []dag.DocID) {
	n.update(func(tx *Tx) error {
		for i := range 1000 {
			d, err := create(tx, n, i)
			if err != nil {
				return err
			}
			ids = append(ids, d.ID)
		}
		return nil
	})
	return ids
}

// The owner of a document begins a thousand epochs and gives the keys to nobody. What each
// commit that he seals from then on costs a node that keeps it.
func BenchmarkMergeWhatNobodyOpens(b *testing.B) {
	const epochs, letters = 1000, 100
	ann := newHome(b, "ann")
	id := ann.createSealed(whole, "title", "draft")
	pack := ann.historyOf("Paper", id)
	last := pack[0]
	var key veil.Key // of the first epoch, from which all others lead on
	add := func(seal bool, deltas ...crdt.Delta) {
		c := dag.Commit{Doc: id, Parents: []dag.CID{last.CID}, Height: last.Height + 1, HLC: last.HLC + 1, Schema: last.Schema, Author: dag.Author{Key: ann.key.Public()}, Deltas: deltas}
		if seal {
			if err := key.Seal(&c, whole, ann.rng); err != nil {
				b.Fatal(err)
			}
		}
		last = forge(b, ann.key, c)
		pack = append(pack, last)
	}
	var newest veil.EpochID
	for i := range epochs {
		secret, err := veil.NewSecret(ann.rng)
		if err != nil {
			b.Fatal(err)
		}
		e := secret.Epoch(acp.ID(id))
		ops := []crdt.Delta{(&veil.Op{Kind: veil.Begin, Epoch: e}).Delta()}
		if i == 0 {
			key = veil.Key{Epoch: e, Secret: secret}
		} else {
			ops = append(ops, (&veil.Op{Kind: veil.Link, Epoch: e, Older: newest, Sealed: make([]byte, 72)}).Delta())
		}
		newest = e
		add(false, ops...)
	}
	for range letters {
		add(true, schemaDelta(b, ann, "Paper", "title", "letter"))
	}
	head, tail := envelopes(pack[:len(pack)-letters]...), envelopes(pack[len(pack)-letters:]...)
	for b.Loop() {
		b.StopTimer()
		to := newHome(b, "bob")
		to.merge("Paper", head)
		b.StartTimer()
		for _, e := range tail {
			to.merge("Paper", [][]byte{e})
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(letters*b.N), "µs/commit")
}
