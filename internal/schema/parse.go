package schema

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/lexer"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// Limits of one submission: text comes from outside, and parsing holds it whole.
const (
	maxSDL    = 1 << 20
	maxTokens = 200_000
	maxTypes  = 1000
)

// Parse makes a collection of every type in sdl, in the order of the text. The
// types may refer to each other, to existing collections, and to policies that are
// known here or that existing collections have. It is all or nothing; an error says
// where in the text it is.
func Parse(sdl string, existing []*Collection, policies ...*acp.Policy) ([]*Collection, error) {
	doc, err := parseText(sdl)
	if err != nil {
		return nil, err
	}
	s := &submission{byName: map[string]*draft{}, existing: make(map[string]*Collection, len(existing)), ends: map[link][]*end{}, policies: policies}
	for _, c := range existing {
		if c.Policy != nil {
			s.policies = append(s.policies, c.Policy.policy)
		}
		s.existing[c.Name] = c
		s.others = append(s.others, c)
		if c.View != nil { // their types have names in the same schema
			for _, e := range c.View.Embedded {
				o := &Collection{Name: e.Name, View: c.View}
				s.existing[e.Name], s.others = o, append(s.others, o)
			}
		}
	}
	slices.SortFunc(s.others, func(a, b *Collection) int { return strings.Compare(a.Name, b.Name) })
	if err := s.declare(doc); err != nil {
		return nil, err
	}
	if err := s.each(s.fields); err != nil {
		return nil, err
	}
	s.collectEnds()
	if err := s.each(s.relations); err != nil {
		return nil, err
	}
	if err := s.each(s.finish); err != nil {
		return nil, err
	}
	cs := make([]*Collection, len(s.drafts))
	for i, d := range s.drafts {
		if cs[i], err = d.seal(); err != nil {
			return nil, err
		}
	}
	return cs, nil
}

// submission is the text being parsed.
type submission struct {
	drafts   []*draft
	byName   map[string]*draft
	existing map[string]*Collection
	others   []*Collection   // the same, by name
	ends     map[link][]*end // a link without a name leads to the ends with @relation
	policies []*acp.Policy   // that @policy can name
}

func (s *submission) each(step func(*draft) error) error {
	for _, d := range s.drafts {
		if err := step(d); err != nil {
			return err
		}
	}
	return nil
}

// draft is one type on its way to a collection.
type draft struct {
	*Collection
	def  *ast.Definition
	defs map[string]*ast.FieldDefinition // of every declared field, id forms included
	ends map[string]*end                 // of the relations, by field
}

// errorAt makes the errors of Parse: where it is comes first.
func errorAt(pos *ast.Position, format string, args ...any) error {
	return fault.Invalid.Errorf("%w", atPos(pos, fmt.Errorf(format, args...)))
}

// atPos puts the place, if there is one, before an error and keeps its kind.
func atPos(pos *ast.Position, err error) error {
	if err == nil || pos == nil {
		return err
	}
	return fmt.Errorf("schema %d:%d: %w", pos.Line, pos.Column, err)
}

func parseText(sdl string) (*ast.SchemaDocument, error) {
	if len(sdl) > maxSDL {
		return nil, fault.TooLarge.Errorf("schema has %d bytes, more than %d: submit it in parts", len(sdl), maxSDL)
	}
	if !utf8.ValidString(sdl) {
		return nil, fault.Invalid.Errorf("schema is not valid UTF-8: save the file as UTF-8")
	}
	text, err := withoutEmptyBodies(sdl)
	if err != nil {
		return nil, syntaxError(err)
	}
	doc, err := parser.ParseSchemasWithLimit(maxTokens, &ast.Source{Input: text})
	if err != nil {
		return nil, syntaxError(err)
	}
	return doc, nil
}

func syntaxError(err error) error {
	var g *gqlerror.Error
	if errors.As(err, &g) && len(g.Locations) > 0 {
		return errorAt(&ast.Position{Line: g.Locations[0].Line, Column: g.Locations[0].Column}, "syntax: %.200s", g.Message)
	}
	return fault.Invalid.Errorf("schema: syntax: %.200s", strings.TrimPrefix(err.Error(), "input: "))
}

// withoutEmptyBodies blanks the braces of "type X {}": the dialect allows them,
// the grammar of the parser only the same without braces. Places stay as they are.
// Errors of the text's tokens end here, because the parser would say less of them.
func withoutEmptyBodies(sdl string) (string, error) {
	lex := lexer.New(&ast.Source{Input: sdl})
	var runes []rune // of sdl once a body was found: tokens know their place in runes
	parens, open := 0, -1
	for range maxTokens {
		tok, err := lex.ReadToken()
		if err != nil {
			return "", unreadable(sdl, tok, err)
		}
		if tok.Kind == lexer.EOF {
			break
		}
		if tok.Kind == lexer.Name && len(tok.Value) > 2*MaxName {
			return "", gqlerror.ErrorLocf("", tok.Pos.Line, tok.Pos.Column, "name of %d bytes: at most %d are allowed", len(tok.Value), MaxName)
		}
		switch tok.Kind {
		case lexer.Comment:
			continue
		case lexer.ParenL:
			parens++
		case lexer.ParenR:
			parens--
		case lexer.BraceL:
			open = tok.Pos.Start
			continue
		case lexer.BraceR:
			if open >= 0 && parens == 0 {
				if runes == nil {
					runes = []rune(sdl)
				}
				runes[open], runes[tok.Pos.Start] = ' ', ' '
			}
		}
		open = -1
	}
	if runes == nil {
		return sdl, nil
	}
	return string(runes), nil
}

// declare takes the names, so that the types can refer to each other whatever
// their order.
func (s *submission) declare(doc *ast.SchemaDocument) error {
	if err := checkDefinitions(doc); err != nil {
		return err
	}
	for _, def := range doc.Definitions {
		if def.Kind == ast.Object {
			if err := s.declareType(def); err != nil {
				return err
			}
		}
	}
	for _, d := range s.drafts {
		if owner, ok := generatedBy(d.Name, s.taken); ok {
			return errorAt(d.def.Position, "schema type already exists. Name: %s is generated for the collection %s: rename one of them", d.Name, owner)
		}
	}
	for _, c := range s.others {
		if owner, ok := generatedBy(c.Name, func(n string) bool { return s.byName[n] != nil }); ok {
			return errorAt(s.byName[owner].def.Position, "schema type already exists. Name: the collection %s has the name of a type generated for %s: rename the type", c.Name, owner)
		}
	}
	return nil
}

// insteadOf says what to do without the definitions that make no collection.
var insteadOf = map[ast.DefinitionKind]string{
	ast.Interface:   "embedded types belong to views: declare a type, or add the interface with the view that uses it",
	ast.Enum:        "there are no enums: leave it out and declare the fields as String",
	ast.Union:       "there are no unions: leave it out, and refer to one type or keep the docID in a field of type ID",
	ast.InputObject: "input types are generated for every collection: leave it out",
	ast.Scalar:      "there are no scalars but " + strings.Join(scalarNames, ", ") + ": leave it out and use one of these",
}

// checkDefinitions refuses definitions that would have no effect. Those of names
// that the language has by itself, and of directives, may stand in a text: editors
// need them.
func checkDefinitions(doc *ast.SchemaDocument) error {
	if len(doc.Extensions) > 0 {
		return errorAt(doc.Extensions[0].Position, "extend %s: write all fields into the type itself", doc.Extensions[0].Name)
	}
	for _, block := range append(doc.Schema, doc.SchemaExtension...) {
		return errorAt(block.Position, "schema: the root types are generated: leave the block out")
	}
	for _, def := range doc.Definitions {
		if hint, ok := insteadOf[def.Kind]; ok && !isBuiltIn(def.Name) {
			return errorAt(def.Position, "%s %s: %s", strings.TrimSuffix(strings.ToLower(string(def.Kind)), "_object"), def.Name, hint)
		}
	}
	for _, dir := range doc.Directives {
		if _, ok := directives[dir.Name]; !ok {
			return errorAt(dir.Position, "directive @%s: there is no such directive: leave its definition out", dir.Name)
		}
	}
	return nil
}

func (s *submission) declareType(def *ast.Definition) error {
	if err := checkTypeName(def.Name); err != nil {
		return atPos(def.Position, err)
	}
	if s.taken(def.Name) {
		return atPos(def.Position, fault.Exists.Errorf("collection already exists. Name: %s: choose another name", def.Name))
	}
	if len(s.drafts) == maxTypes {
		return atPos(def.Position, fault.TooLarge.Errorf("more than %d types: submit them in parts", maxTypes))
	}
	if len(def.Interfaces) > 0 {
		return errorAt(def.Position, "type %s implements %s: collections have no interfaces: repeat the fields in the type", def.Name, def.Interfaces[0])
	}
	if len(def.Fields) > MaxFields {
		return atPos(def.Position, fault.TooLarge.Errorf("type %s has %d fields, more than %d: split it", def.Name, len(def.Fields), MaxFields))
	}
	d := &draft{
		Collection: &Collection{Name: def.Name},
		def:        def,
		defs:       map[string]*ast.FieldDefinition{},
		ends:       map[string]*end{},
	}
	s.drafts = append(s.drafts, d)
	s.byName[def.Name] = d
	return checkDirectives(def.Directives, onType)
}

func (s *submission) taken(name string) bool {
	return s.byName[name] != nil || s.existing[name] != nil
}

func (s *submission) typeNames() []string {
	names := append(slices.Collect(maps.Keys(s.byName)), slices.Collect(maps.Keys(s.existing))...)
	slices.Sort(names)
	return slices.Compact(names) // what a patch changes is in both
}

// fields reads the fields of one type.
func (s *submission) fields(d *draft) error {
	for _, def := range d.def.Fields {
		if err := checkFieldName(def.Name); err != nil {
			return atPos(def.Position, err)
		}
		if len(def.Arguments) > 0 {
			return errorAt(def.Position, "field %s has arguments: fields of documents are stored, not computed: leave them out", def.Name)
		}
		if d.defs[def.Name] != nil {
			return errorAt(def.Position, "duplicate field. Name: %s: remove one", def.Name)
		}
		if err := checkDirectives(def.Directives, onField); err != nil {
			return err
		}
		d.defs[def.Name] = def
	}
	for _, def := range d.def.Fields {
		if relation, ok := s.idForm(d, def); ok {
			if err := checkIDForm(relation, def); err != nil {
				return err
			}
			continue // it says once more what the relation says
		}
		f, err := s.field(d, def)
		if err != nil {
			return err
		}
		d.Fields = append(d.Fields, f)
	}
	slices.SortFunc(d.Fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// idForm reports whether def declares the docID that a single relation of the
// same type stores, as author_id does for author.
func (s *submission) idForm(d *draft, def *ast.FieldDefinition) (relation string, ok bool) {
	relation, ok = strings.CutSuffix(def.Name, "_id")
	if !ok {
		return "", false
	}
	single := d.defs[relation]
	return relation, single != nil && single.Type.Elem == nil && s.taken(single.Type.NamedType)
}

func checkIDForm(relation string, def *ast.FieldDefinition) error {
	if def.Type.String() != "ID" {
		return errorAt(def.Position, "relational id field of invalid kind. Field: %s, Expected: ID, Actual: %s: it holds the docID of %s", def.Name, def.Type, relation)
	}
	for _, dir := range def.Directives {
		if dir.Name != "index" {
			return errorAt(dir.Position, "@%s on %s: put it on the relation %s", dir.Name, def.Name, relation)
		}
	}
	return nil
}

func (s *submission) field(d *draft, def *ast.FieldDefinition) (Field, error) {
	f := Field{Name: def.Name, Rule: crdt.LWW, NonNull: def.Type.NonNull}
	if err := s.setType(&f, def); err != nil {
		return f, err
	}
	if err := setRule(&f, def); err != nil {
		return f, err
	}
	if err := d.setRelation(&f, def); err != nil {
		return f, err
	}
	if err := setDefault(&f, def); err != nil {
		return f, err
	}
	return f, setSize(&f, def)
}

func (s *submission) setType(f *Field, def *ast.FieldDefinition) error {
	t, elem := def.Type, def.Type
	if t.Elem != nil {
		elem = t.Elem
	}
	if elem.Elem != nil {
		return errorAt(def.Position, "field %q: lists of lists do not exist: use JSON for %.80s", f.Name, t)
	}
	scalar, err := value.ParseType(elem.NamedType)
	ok := err == nil
	switch {
	case !ok && s.isView(elem.NamedType):
		return errorAt(def.Position, "field %q: %s belongs to a view, whose rows have no docIDs: refer to the collections that the view reads", f.Name, elem.NamedType)
	case !ok && s.taken(elem.NamedType):
		f.Target, f.Type = elem.NamedType, value.TypeRef
		if t.Elem != nil {
			// A list of related documents is never null and holds none that are,
			// with or without the marks that say so.
			f.Type, f.NonNull = value.TypeRef|value.ListOf, false
		}
		return nil
	case !ok:
		hint := didYouMean(elem.NamedType, append(s.typeNames(), scalarNames...))
		return errorAt(def.Position, "no type found for given name. Field: %s, Kind: %s: %s", f.Name, t, hint)
	case t.Elem == nil:
		f.Type = scalar
	case scalar == value.TypeJSON:
		return errorAt(def.Position, "no type found for given name. Field: %s, Kind: %s: a JSON field holds lists by itself", f.Name, t)
	case elem.NonNull:
		f.Type = scalar | value.ListOf
	default:
		f.Type = scalar | value.ListOfNullable
	}
	return nil
}

// finish numbers the fields and reads what the directives of the type say.
func (s *submission) finish(d *draft) error {
	next := crdt.FirstField
	for i := range d.Fields {
		if e := d.ends[d.Fields[i].Name]; e == nil || !e.virtual {
			d.Fields[i].ID = next
			next++
		}
	}
	d.lookUp()
	if err := d.setMode(); err != nil {
		return err
	}
	if err := s.setPolicy(d); err != nil {
		return err
	}
	if err := d.setShards(); err != nil {
		return err
	}
	if err := checkUnsupported(d); err != nil {
		return err
	}
	return d.setIndexes()
}

// seal makes the collection exactly what another node will decode.
func (d *draft) seal() (*Collection, error) {
	if err := d.check(); err != nil {
		return nil, atPos(d.def.Position, err)
	}
	encoded := d.appendTo(nil)
	c, err := Decode(encoded)
	if err != nil {
		return nil, atPos(d.def.Position, err)
	}
	if !bytes.Equal(c.Encode(), encoded) {
		return nil, errorAt(d.def.Position, "type %s does not decode to itself: please report the text as a bug", d.Name)
	}
	c.Indexes = d.Indexes
	return c, nil
}
