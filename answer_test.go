package pando_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pandodb/pando"
)

// Three documents lead to forty each and back, five times over: a small request
// with a huge answer.
func TestAnAnswerThatIsMadeAsAWholeIsBounded(t *testing.T) {
	t.Parallel()
	db, err := pando.Open(t.Context(), "", &pando.Options{Limits: pando.Limits{Answer: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
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

// counter counts what is written to it.
type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}
