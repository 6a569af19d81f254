package veil_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/value"
	"github.com/pandodb/pando/internal/veil"
)

func must(t testing.TB, e *entry, err error) *entry {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// copyOf returns another node with what r has.
func copyOf(t testing.TB, r *replica, me ident.Key) *replica {
	t.Helper()
	c := newReplica(r.world, me)
	if err := c.sync(r); err != nil {
		t.Fatal(err)
	}
	return c
}

func kinds(e *entry) (all []veil.OpKind) {
	ops, err := veil.Ops(e.Deltas)
	if err != nil {
		panic(err)
	}
	for _, o := range ops {
		all = append(all, o.Kind)
	}
	return all
}

func TestALetterGoesToThoseWhoMayReadIt(t *testing.T) {
	t.Parallel()
	_, ann := newWorld(t)
	bo := acp.OfKey(people[1].Public())
	first := ann.order[0]
	if _, ok := ann.reads(ann.finder(people[1]), first); ok {
		t.Fatal("bo opens a letter that nobody gave him")
	}
	granted, err := ann.write("", grant("reader", bo))
	must(t, granted, err)
	if got := kinds(granted); !slices.Equal(got, []veil.OpKind{veil.Give}) {
		t.Errorf("letting bo in does %v, want to give him the epoch", got)
	}
	if text, ok := ann.reads(ann.finder(people[1]), first); !ok || text != "dear all" {
		t.Errorf("bo reads %q, %v: what was written before he was let in is for him too", text, ok)
	}
	next, err := ann.write("dear bo")
	if got := kinds(must(t, next, err)); len(got) != 0 {
		t.Errorf("a further text does %v: its readers have all keys", got)
	}
	revoked, err := ann.write("", revoke("reader", bo))
	if got := kinds(must(t, revoked, err)); !slices.Equal(got, []veil.OpKind{veil.Begin, veil.Give, veil.Link}) {
		t.Errorf("taking bo's right away does %v, want another epoch", got)
	}
	secret, err := ann.write("without bo")
	must(t, secret, err)
	if _, ok := ann.reads(ann.finder(people[1]), secret); ok {
		t.Error("bo opens what was written after he lost the right")
	}
	if text, ok := ann.reads(ann.finder(people[1]), next); !ok || text != "dear bo" {
		t.Errorf("bo reads %q, %v: what he could read he can", text, ok)
	}
}

func TestWhatEveryoneMayReadNeedsNoKey(t *testing.T) {
	t.Parallel()
	_, ann := newWorld(t)
	first := ann.order[0]
	opened, err := ann.write("", grant("reader", acp.Everyone))
	must(t, opened, err)
	if text, ok := ann.reads(ann.finder(), first); !ok || text != "dear all" {
		t.Errorf("without keys: %q, %v", text, ok)
	}
	_, err = ann.write("", revoke("reader", acp.Everyone))
	closed, err2 := ann.write("among us")
	must(t, closed, errors.Join(err, err2))
	if _, ok := ann.reads(ann.finder(), closed); ok {
		t.Error("what was written after everyone lost the right opens without keys")
	}
}

// Groups have no key. Who writes gives keys to those who belong to them, and begins an
// epoch as soon as he knows that somebody does not any more.
func TestTheNextWriterLeavesOutWhoLeftTheTeam(t *testing.T) {
	t.Parallel()
	w, ann := newWorld(t)
	cy := people[2]
	_, err := ann.write("", grant("reader", acp.OfGroup(theTeam, "member")))
	must(t, nil, err)
	w.team, ann.known = []ident.PublicKey{cy.Public()}, 1
	joined, err := ann.write("welcome")
	must(t, joined, err)
	if text, ok := ann.reads(ann.finder(cy), ann.order[0]); !ok || text != "dear all" {
		t.Errorf("cy, who is in the team, reads %q, %v", text, ok)
	}
	w.team, ann.known = append(w.team, cy.Public()), 2
	left, err := ann.write("without cy")
	must(t, left, err)
	if _, ok := ann.reads(ann.finder(cy), left); ok {
		t.Error("cy left the team, and opens what was written after")
	}
}

// bo, who manages readers, takes one away beside the revocation of his own right. What
// he began with his last act is not gone on with.
func TestAnEpochOfAVoidCommitIsNotUsed(t *testing.T) {
	t.Parallel()
	_, ann := newWorld(t)
	_, err := ann.write("", grant("admin", acp.OfKey(people[1].Public())), grant("reader", acp.OfKey(people[2].Public())))
	must(t, nil, err)
	bo := copyOf(t, ann, people[1])
	last, err := bo.write("", revoke("reader", acp.OfKey(people[2].Public())))
	must(t, last, err)
	_, err = ann.write("", revoke("admin", acp.OfKey(people[1].Public())))
	must(t, nil, errors.Join(err, ann.sync(bo)))
	next, err := ann.write("to myself")
	if got := kinds(must(t, next, err)); !slices.Contains(got, veil.Begin) {
		t.Errorf("ann goes on with the epoch of a void commit: %v", got)
	}
}

// attempt makes a commit of the letter by hand, and says what everybody says of it.
func (r *replica) attempt(t *testing.T, make func(c *dag.Commit)) error {
	t.Helper()
	c := &dag.Commit{Author: dag.Author{Key: people[0].Public()}, Height: 1, Doc: dag.DocID(r.doc)}
	for _, h := range r.heads {
		c.Parents = append(c.Parents, h)
		c.Height, c.HLC = max(c.Height, r.commits[h].Height+1), max(c.HLC, r.commits[h].HLC+1)
	}
	make(c)
	if err := dag.Prepare(c); err != nil {
		t.Fatal(err)
	}
	a, err := r.standing(c)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := veil.Ops(c.Deltas)
	if err != nil {
		return err
	}
	return r.keys.Check(c, ops, veil.Standing{Rules: rules, Access: r.access, Before: a.Before, Need: a.Need})
}

func TestEverybodySeesWhatBreaksTheRules(t *testing.T) {
	t.Parallel()
	w, ann := newWorld(t)
	bo := acp.OfKey(people[1].Public())
	old := ann.keys.Epochs()[0]
	secret, ok, err := ann.finder(people[0]).Secret(old)
	if err != nil || !ok {
		t.Fatal(err)
	}
	key := veil.Key{Epoch: old, Secret: secret}
	text := func(c *dag.Commit) {
		c.Deltas = append(c.Deltas, set(body, "text"))
		if err := key.Seal(c, ann.cover(), w.rand); err != nil {
			t.Fatal(err)
		}
	}
	ops := func(ops ...veil.Op) func(*dag.Commit) {
		return func(c *dag.Commit) {
			for _, o := range ops {
				c.Deltas = append(c.Deltas, o.Delta())
			}
		}
	}
	if err := ann.attempt(t, text); err != nil {
		t.Fatalf("an honest commit: %v", err)
	}
	otherSecret := veil.Secret{1}
	other := otherSecret.Epoch(ann.doc)
	wraps := []veil.Wrap{{To: people[1].Public(), Sealed: []byte("sealed")}}
	link := make([]byte, 32+24+16)
	for _, c := range []struct {
		what string
		make func(c *dag.Commit)
	}{
		{"in clear", func(c *dag.Commit) { c.Deltas = []crdt.Delta{set(body, "text")} }},
		{"nothing of the document is encrypted for that group", func(c *dag.Commit) { text(c); c.Segs[0].Group = 17 }},
		{"did not begin below", func(c *dag.Commit) { text(c); c.Segs[0].Epoch++ }},
		{"when a document begins", ops(veil.Op{Kind: veil.Hide, Cover: veil.Cover{Fields: []crdt.FieldID{title}}})},
		{"began before", ops(veil.Op{Kind: veil.Begin, Epoch: old})},
		{"give of epoch", ops(veil.Op{Kind: veil.Give, Epoch: other, Wraps: wraps})},
		{"publish of epoch", ops(veil.Op{Kind: veil.Publish, Epoch: other, Secret: otherSecret})},
		{"is not that of epoch", ops(veil.Op{Kind: veil.Publish, Epoch: old, Secret: otherSecret})},
		{"link from epoch", ops(veil.Op{Kind: veil.Begin, Epoch: other}, veil.Op{Kind: veil.Link, Epoch: old, Older: other, Sealed: link})},
		{"link of epoch", ops(veil.Op{Kind: veil.Link, Epoch: other, Older: old, Sealed: link})},
		{"begin another", func(c *dag.Commit) { c.Deltas = []crdt.Delta{revoke("reader", bo).Delta()}; text(c) }},
		{"begin another", func(c *dag.Commit) { // the new epoch is there, and not used
			ops(veil.Op{Kind: veil.Begin, Epoch: other})(c)
			c.Deltas = append(c.Deltas, revoke("reader", bo).Delta())
			text(c)
		}},
		{"did not begin below", func(c *dag.Commit) { ops(veil.Op{Kind: veil.Begin, Epoch: other})(c); text(c); c.Segs[0].Epoch++ }},
		{"give of epoch", ops(veil.Op{Kind: veil.Begin, Epoch: other}, veil.Op{Kind: veil.Give, Epoch: veil.EpochID{2}, Wraps: wraps})},
		{"2 operations say", ops(veil.Op{Kind: veil.Hide, Cover: veil.Cover{All: true}}, veil.Op{Kind: veil.Hide, Cover: veil.Cover{All: true}})},
		{"2 epochs begin", ops(veil.Op{Kind: veil.Begin, Epoch: other}, veil.Op{Kind: veil.Begin, Epoch: veil.EpochID{2}})},
	} {
		if err := ann.attempt(t, c.make); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.what) {
			t.Errorf("%v: want it invalid, because %q", err, c.what)
		}
	}
	early := slices.Clone(ann.heads)
	later, err := ann.write("", revoke("reader", bo))
	must(t, later, err)
	began, err := veil.Ops(later.Deltas)
	if err != nil {
		t.Fatal(err)
	}
	down := veil.Op{Kind: veil.Link, Epoch: old, Older: began[0].Epoch, Sealed: link}
	if err := ann.attempt(t, ops(down)); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "did not begin below it") {
		t.Errorf("a later secret under an earlier one: %v", err)
	}
	up := veil.Op{Kind: veil.Link, Epoch: began[0].Epoch, Older: old, Sealed: link}
	if err := ann.attempt(t, ops(up)); err != nil {
		t.Errorf("an earlier secret under a later one: %v", err)
	}
	beside := func(make func(c *dag.Commit)) func(*dag.Commit) {
		return func(c *dag.Commit) { c.Parents = early; make(c) }
	}
	if err := ann.attempt(t, beside(text)); err != nil {
		t.Errorf("beside the revocation, under the keys of then: %v", err)
	}
	if err := ann.attempt(t, beside(ops(veil.Op{Kind: veil.Give, Epoch: began[0].Epoch, Wraps: wraps}))); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "give of epoch") {
		t.Errorf("keys of an epoch that began beside the commit: %v", err)
	}
	if err := ann.attempt(t, beside(func(c *dag.Commit) { text(c); c.Segs[0].Epoch = began[0].Epoch.Number() })); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "did not begin below") {
		t.Errorf("under an epoch that began beside the commit: %v", err)
	}
	// By hand, as a program would that does not know what a revocation means.
	_, err = ann.write("", revoke("reader", bo))
	must(t, nil, err)
	if err := ann.attempt(t, text); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "begin another") {
		t.Errorf("on top of a revocation under the keys from before: %v", err)
	}
	plain := newReplica(&world{doc: w.doc, commits: map[dag.CID]*entry{}}, people[0])
	if err := plain.attempt(t, func(c *dag.Commit) {
		c.Root = &dag.RootSeed{Mode: dag.ModeOwned, Seed: make([]byte, len(c.Author.Key)+32)}
		copy(c.Root.Seed, c.Author.Key)
		c.Doc = c.Root.DocID()
		ops(veil.Op{Kind: veil.Begin, Epoch: other})(c)
		c.AddSegment(1, other.Number(), []byte("sealed"))
	}); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "keys for a document") {
		t.Errorf("keys of a document of which nothing is encrypted: %v", err)
	}
}

// A segment opens where it was sealed, and nowhere else.
func TestSegmentsCannotBeMoved(t *testing.T) {
	t.Parallel()
	_, ann := newWorld(t)
	secret := veil.Secret{7}
	epoch := secret.Epoch(ann.doc)
	cover := veil.Cover{All: true, Fields: []crdt.FieldID{title}}
	fresh := func() *dag.Commit {
		return &dag.Commit{Author: dag.Author{Key: people[0].Public()}, Height: 2, HLC: 77, Doc: dag.DocID(ann.doc), Parents: []dag.CID{{1}}}
	}
	c := fresh()
	c.Deltas = []crdt.Delta{set(title, "a title"), set(body, "a body")}
	if err := (veil.Key{Epoch: epoch, Secret: secret}).Seal(c, cover, chance(3)); err != nil {
		t.Fatal(err)
	}
	texts := func(c *dag.Commit, doc acp.ID, s veil.Secret) (all []string) {
		e := s.Epoch(doc)
		state := veil.State{}.Add(acp.ID{9}, 1, []veil.Op{{Kind: veil.Begin, Epoch: e}})
		for i := range c.Segs {
			c.Segs[i].Epoch = e.Number()
		}
		f := veil.NewFinder(doc, state, nil, map[veil.EpochID]veil.Secret{e: s}, func(acp.ID) ([]veil.Op, error) { return nil, nil })
		deltas, ok, err := f.Open(c, veil.Standing{})
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		for _, d := range deltas {
			if !d.Void {
				all = append(all, d.Val.Text())
			}
		}
		return all
	}
	moved := func(change func(c *dag.Commit)) *dag.Commit {
		m := fresh()
		m.Segs, m.Payload = slices.Clone(c.Segs), slices.Clone(c.Payload)
		change(m)
		return m
	}
	if got := texts(moved(func(*dag.Commit) {}), ann.doc, secret); !slices.Equal(got, []string{"a body", "a title"}) {
		t.Fatalf("where it belongs: %q", got)
	}
	for what, m := range map[string]*dag.Commit{
		"another document":   moved(func(c *dag.Commit) { c.Doc[0]++ }),
		"another author":     moved(func(c *dag.Commit) { c.Author.Key = people[1].Public() }),
		"another time":       moved(func(c *dag.Commit) { c.HLC++ }),
		"another field":      moved(func(c *dag.Commit) { c.Payload[0], c.Payload[1] = c.Payload[1], c.Payload[0] }),
		"one byte":           moved(func(c *dag.Commit) { c.Payload = [][]byte{flipped(c.Payload[0]), flipped(c.Payload[1])} }),
		"nothing":            moved(func(c *dag.Commit) { c.Payload = [][]byte{nil, nil} }),
		"shorter than a tag": moved(func(c *dag.Commit) { c.Payload = [][]byte{c.Payload[0][:30], c.Payload[1][:30]} }),
	} {
		if got := texts(m, ann.doc, secret); len(got) > 0 {
			t.Errorf("%s: reads %q", what, got)
		}
	}
	if got := texts(moved(func(*dag.Commit) {}), ann.doc, veil.Secret{8}); len(got) > 0 {
		t.Errorf("under another epoch: reads %q", got)
	}
	// What a title may say is said in its own segment, and reserved fields in none.
	odd := fresh()
	odd.Deltas = []crdt.Delta{set(body, "no title"), {Field: crdt.FieldStatus, Kind: crdt.KindStatus}}
	if err := (veil.Key{Epoch: epoch, Secret: secret}).Seal(odd, veil.Cover{Fields: []crdt.FieldID{body}}, chance(3)); err != nil {
		t.Fatal(err)
	}
	if len(odd.Segs) != 1 || len(odd.Deltas) != 1 || odd.Deltas[0].Field != crdt.FieldStatus {
		t.Errorf("the status is sealed: %d segments, %v", len(odd.Segs), odd.Deltas)
	}
}

func flipped(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// Whoever begins an epoch cannot give one reader another secret than the others: the
// name of the epoch says which is the right one.
func TestAWrongSecretIsNoSecret(t *testing.T) {
	t.Parallel()
	_, ann := newWorld(t)
	epoch := ann.keys.Epochs()[0]
	wrong := veil.Secret{1}
	info := slices.Concat([]byte("pando/1 epoch secret\n"), ann.doc[:], epoch[:])
	sealed, err := ident.Seal(people[1].Public(), info, wrong[:])
	if err != nil {
		t.Fatal(err)
	}
	give := []veil.Op{{Kind: veil.Give, Epoch: epoch, Wraps: []veil.Wrap{{To: people[1].Public(), Sealed: sealed}}}}
	s := ann.keys.Add(acp.ID{9}, 9, give)
	f := veil.NewFinder(ann.doc, s, people[1:2], nil, func(id acp.ID) ([]veil.Op, error) {
		if id == (acp.ID{9}) {
			return give, nil
		}
		return ann.source(id)
	})
	if _, ok, err := f.Secret(epoch); ok || err != nil {
		t.Errorf("bo takes a secret that is not that of the epoch: %v, %v", ok, err)
	}
}

// A key that nobody can have does not keep others from writing.
func TestAKeyOfNobodyIsLeftOut(t *testing.T) {
	t.Parallel()
	zero := ident.PublicKey("\xed\x01" + "\x01" + strings.Repeat("\x00", 31)) // the neutral point
	if err := zero.Check(); err != nil {
		t.Skip("not a key at all:", err)
	}
	p, err := veil.Cover{All: true}.Begin(acp.ID{1}, veil.Readers{Keys: []ident.PublicKey{zero, people[0].Public()}}, nil, chance(1))
	if err != nil {
		t.Fatal(err)
	}
	if w := p.Ops[2].Wraps; len(w) != 1 || w[0].To != people[0].Public() {
		t.Errorf("wraps for %d keys, want one, for ann", len(w))
	}
}

// A commit has room for the keys of a thousand readers. The others get theirs with the
// next ones; the writer has its own with the first.
func TestMoreReadersThanACommitHasRoomForGetTheirKeysInTurn(t *testing.T) {
	t.Parallel()
	w, ann := newWorld(t)
	var many []ident.PublicKey
	for i := range veil.MaxReaders + 200 {
		many = append(many, someKey(i))
	}
	slices.Sort(many)
	w.team = many
	ann.known = len(many)
	_, err := ann.write("", grant("reader", acp.OfGroup(theTeam, "member")))
	must(t, nil, err)
	revoked, err := ann.write("", revoke("reader", acp.OfKey(people[1].Public())))
	must(t, revoked, err)
	next, err := ann.write("to a thousand")
	must(t, next, err)
	given := map[ident.PublicKey]bool{}
	for _, e := range []*entry{revoked, next} {
		ops, err := veil.Ops(e.Deltas)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range ops {
			if o.Kind == veil.Begin && e == next {
				t.Error("the writer begins another epoch: it has no key for the last one")
			}
			for _, wrap := range o.Wraps {
				given[wrap.To] = true
			}
		}
	}
	if len(given) != len(many)+1 {
		t.Errorf("%d have keys, want %d and ann", len(given), len(many))
	}
}

// someKey returns one of many keys.
func someKey(i int) ident.PublicKey {
	k, err := ident.GenerateFrom(ident.EdDSA, chance(uint64(i)))
	if err != nil {
		panic(err)
	}
	return k.Public()
}

// Whoever may write what is encrypted cannot do there what he may not do in clear: delete, give
// rights or keys, or write what is for other readers. What is no list of operations says nothing.
func TestWhatIsSealedStaysInItsGroup(t *testing.T) {
	t.Parallel()
	secret, doc := veil.Secret{7}, acp.ID{1}
	epoch := secret.Epoch(doc)
	state := veil.State{}.Add(acp.ID{9}, 1, []veil.Op{{Kind: veil.Begin, Epoch: epoch}})
	says := func(group uint64, text []byte) (fields []crdt.FieldID) {
		c := &dag.Commit{Author: dag.Author{Key: people[0].Public()}, Height: 2, HLC: 77, Doc: dag.DocID(doc)}
		sealed, err := veil.SealText(veil.Key{Epoch: epoch, Secret: secret}, c, group, text, chance(1))
		if err != nil {
			t.Fatal(err)
		}
		c.Segs, c.Payload = []dag.Segment{{Group: group, Epoch: epoch.Number()}}, [][]byte{sealed}
		deltas, ok, err := veil.NewFinder(doc, state, nil, map[veil.EpochID]veil.Secret{epoch: secret}, nil).Open(c, veil.Standing{})
		if err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
		for _, d := range deltas {
			if !d.Void {
				fields = append(fields, d.Field)
			}
		}
		return fields
	}
	list := func(deltas ...crdt.Delta) []byte {
		b := cbor.AppendArray(nil, len(deltas))
		for _, d := range deltas {
			b = crdt.AppendDelta(b, d)
		}
		return b
	}
	text, head := set(body, "a body"), set(title, "a title")
	deleted := crdt.Delta{Field: crdt.FieldStatus, Kind: crdt.KindStatus, Val: value.OfBool(true)}
	for _, c := range []struct {
		what  string
		group uint64
		text  []byte
		want  []crdt.FieldID
	}{
		{"a text", veil.GroupDocument, list(head, text), []crdt.FieldID{title, body}},
		{"a title of its own", uint64(title), list(head), []crdt.FieldID{title}},
		{"a deletion", veil.GroupDocument, list(deleted, text), []crdt.FieldID{body}},
		{"a grant", veil.GroupDocument, list(grant("reader", acp.Everyone).Delta(), text), []crdt.FieldID{body}},
		{"a deletion for few", uint64(title), list(deleted, head), []crdt.FieldID{title}},
		{"a text for few", uint64(title), list(head, text), []crdt.FieldID{title}},
		{"something behind", veil.GroupDocument, append(list(text), 0), nil},
		{"less than it says", veil.GroupDocument, list(text)[1:], nil},
		{"more than a commit holds", veil.GroupDocument, list(slices.Repeat([]crdt.Delta{text}, dag.MaxOps+1)...), nil},
	} {
		if got := says(c.group, c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s in the segment of group %d writes fields %v, want %v", c.what, c.group, got, c.want)
		}
	}
}
