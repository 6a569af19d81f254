package acp_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

const notes = `
name: notes
description: what people write, and whom they show it to
actor:
  name: actor
resources:
  note:
    permissions:
      read:   {expr: owner + reader + writer + admin}
      update: {expr: owner + writer}
      delete: {expr: owner}
    relations:
      owner:  {types: [actor]}
      reader: {types: [actor]}
      writer: {types: [actor]}
      admin:  {types: [actor], manages: [reader, writer]}
`

func rules(t testing.TB) *acp.Rules {
	t.Helper()
	p, err := acp.ParsePolicy([]byte(notes))
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Rules("note")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// person returns the key of somebody.
func person(name string) ident.PublicKey {
	k, err := ident.GenerateFrom(ident.EdDSA, strings.NewReader(strings.Repeat(name, 32)))
	if err != nil {
		panic(err)
	}
	return k.Public()
}

func id(name string) acp.ID { return sha256.Sum256([]byte(name)) }

func grant(relation string, s acp.Subject) acp.Op {
	return acp.Op{Kind: acp.Grant, Relation: relation, Subject: s}
}

func revoke(relation string, s acp.Subject) acp.Op {
	return acp.Op{Kind: acp.Revoke, Relation: relation, Subject: s}
}

// line is a document whose commits follow each other.
type line struct {
	t      testing.TB
	r      *acp.Rules
	state  acp.State
	before acp.Frontier
	height uint64
}

func (l *line) try(author string, need acp.Need) (acp.Commit, acp.Verdict, error) {
	l.height++
	c := acp.Commit{ID: id(author + string(rune(l.height))), Height: l.height, Author: person(author), Before: l.before, Need: need}
	v, err := l.state.Judge(l.r, c, nil)
	return c, v, err
}

func (l *line) ok(author string, need acp.Need) acp.Commit {
	l.t.Helper()
	c, v, err := l.try(author, need)
	if err != nil || v != acp.Counts {
		l.t.Fatalf("%s may not: %v, %v", author, v, err)
	}
	if l.state, err = l.state.Add(l.r, c, v, nil); err != nil {
		l.t.Fatal(err)
	}
	l.before = acp.Above(c)
	return c
}

func (l *line) no(author string, need acp.Need) {
	l.t.Helper()
	if _, v, err := l.try(author, need); !errors.Is(err, fault.Invalid) {
		l.t.Fatalf("%s may: %v, %v", author, v, err)
	}
}

var (
	writes  = acp.Need{Update: true}
	deletes = acp.Need{Delete: true}
)

func does(ops ...acp.Op) acp.Need { return acp.Need{Ops: ops} }

func TestRightsComeAndGo(t *testing.T) {
	t.Parallel()
	bo, cy := acp.OfKey(person("bo")), acp.OfKey(person("cy"))
	l := &line{t: t, r: rules(t), state: acp.Begin(person("ann"))}
	l.no("bo", writes)
	l.ok("ann", writes)
	l.no("bo", writes)
	l.ok("ann", does(grant("writer", bo)))
	l.ok("bo", writes)
	l.no("bo", deletes)
	l.no("bo", does(grant("writer", cy)))
	l.ok("ann", does(grant("admin", bo)))
	l.ok("bo", does(grant("writer", cy)))
	l.ok("cy", writes)
	l.no("bo", does(grant("admin", cy)))
	l.ok("ann", does(revoke("admin", bo), revoke("writer", bo)))
	l.no("bo", writes)
	l.ok("cy", writes) // whom bo let in while he could
	l.ok("ann", does(acp.Op{Kind: acp.Transfer, Subject: cy}))
	l.no("ann", deletes)
	l.ok("cy", deletes)
	l.ok("cy", does(grant("writer", acp.Everyone)))
	l.ok("dan", writes)
	if got := l.state.Owner(); got != person("cy") {
		t.Errorf("owner is %v, want cy", got)
	}
	if got := l.state.Tuples(l.r); len(got) != 2 || got[0] != (acp.Tuple{Relation: "writer", Subject: acp.Everyone}) {
		t.Errorf("tuples are %v", got)
	}
	if !l.state.Allows(l.r, acp.Actor{Keys: []ident.PublicKey{person("cy")}}, l.r.Read) {
		t.Error("cy cannot read")
	}
	if l.state.Allows(l.r, acp.Actor{Keys: []ident.PublicKey{person("dan")}}, l.r.Delete) {
		t.Error("dan can delete")
	}
}

// Whose a document is stands at the beginning of its state, while it is the first owner's.
func TestStatesBeginWithTheOwner(t *testing.T) {
	t.Parallel()
	ann, bo := person("ann"), acp.OfKey(person("bo"))
	l := &line{t: t, r: rules(t), state: acp.Begin(ann)}
	want := func(is bool) {
		t.Helper()
		if got := bytes.HasPrefix(l.state.Bytes(), acp.Begins(ann)); got != is {
			t.Errorf("begins with ann as the owner: %v, want %v; the owner is %v", got, is, l.state.Owner())
		}
		if bytes.HasPrefix(l.state.Bytes(), acp.Begins(person("bo"))) {
			t.Error("begins with bo as the owner, who did not begin it")
		}
	}
	want(true)
	l.ok("ann", does(grant("writer", bo)))
	want(true)
	l.ok("ann", does(acp.Op{Kind: acp.Transfer, Subject: bo}))
	want(false)
}

// Who looks at one state after the other sees nothing of the last in the next.
func TestReopen(t *testing.T) {
	t.Parallel()
	shared, bare := sharedWith(t, 3), acp.Begin(person("bo"))
	var s acp.State
	for _, raw := range [][]byte{shared.Bytes(), bare.Bytes(), shared.Bytes(), shared.Bytes()[:50], bare.Bytes()} {
		fresh, want := acp.Open(raw)
		err := s.Reopen(raw)
		if (err == nil) != (want == nil) || !reflect.DeepEqual(s, fresh) {
			t.Errorf("%x opens as %+v, %v; at first it is %+v, %v", raw, s, err, fresh, want)
		}
	}
}

// play is a document told as a story: who does what, standing on what. Every commit
// is taken by a replica as it is told.
type play struct {
	t *testing.T
	*replica
	names map[string]int
}

func tell(t *testing.T) *play {
	d := &drawn{oracle: newOracle(people[0]), team: newOracle(people[0])}
	d.groups = d.teamAsOf
	p := &play{t: t, replica: newReplica(d), names: map[string]int{}}
	p.on("", "root", 0, acp.Need{Update: true})
	return p
}

// on adds a commit that stands on those named.
func (p *play) on(below, name string, author int, need acp.Need, auth ...acp.ID) *play {
	p.t.Helper()
	p.add(below, name, author, need, auth...)
	if err := p.take(p.names[name]); err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	if err := p.differs(); err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	return p
}

func (p *play) add(below, name string, author int, need acp.Need, auth ...acp.ID) {
	p.t.Helper()
	var parents []acp.ID
	for b := range strings.FieldsSeq(below) {
		parents = append(parents, p.commits[p.names[b]].ID)
	}
	if _, ok := p.oracle.add(acp.Commit{ID: id(name), Author: people[author], Need: need, Auth: auth}, parents); !ok {
		p.t.Fatalf("%s is not valid", name)
	}
	p.names[name] = len(p.commits) - 1
}

// refuses checks that a commit is not valid.
func (p *play) refuses(below string, author int, need acp.Need, auth ...acp.ID) {
	p.t.Helper()
	c := commit{Commit: acp.Commit{ID: id("refused"), Author: people[author], Need: need, Auth: auth}}
	for b := range strings.FieldsSeq(below) {
		i := p.names[b]
		c.parents = append(c.parents, p.commits[i].ID)
		c.Height = max(c.Height, p.commits[i].Height+1)
	}
	standing, err := p.standing(c)
	if err != nil {
		p.t.Fatal(err)
	}
	if v, err := p.state.Judge(sharedRules, standing, p); !errors.Is(err, fault.Invalid) {
		p.t.Fatalf("%s is not refused: %v, %v", describe(c), v, err)
	}
}

// count checks which commits count, and that all others are void.
func (p *play) count(names string) {
	p.t.Helper()
	for name, i := range p.names {
		want := acp.Void
		if slices.Contains(strings.Fields(names), name) {
			want = acp.Counts
		}
		if got := p.counts[i]; got != want {
			p.t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

const ann, bo, cy, dan = 0, 1, 2, 3

func key(i int) acp.Subject { return acp.OfKey(people[i]) }

func transfer(to int) acp.Need { return does(acp.Op{Kind: acp.Transfer, Subject: key(to)}) }

func accept(names ...string) acp.Need {
	op := acp.Op{Kind: acp.Accept}
	for _, n := range names {
		op.Commits = append(op.Commits, id(n))
	}
	slices.SortFunc(op.Commits, acp.ID.Compare)
	return does(op)
}

// Who writes beside his revocation writes in vain, whatever he builds on it; honest
// work above stays.
func TestARevokedWriterGainsNothingFromThePast(t *testing.T) {
	t.Parallel()
	p := tell(t)
	p.on("root", "grant", ann, does(grant("writer", key(bo)), grant("writer", key(cy))))
	p.on("grant", "early", bo, writes)
	p.on("early", "revoke", ann, does(revoke("writer", key(bo))))
	p.on("grant", "late", bo, writes)
	p.on("late", "later", bo, writes)
	p.on("later revoke", "cy", cy, writes)
	p.count("root grant early revoke cy")
	p.refuses("revoke", bo, writes)
	p.refuses("cy", bo, writes)
	p.on("cy", "again", ann, does(grant("writer", key(bo))))
	p.on("again", "back", bo, writes)
	p.count("root grant early revoke cy again back")
}

// A revocation that arrives late voids what was folded.
func TestARevocationArrivesLate(t *testing.T) {
	t.Parallel()
	p := tell(t)
	p.on("root", "grant", ann, does(grant("writer", key(bo))))
	p.on("grant", "write", bo, writes)
	p.count("root grant write")
	p.on("grant", "revoke", ann, does(revoke("writer", key(bo))))
	p.count("root grant revoke")
	p.on("write revoke", "accept", ann, accept("write"))
	p.count("root grant revoke write accept")
}

// Whom a revoked manager lets in from the past falls with him, and those whom they
// let in.
func TestWhomARevokedManagerLetsInFalls(t *testing.T) {
	t.Parallel()
	p := tell(t)
	p.on("root", "grant", ann, does(grant("admin", key(bo))))
	p.on("grant", "cy-in", bo, does(grant("writer", key(cy))))
	p.on("cy-in", "revoke", ann, does(revoke("admin", key(bo))))
	p.on("cy-in", "dan-in", bo, does(grant("admin", key(dan)), grant("writer", key(dan))))
	p.on("dan-in", "dan", dan, writes)
	p.on("dan", "bo-in", dan, does(grant("writer", key(bo))))
	p.on("bo-in", "bo", bo, writes)
	p.on("cy-in", "cy", cy, writes)
	p.count("root grant revoke cy cy-in")
	if got := p.state.Tuples(sharedRules); len(got) != 1 || got[0].Subject != key(cy) {
		t.Errorf("tuples are %v, want cy as a writer", got)
	}
}

func TestTwoWhoRevokeEachOtherBothLose(t *testing.T) {
	t.Parallel()
	p := tell(t)
	p.on("root", "grant", ann, does(grant("admin", key(bo)), grant("admin", key(cy))))
	p.on("grant", "a", bo, does(revoke("admin", key(cy))))
	p.on("grant", "b", cy, does(revoke("admin", key(bo))))
	p.count("root grant")
	if got := p.state.Tuples(sharedRules); len(got) != 0 {
		t.Errorf("tuples are %v, want none", got)
	}
	p.on("a b", "decides", ann, does(grant("admin", key(cy))))
	p.on("decides", "cy", cy, does(grant("writer", acp.Everyone)))
	p.count("root grant decides cy")
}

// Who gives one document to two people leaves it to nobody, at once or much later.
func TestContestedTransfer(t *testing.T) {
	t.Parallel()
	p := tell(t)
	p.on("root", "to-bo", ann, transfer(bo))
	p.on("to-bo", "bo", bo, writes)
	p.on("bo", "to-dan", bo, transfer(dan))
	p.on("to-dan", "dan", dan, writes)
	p.refuses("bo", ann, writes)
	p.on("root", "to-cy", ann, transfer(cy))
	p.on("to-cy", "cy", cy, writes)
	p.count("root")
	if got := p.state.Owner(); got != "" {
		t.Errorf("owner is %v, want nobody", got)
	}
	for _, who := range []int{ann, bo, cy, dan} {
		p.refuses("dan cy", who, writes)
	}
	nobody := acp.Commit{ID: id("nobody"), Height: 9, Before: p.state.Frontier(), Need: writes}
	if _, err := p.state.Judge(sharedRules, nobody, p); !errors.Is(err, fault.Invalid) {
		t.Errorf("nobody owns it, and may write it: %v", err)
	}
	review, err := p.state.Review(sharedRules, p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := review.Judge(nobody); !errors.Is(err, fault.Invalid) {
		t.Errorf("nobody owns it, and may write it beside others: %v", err)
	}
	if p.state.Allows(sharedRules, acp.Actor{Keys: []ident.PublicKey{""}}, sharedRules.Read) {
		t.Error("nobody owns it, and may read it")
	}
}

// What an acceptance lets count it lets count for those who stand on it.
func TestAnAcceptanceLetsNothingInBesideIt(t *testing.T) {
	t.Parallel()
	p := tell(t)
	p.on("root", "grant", ann, does(grant("admin", key(bo))))
	p.on("grant", "revoke", ann, does(revoke("admin", key(bo))))
	p.on("grant", "cy-in", bo, does(grant("writer", key(cy))))
	p.on("cy-in", "cy", cy, writes)
	p.count("root grant revoke")
	p.refuses("revoke cy-in", cy, writes)
	p.on("revoke cy", "accept", ann, accept("cy-in"))
	p.count("root grant revoke cy-in cy accept")
	p.refuses("revoke cy-in", cy, writes)
	p.on("accept", "back", cy, writes)
	p.count("root grant revoke cy-in cy accept back")
}

// A former owner's work beside the transfer is void until the new owner accepts it.
func TestTheNewOwnerDecides(t *testing.T) {
	t.Parallel()
	p := tell(t)
	p.on("root", "transfer", ann, transfer(bo))
	p.on("root", "write", ann, does(grant("writer", key(cy))))
	p.on("write", "cy", cy, writes)
	p.count("root transfer")
	p.refuses("cy transfer", ann, accept("write"))
	p.on("cy transfer", "accept", bo, accept("write"))
	p.count("root transfer write cy accept")
	p.on("cy transfer", "gone", bo, transfer(dan))
	p.count("root transfer gone")
	p.on("accept gone", "accepted", dan, accept("accept"))
	p.count("root transfer gone accept accepted write cy")
}

// Who was taken out of a group writes in vain beside the commit that knows it, and
// not at all above.
func TestWhoLeftAGroup(t *testing.T) {
	t.Parallel()
	p := tell(t)
	in := p.team.put(t, "in", nil, does(grant("writer", key(bo))))
	out := p.team.put(t, "out", []acp.ID{in}, does(revoke("writer", key(bo))))
	group := acp.OfGroup(team, "writer")
	p.on("root", "grant", ann, does(grant("writer", group)))
	p.refuses("grant", bo, writes) // what bo knows of the group is nothing
	p.on("grant", "bo", bo, writes, in)
	p.on("bo", "more", bo, writes) // the group is known from below
	p.on("bo", "ann", ann, writes, in)
	p.count("root grant bo more ann")
	p.on("ann", "anchor", ann, writes, out)
	p.count("root grant bo ann anchor")
	p.refuses("anchor", bo, writes, in)
	p.on("bo", "late", bo, writes, in)
	p.count("root grant bo ann anchor")
	p.on("anchor more late", "accept", ann, accept("more"))
	p.count("root grant bo ann anchor accept more")
}

func (o *oracle) put(t *testing.T, name string, parents []acp.ID, need acp.Need) acp.ID {
	t.Helper()
	if _, ok := o.add(acp.Commit{ID: id(name), Author: people[ann], Need: need}, parents); !ok {
		t.Fatalf("%s is not valid in the group", name)
	}
	return id(name)
}

// A writer who fills a document up with anchors cannot keep its owner from sending him
// away.
func TestNobodyFillsADocumentUpAgainstItsOwner(t *testing.T) {
	t.Parallel()
	l := &line{t: t, r: rules(t), state: acp.Begin(person("ann"))}
	l.ok("ann", does(grant("writer", acp.OfKey(person("bob")))))
	anchor := func() error {
		l.height++
		c := acp.Commit{ID: id(strings.Repeat("x", int(l.height))), Height: l.height, Author: person("bob"), Before: l.before, Need: writes, Auth: []acp.ID{team}}
		v, err := l.state.Judge(l.r, c, nobody{})
		if err == nil {
			l.state, err = l.state.Add(l.r, c, v, nobody{})
			l.before = acp.Above(c)
		}
		return err
	}
	var err error
	for err == nil {
		err = anchor()
	}
	if !errors.Is(err, fault.Invalid) || l.state.Events() != acp.MaxEvents {
		t.Fatalf("after %d events: %v", l.state.Events(), err)
	}
	l.ok("ann", does(revoke("writer", acp.OfKey(person("bob")))))
	if l.state.Events() != acp.MaxEvents+1 {
		t.Errorf("there are %d events", l.state.Events())
	}
}

// nobody knows of no members.
type nobody struct{}

func (nobody) Member([]acp.ID, acp.ID, string, ident.PublicKey) (bool, error) { return false, nil }
