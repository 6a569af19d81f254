package query

import (
	"context"
	"flag"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// Indexes change no answer: every script prints the same when each field of each type
// has one, ascending and descending in turns, and each two neighbours have one together.
func TestScriptsWithIndexes(t *testing.T) {
	if f := flag.Lookup("rewrite"); f != nil && f.Value.String() == "true" {
		t.Skip("what scripts print is written without indexes")
	}
	datadriven.Walk(t, "testdata/script", func(t *testing.T, path string) {
		d := open(t)
		n := &names{ids: map[string]string{}, of: map[string]string{}}
		datadriven.RunTest(t, path, func(t *testing.T, c *datadriven.TestData) string {
			d.t = t
			out := d.command(n, c)
			if c.Cmd == "plan" || c.Cmd == "explain" {
				return c.Expected // which is what indexes may change
			}
			if c.Cmd == "schema" {
				if err := d.indexAll(); err != nil {
					t.Fatal(err)
				}
			}
			return out
		})
	})
}

// indexAll gives an index to what has none.
func (d *dbase) indexAll() error {
	ctx := context.Background()
	err := d.store.Update(ctx, store.As(d.key), func(tx *store.Tx) error {
		for _, c := range tx.Collections() {
			if len(c.Indexes) > 0 && !c.Indexes[0].Automatic || c.View != nil {
				continue
			}
			var before string
			for i := range c.Fields {
				f := &c.Fields[i]
				if f.IsVirtual() {
					continue
				}
				columns := []schema.IndexField{{Name: f.Name, Descending: i%2 == 1}}
				if _, err := tx.CreateIndex(c, schema.Index{Fields: columns}); err != nil {
					return err
				}
				if before != "" && !f.Type.IsList() && f.Type.String() != "JSON" {
					columns = append(columns, schema.IndexField{Name: before})
					if _, err := tx.CreateIndex(c, schema.Index{Fields: columns}); err != nil {
						return err
					}
				}
				before = f.Name
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.store.BuildIndexes(ctx)
}
