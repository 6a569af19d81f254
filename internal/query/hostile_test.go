package query

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/fault"
)

// hostile are requests made to cost much more than their text is worth.
func hostile() map[string]string {
	rep := func(n int, f func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(f(i))
		}
		return b.String()
	}
	same := func(s string) func(int) string { return func(int) string { return s } }
	return map[string]string{
		"one key many times":    `{ A {` + rep(1900, same(" n")) + `} }`,
		"one key, many objects": `{ A {` + rep(990, same(" bs{m}")) + `} }`,
		"fragments within fragments": `{ A { ...F0 } }` + rep(30, func(i int) string {
			return fmt.Sprintf(" fragment F%d on A { a: bs { a { ...F%d } } b: bs { a { ...F%d } } }", i, i+1, i+1)
		}) + ` fragment F30 on A { n }`,
		"chain of fragments": `{ A { ...F0 } }` + rep(499, func(i int) string {
			return fmt.Sprintf(" fragment F%d on A { ...F%d }", i, i+1)
		}) + ` fragment F499 on A { n }`,
		"fan of fragments": `{ A {` + rep(499, func(i int) string { return fmt.Sprintf(" ...F%d", i) }) + `} }` + rep(499, func(i int) string {
			return fmt.Sprintf(" fragment F%d on A { n x%d: n }", i, i)
		}),
		"many operations": rep(900, func(i int) string { return fmt.Sprintf("query Q%d { A { ...F } } ", i) }) +
			`fragment F on A {` + rep(990, func(i int) string { return fmt.Sprintf(" n%d: n", i) }) + `}`,
		"deep selection":      `{ A ` + strings.Repeat("{ bs { a ", 15) + "{ n }" + strings.Repeat("}}", 15) + ` }`,
		"very deep selection": `{ A ` + strings.Repeat("{ bs { a ", 400) + "{ n }" + strings.Repeat("}}", 400) + ` }`,
		"deep list":           `{ A(filter: {n: {_in: ` + strings.Repeat("[", 900) + rep(40000, same("1 ")) + strings.Repeat("]", 900) + `}}) { n } }`,
		"deep object":         `{ A(filter: ` + strings.Repeat("{_not: ", 900) + "{}" + strings.Repeat("}", 900) + `) { n } }`,
		"fairly deep wide":    `{ A(filter: ` + strings.Repeat("{_and: [", 15) + rep(20000, same("{n:{_eq:1}} ")) + strings.Repeat("]}", 15) + `) { n } }`,
		"deep json":           `{ A(filter: {j: ` + strings.Repeat("{a: ", 900) + "1" + strings.Repeat("}", 900) + `}) { n } }`,
		"many wrong members":  `{ A(filter: {` + rep(40000, func(i int) string { return fmt.Sprintf("zz%d: 1 ", i) }) + `}) { n } }`,
		"many wrong elements": `{ A(docID: [` + rep(100000, same("1 ")) + `]) { n } }`,
		"many wrong fields":   `{ A {` + rep(3900, func(i int) string { return fmt.Sprintf(" zz%d", i) }) + `} }`,
		"long wrong name":     `{ A { ` + strings.Repeat("z", 1<<20) + ` } }`,
		"many variables": `query (` + rep(20000, func(i int) string { return fmt.Sprintf("$v%d: Int ", i) }) + `) { A(filter: {n: {_in: [` +
			rep(20000, func(i int) string { return fmt.Sprintf("$v%d ", i) }) + `]}}) { n } }`,
		"many arguments":     `{ A(` + rep(40000, same("limit: 1 ")) + `) { n } }`,
		"many directives":    `{ A { n ` + rep(20000, same("@skip(if: false) ")) + ` } }`,
		"deep introspection": `{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }`,
		"wide introspection": `{` + rep(40, func(i int) string {
			return fmt.Sprintf("a%d: __schema { types { fields { type { fields { name type { name } } } } } } ", i)
		}) + `}`,
		"many tokens":   `{ A(docID: [` + rep(300000, same(`"" `)) + `]) { n } }`,
		"long text":     `{ A { n } } #` + strings.Repeat("x", 3<<20),
		"unclosed":      strings.Repeat("{", 100000),
		"type of lists": `query ($v: ` + strings.Repeat("[", 900) + "Int" + strings.Repeat("]", 900) + `) { A(limit: $v) { n } }`,
	}
}

// patience is far above what any request takes, also on a slow machine that looks
// for races; what grows with a power of its size takes longer still.
const patience = time.Minute

// No request may cost more than a limit allows, whatever it looks like.
func TestHostileRequestsAreBounded(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int j: JSON bs: [B] } type B { n: Int m: Int a: A }`)
	family(d, 2, 2)
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			out, err := d.exec(Request{Query: text})
			took := time.Since(start)
			if took > patience {
				t.Errorf("took %v", took)
			}
			size := len(out)
			if err != nil {
				size = len(err.(Errors).AppendJSON(nil))
				if size > 1<<16 {
					t.Errorf("errors of %d bytes", size)
				}
				t.Logf("%v: %.200v", took, err)
				return
			}
			t.Logf("%v: answer of %d bytes", took, size)
		})
	}
}

// What is given once in variables, or in a fragment, may be used many times.
func TestReusedValuesAreBounded(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int @index bs: [B] } type B { m: Int a: A }`)
	var list, uses, spreads strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&list, ",%d", i)
	}
	for i := range 900 {
		fmt.Fprintf(&uses, " a%d: A(filter: {n: {_in: $x}}) { n }", i)
		fmt.Fprintf(&spreads, " a%d: A { ...F }", i)
	}
	given := list.String()[1:]
	for name, req := range map[string]Request{
		"a variable": {Query: `query ($x: [Int]) {` + uses.String() + `}`, Variables: []byte(`{"x": [` + given + `]}`)},
		"a fragment": {Query: `{` + spreads.String() + `} fragment F on A { bs(filter: {m: {_in: [` + given + `]}}) { m } }`},
	} {
		start := time.Now()
		_, err := Compile(d.generated(), req)
		if took := time.Since(start); took > patience || !errors.Is(err, fault.TooLarge) {
			t.Errorf("%s: %v after %v, want a limit", name, err, took)
		}
	}
	once := Request{Query: `query ($x: [Int]) { A(filter: {n: {_in: $x}}) { n } }`, Variables: []byte(`{"x": [` + strings.Repeat(given+",", 8) + `1]}`)}
	if _, err := Compile(d.generated(), once); err != nil {
		t.Errorf("a long list that is used once: %v", err)
	}
}

// Conditions on one field are joined, in time that grows with their number.
func TestManyConditionsOnOneField(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int @index }`)
	d.must(`mutation { create_A(input: [{n: 1}, {n: 20000}]) { n } }`)
	for _, c := range []struct{ junction, operator, want string }{
		{"_or", "_eq", `{"A":[{"n":1}]}`},
		{"_and", "_ne", `{"A":[{"n":20000}]}`},
	} {
		var all strings.Builder
		for i := range 9900 {
			fmt.Fprintf(&all, `,{"n": {"%s": %d}}`, c.operator, (i*7919)%9901)
		}
		start := time.Now()
		got, err := d.exec(Request{Query: `query ($f: AFilterArg) { A(filter: $f) { n } }`, Variables: []byte(`{"f": {"` + c.junction + `": [` + all.String()[1:] + `]}}`)})
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.junction, got, err, c.want)
		}
		if took := time.Since(start); took > patience {
			t.Errorf("%s took %v", c.junction, took)
		}
	}
}

// Conditions within one field are conditions too.
func TestConditionsWithinAFieldAreCounted(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { j: JSON @index xs: [Int] }`)
	many := strings.Repeat(`{"_ge": 1},`, 20_000) + `{"_ge": 2}`
	for _, c := range []struct{ query, filter string }{
		{`query ($f: AFilterArg) { A(filter: $f) { j } }`, `{"j": {"a": {"_or": [` + many + `]}}}`},
		{`query ($f: IntFilterArg) { A { _count(xs: {filter: $f}) } }`, `{"_or": [` + many + `]}`},
	} {
		_, err := d.exec(Request{Query: c.query, Variables: []byte(`{"f": ` + c.filter + `}`)})
		if !errors.Is(err, fault.TooLarge) {
			t.Errorf("%s: %v", c.query, err)
		}
	}
	in := `{"j": {"_in": [` + strings.Repeat("1,", 20_000) + `2]}}`
	if _, err := d.exec(Request{Query: `query ($f: AFilterArg) { A(filter: $f) { j } }`, Variables: []byte(`{"f": ` + in + `}`)}); err != nil {
		t.Errorf("one condition with a long list: %v", err)
	}
}
