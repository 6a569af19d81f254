package schema_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// slow makes a word of a document, after a while.
type slow struct {
	takes time.Duration
	ran   int
}

func (s *slow) Each(ctx context.Context, docs [][]byte) ([][]byte, error) {
	s.ran++
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(s.takes):
		return [][]byte{[]byte(`{"word": "made"}`)}, nil
	}
}

func (s *slow) Transform(ctx context.Context, docs [][]byte) ([][]byte, error) {
	return s.Each(ctx, docs)
}

func (s *slow) Close() error { return nil }

// Opening modules takes as long as it takes; what counts against a document is its own.
func TestOneDocumentTakesModulesASecondAtMost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		takes time.Duration
		want  string
	}{{900 * time.Millisecond, `"made"`}, {1100 * time.Millisecond, "null"}} {
		synctest.Test(t, func(t *testing.T) {
			l := first(t, `type T { a: Int }`)
			made, err := schema.Patch{
				Text: []byte(`[{"op": "add", "path": "/T/Fields/-", "value": {"Name": "word", "Kind": "String"}}]`),
				Lens: schema.LensRule{Lenses: []schema.Lens{{Path: lensPath}}},
			}.Apply([]*schema.Collection{l[0]})
			if err != nil {
				t.Fatal(err)
			}
			if l, err = schema.NewLineage(append(l, made...)); err != nil {
				t.Fatal(err)
			}
			modules := &slow{takes: c.takes}
			opened := schema.NewModules(func(context.Context) (schema.Pipeline, error) {
				time.Sleep(time.Minute) // by the clock of the test
				return modules, nil
			}, nil)
			next, _ := l.Active(l[1].Version, func(_ *schema.Collection, back bool) *schema.Modules {
				if back {
					return nil
				}
				return opened
			})
			book := notebook{knownCommits: map[[32]byte]bool{}}
			ds, err := l[0].Create([]schema.Input{{Name: "a", Val: value.OfInt(1)}})
			if err != nil {
				t.Fatal(err)
			}
			book.apply(t, ds, false)
			f, _ := next.Field("word")
			for range 2 {
				if got := string(f.Value(book.doc).AppendJSON(nil)); got != c.want {
					t.Errorf("modules that take %v make %s, want %s", c.takes, got, c.want)
				}
			}
			if modules.ran != 1 {
				t.Errorf("%d runs for one document, want one, also if it fails", modules.ran)
			}
		})
	}
}
