package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// Patch says how the next versions of collections differ from those that are used.
type Patch struct {
	// Text is a JSON Patch (RFC 6902) over an object that holds by its name every
	// collection in the shape of SchemaJSON, and after the stored fields the virtual
	// ones.
	Text []byte
	// Migration says how fields of both versions show the same thing.
	Migration []Migration
	// Lens are modules that lead from each version to the next; their paths name
	// them by their hashes. No Lenses: there are none.
	Lens LensRule
}

// Apply returns the new versions, of those collections in which something changes.
// They follow the ones in used, which must be all that are used.
func (p Patch) Apply(used []*Collection) ([]*Collection, error) {
	ops, err := readPatch(p.Text)
	if err != nil {
		return nil, err
	}
	d, err := newDesk(used)
	if err != nil {
		return nil, err
	}
	if len(p.Lens.Lenses) > 0 {
		if d.lens, err = p.Lens.Text(); err != nil {
			return nil, err
		}
	}
	for i, o := range ops {
		if err := d.apply(o); err != nil {
			return nil, fmt.Errorf("operation %d of the patch: %w", i+1, err)
		}
	}
	for _, m := range p.Migration {
		if err := d.take(m); err != nil {
			return nil, err
		}
	}
	drafts, err := d.drafts()
	if err != nil {
		return nil, err
	}
	var made []*Collection
	for _, r := range drafts {
		if r.unchanged() {
			continue
		}
		if err := r.Follows(r.prev); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
		c, err := r.seal()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
		made = append(made, c)
	}
	if d.lens != "" && !slices.ContainsFunc(made, func(c *Collection) bool { return c.Lens != "" }) {
		return nil, fault.Invalid.Errorf("lenses: the patch makes no field that they could make: they make those that the version before has not got, or has in another type")
	}
	return made, nil
}

// desk is where a patch is applied.
type desk struct {
	patcher
	used   map[string]*Collection
	origin map[uintptr]entryOf // which field an entry was, by the identity of its map
	gone   []entryOf           // those that an operation took from their place
	rules  map[string][]Migration
	names  []string // of the collections that are touched, in order
	lens   string   // for those in which modules have something to make
}

func newDesk(used []*Collection) (*desk, error) {
	d := &desk{used: map[string]*Collection{}, origin: map[uintptr]entryOf{}, rules: map[string][]Migration{}}
	root := make(map[string]any, len(used))
	for _, c := range used {
		var m map[string]any
		if err := decodeStrictly(c.patchable(), &m); err != nil {
			return nil, err
		}
		list, _ := m["Fields"].([]any)
		for _, e := range list {
			if entry, ok := e.(map[string]any); ok {
				name, _ := entry["Name"].(string)
				d.origin[identity(entry)] = c.entryOf(name, entry)
			}
		}
		root[c.Name], d.used[c.Name] = m, c
	}
	d.root = root
	return d, nil
}

func (d *desk) apply(o operation) error {
	d.leaves(o)
	if err := d.patcher.apply(o); err != nil {
		return err
	}
	for _, text := range []*string{o.Path, o.From} {
		if text == nil || o.Op == "test" || text == o.From && o.Op == "copy" {
			continue
		}
		path, err := pointer("path", text)
		if err != nil {
			return err
		}
		d.touch(path[0])
	}
	return nil
}

func (d *desk) touch(name string) {
	if !slices.Contains(d.names, name) {
		d.names = append(d.names, name)
	}
}

// revision is one collection on its way to its next version.
type revision struct {
	*draft
	prev *Collection
	was  map[string]*Field // by new name: the field of prev that it continues
	kept map[string]bool   // the entries there are for docID and id forms, by name
}

func (r *revision) unchanged() bool {
	if len(r.Rules) > 0 || len(r.Fields) != len(r.prev.Fields) || r.Shards != r.prev.Shards {
		return false
	}
	for i := range r.Fields {
		if !bytes.Equal(r.Fields[i].appendTo(nil), r.prev.Fields[i].appendTo(nil)) {
			return false
		}
	}
	return true
}

// drafts reads the patched document.
func (d *desk) drafts() ([]*revision, error) {
	root, _ := d.root.(map[string]any)
	s := &submission{byName: map[string]*draft{}, existing: d.used, ends: map[link][]*end{}}
	var rs []*revision
	for _, name := range d.names {
		prev, m := d.used[name], root[name]
		switch {
		case prev == nil && m == nil:
			continue
		case prev == nil:
			return nil, fault.Invalid.Errorf("adding schema via patch is not supported. Name: %.140s: add its type with POST /schema", name)
		case m == nil:
			return nil, fault.Invalid.Errorf("collections cannot be deleted. Name: %s", name)
		}
		next := &Collection{Name: name, ID: prev.ID, Previous: prev.Version, Mode: prev.Mode, Keys: prev.Keys, Policy: prev.Policy, Shards: prev.Shards}
		r := &revision{
			draft: &draft{Collection: next, def: &ast.Definition{}, ends: map[string]*end{}},
			prev:  prev, was: map[string]*Field{}, kept: map[string]bool{},
		}
		s.drafts, s.byName[name] = append(s.drafts, r.draft), r.draft
		rs = append(rs, r)
	}
	for _, r := range rs {
		if err := d.fields(s, r, root[r.Name]); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
	}
	s.existing = without(d.used, s.byName)
	for _, name := range slices.Sorted(maps.Keys(s.existing)) {
		s.others = append(s.others, s.existing[name])
	}
	s.collectEnds()
	if err := s.each(s.relations); err != nil {
		return nil, err
	}
	for _, r := range rs {
		r.Lens = d.lens
		if err := r.finish(d.rules[r.Name]); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
	}
	return rs, nil
}

func without(all map[string]*Collection, these map[string]*draft) map[string]*Collection {
	rest := make(map[string]*Collection, len(all))
	for name, c := range all {
		if these[name] == nil {
			rest[name] = c
		}
	}
	return rest
}

// patchedField is one entry of the list of fields, as somebody may write it. What is
// nil stays as it was.
type patchedField struct {
	Name         string
	Kind         json.RawMessage
	Typ          *int
	RelationName *string
	IsPrimary    *bool
	DefaultValue json.RawMessage
	Size         *int
}

// fields reads the list of fields of one collection.
func (d *desk) fields(s *submission, r *revision, doc any) error {
	m, _ := doc.(map[string]any)
	if name := m["Name"]; name != r.Name {
		return fault.Invalid.Errorf("adding schema via patch is not supported. Name: %.140v: a collection keeps its name", name)
	}
	for member, is := range map[string]string{"Root": r.ID.String(), "VersionID": r.Previous.String()} {
		if v, ok := m[member]; ok && v != is {
			return fault.Invalid.Errorf("%s cannot be chosen, it follows from what the collection is: leave it out of the patch", member)
		}
	}
	if _, ok := m["Policy"]; ok {
		return fault.Invalid.Errorf("collection policy cannot be mutated: it is part of what the collection is called by: make a new collection")
	}
	for member := range m {
		if !slices.Contains([]string{"Name", "Root", "VersionID", "Shards", "Fields"}, member) {
			return fault.Invalid.Errorf("member %.140q means nothing: a schema has Name, Root, VersionID, Shards and Fields", member)
		}
	}
	if given, ok := m["Shards"]; ok {
		n, err := strconv.ParseInt(fmt.Sprint(given), 10, 32)
		if err != nil {
			n = -1 // no number, or far too great
		}
		if r.Shards, err = shards(r.Name, n); err != nil {
			return err
		}
	}
	list, ok := m["Fields"].([]any)
	if !ok {
		return fault.Invalid.Errorf("Fields is no list")
	}
	if len(list) > 2*MaxFields+1 {
		return fault.TooLarge.Errorf("%d entries in Fields, more than there can be: split the type", len(list))
	}
	for _, e := range list {
		entry, ok := e.(map[string]any)
		if !ok {
			return fault.Invalid.Errorf("an entry of Fields is no object like {\"Name\": \"phone\", \"Kind\": \"String\"}")
		}
		if err := d.field(s, r, entry); err != nil {
			return err
		}
	}
	if err := d.renames(r); err != nil {
		return err
	}
	if err := d.checkKept(r); err != nil {
		return err
	}
	slices.SortFunc(r.Fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	for i := range r.Fields {
		if i > 0 && r.Fields[i-1].Name == r.Fields[i].Name {
			return fault.Invalid.Errorf("duplicate field. Name: %s", r.Fields[i].Name)
		}
	}
	return nil
}

func (d *desk) field(s *submission, r *revision, entry map[string]any) error {
	text, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	var given patchedField
	if err := decodeStrictly(text, &given); err != nil {
		return fault.Invalid.Errorf("field %.140v: %w: it has Name, Kind, Typ, RelationName, IsPrimary, DefaultValue and Size", entry["Name"], unread(err))
	}
	was, known := d.origin[identity(entry)]
	if known = known && was.of == r.prev; !known { // new, or from another collection
		// Written anew under a name that is there, it is the same field.
		was = r.prev.entryOf(given.Name, entry)
	}
	if isDocID := given.Name == docIDField || known && was.field == nil; isDocID || was.idForm {
		return r.keep(was, known, string(text))
	}
	f := Field{Name: given.Name, Rule: crdt.LWW}
	changed := !known || jsonOf(entry["Kind"]) != was.kind
	if was.field != nil {
		f = *was.field
		f.Name, f.derive, f.made = given.Name, nil, false
		r.was[given.Name] = was.field
	}
	if changed {
		if err := d.setKind(s, r, &f, given.Kind); err != nil {
			return err
		}
	}
	if err := checkFieldName(f.Name); err != nil {
		return err
	}
	if err := given.complete(&f, was.field); err != nil {
		return err
	}
	if err := given.checkRelation(&f, was.field); err != nil {
		return err
	}
	if f.IsRelation() {
		r.addEnd(&f, given, was.field)
	}
	r.Fields = append(r.Fields, f)
	return nil
}

// setKind reads the Kind of a field that is new, or written anew.
func (d *desk) setKind(s *submission, r *revision, f *Field, kind json.RawMessage) error {
	spelled, err := d.spelling(r.prev, kind)
	if err != nil {
		return fault.Invalid.Errorf("field %.140q: %w", f.Name, err)
	}
	t, err := astType(spelled)
	if err != nil {
		return fault.Invalid.Errorf("no type found for given name. Field: %.140s, Kind: %.140s", f.Name, spelled)
	}
	g := Field{Name: f.Name, Rule: f.Rule, NonNull: t.NonNull}
	if err := s.setType(&g, &ast.FieldDefinition{Name: f.Name, Type: t}); err != nil {
		return err
	}
	if f.Type != 0 && (g.Target != f.Target || g.Type != f.Type && g.IsRelation()) {
		return fault.Invalid.Errorf("mutating an existing field is not supported. ProposedName: %s: add a relation under another name", f.Name)
	}
	if g.Type != f.Type {
		f.Default, f.Size = nil, 0
	}
	f.Type, f.Target, f.NonNull = g.Type, g.Target, g.NonNull
	return nil
}

// complete sets what is written beside the kind.
func (given *patchedField) complete(f, was *Field) error {
	if given.Typ != nil && !f.IsRelation() {
		rule, ok := map[int]crdt.Rule{0: crdt.LWW, 1: crdt.LWW, 4: crdt.PNCounter, 5: crdt.PCounter, 6: crdt.MVR}[*given.Typ]
		if !ok {
			return fault.Invalid.Errorf("CRDT type not supported. Name: %s, CRDTType: %d", f.Name, *given.Typ)
		}
		if was != nil && rule != was.Rule {
			return fault.Invalid.Errorf("mutating an existing field is not supported. ProposedName: %s: how writes merge stays: add another field", f.Name)
		}
		f.Rule = rule
	}
	if given.Size != nil && *given.Size != f.Size {
		if err := checkSize(f, int64(*given.Size)); err != nil {
			return err
		}
		f.Size = *given.Size
	}
	if given.DefaultValue == nil {
		return nil
	}
	loose, err := value.ParseJSON(given.DefaultValue)
	if err != nil {
		return fault.Invalid.Errorf("default value is invalid. Field: %s: %w", f.Name, err)
	}
	if loose.IsNull() {
		f.Default = nil
		return nil
	}
	v, err := value.Coerce(f.Type, loose)
	if err != nil {
		return fault.Invalid.Errorf("default value is invalid. Field: %s: %w", f.Name, err)
	}
	f.Default = &v
	return nil
}

// checkRelation refuses what is said of a relation and cannot be so.
func (given *patchedField) checkRelation(f, was *Field) error {
	switch {
	case !f.IsRelation() && given.RelationName != nil && *given.RelationName != "",
		!f.IsRelation() && given.IsPrimary != nil && *given.IsPrimary:
		return fault.Invalid.Errorf("field %q is no relation: leave RelationName and IsPrimary out, or give the name of a collection as Kind", f.Name)
	case !f.IsRelation():
		return nil
	case given.Typ != nil && *given.Typ > 1:
		return fault.Invalid.Errorf("field %q is a relation, and relations merge as lww: leave Typ out", f.Name)
	case was != nil && given.RelationName != nil && *given.RelationName != was.Relation,
		was != nil && given.IsPrimary != nil && *given.IsPrimary == was.IsVirtual():
		return fault.Invalid.Errorf("mutating an existing field is not supported. ProposedName: %s: what a relation is called and where it is stored stays: add another field", f.Name)
	}
	return nil
}

// addEnd enters a relation of the draft for pairing with its other side.
func (r *revision) addEnd(f *Field, given patchedField, was *Field) {
	e := &end{owner: r.Name, field: f.Name, target: f.Target, list: f.Type.IsList(), name: relationName(r.Name, f.Target)}
	e.primary = !e.list
	switch {
	case was != nil:
		e.name, e.primary = was.Relation, !was.IsVirtual()
	case given.RelationName != nil:
		e.name = *given.RelationName
	}
	if was == nil && given.IsPrimary != nil {
		e.primary = *given.IsPrimary && !e.list
	}
	e.named = e.name != relationName(r.Name, f.Target)
	e.virtual = e.list
	f.Relation = e.name
	r.ends[f.Name] = e
}

// finish numbers the fields and makes the rules.
func (r *revision) finish(ms []Migration) error {
	used := map[crdt.FieldID]string{}
	for i := range r.Fields {
		if f := &r.Fields[i]; r.was[f.Name] != nil {
			used[f.ID] = f.Name
		}
	}
	for i := range r.Fields {
		f := &r.Fields[i]
		if e := r.ends[f.Name]; r.was[f.Name] != nil || e != nil && e.virtual {
			continue
		}
		f.ID = r.prev.numberOf(f, used)
		if other, ok := used[f.ID]; ok {
			return fault.Invalid.Errorf("field %q would get the number of field %q: give it another name", f.Name, other)
		}
		used[f.ID] = f.Name
	}
	r.lookUp()
	for _, m := range ms {
		if err := r.addRule(m); err != nil {
			return err
		}
	}
	return r.implied()
}

// numberOf returns the number of an added field: that of the field which an earlier
// version had with the same name and kind, so that its values are there again, and
// else the one that any node would give it.
func (c *Collection) numberOf(f *Field, used map[crdt.FieldID]string) crdt.FieldID {
	for v := c; ; {
		if g, ok := v.Field(f.Name); ok && !g.IsVirtual() && g.Kind() == f.Kind() && g.Target == f.Target && used[g.ID] == "" {
			return g.ID
		}
		prev, ok := c.lineage.Version(v.Previous)
		if !ok {
			return AddedField(c.ID, f.Name, f.Kind(), f.Target)
		}
		v = prev
	}
}

// implied adds the rules that follow from the fields, and asks for those that nobody
// can guess. What modules make needs no rule.
func (r *revision) implied() error {
	var made []*Field
	if r.Lens != "" {
		if made = r.made(r.prev, r.Collection); len(made) == 0 && len(r.prev.made(r.Collection, r.Collection)) == 0 {
			r.Lens = ""
		}
	}
	for i := range r.Fields {
		f := &r.Fields[i]
		was := r.was[f.Name]
		if was != nil && !f.IsVirtual() && was.Kind() != f.Kind() && !r.hasRule(f.Cell(), OpCast) && !slices.Contains(made, f) {
			r.Rules = append(r.Rules, Rule{Op: OpCast, From: []Cell{was.Cell()}, To: []Cell{f.Cell()}})
		}
		if f.NonNull && (was == nil || !was.NonNull) && !r.hasRule(f.Cell(), OpDefault) {
			return fault.Invalid.Errorf("field %q is %s, and documents that are there have no value: add {\"Do\": \"default\", \"To\": %[1]q, \"Value\": …} to the migration, or leave the ! out", f.Name, f.TypeName())
		}
	}
	slices.SortFunc(r.Rules, func(a, b Rule) int { return bytes.Compare(a.appendTo(nil), b.appendTo(nil)) })
	return nil
}

func (r *revision) hasRule(to Cell, op Op) bool {
	return slices.ContainsFunc(r.Rules, func(x Rule) bool { return x.Op == op && slices.Contains(x.To, to) })
}

// patchable returns the collection in the shape that patches are written for.
func (c *Collection) patchable() []byte {
	s := struct {
		schemaShape
		Shards int
	}{c.schemaShape(), max(c.Shards, 1)}
	for i := range c.Fields {
		if f := &c.Fields[i]; f.IsVirtual() {
			d := f.describe()[0]
			s.Fields = append(s.Fields, schemaField{d.Name, d.Kind, d.Typ})
		}
	}
	b, _ := json.Marshal(s) // strings and integers alone
	return b
}

// spelling returns a Kind as SDL spells it: it can be that already, the number of
// the dialect, or the object that stands for a relation.
func (d *desk) spelling(self *Collection, kind json.RawMessage) (string, error) {
	var spelled string
	if json.Unmarshal(kind, &spelled) == nil && spelled != "" {
		for _, form := range []string{"Self", "[Self]"} {
			if spelled == form {
				return strings.Replace(form, "Self", self.Name, 1), nil
			}
		}
		return spelled, nil
	}
	var number int
	if json.Unmarshal(kind, &number) == nil && number != 0 {
		for t := value.TypeID; t < value.TypeRef; t++ {
			for _, list := range []value.Type{0, value.ListOf, value.ListOfNullable} {
				if kindNumber(t|list) == number {
					return (t | list).String(), nil
				}
			}
		}
		return "", fault.Invalid.Errorf("no type found for given name. Type: %d", number)
	}
	to := struct {
		Array      bool
		Name, Root string
		RelativeID *string
	}{}
	if len(kind) == 0 || decodeStrictly(kind, &to) != nil || to.Name == "" && to.Root == "" && to.RelativeID == nil {
		return "", fault.Invalid.Errorf("Kind is a type like \"String\" or \"[Author]\", its number, or {\"Array\": false, \"Name\": \"Author\"}")
	}
	name := to.Name
	switch {
	case to.RelativeID != nil && *to.RelativeID == "":
		name = self.Name
	case to.Root != "":
		for _, c := range d.used {
			if c.ID.String() == to.Root {
				name = c.Name
			}
		}
	}
	if to.Array {
		name = "[" + name + "]"
	}
	return name, nil
}

// astType reads a type as SDL spells it.
func astType(text string) (*ast.Type, error) {
	text, nonNull := strings.CutSuffix(text, "!")
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			elem, err := astType(inner)
			return &ast.Type{Elem: elem, NonNull: nonNull}, err
		}
	}
	if !isName(text) {
		return nil, fault.Invalid.Errorf("%.140q is no type", text)
	}
	return &ast.Type{NamedType: text, NonNull: nonNull}, nil
}
