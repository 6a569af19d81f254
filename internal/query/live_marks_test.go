package query

import (
	"context"
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
	err = d.store.View(context.Background(), func(tx *store.Tx) (err error) {
		got, err = p.Live().Load(context.Background(), tx)
		return err
	})
	want := `{"A":[{"n":1,"j":{"\u0001":"x","b":2},"bs":[]}]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
