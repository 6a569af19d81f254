package store

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/kv"
)

// An entry of an index that is missing, and one that no document stands for, are
// found, and a rebuild makes the index what it was.
func TestCheckComparesIndexesWithDocuments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		damage     func(b *kv.Batch, keys [][]byte)
	}{
		{"missing", "index Page.Page_title_ASC: 1 entries of document", func(b *kv.Batch, keys [][]byte) { b.Delete(keys[0]) }},
		{"of another document", "index Page.Page_title_ASC: 1 entries stand for no document", func(b *kv.Batch, keys [][]byte) {
			b.Set(append(keys[0][:len(keys[0])-1], ^keys[0][len(keys[0])-1]), nil)
		}},
		{"of another value", "index Page.Page_title_ASC: 1 entries stand for no document", func(b *kv.Batch, keys [][]byte) {
			b.Set(slices.Concat(keys[0][:secondaryPrefix], key(val("no such")), keys[0][len(keys[0])-32:]), nil)
		}},
		{"of an unknown index", "1 entries of an index that is not known", func(b *kv.Batch, keys [][]byte) {
			b.Set(slices.Concat([]byte("x\x00\x00\x00\x01\x00\x00\x00\x77"), keys[0][secondaryPrefix:]), nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, "ada")
			aHistory(t, n)
			want := n.dump()
			n.damage(func(b *kv.Batch, snap *kv.Snapshot) {
				var keys [][]byte
				for e := range snap.Scan([]byte("x"), []byte("y")) {
					if len(e.Key) > secondaryPrefix {
						keys = append(keys, bytes.Clone(e.Key))
					}
				}
				c.damage(b, keys)
			})
			n.open()
			if ps := n.problems(); len(ps) != 1 || !strings.Contains(ps[0].String(), c.want) {
				t.Errorf("check finds %v, want %q", ps, c.want)
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			if _, ps := n.rebuild(); len(ps) > 0 {
				t.Errorf("rebuild reports %v", ps)
			}
			n.open()
			wantSame(t, n.dump(), want)
		})
	}
}
