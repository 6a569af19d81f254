package p2p

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/radix"
)

// doors are the messages that ask a node for something, or make it say something, of
// documents, each with questions of a peer that wants to know more than it may.
var doors = map[int]func(*snoop) []string{
	msgHello: (*snoop).greets,
	msgScope: (*snoop).namesParts,
	msgLog:   (*snoop).asksForTheLog,
	msgFull:  (*snoop).copies,
	msgNodes: (*snoop).walks,
	msgPush:  (*snoop).pushes,
	msgFetch: (*snoop).fetches,
	msgRange: (*snoop).asksForRanges,
	msgPart:  (*snoop).asksForParts,
	msgWatch: (*snoop).watches,
	msgTell:  (*snoop).tells,
}

// wordless are the others, and why they say nothing of documents.
var wordless = map[int]string{
	msgOffer: "gives secrets, and has no answer", msgSchema: "is about definitions", msgKeep: "has no answer",
	msgPeers: "is about peers", msgTold: "is about peers", msgShow: "has no answer",
	msgTree: "an answer", msgBlocks: "an answer", msgEnd: "an answer", msgAck: "an answer", msgHeads: "an answer",
	msgRefuse: "an answer", msgMore: "an answer", msgScoped: "an answer", msgWatching: "an answer",
}

// snoop is a member that may not read some documents, knows everything about them
// nevertheless, and asks one node.
type snoop struct {
	t      *testing.T
	x      attacker
	of     *person
	id     pando.CollectionID
	proof  proof
	secret pando.DocID
	public pando.DocID
	cids   []pando.CID // of the secret document
}

// said describes an answer by all that may depend on documents.
func said(m message) string {
	switch m := m.(type) {
	case *blocks:
		var cids []string
		for _, e := range m.Envelopes {
			c, _ := dag.Open(e)
			cids = append(cids, c.CID.String())
		}
		slices.Sort(cids) // a log has its own order
		return fmt.Sprint("blocks ", m.Documents, m.Done, cids)
	case *tree:
		text := "tree"
		for _, n := range m.Nodes {
			text += fmt.Sprint(" ", len(n.leaf), n.children != nil, n.wide != nil)
		}
		return text
	case *end:
		return fmt.Sprint("end ", m.Mark > 0)
	case *scopeAnswer:
		return fmt.Sprint("scoped ", m.Count, m.Root, m.Loose, m.Why)
	case *heads:
		return fmt.Sprint("heads ", m.Documents)
	}
	return fmt.Sprintf("%T%+v", m, m)
}

// hears reads answers until one is the last, or nothing comes.
func (s *snoop) hears(w *wire, last func(message) bool) (all []string) {
	for {
		m, err := w.receive()
		if err != nil {
			return append(all, fmt.Sprintf("%T", err))
		}
		if all = append(all, said(m)); last(m) {
			return all
		}
	}
}

func first(message) bool   { return true }
func ended(m message) bool { _, ok := m.(*end); return ok }

func (s *snoop) open(id protocol.ID) *wire {
	s.t.Helper()
	stream, err := s.x.host.NewStream(s.t.Context(), s.of.id(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	w := newWire(stream, new(traffic))
	w.version = protocolVersion
	return w
}

// session is a stream on which the snoop has greeted.
func (s *snoop) session() (*wire, *hello) {
	s.t.Helper()
	w := s.open(protocolSync)
	if err := w.send(&hello{Version: protocolVersion, Entries: []entry{{Proof: s.proof}}}); err != nil {
		s.t.Fatal(err)
	}
	h, _, err := greeted(w)
	if err != nil || len(h.Entries) != 1 {
		s.t.Fatalf("a member is not greeted: %v", err)
	}
	return w, h
}

func (s *snoop) inSession(last func(message) bool, ms ...message) (all []string) {
	for _, m := range ms {
		w, _ := s.session()
		if err := w.send(m); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, s.hears(w, last)...)
		w.abort()
	}
	return all
}

func (s *snoop) greets() []string {
	w, h := s.session()
	defer w.abort()
	ps := s.x.admission.with(s.of.id())
	h.Entries[0].Card.veil(ps.secrets[s.id][0], s.of.id(), s.x.id(), s.id, h.Nonce)
	c := h.Entries[0].Card.read()
	return []string{fmt.Sprint(c.Count, c.Root, c.Schema, c.Lacks)}
}

func (s *snoop) namesParts() []string {
	answers := s.inSession(first, &scopeSays{0, Scope{Docs: []pando.DocID{s.secret}}}, &scopeSays{0, Scope{Filter: `{text: {_ne: null}}`}})
	w, _ := s.session()
	defer w.abort()
	w.send(&scopeSays{0, Scope{Docs: []pando.DocID{s.secret}}})
	answers = append(answers, s.hears(w, first)...)
	w.send(&getNodes{partIndex, 1, []radix.Prefix{{}}})
	return append(answers, s.hears(w, first)...)
}

func (s *snoop) asksForTheLog() []string { return s.inSession(ended, &getLog{0, 0}) }

func (s *snoop) copies() []string {
	before := s.secret
	before[31]--
	return s.inSession(ended, &getFull{0, nil}, &getFull{0, &before})
}

func (s *snoop) walks() []string {
	var all []message
	for _, nibbles := range []int{0, 1, 2, 8, 62, 64} {
		all = append(all, &getNodes{0, 1, []radix.Prefix{radix.PrefixOf(s.secret, nibbles)}})
	}
	return s.inSession(first, append(all, &getNodes{0, 2, []radix.Prefix{{}}})...)
}

func (s *snoop) pushes() []string {
	w, _ := s.session()
	defer w.abort()
	w.send(&push{0})
	w.send(&end{0})
	return s.hears(w, first)
}

func (s *snoop) fetching(last func(message) bool, ms ...message) (all []string) {
	for _, m := range ms {
		w := s.open(protocolFetch)
		if err := w.send(m); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, s.hears(w, last)...)
		w.abort()
	}
	return all
}

func (s *snoop) fetches() (all []string) {
	items := []item{{Doc: s.secret[:]}, {Doc: s.secret[:], Want: s.cids}, {Doc: s.secret[:], Have: s.cids[:1]},
		{Doc: s.public[:], Want: s.cids}, {Doc: s.public[:], Have: s.cids}}
	for n := 1; n < 32; n += 5 {
		items = append(items, item{Doc: s.secret[:n]})
	}
	for _, it := range items {
		all = append(all, s.fetching(ended, &fetch{s.proof, true, []item{it}})...)
	}
	return all
}

func (s *snoop) asksForRanges() []string {
	before := s.secret
	before[31]--
	return s.fetching(ended, &getRange{s.proof, nil, nil}, &getRange{s.proof, &before, &s.secret})
}

func (s *snoop) asksForParts() []string {
	return s.fetching(ended, &getPart{Proof: s.proof, Doc: s.secret}, &getPart{Proof: s.proof, Doc: s.secret, Have: s.cids[:1]},
		&getPart{Proof: s.proof, Doc: s.secret, After: pando.Point{Height: 1}, Below: 3})
}

// watches asks to be told of the secret document, which is changed then.
func (s *snoop) watches() (all []string) {
	for _, scope := range []Scope{{Docs: []pando.DocID{s.secret}}, {Filter: `{text: {_ne: null}}`}} {
		w := s.open(watchProtocols[0])
		w.patient = 5 * time.Second
		w.send(&watch{s.proof, scope, []docHeads{{s.secret, nil}}})
		all = append(all, s.hears(w, first)...)
		if s.of.holds("Note")[s.secret] != nil {
			if err := s.of.edits(s.secret, "changed while it is watched"); err != nil {
				s.t.Fatal(err)
			}
		}
		all = append(all, s.hears(w, func(message) bool { return false })...)
		w.abort()
	}
	return all
}

func (s *snoop) tells() []string {
	w := s.open(protocolTell)
	w.send(&tell{Proof: s.proof, Envelopes: [][]byte{s.known()}})
	w.s.(interface{ CloseWrite() error }).CloseWrite()
	return s.hears(w, first)
}

// known is a commit that both nodes have and everybody may read. One on top of the secret
// document, which the snoop may not write either, would be refused by who can judge it:
// whoever can name a commit of the document knows that there is one.
func (s *snoop) known() []byte {
	for b, err := range s.of.member.db.Replica().Pack(s.t.Context(), s.id, []pando.Want{{Doc: s.public}}) {
		if err != nil {
			s.t.Fatal(err)
		}
		return bytes.Clone(b.Envelope)
	}
	return nil
}

// A member that may not read a document is answered by every door as if the document did
// not exist: exactly as by a node that does not have it.
func TestWhatMayNotBeReadDoesNotExist(t *testing.T) {
	for kind, m := range messages {
		if m.read != nil && doors[kind] == nil && wordless[kind] == "" {
			t.Errorf("message %s: say by which questions it is asked here, or why it says nothing of documents", m.name)
		}
	}
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ps := persons(t, w, 3)
		ada, bob := ps[0], ps[1]
		meet(ada, bob)
		public := ada.writes("public 1", "public 2", "public 3")
		for _, d := range public {
			ada.shares(d, "reader", "*")
		}
		bob.has(10*time.Second, public...)
		secrets := ada.writes("secret 1", "secret 2", "secret 3")
		for i := range 5 {
			if err := ada.edits(secrets[0], fmt.Sprint("secret edit ", i)); err != nil {
				t.Fatal(err)
			}
		}
		note, err := ada.db.Collection("Note")
		if err != nil {
			t.Fatal(err)
		}
		x := attacker{member: ps[2].member}
		x.up()
		if x.admission, err = newAdmission(x.id(), notes{x.db.Replica()}, nil); err != nil {
			t.Fatal(err)
		}
		for _, p := range []*person{ada, bob} {
			ring, _ := p.node.admission.keys()
			var claims []claim
			for _, s := range ring.secrets[note.ID] {
				claims = append(claims, claim{note.ID, s})
			}
			if _, err := x.admission.adopt(claims, maxSecrets); err != nil {
				t.Fatal(err)
			}
			if err := x.host.Connect(t.Context(), peer.AddrInfo{ID: p.id(), Addrs: p.host.Addrs()}); err != nil {
				t.Fatal(err)
			}
		}
		var cids []pando.CID
		for b, err := range ada.member.db.Replica().Pack(context.Background(), note.ID, []pando.Want{{Doc: secrets[0]}}) {
			if err != nil {
				t.Fatal(err)
			}
			cids = append(cids, b.CID)
		}
		asks := func(of *person) *snoop {
			prf := x.admission.with(of.id())
			return &snoop{t, x, of, note.ID, prf.mine[claim{note.ID, prf.secrets[note.ID][0]}], secrets[0], public[0], cids}
		}
		announced := ada.node.Counters()
		for kind, door := range doors {
			atAda, atBob := door(asks(ada)), door(asks(bob))
			if !slices.Equal(atAda, atBob) {
				t.Errorf("%s: who has secrets says\n%q\nand who has none\n%q", messages[kind].name, atAda, atBob)
			}
			for _, text := range atAda {
				for _, cid := range cids {
					if bytes.Contains([]byte(text), []byte(cid.String())) {
						t.Errorf("%s: the answer names a commit of a secret document: %s", messages[kind].name, text)
					}
				}
			}
		}
		if err := ada.edits(secrets[0], "nobody hears of it"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		now := ada.node.Counters()
		if now.Announced != announced.Announced || now.Told != announced.Told {
			t.Errorf("of secrets %d commits were announced, and %d told", now.Announced-announced.Announced, now.Told-announced.Told)
		}
		if now.Denied == 0 {
			t.Error("nothing was counted as denied")
		}
		if now.Breaches > 0 {
			t.Errorf("a question was taken for a breach: %+v", now)
		}
		bob.has(0, public...)
	})
}

// Nor does what a node asks tell: a member that shows documents of which it knows the IDs
// is asked the same for them by who has them and by who has not.
func TestWhatANodeAsksForDoesNotTellWhatItHas(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ps := persons(t, w, 2)
		ada, bob := ps[0], ps[1]
		meet(ps...)
		secret := ada.writes("secret")[0]
		public := ada.writes("public")[0]
		ada.shares(public, "reader", "*")
		bob.has(10*time.Second, public)
		note, err := ada.db.Collection("Note")
		if err != nil {
			t.Fatal(err)
		}
		asks := func(i int, of *person) (all []string) {
			shows := lies{card: asMany, heads: []docHeads{{secret, []pando.CID{{7}}}}}
			shows.node = func(x *liar, _ int) treeNode {
				return treeNode{leaf: []leafElement{{short(secret[:8]), x.short()}}}
			}
			var mu sync.Mutex
			shows.asked = func(m message) {
				mu.Lock()
				defer mu.Unlock()
				switch m := m.(type) {
				case *fetch:
					for _, it := range m.Items {
						all = append(all, fmt.Sprintf("%x want %v have %v locator %v", it.Doc, it.Want, it.Have, it.Locator))
					}
				case *push:
					all = append(all, "push")
				}
			}
			x := w.liar(t, i, of.member, note.ID, shows)
			time.Sleep(10 * time.Second)
			x.stop()
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(all) // how often it is asked depends on who greets first
			return slices.Compact(all)
		}
		atAda, atBob := asks(5, ada), asks(5, bob)
		if len(atAda) == 0 || !slices.Equal(atAda, atBob) {
			t.Errorf("who has the secret asks\n%q\nand who has not\n%q", atAda, atBob)
		}
	})
}
