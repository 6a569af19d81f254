package pando

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/veil"
)

// Tx is a transaction: a snapshot and the writes made in it.
type Tx struct {
	db *DB
	mu sync.Mutex // guards tx: an explicit transaction may be ended by Close
	tx *store.Tx
}

// TxOptions configure an explicit transaction.
type TxOptions struct {
	ReadOnly bool
}

// Begin starts an explicit transaction, for work that spans several calls. It
// must be ended by Commit or Discard. Commit gives Conflict if another
// transaction changed a document that this one wrote: the first committer wins.
func (db *DB) Begin(ctx context.Context, o TxOptions) (*Tx, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return nil, fault.Closed.Errorf("the database is closed")
	}
	st, err := db.store.Begin(db.who, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	tx := &Tx{db: db, tx: st}
	db.open[tx] = struct{}{}
	return tx, nil
}

// Commit makes the writes durable, all or none, and ends the transaction.
func (tx *Tx) Commit(ctx context.Context) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	tx.forget()
	return tx.tx.Commit(ctx)
}

// Discard drops the writes and ends the transaction. It does nothing after Commit.
func (tx *Tx) Discard() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.forget()
	tx.tx.Discard()
}

func (tx *Tx) forget() {
	tx.db.mu.Lock()
	delete(tx.db.open, tx)
	tx.db.mu.Unlock()
}

// Exec runs a GraphQL request in the transaction. A request that fails leaves the
// transaction as it was before it.
func (tx *Tx) Exec(ctx context.Context, r Request) *Result {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	p, err := tx.db.compile(tx.tx.Set(), r)
	if err != nil {
		return failedResult(err)
	}
	out := tx.db.answer()
	if err := tx.tx.Try(func() error { return p.Run(ctx, tx.tx, out) }); err != nil {
		return failedResult(err)
	}
	return &Result{Data: out.Bytes(), Coverage: tx.db.partial(p.Reads())}
}

// AddSchema adds the collections that GraphQL types describe.
func (tx *Tx) AddSchema(sdl string) ([]*Collection, error) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return addSchema(tx.tx, sdl)
}

// Collections returns the collections in the order of their names.
func (tx *Tx) Collections() []*Collection { return tx.tx.Collections() }

// Collection returns the documents of a collection, or NotFound.
func (tx *Tx) Collection(name string) (*Documents, error) {
	c, err := tx.tx.Collection(name)
	if err != nil {
		return nil, err
	}
	return &Documents{tx: tx, c: c}, nil
}

// Documents are the documents of one collection in one transaction.
type Documents struct {
	tx *Tx
	c  *Collection
}

// Describe returns the description of the collection.
func (d *Documents) Describe() *Collection { return d.c }

// Create makes a document. fields is a map[string]any, a struct with json tags, or
// json.RawMessage. A document with the same docID gives Exists.
func (d *Documents) Create(fields any) (Document, error) {
	in, err := inputs(fields)
	if err != nil {
		return Document{}, err
	}
	deltas, err := d.c.Create(in)
	if err != nil {
		return Document{}, err
	}
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	return document(d.tx.tx.Create(d.c, deltas))
}

// CreateEncrypted is Create of a document that only those can read who may, wherever
// it is kept: of all its fields, or of those that are named. It stays so for ever. The
// collection needs a policy, and the database the key of the owner, who is the caller.
func (d *Documents) CreateEncrypted(fields any, only ...string) (Document, error) {
	in, err := inputs(fields)
	if err != nil {
		return Document{}, err
	}
	deltas, err := d.c.Create(in)
	if err != nil {
		return Document{}, err
	}
	cover := veil.Cover{All: len(only) == 0}
	for _, name := range only {
		f, ok := d.c.Field(name)
		if !ok {
			f, ok = d.c.Relation(name)
		}
		if !ok || f.IsVirtual() {
			return Document{}, fault.NotFound.Errorf("the given field does not exist. Name: %s", name)
		}
		cover.Fields = append(cover.Fields, f.ID)
	}
	slices.Sort(cover.Fields)
	cover.Fields = slices.Compact(cover.Fields)
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	return document(d.tx.tx.CreateEncrypted(d.c, deltas, cover))
}

// Get returns a document. NotFound means absent, deleted, or not readable.
func (d *Documents) Get(id DocID) (Document, error) {
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	doc, err := d.tx.tx.Get(d.c, id)
	if err == nil && doc.Deleted() {
		err = fault.NotFound.Errorf("document %s of collection %s is deleted", id, d.c.Name)
	}
	return document(doc, err)
}

// Update changes fields of a document; those that are not mentioned stay. To a
// counter the value is added. Equal values write nothing.
func (d *Documents) Update(id DocID, fields any) (Document, error) {
	in, err := inputs(fields)
	if err != nil {
		return Document{}, err
	}
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	doc, err := d.tx.tx.Get(d.c, id)
	if err != nil {
		return Document{}, err
	}
	deltas, err := d.c.Update(doc.State, in)
	if err != nil {
		return Document{}, err
	}
	return document(d.tx.tx.Write(d.c, id, deltas))
}

// Delete marks a document deleted. Its history stays, and it cannot be undone.
func (d *Documents) Delete(id DocID) error {
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	_, err := d.tx.tx.Delete(d.c, id)
	return err
}

// Count returns how many documents there are, at a cost that does not grow.
func (d *Documents) Count() (uint64, error) {
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	return d.tx.tx.Count(d.c)
}

// All yields the documents in the order of their docIDs. The transaction must not
// be used for anything else before the iteration ends.
func (d *Documents) All() iter.Seq2[Document, error] { return d.After(DocID{}) }

// After is All from behind a docID on, to go on in another transaction.
func (d *Documents) After(id DocID) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		d.tx.mu.Lock()
		defer d.tx.mu.Unlock()
		for doc, err := range d.tx.tx.Scan(d.c, store.Range{After: id}) {
			if err == nil {
				doc, err = doc.Clone()
			}
			if !yield(document(doc, err)) || err != nil {
				return
			}
		}
	}
}
