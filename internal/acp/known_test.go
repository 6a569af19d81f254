package acp_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Nobody fills a document up with links into groups, at which each question after a
// member would have to look. Its owner can name some more.
func TestLinksIntoGroupsAreBounded(t *testing.T) {
	l := &line{t: t, r: sharedRules, state: acp.Begin(people[ann])}
	l.ok("ann", does(grant("writer", acp.OfKey(person("bob")))))
	links := func(n int) (ids []acp.ID) {
		for k := range 32 {
			ids = append(ids, id(fmt.Sprint("link ", n, " ", k)))
		}
		slices.SortFunc(ids, acp.ID.Compare)
		return ids
	}
	anchor := func(author string, before acp.Frontier, auth ...acp.ID) (acp.Commit, acp.Verdict, error) {
		l.height++
		c := acp.Commit{ID: id(fmt.Sprint("anchor ", l.height)), Height: l.height, Author: person(author), Before: before, Need: writes, Auth: auth}
		v, err := l.state.Judge(sharedRules, c, nil)
		return c, v, err
	}
	for n := range acp.MaxKnown / 32 {
		c, v, err := anchor("bob", l.before, links(n)...)
		if err == nil {
			l.state, err = l.state.Add(sharedRules, c, v, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		l.before = acp.Above(c)
	}
	full := l.before
	for _, beside := range []string{"on top of all", "beside another"} {
		if _, _, err := anchor("bob", full, id("one more")); !errors.Is(err, fault.Invalid) || errors.Is(err, acp.ErrRefused) {
			t.Errorf("%s, bob names more of groups than he may: %v", beside, err)
		}
		if _, _, err := anchor("bob", full, links(0)...); err != nil {
			t.Errorf("%s, bob does not name what is known: %v", beside, err)
		}
		if _, _, err := anchor("ann", full, id("one more")); err != nil {
			t.Errorf("%s, the owner names no more: %v", beside, err)
		}
		l.ok("ann", does(grant("reader", acp.OfKey(person("dan")))))
	}
	for n := range acp.MaxKnown / 32 {
		c, v, err := anchor("ann", l.before, links(acp.MaxKnown+n)...)
		if err == nil {
			l.state, err = l.state.Add(sharedRules, c, v, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		l.before = acp.Above(c)
	}
	if _, _, err := anchor("ann", l.before, id("one more")); !errors.Is(err, fault.Invalid) {
		t.Errorf("the owner names more than twice as much: %v", err)
	}
}

// People share a document beside each other, with groups of more relations than two bytes
// count: each is kept by its name, whatever comes on top.
func TestManyRelationsOfGroups(t *testing.T) {
	const beside = 1<<16/acp.MaxOps + 1
	group := id("group")
	name := func(i int) string { return fmt.Sprintf("r%05d", i) }
	h := acp.NewHistory(sharedRules, people[ann])
	add := func(c acp.Commit, parents ...acp.ID) {
		if err := h.Add(c, parents...); err != nil {
			t.Fatal(err)
		}
	}
	root := acp.Commit{ID: id("root"), Height: 1, Author: people[ann], Need: writes}
	add(root)
	commits := make([]acp.Commit, beside)
	for i := range commits {
		commits[i] = acp.Commit{ID: id(fmt.Sprint(i)), Height: 2, Author: people[ann]}
		for k := range acp.MaxOps {
			commits[i].Need.Ops = append(commits[i].Need.Ops, grant("reader", acp.OfGroup(group, name(i*acp.MaxOps+k))))
		}
	}
	slices.SortFunc(commits, func(a, b acp.Commit) int { return a.ID.Compare(b.ID) })
	for _, c := range commits {
		add(c, root.ID)
	}
	j, err := h.Judge(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := j.State
	for top := range 2 {
		for _, one := range []string{name(0), name(1<<16 - 1), name(1 << 16), name(beside*acp.MaxOps - 1)} {
			who := acp.Actor{Groups: func(_ acp.ID, relation string) bool { return relation == one }}
			if !s.Allows(sharedRules, who, sharedRules.Read) {
				t.Errorf("who has relation %s may not read", one)
			}
		}
		c := acp.Commit{ID: id(fmt.Sprint("on top ", top)), Height: uint64(3 + top), Author: people[ann], Before: s.Frontier(), Need: does(revoke("reader", acp.OfKey(person("bob"))))}
		// They are more than anybody may make of one: what they are, can be taken back.
		if v, err := s.Judge(sharedRules, c, nil); err != nil || v != acp.Counts {
			t.Fatalf("a revocation: %v, %v", v, err)
		}
		if s, err = s.Add(sharedRules, c, acp.Counts, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// full returns a document with so many commits of its owner one after the other, each of which
// does something with rights.
func full(t *testing.T, n int, does func(i int) acp.Need) (acp.State, acp.Frontier) {
	t.Helper()
	h := acp.NewHistory(sharedRules, people[ann])
	var parents []acp.ID
	for i := range n {
		c := acp.Commit{ID: id(fmt.Sprint("event ", i)), Height: uint64(i + 1), Author: people[ann], Need: does(i)}
		if err := h.Add(c, parents...); err != nil {
			t.Fatal(err)
		}
		parents = []acp.ID{c.ID}
	}
	j, err := h.Judge(nil)
	if err != nil {
		t.Fatal(err)
	}
	return j.State, j.State.Frontier()
}

// judges says what is wrong with a commit on top of a document, and with the same beside another.
func judges(t *testing.T, s acp.State, on acp.Frontier, author int, need acp.Need) (top, beside error) {
	t.Helper()
	c := acp.Commit{ID: id("one more"), Height: 1 << 20, Author: people[author], Before: on, Need: need}
	_, top = s.Judge(sharedRules, c, nil)
	other := acp.Commit{ID: id("another"), Height: 1 << 20, Author: people[ann], Before: on, Need: does(revoke("deleter", key(dan)))}
	s, err := s.Add(sharedRules, other, acp.Counts, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, beside = s.Judge(sharedRules, c, nil)
	return top, beside
}

// A document is shared with so many, and what is taken back leaves room.
func TestADocumentIsSharedWithSoMany(t *testing.T) {
	const commits = acp.MaxTuples / acp.MaxOps
	to := func(i int) acp.Op { return grant("reader", acp.OfGroup(team, fmt.Sprint("r", i))) }
	s, on := full(t, commits, func(i int) (n acp.Need) {
		for k := range acp.MaxOps {
			n.Ops = append(n.Ops, to(i*acp.MaxOps+k))
		}
		return n
	})
	if got := len(s.Tuples(sharedRules)); got != acp.MaxTuples {
		t.Fatalf("%d tuples are held, want %d", got, acp.MaxTuples)
	}
	want := func(what string, invalid bool, s acp.State, on acp.Frontier, need acp.Need) {
		t.Helper()
		top, beside := judges(t, s, on, ann, need)
		if errors.Is(top, fault.Invalid) != invalid || errors.Is(beside, fault.Invalid) != invalid || !invalid && (top != nil || beside != nil) {
			t.Errorf("%s: on top %v, beside another %v; want it refused %v", what, top, beside, invalid)
		}
	}
	want("one more", true, s, on, does(grant("writer", key(bo))))
	want("one that is held", true, s, on, does(to(0)))
	want("a revocation", false, s, on, does(revoke("reader", key(bo))))
	c := acp.Commit{ID: id("less"), Height: commits + 1, Author: people[ann], Before: on, Need: does(revoke("reader", to(7).Subject))}
	s, err := s.Add(sharedRules, c, acp.Counts, nil)
	if err != nil {
		t.Fatal(err)
	}
	want("one in its place", false, s, acp.Above(c), does(grant("writer", key(bo))))
	want("two in its place", true, s, acp.Above(c), does(grant("writer", key(bo)), grant("reader", key(bo))))
}

// The owner of a document does so much with its rights, and others half of it.
func TestWhatIsDoneWithRightsIsBounded(t *testing.T) {
	in := func(int) acp.Need { return does(grant("admin", key(bo))) }
	for _, c := range []struct {
		events, who int
		invalid     bool
	}{
		{acp.MaxEvents - 1, bo, false}, {acp.MaxEvents, bo, true}, {acp.MaxEvents, ann, false},
		{2*acp.MaxEvents - 2, ann, false}, {2 * acp.MaxEvents, ann, true},
	} {
		s, on := full(t, c.events, in)
		top, beside := judges(t, s, on, c.who, does(grant("writer", key(cy))))
		if errors.Is(top, fault.Invalid) != c.invalid || errors.Is(beside, fault.Invalid) != c.invalid || !c.invalid && (top != nil || beside != nil) {
			t.Errorf("with %d events, %d grants: on top %v, beside another %v; want it refused %v", c.events, c.who, top, beside, c.invalid)
		}
		if top, beside := judges(t, s, on, ann, writes); top != nil || beside != nil {
			t.Errorf("with %d events the owner does not write: %v, %v", c.events, top, beside)
		}
	}
}

// Nobody gives or takes what the policy has not, nor the ownership: not even the owner.
func TestNobodyGrantsWhatThePolicyHasNot(t *testing.T) {
	s, on := full(t, 1, func(int) acp.Need { return does(grant("reader", key(bo))) })
	for _, relation := range []string{"guest", "owner", ""} {
		for _, op := range []acp.Op{grant(relation, key(bo)), revoke(relation, key(bo))} {
			if top, beside := judges(t, s, on, ann, does(op)); !errors.Is(top, fault.Invalid) || !errors.Is(beside, fault.Invalid) {
				t.Errorf("%v: on top %v, beside another %v; want it refused", op, top, beside)
			}
		}
	}
}

// lost cannot tell who is in one group, and knows that nobody is in others.
type lost struct{ group acp.ID }

func (l lost) Member(_ []acp.ID, group acp.ID, _ string, _ ident.PublicKey) (bool, error) {
	if group == l.group {
		return false, fault.Unavailable.Errorf("it cannot be told who is in the group")
	}
	return false, nil
}

// A node that cannot tell who is in a group says so: it refuses nobody for that, and lets
// nobody in.
func TestWhoCannotTellDoesNotJudge(t *testing.T) {
	groups := []acp.ID{{1}, {2}, {3}}
	s, on := full(t, 1, func(int) acp.Need {
		var ops []acp.Op
		for _, g := range groups {
			ops = append(ops, grant("writer", acp.OfGroup(g, "writer")))
		}
		return does(ops...)
	})
	other := acp.Commit{ID: id("another"), Height: 2, Author: people[ann], Before: on, Need: does(grant("reader", key(dan)))}
	later, err := s.Add(sharedRules, other, acp.Counts, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := acp.Commit{ID: id("bo writes"), Height: 2, Author: people[bo], Before: on, Need: writes, Auth: []acp.ID{id("link")}}
	for i, g := range groups {
		_, top := s.Judge(sharedRules, c, lost{g})
		_, beside := later.Judge(sharedRules, c, lost{g})
		review, err := s.Review(sharedRules, lost{g})
		if err != nil {
			t.Fatal(err)
		}
		for where, err := range map[string]error{"on top": top, "beside another": beside, "in a review": review.Admit(c)} {
			if !errors.Is(err, fault.Unavailable) {
				t.Errorf("%s, of group %d: %v, want unavailable", where, i, err)
			}
		}
	}
	if _, err := s.Judge(sharedRules, c, lost{}); !errors.Is(err, acp.ErrRefused) {
		t.Errorf("bo, who is in no group: %v, want refused", err)
	}
}
