package acp_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

const shared = `
name: shared
resources:
  doc:
    permissions:
      read:   {expr: owner + reader + writer + admin}
      update: {expr: owner + writer}
      delete: {expr: owner + deleter}
    relations:
      owner: {types: [actor]}
      reader: {types: [actor]}
      writer: {types: [actor]}
      deleter: {types: [actor]}
      admin: {types: [actor], manages: [reader, writer, admin]}
`

var (
	sharedRules = func() *acp.Rules {
		p, err := acp.ParsePolicy([]byte(shared))
		if err != nil {
			panic(err)
		}
		r, err := p.Rules("doc")
		if err != nil {
			panic(err)
		}
		return r
	}()
	people = []ident.PublicKey{person("ann"), person("bo"), person("cy"), person("dan")}
	team   = id("the team") // a group document
)

// histories is how many random histories a test goes through: each part has the
// hundred of rapid. PANDO_HISTORIES=1000 makes it a hundred thousand.
func histories(t *testing.T, parts int, check func(t *rapid.T)) {
	if n, err := strconv.Atoi(os.Getenv("PANDO_HISTORIES")); err == nil {
		parts = n
	}
	for i := range parts {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, check)
		})
	}
}

// drawn is a random history of a document, and of the group that it knows.
type drawn struct {
	*oracle
	team    *oracle
	invalid []commit
}

func drawHistory(t *rapid.T) *drawn {
	d := &drawn{oracle: newOracle(people[0]), team: newOracle(people[0])}
	d.groups = d.teamAsOf
	draw(t, d.team, "team", rapid.IntRange(2, 6).Draw(t, "team commits"), func() acp.Commit {
		return acp.Commit{Author: people[0], Need: acp.Need{Ops: []acp.Op{d.membership(t)}}}
	})
	d.invalid = draw(t, d.oracle, "doc", rapid.IntRange(6, 24).Draw(t, "commits"), func() acp.Commit { return d.drawCommit(t) })
	return d
}

// teamAsOf says who is a member of the team by the commits that are known of it.
func (d *drawn) teamAsOf(known []acp.ID, group acp.ID, relation string, key ident.PublicKey) bool {
	var at commits
	for _, k := range known {
		if i, ok := d.team.place[k]; ok {
			at |= d.team.commits[i].anc | 1<<i
		}
	}
	held := d.team.held(at)
	return group == team && at != 0 && (held[tuple{relation, acp.OfKey(key)}] || held[tuple{relation, acp.Everyone}])
}

func (d *drawn) membership(t *rapid.T) acp.Op {
	who := acp.OfKey(people[rapid.IntRange(1, 3).Draw(t, "member")])
	return acp.Op{Kind: rapid.SampledFrom([]acp.OpKind{acp.Grant, acp.Grant, acp.Revoke}).Draw(t, "membership"), Relation: "writer", Subject: who}
}

// draw adds n commits on random parents, and returns those that are not valid.
func draw(t *rapid.T, o *oracle, name string, n int, next func() acp.Commit) (invalid []commit) {
	for i := range n {
		c := next()
		c.ID = id(fmt.Sprint(name, i))
		var parents []acp.ID
		switch rapid.IntRange(0, 9).Draw(t, "parents") {
		case 0, 1, 2, 3, 4: // the heads
			for k := range o.commits {
				if !slices.ContainsFunc(o.commits, func(c commit) bool { return c.anc.has(k) }) {
					parents = append(parents, o.commits[k].ID)
				}
			}
		default:
			for range min(len(o.commits), rapid.IntRange(1, 2).Draw(t, "how many")) {
				parents = append(parents, o.commits[rapid.IntRange(0, len(o.commits)-1).Draw(t, "parent")].ID)
			}
		}
		if len(parents) == 0 || rapid.IntRange(0, 19).Draw(t, "root") == 0 {
			parents = nil
			c.Author = people[rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "who begins")]
		}
		if added, ok := o.add(c, parents); !ok {
			invalid = append(invalid, added)
		}
	}
	return invalid
}

func (d *drawn) drawCommit(t *rapid.T) acp.Commit {
	c := acp.Commit{Author: people[[]int{0, 0, 1, 1, 2, 3}[rapid.IntRange(0, 5).Draw(t, "author")]]}
	for range rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "needs") {
		d.drawNeed(t, &c)
	}
	c.Need.Update = c.Need.Update || len(c.Need.Ops) == 0 && !c.Need.Delete && !c.Need.Keys
	if rapid.IntRange(0, 2).Draw(t, "anchors") == 0 && len(d.team.commits) > 0 {
		c.Auth = []acp.ID{d.team.commits[rapid.IntRange(0, len(d.team.commits)-1).Draw(t, "anchor")].ID}
	}
	return c
}

func (d *drawn) drawNeed(t *rapid.T, c *acp.Commit) {
	relation := rapid.SampledFrom([]string{"writer", "writer", "deleter", "admin", "admin"}).Draw(t, "relation")
	subject := []acp.Subject{
		acp.OfKey(people[1]), acp.OfKey(people[1]), acp.OfKey(people[2]), acp.OfKey(people[3]), acp.Everyone, acp.OfGroup(team, "writer"),
	}[rapid.IntRange(0, 5).Draw(t, "subject")]
	op := acp.Op{Relation: relation, Subject: subject}
	switch rapid.IntRange(0, 13).Draw(t, "does") {
	case 0, 1, 2:
		c.Need.Update = true
		return
	case 3:
		c.Need.Delete = true
		return
	case 4:
		c.Need.Keys = true
		return
	case 5, 6, 7, 8:
		op.Kind = acp.Grant
	case 9, 10, 11:
		op.Kind = acp.Revoke
	case 12:
		if slices.ContainsFunc(c.Need.Ops, func(o acp.Op) bool { return o.Kind == acp.Transfer }) {
			return
		}
		op = acp.Op{Kind: acp.Transfer, Subject: acp.OfKey(people[rapid.IntRange(0, 3).Draw(t, "new owner")])}
	case 13:
		if len(d.commits) == 0 {
			return
		}
		op = acp.Op{Kind: acp.Accept, Commits: []acp.ID{d.commits[rapid.IntRange(0, len(d.commits)-1).Draw(t, "accepted")].ID}}
	}
	c.Need.Ops = append(c.Need.Ops, op)
}

// Member makes the oracle of the group the one who knows its members.
func (d *drawn) Member(known []acp.ID, group acp.ID, relation string, key ident.PublicKey) (bool, error) {
	if !slices.IsSortedFunc(known, acp.ID.Compare) {
		return false, errors.New("what is known is not sorted")
	}
	return d.groups(known, group, relation, key), nil
}

// replica is one node's view of a history, as the store keeps it.
type replica struct {
	*drawn
	state  acp.State
	log    []byte // of its events
	have   commits
	before map[int]acp.Frontier
	counts map[int]acp.Verdict
}

func newReplica(d *drawn) *replica {
	return &replica{drawn: d, state: acp.Begin(people[0]), before: map[int]acp.Frontier{}, counts: map[int]acp.Verdict{}}
}

// standing returns the commit with the events that it stands on.
func (r *replica) standing(c commit) (acp.Commit, error) {
	var fs []acp.Frontier
	for _, p := range c.parents {
		parent := r.commits[r.place[p]].Commit
		parent.Before = r.before[r.place[p]]
		fs = append(fs, acp.Above(parent))
	}
	var err error
	c.Before, err = r.state.Join(fs...)
	return c.Commit, err
}

// take judges a commit and adds it, and judges the others again if it unsettles them.
func (r *replica) take(i int) error {
	c, err := r.standing(r.commits[i])
	if err != nil {
		return err
	}
	v, err := r.state.Judge(sharedRules, c, r)
	if err != nil {
		return fmt.Errorf("commit %d: %w", i, err)
	}
	onHeads := r.have&^r.commits[i].anc == 0
	unsettles := r.state.Unsettles(c, onHeads)
	next, err := r.state.Add(sharedRules, c, v, r)
	if err == nil {
		err = r.keep(next)
	}
	if err != nil {
		return err
	}
	r.before[i], r.counts[i] = c.Before, v
	r.have |= 1 << i
	if unsettles {
		return r.again()
	}
	return nil
}

func (r *replica) again() error {
	review, err := r.state.Review(sharedRules, r)
	if err != nil {
		return err
	}
	voided := 0
	r.have.each(func(i int) {
		c := r.commits[i].Commit
		c.Before = r.before[i]
		v, again := review.Again(c, func(event acp.ID) bool { return r.commits[r.place[event]].anc.has(i) })
		err = errors.Join(err, again)
		if r.counts[i] = v; v == acp.Void {
			voided++
		}
	})
	return errors.Join(err, r.keep(r.state.WithVoided(voided)))
}

// keep keeps a state and its events apart from each other.
func (r *replica) keep(s acp.State) (err error) {
	if log, made := s.Log(); made {
		r.log = log
	}
	log := r.log
	r.state, err = acp.Open(s.Bytes())
	r.state = r.state.WithLog(func() ([]byte, error) { return log, nil })
	return err
}

// bytes returns what the replica keeps.
func (r *replica) bytes() []byte { return slices.Concat(r.state.Bytes(), r.log) }

// whole returns the bytes of a state that was made, and of its events.
func whole(s acp.State) []byte {
	log, _ := s.Log()
	return slices.Concat(s.Bytes(), log)
}

// differs says where the replica and the oracle do not agree.
func (r *replica) differs() error {
	var err error
	voided := 0
	r.have.each(func(i int) {
		want := acp.Counts
		if r.void(i, r.have) {
			want = acp.Void
			voided++
		}
		if r.counts[i] != want {
			err = errors.Join(err, fmt.Errorf("commit %d %v, want %v", i, r.counts[i], want))
		}
	})
	if got := r.state.Voided(); got != voided {
		err = errors.Join(err, fmt.Errorf("%d are void, want %d", got, voided))
	}
	if got, want := r.state.Owner(), r.ownerOf(r.have); got != want {
		err = errors.Join(err, fmt.Errorf("owner is %v, want %v", got, want))
	}
	held := r.held(r.have)
	got := r.state.Tuples(sharedRules)
	for _, t := range got {
		if !held[tuple{t.Relation, t.Subject}] {
			err = errors.Join(err, fmt.Errorf("%v is held", t))
		}
	}
	if len(got) != len(held) {
		err = errors.Join(err, fmt.Errorf("%d tuples are held, want %d", len(got), len(held)))
	}
	return errors.Join(err, r.allows(held))
}

// allows says where the state allows another thing than who owns the document, and what is held,
// say: the owner may everything, and has no relation that nobody gave him. The last of the people is in the team, and the second shows two keys.
func (r *replica) allows(held map[tuple]bool) (err error) {
	owner := r.ownerOf(r.have)
	for i := range people {
		who := acp.Actor{Keys: people[i : i+1]}
		if i == 1 {
			who.Keys = people[1:3]
		}
		if i == len(people)-1 {
			who.Groups = func(group acp.ID, relation string) bool { return group == team && relation == "writer" }
		}
		for name, relations := range map[string][]string{
			"read": {"reader", "writer", "admin"}, "update": {"writer"}, "delete": {"deleter"}, "as writer": {"writer"}, "as admin": {"admin"},
		} {
			as, relation := strings.CutPrefix(name, "as ")
			want := !relation && slices.Contains(who.Keys, owner)
			for _, relation := range relations {
				want = want || held[tuple{relation, acp.Everyone}] || who.Groups != nil && held[tuple{relation, acp.OfGroup(team, "writer")}]
				for _, k := range who.Keys {
					want = want || held[tuple{relation, acp.OfKey(k)}]
				}
			}
			p, _ := sharedRules.Permission(name)
			if relation {
				p, _ = sharedRules.Holding(as)
			}
			if got := r.state.Allows(sharedRules, who, p); got != want {
				err = errors.Join(err, fmt.Errorf("%d may %s: %v, want %v", i, name, got, want))
			}
		}
	}
	return err
}

// together judges the same commits all at once, and compares.
func (r *replica) together() error {
	h := acp.NewHistory(sharedRules, people[0])
	var order []int
	r.have.each(func(i int) { order = append(order, i) })
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(r.commits[a].Height, r.commits[b].Height), r.commits[a].ID.Compare(r.commits[b].ID))
	})
	for _, i := range order {
		if err := h.Add(r.commits[i].Commit, r.commits[i].parents...); err != nil {
			return err
		}
	}
	j, err := h.Judge(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(whole(j.State), r.bytes()) {
		err = fmt.Errorf("one by one they make %x, together %x", r.bytes(), whole(j.State))
	}
	for k, i := range order {
		if j.Verdicts[k] != r.counts[i] || !slices.Equal(j.Before(k), r.before[i]) {
			err = errors.Join(err, fmt.Errorf("commit %d on %x %v, together on %x %v", i, r.before[i], r.counts[i], j.Before(k), j.Verdicts[k]))
		}
		err = errors.Join(err, j.Valid(k))
	}
	return err
}

// topological draws an order of the commits, parents first.
func (d *drawn) topological(t *rapid.T) (order []int) {
	var have commits
	for len(order) < len(d.commits) {
		var can []int
		for i, c := range d.commits {
			if !have.has(i) && c.anc&^have == 0 {
				can = append(can, i)
			}
		}
		i := rapid.SampledFrom(can).Draw(t, "arrives")
		order, have = append(order, i), have|1<<i
	}
	return order
}

// Whatever the order in which commits arrive, after every one of them each replica
// agrees with the rules on what is valid, void and held, and replicas with the same
// commits hold the same bytes.
func TestEveryReplicaComesToTheVerdictsOfTheRules(t *testing.T) {
	t.Parallel()
	histories(t, 40, func(t *rapid.T) {
		d := drawHistory(t)
		bySet := map[commits][]byte{}
		for range 3 {
			r := newReplica(d)
			for _, i := range d.topological(t) {
				if err := errors.Join(r.take(i), r.differs()); err != nil {
					t.Fatalf("after commit %d: %v\n%s", i, err, d)
				}
				if old, ok := bySet[r.have]; ok && !bytes.Equal(old, r.bytes()) {
					t.Fatalf("the same commits make %x and %x\n%s", old, r.bytes(), d)
				}
				bySet[r.have] = r.bytes()
			}
			if err := r.together(); err != nil {
				t.Fatalf("%v\n%s", err, d)
			}
			for _, c := range d.invalid {
				bad, err := r.standing(c)
				if err != nil {
					t.Fatal(err)
				}
				if v, err := r.state.Judge(sharedRules, bad, r); !errors.Is(err, fault.Invalid) {
					t.Fatalf("%s is not valid, but %v, %v\n%s", describe(c), v, err, d)
				}
			}
		}
	})
}

// A review that takes one commit after the other, as a merge does, refuses those that the
// rules refuse, whatever came beside them, and stands where the state stands.
func TestAReviewTakesWhatTheRulesLetIn(t *testing.T) {
	t.Parallel()
	histories(t, 10, func(t *rapid.T) {
		d := drawHistory(t)
		r := newReplica(d)
		review, err := r.state.Review(sharedRules, r)
		if err != nil {
			t.Fatal(err)
		}
		admit := func(c commit) error {
			var fs []acp.Frontier
			for _, p := range c.parents {
				parent := r.commits[r.place[p]].Commit
				parent.Before = r.before[r.place[p]]
				fs = append(fs, acp.Above(parent))
			}
			if c.Before, err = review.Join(fs...); err != nil {
				t.Fatal(err)
			}
			if standing, err := r.standing(c); err != nil || !slices.Equal(standing.Before, c.Before) {
				t.Fatalf("%s stands on %x, by the state on %x, %v\n%s", describe(c), c.Before, standing.Before, err, d)
			}
			return review.Admit(c.Commit)
		}
		for _, i := range d.topological(t) {
			for _, c := range d.invalid {
				if slices.ContainsFunc(c.parents, func(p acp.ID) bool { return !r.have.has(r.place[p]) }) {
					continue
				}
				if err := admit(c); !errors.Is(err, acp.ErrRefused) {
					t.Fatalf("%s is not valid, but %v\n%s", describe(c), err, d)
				}
			}
			if err := admit(d.commits[i]); err != nil {
				t.Fatalf("commit %d: %v\n%s", i, err, d)
			}
			if err := r.take(i); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func (d *drawn) String() (text string) {
	for i, c := range d.commits {
		text += fmt.Sprintf("%d on %b: %s\n", i, c.anc, describe(c))
	}
	for i, c := range d.team.commits {
		text += fmt.Sprintf("team %d on %b: %s\n", i, c.anc, describe(c))
	}
	return text
}

func describe(c commit) string {
	text := fmt.Sprintf("%d: update %v delete %v keys %v", slices.Index(people, c.Author), c.Need.Update, c.Need.Delete, c.Need.Keys)
	for _, o := range c.Need.Ops {
		text += fmt.Sprintf(", %v %s %d %v %x", o.Kind, o.Relation, slices.Index(people, o.Subject.Key), o.Subject.Relation, o.Commits)
	}
	return text + fmt.Sprintf(", auth %x", c.Auth)
}
