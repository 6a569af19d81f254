package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Both databases answer each question alike, over the same documents.
func TestAnswersAreThoseOfSQLite(t *testing.T) {
	p, err := newPair(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	if err := p.fill(t.Context(), 2000); err != nil {
		t.Fatal(err)
	}
	for _, q := range questions {
		t.Run(q.name, func(t *testing.T) {
			for i := range 5 {
				same(t, p, &q, i)
			}
		})
	}
}

func same(t *testing.T, p *pair, q *question, i int) {
	t.Helper()
	vars, args := q.with(p, i)
	out, err := p.ask(t.Context(), q.pando, vars)
	if err != nil {
		if strings.Contains(err.Error(), "Cannot query field") {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	got := flat(t, out)
	s, err := p.sqlite.PrepareContext(t.Context(), q.sqlite)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var want []string
	if err := each(t.Context(), s, args, func(row []any) {
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = cell(v)
		}
		want = append(want, strings.Join(cells, " | "))
	}); err != nil {
		t.Fatal(err)
	}
	if !q.ordered {
		slices.Sort(got)
		slices.Sort(want)
	}
	for k := range max(len(got), len(want)) {
		if k >= len(got) || k >= len(want) || got[k] != want[k] {
			t.Fatalf("%s with %v: %d rows, want %d; row %d is %q, want %q", q.pando, vars, len(got), len(want), k, at(got, k), at(want, k))
		}
	}
}

func at(s []string, i int) string {
	if i < len(s) {
		return s[i]
	}
	return ""
}

// cell writes a value as both databases mean it. SQLite has no booleans, and sums of
// floats may differ in the last digits with the order of the summands.
func cell(v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "1"
		}
		return "0"
	case int64:
		return number(float64(v))
	case float64:
		return number(v)
	case json.Number:
		f, _ := v.Float64()
		return number(f)
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}

func number(f float64) string { return fmt.Sprintf("%.12g", f) }

// flat turns an answer into rows as SQL has them: members of an object side by side,
// elements of a list below each other, what is above them repeated.
func flat(t *testing.T, data []byte) []string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	rows := rowsOf(t, d)
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = strings.Join(r, " | ")
	}
	return out
}

func rowsOf(t *testing.T, d *json.Decoder) [][]string {
	t.Helper()
	tok, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	switch tok {
	case json.Delim('['):
		for d.More() {
			rows = append(rows, rowsOf(t, d)...)
		}
	case json.Delim('{'):
		rows = [][]string{nil}
		for d.More() {
			if _, err := d.Token(); err != nil { // the key
				t.Fatal(err)
			}
			var next [][]string
			inner := rowsOf(t, d)
			for _, r := range rows {
				for _, in := range inner {
					next = append(next, slices.Concat(r, in))
				}
			}
			rows = next
		}
	default:
		return [][]string{{cell(tok)}}
	}
	if _, err := d.Token(); err != nil { // the end
		t.Fatal(err)
	}
	return rows
}
