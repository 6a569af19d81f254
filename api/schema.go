package api

import (
	"context"
	"encoding/json"

	"github.com/pandodb/pando"
)

// Collection describes one version of a collection, as far as a client that is not
// generated needs it; the node sends more.
type Collection struct {
	Name         string
	VersionID    string
	CollectionID string
	Fields       []struct{ Name string }
}

// CollectionInfo is one collection with its description and its schema.
type CollectionInfo struct {
	Version Collection `json:"version"`
}

// described is how the node sends a CollectionInfo.
type described struct {
	Version *pando.Collection `json:"version"`
	Schema  json.RawMessage   `json:"schema"`
}

type addSchema struct {
	SDL string `body:"text"`
}

type findSchemas struct {
	Name      string `query:"name"`
	Root      string `query:"root"`
	VersionID string `query:"version_id"`
}

type findCollections struct {
	Name         string `query:"name"`
	VersionID    string `query:"version_id"`
	CollectionID string `query:"collection_id"`
	Inactive     bool   `query:"get_inactive"`
}

var (
	opAddSchema   = op[addSchema, json.RawMessage]{"POST /schema", (*Server).addSchema}
	opSchemas     = op[findSchemas, []json.RawMessage]{"GET /schema", (*Server).schemas}
	opCollections = op[findCollections, json.RawMessage]{"GET /collections", (*Server).collections}
)

func (s *Server) addSchema(ctx context.Context, in addSchema) (json.RawMessage, error) {
	added, err := s.db.AddSchema(ctx, in.SDL)
	if err != nil {
		return nil, err
	}
	if added == nil {
		return json.RawMessage("[]"), nil
	}
	return json.Marshal(added)
}

func (s *Server) schemas(_ context.Context, in findSchemas) ([]json.RawMessage, error) {
	found := []json.RawMessage{}
	for _, c := range s.db.Collections() {
		if fits(in.Name, c.Name) && fits(in.Root, c.ID.String()) && fits(in.VersionID, c.Version.String()) {
			found = append(found, c.SchemaJSON())
		}
	}
	return found, nil
}

func (s *Server) collections(_ context.Context, in findCollections) (json.RawMessage, error) {
	found := []described{}
	for _, c := range append(s.db.Collections(), s.db.Views()...) {
		if fits(in.Name, c.Name) && fits(in.CollectionID, c.ID.String()) && fits(in.VersionID, c.Version.String()) {
			found = append(found, described{c, c.SchemaJSON()})
		}
	}
	return json.Marshal(found)
}

// fits reports whether a parameter, if it was given, names this.
func fits(wanted, name string) bool { return wanted == "" || wanted == name }

// AddSchema adds the collections that the GraphQL types of sdl describe, all or
// none, and returns them.
func (c *Client) AddSchema(ctx context.Context, sdl string) ([]Collection, error) {
	raw, err := opAddSchema.call(ctx, c, addSchema{sdl})
	if err != nil {
		return nil, err
	}
	var added []Collection
	return added, json.Unmarshal(raw, &added)
}

// Collections returns the collections of the node, by name.
func (c *Client) Collections(ctx context.Context) ([]CollectionInfo, error) {
	raw, err := opCollections.call(ctx, c, findCollections{})
	if err != nil {
		return nil, err
	}
	var found []CollectionInfo
	return found, json.Unmarshal(raw, &found)
}
