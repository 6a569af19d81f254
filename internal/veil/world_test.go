package veil_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/value"
	"github.com/pandodb/pando/internal/veil"
)

const policy = `
name: letters
actor:
  name: actor
resources:
  letter:
    permissions:
      read:   {expr: owner + reader + writer}
      update: {expr: owner + writer}
      delete: {expr: owner}
    relations:
      owner:  {types: [actor]}
      reader: {types: [actor]}
      writer: {types: [actor]}
      admin:  {types: [actor], manages: [reader, writer]}
`

var rules = func() *acp.Rules {
	p, err := acp.ParsePolicy([]byte(policy))
	if err != nil {
		panic(err)
	}
	r, err := p.Rules("letter")
	if err != nil {
		panic(err)
	}
	return r
}()

// person returns the key of somebody. Each has another kind of key.
func person(i int) ident.Key {
	alg := []ident.Algorithm{ident.EdDSA, ident.ES256K, ident.ES256}[i%3]
	k, err := ident.GenerateFrom(alg, strings.NewReader(strings.Repeat(string(rune('a'+i)), 256)))
	if err != nil {
		panic(err)
	}
	return k
}

var people = []ident.Key{person(0), person(3), person(1), person(2)} // ann, bo, cy, dan

// chance is deterministic randomness.
func chance(seed uint64) io.Reader {
	var s [32]byte
	binary.BigEndian.PutUint64(s[:], seed)
	return rand.NewChaCha8(s)
}

const (
	title = crdt.FieldID(16)
	body  = crdt.FieldID(17)
)

func set(f crdt.FieldID, text string) crdt.Delta {
	return crdt.Delta{Field: f, Kind: crdt.KindOf(crdt.LWW, value.TypeString), Val: value.OfString(text)}
}

func grant(relation string, s acp.Subject) acp.Op {
	return acp.Op{Kind: acp.Grant, Relation: relation, Subject: s}
}

func revoke(relation string, s acp.Subject) acp.Op {
	return acp.Op{Kind: acp.Revoke, Relation: relation, Subject: s}
}

// entry is a commit of the letter and what the test knows of it.
type entry struct {
	*dag.Commit
	anc  map[dag.CID]bool
	text string // what it says, encrypted; "" if nothing
	team int    // how many changes of the team it knows of
}

// world is a letter, of which replicas hold parts.
type world struct {
	doc     acp.ID
	commits map[dag.CID]*entry
	order   []*entry          // as they were made
	team    []ident.PublicKey // who joined, and left again, in turns
	rand    io.Reader
}

// members returns who is in the team after that many changes.
func (w *world) members(version int) (keys []ident.PublicKey) {
	for _, k := range w.team[:version] {
		if i := slices.Index(keys, k); i >= 0 {
			keys = slices.Delete(keys, i, i+1)
		} else {
			keys = append(keys, k)
		}
	}
	return keys
}

// replica is what one node holds of the letter, as a store keeps it.
type replica struct {
	*world
	me     ident.Key
	have   map[dag.CID]bool
	access acp.State
	keys   veil.State
	before map[dag.CID]acp.Frontier
	heads  []dag.CID
	known  int // of the team
}

var theTeam = acp.ID(sha256.Sum256([]byte("team")))

// Member knows of nobody: what is written here needs no group.
func (r *replica) Member([]acp.ID, acp.ID, string, ident.PublicKey) (bool, error) { return false, nil }

func newReplica(w *world, me ident.Key) *replica {
	return &replica{world: w, me: me, have: map[dag.CID]bool{}, access: acp.Begin(people[0].Public()), before: map[dag.CID]acp.Frontier{}}
}

func needOf(c *dag.Commit) acp.Need {
	sealed := slices.ContainsFunc(c.Segs, func(s dag.Segment) bool { return s.Group != 0 })
	n, err := acp.NeedOf(c.Deltas, sealed)
	if err != nil {
		panic(err)
	}
	return n
}

func (r *replica) standing(c *dag.Commit) (acp.Commit, error) {
	var fs []acp.Frontier
	for _, p := range c.Parents {
		e := r.commits[p]
		fs = append(fs, acp.Above(acp.Commit{ID: acp.ID(p), Need: needOf(e.Commit), Before: r.before[p]}))
	}
	before, err := r.access.Join(fs...)
	return acp.Commit{ID: acp.ID(c.CID), Height: c.Height, Author: c.Author.Key, Before: before, Need: needOf(c)}, err
}

// take applies a commit whose parents are here, as every node does, with keys or
// without.
func (r *replica) take(e *entry) error {
	if r.have[e.CID] {
		return nil
	}
	a, err := r.standing(e.Commit)
	if err != nil {
		return err
	}
	ops, err := veil.Ops(e.Deltas)
	if err != nil {
		return err
	}
	v, err := r.access.Judge(rules, a, r)
	if err != nil {
		return err
	}
	if err := r.keys.Check(e.Commit, ops, veil.Standing{Rules: rules, Access: r.access, Before: a.Before, Need: a.Need}); err != nil {
		return err
	}
	if r.access, err = r.access.Add(rules, a, v, r); err != nil {
		return err
	}
	r.keys = r.keys.Add(acp.ID(e.CID), e.Height, ops)
	r.have[e.CID], r.before[e.CID], r.known = true, a.Before, max(r.known, e.team)
	r.heads = slices.DeleteFunc(r.heads, func(h dag.CID) bool { return slices.Contains(e.Parents, h) })
	r.heads = append(r.heads, e.CID)
	slices.SortFunc(r.heads, dag.CID.Compare)
	return nil
}

// readers returns who may read by what the replica knows and what is about to change.
func (r *replica) readers(ops ...acp.Op) veil.Readers {
	all := veil.Readers{Keys: []ident.PublicKey{people[0].Public()}}
	held := map[acp.Tuple]bool{}
	for _, t := range r.access.Tuples(rules) {
		held[t] = true
	}
	for _, o := range ops {
		held[acp.Tuple{Relation: o.Relation, Subject: o.Subject}] = o.Kind == acp.Grant
	}
	for t, ok := range held {
		switch {
		case !ok || t.Relation != "reader" && t.Relation != "writer":
		case t.Subject.All:
			all.Everyone = true
		case t.Subject.Group == theTeam:
			all.Keys = append(all.Keys, r.members(r.known)...)
		default:
			all.Keys = append(all.Keys, t.Subject.Key)
		}
	}
	return all
}

func (r *replica) source(id acp.ID) ([]veil.Op, error) {
	if !r.have[dag.CID(id)] {
		return nil, errors.New("asks for a commit that is not here")
	}
	return veil.Ops(r.commits[dag.CID(id)].Deltas)
}

func (r *replica) finder(keys ...ident.Key) *veil.Finder {
	return veil.NewFinder(r.doc, r.keys, keys, nil, r.source)
}

// reads returns what those keys can read of a commit, and whether they can.
func (r *replica) reads(f *veil.Finder, e *entry) (string, bool) {
	deltas, ok, err := f.Open(e.Commit, veil.Standing{Rules: rules, Access: r.access, Before: r.before[e.CID], Need: needOf(e.Commit)})
	if err != nil {
		panic(err)
	}
	for _, d := range deltas {
		if d.Field == body && !d.Void {
			return d.Val.Text(), ok
		}
	}
	return "", ok
}

// unlocked reports whether the owner of the replica can read all that is here.
func (r *replica) unlocked() bool {
	f := r.finder(r.me)
	for id := range r.have {
		if _, ok := r.reads(f, r.commits[id]); !ok {
			return false
		}
	}
	return true
}

// write makes a commit on the heads: of text to be encrypted, and access operations.
func (r *replica) write(text string, ops ...acp.Op) (*entry, error) {
	e := &entry{Commit: &dag.Commit{Author: dag.Author{Key: r.me.Public()}, Height: 1}, anc: map[dag.CID]bool{}, text: text, team: r.known}
	c := e.Commit
	for _, h := range r.heads {
		p := r.commits[h]
		c.Parents = append(c.Parents, h)
		c.Height, c.HLC = max(c.Height, p.Height+1), max(c.HLC, p.HLC)
		e.anc[h] = true
		for a := range p.anc {
			e.anc[a] = true
		}
	}
	c.HLC++
	for _, o := range ops {
		c.Deltas = append(c.Deltas, o.Delta())
	}
	plan, err := r.begin(c, ops)
	if err != nil {
		return nil, err
	}
	for _, o := range plan.Ops {
		c.Deltas = append(c.Deltas, o.Delta())
	}
	if text != "" {
		c.Deltas = append(c.Deltas, set(body, text))
	}
	if c.Root != nil || text != "" {
		if err := plan.Key.Seal(c, r.cover(), r.rand); err != nil {
			return nil, err
		}
	}
	if err := dag.Prepare(c); err != nil {
		return nil, err
	}
	r.commits[c.CID] = e
	r.order = append(r.order, e)
	return e, r.take(e)
}

func (r *replica) cover() veil.Cover { return veil.Cover{All: true} }

func (r *replica) begin(c *dag.Commit, ops []acp.Op) (veil.Plan, error) {
	if len(c.Parents) == 0 {
		seed, err := dag.SealedSeed(c.Author.Key, r.rand)
		if err != nil {
			return veil.Plan{}, err
		}
		c.Root = &dag.RootSeed{Mode: dag.ModeOwned, Seed: seed}
		c.Doc = c.Root.DocID()
		r.doc = acp.ID(c.Doc)
		return r.cover().Begin(r.doc, r.readers(ops...), []ident.Key{r.me}, r.rand)
	}
	c.Doc = dag.DocID(r.doc)
	a, err := r.standing(c)
	if err != nil {
		return veil.Plan{}, err
	}
	at := veil.Standing{Rules: rules, Access: r.access, Before: a.Before, Need: acp.Need{Ops: ops}}
	return r.finder(r.me).Plan(at, r.readers(ops...), r.rand)
}

// sync takes everything that another replica has.
func (r *replica) sync(o *replica) error {
	for _, e := range r.order {
		if o.have[e.CID] {
			if err := r.take(e); err != nil {
				return fmt.Errorf("commit %v: %w", e.CID, err)
			}
		}
	}
	return nil
}

func newWorld(t testing.TB) (*world, *replica) {
	w := &world{commits: map[dag.CID]*entry{}, rand: chance(1)}
	ann := newReplica(w, people[0])
	if _, err := ann.write("dear all"); err != nil {
		t.Fatal(err)
	}
	return w, ann
}

// drawWorld lets people write, let each other in and out, and sync, and returns their
// replicas.
func drawWorld(t *rapid.T) (*world, []*replica) {
	w := &world{commits: map[dag.CID]*entry{}, rand: chance(rapid.Uint64().Draw(t, "chance"))}
	var rs []*replica
	for _, k := range people {
		rs = append(rs, newReplica(w, k))
	}
	if _, err := rs[0].write("text 0"); err != nil {
		t.Fatal(err)
	}
	for i := range rapid.IntRange(4, 24).Draw(t, "steps") {
		who := rapid.SampledFrom([]int{0, 0, 1, 1, 2, 3}).Draw(t, "who")
		r := rs[who]
		if len(r.have) == 0 || rapid.IntRange(0, 2).Draw(t, "sync") == 0 {
			if err := r.sync(rs[rapid.IntRange(0, len(rs)-1).Draw(t, "from")]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := r.act(t, fmt.Sprint("text ", i+1)); err != nil {
			t.Fatalf("step %d of %d: %v", i, who, err)
		}
	}
	return w, rs
}

// act does something at random that the owner of the replica may do.
func (r *replica) act(t *rapid.T, text string) error {
	may := func(p acp.Permission) bool {
		return r.access.Allows(rules, acp.Actor{Keys: []ident.PublicKey{r.me.Public()}}, p)
	}
	admin, _ := rules.Holding("admin")
	owner, _ := rules.Holding("owner")
	does := rapid.IntRange(0, 9).Draw(t, "does")
	switch {
	case does < 5:
		if !may(rules.Update) || !r.unlocked() {
			return nil
		}
		_, err := r.write(text)
		return err
	case does == 5 && may(owner): // ann is the owner of the team too
		who := people[rapid.IntRange(1, 3).Draw(t, "member")].Public()
		if len(r.team) == r.known {
			r.team = append(r.team, who)
			r.known++
		}
		return nil
	}
	subjects := []acp.Subject{acp.OfKey(people[1].Public()), acp.OfKey(people[2].Public()), acp.OfKey(people[3].Public()), acp.OfGroup(theTeam, "member"), acp.Everyone}
	op := acp.Op{
		Kind:     rapid.SampledFrom([]acp.OpKind{acp.Grant, acp.Grant, acp.Revoke}).Draw(t, "kind"),
		Relation: rapid.SampledFrom([]string{"reader", "writer", "admin"}).Draw(t, "relation"),
		Subject:  subjects[rapid.SampledFrom([]int{0, 0, 1, 1, 2, 3, 3, 4}).Draw(t, "subject")],
	}
	if op.Subject.All || op.Subject.Relation != "" {
		op.Relation = "reader"
	}
	if op.Relation == "admin" && !may(owner) || !may(admin|owner) {
		return nil
	}
	if !rapid.Bool().Draw(t, "writes too") || !may(rules.Update) || !r.unlocked() {
		text = ""
	}
	_, err := r.write(text, op)
	return err
}

// Whatever the order in which commits arrive, and whether they can be read or not, the
// same commits make the same state of keys; and none is refused.
func TestKeysAreAFunctionOfTheSetOfCommits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w, _ := drawWorld(t)
		var want []byte
		for range 3 {
			r := newReplica(w, ident.Key{})
			for len(r.have) < len(w.order) {
				var can []*entry
				for _, e := range w.order {
					if !r.have[e.CID] && !slices.ContainsFunc(e.Parents, func(p dag.CID) bool { return !r.have[p] }) {
						can = append(can, e)
					}
				}
				if err := r.take(rapid.SampledFrom(can).Draw(t, "arrives")); err != nil {
					t.Fatal(err)
				}
			}
			if want == nil {
				want = r.keys.Bytes()
			}
			if got := r.keys.Bytes(); !bytes.Equal(got, want) {
				t.Fatalf("the same commits make %x and %x", got, want)
			}
			s, err := veil.Open(want)
			if err != nil || !bytes.Equal(s.Bytes(), want) {
				t.Fatalf("%x opens as %x, %v", want, s.Bytes(), err)
			}
		}
	})
}

// mayRead says whether somebody may read by the commits below and with one of them, as
// the one who made it knew the team.
func (w *world) mayRead(t *rapid.T, who ident.Key, e *entry) bool {
	r := newReplica(w, who)
	for _, x := range w.order {
		if e.anc[x.CID] || x == e {
			if err := r.take(x); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := r.readers()
	return all.Everyone || slices.Contains(all.Keys, who.Public())
}

// Who has all commits opens nothing that was written a causal step after he lost the
// right to read; and who has the right at the end opens everything, as soon as
// somebody who can has written.
func TestKeysFollowTheRights(t *testing.T) {
	t.Parallel()
	locked, opened := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w, rs := drawWorld(t)
		ann := rs[0]
		for _, r := range rs[1:] {
			if err := ann.sync(r); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ann.write("the end"); err != nil {
			t.Fatal(err)
		}
		now := ann.readers()
		for i, k := range people {
			f := ann.finder(k)
			reads := map[dag.CID]bool{}
			for _, e := range w.order {
				reads[e.CID] = w.mayRead(t, k, e)
			}
			for n, e := range w.order {
				text, ok := ann.reads(f, e)
				if ok && text != e.text {
					t.Fatalf("commit %d says %q to %d, want %q", n, text, i, e.text)
				}
				if now.Everyone || slices.Contains(now.Keys, k.Public()) {
					if opened++; !ok {
						t.Fatalf("%d may read, and cannot open commit %d of\n%s", i, n, w)
					}
					continue
				}
				ever := false // with the commit, above it, or beside it, when nobody could know
				for _, x := range w.order {
					ever = ever || !e.anc[x.CID] && reads[x.CID]
				}
				if ever || e.text == "" {
					continue
				}
				if locked++; ok {
					t.Fatalf("%d may not read since before commit %d, and opens it\n%s", i, n, w)
				}
			}
		}
	})
	if locked == 0 || opened == 0 {
		t.Errorf("%d commits were locked and %d open: the test shows nothing", locked, opened)
	}
}

func (w *world) String() string {
	place := map[dag.CID]int{}
	var b strings.Builder
	for i, e := range w.order {
		place[e.CID] = i
		fmt.Fprintf(&b, "%d by %d on", i, slices.IndexFunc(people, func(k ident.Key) bool { return k.Public() == e.Author.Key }))
		for _, p := range e.Parents {
			fmt.Fprintf(&b, " %d", place[p])
		}
		fmt.Fprintf(&b, ": %q team %d", e.text, e.team)
		for _, o := range needOf(e.Commit).Ops {
			fmt.Fprintf(&b, ", %v %s %d %v%v", o.Kind, o.Relation, slices.IndexFunc(people, func(k ident.Key) bool { return k.Public() == o.Subject.Key }), o.Subject.All, o.Subject.Relation)
		}
		ops, _ := veil.Ops(e.Deltas)
		for _, o := range ops {
			fmt.Fprintf(&b, "; %v %x", o.Kind, o.Epoch[:2])
			for _, wrap := range o.Wraps {
				fmt.Fprintf(&b, " %d", slices.IndexFunc(people, func(k ident.Key) bool { return k.Public() == wrap.To }))
			}
			if o.Kind == veil.Link {
				fmt.Fprintf(&b, "→%x", o.Older[:2])
			}
		}
		for _, s := range e.Segs {
			fmt.Fprintf(&b, "; segment %d of %x", s.Group, s.Epoch>>47)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
