package pando

import (
	"context"
	"slices"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/store"
)

// Reader is somebody that documents are given to: of collections with a policy, those
// that one of the identities may read, by what this node knows at the time. The zero
// Reader gets what everybody may read. Readers can be compared.
type Reader struct {
	// Hub gets besides what is sealed as a whole: to keep it for others.
	Hub bool
	// Blind gets nothing but what is sealed as a whole.
	Blind bool

	keys string // sorted, each once, one after the other
	n    int
}

// ReaderOf returns who is all of these identities.
func ReaderOf(keys ...ident.PublicKey) Reader {
	keys = slices.Clone(keys)
	slices.Sort(keys)
	keys = slices.Compact(keys)
	var r Reader
	for _, k := range keys {
		r.keys += string(rune(len(k))) + string(k)
		r.n++
	}
	return r
}

// Keys returns the identities.
func (r Reader) Keys() []ident.PublicKey {
	keys := make([]ident.PublicKey, 0, r.n)
	for rest := r.keys; len(rest) > 0; {
		n := int(rest[0])
		keys, rest = append(keys, ident.PublicKey(rest[1:1+n])), rest[1+n:]
	}
	return keys
}

func (r Reader) caller() store.Caller { return store.Peer{Hub: r.Hub, Blind: r.Blind}.As(r.Keys()...) }

// For returns the replica as a reader sees it: heads, packs and the feed are of what it
// may read, and the rest does not exist. Merging through it is merging into the whole.
func (r *Replica) For(by Reader) *Replica { return &Replica{r.db, by.caller()} }

// Protected reports whether a collection has a policy, so that not everybody may read
// all of it.
func (r *Replica) Protected(coll CollectionID) bool {
	c, ok := r.db.store.Schema().ByID(coll)
	return ok && c.Access() != nil
}

// Readable reports whether a reader may read a document. One that is not here nobody
// reads.
func (r *Replica) Readable(ctx context.Context, coll CollectionID, doc DocID, by Reader) (bool, error) {
	all, err := r.MayRead(ctx, coll, doc, by)
	return err == nil && all[0], err
}

// MayRead reports who of some readers may read a document.
func (r *Replica) MayRead(ctx context.Context, coll CollectionID, doc DocID, readers ...Reader) ([]bool, error) {
	c, ok := r.db.store.Schema().ByID(coll)
	if !ok {
		return nil, fault.NotFound.Errorf("collection %s is unknown", coll)
	}
	may := make([]bool, len(readers))
	err := r.db.store.View(ctx, store.System, func(tx *store.Tx) error {
		for d, err := range tx.GetMany(c, []DocID{doc}) {
			for i := 0; err == nil && i < len(readers); i++ {
				may[i], err = tx.ReadingAs(readers[i].caller()).ReadableDoc(d)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return may, err
}

// View returns the tree over the documents of a collection with a policy that a reader
// may read and that belong to all of some scopes.
func (r *Replica) View(coll CollectionID, by Reader, scopes ...Scope) (*Part, error) {
	m, err := r.Matcher(coll, scopes...)
	if err != nil {
		return nil, err
	}
	m.by = &by
	return newPart(m), nil
}

// Partings returns what a reader who may not read a document any more may be told last
// of it, parents first. See store.Tx.Partings.
func (r *Replica) Partings(ctx context.Context, coll CollectionID, doc DocID, heads []CID, by Reader) (all []CID, err error) {
	c, ok := r.db.store.Schema().ByID(coll)
	if !ok {
		return nil, fault.NotFound.Errorf("collection %s is unknown", coll)
	}
	err = r.db.store.View(ctx, store.System, func(tx *store.Tx) error {
		found, err := tx.Partings(ctx, c, doc, heads, by.Keys()...)
		for _, a := range found {
			all = append(all, a.CID)
		}
		return err
	})
	return all, err
}
