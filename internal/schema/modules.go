package schema

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// LensRule is what a version says of the modules between the one before and itself.
type LensRule struct {
	Lenses []Lens // with paths that name modules by their hashes
	// Fields are those of the version that the modules make; none: all that the
	// version before has not got, or has in another type.
	Fields []string `json:",omitempty"`
}

// MaxLensSteps bounds a pipeline, as package lens does.
const MaxLensSteps = 16

// Text is how a version holds the rule: the same bytes for the same rule.
func (l LensRule) Text() (string, error) {
	l.Fields = slices.Clone(l.Fields)
	slices.Sort(l.Fields)
	text, err := json.Marshal(l)
	if err != nil {
		return "", fault.Invalid.Errorf("lens: the arguments are no JSON: %w", err)
	}
	if len(text) > MaxLens {
		return "", fault.TooLarge.Errorf("the lenses of a version have %d bytes without their modules, more than %d: shorten the arguments", len(text), MaxLens)
	}
	return string(text), nil
}

// LensRule returns what the version says of modules, and whether it names some.
func (c *Collection) LensRule() (LensRule, bool) {
	if c.Lens == "" {
		return LensRule{}, false
	}
	l, err := readLensRule(c.Lens)
	return l, err == nil
}

func readLensRule(text string) (LensRule, error) {
	var l LensRule
	if err := decodeStrictly([]byte(text), &l); err != nil {
		return l, fault.Invalid.Errorf("lens of a version: %w", err)
	}
	if n := len(l.Lenses); n == 0 || n > MaxLensSteps {
		return l, fault.Invalid.Errorf("lens of a version: %d modules: there are 1 to %d", n, MaxLensSteps)
	}
	for _, one := range l.Lenses {
		if d, ok := one.Stored(); !ok || one.Path != StoredPath(d) {
			return l, fault.Invalid.Errorf("lens of a version: path %.80q is not the hash of a module", one.Path)
		}
	}
	if again, err := l.Text(); err != nil || again != text {
		return l, fault.Invalid.Errorf("lens of a version: it is not in canonical form")
	}
	for i, name := range l.Fields {
		if i > 0 && name == l.Fields[i-1] {
			return l, fault.Invalid.Errorf("lens of a version: field %q is named twice", name)
		}
	}
	return l, nil
}

// Transform returns the pipeline that leads to the version, or back from it.
func (l LensRule) Transform(back bool) *Transform {
	t := &Transform{Lenses: slices.Clone(l.Lenses)}
	if back {
		slices.Reverse(t.Lenses)
		for i := range t.Lenses {
			t.Lenses[i].Inverse = !t.Lenses[i].Inverse
		}
	}
	return t
}

// checkLens holds the modules of a version to its fields.
func (c *Collection) checkLens() error {
	switch {
	case c.Lens == "":
		return nil
	case c.isFirst():
		return fault.Invalid.Errorf("type %s: a first version has nothing to migrate from", c.Name)
	case len(c.Lens) > MaxLens:
		return fault.TooLarge.Errorf("type %s: the lenses have %d bytes, more than %d", c.Name, len(c.Lens), MaxLens)
	}
	l, err := readLensRule(c.Lens)
	if err != nil {
		return err
	}
	for _, name := range l.Fields {
		if !slices.ContainsFunc(c.Fields, func(f Field) bool { return f.Name == name && f.canBeMade() && !f.NonNull }) {
			return fault.Invalid.Errorf("lens: %s has no field %.140q that modules can make: they make stored lww fields that may be null, and no relations", c.Name, name)
		}
	}
	return nil
}

// canBeMade reports whether modules can make the field: somebody must have written
// it last, and relations are followed by their indexes.
func (f *Field) canBeMade() bool { return !f.IsVirtual() && !f.IsRelation() && f.Rule == crdt.LWW }

// made returns the fields of c that the modules between c and its neighbour make;
// newer is the one of both that names the modules.
func (c *Collection) made(neighbour, newer *Collection) []*Field {
	l, _ := newer.LensRule()
	var fs []*Field
	for i := range c.Fields {
		f := &c.Fields[i]
		if !f.canBeMade() || neighbour.hasCell(f.Cell()) || newer.tied(f.Cell(), c == newer) {
			continue
		}
		if c == newer && (f.NonNull || len(l.Fields) > 0 && !slices.Contains(l.Fields, f.Name)) {
			continue
		}
		fs = append(fs, f)
	}
	return fs
}

// tied reports whether a rule of the version makes the cell, of its own or of the
// version before.
func (c *Collection) tied(cell Cell, own bool) bool {
	return slices.ContainsFunc(c.Rules, func(r Rule) bool {
		if own {
			return r.Op != OpDefault && slices.Contains(r.To, cell)
		}
		return slices.Contains(r.From, cell)
	})
}

// Modules is a pipeline that versions name. It is opened when the first document
// passes, and safe for concurrent use.
type Modules struct {
	open func(context.Context) (Pipeline, error)
	warn func(error) // hears of the first document that did not pass; may be nil

	once, told sync.Once
	pipeline   Pipeline
	err        error // of open
}

// NewModules returns modules that open makes ready, once.
func NewModules(open func(context.Context) (Pipeline, error), warn func(error)) *Modules {
	return &Modules{open: open, warn: warn}
}

// Ready opens the pipeline, or says why nothing can pass.
func (m *Modules) Ready() error {
	m.once.Do(func() { m.pipeline, m.err = m.open(context.Background()) })
	return m.err
}

// Close frees what the modules hold. No document must be passing.
func (m *Modules) Close() error {
	if m.once.Do(func() { m.err = fault.Closed.Errorf("the database is closed") }); m.pipeline == nil {
		return nil
	}
	return m.pipeline.Close()
}

// Running finds the modules between a version and the one before: those that lead to
// it, or back. It returns nil if they do not run here, or cannot go back.
type Running func(c *Collection, back bool) *Modules

// passTime bounds what modules may take for one document: readers wait for them, and
// peers write documents.
const passTime = time.Second

// pass returns what the modules make of one document, a JSON object; false if they
// drop it or fail.
func (m *Modules) pass(ctx context.Context, doc []byte) (o value.Value, ok bool) {
	out, err := m.pipeline.Each(ctx, [][]byte{doc})
	if err != nil {
		m.told.Do(func() {
			if m.warn != nil {
				m.warn(err)
			}
		})
		return o, false
	}
	if len(out) != 1 || out[0] == nil {
		return o, false
	}
	o, err = value.ParseJSON(out[0])
	return o, err == nil && o.Kind() == value.Map
}
