package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/pandodb/pando"
	_ "modernc.org/sqlite"
)

// person is a document of ten fields. Numbers are unique, cities are 100, ages 80.
type person struct {
	N      int     `json:"n"`
	Name   string  `json:"name"`
	Email  string  `json:"email"`
	City   string  `json:"city"`
	Age    int     `json:"age"`
	Score  float64 `json:"score"`
	Active bool    `json:"active"`
	Joined string  `json:"joined"`
	Notes  string  `json:"notes"`
	Points int     `json:"points"`
}

func (p person) columns() []any {
	return []any{p.N, p.Name, p.Email, p.City, p.Age, p.Score, p.Active, p.Joined, p.Notes, p.Points}
}

// people are the same in every run.
func people(n int) []person {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	start := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	all := make([]person, n)
	for i := range all {
		all[i] = person{
			N: i, Name: fmt.Sprintf("Person %d", r.IntN(n)), Email: fmt.Sprintf("p%d@example.org", i),
			City: fmt.Sprintf("city %d", r.IntN(100)), Age: 18 + r.IntN(80),
			// A thousandth is exact in no base, so averages must really be computed alike.
			Score: float64(r.IntN(1_000_000)) / 1000, Active: r.IntN(2) == 0,
			Joined: start.Add(time.Duration(r.IntN(200_000_000)) * time.Second).Format(time.RFC3339),
			Notes:  fmt.Sprintf("some words about %d and %d", r.IntN(n), r.IntN(1000)), Points: r.IntN(1_000_000),
		}
	}
	return all
}

const fields = `n: Int%s name: String email: String%s city: String%s age: Int%s score: Float active: Boolean joined: DateTime notes: String points: Int%s`

// types are the collections: Plain has no index, Indexed has the same documents.
func types() string {
	return "type Plain { " + fmt.Sprintf(fields, "", "", "", "", "") + " }\n" +
		`type Indexed @index(includes: [{field: "city"}, {field: "age", direction: DESC}]) { ` +
		fmt.Sprintf(fields, " @index", " @index(unique: true)", " @index", " @index", " @index") + " }\n" +
		`type Author { n: Int name: String city: String books: [Book] }
		 type Book { n: Int title: String pages: Int author: Author }`
}

const tables = `
CREATE TABLE Plain (id INTEGER PRIMARY KEY, n INT, name TEXT, email TEXT, city TEXT, age INT, score REAL, active INT, joined TEXT, notes TEXT, points INT);
CREATE TABLE Indexed (id INTEGER PRIMARY KEY, n INT, name TEXT, email TEXT, city TEXT, age INT, score REAL, active INT, joined TEXT, notes TEXT, points INT);
CREATE UNIQUE INDEX i_email ON Indexed (email);
CREATE INDEX i_n ON Indexed (n);
CREATE INDEX i_city ON Indexed (city);
CREATE INDEX i_age ON Indexed (age);
CREATE INDEX i_points ON Indexed (points);
CREATE INDEX i_city_age ON Indexed (city, age DESC);
CREATE TABLE Author (id INTEGER PRIMARY KEY, n INT, name TEXT, city TEXT);
CREATE TABLE Book (id INTEGER PRIMARY KEY, n INT, title TEXT, pages INT, author INT);
CREATE INDEX b_author ON Book (author);`

// pair is the two databases with the same documents.
type pair struct {
	pando  *pando.DB
	sqlite *sql.DB
	people []person
	ids    []string // docIDs in Plain, by number
}

// newPair makes both databases on disk, with nothing in them.
func newPair(ctx context.Context, dir string) (*pair, error) {
	p := &pair{}
	var err error
	if p.pando, err = pando.Open(ctx, filepath.Join(dir, "pando"), nil); err != nil {
		return nil, err
	}
	// As durable as Pando is: on disk before a commit returns, with as large a cache.
	p.sqlite, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "sqlite.db")+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-65536)&_pragma=case_sensitive_like(1)")
	if err != nil {
		return nil, errors.Join(err, p.pando.Close())
	}
	p.sqlite.SetMaxOpenConns(1)
	_, err = p.sqlite.ExecContext(ctx, tables)
	if err == nil {
		_, err = p.pando.AddSchema(ctx, types())
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *pair) close() error { return errors.Join(p.pando.Close(), p.sqlite.Close()) }

// ask runs a request of Pando.
func (p *pair) ask(ctx context.Context, text string, vars map[string]any) (json.RawMessage, error) {
	req := pando.Request{Query: text}
	if vars != nil {
		var err error
		if req.Variables, err = json.Marshal(vars); err != nil {
			return nil, err
		}
	}
	res := p.pando.Exec(ctx, req)
	return res.Data, res.Err()
}

// batch is how many documents one transaction of the fill creates.
const batch = 1000

// fill writes the documents into both.
func (p *pair) fill(ctx context.Context, n int) error {
	p.people = people(n)
	p.ids = make([]string, n)
	for _, t := range []string{"Plain", "Indexed"} {
		for from := 0; from < n; from += batch {
			part := p.people[from:min(from+batch, n)]
			ids, err := p.create(ctx, t, part)
			if err != nil {
				return fmt.Errorf("create %s: %w", t, err)
			}
			if t == "Plain" {
				copy(p.ids[from:], ids)
			}
			rows := make([][]any, len(part))
			for i, q := range part {
				rows[i] = append([]any{q.N}, q.columns()...)
			}
			if err := p.insert(ctx, t, rows); err != nil {
				return fmt.Errorf("insert %s: %w", t, err)
			}
		}
	}
	if err := p.family(ctx, n/10, 10); err != nil {
		return err
	}
	_, err := p.sqlite.ExecContext(ctx, "ANALYZE") // its planner keeps statistics
	return err
}

// family writes authors with books.
func (p *pair) family(ctx context.Context, authors, each int) error {
	type author struct {
		N    int    `json:"n"`
		Name string `json:"name"`
		City string `json:"city"`
	}
	type book struct {
		N      int    `json:"n"`
		Title  string `json:"title"`
		Pages  int    `json:"pages"`
		Author string `json:"author"`
	}
	r := rand.New(rand.NewPCG(2, uint64(authors)))
	for from := 0; from < authors; from += batch / 10 {
		var as []author
		var rows [][]any
		for n := from; n < min(from+batch/10, authors); n++ {
			a := author{n, fmt.Sprintf("Author %d", n), fmt.Sprintf("city %d", n%100)}
			as, rows = append(as, a), append(rows, []any{n, n, a.Name, a.City})
		}
		ids, err := p.create(ctx, "Author", as)
		if err == nil {
			err = p.insert(ctx, "Author", rows)
		}
		if err != nil {
			return fmt.Errorf("authors: %w", err)
		}
		var bs []book
		rows = nil
		for i, a := range as {
			for k := range each {
				b := book{a.N*each + k, fmt.Sprintf("Book %d of %d", k, a.N), r.IntN(1000), ids[i]}
				bs, rows = append(bs, b), append(rows, []any{b.N, b.N, b.Title, b.Pages, a.N})
			}
		}
		if _, err = p.create(ctx, "Book", bs); err == nil {
			err = p.insert(ctx, "Book", rows)
		}
		if err != nil {
			return fmt.Errorf("books: %w", err)
		}
	}
	return nil
}

// create makes documents in one transaction and returns their docIDs.
func (p *pair) create(ctx context.Context, typ string, docs any) ([]string, error) {
	out, err := p.ask(ctx, `mutation ($in: [`+typ+`MutationInputArg!]!) { create_`+typ+`(input: $in) { _docID } }`, map[string]any{"in": docs})
	if err != nil {
		return nil, err
	}
	var made map[string][]struct {
		ID string `json:"_docID"`
	}
	if err := json.Unmarshal(out, &made); err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range made["create_"+typ] {
		ids = append(ids, m.ID)
	}
	return ids, nil
}

// insert writes rows in one transaction.
func (p *pair) insert(ctx context.Context, table string, rows [][]any) error {
	tx, err := p.sqlite.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	marks := strings.Repeat("?,", len(rows[0]))
	s, err := tx.PrepareContext(ctx, "INSERT INTO "+table+" VALUES ("+marks[:len(marks)-1]+")")
	if err != nil {
		return err
	}
	for _, r := range rows {
		if _, err := s.ExecContext(ctx, r...); err != nil {
			return err
		}
	}
	return tx.Commit()
}
