package pando

import (
	"context"
	"slices"
	"time"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// Draft is a commit that is prepared for its author, whose key is elsewhere. The bytes
// are those that the signature will be for.
type Draft struct {
	Collection CollectionID
	Header     []byte
	Payload    [][]byte // the parts that Header holds the hashes of
}

// SignedCommit is a commit that its author has signed.
type SignedCommit struct {
	Collection CollectionID
	Envelope   []byte
}

const (
	// MaxDrafts is how many commits one mutation may prepare to be signed elsewhere, and
	// maxDraftBytes how much they may hold together: they are held whole, and sent twice.
	MaxDrafts     = 1000
	maxDraftBytes = 8 << 20
)

// Prepare runs a mutation as the owner of a key that is not here, and takes it back: it
// returns the answer that the mutation would give, and the commits that the author has to sign and
// Submit for it to happen, within 10 minutes. A request that writes nothing has none.
func (db *DB) Prepare(ctx context.Context, author DID, r Request) (*Result, []Draft) {
	key, err := author.PublicKey()
	if err != nil {
		return failedResult(err), nil
	}
	tx, err := db.AsCaller(store.Drafting(key)).Begin(ctx, TxOptions{})
	if err != nil {
		return failedResult(err), nil
	}
	defer tx.Discard()
	result := tx.Exec(ctx, r)
	if len(result.Errors) > 0 {
		return result, nil
	}
	drafts, err := tx.drafts()
	if err != nil {
		return failedResult(err), nil
	}
	return result, drafts
}

// drafts returns the commits that the transaction has prepared.
func (tx *Tx) drafts() ([]Draft, error) {
	var drafts []Draft
	size := 0
	for _, d := range tx.tx.Drafts() {
		drafts = append(drafts, Draft{d.Collection, d.Commit.Header(), d.Commit.Payload})
		size += len(d.Commit.Header())
		for _, p := range d.Commit.Payload {
			size += len(p)
		}
		if len(drafts) > MaxDrafts || size > maxDraftBytes {
			return nil, fault.TooLarge.Errorf("the mutation makes more than %d commits, or %d MiB of them: write less at once", MaxDrafts, maxDraftBytes>>20)
		}
	}
	return drafts, nil
}

// SubmitOptions configure Submit.
type SubmitOptions struct {
	// Concurrent takes commits also if their documents have changed since they were
	// prepared: they count as written at the same time, as if they had come from a peer.
	Concurrent bool
}

// Submit writes commits that were prepared here and signed elsewhere by their author, all
// or none, and returns their CIDs. Trying again does nothing twice. It gives Conflict if a
// document has changed since: prepare the mutation again.
func (db *DB) Submit(ctx context.Context, author DID, commits []SignedCommit, o SubmitOptions) ([]CID, error) {
	key, err := author.PublicKey()
	if err != nil {
		return nil, err
	}
	if len(commits) > MaxDrafts {
		return nil, fault.TooLarge.Errorf("%d commits at once, at most %d", len(commits), MaxDrafts)
	}
	var opened []store.Draft
	cids := []CID{}
	for i, c := range commits {
		cm, err := dag.Open(c.Envelope)
		if err != nil {
			return nil, fault.Invalid.Errorf("commit %d: %w", i, err)
		}
		opened, cids = append(opened, store.Draft{Collection: c.Collection, Commit: cm}), append(cids, cm.CID)
	}
	if _, err := db.store.Submit(ctx, key, opened, o.Concurrent); err != nil {
		return nil, err
	}
	return cids, nil
}

// Proposal is a draft as its author looks at it before signing: decoded of the very bytes
// that the signature is for, whatever else whoever prepared it says.
type Proposal struct {
	Collection CollectionID
	Version    Digest // of the collection: what the fields are called
	Doc        DocID
	Author     DID
	Begins     bool // it is the first commit of a document
	Deletes    bool
	Time       time.Time // by the clock of whoever prepared it
	Operations []Operation

	deltas []crdt.Delta
	rights []acp.Op
	commit *dag.Commit
}

// Operation is one change of a field.
type Operation struct {
	Field uint64 // its number in the collection
	Kind  string // such as "lww String"
	Value any    // as Document.Get; of a counter, what is added
}

// Open decodes a draft. It gives Invalid for bytes that are no commit, and Denied for
// commits that say more than what a mutation writes into fields: changes of rights and keys, parts
// that cannot be looked into, signatures on behalf of others.
func (d Draft) Open() (Proposal, error) {
	p, err := d.open()
	switch {
	case err != nil:
		return p, err
	case len(p.rights) > 0:
		return p, fault.Denied.Errorf("it changes who may read and write document %s", p.Doc)
	case len(p.commit.Segs) != 1:
		return p, fault.Denied.Errorf("it writes nothing")
	}
	return p, nil
}

func (d Draft) open() (Proposal, error) {
	cm, err := dag.OpenDraft(d.Header, d.Payload)
	if err != nil {
		return Proposal{}, err
	}
	if err := cm.CheckCollection(d.Collection); err != nil {
		return Proposal{}, err
	}
	p := Proposal{Collection: d.Collection, Version: cm.Schema, Doc: cm.Doc, Author: cm.Author.Key.DID(), Begins: cm.Root != nil, Time: dag.HLCTime(cm.HLC), deltas: cm.Deltas, commit: cm}
	switch {
	case cm.Kind != dag.Write:
		return p, fault.Denied.Errorf("it is not the commit of a mutation")
	case cm.Delegated():
		return p, fault.Denied.Errorf("it is to be signed on behalf of %s", p.Author)
	case len(cm.Segs) > 1 || len(cm.Segs) == 1 && cm.Segs[0].Group != 0:
		return p, fault.Denied.Errorf("it has encrypted parts, which nobody should sign unseen")
	case cm.Txn != nil:
		return p, fault.Denied.Errorf("it is tied to commits that are not shown")
	}
	for _, x := range cm.Deltas {
		switch x.Field {
		case crdt.FieldAccess:
			ops, err := acp.Ops([]crdt.Delta{x})
			if err != nil {
				return p, err
			}
			p.rights = append(p.rights, ops...)
			continue
		case crdt.FieldKeys:
			return p, fault.Denied.Errorf("it gives keys of document %s", p.Doc)
		case crdt.FieldStatus:
			p.Deletes = true
			continue
		}
		if x.Void || !x.Kind.Known() {
			return p, fault.Denied.Errorf("it has an operation on field %d that means nothing", x.Field)
		}
		p.Operations = append(p.Operations, Operation{uint64(x.Field), x.Kind.String(), toGo(x.Val)})
	}
	return p, nil
}

// AddsUp reports whether the same, signed twice, would count twice: it begins a document, or
// adds to a counter.
func (p Proposal) AddsUp() bool {
	return p.Begins || slices.ContainsFunc(p.deltas, func(d crdt.Delta) bool {
		return d.Kind.Rule() == crdt.PCounter || d.Kind.Rule() == crdt.PNCounter
	})
}

// Sign signs what Open has shown.
func (p Proposal) Sign(key Identity) (SignedCommit, error) {
	if p.commit == nil {
		return SignedCommit{}, fault.Invalid.Errorf("sign: there is no proposal: open a draft first")
	}
	if err := p.commit.Sign(key); err != nil {
		return SignedCommit{}, err
	}
	return SignedCommit{p.Collection, p.commit.Envelope()}, nil
}
