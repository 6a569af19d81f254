package acp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

var everyOp = []acp.Op{
	grant("reader", key(bo)), revoke("writer", acp.Everyone), grant("admin", acp.OfGroup(team, "member")),
	{Kind: acp.Transfer, Subject: key(cy)}, {Kind: acp.Accept, Commits: []acp.ID{id("a")}},
}

// What is read as an access operation is written again as it was.
func FuzzOps(f *testing.F) {
	for _, o := range everyOp {
		f.Add(o.Delta().Raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		ops, err := acp.Ops([]crdt.Delta{{Field: crdt.FieldAccess, Kind: crdt.KindAccess, Void: true, Raw: raw}})
		if err != nil {
			return
		}
		if got := ops[0].Delta(); !bytes.Equal(got.Raw, raw) || crdt.CheckDelta(got) != nil {
			t.Fatalf("%x comes back as %x", raw, got.Raw)
		}
		if s := ops[0].Subject; ops[0].Kind != acp.Accept {
			if again, err := acp.ParseSubject(s.String()); err != nil || again != s {
				t.Fatalf("subject %v reads as %v, %v", s, again, err)
			}
		}
	})
}

// Whatever a policy's file says, its canonical form is read as the same policy.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(notes))
	f.Add([]byte(shared))
	f.Add([]byte("name: \"a\\x7f\\u0085\\u2028\\ufeff\\0\\ud800<😀\"\nresources: {r: {relations: {owner: {}}}}"))
	f.Add([]byte(`{"name":"n","actor":{"name":"user"},"resources":{"r":{"permissions":{"read":{"expr":"owner|a"},"update":{"expr":"owner"},"delete":{"expr":"owner"}},"relations":{"owner":{"types":["user"]},"a":{}}}}}`))
	f.Add([]byte("name: n\nresources:\n- name: r\n  permissions: &p\n  - {name: read, expr: owner}\n  relations: *p\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := acp.ParsePolicy(text)
		if err != nil {
			return
		}
		again, err := acp.DecodePolicy(p.Encode())
		if err != nil || again.Sum() != p.Sum() {
			t.Fatalf("%q comes back as %+v, %v", text, again, err)
		}
		shown, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := acp.ParsePolicy(shown); len(shown) <= acp.MaxPolicy && (err != nil || again.Sum() != p.Sum()) {
			t.Fatalf("%q is shown as %q, which is another policy, %v", text, shown, err)
		}
	})
}

func FuzzDecodePolicy(f *testing.F) {
	p, err := acp.ParsePolicy([]byte(notes))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := acp.DecodePolicy(raw)
		if err == nil && !bytes.Equal(p.Encode(), raw) {
			t.Fatalf("%x comes back as %x", raw, p.Encode())
		}
	})
}

// Damaged states never panic, whoever reads them.
func FuzzOpen(f *testing.F) {
	shared := sharedWith(f, 3)
	raw := shared.Bytes()
	log, _ := shared.Log()
	f.Add(raw, log)
	for i := range raw {
		f.Add(damaged(raw, i), log)
		f.Add(raw[:i], log)
	}
	for i := range log {
		f.Add(raw, damaged(log, i))
		f.Add(raw, log[:i])
	}
	f.Fuzz(func(t *testing.T, raw, log []byte) {
		s, err := acp.Open(raw)
		if err != nil {
			return
		}
		s = s.WithLog(func() ([]byte, error) { return log, nil })
		nobody := func(acp.ID, string) bool { return false }
		s.Allows(sharedRules, acp.Actor{Keys: people, Groups: nobody}, sharedRules.Read)
		s.Tuples(sharedRules)
		c := acp.Commit{ID: id("new"), Height: 9, Author: s.Owner(), Before: s.Frontier(), Need: does(everyOp...)}
		if v, err := s.Judge(sharedRules, c, noGroups{}); err == nil {
			s.Add(sharedRules, c, v, noGroups{})
		}
		if v, err := s.Review(sharedRules, noGroups{}); err == nil {
			v.Again(c, func(acp.ID) bool { return false })
		}
		s.Join(s.Frontier(), nil)
		s.WithVoided(7)
	})
}

func damaged(raw []byte, i int) []byte {
	raw = bytes.Clone(raw)
	raw[i] ^= 0x81
	return raw
}

type noGroups struct{}

func (noGroups) Member([]acp.ID, acp.ID, string, ident.PublicKey) (bool, error) { return false, nil }

func TestOperationsComeBack(t *testing.T) {
	t.Parallel()
	var deltas []crdt.Delta
	for _, o := range everyOp {
		deltas = append(deltas, o.Delta())
	}
	n, err := acp.NeedOf(append(deltas, crdt.Delta{Field: crdt.FieldStatus, Kind: crdt.KindStatus}), false)
	if err != nil || len(n.Ops) != len(everyOp) || !n.Delete || n.Update || n.Keys {
		t.Fatalf("need is %+v, %v", n, err)
	}
	status, keys := crdt.Delta{Field: crdt.FieldStatus, Kind: crdt.KindStatus}, crdt.Delta{Field: crdt.FieldKeys, Kind: crdt.KindKeys}
	for _, c := range []struct {
		deltas []crdt.Delta
		sealed bool
		want   acp.Need
	}{
		{nil, false, acp.Need{Update: true}},
		{nil, true, acp.Need{Update: true}},
		{[]crdt.Delta{status}, true, acp.Need{Update: true, Delete: true}},
		{[]crdt.Delta{keys}, false, acp.Need{Keys: true}},
		{[]crdt.Delta{keys}, true, acp.Need{Update: true, Keys: true}},
		{[]crdt.Delta{status, keys, {Field: crdt.FirstField}}, false, acp.Need{Update: true, Delete: true, Keys: true}},
	} {
		if n, err := acp.NeedOf(c.deltas, c.sealed); err != nil || !reflect.DeepEqual(n, c.want) {
			t.Errorf("%v, sealed %v, needs %+v, %v; want %+v", c.deltas, c.sealed, n, err, c.want)
		}
	}
	for _, bad := range []acp.Op{
		grant("owner", key(bo)), grant("", key(bo)), {Kind: acp.Accept}, {Kind: acp.Transfer}, {Kind: 9, Commits: []acp.ID{{}}},
		grant("reader", acp.Subject{}), grant("reader", acp.OfGroup(team, "a b")),
	} {
		if _, err := acp.Ops([]crdt.Delta{bad.Delta()}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	two := acp.Op{Kind: acp.Transfer, Subject: key(bo)}.Delta()
	if _, err := acp.Ops([]crdt.Delta{two, two}); err == nil {
		t.Error("two transfers in a commit are accepted")
	}
}

// What does not say exactly one thing makes a commit invalid on every node: other bytes, or
// other readings of the same, would let nodes disagree on who may do what.
func TestOperationsThatAreNone(t *testing.T) {
	t.Parallel()
	sized := func(b []byte, n int) []byte { return cbor.AppendBytes(b, make([]byte, n)) }
	op := func(kind uint64, parts int, rest ...byte) []byte {
		return append(cbor.AppendUint(cbor.AppendArray(nil, parts), kind), rest...)
	}
	to := func(subject []byte) []byte { return op(1, 3, append(cbor.AppendText(nil, "reader"), subject...)...) }
	group := func(parts, id int, relation string) []byte {
		return cbor.AppendText(sized(cbor.AppendArray(nil, parts), id), relation)
	}
	ann := cbor.AppendBytes(nil, []byte(people[ann]))
	ids := func(names ...byte) []byte {
		b := cbor.AppendArray(nil, len(names))
		for _, n := range names {
			b = cbor.AppendBytes(b, bytes.Repeat([]byte{n}, 32))
		}
		return b
	}
	read := func(raw []byte) error {
		_, err := acp.Ops([]crdt.Delta{{Field: crdt.FieldAccess, Kind: crdt.KindAccess, Void: true, Raw: raw}})
		return err
	}
	for what, raw := range map[string][]byte{
		"a grant": to(ann), "one to everyone": to(cbor.AppendText(nil, "*")), "one to a group": to(group(2, 32, "member")),
		"a transfer": op(3, 2, ann...), "an acceptance": op(4, 2, ids(1, 2)...),
	} {
		if err := read(raw); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, raw := range map[string][]byte{
		"a kind that nobody knows":            op(5, 2, ann...),
		"the same beyond a byte":              op(257, 3, append(cbor.AppendText(nil, "reader"), ann...)...),
		"a kind alone":                        op(9, 1),
		"a transfer of three parts":           op(3, 3, ann...),
		"an acceptance of four":               op(4, 4, ids(1)...),
		"a grant of two parts":                op(1, 2, append(cbor.AppendText(nil, "reader"), ann...)...),
		"a transfer to everyone":              op(3, 2, cbor.AppendText(nil, "*")...),
		"a transfer to no key":                op(3, 2, sized(nil, 34)...),
		"a grant to a text":                   to(cbor.AppendText(nil, "bo")),
		"to a group of three parts":           to(group(3, 32, "member")),
		"to a group with a short identity":    to(group(2, 31, "member")),
		"to a group with a long identity":     to(group(2, 33, "member")),
		"to a group without a relation":       to(group(2, 32, "")),
		"to a group with a relation of blank": to(group(2, 32, " ")),
		"an acceptance that is not sorted":    op(4, 2, ids(2, 1)...),
		"an acceptance of one commit twice":   op(4, 2, ids(1, 1)...),
		"a short commit that is accepted":     op(4, 2, sized(cbor.AppendArray(nil, 1), 31)...),
		"something after the end":             append(to(ann), 0),
	} {
		if err := read(raw); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", what, err)
		}
	}
	for _, d := range []crdt.Delta{
		{Field: crdt.FieldAccess, Kind: crdt.KindStatus, Void: true, Raw: to(ann)},
		{Field: crdt.FieldKeys, Kind: crdt.KindAccess, Void: true, Raw: to(ann)},
	} {
		if _, err := acp.NeedOf([]crdt.Delta{d}, false); !errors.Is(err, fault.Invalid) {
			t.Errorf("kind %v on field %d: %v, want invalid", d.Kind, d.Field, err)
		}
	}
}

// A commit does so much with rights and no more.
func TestOperationsOfACommitAreBounded(t *testing.T) {
	t.Parallel()
	ops := func(n int) error {
		_, err := acp.Ops(slices.Repeat([]crdt.Delta{grant("reader", key(bo)).Delta()}, n))
		return err
	}
	accepts := func(n int) error {
		op := acp.Op{Kind: acp.Accept}
		for i := range n {
			op.Commits = append(op.Commits, id(fmt.Sprint(i)))
		}
		_, err := acp.Ops([]crdt.Delta{op.Delta()})
		return err
	}
	for what, of := range map[string]struct {
		try  func(int) error
		most int
	}{"operations": {ops, acp.MaxOps}, "acceptances": {accepts, acp.MaxAccepted}} {
		if err := of.try(of.most); err != nil {
			t.Errorf("%d %s: %v", of.most, what, err)
		}
		if err := of.try(of.most + 1); !errors.Is(err, fault.Invalid) {
			t.Errorf("%d %s: %v, want invalid", of.most+1, what, err)
		}
	}
}

// A subject has one text, and a text names one subject or none.
func TestSubjectsAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	group := acp.OfGroup(team, "member").String()
	docID := strings.TrimSuffix(group, "#member")
	for _, s := range []acp.Subject{acp.Everyone, key(bo), acp.OfGroup(team, "member")} {
		if again, err := acp.ParseSubject(s.String()); err != nil || again != s {
			t.Errorf("%v reads as %v, %v", s, again, err)
		}
	}
	for _, text := range []string{
		"", "**", "bo", "did:", "did:key:z6Mk", key(bo).String() + "#writer",
		docID, docID + "#", docID + "# ", docID + "#member#", "#member", "b#member", strings.TrimPrefix(group, "b"), docID[:len(docID)-1] + "#member",
		docID + "a#member", strings.ToUpper(docID) + "#member", "B" + docID[1:] + "#member", docID[:len(docID)-1] + "7#member",
		"bafybei" + docID[7:] + "#member", docID[:10] + "0" + docID[11:] + "#member",
	} {
		if s, err := acp.ParseSubject(text); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q names %v, %v; want invalid", text, s, err)
		}
	}
}

// What is wrong with a policy is said with the line.
func TestPoliciesThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, new, want string }{
		{"expr: owner + writer}", "expr: writer + owner}", "line 10: expr must begin with owner"},
		{"expr: owner + writer}", "expr: owner - writer}", "only unions"},
		{"expr: owner + writer}", "expr: owner + nobody}", "no relation here"},
		{"manages: [reader, writer]", "manages: [owner]", "ownership is transferred"},
		{"types: [actor], manages", "types: [robot], manages", "line 16: type"},
		{"name: notes", "title: notes", `line 2: "title" is not known`},
		{"owner:  {types: [actor]}", "other:  {types: [actor]}", "relation owner is missing"},
		{"reader: {types: [actor]}", "writer: {types: [actor]}", "stands there twice"},
		{"name: actor", "name: &a actor", ""},
		{"expr: owner + writer}", "expr: *a}", "policy"},
		{"delete: {expr: owner}", "remove: {expr: owner}", "no permission"},
	} {
		p, err := acp.ParsePolicy([]byte(strings.Replace(notes, c.old, c.new, 1)))
		if err == nil {
			_, err = p.Rules("note")
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("with %q: %v, want %q", c.new, err, c.want)
		}
	}
}
