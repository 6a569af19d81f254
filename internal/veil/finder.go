package veil

import (
	"maps"
	"slices"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
)

// Source reads the operations on keys of a commit of a document, which was checked.
type Source func(commit ID) ([]Op, error)

// Finder finds the secrets of a document's epochs with the private keys that are
// here. What it found it remembers, for one document and one goroutine.
type Finder struct {
	doc     ID
	state   State
	keys    []ident.Key
	source  Source
	read    map[ID][]Op
	found   map[EpochID]Secret
	missing map[EpochID]bool // nothing that is here opens them
	gone    map[EpochID]bool // the same, found out before
	visited map[EpochID]bool
	naming  map[EpochID][]ID // the commits that name an epoch; nil until somebody asks
}

// NewFinder returns a finder for a document. known are secrets that were found before.
func NewFinder(doc ID, s State, keys []ident.Key, known map[EpochID]Secret, source Source) *Finder {
	f := &Finder{doc: doc, state: s, keys: keys, source: source, read: map[ID][]Op{}, found: map[EpochID]Secret{}, missing: map[EpochID]bool{}}
	for _, e := range s.epochs {
		if secret, ok := known[e]; ok {
			f.found[e] = secret
		}
	}
	return f
}

// Found returns the secrets that were found.
func (f *Finder) Found() map[EpochID]Secret { return f.found }

// Missing returns the epochs that were looked for in vain.
func (f *Finder) Missing() map[EpochID]bool { return f.missing }

// Without keeps the finder from looking for epochs that another one, with the same keys
// and the same state, has missed. It does not change the map.
func (f *Finder) Without(missing map[EpochID]bool) { f.gone = missing }

// Secret returns the secret of an epoch, and false if none of the keys opens it: it
// was published, given to one of the keys, or sealed under a later one that can be
// found.
func (f *Finder) Secret(e EpochID) (Secret, bool, error) {
	if s, ok := f.found[e]; ok {
		return s, true, nil
	}
	f.visited = map[EpochID]bool{}
	before := len(f.found)
	s, ok, err := f.find(e)
	if err == nil && len(f.found) == before {
		// Nor is a key here for any of the later ones from which it could be found.
		maps.Copy(f.missing, f.visited)
	}
	return s, ok, err
}

func (f *Finder) find(e EpochID) (Secret, bool, error) {
	if s, ok := f.found[e]; ok || f.visited[e] || f.missing[e] || f.gone[e] {
		return s, ok, nil
	}
	f.visited[e] = true
	ops, err := f.of(e)
	if err != nil {
		return Secret{}, false, err
	}
	s, ok := f.given(e, ops)
	for i := 0; i < len(ops) && !ok; i++ {
		o := ops[i]
		if o.Kind != Link || o.Older != e {
			continue
		}
		newer, have, err := f.find(o.Epoch)
		if err != nil {
			return Secret{}, false, err
		}
		if have {
			s, ok = newer.unlink(f.doc, o)
		}
	}
	if ok {
		f.found[e] = s
	}
	return s, ok, nil
}

// given returns the secret if the operations give it, cheapest first.
func (f *Finder) given(e EpochID, ops []*Op) (Secret, bool) {
	for _, o := range ops {
		if o.Kind == Publish && o.Epoch == e {
			if s, ok := checked(o.Secret[:], f.doc, e); ok {
				return s, true
			}
		}
	}
	for _, o := range ops {
		if newer, have := f.found[o.Epoch]; have && o.Kind == Link && o.Older == e {
			if s, ok := newer.unlink(f.doc, o); ok {
				return s, true
			}
		}
	}
	for _, o := range ops {
		if o.Kind != Give || o.Epoch != e {
			continue
		}
		for _, k := range f.keys {
			i, ok := slices.BinarySearchFunc(o.Wraps, k.Public(), func(w Wrap, to ident.PublicKey) int {
				if w.To < to {
					return -1
				} else if w.To > to {
					return 1
				}
				return 0
			})
			if !ok {
				continue
			}
			if s, ok := o.Wraps[i].open(k, f.doc, e); ok {
				return s, true
			}
		}
	}
	return Secret{}, false
}

// of returns the operations that name the epoch.
func (f *Finder) of(e EpochID) (ops []*Op, err error) {
	if f.naming == nil {
		f.naming = f.state.naming()
	}
	for _, id := range f.naming[e] {
		all, ok := f.read[id]
		if !ok {
			if all, err = f.source(id); err != nil {
				return nil, err
			}
			f.read[id] = all
		}
		for i := range all {
			if o := &all[i]; o.Kind != Hide && (o.Epoch == e || o.Kind == Link && o.Older == e) {
				ops = append(ops, o)
			}
		}
	}
	return ops, nil
}

// Open returns all operations of a commit that is part of the document: those in
// clear, then those of each segment in order. ok is false, and the operations are
// those in clear, if the secret of a segment is not here. at is only asked if two
// epochs have one number.
func (f *Finder) Open(c *dag.Commit, at Standing) (deltas []crdt.Delta, ok bool, err error) {
	deltas = slices.Clone(c.Deltas)
	if c.Kind != dag.Write {
		return deltas, true, nil
	}
	for i, seg := range c.Segs {
		if seg.Group == 0 {
			continue
		}
		epochs, err := f.epochs(c, seg.Epoch, at)
		if err != nil {
			return nil, false, err
		}
		for _, e := range epochs {
			s, have, err := f.Secret(e)
			if err != nil || !have {
				return slices.Clone(c.Deltas), false, err
			}
			if more, opens := (Key{e, s}).open(c, i); opens {
				deltas = append(deltas, more...)
				break
			}
		}
	}
	return deltas, true, nil
}

// epochs returns those with that number which the commit can mean, in one order
// everywhere.
func (f *Finder) epochs(c *dag.Commit, number uint64, at Standing) ([]EpochID, error) {
	all := f.state.numbered(number)
	if len(all) < 2 {
		return all, nil
	}
	v, err := f.state.view(at)
	if err != nil {
		return nil, err
	}
	var epochs []EpochID
	for _, e := range all {
		_, below := v.find(e)
		if below || f.begins(e, ID(c.CID)) {
			epochs = append(epochs, e)
		}
	}
	return epochs, nil
}

// begins reports whether the commit begins the epoch.
func (f *Finder) begins(e EpochID, id ID) bool {
	return slices.ContainsFunc(f.state.commits, func(g giver) bool {
		return g.id == id && slices.ContainsFunc(g.names, func(m mention) bool { return m.epoch == e && m.begins })
	})
}
