package store

import (
	"fmt"

	"github.com/pandodb/pando/internal/crdt"
)

// indexCheck is what a check knows about one index.
type indexCheck struct {
	*secondary
	name  string
	built built
	found int // entries that documents stand for
}

func (c *check) beginIndexes() error {
	for m := range c.set.members() {
		for _, x := range m.indexes {
			b, err := x.built(c.snap)
			if err != nil {
				return err
			}
			c.indexes[string(x.prefix)] = &indexCheck{secondary: x, name: m.Name + "." + x.Name, built: b}
		}
	}
	return nil
}

// indexed looks for the entries of a document.
func (c *check) indexed(h lineage, d crdt.Document) error {
	for _, x := range c.set.indexes[h.coll] {
		k := c.indexes[string(x.prefix)]
		due := k.built.ready || k.built.begun && compareIDs(h.doc, k.built.done) <= 0
		missing := 0
		for _, key := range x.entries(h.doc, d) {
			_, ok, err := c.snap.Get(key)
			switch {
			case err != nil:
				return err
			case ok:
				k.found++
			case due:
				missing++
			}
		}
		if missing > 0 {
			c.bad("index", k.name, "%d entries of document %s are missing; pando fsck --rebuild makes them again", missing, h.doc)
		}
	}
	return nil
}

// endIndexes finds entries that no document stands for.
func (c *check) endIndexes() error {
	there := map[string]int{}
	for e, err := range c.snap.Scan([]byte{tableSecondary}, []byte{tableSecondary + 1}) {
		if err != nil {
			return err
		}
		if len(e.Key) > secondaryPrefix {
			there[string(e.Key[:secondaryPrefix])]++
			continue
		}
		if c.indexes[string(e.Key)] == nil {
			c.bad("index", fmt.Sprintf("%x", e.Key), "of an index that is not known; pando fsck --rebuild removes it")
		}
	}
	for prefix, n := range there {
		k := c.indexes[prefix]
		switch {
		case k == nil:
			c.bad("index", fmt.Sprintf("%x", prefix), "%d entries of an index that is not known; pando fsck --rebuild removes them", n)
		case k.built.begun && n > k.found:
			c.bad("index", k.name, "%d entries stand for no document; pando fsck --rebuild removes them", n-k.found)
		}
	}
	return nil
}

func (b *rebuild) beginIndexes() {
	set, err := loadSet(b.old, &modules{})
	if err != nil {
		return // whoever opens the directory hears of it; the indexes are built then
	}
	b.set = set
	for _, xs := range set.indexes {
		for _, x := range xs {
			b.batch.Set(x.prefix, x.state(built{ready: true}))
		}
	}
}

// indexed makes the entries of a document.
func (b *rebuild) indexed(h lineage, d crdt.Document) {
	if b.set == nil {
		return
	}
	for _, x := range b.set.indexes[h.coll] {
		for _, key := range x.entries(h.doc, d) {
			b.batch.Set(key, nil)
		}
	}
}
