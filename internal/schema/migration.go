package schema

import (
	"encoding/json"
	"slices"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// Migration is one rule as people write it, with names for fields: From are fields
// of the version before, To of the new one.
type Migration struct {
	Collection string          `json:",omitempty"` // may be left out if the patch touches one
	Do         string          // rename, default, split, merge or cast
	From       Names           `json:",omitempty"`
	To         Names           `json:",omitempty"`
	Separator  string          `json:",omitempty"` // of split and merge; a space if left out
	Value      json.RawMessage `json:",omitempty"` // of default
}

// Names is one name, or a list of them.
type Names []string

// UnmarshalJSON reads either.
func (n *Names) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*n = Names{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(n))
}

// take enters a migration for the collection that it is for.
func (d *desk) take(m Migration) error {
	name := m.Collection
	if name == "" {
		if len(d.names) != 1 {
			return fault.Invalid.Errorf("migration %.40q: the patch touches %d collections: name the one that it is for in Collection", m.Do, len(d.names))
		}
		name = d.names[0]
	}
	if d.used[name] == nil {
		return fault.Invalid.Errorf("migration %.40q: collection %.140q does not exist", m.Do, name)
	}
	d.touch(name)
	d.rules[name] = append(d.rules[name], m)
	return nil
}

// renames lets fields continue those that a migration says they were.
func (d *desk) renames(r *revision) error {
	for _, m := range d.rules[r.Name] {
		if m.Do != "rename" {
			continue
		}
		if len(m.From) != 1 || len(m.To) != 1 {
			return fault.Invalid.Errorf("rename: give one name in From and one in To")
		}
		was, ok := r.prev.Field(m.From[0])
		if !ok {
			return noField(r.prev, "rename", m.From[0])
		}
		to := slices.IndexFunc(r.Fields, func(f Field) bool { return f.Name == m.To[0] })
		at := slices.IndexFunc(r.Fields, func(f Field) bool { return r.was[f.Name] == was })
		switch {
		case to >= 0 && at == to: // the patch says it too
		case to >= 0 && at < 0 && r.was[m.To[0]] == nil:
			f := &r.Fields[to]
			if f.Kind() != was.Kind() || f.Target != was.Target || f.IsRelation() && r.ends[f.Name].virtual != was.IsVirtual() {
				return fault.Invalid.Errorf("rename: %s is %s and %s was %s: a rename keeps the type", m.To[0], f.TypeName(), m.From[0], was.TypeName())
			}
			f.ID, r.was[f.Name] = was.ID, was
		case to < 0 && at >= 0:
			r.rename(at, m.To[0])
		default:
			return fault.Invalid.Errorf("rename: the new version has %s already, beside %s", m.To[0], m.From[0])
		}
	}
	return nil
}

func (r *revision) rename(at int, name string) {
	f := &r.Fields[at]
	r.was[name] = r.was[f.Name]
	delete(r.was, f.Name)
	if e := r.ends[f.Name]; e != nil {
		delete(r.ends, f.Name)
		e.field, r.ends[name] = name, e
	}
	f.Name = name
}

// addRule makes a rule of a migration.
func (r *revision) addRule(m Migration) error {
	if m.Do == "rename" {
		return nil
	}
	op := Op(slices.Index(opNames[:], m.Do))
	if m.Do == "" || op < 1 || int(op) >= len(opNames) {
		return fault.Invalid.Errorf("migration %.40q is not known: there are rename, default, split, merge, cast", m.Do)
	}
	rule := Rule{Op: op}
	from := m.From
	if op == OpCast && len(from) == 0 && len(m.To) == 1 && r.was[m.To[0]] != nil {
		from = Names{r.was[m.To[0]].Name}
	}
	for _, name := range from {
		f, ok := r.prev.Field(name)
		if !ok || f.IsVirtual() {
			return noField(r.prev, m.Do, name)
		}
		rule.From = append(rule.From, f.Cell())
	}
	for _, name := range m.To {
		f, ok := r.Field(name)
		if !ok || f.IsVirtual() {
			return noField(r.Collection, m.Do, name)
		}
		rule.To = append(rule.To, f.Cell())
	}
	if op == OpSplit || op == OpMerge {
		if rule.Separator = m.Separator; m.Separator == "" {
			rule.Separator = " "
		}
	}
	if op == OpDefault && len(rule.To) == 1 && m.Value != nil {
		v, err := r.shown(m)
		if err != nil {
			return err
		}
		rule.Value = &v
	}
	if err := rule.check(); err != nil {
		return err
	}
	r.Rules = append(r.Rules, rule)
	return nil
}

func (r *revision) shown(m Migration) (value.Value, error) {
	f, _ := r.Field(m.To[0])
	loose, err := value.ParseJSON(m.Value)
	if err != nil {
		return loose, fault.Invalid.Errorf("default: %w", err)
	}
	v, err := value.Coerce(f.Type, loose)
	if err != nil {
		return v, fault.Invalid.Errorf("default of field %q: %w", f.Name, err)
	}
	return v, nil
}

func noField(c *Collection, do, name string) error {
	return fault.Invalid.Errorf("%s: %s has no stored field %.140q: %s", do, c.Name, name, didYouMean(name, c.storedNames()))
}
