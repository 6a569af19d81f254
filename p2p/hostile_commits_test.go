package p2p

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/value"
)

// forger makes commits as no honest node does: each genuine in form, and signed.
type forger struct {
	t     *testing.T
	x     attacker
	id    pando.CollectionID
	first *dag.Commit // that made a document
	other *dag.Commit // that made another
}

// forger gives the attacker two documents that nobody else has.
func (x attacker) forger(t *testing.T, id pando.CollectionID) forger {
	t.Helper()
	addSchema(t, x.db, schemaText)
	createUsers(t, x.db, "forged", 2)
	f := forger{t: t, x: x, id: id}
	for _, envelope := range commitsOf(t, x.member, id) {
		c, err := dag.Open(envelope)
		if err != nil {
			t.Fatal(err)
		}
		f.first, f.other = c, f.first
	}
	return f
}

// commitsOf returns all commits of a collection, parents first.
func commitsOf(t *testing.T, m *member, id pando.CollectionID) (out [][]byte) {
	t.Helper()
	for b, err := range m.db.Replica().Full(t.Context(), id, pando.DocID{}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, bytes.Clone(b.Envelope))
	}
	return out
}

// child makes a commit upon parents, as honest as it is before change.
func (f forger) child(change func(*dag.Commit), parents ...*dag.Commit) *dag.Commit {
	f.t.Helper()
	p := parents[0]
	c := &dag.Commit{Kind: dag.Write, Doc: p.Doc, Author: p.Author, Schema: p.Schema, Deltas: slices.Clone(p.Deltas)}
	for _, p := range parents {
		c.Parents = append(c.Parents, p.CID)
		c.Height, c.HLC = max(c.Height, p.Height+1), max(c.HLC, p.HLC+1)
	}
	if change != nil {
		change(c)
	}
	if _, err := dag.Seal(c, f.x.db.Identity()); err != nil {
		f.t.Fatal(err)
	}
	return c
}

func envelopes(cs ...*dag.Commit) (out [][]byte) {
	for _, c := range cs {
		out = append(out, bytes.Clone(c.Envelope()))
	}
	return out
}

// The attacks of a member by what it says in commits, and what comes of them. Two
// documents of the attacker are genuine and as good as any.
var commitAttacks = []struct {
	name    string
	push    func(f forger) [][]byte
	cutOff  bool   // the protocol was broken
	applied int    // of what is pushed
	missing uint64 // documents that wait for something
}{
	{"a commit is altered on the way", func(f forger) [][]byte {
		bad := envelopes(f.first)
		bad[0][len(bad[0])/2] ^= 1
		return bad
	}, true, 0, 0},
	{"one commit is spelled in two ways", func(f forger) [][]byte {
		bad := envelopes(f.first)
		return [][]byte{append(bad[0], 0)}
	}, true, 0, 0},
	{"another's name stands under a commit", func(f forger) [][]byte {
		c := f.child(nil, f.first)
		bad := bytes.Clone(c.Envelope())
		bad[bytes.Index(bad, c.Sig)+3] ^= 1
		return append(envelopes(f.first), bad)
	}, true, 1, 0},
	{"a height is claimed, to stand above others", func(f forger) [][]byte {
		return envelopes(f.first, f.child(func(c *dag.Commit) { c.Height = 1 << 40 }, f.first))
	}, true, 1, 0},
	{"a clock runs behind what its author saw", func(f forger) [][]byte {
		return envelopes(f.first, f.child(func(c *dag.Commit) { c.HLC = f.first.HLC }, f.first))
	}, true, 1, 0},
	{"a clock is an hour ahead, to win for ever", func(f forger) [][]byte {
		return envelopes(f.first, f.child(func(c *dag.Commit) { c.HLC = dag.HLC(time.Now().Add(time.Hour), 0) }, f.first))
	}, false, 1, 1},
	{"parents are of another document", func(f forger) [][]byte {
		stray := f.child(nil, f.other)
		stray.Doc, stray.Parents, stray.Height = f.first.Doc, []dag.CID{f.other.CID}, 2
		if _, err := dag.Seal(stray, f.x.db.Identity()); err != nil {
			f.t.Fatal(err)
		}
		return envelopes(f.first, f.other, stray)
	}, true, 2, 0},
	{"diamonds stand upon each other, to send walkers around", func(f forger) [][]byte {
		all, top := []*dag.Commit{f.first}, []*dag.Commit{f.first}
		for range 30 { // 2^30 paths
			left := f.child(nil, top...)
			right := f.child(func(c *dag.Commit) { c.HLC++ }, top...)
			top = []*dag.Commit{left, right}
			all = append(all, left, right)
		}
		return envelopes(all...)
	}, false, 61, 0},
	{"an author says two things at once", func(f forger) [][]byte {
		return envelopes(f.first, f.child(nil, f.first), f.child(func(c *dag.Commit) { c.HLC++ }, f.first))
	}, false, 3, 0},
	{"an operation does not fit its field", func(f forger) [][]byte {
		return envelopes(f.first, f.child(func(c *dag.Commit) {
			for i := range c.Deltas {
				c.Deltas[i].Kind, c.Deltas[i].Val = crdt.KindOf(crdt.PNCounter, value.TypeInt), value.OfString("not a number")
			}
		}, f.first))
	}, false, 2, 0},
	{"a thousand documents begin with something unknown", func(f forger) [][]byte {
		var all []*dag.Commit
		for i := range 1000 {
			all = append(all, f.child(func(c *dag.Commit) {
				c.Doc, c.Parents = dag.DocID{byte(i), byte(i >> 8), 7}, []dag.CID{{byte(i), byte(i >> 8), 8}}
			}, f.first))
		}
		return envelopes(all...)
	}, false, 0, 1000},
}

// pushed sends commits as a member would, and returns how they were answered.
func (x attacker) pushed(t *testing.T, a *member, id pando.CollectionID, all [][]byte) (*ack, error) {
	t.Helper()
	wire := x.stream(t, a, &id)
	defer wire.abort()
	wire.send(&push{0})
	for part := range slices.Chunk(all, packCommits) {
		wire.send(&blocks{Envelopes: part})
	}
	wire.send(&end{0})
	return expect[*ack](wire)
}

func TestWhatCommitsOfAHostileMemberDo(t *testing.T) {
	for _, attackOf := range commitAttacks {
		t.Run(attackOf.name, func(t *testing.T) {
			simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
				x, a, b, id := attack(t, w, true)
				before := a.node.Counters()
				answer, err := x.pushed(t, a, id, attackOf.push(x.forger(t, id)))
				got := a.node.Counters()
				if applied := int(got.Merged - before.Merged); applied != attackOf.applied {
					t.Errorf("%d commits were applied, want %d", applied, attackOf.applied)
				}
				if err == nil && answer.Missing != attackOf.missing {
					t.Errorf("%d documents wait for something, want %d", answer.Missing, attackOf.missing)
				}
				if cut := a.node.isBanned(x.id()); cut != attackOf.cutOff || cut != (err != nil) {
					t.Errorf("the attacker is cut off: %v, want %v; it was answered %+v, %v", cut, attackOf.cutOff, answer, err)
				}
				if attackOf.cutOff && a.node.scores.blame(x.id(), time.Now()) < blameBreach/2 {
					t.Error("the attacker has a good name still")
				}
				// The honest go on, and agree on all that is genuine in what came.
				createUsers(t, b.db, "later", 5)
				converge(t, 5*time.Second, a, b)
				if err := a.db.Check(t.Context(), func(p pando.Problem) { t.Errorf("the database is damaged: %+v", p) }); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// The same by gossip: what is wrong for everybody is passed on by nobody, and its
// sender falls silent.
func TestHostileAnnouncementsSilenceTheirSender(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, id := attack(t, w, true)
		f := x.forger(t, id)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ps, err := pubsub.NewGossipSub(ctx, x.host, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
			pubsub.WithFloodPublish(true), pubsub.WithMessageIdFn(func(m *pb.Message) string { return string(m.Data) }))
		if err != nil {
			t.Fatal(err)
		}
		x.stream(t, a, &id)
		shared := a.node.announcer.channels[id].whole[0]
		topic, err := ps.Join(shared.Name)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		heard := b.node.Counters().Heard
		for i := range 10 {
			bad := bytes.Clone(f.child(func(c *dag.Commit) { c.HLC += uint64(i) }, f.first).Envelope())
			bad[len(bad)-1] ^= 1 // of the payload or the signature
			items, err := appendTold(nil, bad, inlineBytes)
			if err != nil {
				t.Fatal(err)
			}
			message, err := shared.Seal(announced(id, 1, items))
			if err != nil {
				t.Fatal(err)
			}
			topic.Publish(ctx, message)
			time.Sleep(time.Second)
		}
		if got := b.node.Counters().Heard; got != heard {
			t.Errorf("%d forged announcements were passed on", got-heard)
		}
		if bad := a.node.Counters().InvalidCommits; bad == 0 || bad > 5 {
			t.Errorf("%d announcements were looked at, want some before the sender is silenced", bad)
		}
		time.Sleep(5 * time.Second) // until gossip tells how it sees its peers
		if s := a.node.scores.of(x.id(), time.Now()); s > -400 {
			t.Errorf("the sender has score %v", s)
		}
		createUsers(t, b.db, "later", 5)
		converge(t, 5*time.Second, a, b)
	})
}

// A member of a collection with a policy writes what it has no right to: a document of
// somebody else's, by whatever operation, or one in somebody else's name.
func TestAMemberWritesOnlyWhatItMay(t *testing.T) {
	grant := func(f forger) []crdt.Delta {
		op := acp.Op{Kind: acp.Grant, Relation: "writer", Subject: acp.OfKey(f.x.db.Identity().Public())}
		return []crdt.Delta{op.Delta()}
	}
	for name, forge := range map[string]func(f forger, root *dag.Commit){
		"an update":        func(f forger, c *dag.Commit) {},
		"a grant":          func(f forger, c *dag.Commit) { c.Deltas = grant(f) },
		"another's author": func(f forger, c *dag.Commit) { c.Author.Key = f.first.Author.Key },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
				a := w.member(0)
				addNotes(t, a.db)
				notes, err := a.db.Collection("Note")
				if err != nil {
					t.Fatal(err)
				}
				p := &person{member: a, db: a.db, ctx: t.Context()}
				p.writes("mine")
				a.start()
				x := attacker{member: w.member(2)}
				x.intrude(t, a, notes.ID)
				root, err := dag.Open(commitsOf(t, a, notes.ID)[0]) // it leaked
				if err != nil {
					t.Fatal(err)
				}
				var denied []string
				a.node.OnDenied(func(d Denial) { denied = append(denied, d.Kind+" "+d.Peer) })
				f := forger{t: t, x: x, id: notes.ID, first: root}
				c := f.child(func(c *dag.Commit) { c.Author.Key = x.db.Identity().Public() }, root)
				forge(f, c)
				envelope := sealAs(t, c, x.db.Identity())
				if answer, err := x.pushed(t, a, notes.ID, [][]byte{envelope}); err == nil {
					t.Errorf("it is answered %+v", answer)
				}
				if n := a.node.Counters().Merged; n != 0 || !a.node.isBanned(x.id()) {
					t.Errorf("%d commits were applied; the attacker is cut off: %v", n, a.node.isBanned(x.id()))
				}
				if want := []string{DeniedBreach + " " + x.id().String()}; !slices.Equal(denied, want) {
					t.Errorf("the audit hears of %q, want %q", denied, want)
				}
				if got := len(commitsOf(t, a, notes.ID)); got != 1 {
					t.Errorf("there are %d commits", got)
				}
			})
		})
	}
}

// sealAs signs a commit with a key, whoever it names as its author.
func sealAs(t *testing.T, c *dag.Commit, key pando.Identity) []byte {
	t.Helper()
	claimed := c.Author.Key
	c.Author.Key = key.Public()
	envelope, err := dag.Seal(c, key)
	if err != nil {
		t.Fatal(err)
	}
	if claimed == key.Public() {
		return envelope
	}
	return bytes.Replace(envelope, []byte(key.Public()), []byte(claimed), 1)
}
