package pando

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// Verification is what a check of the whole history of a document found.
type Verification struct {
	Collection string `json:"collection"`
	DocID      DocID  `json:"docID"`
	// Heads are what was verified: these commits with all their ancestors.
	Heads []CID `json:"heads"`
	// State is a hash of the document as these commits make it, in hex. Two people who
	// have the same heads have the same state, or one of them has been lied to.
	State string `json:"state"`
	// Sound reports that every commit is right, and that this node holds just what they
	// make.
	Sound   bool             `json:"sound"`
	Stored  bool             `json:"stored"`          // the second of the two
	Owner   DID              `json:"owner,omitempty"` // with a policy; "" if the ownership is contested
	Pending int              `json:"pending"`         // commits that do not count until the owner accepts them
	Commits []VerifiedCommit `json:"commits"`         // parents first
}

// VerifiedCommit is one commit of a history, with the verdict on it.
type VerifiedCommit struct {
	Signed
	Height uint64 `json:"height"`
	// Verdict is "counts", "void" if the author's right was being taken away beside
	// it, or "invalid".
	Verdict string `json:"verdict"`
	Error   string `json:"error,omitempty"` // why it is invalid
}

// Signed says who made a commit, and when by his own clock.
type Signed struct {
	CID    CID       `json:"cid"`
	Author DID       `json:"author"`
	Via    DID       `json:"via,omitempty"` // the gateway that signed on behalf of the author
	Time   time.Time `json:"time"`
}

func signed(c *dag.Commit) Signed {
	s := Signed{CID: c.CID, Author: c.Author.Key.DID(), Time: dag.HLCTime(c.HLC)}
	if c.Delegated() {
		s.Via = c.Author.Via.DID()
	}
	return s
}

// Blame says where the value of one field comes from.
type Blame struct {
	Field  string       `json:"field"` // _deleted for the mark that a document is deleted
	Writes []BlameWrite `json:"writes"`
}

// BlameWrite is a commit that gave a field its value, or a part of it: of a counter it is
// the newest of its author, and the value is what he added in all.
type BlameWrite struct {
	Signed
	Value json.RawMessage `json:"value"`
}

// Verify checks the whole history of a document again, of whatever collection it is:
// names, signatures, delegations, parents and rights of every commit. With at it is
// the history of that commit. What is wrong is in the Verification; the error means
// that it could not be made.
func (db *DB) Verify(ctx context.Context, id DocID, at *CID) (v *Verification, err error) {
	err = db.store.View(ctx, db.who, func(tx *store.Tx) error {
		c, err := find(tx, id)
		if err != nil {
			return err
		}
		found, err := tx.Verify(ctx, c, id, at)
		if err == nil {
			v = verification(found)
		}
		return err
	})
	return v, err
}

func verification(found *store.Verification) *Verification {
	v := &Verification{
		Collection: found.Collection.Name, DocID: found.Doc, Heads: found.Heads,
		State: hex.EncodeToString(found.State[:]), Sound: found.Sound(), Stored: found.Stored,
	}
	if a := found.Access; a != nil {
		v.Pending = a.Voided()
		if owner := a.Owner(); owner != "" {
			v.Owner = owner.DID()
		}
	}
	for _, c := range found.Commits {
		one := VerifiedCommit{Signed: signed(c.Commit), Height: c.Height, Verdict: acp.Counts.String()}
		switch {
		case c.Err != nil:
			one.Verdict, one.Error = "invalid", c.Err.Error()
		case c.Verdict == acp.Void:
			one.Verdict = c.Verdict.String()
		}
		v.Commits = append(v.Commits, one)
	}
	return v
}

// Blame returns, for each field that has a value, the commits that gave it to it. With
// at it is the document as that commit made it.
func (db *DB) Blame(ctx context.Context, id DocID, at *CID) (all []Blame, err error) {
	err = db.store.View(ctx, db.who, func(tx *store.Tx) error {
		c, err := find(tx, id)
		if err != nil {
			return err
		}
		found, err := tx.Blame(ctx, c, id, at)
		if err != nil {
			return err
		}
		for _, f := range found {
			b := Blame{Field: "_deleted"}
			if f.Field != nil {
				b.Field = shownName(f.Field)
			}
			for _, s := range f.Shares {
				b.Writes = append(b.Writes, BlameWrite{signed(s.Commit), s.Value.AppendJSON(nil)})
			}
			all = append(all, b)
		}
		return nil
	})
	return all, err
}

// find returns the collection of a document.
func find(tx *store.Tx, id DocID) (*Collection, error) {
	for _, c := range tx.Collections() {
		_, err := tx.Get(c, id)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return nil, fault.NotFound.Errorf("document %s is in no collection here", id)
}
