package acp_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
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
	raw := sharedWith(f, 3).Bytes()
	f.Add(raw)
	for i := range raw {
		damaged := bytes.Clone(raw)
		damaged[i] ^= 0x81
		f.Add(damaged)
		f.Add(raw[:i])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := acp.Open(raw)
		if err != nil {
			return
		}
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
	if n, err := acp.NeedOf(nil, false); err != nil || !n.Update {
		t.Errorf("nothing needs %+v, %v; want update", n, err)
	}
	for _, bad := range []acp.Op{
		grant("owner", key(bo)), grant("", key(bo)), {Kind: acp.Accept}, {Kind: acp.Transfer}, {Kind: 9, Commits: []acp.ID{{}}},
		grant("reader", acp.Subject{}), grant("reader", acp.OfGroup(team, "a b")),
	} {
		if _, err := acp.Ops([]crdt.Delta{bad.Delta()}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	other := crdt.Delta{Field: crdt.FieldAccess, Kind: crdt.KindStatus, Void: true, Raw: cbor.AppendNull(nil)}
	if _, err := acp.Ops([]crdt.Delta{other}); err == nil {
		t.Error("another kind on the field of access operations is accepted")
	}
	two := acp.Op{Kind: acp.Transfer, Subject: key(bo)}.Delta()
	if _, err := acp.Ops([]crdt.Delta{two, two}); err == nil {
		t.Error("two transfers in a commit are accepted")
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
