package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// rightsChange is one change of who may do what with a document, to be prepared.
type rightsChange struct {
	documentOf
	Operation   string   // grant, revoke, transfer or accept
	Relation    string   `json:",omitempty"`
	TargetActor string   `json:",omitempty"`
	Commits     []string `json:",omitempty"`
}

type prepareAccess struct {
	Body rightsChange `body:"json"`
}

var opPrepareAccess = op[prepareAccess, Prepared]{"POST /commits/prepare/access", data, (*Server).prepareAccess}

// rightsChanged is the answer to a change that is prepared.
type rightsChanged struct {
	Changed int // how much would change: 0 if all is so already
}

func (s *Server) prepareAccess(ctx context.Context, in prepareAccess) (Prepared, error) {
	who, err := signer(ctx)
	if err != nil {
		return Prepared{}, err
	}
	var did rightsChanged
	drafts, err := s.db.PrepareAccess(ctx, who, func(tx *pando.Tx) error {
		did.Changed, err = in.Body.apply(ctx, tx)
		return err
	})
	if err != nil {
		return Prepared{}, err
	}
	p := Prepared{Commits: []DraftCommit{}}
	for _, d := range drafts {
		p.Commits = append(p.Commits, DraftCommit{d.Collection.String(), d.Header, d.Payload})
	}
	p.Answer, err = json.Marshal(did)
	return p, err
}

func (a rightsChange) apply(ctx context.Context, tx *pando.Tx) (changed int, err error) {
	id, err := document(a.DocID)
	if err != nil {
		return 0, err
	}
	docs, err := tx.Documents(a.CollectionName, id)
	if err != nil {
		return 0, err
	}
	switch a.Operation {
	case "grant", "revoke":
		who, err := pando.ParseSubject(a.TargetActor)
		if err != nil {
			return 0, err
		}
		do := docs.Grant
		if a.Operation == "revoke" {
			do = docs.Revoke
		}
		if news, err := do(id, a.Relation, who); err != nil || !news {
			return 0, err
		}
		return 1, nil
	case "transfer":
		return 1, docs.Transfer(id, pando.DID(a.TargetActor))
	case "accept":
		commits, err := commitsOf(a.Commits)
		if err != nil {
			return 0, err
		}
		return docs.Accept(ctx, id, commits...)
	}
	return 0, fault.Invalid.Errorf("Operation %.40q: want grant, revoke, transfer or accept", a.Operation)
}

// Grant gives a relation to a document to somebody, and reports whether it had none.
func (a *Author) Grant(ctx context.Context, doc pando.DocID, relation string, who pando.Subject) (granted bool, err error) {
	n, err := a.change(ctx, rightsChange{documentOf: documentOf{DocID: doc.String()}, Operation: "grant", Relation: relation, TargetActor: who.String()},
		func(p pando.Proposal) error { return p.Grants(doc, relation, who) })
	return n > 0, err
}

// Revoke takes it back, and reports whether there was something to take.
func (a *Author) Revoke(ctx context.Context, doc pando.DocID, relation string, who pando.Subject) (revoked bool, err error) {
	n, err := a.change(ctx, rightsChange{documentOf: documentOf{DocID: doc.String()}, Operation: "revoke", Relation: relation, TargetActor: who.String()},
		func(p pando.Proposal) error { return p.Revokes(doc, relation, who) })
	return n > 0, err
}

// onDocument reads whom and what a change of rights is about, and makes it.
func (a *Author) onDocument(docID, who string, change func(pando.DocID, pando.Subject) (bool, error)) (bool, error) {
	id, err := document(docID)
	if err != nil {
		return false, err
	}
	subject, err := pando.ParseSubject(who)
	if err != nil {
		return false, err
	}
	return change(id, subject)
}

// Transfer makes somebody else the owner of a document.
func (a *Author) Transfer(ctx context.Context, doc pando.DocID, to pando.DID) error {
	_, err := a.change(ctx, rightsChange{documentOf: documentOf{DocID: doc.String()}, Operation: "transfer", TargetActor: string(to)},
		func(p pando.Proposal) error { return p.Transfers(doc, to) })
	return err
}

// Accept lets commits count that are pending, and returns how many. They are named by
// whoever has looked at them.
func (a *Author) Accept(ctx context.Context, doc pando.DocID, commits ...pando.CID) (int, error) {
	if len(commits) == 0 {
		return 0, nil
	}
	in := rightsChange{documentOf: documentOf{DocID: doc.String()}, Operation: "accept"}
	for _, c := range commits {
		in.Commits = append(in.Commits, c.String())
	}
	return a.change(ctx, in, func(p pando.Proposal) error { return p.Accepts(doc, commits...) })
}

// acceptNamed is Accept of commits that are named one by one: which are pending only the
// node says, and nobody signs what he has not looked at.
func (a *Author) acceptNamed(ctx context.Context, docID string, named []string) (int, error) {
	id, err := document(docID)
	if err != nil {
		return 0, err
	}
	commits, err := commitsOf(named)
	if err != nil {
		return 0, err
	}
	if len(named) == 0 {
		access, err := a.c.DocumentAccess(ctx, docID)
		if err != nil {
			return 0, err
		}
		if n := len(access.Pending); n > 0 {
			return 0, fault.Invalid.Errorf("the node says that %d commits are pending: name those that are to count, after a look at what they are, as 'pando acl show' lists them", n)
		}
	}
	return a.Accept(ctx, id, commits...)
}

// change has one change prepared, signs what fits it, and submits that. It is prepared
// anew when others were quicker.
func (a *Author) change(ctx context.Context, in rightsChange, fits func(pando.Proposal) error) (int, error) {
	changed, told := 0, 0
	for n := 1; ; n++ {
		some, signed, err := a.tryChange(ctx, in, fits)
		changed += some
		switch {
		case errors.Is(err, fault.Conflict) && n < overtaken:
		case err != nil || signed <= 1 || in.Operation != "revoke" || told == mostTold:
			return changed, err
		default: // of documents that name a group others may take notice with the next
			n, told = 0, told+1
		}
	}
}

// mostTold bounds how often a node has an author sign that documents take notice, some
// thousand each time.
const mostTold = 1024

// tryChange returns how much has changed, and how many commits were signed for that.
func (a *Author) tryChange(ctx context.Context, in rightsChange, fits func(pando.Proposal) error) (changed, signed int, err error) {
	prepared, err := opPrepareAccess.call(ctx, a.c, prepareAccess{in})
	if err != nil {
		return 0, 0, err
	}
	var did rightsChanged
	if err := json.Unmarshal(prepared.Answer, &did); err != nil {
		return 0, 0, fault.Unavailable.Errorf("answer of %s: %w: is it a pando node of this version?", a.c.base, err)
	}
	var out submitRequest
	for i, d := range prepared.Commits {
		draft, err := a.signChange(d, fits, i > 0 || did.Changed == 0)
		if err != nil {
			return 0, 0, notSigned(err)
		}
		out.Body.Commits = append(out.Body.Commits, draft)
	}
	if len(out.Body.Commits) > 0 {
		_, err = opSubmit.call(ctx, a.c, out)
	} else if did.Changed > 0 {
		err = notSigned(fault.Denied.Errorf("there is nothing to sign"))
	}
	return did.Changed, len(out.Body.Commits), err
}

// signChange signs a draft that fits what was asked for. Behind the first there may be some
// that take notice, in other documents, of who has left a group.
func (a *Author) signChange(d DraftCommit, fits func(pando.Proposal) error, more bool) (SignedCommit, error) {
	id, err := dag.ParseCollectionID(d.Collection)
	if err != nil {
		return SignedCommit{}, err
	}
	p, err := pando.Draft{Collection: id, Header: d.Header, Payload: d.Payload}.OpenAccess()
	if err != nil {
		return SignedCommit{}, err
	}
	if p.Author != a.key.DID() {
		return SignedCommit{}, fault.Denied.Errorf("it is in the name of %s", p.Author)
	}
	if off := time.Since(p.Time).Abs(); off > maxSkew {
		return SignedCommit{}, fault.Denied.Errorf("it says that it was written at %s, %v from now: look at the clocks", p.Time, off.Round(time.Second))
	}
	if !more || !p.TakesNotice() {
		if err := fits(p); err != nil {
			return SignedCommit{}, err
		}
	}
	signed, err := p.Sign(a.key)
	return SignedCommit{signed.Collection.String(), signed.Envelope}, err
}
