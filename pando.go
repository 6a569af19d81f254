// Package pando is a peer-to-peer document database that lives in your program.
//
// Documents belong to collections, which GraphQL types describe, and are read and
// changed by GraphQL or by the methods of a transaction. Every change is a signed,
// content-addressed commit; replicas that hold the same commits hold the same
// bytes, whatever the order in which they got them.
//
// A database is complete without a network. Package p2p connects it with others
// through its Replica; importing this package alone compiles no peer-to-peer code.
//
//	db, err := pando.Open(ctx, "data", nil)
//	…
//	defer db.Close()
//	_, err = db.AddSchema(ctx, `type Note { text: String }`)
//	res := db.Exec(ctx, pando.Request{Query: `mutation { create_Note(input: {text: "hi"}) { _docID } }`})
package pando

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/query"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// The words of the data model.
type (
	// CID names a commit. It prints as a CIDv1 that any IPLD tool reads.
	CID = dag.CID
	// DocID names a document for ever, while the CIDs of its heads move.
	DocID = dag.DocID
	// CollectionID names a collection: the same definition has the same ID on
	// every node.
	CollectionID = dag.CollectionID
	// Digest names a version of a collection.
	Digest = dag.Digest
	// Collection describes a collection.
	Collection = schema.Collection
	// Field describes a field of a collection.
	Field = schema.Field
	// Index describes an index of a collection.
	Index = schema.Index
	// IndexField is one column of an index.
	IndexField = schema.IndexField
	// Change is one entry of the feed: a commit became part of a document.
	Change = store.Change
	// Identity is a keypair that signs commits. Its DID is public.
	Identity = ident.Key
	// DID is the public name of an identity, such as did:key:z6Mk….
	DID = ident.DID
	// Certificate says that a node acts for an identity, between two instants: sealed by
	// both it is shown to peers by p2p.Node.Act, and they give the node what the identity
	// may read.
	Certificate = ident.Certificate
	// Caller is on whose behalf a database is used: what it may read, and how what it
	// writes is signed.
	Caller = store.Caller
	// Lenses makes pipelines of WASM modules: package lens does.
	Lenses = schema.Lenses
	// LensStep is one module of a pipeline, and how it is used.
	LensStep = schema.LensStep
	// Pipeline is a sequence of modules that are ready to run.
	Pipeline = schema.Pipeline
	// Policy says who may do what with the documents of collections that name it.
	Policy = acp.Policy
	// PolicyID names a policy: it is the hash of what the policy says.
	PolicyID = dag.Digest
	// Problem is one thing that a check of the database found wrong.
	Problem = store.Problem
	// Rebuilt says what a rebuild kept.
	Rebuilt = store.Rebuilt
)

// The kinds of failure, for errors.Is.
var (
	ErrInvalid     error = fault.Invalid
	ErrNotFound    error = fault.NotFound
	ErrExists      error = fault.Exists
	ErrConflict    error = fault.Conflict
	ErrDenied      error = fault.Denied
	ErrTooLarge    error = fault.TooLarge
	ErrCorrupt     error = fault.Corrupt
	ErrUnavailable error = fault.Unavailable
	ErrClosed      error = fault.Closed
)

// NewIdentity makes a new ed25519 identity.
func NewIdentity() (Identity, error) { return newIdentity(nil) }

func newIdentity(r io.Reader) (Identity, error) {
	if r == nil {
		r = rand.Reader
	}
	return ident.GenerateFrom(ident.EdDSA, r)
}

// Options configure a database. The zero value is right for most.
type Options struct {
	// Identity signs the commits that are made here. If it is zero, the key of the node
	// does, which is in the database's directory, and made when there is none.
	Identity Identity
	// CacheBytes is how much of the database to keep in memory; 0 is 64 MiB. The
	// memory is taken as it is used.
	CacheBytes int64
	// Limits bound what one GraphQL request may cost.
	Limits Limits
	// Lenses runs WASM modules, for views and migrations that have some; see package
	// lens. Nil: requests that need them fail, and programs see null where a migration
	// would make a value. Closing the database does not close it.
	Lenses Lenses
	// StoreKey, of 32 bytes, encrypts what is on disk of the database: documents,
	// commits, notes, indexes. Not the file of the node's key. A database is made with a
	// key or without, and opens only with that; a lost key is a lost database. Of another
	// key than it was made with, or none, ErrDenied tells; of a key for a database that
	// is not encrypted, ErrInvalid. Nil: nothing is encrypted.
	StoreKey []byte
	// ReadOnly opens a database that exists, and writes nothing.
	ReadOnly bool
	// Logger hears of what goes on; nil is silence.
	Logger *slog.Logger
	// Now is the clock; nil is the system's.
	Now func() time.Time
	// Rand is where unique docIDs come from, and the identity of a database in
	// memory; nil is the system's.
	Rand io.Reader
}

// Limits bound what one GraphQL request may cost. Zero fields have defaults.
type Limits = query.Limits

// DB is an open database, as one identity uses it. It is safe for concurrent use.
type DB struct {
	*shared
	who Caller
}

// shared is what a database is, whoever uses it.
type shared struct {
	store   *store.Store
	node    Identity
	schemas query.Schemas // generated from the collections, with the plans
	builder builder       // makes the entries that indexes lack

	refreshing sync.Mutex // held by who refreshes views: one at a time
	hub        hub        // of live queries
	coverage   coverages  // of the collections

	mu     sync.Mutex // guards what follows
	open   map[*Tx]struct{}
	closed bool
}

// The layout of a database directory.
const (
	dataDir = "data"     // the key space
	keyFile = "node.key" // the node's identity
)

// Open opens the database in a directory, and makes it if there is none. An empty
// directory name is a database in memory. Another process that has the directory
// open gives Unavailable; a newer format gives Unavailable.
func Open(ctx context.Context, dir string, o *Options) (*DB, error) {
	if o == nil {
		o = &Options{}
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	data, so, err := place(ctx, dir, o)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	so.CacheBytes, so.Now, so.Rand, so.Logger, so.ReadOnly, so.Lenses = o.CacheBytes, o.Now, o.Rand, o.Logger, o.ReadOnly, o.Lenses
	node, err := nodeIdentity(dir, o)
	if err != nil {
		return nil, err
	}
	self := o.Identity
	if self.IsZero() {
		self = node
	}
	so.Keys = keysOf(self, node)
	s, err := store.Open(data, so)
	if err != nil {
		return nil, err
	}
	sh := &shared{store: s, node: node, schemas: query.Schemas{Limits: o.Limits, Lenses: o.Lenses}, open: map[*Tx]struct{}{}}
	sh.hub.store, sh.hub.turns = s, make(chan struct{}, maxTurns)
	if err := sh.loadCoverage(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if !o.ReadOnly {
		sh.startBuilding(o.Logger)
	}
	return &DB{sh, store.As(self)}, nil
}

// keysOf returns the keys that open encrypted documents: those of who uses the database,
// and of the node, which may be let in itself.
func keysOf(self, node Identity) (keys []Identity) {
	for _, k := range []Identity{self, node} {
		if !k.IsZero() && !slices.ContainsFunc(keys, func(o Identity) bool { return o.Public() == k.Public() }) {
			keys = append(keys, k)
		}
	}
	return keys
}

// makeDirectory makes the directory of a database, unless it is there.
func makeDirectory(dir string, readOnly bool) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir(), errors.Is(err, syscall.ENOTDIR):
		return fault.Invalid.Errorf("%s is a file, or below one: name a directory", dir)
	case err == nil:
		return nil
	case readOnly && errors.Is(err, os.ErrNotExist):
		return fault.NotFound.Errorf("there is no directory %s", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Unavailable.Errorf("cannot make the directory; check its owner and the disk: %w", err)
	}
	return nil
}

// nodeIdentity returns the key of the node itself: that in the directory, made if there
// is none; of a database in memory a new one.
func nodeIdentity(dir string, o *Options) (node Identity, err error) {
	if dir != "" {
		if err := makeDirectory(dir, o.ReadOnly); err != nil {
			return Identity{}, fmt.Errorf("open database: %w", err)
		}
		node, err = keyIn(dir, o)
	} else if o.Identity.IsZero() {
		node, err = newIdentity(o.Rand)
	} else {
		node, err = NewIdentity() // not of o.Rand: it signs no documents
	}
	if err != nil {
		return Identity{}, fmt.Errorf("identity of the node: %w", err)
	}
	return node, nil
}

// keyIn returns the key in a database's directory, made if there is none. One made
// beside data is told of: to peers the node is another than before.
func keyIn(dir string, o *Options) (Identity, error) {
	path := filepath.Join(dir, keyFile)
	node, err := ident.LoadKey(path)
	if !errors.Is(err, fault.NotFound) {
		return node, err
	}
	if o.ReadOnly {
		return Identity{}, nil // nothing will be signed
	}
	_, noData := os.Stat(filepath.Join(dir, dataDir))
	if node, err = ident.LoadOrCreateKey(path); err == nil && noData == nil && o.Logger != nil {
		o.Logger.Warn("the key file was missing, so the node has a new identity, which peers do not know: restore the file if there is a copy",
			"file", path, "did", node.DID())
	}
	return node, err
}

// Close ends explicit transactions, waits for the others, and closes the
// directory. It may be called twice.
func (db *DB) Close() error {
	db.mu.Lock()
	db.closed = true
	var open []*Tx
	for tx := range db.open {
		open = append(open, tx)
	}
	db.mu.Unlock()
	for _, tx := range open {
		tx.Discard()
	}
	db.builder.stop()
	db.hub.close()
	return errors.Join(db.store.Close(), db.schemas.Close())
}

// As returns the same database as another identity uses it: its writes are signed
// by that identity. The copy is cheap, and closing either closes both.
func (db *DB) As(who Identity) *DB { return db.AsCaller(store.As(who)) }

// AsCaller is As for whoever a Caller describes: a gateway that signs for somebody, a
// peer that reads as its users do.
func (db *DB) AsCaller(who Caller) *DB { return &DB{db.shared, who} }

// Caller returns on whose behalf the database is used.
func (db *DB) Caller() Caller { return db.who }

// Signs returns why nothing can be written as the database is used: Denied, or nil.
func (db *DB) Signs() error {
	switch reads := db.who.Keys(); {
	case db.who.IsSystem() || !db.who.Key.IsZero() || db.who.Author != "": // without a key, see Prepare
		return nil
	case len(reads) > 0:
		return fault.Denied.Errorf("nothing lets this node sign what %s writes: send a token with a delegation for the node, as pando -i does over HTTP, or sign yourself, with a client library that holds the key", reads[0])
	}
	return fault.Denied.Errorf("nobody signs what is written here: say who you are, by a token with a delegation for the node, as pando -i does")
}

// Identity returns whom the database is used as; for a database as Open returned
// it, Options.Identity, or the node itself.
func (db *DB) Identity() Identity { return db.who.Key }

// NodeIdentity returns the key of the node itself, that peers know it by. It is that of
// the directory, or a new one in memory, and so another on each machine of a user who is
// Options.Identity on all of them.
func (db *DB) NodeIdentity() Identity { return db.node }

// AddSchema adds the collections that GraphQL types describe, all or none, and
// returns them. Types may refer to collections that exist.
func (db *DB) AddSchema(ctx context.Context, sdl string) (added []*Collection, err error) {
	err = db.store.Update(ctx, db.who, func(tx *store.Tx) error {
		added, err = addSchema(tx, sdl)
		return err
	})
	return added, err
}

func addSchema(tx *store.Tx, sdl string) ([]*Collection, error) {
	policies, err := tx.Policies()
	if err != nil {
		return nil, err
	}
	added, err := schema.Parse(sdl, tx.Set().All(), policies...)
	if err != nil {
		return nil, err
	}
	return added, tx.AddCollections(added)
}

// Collections returns the collections in the order of their names.
func (db *DB) Collections() []*Collection { return db.store.Schema().Collections() }

// Collection returns the collection of that name, or NotFound.
func (db *DB) Collection(name string) (*Collection, error) {
	if c, ok := db.store.Schema().Collection(name); ok {
		return c, nil
	}
	return nil, fault.NotFound.Errorf("collection %q does not exist: add it with a schema, or join a peer that has it", name)
}

// View runs fn on a snapshot. Writes in it fail.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	return db.store.View(ctx, db.who, func(tx *store.Tx) error { return fn(&Tx{db: db, tx: tx}) })
}

// Update runs fn in a transaction and commits it: all its writes or none, durable
// on return. Updates are serial in effect; fn may run twice, so it must not keep
// what a first run found.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	return db.store.Update(ctx, db.who, func(tx *store.Tx) error { return fn(&Tx{db: db, tx: tx}) })
}

// Changes yields the feed after a cursor, the Seq of a change (0 is the start),
// and then waits for more: every change, local or remote, durable before it is
// seen. It ends with the context's error, or Closed. Keep the last Seq to resume.
func (db *DB) Changes(ctx context.Context, after uint64) iter.Seq2[Change, error] {
	return db.store.Changes(ctx, db.who, after)
}

// Seq returns the newest number of the feed.
func (db *DB) Seq() uint64 { return db.store.Seq() }

// DiskBytes returns how much the database takes on disk.
func (db *DB) DiskBytes() uint64 { return db.store.Size() }

// Storage are figures of the storage engine, for people and monitoring.
type Storage = kv.Metrics

// Storage returns the figures of now; zero when the database is closed.
func (db *DB) Storage() Storage { return db.store.Metrics() }

// Check reads the whole database and reports what is wrong with it: checksums,
// commits, signatures, documents that are not what their commits make.
func (db *DB) Check(ctx context.Context, report func(Problem)) error {
	return db.store.Check(ctx, report)
}

// Rebuild makes the database in a directory anew from its commits; see Check for
// whether that is needed. It must not be open. It can be interrupted at any time. Of the
// options, which may be nil, it heeds the key of the store, and the identity: without it,
// encrypted documents are opened by the next start that has it.
func Rebuild(ctx context.Context, dir string, o *Options, report func(Problem)) (Rebuilt, error) {
	if err := makeDirectory(dir, true); err != nil {
		return Rebuilt{}, fmt.Errorf("rebuild: %w", err)
	}
	data, so, err := place(ctx, dir, o)
	if err != nil {
		return Rebuilt{}, fmt.Errorf("rebuild: %w", err)
	}
	if o != nil {
		node, err := ident.LoadKey(filepath.Join(dir, keyFile))
		if err != nil && !errors.Is(err, fault.NotFound) {
			return Rebuilt{}, fmt.Errorf("rebuild: identity of the node: %w", err)
		}
		so.Keys = keysOf(o.Identity, node)
	}
	return store.Rebuild(ctx, data, so, report)
}

// place returns where the documents of a directory are, and the files that they are in.
func place(ctx context.Context, dir string, o *Options) (data string, so store.Options, err error) {
	data = filepath.Join(dir, dataDir)
	if dir == "" {
		so.FS = kv.FilesIn(ctx)
	}
	if o == nil || o.StoreKey == nil {
		return data, so, nil
	}
	if so.FS, err = kv.Encrypt(so.FS, o.StoreKey); err == nil && dir != "" {
		data, err = filepath.Abs(data)
	}
	return data, so, err
}
