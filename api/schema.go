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
	Policy       *struct{ ID, ResourceName string }
	IsActive     bool
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

type patchSchema struct {
	Body SchemaPatch `body:"json"`
}

// SchemaPatch is the body of PATCH /schema.
type SchemaPatch struct {
	// Patch is a JSON Patch, or a string that holds one.
	Patch               json.RawMessage
	SetAsDefaultVersion bool
	Migration           *SchemaMigration `json:",omitempty"`
}

// SchemaMigration says how both versions show the same thing.
type SchemaMigration struct {
	Rules []pando.Migration `json:",omitempty"`
	// Lenses are WASM modules, for what no rule can express; the modules go with the
	// request. Fields are those that they make, if not all that are new.
	Lenses []pando.Lens `json:",omitempty"`
	Fields []string     `json:",omitempty"`
}

type addLens struct {
	Body LensMigration `body:"json"`
}

// LensMigration is the body of POST /lens: the modules that the destination names,
// which follows the source.
type LensMigration struct {
	SourceSchemaVersionID      string
	DestinationSchemaVersionID string
	Lenses                     []pando.Lens
}

type activateVersion struct {
	Version string `body:"text"`
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
	opAddSchema   = op[addSchema, json.RawMessage]{"POST /schema", admin, (*Server).addSchema}
	opSchemas     = op[findSchemas, []json.RawMessage]{"GET /schema", catalog, (*Server).schemas}
	opPatchSchema = op[patchSchema, json.RawMessage]{"PATCH /schema", admin, (*Server).patchSchema}
	opActivate    = op[activateVersion, json.RawMessage]{"POST /schema/default", admin, (*Server).activate}
	opAddLens     = op[addLens, none]{"POST /lens", admin, (*Server).addLens}
	opCollections = op[findCollections, json.RawMessage]{"GET /collections", catalog, (*Server).collections}
)

func (s *Server) addSchema(ctx context.Context, in addSchema) (json.RawMessage, error) {
	added, err := s.db.AddSchema(ctx, in.SDL)
	if err != nil {
		return nil, err
	}
	return describeAll(added)
}

// describeAll marshals on its own: the answer is an array even of nothing.
func describeAll(cs []*pando.Collection) (json.RawMessage, error) {
	if cs == nil {
		return json.RawMessage("[]"), nil
	}
	return json.Marshal(cs)
}

func (s *Server) patchSchema(ctx context.Context, in patchSchema) (json.RawMessage, error) {
	p := pando.SchemaPatch{Patch: string(in.Body.Patch), Activate: in.Body.SetAsDefaultVersion}
	var text string
	if json.Unmarshal(in.Body.Patch, &text) == nil { // the dialect puts the text into a string
		p.Patch = text
	}
	if m := in.Body.Migration; m != nil {
		p.Migration, p.LensFields = m.Rules, m.Fields
		if len(m.Lenses) > 0 {
			p.Lenses = &pando.Transform{Lenses: m.Lenses}
		}
	}
	made, err := s.db.PatchSchema(ctx, p)
	if err != nil {
		return nil, err
	}
	return describeAll(made)
}

func (s *Server) addLens(ctx context.Context, in addLens) (none, error) {
	m := in.Body
	return none{}, s.db.AddLens(ctx, m.SourceSchemaVersionID, m.DestinationSchemaVersionID, &pando.Transform{Lenses: m.Lenses})
}

func (s *Server) activate(ctx context.Context, in activateVersion) (json.RawMessage, error) {
	c, err := s.db.ActivateVersion(ctx, in.Version)
	if err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

func (s *Server) schemas(_ context.Context, in findSchemas) ([]json.RawMessage, error) {
	found := []json.RawMessage{}
	for _, c := range s.db.Versions() {
		if fits(in.Name, c.Name) && fits(in.Root, c.ID.String()) && fits(in.VersionID, c.Version.String()) {
			found = append(found, c.SchemaJSON())
		}
	}
	return found, nil
}

func (s *Server) collections(_ context.Context, in findCollections) (json.RawMessage, error) {
	found := []described{}
	from := s.db.Collections()
	if in.Inactive || in.VersionID != "" {
		from = s.db.Versions()
	}
	for _, c := range append(from, s.db.Views()...) {
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

// PatchSchema makes new versions of collections and returns them.
func (c *Client) PatchSchema(ctx context.Context, p SchemaPatch) ([]Collection, error) {
	raw, err := opPatchSchema.call(ctx, c, patchSchema{p})
	if err != nil {
		return nil, err
	}
	var made []Collection
	return made, json.Unmarshal(raw, &made)
}

// AddLens brings the modules between two versions that the node lacks.
func (c *Client) AddLens(ctx context.Context, m LensMigration) error {
	_, err := opAddLens.call(ctx, c, addLens{m})
	return err
}

// ActivateVersion makes a version the one that the node uses.
func (c *Client) ActivateVersion(ctx context.Context, version string) (Collection, error) {
	var used Collection
	raw, err := opActivate.call(ctx, c, activateVersion{version})
	if err != nil {
		return used, err
	}
	return used, json.Unmarshal(raw, &used)
}

// Versions returns the versions of a collection, or of all without a name, by name,
// of each the oldest first.
func (c *Client) Versions(ctx context.Context, name string) ([]Collection, error) {
	raw, err := opCollections.call(ctx, c, findCollections{Name: name, Inactive: true})
	if err != nil {
		return nil, err
	}
	var found []CollectionInfo
	if err := json.Unmarshal(raw, &found); err != nil {
		return nil, err
	}
	versions := make([]Collection, len(found))
	for i, one := range found {
		versions[i] = one.Version
	}
	return versions, nil
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
