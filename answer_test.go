package pando_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
)

// roomful is a database where three documents lead to forty each and back: a small
// request has a huge answer.
func roomful(t *testing.T, l pando.Limits) *pando.DB {
	t.Helper()
	db, err := pando.Open(t.Context(), "", &pando.Options{Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.AddSchema(t.Context(), `type R { name: String ds: [D] } type D { k: Int r: R }`); err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx *pando.Tx) error {
		rs, err := tx.Collection("R")
		if err != nil {
			return err
		}
		ds, err := tx.Collection("D")
		for _, name := range []string{"a", "b", "c"} {
			r, err := rs.Create(map[string]any{"name": name})
			for k := 0; k < 40 && err == nil; k++ {
				_, err = ds.Create(map[string]any{"k": k, "r": r.ID})
			}
			if err != nil {
				return err
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestAnAnswerThatIsMadeAsAWholeIsBounded(t *testing.T) {
	t.Parallel()
	db := roomful(t, pando.Limits{Answer: 1 << 20})
	nested := strings.Repeat("r { ds { k ", 4) + strings.Repeat("} }", 4)
	mutation := pando.Request{Query: `mutation { update_D(all: true, input: {k: 7}) { k ` + nested + ` } }`}
	if err := db.Exec(t.Context(), mutation).Err(); !errors.Is(err, pando.ErrTooLarge) {
		t.Errorf("a mutation: %v, want TooLarge", err)
	}
	if got := db.Exec(t.Context(), pando.Request{Query: `{ _count(D: {filter: {k: {_eq: 7}}}) }`}); string(got.Data) != `{"_count":3}` {
		t.Errorf("after a mutation that failed: %s", got.Data)
	}
	tx, err := db.Begin(t.Context(), pando.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Discard()
	query := pando.Request{Query: `{ D { k r { ds { k r { ds { k r { ds { k } } } } } } } }`}
	if err := tx.Exec(t.Context(), query).Err(); !errors.Is(err, pando.ErrTooLarge) {
		t.Errorf("in a transaction: %v, want TooLarge", err)
	}
	counted := &counter{}
	if err := db.Stream(t.Context(), query, counted).Err(); err != nil || counted.n < 10<<20 {
		t.Errorf("streamed: %d bytes, %v", counted.n, err)
	}
}

// What an event and a column of a view are made of is bounded as well: both are held
// until they are complete.
func TestAnEventAndAColumnOfAViewAreBounded(t *testing.T) {
	t.Parallel()
	db := roomful(t, pando.Limits{Held: 1 << 20})
	nested := strings.Repeat("r { ds { k ", 4) + strings.Repeat("} }", 4)
	l := listen(t, db, `subscription { D { k `+nested+` } }`, pando.SubscribeOptions{Heartbeat: time.Minute})
	l.hears("") // it is open
	run(t, db, `mutation { update_D(filter: {k: {_eq: 1}}, input: {k: 70}) { k } }`)
	if _, err, _ := l.next(); !errors.Is(err, pando.ErrTooLarge) {
		t.Errorf("an event: %v, want TooLarge", err)
	}
	addView(t, db, `D { k `+nested+` }`, `type V @materialized(if: false) { r: JSON }`)
	if err := db.Stream(t.Context(), pando.Request{Query: `{ V { r } }`}, io.Discard).Err(); !errors.Is(err, pando.ErrTooLarge) {
		t.Errorf("a column of a view: %v, want TooLarge", err)
	}
}

// counter counts what is written to it.
type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}
