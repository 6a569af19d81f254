package acp_test

import (
	"crypto/sha256"
	"errors"
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
