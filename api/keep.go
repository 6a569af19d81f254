package api

import (
	"context"
	"slices"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Kept is what a node keeps of a collection.
type Kept struct {
	Collection string   `json:"collection"`
	Kept       string   `json:"kept"` // whole, part or none
	Filter     string   `json:"filter,omitempty"`
	Documents  []string `json:"documents,omitempty"` // that are kept whatever they hold
	// From and AsOf are the peer that has the whole, and when the node last had all of what it
	// keeps, by comparison with that; no AsOf: there was none.
	From string     `json:"from,omitempty"`
	AsOf *time.Time `json:"asOf,omitempty"`
	// Incomplete is whether the node was never known to have all of it: it is still copied,
	// since then, and From is the peer from which it came first, if there is one.
	Incomplete bool       `json:"incomplete,omitempty"`
	Since      *time.Time `json:"since,omitempty"`
}

// Part says which documents of a collection are meant: all, none, those that meet a
// filter, those that are named, or both.
type Part struct {
	All       bool     `json:"all,omitempty"`
	None      bool     `json:"none,omitempty"`
	Filter    string   `json:"filter,omitempty"`    // an object as in the argument filter of a query
	Documents []string `json:"documents,omitempty"` // docIDs
}

// scope returns the part as the node knows it; ok is false if nothing is said.
func (p Part) scope() (s pando.Scope, ok bool, err error) {
	some := p.Filter != "" || len(p.Documents) > 0
	switch {
	case p.All && (p.None || some), p.None && some:
		return s, false, fault.Invalid.Errorf("what to keep: say one of all, none, or a filter and documents")
	case p.All:
		return pando.Whole, true, nil
	}
	s.Filter = p.Filter
	s.Docs, err = docIDs(p.Documents)
	return s, p.None || some, err
}

func docIDs(texts []string) ([]pando.DocID, error) {
	var ids []pando.DocID
	for _, text := range texts {
		id, err := dag.ParseDocID(text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

type keepRequest struct {
	Body struct {
		Collection string `json:"collection"`
		Part
	} `body:"json"`
}

type docsRequest struct {
	Collection string   `query:"collection"` // of documents that are not here yet
	Docs       []string `body:"json"`
}

var (
	opKept       = op[none, []Kept]{"GET /p2p/keep", observe, (*Server).kept}
	opKeep       = op[keepRequest, none]{"POST /p2p/keep", admin, (*Server).keep}
	opDocs       = op[none, []string]{"GET /p2p/documents", observe, (*Server).docs}
	opAddDocs    = op[docsRequest, none]{"POST /p2p/documents", admin, (*Server).addDocs}
	opRemoveDocs = op[docsRequest, none]{"DELETE /p2p/documents", admin, (*Server).removeDocs}
)

// kept needs no network: what the node keeps is worth knowing without one.
func (s *Server) kept(context.Context, none) ([]Kept, error) {
	all := []Kept{}
	for _, c := range s.db.Coverage() {
		all = append(all, keptOf(c))
	}
	return all, nil
}

func keptOf(c pando.Coverage) Kept {
	k := Kept{Collection: c.Name, Kept: c.Scope.Kind(), Filter: c.Scope.Filter, From: c.From}
	for _, d := range c.Scope.Docs {
		k.Documents = append(k.Documents, d.String())
	}
	if c.Complete() {
		at := c.AsOf.UTC()
		k.AsOf = &at
	}
	k.Incomplete, k.Since = incomplete(c)
	return k
}

// incomplete tells whether, and since when, a collection is still copied.
func incomplete(c pando.Coverage) (bool, *time.Time) {
	if !c.Incomplete() || c.Scope.None() {
		return false, nil
	}
	if c.Since.IsZero() {
		return true, nil
	}
	since := c.Since.UTC()
	return true, &since
}

func (s *Server) keep(ctx context.Context, in keepRequest) (none, error) {
	n, err := s.network()
	if err != nil {
		return none{}, err
	}
	if in.Body.Collection == "" {
		return none{}, fault.Invalid.Errorf("body: it names no collection, want {\"collection\": …} and what to keep of it")
	}
	scope, ok, err := in.Body.scope()
	if err == nil && !ok {
		err = fault.Invalid.Errorf("what to keep of %s: say one of all, none, or a filter and documents", in.Body.Collection)
	}
	if err != nil {
		return none{}, err
	}
	return none{}, n.Keep(ctx, in.Body.Collection, scope)
}

// topics lists the collections that are kept whole, in sync with those peers that hold
// their secret.
func (s *Server) topics(context.Context, none) ([]string, error) {
	if _, err := s.network(); err != nil {
		return nil, err
	}
	all := []string{}
	for _, c := range s.db.Coverage() {
		if c.Scope.Whole {
			all = append(all, c.Name)
		}
	}
	return all, nil
}

func (s *Server) addTopics(ctx context.Context, in names) (none, error) {
	return none{}, s.keepAll(ctx, in.Names, pando.Whole)
}

func (s *Server) removeTopics(ctx context.Context, in names) (none, error) {
	return none{}, s.keepAll(ctx, in.Names, pando.Scope{})
}

// keepAll changes what is kept of some collections, or of none if one of them is unknown.
func (s *Server) keepAll(ctx context.Context, names []string, scope pando.Scope) error {
	n, err := s.network()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := s.db.Collection(name); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := n.Keep(ctx, name, scope); err != nil {
			return err
		}
	}
	return nil
}

// docs lists the documents that are kept one by one.
func (s *Server) docs(context.Context, none) ([]string, error) {
	if _, err := s.network(); err != nil {
		return nil, err
	}
	all := []string{}
	for _, c := range s.db.Coverage() {
		all = append(all, keptOf(c).Documents...)
	}
	slices.Sort(all)
	return all, nil
}

func (s *Server) addDocs(ctx context.Context, in docsRequest) (none, error) {
	return none{}, s.changeDocs(ctx, in, func(name string, ids []pando.DocID) error {
		return s.node.KeepDocs(ctx, name, ids, nil)
	})
}

func (s *Server) removeDocs(ctx context.Context, in docsRequest) (none, error) {
	return none{}, s.changeDocs(ctx, in, func(name string, ids []pando.DocID) error {
		return s.node.KeepDocs(ctx, name, nil, ids)
	})
}

// changeDocs does something with documents, by their collections.
func (s *Server) changeDocs(ctx context.Context, in docsRequest, do func(name string, ids []pando.DocID) error) error {
	if _, err := s.network(); err != nil {
		return err
	}
	ids, err := docIDs(in.Docs)
	if err != nil {
		return err
	}
	byName := map[string][]pando.DocID{}
	for _, id := range ids {
		name := in.Collection
		if name == "" {
			if name, err = s.collectionOf(ctx, id); err != nil {
				return err
			}
		}
		byName[name] = append(byName[name], id)
	}
	for name, ids := range byName {
		if err := do(name, ids); err != nil {
			return err
		}
	}
	return nil
}

// collectionOf finds the collection of a document that is here, or kept.
func (s *Server) collectionOf(ctx context.Context, id pando.DocID) (string, error) {
	for _, c := range s.db.Coverage() {
		if slices.Contains(c.Scope.Docs, id) {
			return c.Name, nil
		}
		heads, err := s.db.Replica().Heads(ctx, c.Collection, id)
		if err != nil {
			return "", err
		}
		if len(heads) > 0 {
			return c.Name, nil
		}
	}
	return "", fault.NotFound.Errorf("document %s is not here, so its collection is not known: name it, by ?collection=NAME", id)
}

// Kept returns what the node keeps of each collection.
func (c *Client) Kept(ctx context.Context) ([]Kept, error) { return opKept.call(ctx, c, none{}) }

// Keep says what the node keeps of a collection from now on.
func (c *Client) Keep(ctx context.Context, collection string, part Part) error {
	var in keepRequest
	in.Body.Collection, in.Body.Part = collection, part
	_, err := opKeep.call(ctx, c, in)
	return err
}
