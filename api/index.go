package api

import (
	"context"

	"github.com/pandodb/pando"
)

// Index describes an index of a collection.
type Index struct {
	Name   string
	ID     uint32
	Fields []IndexField
	Unique bool
	// Automatic is the index that a relation has by itself.
	Automatic bool `json:",omitempty"`
	Ready     bool // queries use it
}

// IndexField is one column of an index.
type IndexField struct {
	Name       string
	Descending bool
}

// NewIndex says which index to create; without a name it gets one.
type NewIndex struct {
	Name   string
	Fields []IndexField
	Unique bool
}

type createIndex struct {
	Collection string   `path:"name"`
	Wait       bool     `query:"wait"`
	Index      NewIndex `body:"json"`
}

type indexesOf struct {
	Collection string `path:"name"`
}

type dropIndex struct {
	Collection string `path:"name"`
	Index      string `path:"index"`
}

var (
	opCreateIndex = op[createIndex, Index]{"POST /collections/{name}/indexes", admin, (*Server).createIndex}
	opIndexes     = op[indexesOf, []Index]{"GET /collections/{name}/indexes", catalog, (*Server).indexes}
	opAllIndexes  = op[none, map[string][]Index]{"GET /collections/indexes", catalog, (*Server).allIndexes}
	opDropIndex   = op[dropIndex, none]{"DELETE /collections/{name}/indexes/{index}", admin, (*Server).dropIndex}
)

func (s *Server) createIndex(ctx context.Context, in createIndex) (Index, error) {
	ix := pando.Index{Name: in.Index.Name, Unique: in.Index.Unique}
	for _, f := range in.Index.Fields {
		ix.Fields = append(ix.Fields, pando.IndexField(f))
	}
	made, err := s.as(ctx).CreateIndex(ctx, in.Collection, ix) // of documents that he may not read an error says nothing
	if err == nil && in.Wait {
		err = s.db.AwaitIndex(ctx, in.Collection, made.Name)
	}
	if err != nil {
		return Index{}, err
	}
	return shownIndex(pando.IndexState{Index: made, Ready: in.Wait || made.Unique}), nil
}

func (s *Server) indexes(_ context.Context, in indexesOf) ([]Index, error) {
	found, err := s.db.Indexes(in.Collection)
	all := []Index{}
	for _, ix := range found {
		all = append(all, shownIndex(ix))
	}
	return all, err
}

func (s *Server) allIndexes(ctx context.Context, _ none) (map[string][]Index, error) {
	all := map[string][]Index{}
	for _, c := range s.db.Collections() {
		found, err := s.indexes(ctx, indexesOf{c.Name})
		if err != nil {
			return nil, err
		}
		all[c.Name] = found
	}
	return all, nil
}

func (s *Server) dropIndex(ctx context.Context, in dropIndex) (none, error) {
	return none{}, s.db.DropIndex(ctx, in.Collection, in.Index)
}

func shownIndex(ix pando.IndexState) Index {
	shown := Index{Name: ix.Name, ID: ix.ID, Fields: []IndexField{}, Unique: ix.Unique, Automatic: ix.Automatic, Ready: ix.Ready}
	for _, f := range ix.Fields {
		shown.Fields = append(shown.Fields, IndexField(f))
	}
	return shown
}

// CreateIndex adds an index to a collection, and if wait is set returns when queries
// use it.
func (c *Client) CreateIndex(ctx context.Context, collection string, ix NewIndex, wait bool) (Index, error) {
	return opCreateIndex.call(ctx, c, createIndex{collection, wait, ix})
}

// Indexes returns the indexes of a collection.
func (c *Client) Indexes(ctx context.Context, collection string) ([]Index, error) {
	return opIndexes.call(ctx, c, indexesOf{collection})
}

// AllIndexes returns the indexes of every collection, by its name.
func (c *Client) AllIndexes(ctx context.Context) (map[string][]Index, error) {
	return opAllIndexes.call(ctx, c, none{})
}

// DropIndex removes an index of a collection.
func (c *Client) DropIndex(ctx context.Context, collection, name string) error {
	_, err := opDropIndex.call(ctx, c, dropIndex{collection, name})
	return err
}
