package schema

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// ViewSource is what a view is made of, as somebody wrote it.
type ViewSource struct {
	// Query is the inside of a query: one root field with its selection.
	Query string
	// SDL declares the rows: one type, and an interface for each type of embedded
	// objects. Fields have the response keys of the query; those that the query
	// lacks are null, and what else it answers is left out.
	SDL string
	// Transform are modules that the rows pass through.
	Transform *Transform `json:",omitempty"`
}

// Transform is a pipeline of modules.
type Transform struct{ Lenses []Lens }

// Lens is one module of a pipeline.
type Lens struct {
	Path      string
	Inverse   bool            `json:",omitempty"`
	Arguments json.RawMessage `json:",omitempty"`
}

// View says where the rows of a view come from.
type View struct {
	ViewSource
	Materialized bool        // rows are stored, and stay as they are until a refresh
	Embedded     []*Embedded // the types of embedded objects, by name
}

// Embedded is a type of objects that exist only inside the rows of a view.
type Embedded struct {
	Name   string
	Fields []Field // sorted by name; their numbers mean nothing
}

// Limits of a view.
const (
	// maxViewText bounds query and SDL: both are read again at every start.
	maxViewText = 256 << 10
	maxEmbedded = 100
	viewDomain  = "pando/1 view\n"
)

// ParseView makes the collection that a view is. Its fields are numbered in the
// order of their names. That the query yields what the fields hold is for package
// query to say.
func ParseView(src ViewSource) (*Collection, error) {
	if strings.TrimSpace(src.Query) == "" {
		return nil, fault.Invalid.Errorf("No query provided: write what the view shows, such as Book { title }")
	}
	if n := len(src.Query) + len(src.SDL); n > maxViewText {
		return nil, fault.TooLarge.Errorf("query and SDL of the view have %d bytes, more than %d: make it two views", n, maxViewText)
	}
	doc, err := parseText(src.SDL)
	if err != nil {
		return nil, err
	}
	p := &viewParser{view: &View{ViewSource: src}, defs: map[string]*ast.Definition{}, types: map[string]*Embedded{}}
	root, err := p.definitions(doc)
	if err != nil {
		return nil, err
	}
	c := &Collection{Name: root.Name, View: p.view}
	if c.Fields, err = p.fields(root); err != nil {
		return nil, err
	}
	if len(c.Fields) == 0 {
		return nil, errorAt(root.Position, "type %s has no fields: a view shows nothing without", root.Name)
	}
	for i := range c.Fields {
		c.Fields[i].ID = crdt.FirstField + crdt.FieldID(i)
	}
	p.view.Materialized = materialized(root)
	c.Version = c.viewDigest()
	c.ID = dag.CollectionID(c.Version)
	c.lookUp()
	return c, nil
}

// viewDigest names the view on this node: its definition as it was written.
func (c *Collection) viewDigest() dag.Digest {
	src, _ := json.Marshal(c.View.ViewSource) // texts alone
	h := sha256.New()
	h.Write([]byte(viewDomain))
	h.Write(src)
	return dag.Digest(h.Sum(nil))
}

type viewParser struct {
	view  *View
	defs  map[string]*ast.Definition // the interfaces
	types map[string]*Embedded
}

// definitions finds the root type, and makes the embedded types.
func (p *viewParser) definitions(doc *ast.SchemaDocument) (root *ast.Definition, err error) {
	for _, def := range doc.Definitions {
		if err := checkTypeName(def.Name); err != nil {
			return nil, atPos(def.Position, err)
		}
		switch {
		case def.Kind == ast.Object && root != nil:
			return nil, errorAt(def.Position, "a view has one type, and there are %s and %s: declare embedded objects as interface", root.Name, def.Name)
		case def.Kind == ast.Object:
			root = def
		case def.Kind != ast.Interface:
			return nil, errorAt(def.Position, "%s: a view is declared by one type and by interfaces for embedded objects: leave it out", def.Name)
		case len(p.defs) == maxEmbedded:
			return nil, atPos(def.Position, fault.TooLarge.Errorf("more than %d interfaces", maxEmbedded))
		default:
			p.defs[def.Name] = def
			p.types[def.Name] = &Embedded{Name: def.Name}
		}
		if err := checkViewDirectives(def); err != nil {
			return nil, err
		}
	}
	if root == nil {
		return nil, fault.Invalid.Errorf("schema: a view is declared by one type, and there is none: write type NAME { … }")
	}
	if p.defs[root.Name] != nil {
		return nil, errorAt(root.Position, "%s is declared twice: rename the interface", root.Name)
	}
	for name, e := range p.types {
		if e.Fields, err = p.fields(p.defs[name]); err != nil {
			return nil, err
		}
		if len(e.Fields) == 0 {
			return nil, errorAt(p.defs[name].Position, "interface %s has no fields", name)
		}
		p.view.Embedded = append(p.view.Embedded, e)
	}
	slices.SortFunc(p.view.Embedded, func(a, b *Embedded) int { return strings.Compare(a.Name, b.Name) })
	return root, checkViewNames(root.Name, p.view.Embedded)
}

// checkViewNames refuses types whose names are generated for each other.
func checkViewNames(root string, es []*Embedded) error {
	names := []string{root}
	for _, e := range es {
		names = append(names, e.Name)
	}
	return CheckTogether(names)
}

// checkViewDirectives refuses directives that would promise something. Those
// about how documents are written have no effect here, and may stand.
func checkViewDirectives(def *ast.Definition) error {
	if err := checkDirectives(def.Directives, onType); err != nil {
		return err
	}
	lists := []ast.DirectiveList{def.Directives}
	for _, f := range def.Fields {
		if err := checkDirectives(f.Directives, onField); err != nil {
			return err
		}
		lists = append(lists, f.Directives)
	}
	for _, dir := range slices.Concat(lists...) {
		switch dir.Name {
		case "policy":
			return errorAt(dir.Position, "materialized views do not support ACP. Collection: %s: remove @policy; what the view reads keeps its own", def.Name)
		case "sync":
			return errorAt(dir.Position, "@sync on %s: a view is computed on each node and does not travel: remove it", def.Name)
		case "index", "docID", "branchable":
			return errorAt(dir.Position, "@%s on %s: rows of a view have neither docIDs nor indexes: remove it", dir.Name, def.Name)
		}
	}
	return nil
}

// materialized reads @materialized: several are or-combined, and none means yes.
func materialized(def *ast.Definition) bool {
	dirs := def.Directives.ForNames("materialized")
	for _, dir := range dirs {
		if v := argument(dir, "if"); v == nil || v.Raw == "true" {
			return true
		}
	}
	return len(dirs) == 0
}

func (p *viewParser) fields(def *ast.Definition) ([]Field, error) {
	if len(def.Fields) > MaxFields {
		return nil, atPos(def.Position, fault.TooLarge.Errorf("type %s has %d fields, more than %d: split it", def.Name, len(def.Fields), MaxFields))
	}
	var fs []Field
	for _, d := range def.Fields {
		if err := checkFieldName(d.Name); err != nil {
			return nil, atPos(d.Position, err)
		}
		if slices.ContainsFunc(fs, func(f Field) bool { return f.Name == d.Name }) {
			return nil, errorAt(d.Position, "duplicate field. Name: %s: remove one", d.Name)
		}
		f := Field{Name: d.Name, Rule: crdt.LWW}
		if err := p.setType(&f, d); err != nil {
			return nil, err
		}
		fs = append(fs, f)
	}
	slices.SortFunc(fs, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	return fs, nil
}

func (p *viewParser) setType(f *Field, def *ast.FieldDefinition) error {
	elem := def.Type
	if elem.Elem != nil {
		elem = elem.Elem
	}
	switch e := p.types[elem.NamedType]; {
	case elem.Elem != nil:
		return errorAt(def.Position, "field %q: lists of lists do not exist: use JSON for %.80s", f.Name, def.Type)
	case def.Type.NonNull:
		return errorAt(def.Position, "field %q: whatever a view shows can be null: remove the !", f.Name)
	case e != nil:
		f.Type, f.Embedded, f.EmbeddedList = value.TypeJSON, e, def.Type.Elem != nil
		return nil
	}
	t, err := value.ParseType(def.Type.String())
	if err != nil || !validType(t) {
		hint := didYouMean(elem.NamedType, slices.Concat(p.names(), scalarNames))
		return errorAt(def.Position, "no type found for given name. Field: %s, Kind: %s: declare an interface for objects, or use a scalar: %s", f.Name, def.Type, hint)
	}
	f.Type = t
	return nil
}

func (p *viewParser) names() []string {
	var names []string
	for name := range p.types {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// embeddedName is the type of a field with embedded objects, as SDL spells it.
func (f *Field) embeddedName() string {
	if f.EmbeddedList {
		return "[" + f.Embedded.Name + "]"
	}
	return f.Embedded.Name
}

// Row returns a row of the view: vals in the order of Fields, each of its field's
// type. The bytes are appended to b.
func (c *Collection) Row(b []byte, vals []value.Value) crdt.Document {
	var few [16]crdt.FieldID
	var fewKinds [16]crdt.Kind
	fields, kinds := few[:0], fewKinds[:0]
	for i := range c.Fields {
		fields = append(fields, c.Fields[i].ID)
		kinds = append(kinds, c.Fields[i].Kind())
	}
	return crdt.Row(b, fields, kinds, vals)
}

// isView reports whether a name belongs to a view.
func (s *submission) isView(name string) bool {
	c := s.existing[name]
	return c != nil && c.View != nil
}

// Names returns the names that the collection takes: its own, and those of
// embedded types.
func (c *Collection) Names() []string {
	names := []string{c.Name}
	if c.View != nil {
		for _, e := range c.View.Embedded {
			names = append(names, e.Name)
		}
	}
	return names
}

// viewDescription is what a description says of a view beside the rest.
type viewQuery struct {
	Query     string
	Transform *Transform
}

// describeView returns the description of a view.
func (c *Collection) describeView() ([]byte, error) {
	d := struct {
		description
		Sources []viewQuery
		SDL     string
	}{
		description: description{
			Name: c.Name, VersionID: c.Version.String(), CollectionID: c.ID.String(),
			Indexes: []Index{}, VectorEmbeddings: []struct{}{}, Fields: []fieldDescription{},
			IsActive: true, IsMaterialized: c.View.Materialized,
		},
		Sources: []viewQuery{{c.View.Query, c.View.Transform}},
		SDL:     c.View.SDL,
	}
	for i := range c.Fields {
		fd := c.Fields[i].describe()[0]
		if e := c.Fields[i].Embedded; e != nil {
			fd.Kind = relationKind{c.Fields[i].EmbeddedList, e.Name}
		}
		d.Fields = append(d.Fields, fd)
	}
	return json.Marshal(d)
}
