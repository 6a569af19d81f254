package api

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// PolicyInfo is a policy that a node knows.
type PolicyInfo struct {
	PolicyID    pando.PolicyID
	Name        string
	Description string `json:",omitempty"`
	Resources   []string
}

// Relationship is a relation that somebody has to a document.
type Relationship struct {
	Relation    string
	TargetActor string // a DID, docID#relation of a group, or * for everyone
}

// DocumentAccess is who may do what with a document, as whoever asks sees it.
type DocumentAccess struct {
	Owner         pando.DID `json:",omitempty"` // empty if it is contested
	Permissions   []string  // of whoever asks
	Relationships []Relationship
	Pending       []pando.PendingCommit
	CannotCheck   []pando.CannotCheck `json:",omitempty"` // readers who may not read a group that writes
}

type (
	addPolicy struct {
		Text string `body:"text"`
	}
	addedPolicy struct{ PolicyID pando.PolicyID }
	onePolicy   struct {
		ID string `path:"id"`
	}
	// documentOf names a document; without a collection, wherever it is.
	documentOf struct {
		CollectionName string `json:",omitempty"`
		DocID          string
	}
	documentRelationship struct {
		Body struct {
			documentOf
			Relationship
		} `body:"json"`
	}
	documentAsked struct {
		Collection string `query:"collection"`
		DocID      string `query:"docID"`
	}
	documentAllowed struct {
		Collection string `query:"collection"`
		DocID      string `query:"docID"`
		Permission string `query:"permission"`
		Actor      string `query:"actor"`
	}
	allowed          struct{ Allowed bool }
	documentTransfer struct {
		Body struct {
			documentOf
			TargetActor pando.DID
		} `body:"json"`
	}
	documentAccept struct {
		Body struct {
			documentOf
			Commits []string `json:",omitempty"` // none: all that are pending
		} `body:"json"`
	}
	accepted struct{ Accepted int }
)

var (
	opAddPolicy        = op[addPolicy, addedPolicy]{"POST /acp/document/policy", admin, (*Server).addPolicy}
	opPolicies         = op[none, []PolicyInfo]{"GET /acp/document/policy", catalog, (*Server).policies}
	opPolicy           = op[onePolicy, json.RawMessage]{"GET /acp/document/policy/{id}", catalog, (*Server).policy}
	opAddRelationship  = op[documentRelationship, existedAlready]{"POST /acp/document/relationship", data, (*Server).addRelationship}
	opDropRelationship = op[documentRelationship, recordFound]{"DELETE /acp/document/relationship", data, (*Server).dropRelationship}
	opRelationships    = op[documentAsked, DocumentAccess]{"GET /acp/document/relationship", data, (*Server).relationships}
	opAllowed          = op[documentAllowed, allowed]{"GET /acp/document/allowed", data, (*Server).allowed}
	opTransfer         = op[documentTransfer, none]{"POST /acp/document/transfer", data, (*Server).transfer}
	opAccept           = op[documentAccept, accepted]{"POST /acp/document/accept", data, (*Server).accept}
)

func (s *Server) addPolicy(ctx context.Context, in addPolicy) (addedPolicy, error) {
	id, err := s.as(ctx).AddPolicy(ctx, in.Text)
	return addedPolicy{id}, err
}

func (s *Server) policies(ctx context.Context, _ none) ([]PolicyInfo, error) {
	all, err := s.as(ctx).Policies(ctx)
	list := []PolicyInfo{}
	for _, p := range all {
		list = append(list, PolicyInfo{p.Sum(), p.Name, p.Description, p.Resources()})
	}
	return list, err
}

func (s *Server) policy(ctx context.Context, in onePolicy) (json.RawMessage, error) {
	var id pando.PolicyID
	if err := id.UnmarshalText([]byte(strings.TrimSpace(in.ID))); err != nil {
		return nil, fault.Invalid.Errorf("policy ID %.140q: want 59 characters of lower-case base32 that begin with bafkrei…, as 'pando acl policy list' shows them", in.ID)
	}
	p, err := s.as(ctx).Policy(ctx, id)
	if err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// document reads the docID that a request names.
func document(text string) (id pando.DocID, err error) {
	if text = strings.TrimSpace(text); text == "" {
		return id, fault.Invalid.Errorf("docID is missing: name the document")
	}
	return id, id.UnmarshalText([]byte(text))
}

func (in documentRelationship) read() (id pando.DocID, who pando.Subject, err error) {
	if id, err = document(in.Body.DocID); err == nil {
		who, err = pando.ParseSubject(in.Body.TargetActor)
	}
	return id, who, err
}

func (s *Server) addRelationship(ctx context.Context, in documentRelationship) (existedAlready, error) {
	id, who, err := in.read()
	if err != nil {
		return existedAlready{}, err
	}
	granted, err := s.as(ctx).Grant(ctx, in.Body.CollectionName, id, in.Body.Relation, who)
	return existedAlready{!granted}, err
}

func (s *Server) dropRelationship(ctx context.Context, in documentRelationship) (recordFound, error) {
	id, who, err := in.read()
	if err != nil {
		return recordFound{}, err
	}
	revoked, err := s.as(ctx).Revoke(ctx, in.Body.CollectionName, id, in.Body.Relation, who)
	return recordFound{revoked}, err
}

func (s *Server) relationships(ctx context.Context, in documentAsked) (DocumentAccess, error) {
	id, err := document(in.DocID)
	if err != nil {
		return DocumentAccess{}, err
	}
	a, err := s.as(ctx).Access(ctx, in.Collection, id)
	out := DocumentAccess{Owner: a.Owner, Permissions: append([]string{}, a.Permissions...), Relationships: []Relationship{}, Pending: a.Pending, CannotCheck: a.CannotCheck}
	for _, t := range a.Tuples {
		out.Relationships = append(out.Relationships, Relationship{t.Relation, t.Subject})
	}
	return out, err
}

func (s *Server) allowed(ctx context.Context, in documentAllowed) (allowed, error) {
	id, err := document(in.DocID)
	if err != nil {
		return allowed{}, err
	}
	may, err := s.as(ctx).Allowed(ctx, in.Collection, id, in.Permission, pando.DID(in.Actor))
	return allowed{may}, err
}

func (s *Server) transfer(ctx context.Context, in documentTransfer) (none, error) {
	id, err := document(in.Body.DocID)
	if err != nil {
		return none{}, err
	}
	return none{}, s.as(ctx).Transfer(ctx, in.Body.CollectionName, id, in.Body.TargetActor)
}

func (s *Server) accept(ctx context.Context, in documentAccept) (accepted, error) {
	id, err := document(in.Body.DocID)
	if err != nil {
		return accepted{}, err
	}
	commits, err := commitsOf(in.Body.Commits)
	if err != nil {
		return accepted{}, err
	}
	n, err := s.as(ctx).Accept(ctx, in.Body.CollectionName, id, commits...)
	return accepted{n}, err
}

func commitsOf(texts []string) (commits []pando.CID, err error) {
	for _, text := range texts {
		var c pando.CID
		if err := c.UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		commits = append(commits, c)
	}
	return commits, nil
}

// AddPolicy makes a policy known, a file in YAML or JSON.
func (c *Client) AddPolicy(ctx context.Context, text string) (pando.PolicyID, error) {
	out, err := opAddPolicy.call(ctx, c, addPolicy{text})
	return out.PolicyID, err
}

// Policies returns the policies that the node knows.
func (c *Client) Policies(ctx context.Context) ([]PolicyInfo, error) {
	return opPolicies.call(ctx, c, none{})
}

// Policy returns a policy as a file in JSON.
func (c *Client) Policy(ctx context.Context, id string) (json.RawMessage, error) {
	return opPolicy.call(ctx, c, onePolicy{id})
}

// GrantDocument gives a relation to a document, wherever it is, to somebody. existed is
// whether that was so before.
func (c *Client) GrantDocument(ctx context.Context, docID, relation, who string) (existed bool, err error) {
	if c.author != nil {
		granted, err := c.author.onDocument(docID, who, func(id pando.DocID, who pando.Subject) (bool, error) {
			return c.author.Grant(ctx, id, relation, who)
		})
		return err == nil && !granted, err
	}
	out, err := opAddRelationship.call(ctx, c, relationshipOf(docID, relation, who))
	return out.ExistedAlready, err
}

// RevokeDocument takes it back. found is whether there was something to take.
func (c *Client) RevokeDocument(ctx context.Context, docID, relation, who string) (found bool, err error) {
	if c.author != nil {
		return c.author.onDocument(docID, who, func(id pando.DocID, who pando.Subject) (bool, error) {
			return c.author.Revoke(ctx, id, relation, who)
		})
	}
	out, err := opDropRelationship.call(ctx, c, relationshipOf(docID, relation, who))
	return out.RecordFound, err
}

func relationshipOf(docID, relation, who string) (in documentRelationship) {
	in.Body.DocID, in.Body.Relationship = docID, Relationship{relation, who}
	return in
}

// DocumentAccess returns who may do what with a document.
func (c *Client) DocumentAccess(ctx context.Context, docID string) (DocumentAccess, error) {
	return opRelationships.call(ctx, c, documentAsked{DocID: docID})
}

// Allowed reports whether somebody may do what a permission says with a document; ""
// is the client itself.
func (c *Client) Allowed(ctx context.Context, docID, permission string, who pando.DID) (bool, error) {
	out, err := opAllowed.call(ctx, c, documentAllowed{DocID: docID, Permission: permission, Actor: string(who)})
	return out.Allowed, err
}

// TransferDocument makes somebody else the owner of a document.
func (c *Client) TransferDocument(ctx context.Context, docID string, to pando.DID) error {
	if c.author != nil {
		id, err := document(docID)
		if err != nil {
			return err
		}
		return c.author.Transfer(ctx, id, to)
	}
	var in documentTransfer
	in.Body.DocID, in.Body.TargetActor = docID, to
	_, err := opTransfer.call(ctx, c, in)
	return err
}

// AcceptCommits lets commits count that do not, all that are pending if none is named,
// and returns how many. A client that signs by itself has to name them.
func (c *Client) AcceptCommits(ctx context.Context, docID string, commits ...string) (int, error) {
	if c.author != nil {
		return c.author.acceptNamed(ctx, docID, commits)
	}
	var in documentAccept
	in.Body.DocID, in.Body.Commits = docID, commits
	out, err := opAccept.call(ctx, c, in)
	return out.Accepted, err
}
