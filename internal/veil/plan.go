package veil

import (
	"cmp"
	"io"
	"slices"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Readers are those who may read a document once a commit counts.
type Readers struct {
	Keys     []ident.PublicKey
	Everyone bool
}

func (r Readers) sorted() Readers {
	r.Keys = slices.Clone(r.Keys)
	slices.Sort(r.Keys)
	r.Keys = slices.Compact(r.Keys)
	return r
}

// has reports whether a key is among the sorted ones.
func (r Readers) has(k ident.PublicKey) bool {
	_, ok := slices.BinarySearch(r.Keys, k)
	return ok
}

// Plan is what a writer does with keys.
type Plan struct {
	Key Key  // what it seals with
	Ops []Op // what it adds to the commit
	// Blind says that the epoch begins only because the secrets of those before are not
	// here: who seals nothing had better leave it.
	Blind bool
}

// Begin returns the plan for the first commit of a document, by who has those keys.
func (c Cover) Begin(doc ID, readers Readers, keys []ident.Key, rand io.Reader) (Plan, error) {
	if c.None() || len(c.Fields) > MaxFields {
		return Plan{}, fault.Invalid.Errorf("%d encrypted fields with keys of their own, want 1 to %d, or encrypt the whole document", len(c.Fields), MaxFields)
	}
	f := NewFinder(doc, State{}, keys, nil, nil)
	p, err := f.begin(readers.sorted(), rand)
	p.Ops = slices.Insert(p.Ops, 0, Op{Kind: Hide, Cover: c})
	return p, err
}

// Plan returns what a commit on top of a document has to do so that the readers, and
// nobody else, can read what it seals: it goes on with an epoch, or begins one because
// somebody lost the right to read, and gives keys to readers who lack them. at is where
// the commit will stand, and its need without keys.
func (f *Finder) Plan(at Standing, readers Readers, rand io.Reader) (Plan, error) {
	readers = readers.sorted()
	v, err := f.state.view(at)
	if err != nil {
		return Plan{}, err
	}
	top, err := v.greatest()
	if err != nil {
		return Plan{}, err
	}
	var best *begun
	for _, e := range top {
		if ok, err := f.usable(v, e, readers); err != nil {
			return Plan{}, err
		} else if ok && (best == nil || best.compare(e) < 0) {
			best = e
		}
	}
	if best == nil {
		return f.beginAbove(v, top, readers, rand)
	}
	p := Plan{Key: Key{best.id, f.found[best.id]}}
	for _, e := range v.loose(top) {
		_, ok, err := f.Secret(e.id)
		if err != nil {
			return Plan{}, err
		}
		if !ok {
			continue
		}
		if !slices.Contains(top, e) {
			if above, err := v.above(best, e); err != nil {
				return Plan{}, err
			} else if above {
				if err := f.link(&p, best.id, e.id, rand); err != nil {
					return Plan{}, err
				}
				continue
			}
		}
		has, err := f.readers(e.id)
		if err != nil {
			return Plan{}, err
		}
		if err := f.give(&p, e.id, readers, has); err != nil {
			return Plan{}, err
		}
	}
	return p, nil
}

// HandOver returns the plan of who may read until this commit, and after it no more:
// the keys of before for readers who lack them. The next writer begins others.
func (f *Finder) HandOver(at Standing, readers Readers) (p Plan, err error) {
	readers = readers.sorted()
	v, err := f.state.view(at)
	if err != nil {
		return p, err
	}
	top, err := v.greatest()
	if err != nil {
		return p, err
	}
	for _, e := range v.loose(top) {
		if _, ok, err := f.Secret(e.id); err != nil {
			return p, err
		} else if !ok {
			continue
		}
		has, err := f.readers(e.id)
		if err == nil {
			err = f.give(&p, e.id, readers, has)
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// beginAbove begins an epoch from which the earlier ones can be found, as far as they
// can be found here.
func (f *Finder) beginAbove(v *view, top []*begun, readers Readers, rand io.Reader) (Plan, error) {
	p, err := f.begin(readers, rand)
	if err != nil {
		return p, err
	}
	for _, e := range v.loose(top) {
		if err := f.link(&p, p.Key.Epoch, e.id, rand); err != nil {
			return p, err
		}
	}
	p.Blind = !v.Rules.Removes(v.Need) && !slices.ContainsFunc(top, func(e *begun) bool { _, ok := f.found[e.id]; return ok })
	return p, nil
}

// loose returns the epochs that cannot be found from a later one: the greatest, and
// those above which somebody began another who could not read them. They are sealed
// under an epoch of which it is known that only readers have it.
func (v *view) loose(top []*begun) []*begun {
	all := slices.Clone(top)
	for i := range v.epochs {
		if x := &v.epochs[i]; !x.linked && !slices.Contains(top, x) {
			all = append(all, x)
		}
	}
	return all
}

// compare orders epochs by where they began, so that all who see the same choose the
// same.
func (e *begun) compare(o *begun) int {
	return cmp.Or(e.by[0].compare(o.by[0]), e.id.Compare(o.id))
}

// greatest returns the epochs above which no other began, greatest first.
func (v *view) greatest() (top []*begun, err error) {
	epochs := make([]*begun, 0, len(v.epochs))
	for i := range v.epochs {
		x := &v.epochs[i]
		if len(v.Before) == 1 && x.by[0].id == v.Before[0] {
			return []*begun{x}, nil // all others are below
		}
		epochs = append(epochs, x)
	}
	slices.SortFunc(epochs, func(a, b *begun) int { return b.compare(a) })
next:
	for _, x := range epochs { // from above: what is under another is under one that was kept
		for _, t := range top {
			if under, err := v.above(t, x); err != nil {
				return nil, err
			} else if under {
				continue next
			}
		}
		top = append(top, x)
	}
	return top, nil
}

// usable reports whether the writer may seal under the epoch: it has the secret, and
// whoever was given it may still read.
func (f *Finder) usable(v *view, e *begun, readers Readers) (bool, error) {
	if ok, err := v.fresh(e); err != nil || !ok {
		return false, err
	}
	past, err := v.below()
	if err != nil || slices.ContainsFunc(e.by, func(g *giver) bool { return past.Void(g.id) }) {
		return false, err
	}
	has, err := f.readers(e.id)
	if err != nil {
		return false, err
	}
	gone := func(k ident.PublicKey) bool { return !readers.has(k) }
	if !readers.Everyone && (has.Everyone || slices.ContainsFunc(has.Keys, gone)) {
		return false, nil
	}
	_, ok, err := f.Secret(e.id)
	return ok, err
}

// readers returns to whom an epoch was given.
func (f *Finder) readers(e EpochID) (has Readers, err error) {
	ops, err := f.of(e)
	for _, o := range ops {
		switch {
		case o.Kind == Publish:
			has.Everyone = true
		case o.Kind == Give:
			for _, w := range o.Wraps {
				has.Keys = append(has.Keys, w.To)
			}
		}
	}
	return has.sorted(), err
}

// begin returns the plan that begins an epoch.
func (f *Finder) begin(readers Readers, rand io.Reader) (p Plan, err error) {
	if p.Key.Secret, err = NewSecret(rand); err != nil {
		return p, err
	}
	e := p.Key.Secret.Epoch(f.doc)
	p.Key.Epoch = e
	p.Ops = []Op{{Kind: Begin, Epoch: e}}
	f.found[e] = p.Key.Secret
	return p, f.give(&p, e, readers, Readers{})
}

// give adds what gives an epoch to readers who have it not.
func (f *Finder) give(p *Plan, e EpochID, readers, has Readers) error {
	s := f.found[e]
	if has.Everyone {
		return nil
	}
	if readers.Everyone {
		p.Ops = append(p.Ops, Op{Kind: Publish, Epoch: e, Secret: s})
		return nil
	}
	lack := slices.DeleteFunc(slices.Clone(readers.Keys), has.has)
	if most := MaxReaders - p.given(); len(lack) > most {
		// The others get theirs with the next commits, which the writer can only make
		// under this epoch if it has its own.
		slices.SortStableFunc(lack, func(a, b ident.PublicKey) int { return cmp.Compare(f.foreign(a), f.foreign(b)) })
		lack = lack[:most]
		slices.Sort(lack)
	}
	o := Op{Kind: Give, Epoch: e}
	var err error
	if o.Wraps, err = s.sealToAll(lack, f.doc, e); err != nil {
		return err
	}
	if len(o.Wraps) > 0 {
		p.Ops = append(p.Ops, o)
	}
	return nil
}

// foreign returns 0 for a key that is here, and else 1.
func (f *Finder) foreign(k ident.PublicKey) int {
	if slices.ContainsFunc(f.keys, func(own ident.Key) bool { return own.Public() == k }) {
		return 0
	}
	return 1
}

// given returns how many readers the plan gives keys to.
func (p *Plan) given() (n int) {
	for i := range p.Ops {
		n += len(p.Ops[i].Wraps)
	}
	return n
}

// link seals an earlier epoch under another, if its secret is here.
func (f *Finder) link(p *Plan, e, older EpochID, rand io.Reader) error {
	if len(p.Ops) >= MaxLinks {
		return nil // the others with the next commit
	}
	secret, ok, err := f.Secret(older)
	if err != nil || !ok {
		return err
	}
	o, err := f.found[e].link(f.doc, e, older, secret, rand)
	if err == nil {
		p.Ops = append(p.Ops, o)
	}
	return err
}
