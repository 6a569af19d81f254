package query

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/store"
)

// People may store JSON with any key, also the one by which documents are told apart.
func TestLiveResultsKeepJSONThatLooksLikeAMark(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int j: JSON bs: [B] } type B { m: Int a: A }`)
	create := Request{Query: `mutation($j: JSON) { create_A(input: {n: 1, j: $j}) { n } }`, Variables: []byte(`{"j": {"\u0001": "x", "b": 2}}`)}
	if _, err := d.exec(create); err != nil {
		t.Fatal(err)
	}
	p, err := Compile(d.generated(), Request{Query: `query @live { A { n j bs { m } } }`})
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	err = d.store.View(context.Background(), store.System, func(tx *store.Tx) (err error) {
		got, err = p.Live().Load(context.Background(), tx)
		return err
	})
	want := `{"A":[{"n":1,"j":{"\u0001":"x","b":2},"bs":[]}]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// A result that is too large to be kept is given up once it is, not when it is complete.
func TestLiveResultsAreBounded(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { s: String bs: [B] } type B { m: Int a: A }`)
	for i := range 100 {
		d.must(fmt.Sprintf(`mutation { create_A(input: {s: "%d%s"}) { s } }`, i, strings.Repeat("x", 200<<10)))
	}
	for _, request := range []string{
		`query @live { A { s bs { m } } b: A { s bs { m } } c: A { s bs { m } } }`, // made anew
		`query @live { A { s } b: A { s } c: A { s } }`,                            // kept
	} {
		p, err := Compile(d.generated(), Request{Query: request})
		if err != nil {
			t.Fatal(err)
		}
		l := p.Live()
		err = d.store.View(context.Background(), store.System, func(tx *store.Tx) error { _, err := l.Load(context.Background(), tx); return err })
		var es Errors
		if !errors.As(err, &es) || es[0].Code() != "TOO_LARGE" || len(es[0].Path) == 0 || es[0].Path[0] != "A" {
			t.Errorf("%s: got %#v, want that A is too large", request, err)
		}
	}
}
