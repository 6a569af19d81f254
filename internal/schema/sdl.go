package schema

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/value"
)

// SDL returns the type definition of the collection. Parsed together with those of
// the collections it is related to, it gives a first version with the same fields,
// indexes included.
func (c *Collection) SDL() string {
	var b strings.Builder
	b.WriteString("type " + c.Name)
	switch {
	case c.Mode == dag.ModeKeyed:
		var keys []string
		for _, f := range c.KeyFields() {
			keys = append(keys, strconv.Quote(f.Name))
		}
		fmt.Fprintf(&b, " @docID(mode: %s, fields: [%s])", modeNames[c.Mode], strings.Join(keys, ", "))
	case c.Mode != dag.ModeContent:
		fmt.Fprintf(&b, " @docID(mode: %s)", modeNames[c.Mode])
	}
	if p := c.Policy; p != nil {
		b.WriteString(" @policy(id: " + quote(p.ID.String()) + ", resource: " + quote(p.Resource) + ")")
	}
	if c.Shards > 0 {
		fmt.Fprintf(&b, " @sync(shards: %d)", c.Shards)
	}
	for _, ix := range c.Indexes {
		if !ix.Automatic {
			b.WriteString(" " + ix.sdl())
		}
	}
	if len(c.Fields) == 0 {
		b.WriteString("\n")
		return b.String()
	}
	b.WriteString(" {\n")
	for i := range c.Fields {
		b.WriteString("  " + c.fieldSDL(&c.Fields[i]) + "\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (c *Collection) fieldSDL(f *Field) string {
	var b strings.Builder
	b.WriteString(f.Name + ": " + f.TypeName())
	if f.IsRelation() && !f.IsVirtual() {
		b.WriteString(" @primary")
	}
	if f.IsRelation() && f.Relation != relationName(c.Name, f.Target) {
		b.WriteString(" @relation(name: " + quote(f.Relation) + ")")
	}
	if !f.IsVirtual() && f.Rule != crdt.LWW {
		fmt.Fprintf(&b, " @crdt(type: %v)", f.Rule)
	}
	if f.Size > 0 {
		fmt.Fprintf(&b, " @constraints(size: %d)", f.Size)
	}
	if f.Default != nil {
		b.WriteString(" @default(" + defaultArgument[f.Type] + ": ")
		writeLiteral(&b, *f.Default)
		b.WriteString(")")
	}
	return b.String()
}

func (ix Index) sdl() string {
	var cols []string
	for _, col := range ix.Fields {
		text := "{field: " + strconv.Quote(col.Name)
		if col.Descending {
			text += ", direction: DESC"
		}
		cols = append(cols, text+"}")
	}
	unique := ""
	if ix.Unique {
		unique = "unique: true, "
	}
	return fmt.Sprintf("@index(name: %s, %sincludes: [%s])", strconv.Quote(ix.Name), unique, strings.Join(cols, ", "))
}

// writeLiteral spells a value as SDL, which differs from JSON in the keys of objects.
func writeLiteral(b *strings.Builder, v value.Value) {
	switch v.Kind() {
	case value.String:
		b.WriteString(quote(v.Text()))
	case value.List:
		b.WriteString("[")
		for i, e := range v.List() {
			if i > 0 {
				b.WriteString(", ")
			}
			writeLiteral(b, e)
		}
		b.WriteString("]")
	case value.Map:
		b.WriteString("{")
		comma := ""
		for key, e := range v.Members() {
			b.WriteString(comma + key + ": ")
			writeLiteral(b, e)
			comma = ", "
		}
		b.WriteString("}")
	default:
		b.Write(v.AppendJSON(nil))
	}
}

// quote spells a string so that any text survives: GraphQL allows neither Go's
// escapes nor raw control characters.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r < ' ' || r == 0x7f || r == 0xfeff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
