package pando

import (
	"context"
	"iter"
	"math/bits"
	"time"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/radix"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// Replica is the database as synchronisation sees it: heads, packs of commits,
// merges. Package p2p stands on it, and so could any other way to carry bytes.
type Replica struct {
	db  *DB
	who store.Caller // whose view of documents it is
}

// Replica returns what synchronisation needs of the database.
func (db *DB) Replica() *Replica { return &Replica{db, store.System} }

type (
	// Summary describes what a node holds of a collection. Nodes with equal roots
	// hold the same documents with the same heads.
	Summary = store.Summary
	// Block is a commit as it travels, valid until the next step.
	Block = store.Block
	// Want asks for the commits of a document that the asker lacks.
	Want = store.Want
	// Point is a place in the history of a document.
	Point = store.Point
	// Lacking is what an asker lacks of a document.
	Lacking = store.Lacking
	// Merged says what became of a pack of commits.
	Merged = store.Merged
	// Await is a commit that waits for commits of group documents.
	Await = store.Await
	// InvalidCommit is the error of a commit that no node may apply; whoever sent
	// it misbehaves.
	InvalidCommit = store.InvalidCommit
	// Prefix selects a part of the tree over a collection's documents.
	Prefix = radix.Prefix
	// Node is a node of that tree.
	Node = radix.Node
	// Element is a document in that tree: its docID, and a hash of its heads.
	Element = radix.Element
	// Note is a small durable entry beside the documents.
	Note = kv.Entry
)

// Now is the clock of the database, by which commits are made and judged.
func (r *Replica) Now() time.Time { return r.db.store.Now() }

// Settle returns when everything that can be read now is durable, or why it will not
// be. Whoever tells others what is here does so after it.
func (r *Replica) Settle(ctx context.Context) error { return r.db.store.Settle(ctx) }

// Epoch identifies the feed: cursors into one epoch say nothing in another.
func (r *Replica) Epoch() [16]byte { return r.db.store.Epoch() }

// Summaries returns what the node holds of each collection.
func (r *Replica) Summaries(ctx context.Context) ([]Summary, error) {
	var all []Summary
	for _, c := range r.db.Collections() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s, err := r.db.store.Summary(c.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// Summary returns what the node holds of one collection, or NotFound.
func (r *Replica) Summary(_ context.Context, coll CollectionID) (Summary, error) {
	return r.db.store.Summary(coll)
}

// MaxLocked is up to where Locked counts.
const MaxLocked = store.MaxLocked

// Locked returns how many documents of a collection no key here opens, at most MaxLocked.
func (r *Replica) Locked(ctx context.Context, coll CollectionID) (int, error) {
	return r.db.store.Locked(ctx, coll)
}

// Node returns a node of a collection's tree; ok is false if the tree has none there.
func (r *Replica) Node(_ context.Context, coll CollectionID, p Prefix) (n Node, ok bool, err error) {
	return r.db.store.Node(coll, p)
}

// Elements yields the documents under a prefix, in docID order.
func (r *Replica) Elements(_ context.Context, coll CollectionID, p Prefix) iter.Seq2[Element, error] {
	return r.db.store.Elements(coll, p)
}

// Heads returns the heads of a document, sorted; none if it is unknown.
func (r *Replica) Heads(ctx context.Context, coll CollectionID, doc DocID) (heads []CID, err error) {
	err = r.db.store.View(ctx, r.who, func(tx *store.Tx) error {
		heads, err = tx.Heads(coll, doc)
		return err
	})
	return heads, err
}

// Locator returns the first 8 bytes of commits at distance 1, 2, 4, 8 … below the
// top of a document's history.
func (r *Replica) Locator(ctx context.Context, coll CollectionID, doc DocID) (ids []uint64, err error) {
	err = r.db.store.View(ctx, r.who, func(tx *store.Tx) error {
		ids, err = tx.Locator(coll, doc)
		return err
	})
	return ids, err
}

// Pack yields what the askers lack, document by document, parents first. The
// cost follows what is yielded, not the length of the histories.
func (r *Replica) Pack(ctx context.Context, coll CollectionID, wants []Want) iter.Seq2[Block, error] {
	return r.blocks(ctx, func(tx *store.Tx, yield func(Block, error) bool) {
		for _, w := range wants {
			for b, err := range tx.Pack(coll, w) {
				if !yield(b, err) || err != nil {
					return
				}
			}
		}
	})
}

// Lacking finds what an asker lacks of one document, to be read piece by piece with
// PackOf, which costs what it yields: the database need not be held open while a
// piece is on its way.
func (r *Replica) Lacking(ctx context.Context, coll CollectionID, w Want) (l Lacking, err error) {
	err = r.db.store.View(ctx, r.who, func(tx *store.Tx) error {
		l, err = tx.Lacking(coll, w)
		return err
	})
	return l, err
}

// PackOf yields what was found to be lacking of a document, after a point, parents
// first.
func (r *Replica) PackOf(ctx context.Context, l Lacking, after Point) iter.Seq2[Block, error] {
	return r.blocks(ctx, func(tx *store.Tx, yield func(Block, error) bool) { tx.PackOf(l, after)(yield) })
}

// Full yields every commit of a collection, documents in docID order after the
// given one, parents first: one sequential read.
func (r *Replica) Full(ctx context.Context, coll CollectionID, after DocID) iter.Seq2[Block, error] {
	return r.blocks(ctx, func(tx *store.Tx, yield func(Block, error) bool) {
		tx.Full(coll, after)(yield)
	})
}

func (r *Replica) blocks(ctx context.Context, fn func(*store.Tx, func(Block, error) bool)) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		err := r.db.store.View(ctx, r.who, func(tx *store.Tx) error {
			fn(tx, func(b Block, err error) bool {
				if err == nil {
					err = context.Cause(ctx)
				}
				return yield(b, err) && err == nil
			})
			return nil
		})
		if err != nil {
			yield(Block{}, err)
		}
	}
}

// Merge verifies commits and applies them, in one transaction unless they cost
// indexes much; what it reports as applied or known is durable. Parents come before
// their children. A commit that breaks a rule gives *InvalidCommit; those before it
// stay applied. origin names the peer.
func (r *Replica) Merge(ctx context.Context, coll CollectionID, envelopes [][]byte, origin string) (Merged, error) {
	return r.db.store.Merge(ctx, coll, envelopes, origin)
}

// MergeCommits is Merge of commits that were opened already. What was verified
// then, as a commit can prove, is not verified again.
func (r *Replica) MergeCommits(ctx context.Context, coll CollectionID, commits []*dag.Commit, origin string) (Merged, error) {
	return r.db.store.MergeCommits(ctx, coll, commits, origin)
}

// Log yields the feed after a cursor up to now.
func (r *Replica) Log(ctx context.Context, after uint64) iter.Seq2[Change, error] {
	return r.db.store.Log(ctx, r.who, after)
}

// Changes yields the feed after a cursor, and then waits for more.
func (r *Replica) Changes(ctx context.Context, after uint64) iter.Seq2[Change, error] {
	return r.db.store.Changes(ctx, r.who, after)
}

// Block returns the envelope of a commit, or NotFound.
func (r *Replica) Block(ctx context.Context, cid CID) (envelope []byte, err error) {
	err = r.db.store.View(ctx, r.who, func(tx *store.Tx) error {
		a, err := tx.FindCommit(cid)
		if err == nil {
			envelope = a.Envelope()
		}
		return err
	})
	return envelope, err
}

// Schema returns the versions of a collection as they travel, the oldest first.
func (r *Replica) Schema(_ context.Context, coll CollectionID) ([][]byte, error) {
	l := r.db.store.Schema().Versions(coll)
	if len(l) == 0 {
		return nil, fault.NotFound.Errorf("collection %s is unknown", coll)
	}
	versions := make([][]byte, len(l))
	for i, c := range l {
		versions[i] = c.Encode()
	}
	return versions, nil
}

// ShardBits returns by how many bits of docIDs the changes of a collection are told
// apart: the most that any of its versions says.
func (r *Replica) ShardBits(coll CollectionID) int {
	most := 1
	for _, c := range r.db.store.Schema().Versions(coll) {
		most = max(most, c.Shards)
	}
	return bits.TrailingZeros(uint(most))
}

// AddSchema adds versions of collections that a peer sent, those before them
// included. Which version of a collection is used here stays as it is. Versions that
// are there already are no error; another collection of the same name is Exists.
func (r *Replica) AddSchema(ctx context.Context, versions [][]byte) error {
	var add []*schema.Collection
	for _, v := range versions {
		c, err := schema.Decode(v)
		if err != nil {
			return err
		}
		add = append(add, c)
	}
	return r.db.store.Update(ctx, store.System, func(tx *store.Tx) error {
		return tx.AddVersions(add)
	})
}

// Get returns the note under a key, and whether there is one.
func (r *Replica) Get(key []byte) ([]byte, bool, error) { return r.db.store.Note(key) }

// Put writes notes, all or none, durable on return. A nil value deletes.
func (r *Replica) Put(notes map[string][]byte) error { return r.db.store.SetNotes(notes) }

// Notes yields the notes whose keys start with a prefix, in order.
func (r *Replica) Notes(prefix []byte) iter.Seq2[Note, error] { return r.db.store.Notes(prefix) }
