package pando_test

import (
	"context"
	"testing"

	"github.com/pandodb/pando"
)

// Ada writes on two machines. What she writes is hers on both, and each machine is
// known by a key of its own, which stays.
func TestANodeHasAKeyBesideThatOfItsUser(t *testing.T) {
	t.Parallel()
	ada, err := pando.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[pando.DID]bool{ada.DID(): true}
	for range 2 {
		dir := t.TempDir()
		var node pando.DID
		for _, who := range []pando.Identity{ada, {}, ada} {
			db, err := pando.Open(context.Background(), dir, &pando.Options{Identity: who})
			if err != nil {
				t.Fatal(err)
			}
			if node == "" {
				node = db.NodeIdentity().DID()
				if seen[node] {
					t.Errorf("the node is %s, as another is", node)
				}
				seen[node] = true
			}
			want := who.DID()
			if want == "" {
				want = node
			}
			if got := db.NodeIdentity().DID(); got != node {
				t.Errorf("opened again the node is %s, was %s", got, node)
			}
			if got := db.Identity().DID(); got != want {
				t.Errorf("commits are signed by %s, want %s", got, want)
			}
			if got := db.As(ada).NodeIdentity().DID(); got != node {
				t.Errorf("as Ada uses it the node is %s, want %s", got, node)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	inMemory, err := pando.Open(context.Background(), "", &pando.Options{Identity: ada})
	if err != nil {
		t.Fatal(err)
	}
	defer inMemory.Close()
	if node := inMemory.NodeIdentity().DID(); seen[node] || inMemory.Identity().DID() != ada.DID() {
		t.Errorf("in memory the node is %s, as another is, or signs as %s", node, inMemory.Identity().DID())
	}
}
