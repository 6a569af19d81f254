package sim

import (
	"slices"

	"github.com/pandodb/pando/internal/kv"
)

// Damage is a node that is shut down, for sabotage.
type Damage struct {
	n *node
}

// Edit changes the node's key space; fn returns whether it did.
func (d *Damage) Edit(fn func(all []kv.Entry, b *kv.Batch) bool) (done bool) {
	w := d.n.w
	db, err := kv.Open("db", kv.Options{FS: d.n.files()})
	w.must(err)
	defer func() { w.must(db.Close()) }()
	snap := db.Snapshot()
	defer snap.Close()
	var all []kv.Entry
	for e, err := range snap.Scan(nil, nil) {
		w.must(err)
		all = append(all, kv.Entry{Key: slices.Clone(e.Key), Value: slices.Clone(e.Value)})
	}
	b := db.NewBatch()
	if done = fn(all, b); !done {
		b.Close()
		return false
	}
	p, err := db.Apply(b)
	w.must(err)
	w.must(p.Wait())
	return true
}
