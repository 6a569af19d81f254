package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// protecting is a node, perhaps a lying one, with notes that belong to who writes them.
func protecting(t *testing.T) *liar {
	t.Helper()
	l := lying(t)
	id, err := l.db.AddPolicy(t.Context(), notesFile)
	if err == nil {
		_, err = l.db.AddSchema(t.Context(), fmt.Sprintf(`type Secret @policy(id: %q, resource: "note") { text: String }`, id))
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *liar) secret(t *testing.T, a *api.Author, text string) pando.DocID {
	t.Helper()
	doc, err := a.Create(t.Context(), "Secret", map[string]any{"text": text})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func subjectOf(t *testing.T, text string) pando.Subject {
	t.Helper()
	s, err := pando.ParseSubject(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Who signs elsewhere decides who reads, too, and the node gets no key for that.
func TestAnAuthorSharesWithAKeyThatTheNodeHasNot(t *testing.T) {
	t.Parallel()
	l := protecting(t)
	ann, bob := identity(t), identity(t)
	a, b := l.author(t, ann), l.author(t, bob)
	doc, team := l.secret(t, a, "plan"), l.secret(t, a, "team")
	bobs := subjectOf(t, bob.DID().String())
	reads := func(want bool) {
		t.Helper()
		resp, err := b.Query(t.Context(), api.Request{Query: `{ Secret { text } }`}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(resp.Data), "plan"); got != want {
			t.Errorf("bob reads %s", resp.Data)
		}
	}
	grant := func(doc pando.DocID, who pando.Subject, news bool) {
		t.Helper()
		if granted, err := a.Grant(t.Context(), doc, "reader", who); err != nil || granted != news {
			t.Fatalf("granted %v, %v, want %v", granted, err, news)
		}
	}
	reads(false)
	grant(doc, bobs, true)
	grant(doc, bobs, false)
	reads(true)
	if _, err := b.Grant(t.Context(), doc, "reader", subjectOf(t, "*")); !errors.Is(err, fault.Denied) {
		t.Errorf("a reader shares: %v", err)
	}
	if revoked, err := a.Revoke(t.Context(), doc, "reader", bobs); err != nil || !revoked {
		t.Fatalf("revoked %v, %v", revoked, err)
	}
	reads(false)
	// Out of a group, which is told to the documents that name it.
	grant(team, bobs, true)
	grant(doc, subjectOf(t, team.String()+"#reader"), true)
	reads(true)
	if revoked, err := a.Revoke(t.Context(), team, "reader", bobs); err != nil || !revoked {
		t.Fatalf("revoked %v, %v", revoked, err)
	}
	reads(false)
	if err := a.Transfer(t.Context(), doc, bob.DID()); err != nil {
		t.Fatal(err)
	}
	reads(true)
	if err := a.Transfer(t.Context(), doc, ann.DID()); !errors.Is(err, fault.Denied) && !errors.Is(err, fault.NotFound) {
		t.Errorf("who has given it away gives it away: %v", err)
	}
}

// Whatever a node makes of it, an author signs the change that he asked for, and none else.
func TestAnAuthorSignsNoOtherRights(t *testing.T) {
	t.Parallel()
	l := protecting(t)
	ann, bob, eve := identity(t), identity(t), identity(t)
	a := l.author(t, ann)
	doc, other := l.secret(t, a, "plan"), l.secret(t, a, "other")
	bobs, eves := subjectOf(t, bob.DID().String()), subjectOf(t, eve.DID().String())
	on := func(doc pando.DocID, fn func(*pando.Documents) error) func(*pando.Tx) error {
		return func(tx *pando.Tx) error {
			docs, err := tx.Documents("Secret", doc)
			if err != nil {
				return err
			}
			return fn(docs)
		}
	}
	for name, lie := range map[string]func(*pando.Tx) error{
		"to somebody else": on(doc, func(d *pando.Documents) error { _, err := d.Grant(doc, "reader", eves); return err }),
		"to everybody":     on(doc, func(d *pando.Documents) error { _, err := d.Grant(doc, "reader", subjectOf(t, "*")); return err }),
		"another document": on(other, func(d *pando.Documents) error { _, err := d.Grant(other, "reader", bobs); return err }),
		"the ownership":    on(doc, func(d *pando.Documents) error { return d.Transfer(doc, eve.DID()) }),
		"one more document": on(doc, func(d *pando.Documents) error {
			if _, err := d.Grant(doc, "reader", bobs); err != nil {
				return err
			}
			_, err := d.Grant(other, "reader", eves)
			return err
		}),
		"a value": on(doc, func(d *pando.Documents) error {
			_, err := d.Update(doc, map[string]any{"text": "eve was here"})
			return err
		}),
		"nothing": func(*pando.Tx) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			l.change = func(path string, body []byte) []byte {
				if !strings.HasSuffix(path, "/commits/prepare/access") {
					return body
				}
				drafts, err := l.db.PrepareAccess(t.Context(), ann.DID(), lie)
				if err != nil {
					t.Fatal(err)
				}
				p := api.Prepared{Answer: json.RawMessage(`{"Changed":1}`)}
				for _, d := range drafts {
					p.Commits = append(p.Commits, api.DraftCommit{Collection: d.Collection.String(), Header: d.Header, Payload: d.Payload})
				}
				raw, err := json.Marshal(p)
				if err != nil {
					t.Fatal(err)
				}
				return raw
			}
			defer func() { l.change = nil }()
			for asks, err := range map[string]error{
				"grant":    second(a.Grant(t.Context(), doc, "reader", bobs)),
				"revoke":   second(a.Revoke(t.Context(), doc, "reader", bobs)),
				"transfer": a.Transfer(t.Context(), doc, bob.DID()),
			} {
				if !errors.Is(err, fault.Denied) || !strings.Contains(err.Error(), "not signed") {
					t.Errorf("the author, who asks for a %s, says %v", asks, err)
				}
			}
		})
	}
	// Just what is asked for, as if it were older or to come: it would stand beside what came since.
	for _, off := range []time.Duration{-6 * time.Minute, 6 * time.Minute} {
		l.change = func(path string, body []byte) []byte {
			if !strings.HasSuffix(path, "/commits/prepare/access") {
				return body
			}
			drafts, err := l.db.PrepareAccess(t.Context(), ann.DID(), on(doc, func(d *pando.Documents) error { _, err := d.Grant(doc, "reader", bobs); return err }))
			if err != nil {
				t.Fatal(err)
			}
			opened, err := dag.OpenDraft(drafts[0].Header, drafts[0].Payload)
			if err != nil {
				t.Fatal(err)
			}
			c := *opened
			c.HLC = uint64(int64(c.HLC) + off.Milliseconds()<<16)
			c.Segs, c.Payload = nil, nil
			if err := dag.Prepare(&c); err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(api.Prepared{Answer: json.RawMessage(`{"Changed":1}`), Commits: []api.DraftCommit{{Collection: drafts[0].Collection.String(), Header: c.Header(), Payload: c.Payload}}})
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		if _, err := a.Grant(t.Context(), doc, "reader", bobs); !errors.Is(err, fault.Denied) || !strings.Contains(err.Error(), "look at the clocks") {
			t.Errorf("a grant that is %v off: %v", off, err)
		}
	}
	// And as a mutation: rights are nothing that an update may change.
	l.change = func(path string, body []byte) []byte {
		if !strings.HasSuffix(path, "/commits/prepare") {
			return body
		}
		drafts, err := l.db.PrepareAccess(t.Context(), ann.DID(), on(doc, func(d *pando.Documents) error { _, err := d.Grant(doc, "reader", eves); return err }))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(api.Prepared{Answer: json.RawMessage(`{"data":{}}`), Commits: []api.DraftCommit{{Collection: drafts[0].Collection.String(), Header: drafts[0].Header, Payload: drafts[0].Payload}}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if err := a.Update(t.Context(), "Secret", doc, map[string]any{"text": "mine"}); !errors.Is(err, fault.Denied) {
		t.Errorf("rights in an update: %v", err)
	}
	if a, err := l.db.As(ann).Access(t.Context(), "Secret", doc); err != nil || len(a.Tuples) != 0 {
		t.Errorf("the rights are %+v, %v", a, err)
	}
}

func second[T any](_ T, err error) error { return err }

// Which commits wait for the owner only the node says: who signs by himself names them, so that
// he has looked at them.
func TestAnAuthorAcceptsWhatHeNames(t *testing.T) {
	t.Parallel()
	l := protecting(t)
	ann := identity(t)
	doc := l.secret(t, l.author(t, ann), "plan")
	c, err := api.NewClient(l.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.Authenticate(ann, l.db.NodeIdentity().DID())
	c.SignWith(ann)
	if n, err := c.AcceptCommits(t.Context(), doc.String()); n != 0 || err != nil {
		t.Errorf("nothing waits: %d, %v", n, err)
	}
	l.change = func(path string, body []byte) []byte {
		if strings.HasSuffix(path, "/acp/document/relationship") {
			body, _ = json.Marshal(api.DocumentAccess{Owner: ann.DID(), Pending: []pando.PendingCommit{{CID: pando.CID{1}, Author: ann.DID()}}})
		}
		return body
	}
	if n, err := c.AcceptCommits(t.Context(), doc.String()); n != 0 || !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "name those") {
		t.Errorf("something waits, as the node says: %d, %v", n, err)
	}
}
