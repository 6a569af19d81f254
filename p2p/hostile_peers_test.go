package p2p

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/pace"
)

// liar is a member that answers as it likes what honest nodes ask it.
type liar struct {
	attacker
	of    pando.CollectionID
	known [][]byte // commits that everybody has
	rand  *rand.ChaCha8
	lies  lies
	ctx   context.Context
}

// lies is what a liar does. What is nil, it does as if it had nothing.
type lies struct {
	card   func(x *liar, theirs card) card // it shows, to who shows it that
	delay  time.Duration                   // before each answer
	silent bool                            // it answers nothing
	node   func(x *liar, depth int) treeNode
	heads  []docHeads                   // in answer to FETCH
	asked  func(m message)              // hears what it is asked
	pack   func(x *liar, w *wire) error // in answer to FULL, LOG and FETCH, before END
}

// liar adds a member to the world that lies, and connects it to a.
func (w *world) liar(t *testing.T, i int, a *member, id pando.CollectionID, l lies) *liar {
	t.Helper()
	m := w.member(i)
	x := &liar{attacker: attacker{member: m}, of: id, lies: l, rand: rand.NewChaCha8([32]byte{byte(i)})}
	x.up()
	var err error
	if x.admission, err = newAdmission(x.id(), notes{x.db.Replica()}, nil); err != nil {
		t.Fatal(err)
	}
	s, _ := a.node.admission.secret(id)
	if _, err := x.admission.adopt([]claim{{id, s}}, maxSecrets); err != nil {
		t.Fatal(err)
	}
	x.known = commitsOf(t, a, id)
	ctx, stop := context.WithCancel(t.Context())
	x.ctx = ctx
	t.Cleanup(stop)
	x.host.SetStreamHandler(protocolSync, x.serve)
	x.host.SetStreamHandler(protocolFetch, x.serve)
	if err := x.host.Connect(t.Context(), peer.AddrInfo{ID: a.id(), Addrs: a.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	return x
}

// serve answers one stream.
func (x *liar) serve(s network.Stream) {
	w := newWire(s, new(traffic))
	defer s.Reset()
	for {
		m, err := w.receive()
		if err != nil {
			if err == io.EOF {
				s.Close()
			}
			return
		}
		if x.lies.silent {
			io.Copy(io.Discard, s)
			return
		}
		if x.lies.delay > 0 {
			pace.Sleep(x.ctx, x.lies.delay)
		}
		if x.answer(w, s.Conn().RemotePeer(), m) != nil {
			return
		}
	}
}

func (x *liar) answer(w *wire, p peer.ID, m message) error {
	if x.lies.asked != nil {
		x.lies.asked(m)
	}
	switch m := m.(type) {
	case *hello:
		return x.greet(w, p, m)
	case *schemaVersions:
		return w.send(&schemaVersions{Collection: m.Collection})
	case *getFull, *getLog:
		return x.give(w, 0)
	case *fetch:
		if m.Heads {
			if err := w.send(&heads{x.lies.heads}); err != nil {
				return err
			}
		}
		return x.give(w, uint64(len(m.Items)))
	case *getNodes:
		return x.show(w, m)
	case *push:
		return x.swallow(w)
	}
	return nil
}

func (x *liar) greet(w *wire, p peer.ID, m *hello) error {
	ps := x.admission.with(p)
	c := claim{x.of, ps.secrets[x.of][0]}
	var theirs card
	for _, e := range m.Entries {
		if by, ok := ps.theirs[e.Proof]; ok {
			e.Card.veil(by.secret, p, x.id(), by.id, m.Nonce)
			theirs = e.Card.read()
		}
	}
	mine := card{Schema: theirs.Schema, Count: 1 << 40, Seq: 1 << 20, Clock: theirs.Clock}
	binary.LittleEndian.PutUint64(mine.Root[:], x.rand.Uint64())
	if x.lies.card != nil {
		mine = x.lies.card(x, theirs)
	}
	answer := &hello{Entries: []entry{{ps.mine[c], mine.plain()}}}
	binary.LittleEndian.PutUint64(answer.Nonce[:], x.rand.Uint64())
	answer.Entries[0].Card.veil(c.secret, x.id(), p, x.of, answer.Nonce)
	return w.send(answer)
}

func (x *liar) give(w *wire, mark uint64) error {
	if x.lies.pack != nil {
		if err := x.lies.pack(x, w); err != nil {
			return err
		}
	}
	return w.send(&end{mark})
}

func (x *liar) show(w *wire, m *getNodes) error {
	for part := range slices.Chunk(m.Prefixes, nodesPerFrame) {
		answer := new(tree)
		for _, p := range part {
			var n treeNode
			if x.lies.node != nil {
				n = x.lies.node(x, p.Len())
			}
			answer.Nodes = append(answer.Nodes, n)
		}
		if err := w.send(answer); err != nil {
			return err
		}
	}
	return nil
}

// swallow takes what is pushed, says thanks, and forgets it.
func (x *liar) swallow(w *wire) error {
	applied := uint64(0)
	for {
		m, err := w.receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *blocks:
			applied += uint64(len(m.Envelopes))
		case *end:
			return w.send(&ack{Applied: applied})
		}
	}
}

func (x *liar) short() (s short) {
	binary.LittleEndian.PutUint64(s[:], x.rand.Uint64()|1)
	return s
}

func (x *liar) children() treeNode {
	t := treeNode{children: new([16]short)}
	for i := range t.children {
		t.children[i] = x.short()
	}
	return t
}

func (x *liar) leaf() (t treeNode) {
	for range leafDocuments {
		t.leaf = append(t.leaf, leafElement{x.short(), x.short()})
	}
	return t
}

// asMany shows as many documents as the other has, and another root.
func asMany(x *liar, theirs card) card {
	c := theirs
	binary.LittleEndian.PutUint64(c.Root[:], x.rand.Uint64())
	c.YourEpoch, c.Cursor, c.Epoch = epoch{}, 0, epoch{1}
	return c
}

// packOf makes a frame of commits.
func packOf(all [][]byte) *blocks { return &blocks{Envelopes: all} }

func repeatKnown(x *liar, w *wire) error {
	all := slices.Repeat(x.known, 1+packCommits/len(x.known))[:packCommits]
	for {
		if err := w.send(packOf(all)); err != nil {
			return err
		}
	}
}

// The ways to lie that no single answer gives away.
var wholesale = []struct {
	name string
	lies lies
	good bool // it does no harm, so that its name stays good
}{
	{"it claims a trillion documents and gives none", lies{}, false},
	{"it says nothing", lies{silent: true}, false},
	{"it takes almost too long for every answer", lies{delay: frameTimeout - time.Second, card: asMany}, false},
	{"it repeats what is known", lies{pack: repeatKnown}, false},
	{"its tree differs without end", lies{card: asMany, node: func(x *liar, _ int) treeNode { return x.children() }}, false},
	{"its tree is full of documents that it does not give", lies{card: asMany, node: func(x *liar, depth int) treeNode {
		if depth < 4 {
			return x.children()
		}
		return x.leaf()
	}}, false},
	{"it takes what is pushed and forgets it", lies{card: func(x *liar, theirs card) card {
		c := asMany(x, theirs)
		c.Count = 0
		return c
	}}, false},
	{"it says that it has just the same", lies{card: func(_ *liar, theirs card) card { return theirs }}, true},
}

// A liar costs little, loses its good name, and hinders nobody.
func TestWhatLiarsDo(t *testing.T) {
	for _, kind := range wholesale {
		t.Run(kind.name, func(t *testing.T) {
			simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
				a, b := w.member(0), w.member(1)
				id := addSchema(t, a.db, schemaText)
				createUsers(t, a.db, "a", 200)
				startAll([]*member{a, b})
				converge(t, 5*time.Second, a, b)
				x := w.liar(t, 2, a, id, kind.lies)
				for minute := range 10 {
					createUsers(t, b.db, fmt.Sprint("live", minute, "."), 2)
					if took := converge(t, 2*time.Second, a, b); minute == 9 {
						t.Logf("in the last minute copies were equal after %v", took)
					}
					time.Sleep(time.Minute)
				}
				moved := a.node.traffic.ledger.peers(time.Now())[x.id()]
				bytes := uint64(0)
				for _, m := range moved {
					bytes += m.Received + m.Sent
				}
				score, cut := a.node.scores.of(x.id(), time.Now()), a.node.isBanned(x.id())
				c := a.node.Counters()
				t.Logf("score %.0f, cut off %v, %d KB moved, %d sessions, %d fetches, %d wants", score, cut, bytes>>10, c.Sessions, c.Fetches, c.Wants)
				if kind.good != (score == 0) {
					t.Errorf("its score is %v", score)
				}
				if bytes > 16<<20 {
					t.Errorf("%d KB were moved with it in ten minutes", bytes>>10)
				}
				if c.Wants > 0 {
					t.Errorf("%d documents are wanted of which nobody has anything", c.Wants)
				}
			})
		})
	}
}
