package acp_test

import (
	"math/bits"
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/ident"
)

// oracle evaluates "What a history means" of docs/access.md literally, on sets of
// commits, with no regard to cost or to the order in which commits arrived. It knows
// nothing of events, frontiers or states.
type oracle struct {
	owner   ident.PublicKey // of the first commit
	commits []commit        // parents first
	place   map[acp.ID]int
	manages map[string][]string
	permits map[string][]string
	groups  func(known []acp.ID, group acp.ID, relation string, key ident.PublicKey) bool

	voids map[memo]bool
}

type commit struct {
	acp.Commit
	parents []acp.ID
	anc     commits
}

// commits is a set of commits of a document.
type commits uint64

func (s commits) has(i int) bool { return s>>i&1 != 0 }

func (s commits) each(f func(i int)) {
	for ; s != 0; s &= s - 1 {
		f(bits.TrailingZeros64(uint64(s)))
	}
}

type memo struct {
	c int
	s commits
}

type tuple struct {
	relation string
	subject  acp.Subject
}

func newOracle(owner ident.PublicKey) *oracle {
	return &oracle{
		owner: owner, place: map[acp.ID]int{}, voids: map[memo]bool{},
		manages: map[string][]string{"admin": {"reader", "writer", "admin"}},
		permits: map[string][]string{"update": {"writer"}, "delete": {"deleter"}},
	}
}

// add enters a commit, and says whether it is valid. Only valid ones stay.
func (o *oracle) add(c acp.Commit, parents []acp.ID) (commit, bool) {
	n := commit{Commit: c, parents: parents}
	n.Height = 1
	for _, p := range parents {
		i := o.place[p]
		n.anc |= o.commits[i].anc | 1<<i
		n.Height = max(n.Height, o.commits[i].Height+1)
	}
	o.commits = append(o.commits, n)
	i := len(o.commits) - 1
	if !o.may(i, n.anc, o.owns(i, n.anc), o.held(n.anc)) {
		o.commits = o.commits[:i]
		return n, false
	}
	o.place[c.ID] = i
	return n, true
}

func (o *oracle) concurrent(a, b int) bool {
	return a != b && !o.commits[a].anc.has(b) && !o.commits[b].anc.has(a)
}

func (o *oracle) ops(i int, kind acp.OpKind) (ops []acp.Op) {
	for _, op := range o.commits[i].Need.Ops {
		if op.Kind == kind {
			ops = append(ops, op)
		}
	}
	return ops
}

func (o *oracle) tuples(i int, kind acp.OpKind) (all []tuple) {
	for _, op := range o.ops(i, kind) {
		all = append(all, tuple{op.Relation, op.Subject})
	}
	return all
}

// held is rule 2.
func (o *oracle) held(s commits) map[tuple]bool { return o.heldFor(s, s) }

// heldFor returns the tuples that the commits of in hold when grants do not count
// that are void in s.
func (o *oracle) heldFor(in, s commits) map[tuple]bool {
	held := map[tuple]bool{}
	in.each(func(g int) {
		for _, t := range o.tuples(g, acp.Grant) {
			knows := !o.void(g, s)
			in.each(func(r int) {
				if slices.Contains(o.tuples(r, acp.Revoke), t) && !o.commits[g].anc.has(r) {
					knows = false
				}
			})
			if knows {
				held[t] = true
			}
		}
	})
	return held
}

// chain is rule 3: the transfers that lead to the owner, and false if there are
// rivals at its end.
func (o *oracle) chain(s commits) (chain []int, ok bool) {
	at := -1
	for {
		var next []int
		s.each(func(t int) {
			if len(o.ops(t, acp.Transfer)) > 0 && o.end(o.commits[t].anc) == at {
				next = append(next, t)
			}
		})
		if len(next) != 1 {
			return chain, len(next) == 0
		}
		at = next[0]
		chain = append(chain, at)
	}
}

// end returns the last transfer of the chain, -1 if there is none.
func (o *oracle) end(s commits) int {
	chain, ok := o.chain(s)
	switch {
	case !ok:
		return -2
	case len(chain) == 0:
		return -1
	}
	return chain[len(chain)-1]
}

func (o *oracle) ownerOf(s commits) ident.PublicKey {
	switch e := o.end(s); e {
	case -2:
		return ""
	case -1:
		return o.owner
	default:
		return o.ops(e, acp.Transfer)[0].Subject.Key
	}
}

func (o *oracle) owns(c int, in commits) bool { return o.ownerOf(in) == o.commits[c].Author }

// may is rule 4: whether the author of c may do what c does with those tuples. s is
// only asked for what stands beside c.
func (o *oracle) may(c int, s commits, owns bool, held map[tuple]bool) bool {
	n := o.commits[c].Need
	if owns {
		return true
	}
	has := func(relations []string) bool {
		for t := range held {
			if slices.Contains(relations, t.relation) && o.is(c, s, t.subject) {
				return true
			}
		}
		return false
	}
	manages := func(relation string) (all []string) {
		for m, managed := range o.manages {
			if relation == "" || slices.Contains(managed, relation) {
				all = append(all, m)
			}
		}
		return all
	}
	if n.Update && !has(o.permits["update"]) || n.Delete && !has(o.permits["delete"]) || n.Keys && !has(append(manages(""), o.permits["update"]...)) {
		return false
	}
	for _, op := range n.Ops {
		if op.Kind == acp.Transfer || op.Kind == acp.Accept || !has(manages(op.Relation)) {
			return false
		}
	}
	return true
}

// is says whether the author of c is the subject, by what c knows of groups and by
// what each commit of s beside it knows too.
func (o *oracle) is(c int, s commits, who acp.Subject) bool {
	if who.All || who.Key != "" {
		return who.All || who.Key == o.commits[c].Author
	}
	is := o.groups(o.known(c), who.Group, who.Relation, o.commits[c].Author)
	s.each(func(k int) {
		if o.concurrent(c, k) && len(o.commits[k].Auth) > 0 {
			is = is && o.groups(append(o.known(c), o.known(k)...), who.Group, who.Relation, o.commits[c].Author)
		}
	})
	return is
}

func (o *oracle) known(c int) (known []acp.ID) {
	known = slices.Clone(o.commits[c].Auth)
	o.commits[c].anc.each(func(a int) { known = append(known, o.commits[a].Auth...) })
	return known
}

// void is rule 5.
func (o *oracle) void(c int, s commits) bool {
	key := memo{c, s}
	if v, ok := o.voids[key]; ok {
		return v
	}
	anc := o.commits[c].anc
	var held map[tuple]bool
	// No tuple lets anybody accept: or whether a grant counts could depend on an
	// acceptance, and that on the grant.
	if len(o.ops(c, acp.Accept)) == 0 {
		held = o.heldFor(anc, s)
	}
	owns := o.owns(c, anc)
	chain, _ := o.chain(anc)
	s.each(func(k int) {
		if !o.concurrent(c, k) {
			return
		}
		for _, t := range o.tuples(k, acp.Revoke) {
			delete(held, t)
		}
		if len(o.ops(k, acp.Transfer)) > 0 {
			from := o.end(o.commits[k].anc)
			rival := slices.ContainsFunc(chain, func(t int) bool { return o.end(o.commits[t].anc) == from })
			if from == o.end(anc) || rival {
				owns = false
			}
		}
	})
	v := !o.may(c, s, owns, held)
	s.each(func(a int) {
		for _, op := range o.ops(a, acp.Accept) {
			if slices.Contains(op.Commits, o.commits[c].ID) && o.commits[a].anc.has(c) && !o.void(a, s) {
				v = false
			}
		}
	})
	o.voids[key] = v
	return v
}
