package pando_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/pandodb/pando"
)

// told goes through a door and returns all that it is told there.
type told func(p person, id pando.DocID) (any, error)

func inNotes(fn func(*pando.Documents, pando.DocID) (any, error)) told {
	return func(p person, id pando.DocID) (out any, err error) {
		err = p.View(p.t.Context(), func(tx *pando.Tx) error {
			notes, err := tx.Collection("Note")
			if err == nil {
				out, err = fn(notes, id)
			}
			return err
		})
		return out, err
	}
}

func asked(request string) told {
	return func(p person, id pando.DocID) (any, error) {
		r := p.Exec(p.t.Context(), pando.Request{Query: strings.ReplaceAll(request, "THIS", id.String())})
		return string(r.AppendJSON(nil)), nil
	}
}

// openings are all ways to documents of the public package, by the methods that they go
// through.
var openings = map[string]told{
	"DB.Exec":             asked(`{ Note { _docID text } n: _count(Note: {}) commits { cid docID } }`),
	"DB.Exec, by docID":   asked(`{ Note(docID: "THIS") { text _acl { owner } _version { cid } } commits(docID: "THIS") { cid docID } }`),
	"DB.Exec, explained":  asked(`query @explain(type: execute) { Note(filter: {text: {_like: "sec%"}}) { text } }`),
	"DB.Exec, a mutation": asked(`mutation { update_Note(filter: {text: {_like: "sec%"}}, input: {text: "secret"}) { _docID text } }`),
	"DB.Stream": func(p person, _ pando.DocID) (any, error) {
		var out bytes.Buffer
		p.Stream(p.t.Context(), pando.Request{Query: `{ Note { text } }`}, &out)
		return out.String(), nil
	},
	"DB.Export": func(p person, _ pando.DocID) (any, error) {
		var out bytes.Buffer
		err := p.Export(p.t.Context(), &out, pando.ExportOptions{})
		return out.String(), err
	},
	"DB.Changes": func(p person, _ pando.DocID) (any, error) {
		ctx, cancel := context.WithCancel(p.t.Context())
		var all []pando.Change
		if p.mark == 0 {
			p.t.Fatal("no change that everybody sees")
		}
		defer cancel()
		for c, err := range p.Changes(ctx, 0) {
			if err != nil {
				return all, err
			}
			if all = append(all, c); c.Seq >= p.mark {
				break
			}
		}
		return all, nil
	},
	"DB.Subscribe": func(p person, _ pando.DocID) (any, error) {
		for e, err := range p.Subscribe(p.t.Context(), pando.Request{Query: `query @live { Note { _docID text } }`}, pando.SubscribeOptions{}) {
			return string(e.AppendJSON(nil)), err
		}
		return nil, nil
	},
	"DB.Begin": func(p person, id pando.DocID) (any, error) {
		tx, err := p.Begin(p.t.Context(), pando.TxOptions{})
		if err != nil {
			return nil, err
		}
		defer tx.Discard()
		notes, err := tx.Collection("Note")
		if err != nil {
			return nil, err
		}
		return notes.Get(id)
	},
	"Tx.Exec": func(p person, id pando.DocID) (out any, err error) {
		err = p.View(p.t.Context(), func(tx *pando.Tx) error {
			out = string(tx.Exec(p.t.Context(), pando.Request{Query: `{ Note { _docID text } }`}).AppendJSON(nil))
			return nil
		})
		return out, err
	},
	"DB.Prepare": func(p person, id pando.DocID) (any, error) {
		r, drafts := p.Prepare(p.t.Context(), p.id.DID(), pando.Request{Query: fmt.Sprintf(`mutation { update_Note(docID: %q, input: {text: "secret 2"}) { text } }`, id)})
		return fmt.Sprint(string(r.AppendJSON(nil)), len(drafts)), nil
	},
	"DB.PrepareAccess": func(p person, id pando.DocID) (any, error) {
		_, err := p.PrepareAccess(p.t.Context(), p.id.DID(), func(tx *pando.Tx) error {
			notes, err := tx.Documents("", id)
			if err == nil {
				_, err = notes.Grant(id, "reader", p.subject())
			}
			return err
		})
		return "secret", err
	},
	"DB.Verify": func(p person, id pando.DocID) (any, error) { return p.Verify(p.t.Context(), id, nil) },
	"DB.Blame":  func(p person, id pando.DocID) (any, error) { return p.Blame(p.t.Context(), id, nil) },
	"DB.Access": func(p person, id pando.DocID) (any, error) { return p.Access(p.t.Context(), "", id) },
	"DB.Allowed": func(p person, id pando.DocID) (any, error) {
		return p.Allowed(p.t.Context(), "Note", id, "read", p.id.DID())
	},
	"Documents.Get":   inNotes(func(d *pando.Documents, id pando.DocID) (any, error) { return d.Get(id) }),
	"Documents.Count": inNotes(func(d *pando.Documents, _ pando.DocID) (any, error) { n, err := d.Count(); return n > 0, err }),
	"Documents.All": inNotes(func(d *pando.Documents, _ pando.DocID) (any, error) {
		var all []any
		for one, err := range d.All() {
			if err != nil {
				return nil, err
			}
			all = append(all, one.ID, one.Fields())
		}
		return all, nil
	}),
	"Documents.After": inNotes(func(d *pando.Documents, _ pando.DocID) (any, error) {
		var all []any
		for one, err := range d.After(pando.DocID{}) {
			if err != nil {
				return nil, err
			}
			all = append(all, one.Fields())
		}
		return all, nil
	}),
	"Documents.Update": func(p person, id pando.DocID) (any, error) { return "secret", p.write(id, "secret again") },
	"Documents.Delete": func(p person, id pando.DocID) (any, error) {
		tx, err := p.Begin(p.t.Context(), pando.TxOptions{})
		if err != nil {
			return nil, err
		}
		defer tx.Discard()
		notes, err := tx.Collection("Note")
		if err == nil {
			err = notes.Delete(id)
		}
		return "secret", err
	},
	"Documents.Grant": func(p person, id pando.DocID) (any, error) {
		_, err := p.Grant(p.t.Context(), "", id, "reader", p.subject())
		return "secret", err
	},
	"Documents.Revoke": func(p person, id pando.DocID) (any, error) {
		_, err := p.Revoke(p.t.Context(), "", id, "reader", p.subject())
		return "secret", err
	},
	"Documents.Accept": func(p person, id pando.DocID) (any, error) {
		_, err := p.Accept(p.t.Context(), "", id)
		return "secret", err
	},
}

// private are methods that the openings go through, and those that tell nothing of
// documents. Whoever adds a method finds a place for it here or above.
var private = `DB.Grant DB.Revoke DB.Transfer DB.Accept DB.View DB.Update Documents.Access Documents.Allowed Documents.Transfer Documents.Create Documents.CreateEncrypted Documents.Describe
Tx.Collection Tx.Documents Tx.Collections Tx.AddSchema Tx.AddPolicy Tx.Commit Tx.Discard DB.As DB.AsCaller DB.Caller DB.Signs DB.Identity DB.NodeIdentity DB.Submit
DB.AddPolicy DB.Policies DB.Policy DB.AddSchema DB.Collections DB.Collection DB.PatchSchema DB.AddLens DB.ActivateVersion DB.Versions DB.AddView DB.DropView DB.Views DB.RefreshView DB.ViewState
DB.CreateIndex DB.DropIndex DB.Indexes DB.AwaitIndex DB.Streams DB.Coverage DB.Import
DB.Close DB.Save DB.Check DB.DiskBytes DB.Storage DB.Seq DB.Replica`

// A stranger at the same database hears nothing of a document, through whatever method.
func TestAStrangerIsToldNothing(t *testing.T) {
	t.Parallel()
	ann := noteTaker(t)
	id := ann.note("secret")
	ann.note("secret too")
	if err := ann.write(id, "secret"); err != nil {
		t.Fatal(err)
	}
	stranger := ann.beside()
	mine := stranger.note("of the stranger") // tells where the feed ends
	stranger.mark = stranger.Seq()
	commits, err := ann.Verify(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	signs := []string{"secret", id.String()}
	for _, c := range commits.Commits {
		signs = append(signs, c.CID.String())
	}
	secret := func(text string) bool {
		for _, s := range signs {
			if strings.Contains(text, s) {
				return true
			}
		}
		return false
	}
	for name, opening := range openings {
		out, err := opening(stranger, id)
		text, jsonErr := json.Marshal(out)
		if jsonErr != nil {
			t.Fatal(jsonErr)
		}
		if err != nil && !errors.Is(err, pando.ErrNotFound) {
			t.Errorf("%s gives a stranger %v, want NotFound", name, err)
		}
		if err == nil && (secret(string(text)) || strings.Contains(string(text), `\"rows\":2`)) {
			t.Errorf("%s tells a stranger %s", name, text)
		}
	}
	ann.mark = ann.Seq() - 1
	for name, opening := range openings {
		out, err := opening(ann, id)
		text, jsonErr := json.Marshal(out)
		if err != nil || jsonErr != nil || strings.Contains(string(text), "errors") || !secret(string(text)) && string(text) != "true" &&
			!strings.Contains(string(text), `\"rows\":2`) && !strings.Contains(string(text), ann.id.DID().String()) {
			t.Errorf("%s tells its owner %s, %v: it is no door", name, text, err)
		}
	}
	if got := stranger.text(mine); got != "of the stranger" {
		t.Errorf("the stranger's own is %q", got)
	}
}

func TestEveryMethodIsThoughtOf(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, name := range strings.Fields(private) {
		known[name] = true
	}
	for name := range openings {
		name, _, _ = strings.Cut(name, ",")
		known[name] = true
	}
	exists := map[string]bool{}
	for _, of := range []reflect.Type{reflect.TypeFor[*pando.DB](), reflect.TypeFor[*pando.Tx](), reflect.TypeFor[*pando.Documents]()} {
		for i := range of.NumMethod() {
			name := of.Elem().Name() + "." + of.Method(i).Name
			if exists[name] = true; !known[name] {
				t.Errorf("%s: does it tell of documents? Add it to the openings, or to those that do not", name)
			}
		}
	}
	for name := range known {
		if !exists[name] {
			t.Errorf("%s is not there any more", name)
		}
	}
}
