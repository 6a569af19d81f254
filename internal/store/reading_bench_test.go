package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/schema"
)

// readers are the ways in which somebody may read a document. Each reads all of them.
var readers = []struct{ name, who string }{
	{"system", ""}, {"owner", "ann"}, {"reader", "bo"}, {"member", "cy"}, {"stranger", "dan"},
}

// sharedUsers is a node with documents of ann, who let bo read them, and a group that cy is
// in. Open ones are of a collection without a policy.
func sharedUsers(b *testing.B, count int) *node {
	b.Helper()
	n := benchNode(b, nil)
	addNotes(n)
	p, err := acp.ParsePolicy([]byte(notesPolicy))
	if err != nil {
		b.Fatal(err)
	}
	n.update(func(tx *Tx) error {
		cs, err := schema.Parse(fmt.Sprintf(`
type Private @policy(id: %[1]q, resource: "note") { name: String, email: String, age: Int, points: Int @crdt(type: pncounter), active: Boolean, joined: DateTime }
type Person @policy(id: %[1]q, resource: "note") @index(includes: [{field: "age"}]) { name: String, email: String, age: Int, points: Int @crdt(type: pncounter), active: Boolean, joined: DateTime }`,
			dag.Digest(p.Sum())), tx.Collections(), p)
		if err != nil {
			return err
		}
		return tx.AddCollections(cs)
	})
	team := n.owned("ann", "Team", "name", "team")
	n.grant("Team", team, "member", keyText("cy"))
	n.fillUsers(b, count)
	for _, coll := range []string{"Private", "Person"} {
		n.fillShared(b, coll, team, count)
	}
	return n
}

// fillShared creates documents of ann. Those that are not private bo reads, and the team.
func (n *node) fillShared(b *testing.B, coll string, team dag.DocID, count int) {
	b.Helper()
	for i := 0; i < count; i += 1000 {
		err := n.Update(context.Background(), someone("ann"), func(tx *Tx) error {
			c, err := tx.Collection(coll)
			if err != nil {
				return err
			}
			for k := i; k < min(i+1000, count); k++ {
				d, err := tx.Create(c, userDeltas(b, c, k))
				if err != nil {
					return err
				}
				if coll == "Private" {
					continue
				}
				_, err = tx.WriteAccess(c, d.ID,
					acp.Op{Kind: acp.Grant, Relation: "reader", Subject: keyText("bo")},
					acp.Op{Kind: acp.Grant, Relation: "reader", Subject: groupOf(team)})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// The figures to compare: a scan of a hundred thousand documents without a policy, and
// with one, by how somebody may read them.
func BenchmarkScanShared(b *testing.B) {
	const count = 100_000
	n := sharedUsers(b, count)
	scan := func(coll, who string) func(b *testing.B) {
		return func(b *testing.B) {
			caller := System
			if who != "" {
				caller = someone(who)
			}
			c := n.coll(coll)
			b.ReportAllocs()
			for b.Loop() {
				got := 0
				err := n.View(context.Background(), caller, func(tx *Tx) error {
					for _, err := range tx.Scan(c, Range{}) {
						if err != nil {
							return err
						}
						got++
					}
					return nil
				})
				if err != nil || got != count && who != "dan" {
					b.Fatal(got, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/doc")
		}
	}
	b.Run("open", scan("User", "ann"))
	b.Run("private, system", scan("Private", ""))
	b.Run("private, owner", scan("Private", "ann"))
	for _, r := range readers {
		b.Run(r.name, scan("Person", r.who))
	}
	for _, coll := range []string{"User", "Person"} {
		c := n.coll(coll)
		b.Run("count "+coll, func(b *testing.B) {
			for b.Loop() {
				err := n.View(context.Background(), someone("ann"), func(tx *Tx) error {
					_, err := tx.Count(c)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	c := n.coll("Person")
	for _, who := range []Caller{System, someone("ann"), someone("dan")} {
		b.Run(fmt.Sprintf("index %v %.8x", who.IsSystem(), who.Public()), func(b *testing.B) {
			for b.Loop() {
				err := n.View(context.Background(), who, func(tx *Tx) error {
					for _, err := range tx.Index(c, &c.Indexes[0], IndexRange{}, false) {
						if err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/entry")
		})
	}
}

// What the check costs alone: of documents that are shared alike, which the guard
// knows, and of such that each belong to somebody else.
func BenchmarkReadable(b *testing.B) {
	n := newNode(b, "library")
	addNotes(n)
	var docs [2][]Doc
	for i := range 2 * 256 {
		who := "ann"
		if i%2 == 1 {
			who = fmt.Sprint("owner ", i)
		}
		docs[i%2] = append(docs[i%2], n.get("Memo", n.owned(who, "Memo", "text", "shared")))
	}
	tx, err := n.Begin(someone("ann"), true)
	if err != nil {
		b.Fatal(err)
	}
	defer tx.Discard()
	g := tx.guard(tx.set.byID[n.coll("Memo").ID].short)
	for i, name := range []string{"alike", "each another's"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for at := 0; b.Loop(); at++ {
				d := docs[i][at%len(docs[i])]
				if may, err := g.passes(d.ID, d.State); err != nil || may != (i == 0) {
					b.Fatal(may, err)
				}
			}
		})
	}
}
