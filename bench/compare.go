package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// side is how one database does one thing the i-th time.
type side func(ctx context.Context, i int) error

// row is a line of the table: two ways to do one thing.
type row struct {
	name          string
	pando, sqlite side
	close         func() error
}

// compare prints the table.
func (s settings) compare(ctx context.Context, dir string) error {
	p, err := newPair(ctx, dir)
	if err != nil {
		return err
	}
	defer p.close()
	start := time.Now()
	if err := p.fill(ctx, s.documents); err != nil {
		return err
	}
	fmt.Printf("%d documents in each of two collections, %d authors, %d books; filled in %.1fs; %d kB and %d kB on disk\n\n",
		s.documents, s.documents/10, s.documents, time.Since(start).Seconds(), p.pando.DiskBytes()>>10, sizeOf(filepath.Join(dir, "sqlite.db"))>>10)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer t.Flush()
	fmt.Fprintln(t, "\tPANDO\tSQLITE\tRATIO\t")
	rows := p.reads(ctx)
	rows = append(rows, p.writes()...)
	for _, r := range rows {
		if !s.wanted(r.name) {
			continue
		}
		if err := s.line(ctx, t, r); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

func sizeOf(path string) (n int64) {
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil {
			n += info.Size()
		}
	}
	return n
}

// line measures one row. A thing that Pando does not do is no reason to stop.
func (s settings) line(ctx context.Context, t *tabwriter.Writer, r row) error {
	if r.close != nil {
		defer r.close()
	}
	if err := r.pando(ctx, 0); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintf(t, "%s\t-\t\t\t\n", r.name)
		fmt.Fprintln(os.Stderr, r.name+":", err)
		return nil
	}
	ours, theirs, err := s.measure(ctx, r)
	if err != nil {
		return err
	}
	fmt.Fprintf(t, "%s\t%s\t%s\t%.2f\t\n", r.name, span(ours), span(theirs), ours/theirs)
	return nil
}

// measure returns nanoseconds per time, the middle of the rounds. Both sides take
// turns, so that what else the machine does falls on both.
func (s settings) measure(ctx context.Context, r row) (ours, theirs float64, err error) {
	var figures [2][]float64
	sides := [2]side{r.pando, r.sqlite}
	var times, n [2]int
	for k := range sides { // how often it takes to fill the span; this warms up, too
		for times[k] = 1; ; times[k] *= 2 {
			took, err := timed(ctx, sides[k], times[k], &n[k])
			if err != nil {
				return 0, 0, err
			}
			if took >= s.span {
				break
			}
		}
	}
	for range s.rounds {
		for k := range sides {
			runtime.GC() // what one side left is not the other's to collect
			took, err := timed(ctx, sides[k], times[k], &n[k])
			if err != nil {
				return 0, 0, err
			}
			figures[k] = append(figures[k], float64(took.Nanoseconds())/float64(times[k]))
		}
	}
	return middle(figures[0]), middle(figures[1]), nil
}

// timed does something so many times; n counts all times.
func timed(ctx context.Context, do side, times int, n *int) (time.Duration, error) {
	start := time.Now()
	for range times {
		*n++
		if err := do(ctx, *n); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

func middle(f []float64) float64 {
	slices.Sort(f)
	return f[len(f)/2]
}

func span(ns float64) string {
	switch {
	case ns < 1e4:
		return fmt.Sprintf("%.2f µs", ns/1e3)
	case ns < 1e6:
		return fmt.Sprintf("%.0f µs", ns/1e3)
	}
	return fmt.Sprintf("%.2f ms", ns/1e6)
}

// reads are the rows of the questions.
func (p *pair) reads(ctx context.Context) []row {
	var rows []row
	for _, q := range questions {
		var s *sql.Stmt
		r := row{name: q.name}
		r.pando = func(ctx context.Context, i int) error {
			vars, _ := q.with(p, i)
			_, err := p.ask(ctx, q.pando, vars)
			return err
		}
		r.sqlite = func(ctx context.Context, i int) (err error) {
			if s == nil {
				if s, err = p.sqlite.PrepareContext(ctx, q.sqlite); err != nil {
					return err
				}
			}
			_, args := q.with(p, i)
			return each(ctx, s, args, func([]any) {})
		}
		r.close = func() error {
			if s == nil {
				return nil
			}
			return s.Close()
		}
		rows = append(rows, r)
	}
	return rows
}

func (q *question) with(p *pair, i int) (map[string]any, []any) {
	if q.args == nil {
		return nil, nil
	}
	return q.args(p, i)
}

// each reads all rows of an answer of SQLite. The slice is used again.
func each(ctx context.Context, s *sql.Stmt, args []any, f func([]any)) error {
	rows, err := s.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values := make([]any, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		f(values)
	}
	return rows.Err()
}

// writes are rows that change documents; both are on disk when they return.
func (p *pair) writes() []row {
	next := 10_000_000
	fresh := func(n int) []person {
		all := make([]person, n)
		for i := range all {
			all[i] = p.people[(next+i)%len(p.people)]
			all[i].N, all[i].Email = next+i, fmt.Sprintf("p%d@example.org", next+i)
		}
		next += n
		return all
	}
	creates := func(typ string, n int) row {
		name := fmt.Sprintf("write: create %d", n)
		if typ == "Indexed" {
			name += " with 6 indexes"
		}
		return row{name: name,
			pando: func(ctx context.Context, _ int) error {
				_, err := p.create(ctx, typ, fresh(n))
				return err
			},
			sqlite: func(ctx context.Context, _ int) error {
				var rows [][]any
				for _, q := range fresh(n) {
					rows = append(rows, append([]any{nil}, q.columns()...))
				}
				return p.insert(ctx, typ, rows)
			}}
	}
	return []row{
		creates("Plain", 1), creates("Plain", 1000), creates("Indexed", 1), creates("Indexed", 1000),
		{name: "write: update 1 by docID",
			pando: func(ctx context.Context, i int) error {
				_, err := p.ask(ctx, `mutation ($id: [ID], $v: Int) { update_Plain(docID: $id, input: {points: $v}) { _docID } }`,
					map[string]any{"id": []string{p.ids[i*7919%len(p.ids)]}, "v": next + i})
				return err
			},
			sqlite: func(ctx context.Context, i int) error {
				_, err := p.sqlite.ExecContext(ctx, `UPDATE Plain SET points = ? WHERE id = ?`, next+i, i*7919%len(p.ids))
				return err
			}},
	}
}
