package acp_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/fault"
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
		if s, err = s.Add(sharedRules, c, acp.Counts, nil); err != nil {
			t.Fatal(err)
		}
	}
}
