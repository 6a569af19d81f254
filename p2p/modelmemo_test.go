package p2p

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/ident"
)

// Histories have a collection with a policy, too. Every machine acts for its user, who
// makes memos, shares them, takes that back, and changes what others share. In the end
// whoever may read a memo has all of it, if somebody who may read it stands next to him
// and so on to the owner; and who never might has nothing.

const modelPolicy = `
name: memos
actor: {name: actor}
resources:
  memo:
    permissions: {read: {expr: owner + reader + writer}, update: {expr: owner + writer}, delete: {expr: owner}}
    relations: {owner: {types: [actor]}, reader: {types: [actor]}, writer: {types: [actor]}}
`

// memos are those of a history. What happens to them is drawn from a source of their own,
// so that the numbers of histories mean what they meant without.
type memos struct {
	rng *rand.Rand
	all []*memo
}

type memo struct {
	id    pando.DocID
	owner *machine
	has   map[*machine]string // a relation
	ever  map[*machine]bool   // has had one, or perhaps
	doubt bool                // something about it was neither done nor refused
}

// addMemos makes a machine know the collection.
func addMemos(t *testing.T, db *pando.DB) {
	t.Helper()
	id, err := db.AddPolicy(t.Context(), modelPolicy)
	if err != nil {
		t.Fatal(err)
	}
	addSchema(t, db, fmt.Sprintf(`type Memo @policy(id: %q, resource: "memo") { text: String  marks: Int @crdt(type: pncounter) }`, id))
}

// certificate lets the machine act for its user, at all times that a clock may show.
func (m *machine) certificate() []byte {
	m.t.Helper()
	raw, err := m.key.Raw()
	if err != nil {
		m.t.Fatal(err)
	}
	own, err := ident.GenerateFrom(ident.EdDSA, bytes.NewReader(raw[:32]))
	if err != nil {
		m.t.Fatal(err)
	}
	now := time.Now()
	c := ident.Certificate{Owner: m.who.Public(), Peer: own.Public(), NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(24 * time.Hour)}
	b, err := c.Seal(m.who, own)
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// step lets something happen to a memo, mostly.
func (s *memos) step(h *history) {
	if s.rng.IntN(3) > 0 {
		return
	}
	up := h.up()
	if len(up) == 0 {
		return
	}
	m := up[s.rng.IntN(len(up))]
	if _, err := m.db.Collection("Memo"); err != nil {
		return
	}
	switch x := s.rng.IntN(10); {
	case x < 2 || len(s.all) == 0:
		s.write(h, m)
	case x < 6:
		s.share(h, s.all[s.rng.IntN(len(s.all))], h.all[s.rng.IntN(len(h.all))])
	default:
		s.edit(h, m, s.all[s.rng.IntN(len(s.all))])
	}
}

func (s *memos) write(h *history, m *machine) {
	x := &memo{owner: m, has: map[*machine]string{}, ever: map[*machine]bool{m: true}}
	err := m.db.Update(h.t.Context(), func(tx *pando.Tx) error {
		docs, err := tx.Collection("Memo")
		if err == nil {
			var d pando.Document
			d, err = docs.Create(map[string]any{"text": fmt.Sprint("memo ", len(s.all), time.Now())})
			x.id = d.ID
		}
		return err
	})
	h.note("%s: memo %s: %v", m.name(), x.id, err)
	if err == nil {
		s.all = append(s.all, x)
	} else if !h.tight[m] {
		h.fail("%s: %v", m.name(), err)
	}
}

// share gives somebody a relation, or takes it back.
func (s *memos) share(h *history, x *memo, with *machine) {
	if with == x.owner || x.owner.db == nil || x.doubt {
		return
	}
	who, err := pando.ParseSubject(with.who.Public().String())
	if err != nil {
		h.fail("%v", err)
	}
	relation := []string{"reader", "writer"}[s.rng.IntN(2)]
	old := x.has[with]
	if old == "" {
		x.ever[with] = true
		_, err = x.owner.db.Grant(h.t.Context(), "Memo", x.id, relation, who)
	} else {
		relation = ""
		_, err = x.owner.db.Revoke(h.t.Context(), "Memo", x.id, old, who)
	}
	h.note("%s: memo %s: %s is now %q: %v", x.owner.name(), x.id, with.name(), relation, err)
	switch {
	case err == nil:
		x.has[with] = relation
	case h.tight[x.owner]:
		x.doubt = true
	default:
		h.fail("%s: %v", x.owner.name(), err)
	}
	if x.has[with] == "" {
		delete(x.has, with)
	}
}

// edit changes a memo, if the machine knows that it may.
func (s *memos) edit(h *history, m *machine, x *memo) {
	err := m.db.Update(h.t.Context(), func(tx *pando.Tx) error {
		docs, err := tx.Collection("Memo")
		if err == nil {
			_, err = docs.Update(x.id, map[string]any{"marks": 1})
		}
		return err
	})
	h.note("%s: memo %s is changed: %v", m.name(), x.id, err)
	if x.owner == m && err != nil && !h.tight[m] {
		h.fail("%s: its own memo: %v", m.name(), err)
	}
}

// reached returns who may read a memo and is reached from its owner by way of such.
func (x *memo) reached(h *history) []*machine {
	all := []*machine{x.owner}
	for i := 0; i < len(all); i++ {
		for _, m := range h.trust[all[i]] {
			if x.has[m] != "" && !slices.Contains(all, m) {
				all = append(all, m)
			}
		}
	}
	return all
}

// difference says what is wrong with the memos.
func (s *memos) difference(h *history) string {
	for _, x := range s.all {
		if x.doubt {
			continue
		}
		c, err := x.owner.db.Collection("Memo")
		if err != nil {
			return fmt.Sprintf("%s has no memos: %v", x.owner.name(), err)
		}
		heads := func(m *machine) []pando.CID {
			hs, err := m.db.Replica().Heads(context.Background(), c.ID, x.id)
			if err != nil {
				h.fail("%s: %v", m.name(), err)
			}
			return hs
		}
		want := heads(x.owner)
		for _, m := range x.reached(h) {
			if got := heads(m); !slices.Equal(got, want) {
				return fmt.Sprintf("memo %s: %s has %v, %s has %v", x.id, x.owner.name(), want, m.name(), got)
			}
		}
		for _, m := range h.all {
			if got := heads(m); !x.ever[m] && len(got) > 0 {
				h.fail("%s, who never might read memo %s, has %v", m.name(), x.id, got)
			}
		}
	}
	return ""
}
