package schema_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/schema"
)

// The scripts tell of versions of collections and of one document that writers of
// several of them share. A version is called by its collection and a number in the
// order of the script, such as User@2.
//
//	schema           the first versions
//	patch            {"Patch": […], "Migration": […]}: new versions, not used yet
//	use V            the version that the next patch starts from
//	write V          fields that a user of a version gives, in the next commit
//	aside V          the same, by somebody who has not seen the last commit
//	show V…          the document as readers of the versions see it
//	json V           the description of a version
func TestPatch(t *testing.T) {
	datadriven.Walk(t, "testdata/patch", func(t *testing.T, path string) {
		var h history
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return h.run(t, d) })
	})
}

// history is the versions and the document of a script.
type history struct {
	known map[dag.CollectionID][]*schema.Collection
	used  map[string]dag.Digest // by collection
	label map[string]dag.Digest
	n     map[string]int
	book  notebook
}

func (h *history) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "schema":
		cs, err := schema.Parse(d.Input, nil)
		if err != nil {
			t.Fatal(err)
		}
		*h = history{known: map[dag.CollectionID][]*schema.Collection{}, used: map[string]dag.Digest{}, label: map[string]dag.Digest{}, n: map[string]int{}}
		h.book.knownCommits = map[[32]byte]bool{}
		for _, c := range cs {
			h.add(c)
			h.used[c.Name] = c.Version
		}
		return h.describe(cs)
	case "patch":
		return h.patch(t, d.Input)
	case "use":
		c := h.version(t, d.CmdArgs[0].Key)
		h.used[c.Name] = c.Version
		return ""
	case "write", "aside":
		return h.write(t, d)
	case "show":
		var b strings.Builder
		for _, a := range d.CmdArgs {
			b.WriteString(a.Key + " " + shownAs(h.version(t, a.Key), h.book.doc) + "\n")
		}
		return b.String()
	case "json":
		b, err := json.MarshalIndent(h.version(t, d.CmdArgs[0].Key), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return ""
}

func (h *history) add(c *schema.Collection) {
	if slices.ContainsFunc(h.known[c.ID], func(o *schema.Collection) bool { return o.Version == c.Version }) {
		return // made before
	}
	h.n[c.Name]++
	h.label[fmt.Sprintf("%s@%d", c.Name, h.n[c.Name])] = c.Version
	h.known[c.ID] = append(h.known[c.ID], c)
}

func (h *history) version(t *testing.T, label string) *schema.Collection {
	t.Helper()
	for _, versions := range h.known {
		l, err := schema.NewLineage(versions)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := l.Active(h.label[label], nil); ok {
			return c
		}
	}
	t.Fatalf("there is no version %s", label)
	return nil
}

func (h *history) patch(t *testing.T, text string) string {
	t.Helper()
	var in struct {
		Patch     json.RawMessage
		Migration []schema.Migration
	}
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		t.Fatal(err)
	}
	var used []*schema.Collection
	for label, v := range h.label {
		if c := h.version(t, label); h.used[c.Name] == v {
			used = append(used, c)
		}
	}
	made, err := schema.Patch{Text: in.Patch, Migration: in.Migration}.Apply(used)
	if err != nil {
		return failure(t, err)
	}
	for _, c := range made {
		h.add(c)
	}
	return h.describe(made)
}

func (h *history) describe(cs []*schema.Collection) string {
	if len(cs) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for _, c := range cs {
		text := describe([]*schema.Collection{c})
		for label, v := range h.label {
			if v == c.Version {
				text = strings.Replace(text, c.Name, label, 1)
			}
		}
		b.WriteString(text)
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "  %v %v to %v", r.Op, cells(r.From), cells(r.To))
			if r.Separator != "" {
				fmt.Fprintf(&b, " by %q", r.Separator)
			}
			if r.Value != nil {
				fmt.Fprintf(&b, " %v", *r.Value)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func cells(cs []schema.Cell) []string {
	var s []string
	for _, c := range cs {
		s = append(s, fmt.Sprintf("%d %v", c.ID, c.Kind.Type()))
	}
	return s
}

func (h *history) write(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	h.book.c = h.version(t, d.CmdArgs[0].Key)
	in := inputs(t, d.Input)
	var ds []crdt.Delta
	var err error
	switch {
	case h.book.commits == 0:
		ds, err = h.book.c.Create(in)
	case d.Cmd == "aside":
		ds, err = h.book.c.Update(h.book.before, in)
	default:
		ds, err = h.book.c.Update(h.book.doc, in)
	}
	if err != nil {
		return failure(t, err)
	}
	h.book.apply(t, ds, d.Cmd == "aside")
	return h.book.deltas(ds)
}

func shownAs(c *schema.Collection, d crdt.Document) string {
	var parts []string
	for i := range c.Fields {
		if f := &c.Fields[i]; !f.IsVirtual() {
			mark := ""
			if f.IsDerived() {
				mark = "~"
			}
			parts = append(parts, fmt.Sprintf("%s%s: %v", mark, f.Name, f.Value(d)))
		}
	}
	slices.Sort(parts)
	return "{" + strings.Join(parts, ", ") + "}"
}
