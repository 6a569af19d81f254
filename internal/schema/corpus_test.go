package schema_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// The scripts say what each type definition means, and what is wrong with those
// that are refused:
//
//	policy    a policy that types can name
//	parse     the types of the text alone
//	more      the types of the text, which may refer to those parsed before
//	sdl       the text that Pando makes of them
//	json      their descriptions
func TestParse(t *testing.T) {
	datadriven.Walk(t, "testdata/parse", func(t *testing.T, path string) {
		var known []*schema.Collection
		var policies []*acp.Policy
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "policy":
				p, err := acp.ParsePolicy([]byte(d.Input))
				if err != nil {
					return failure(t, err)
				}
				policies = append(policies, p)
				return dag.Digest(p.Sum()).String()
			case "parse", "more":
				if d.Cmd == "parse" {
					known = nil
				}
				cs, err := schema.Parse(d.Input, known, policies...)
				if err != nil {
					return failure(t, err)
				}
				known = append(known, cs...)
				return describe(cs)
			case "sdl":
				return sdl(known)
			case "json":
				b, err := json.MarshalIndent(known, "", " ")
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			case "schema-json":
				var b strings.Builder
				for _, c := range known {
					fmt.Fprintf(&b, "%s\n", c.SchemaJSON())
				}
				return b.String()
			}
			t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
			return ""
		})
	})
}

// failure checks that an error has a kind, which the API needs for its answer.
func failure(t *testing.T, err error) string {
	t.Helper()
	kind := fault.Of(err)
	if kind == nil {
		t.Fatalf("error without a kind: %v", err)
	}
	return fmt.Sprintf("%s: %v", kind.Name(), err)
}

func sdl(cs []*schema.Collection) string {
	var b strings.Builder
	for _, c := range cs {
		b.WriteString(c.SDL())
	}
	return b.String()
}

func describe(cs []*schema.Collection) string {
	if len(cs) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for _, c := range cs {
		b.WriteString(c.Name + mode(c))
		if c.Shards > 0 {
			fmt.Fprintf(&b, " in %d shards", c.Shards)
		}
		b.WriteString("\n")
		for i := range c.Fields {
			b.WriteString("  " + describeField(&c.Fields[i]) + "\n")
		}
		for _, ix := range c.Indexes {
			fmt.Fprintf(&b, "  index %d %s on", ix.ID, ix.Name)
			for _, col := range ix.Fields {
				b.WriteString(" " + col.Name)
				if col.Descending {
					b.WriteString(" descending")
				}
			}
			if ix.Unique {
				b.WriteString(", unique")
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func mode(c *schema.Collection) string {
	switch c.Mode {
	case dag.ModeOwned:
		return " owned"
	case dag.ModeUnique:
		return " unique"
	case dag.ModeKeyed:
		var names []string
		for _, f := range c.KeyFields() {
			names = append(names, f.Name)
		}
		return " keyed by " + strings.Join(names, " ")
	}
	return ""
}

func describeField(f *schema.Field) string {
	text := fmt.Sprintf("%d %s: %s", f.ID, f.Name, f.TypeName())
	if f.IsVirtual() {
		text = fmt.Sprintf("-- %s: %s", f.Name, f.TypeName())
	} else if f.Rule != crdt.LWW {
		text += fmt.Sprintf(" %v", f.Rule)
	}
	if f.IsRelation() {
		text += fmt.Sprintf(" relation %q", f.Relation)
	}
	if f.Size > 0 {
		text += fmt.Sprintf(" size %d", f.Size)
	}
	if f.Default != nil {
		text += fmt.Sprintf(" default %v %v", f.Default.Kind(), *f.Default)
	}
	return text
}

// The scripts say what is written for what people give:
//
//	schema    one type and those it needs; the first is the one written to
//	create    a new document, which becomes the current one
//	update    a change of the current document, merged into it
//	aside     a change of the current document as update made it last, on another
//	          node that has not seen that update, then merged
func TestInput(t *testing.T) {
	datadriven.Walk(t, "testdata/input", func(t *testing.T, path string) {
		var n notebook
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "schema" {
				cs, err := schema.Parse(d.Input, nil)
				if err != nil {
					t.Fatal(err)
				}
				n = notebook{c: cs[0]}
				return describe(cs[:1])
			}
			return n.write(t, d)
		})
	})
}

// notebook is one document with the state before its last change.
type notebook struct {
	c            *schema.Collection
	doc, before  crdt.Document
	heads, fork  [][32]byte
	commits      byte
	knownCommits map[[32]byte]bool
}

func (n *notebook) write(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	v, err := value.ParseJSON([]byte(d.Input))
	if err != nil {
		t.Fatal(err)
	}
	in, err := schema.InputsOf(v)
	if err != nil {
		return failure(t, err)
	}
	var ds []crdt.Delta
	switch d.Cmd {
	case "create":
		*n = notebook{c: n.c, knownCommits: map[[32]byte]bool{}}
		ds, err = n.c.Create(in)
	case "update":
		ds, err = n.c.Update(n.doc, in)
	case "aside":
		ds, err = n.c.Update(n.before, in)
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	if err != nil {
		return failure(t, err)
	}
	n.apply(t, ds, d.Cmd == "aside")
	return n.deltas(ds) + n.shown()
}

func (n *notebook) apply(t *testing.T, ds []crdt.Delta, aside bool) {
	t.Helper()
	n.commits++
	c := crdt.Change{Commit: [32]byte{n.commits}, Parents: n.heads, Height: uint64(n.commits), HLC: uint64(n.commits), Deltas: ds}
	if aside {
		c.Parents = n.fork
	}
	for _, d := range ds {
		if err := crdt.CheckDelta(d); err != nil {
			t.Fatalf("the operation on field %d would be void: %v", d.Field, err)
		}
	}
	next, err := n.doc.Fold(c, func(id [32]byte) bool { return n.knownCommits[id] })
	if err != nil {
		t.Fatal(err)
	}
	if aside {
		n.heads = append(n.heads, c.Commit)
	} else {
		n.before, n.fork, n.heads = n.doc, n.heads, [][32]byte{c.Commit}
	}
	n.doc = next
	n.knownCommits[c.Commit] = true
}

func (n *notebook) deltas(ds []crdt.Delta) string {
	if len(ds) == 0 {
		return "writes nothing\n"
	}
	var b strings.Builder
	for _, d := range ds {
		f, _ := n.c.FieldByID(d.Field)
		fmt.Fprintf(&b, "writes %d %s %v %v", d.Field, f.Name, d.Val.Kind(), d.Val)
		if len(d.Over) > 0 {
			fmt.Fprintf(&b, " over %d", len(d.Over))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (n *notebook) shown() string {
	var parts []string
	for i := range n.c.Fields {
		f := &n.c.Fields[i]
		v, ok := n.doc.Value(f.ID, f.Kind())
		if f.IsVirtual() || !ok {
			continue
		}
		text := fmt.Sprintf("%s: %v", f.Name, v)
		if cs := n.doc.Conflicts(f.ID, f.Kind()); len(cs) > 0 {
			text += fmt.Sprintf(" beside %v", cs)
		}
		parts = append(parts, text)
	}
	return "is {" + strings.Join(parts, ", ") + "}\n"
}
