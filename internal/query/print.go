package query

import (
	"fmt"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
)

// String shows the plan, one operator a line, sources first.
func (p *Plan) String() string {
	pr := &printer{}
	p.print(pr)
	return pr.text()
}

func (p *Plan) print(pr *printer) {
	kind := string(p.kind)
	if kind == "" {
		kind = string(ast.Query)
	}
	pr.line(kind)
	if p.told != nil {
		pr.indent++
		p.told.tree(pr)
		return
	}
	pr.columns(rootColumns(p.roots))
}

func rootColumns(roots []root) []column {
	cols := make([]column, len(roots))
	for i, r := range roots {
		cols[i] = r.column
	}
	return cols
}

// printer writes a plan as lines, indented.
type printer struct {
	lines  []planLine
	indent int
	debug  bool           // with the names of parts
	stats  map[any]*stats // what parts did, if they did
	total  stats
}

func (p *printer) line(text string) { p.part(text, nil, nil) }

// part prints the line of a part of the plan.
func (p *printer) part(text string, part any, did *stats) {
	p.lines = append(p.lines, planLine{p.indent, text, part, did})
}

// text returns all lines.
func (p *printer) text() string {
	var b strings.Builder
	for i, l := range p.lines {
		b.WriteString(strings.Repeat("  ", l.indent))
		b.WriteString(l.text)
		if l.did != nil {
			b.WriteString(l.did.String())
		}
		if p.debug && l.part != nil {
			b.WriteString(" (" + nameOf(l.part) + ")")
		}
		if i == 0 && p.stats != nil {
			fmt.Fprintf(&b, " [%s", p.total.time.Round(time.Microsecond))
			p.total.read.append(&b)
			b.WriteByte(']')
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// columns prints the leaves on one line and the rest below.
func (p *printer) columns(cols []column) {
	p.indent++
	defer func() { p.indent-- }()
	var leaves []string
	for _, c := range cols {
		if c.node == nil {
			leaves = append(leaves, c.key)
		}
	}
	if len(leaves) > 0 {
		p.line("select " + strings.Join(leaves, " "))
	}
	for _, c := range cols {
		if c.node != nil {
			p.line(c.key + ":")
			p.indent++
			c.node.tree(p)
			p.indent--
		}
	}
}

func (p *printer) operator(o operator) {
	if c, ok := o.(*children); ok {
		p.part(o.describe(), o, p.of(c.to))
		return
	}
	from := o.input()
	if from == nil {
		p.part(o.describe(), o, p.of(o))
		return
	}
	p.operator(from)
	p.part(o.describe(), o, p.of(o, from))
}

func (l *list) tree(p *printer) {
	p.operator(l.from)
	p.columns(l.object)
}

func (s *single) tree(p *printer) {
	how := "get "
	if !s.to.near {
		how = "group "
	}
	p.part(how+s.to.target.source(), s.to, p.of(s.to))
	if s.filter != "" {
		p.line("where " + s.filter)
	}
	p.columns(s.object)
}
