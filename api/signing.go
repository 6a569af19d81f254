package api

import (
	"context"
	"encoding/json"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Prepared is what a mutation would answer, and the commits that it takes.
type Prepared struct {
	Answer  json.RawMessage `json:"answer"` // as of POST /graphql
	Commits []DraftCommit   `json:"commits"`
}

// DraftCommit is a commit to be signed.
type DraftCommit struct {
	Collection string   `json:"collection"` // its ID
	Header     []byte   `json:"header"`
	Payload    [][]byte `json:"payload"`
}

// SignedCommit is a commit that is signed.
type SignedCommit struct {
	Collection string `json:"collection"`
	Envelope   []byte `json:"envelope"`
}

// Submitted are the CIDs of commits that are on disk.
type Submitted struct {
	Commits []string `json:"commits"`
}

// Definition is a version of a collection in the form whose hash is its VersionID.
type Definition struct {
	VersionID  string `json:"versionID"`
	Definition []byte `json:"definition"`
}

type prepareRequest struct {
	Body Request `body:"json"`
}

type submitRequest struct {
	Body struct {
		Commits    []SignedCommit `json:"commits"`
		Concurrent bool           `json:"concurrent"`
	} `body:"json"`
}

type definitionRequest struct {
	Name string `path:"name"`
}

var (
	opPrepare    = op[prepareRequest, Prepared]{"POST /commits/prepare", data, (*Server).prepare}
	opSubmit     = op[submitRequest, Submitted]{"POST /commits/submit", data, (*Server).submit}
	opDefinition = op[definitionRequest, Definition]{"GET /collections/{name}/definition", catalog, (*Server).definition}
)

// signer returns who prepares and submits: somebody who has proved an identity.
func signer(ctx context.Context) (pando.DID, error) {
	did := requesterOf(ctx).did
	if did == "" {
		return "", fault.Denied.Errorf("who signs has to say who it is: connect over libp2p with its key, or send a token")
	}
	return did, nil
}

func (s *Server) prepare(ctx context.Context, in prepareRequest) (Prepared, error) {
	who, err := signer(ctx)
	if err != nil {
		return Prepared{}, err
	}
	r := in.Body
	if string(r.Variables) == "null" {
		r.Variables = nil
	}
	result, drafts := s.db.Prepare(ctx, who, pando.Request{Query: r.Query, Variables: r.Variables, OperationName: r.OperationName, Explain: r.Explain})
	p := Prepared{Answer: result.AppendJSON(nil), Commits: []DraftCommit{}}
	for _, d := range drafts {
		p.Commits = append(p.Commits, DraftCommit{d.Collection.String(), d.Header, d.Payload})
	}
	return p, nil
}

func (s *Server) submit(ctx context.Context, in submitRequest) (Submitted, error) {
	who, err := signer(ctx)
	if err != nil {
		return Submitted{}, err
	}
	var commits []pando.SignedCommit
	for _, c := range in.Body.Commits {
		id, err := dag.ParseCollectionID(c.Collection)
		if err != nil {
			return Submitted{}, err
		}
		commits = append(commits, pando.SignedCommit{Collection: id, Envelope: c.Envelope})
	}
	cids, err := s.db.Submit(ctx, who, commits, pando.SubmitOptions{Concurrent: in.Body.Concurrent})
	done := Submitted{Commits: []string{}}
	for _, cid := range cids {
		done.Commits = append(done.Commits, cid.String())
	}
	return done, err
}

func (s *Server) definition(_ context.Context, in definitionRequest) (Definition, error) {
	used, err := s.db.Collection(in.Name)
	if err != nil {
		return Definition{}, err
	}
	for _, c := range s.db.Versions() {
		if c.Version == used.Version {
			return Definition{c.Version.String(), c.Encode()}, nil
		}
	}
	return Definition{}, fault.NotFound.Errorf("collection %q has no definition: it is a view", in.Name)
}
