package query

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/store"
)

// notesPolicy is a policy by which owners show their notes to others.
const notesPolicy = `
name: notes
resources:
  note:
    permissions:
      read:   {expr: owner + reader + writer}
      update: {expr: owner + writer}
      delete: {expr: owner}
    relations:
      owner:  {types: [actor]}
      reader: {types: [actor]}
      writer: {types: [actor]}
      admin:  {types: [actor], manages: [reader, writer]}
`

// mustAddProtected adds types in which @policy stands for notesPolicy.
func (d *dbase) mustAddProtected(sdl string) {
	d.t.Helper()
	p, err := acp.ParsePolicy([]byte(notesPolicy))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.store.Update(context.Background(), store.As(d.key), func(tx *store.Tx) error { return tx.AddPolicy(p) }); err != nil {
		d.t.Fatal(err)
	}
	d.mustAdd(strings.ReplaceAll(sdl, "@policy", fmt.Sprintf(`@policy(id: "%s", resource: "note")`, dag.Digest(p.Sum()))))
}

// Only who has a collection with a policy hears of access in the schema.
func TestACLIsAFieldUnderAPolicyOnly(t *testing.T) {
	d := open(t)
	d.mustAdd(`type Open { text: String }`)
	if types := d.introspect(); types[accessName].Name != "" || types[tupleName].Name != "" {
		t.Error("without a policy there are types of access")
	}
	d.mustAddProtected(`type Note @policy { text: String open: Open }`)
	types := d.introspect()
	acl := func(name string) (found bool) {
		for _, f := range types[name].Fields {
			found = found || f.Name == "_acl"
		}
		return found
	}
	if !acl("Note") || acl("Open") {
		t.Errorf("_acl: of Note %v, of Open %v, want it of Note alone", acl("Note"), acl("Open"))
	}
	for _, name := range []string{accessName, tupleName} {
		if types[name].Name == "" || types[filterName(name)].Name != "" || types[orderName(name)].Name != "" {
			t.Errorf("%s: want the type, and no filter or order of it", name)
		}
	}
	for request, want := range map[string]string{
		`{ Open { _acl { owner } } }`:                                     `Cannot query field "_acl"`,
		`{ Note { _acl } }`:                                               "must have a selection",
		`{ Note { _acl { who } } }`:                                       `Cannot query field "who"`,
		`{ Note(filter: {_acl: {}}) { text } }`:                           "_acl",
		`{ Note(order: {_acl: {owner: ASC}}) { text } }`:                  "_acl",
		`{ Note(groupBy: [_acl]) { _group { text } } }`:                   "_acl",
		`{ Note(groupBy: [text]) { _acl { owner } } }`:                    "non-group-by",
		`{ Note(filter: {_alias: {a: {_eq: 1}}}) { a: _acl { owner } } }`: "no value to compare",
		`mutation { create_Note(input: {_acl: {}}) { text } }`:            "_acl",
		`{ Note { _acl { tuples { relation subject { id } } owner } } }`:  `"id"`,
	} {
		if _, err := d.exec(Request{Query: request}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", request, err, want)
		}
	}
	if _, err := d.exec(Request{Query: `{ Note(groupBy: [text]) { text _group { _acl { owner permissions pending tuples { __typename relation subject } __typename } } } }`}); err != nil {
		t.Error(err)
	}
}

// The rows of a materialized view are the same for everybody, so they are not made of
// documents that some may not read, however the view comes to them.
func TestMaterializedViewsKeepNothingOfProtectedDocuments(t *testing.T) {
	d := open(t)
	d.mustAddProtected(`type Note @policy { text: String folder: Folder } type Folder { name: String notes: [Note] } type Town { name: String }`)
	for name, c := range map[string]struct {
		view    string
		refused bool
	}{
		"its documents":             {"Note { text }\nas\ntype V { text: String }", true},
		"a relation to them":        {"Folder { name notes { text } }\nas\ntype V { name: String notes: [VN] } interface VN { text: String }", true},
		"how many there are":        {"Folder { name n: _count(notes: {}) }\nas\ntype V { name: String n: Int }", true},
		"a condition on them":       {"Folder(filter: {notes: {text: {_eq: \"x\"}}}) { name }\nas\ntype V { name: String }", true},
		"another view of them":      {"Seen { text }\nas\ntype V { text: String }", true},
		"computed for each reader":  {"Note { text acl: _acl { owner } }\nas\ntype V @materialized(if: false) { text: String acl: VAcl } interface VAcl { owner: String }", false},
		"documents beside them":     {"Town { name }\nas\ntype V { name: String }", false},
		"a stored view of such":     {"Towns { name }\nas\ntype V { name: String }", false},
		"one side of the relation":  {"Folder { name }\nas\ntype V { name: String }", false},
		"the other way, if allowed": {"Seen { text }\nas\ntype V @materialized(if: false) { text: String }", false},
	} {
		t.Run(name, func(t *testing.T) {
			d.t = t
			for _, v := range []string{"Note { text }\nas\ntype Seen @materialized(if: false) { text: String }", "Town { name }\nas\ntype Towns { name: String }"} {
				if err := d.addView(v); err != nil {
					t.Fatal(err)
				}
			}
			err := d.addView(c.view)
			if c.refused && (err == nil || !strings.Contains(err.Error(), "materialized views do not support ACP")) {
				t.Errorf("got %v, want it refused", err)
			}
			if !c.refused && err != nil {
				t.Error(err)
			}
			if err == nil {
				if err := d.dropView("V"); err != nil {
					t.Error(err)
				}
			}
			for _, v := range []string{"Seen", "Towns"} {
				if err := d.dropView(v); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A plan says where it passes over what the caller may not read.
func TestExplainTellsOfPolicies(t *testing.T) {
	d := open(t)
	d.mustAddProtected(`type Note @policy { text: String @index folder: Folder } type Folder { name: String notes: [Note] }`)
	for request, want := range map[string]string{
		`{ Note { text } }`:                                    "scan readable Note",
		`{ Note(filter: {text: {_eq: "a"}}) { text } }`:        "find readable Note by ",
		`{ Note(docID: ["x"]) { text } }`:                      "readable Note by ",
		`{ Folder { name notes { text } } }`:                   "group readable Note",
		`{ Folder { name } }`:                                  "scan Folder",
		`{ Note(showDeleted: true) { text folder { name } } }`: "scan readable Note with deleted",
	} {
		got := d.must("query @explain " + request)
		if !strings.Contains(got, want) {
			t.Errorf("%s: the plan lacks %q: %s", request, want, got)
		}
	}
}
