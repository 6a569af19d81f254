package pando_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/pandodb/pando"
)

// protectedRequests are live queries over notes, kept document by document or not.
var protectedRequests = []string{
	`query @live { Note { text } }`,
	`query @live { Note(filter: {text: {_in: ["a", "b"]}}) { _docID text _acl { permissions tuples { subject } } } }`,
	`query @live { Note(order: {text: DESC}, limit: 2) { text } }`,
	`query @live { n: Note(order: {text: ASC}, limit: 1, offset: 1) { text _acl { owner } } }`,
	`query @live { Note(limit: 2) { text } Open { text } }`,
	`query @live { _count(Note: {filter: {text: {_ne: "b"}}}) Note(order: {text: ASC}) { text about { text } } }`,
	`query @live { Open { text notes(order: {text: ASC}) { text } } }`,
	`query @live { Note(groupBy: [text], order: {text: ASC}) { text _group { about { text } } } }`,
	`query @live { Seen(filter: {text: {_ne: "a"}}, order: {text: ASC}) { text } }`,
}

// crew are the people at one database.
type crew struct {
	t      failer
	people []person
	notes  []pando.DocID
	opens  []string
}

func newCrew(t *testing.T) *crew {
	t.Helper()
	ann := noteTaker(t)
	at := addPolicy(t, ann.DB, notePolicy, "note")
	c := &crew{t: t}
	ann.DB = node(t, `type Other { text: String }`)
	addPolicy(t, ann.DB, notePolicy, "note")
	if _, err := ann.AddSchema(t.Context(), "type Note @docID(mode: UNIQUE) "+at+" { text: String about: Open } type Open { text: String notes: [Note] }"); err != nil {
		t.Fatal(err)
	}
	if _, err := ann.AddView(t.Context(), pando.ViewSource{Query: `Note { text }`, SDL: `type Seen @materialized(if: false) { text: String }`}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c.people = append(c.people, ann.beside())
	}
	return c
}

// acts makes one random change. Who may not make it is refused, which changes nothing.
func (c *crew) acts(t *testing.T, draw func(label string, n int) int) {
	who := c.people[draw("who", len(c.people))]
	exec := func(request string) string {
		res := who.Exec(t.Context(), pando.Request{Query: request})
		return string(res.Data)
	}
	text := string(rune('a' + draw("text", 4)))
	if len(c.notes) == 0 || draw("create", 4) == 0 {
		about := ""
		if len(c.opens) > 0 {
			about = fmt.Sprintf(`, about: %q`, c.opens[draw("about", len(c.opens))])
		}
		var id pando.DocID
		if err := id.UnmarshalText([]byte(idOf(t, exec(fmt.Sprintf(`mutation { create_Note(input: {text: %q%s}) { _docID } }`, text, about))))); err != nil {
			t.Fatal(err)
		}
		c.notes = append(c.notes, id)
		return
	}
	note := c.notes[draw("note", len(c.notes))]
	switch draw("what", 8) {
	case 0:
		if len(c.opens) < 3 {
			c.opens = append(c.opens, idOf(t, exec(fmt.Sprintf(`mutation { create_Open(input: {text: "%s%d"}) { _docID } }`, text, len(c.opens)))))
		}
	case 1:
		exec(fmt.Sprintf(`mutation { update_Note(docID: %q, input: {text: %q}) { _docID } }`, note, text))
	case 2:
		exec(fmt.Sprintf(`mutation { delete_Note(docID: %q) { _docID } }`, note))
	case 3, 4, 5:
		who.Grant(t.Context(), "Note", note, c.relation(draw), c.subject(t, draw))
	case 6:
		who.Revoke(t.Context(), "Note", note, c.relation(draw), c.subject(t, draw))
	case 7:
		a, err := who.Access(t.Context(), "Note", note)
		if err == nil && len(a.Tuples) > 0 { // one that is there
			tuple := a.Tuples[draw("tuple", len(a.Tuples))]
			s, err := pando.ParseSubject(tuple.Subject)
			if err != nil {
				t.Fatal(err)
			}
			who.Revoke(t.Context(), "Note", note, tuple.Relation, s)
		}
	}
}

func (c *crew) relation(draw func(string, int) int) string {
	return []string{"reader", "reader", "writer"}[draw("relation", 3)]
}

// subject is a person, everyone, or the readers of a note.
func (c *crew) subject(t *testing.T, draw func(string, int) int) pando.Subject {
	n := draw("subject", 7)
	text := "*"
	switch {
	case n < 3:
		return c.people[n].subject()
	case n < 6:
		text = c.notes[draw("group", min(2, len(c.notes)))].String() + "#" + c.relation(draw)
	}
	s, err := pando.ParseSubject(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Whatever rights come and go, also in groups and groups of groups: who follows a live
// query has what a fresh query returns to him, and never saw more.
func TestAReaderOfALiveQueryHasWhatHeMayRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		script := rapid.SliceOfN(rapid.IntRange(0, 1<<16), 60, 250).Draw(r, "script")
		if failed := followedByMany(t, script); failed != "" {
			r.Fatalf("%s", failed)
		}
	})
}

func followedByMany(t *testing.T, script []int) (failed string) {
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if p := recover(); p != nil {
				f, ok := p.(failure)
				if !ok {
					panic(p)
				}
				failed = string(f)
			}
		}()
		draw := func(_ string, n int) int {
			if len(script) == 0 {
				return 0
			}
			c := script[0] % n
			script = script[1:]
			return c
		}
		var r caught
		c := newCrew(t)
		for range 6 {
			c.acts(t, draw)
		}
		var ws []*watcher
		for range 3 {
			who := c.people[draw("reader", len(c.people))]
			ws = append(ws, watch(t, who.DB, protectedRequests[draw("request", len(protectedRequests))], pando.SubscribeOptions{}))
			ws[len(ws)-1].settles(r)
		}
		for len(script) > 0 {
			switch i := draw("step", 12); i {
			case 0, 1, 2:
				if draw("hear", 2) == 0 {
					ws[i].hear(r)
				} else {
					ws[i].settles(r)
				}
			case 3: // the connection breaks, and the client comes back
				i = draw("watcher", len(ws))
				again := watch(t, ws[i].db, ws[i].request, pando.SubscribeOptions{After: ws[i].last.Cursor})
				again.result = ws[i].result
				ws[i] = again
			default:
				c.acts(t, draw)
			}
		}
		for _, w := range ws {
			w.settles(r)
		}
	})
	return failed
}

func TestRightsShowInALiveQuery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ann := noteTaker(t)
		bob := ann.beside()
		id, team := ann.note("plan"), ann.note("team")
		w := watch(t, bob.DB, `query @live { Note { text } }`, pando.SubscribeOptions{})
		hears := func(data, patch string) {
			t.Helper()
			if w.hear(t); string(w.last.Data) != data || string(w.last.Patch) != patch {
				t.Errorf("heard %s %s, want %s %s", w.last.Data, w.last.Patch, data, patch)
			}
		}
		hears(`{"Note":[]}`, "")
		ann.grant(id, "reader", bob.subject(), true)
		hears("", `[{"op":"add","path":"/Note/0","value":{"text":"plan"}}]`)
		if err := ann.write(id, "plan B"); err != nil {
			t.Fatal(err)
		}
		hears("", `[{"op":"replace","path":"/Note/0","value":{"text":"plan B"}}]`)
		ann.revoke(id, "reader", bob.subject(), true)
		hears("", `[{"op":"remove","path":"/Note/0"}]`)
		if err := ann.write(id, "secret"); err != nil {
			t.Fatal(err)
		}
		hears("", "") // a heartbeat
		members, err := pando.ParseSubject(team.String() + "#writer")
		if err != nil {
			t.Fatal(err)
		}
		ann.grant(id, "reader", members, true)
		hears("", "")
		ann.grant(team, "writer", bob.subject(), true) // of documents besides the team's own
		w.settles(t)
		ann.revoke(team, "writer", bob.subject(), true)
		w.settles(t)
		if got := fmt.Sprint(w.result); got != "map[Note:[]]" {
			t.Errorf("who left the team sees %s", got)
		}
	})
}

// A subscriber is told of what he may read when he is told.
func TestASubscriberHearsOfWhatHeMayRead(t *testing.T) {
	t.Parallel()
	ann := noteTaker(t)
	bob := ann.beside()
	l := listen(t, bob.DB, `subscription { Note { text } }`, pando.SubscribeOptions{})
	secret, id := ann.note("secret"), ann.note("plan")
	ann.grant(id, "reader", bob.subject(), true)
	l.hears(`{"Note":[{"text":"plan"}]}`) // when it was written,
	l.hears(`{"Note":[{"text":"plan"}]}`) // and when it was shown
	for i := range 3 {
		if err := ann.write(secret, fmt.Sprint("secret", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ann.write(id, "plan B"); err != nil {
		t.Fatal(err)
	}
	l.hears(`{"Note":[{"text":"plan B"}]}`)
	ann.revoke(id, "reader", bob.subject(), true)
	if err := ann.write(id, "plan C"); err != nil {
		t.Fatal(err)
	}
	bob.note("mine")
	l.hears(`{"Note":[{"text":"mine"}]}`)
}

// What nobody may hear does not keep the reader from coming to the end of the feed.
func TestASubscriberPassesWhatHeMayNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ann := noteTaker(t)
		bob := ann.beside()
		w := watch(t, bob.DB, `subscription { Note { text } }`, pando.SubscribeOptions{})
		before := w.last.Cursor
		for i := range 3 {
			ann.note(fmt.Sprint("secret", i))
		}
		var cursors []pando.Cursor
		for range 2 {
			e, err, _ := w.next()
			if err != nil || !e.IsHeartbeat() {
				t.Fatalf("heard %s %v, want a heartbeat", e.Data, err)
			}
			cursors = append(cursors, e.Cursor)
		}
		if slices.Contains(cursors, before) {
			t.Errorf("the cursor stays at %s", before)
		}
	})
}
