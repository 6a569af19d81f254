package store

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// docSet is a set of documents.
type docSet map[dag.DocID]bool

func (s docSet) names(names map[dag.DocID]string) []string {
	var all []string
	for id := range s {
		all = append(all, names[id])
	}
	slices.Sort(all)
	return all
}

// visitor goes through a door: it returns the documents that it was shown, or told of.
type visitor struct {
	door string
	t    tester
	n    *node
	who  Caller
	tx   *Tx
	c    *schema.Collection
	ids  []dag.DocID // of all documents, sorted
	past uint64      // a time when all documents were there, and had not been changed
	seq  uint64      // of the feed then
	cids map[dag.CID]dag.DocID
}

// shown collects the documents of a sequence.
func shown[T any](v *visitor, list func(func(T, error) bool), doc func(T) dag.DocID) docSet {
	v.t.Helper()
	s := docSet{}
	for x, err := range list {
		if err != nil {
			v.t.Fatal(err)
		}
		if id := doc(x); v.isOne(id) {
			s[id] = true
		}
	}
	return s
}

func (v *visitor) isOne(id dag.DocID) bool {
	_, ok := slices.BinarySearchFunc(v.ids, id, compareIDs)
	return ok
}

// asked collects the documents that are there, one by one. Of the others must be said
// what is said of one that never was.
func (v *visitor) asked(ask func(dag.DocID) (bool, error)) docSet {
	v.t.Helper()
	never := dag.DocID{1}
	_, none := ask(never)
	s := docSet{}
	for _, id := range v.ids {
		ok, err := ask(id)
		if err != nil && (!errors.Is(err, fault.NotFound) || none == nil || strings.ReplaceAll(err.Error(), id.String(), never.String()) != none.Error()) {
			v.t.Fatalf("%s: of a document is said %v, of none %v", v.door, err, none)
		}
		if err == nil && ok {
			s[id] = true
		}
	}
	return s
}

func docOf(d Doc) dag.DocID          { return d.ID }
func entryOf(e IndexEntry) dag.DocID { return e.Doc }
func commitOf(a Applied) dag.DocID   { return a.Doc }
func blockOf(b Block) dag.DocID      { return b.Doc }
func changeOf(c Change) dag.DocID    { return c.Doc }

// ready returns an index of the collection.
func (v *visitor) index(name string) *schema.Index {
	for i, ix := range v.c.Indexes {
		if strings.Contains(ix.Name, name) {
			return &v.c.Indexes[i]
		}
	}
	v.t.Fatalf("no index %s", name)
	return nil
}

// doors are all ways to documents, by the methods that they go through.
var doors = map[string]func(v *visitor) docSet{
	"Tx.Get": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) { _, err := v.tx.Get(v.c, id); return true, err })
	},
	"Tx.GetMany": func(v *visitor) docSet { return shown(v, v.tx.GetMany(v.c, v.ids), docOf) },
	"Tx.GetMany, in another order": func(v *visitor) docSet {
		ids := slices.Clone(v.ids)
		slices.Reverse(ids)
		return shown(v, v.tx.GetMany(v.c, ids), docOf)
	},
	"Tx.Scan":         func(v *visitor) docSet { return shown(v, v.tx.Scan(v.c, Range{}), docOf) },
	"Tx.Scan deleted": func(v *visitor) docSet { return shown(v, v.tx.Scan(v.c, Range{Deleted: true}), docOf) },
	"Tx.Index": func(v *visitor) docSet {
		return shown(v, v.tx.Index(v.c, v.index("text"), IndexRange{}, false), entryOf)
	},
	"Tx.Index backwards": func(v *visitor) docSet {
		return shown(v, v.tx.Index(v.c, v.index("pair"), IndexRange{}, true), entryOf)
	},
	"Tx.Index of a list": func(v *visitor) docSet {
		return shown(v, v.tx.Index(v.c, v.index("tags"), IndexRange{}, false), entryOf)
	},
	"Tx.Commits": func(v *visitor) docSet { return shown(v, v.tx.Commits(v.c), commitOf) },
	"Tx.History": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) {
			return len(shown(v, v.tx.History(v.c, id), commitOf)) > 0, nil
		})
	},
	"Tx.FindCommit": func(v *visitor) docSet {
		return v.found(func(cid dag.CID) error { _, err := v.tx.FindCommit(cid); return err })
	},
	"Tx.At": func(v *visitor) docSet {
		return v.found(func(cid dag.CID) error { _, err := v.tx.At(context.Background(), v.c, cid); return err })
	},
	"Tx.At of another collection": func(v *visitor) docSet {
		page := v.n.coll("Page")
		return v.found(func(cid dag.CID) error {
			_, err := v.tx.At(context.Background(), page, cid)
			if errors.Is(err, fault.Invalid) {
				return nil // it says whose commit it is
			}
			return err
		})
	},
	"Tx.AsOf": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) {
			_, err := v.tx.AsOf(context.Background(), v.c, id, v.past)
			return true, err
		})
	},
	"Tx.PastOf": func(v *visitor) docSet { // of documents that somebody else read
		s := docSet{}
		for _, id := range v.ids {
			if _, err := v.tx.PastOf(context.Background(), v.n.get(v.c.Name, id), v.past); err == nil {
				s[id] = true
			}
		}
		return s
	},
	"Tx.AfterSeq": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) {
			_, err := v.tx.AfterSeq(context.Background(), v.c, id, v.seq)
			return true, err
		})
	},
	"Tx.Replay": func(v *visitor) docSet {
		s := docSet{}
		v.n.view(func(tx *Tx) error {
			for ch, err := range tx.Changed(0) {
				if err != nil {
					return err
				}
				for d, err := range v.tx.Replay(context.Background(), v.c, []Change{ch}) {
					if err == nil && v.isOne(d.ID) {
						s[d.ID] = true
					}
				}
			}
			return nil
		})
		return s
	},
	"Tx.Changed": func(v *visitor) docSet { return shown(v, v.tx.Changed(0), changeOf) },
	"Tx.Touched": func(v *visitor) docSet { return shown(v, v.tx.Touched(0), func(t Touched) dag.DocID { return t.Doc }) },
	"Store.Log":  func(v *visitor) docSet { return shown(v, v.n.Log(context.Background(), v.who, 0), changeOf) },
	"Tx.Full":    func(v *visitor) docSet { return shown(v, v.tx.Full(v.c.ID, dag.DocID{}), blockOf) },
	"Tx.Pack":    func(v *visitor) docSet { return v.packed(Want{}) },
	"Tx.Pack, by name": func(v *visitor) docSet {
		s := docSet{}
		for cid, id := range v.cids {
			for range shown(v, v.tx.Pack(v.c.ID, Want{Doc: id, Want: []dag.CID{cid}}), blockOf) {
				s[id] = true
			}
		}
		return s
	},
	"Tx.Lacking": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) {
			l, err := v.tx.Lacking(v.c.ID, Want{Doc: id})
			return l.Top > 0, err
		})
	},
	"Tx.PackOf": func(v *visitor) docSet { // of what somebody else found
		s := docSet{}
		for _, id := range v.ids {
			v.n.view(func(tx *Tx) error {
				l, err := tx.Lacking(v.c.ID, Want{Doc: id})
				for range shown(v, v.tx.PackOf(l, Point{}), blockOf) {
					s[id] = true
				}
				return err
			})
		}
		return s
	},
	"Tx.Heads": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) {
			heads, err := v.tx.Heads(v.c.ID, id)
			return len(heads) > 0, err
		})
	},
	"Tx.Locator": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) {
			ids, err := v.tx.Locator(v.c.ID, id)
			return len(ids) > 0, err
		})
	},
	"Tx.Readable": func(v *visitor) docSet {
		s := docSet{}
		v.n.view(func(tx *Tx) error {
			for _, id := range v.ids {
				may, err := tx.Readable(v.c, id, v.who.Keys()...)
				if err != nil {
					return err
				}
				if may {
					s[id] = true
				}
			}
			return nil
		})
		return s
	},
	"Tx.Reading": func(v *visitor) docSet {
		s := docSet{}
		v.n.view(func(tx *Tx) error {
			r := tx.Reading(v.who.Keys()...)
			for d, err := range tx.Scan(v.c, Range{Deleted: true}) {
				if err != nil {
					return err
				}
				if may, err := r.ReadableDoc(d); err != nil {
					return err
				} else if may {
					s[d.ID] = true
				}
			}
			return nil
		})
		return s
	},
	"Store.Changes": func(v *visitor) docSet {
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(enough)
		s := docSet{}
		last := uint64(0)
		v.n.view(func(tx *Tx) error {
			for ch := range v.n.Log(ctx, v.who, 0) {
				last = ch.Seq
			}
			return nil
		})
		if last == 0 {
			return s
		}
		for ch, err := range v.n.Changes(ctx, v.who, 0) {
			if err != nil {
				v.t.Fatal(err)
			}
			if v.isOne(ch.Doc) {
				s[ch.Doc] = true
			}
			if ch.Seq == last {
				break
			}
		}
		return s
	},
	"Tx.Access": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) { _, err := v.tx.Access(v.c, id); return true, err })
	},
	"Tx.Pending": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) {
			_, err := v.tx.Pending(context.Background(), v.c, id)
			return true, err
		})
	},
	"Tx.Accept": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) {
			_, err := v.tx.Accept(context.Background(), v.c, id)
			return true, err
		})
	},
	"Tx.Verify": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) {
			_, err := v.tx.Verify(context.Background(), v.c, id, nil)
			return true, err
		})
	},
	"Tx.Blame": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) {
			_, err := v.tx.Blame(context.Background(), v.c, id, nil)
			return true, err
		})
	},
	"Tx.Write": func(v *visitor) docSet {
		return v.asked(func(id dag.DocID) (bool, error) {
			_, err := v.tx.Write(v.c, id, nil)
			if errors.Is(err, fault.Denied) {
				err = nil // said of what the visitor may read, and not write
			}
			return true, err
		})
	},
}

// found is asked for commits.
func (v *visitor) found(ask func(dag.CID) error) docSet {
	v.t.Helper()
	never := dag.CID{1}
	none := ask(never)
	s := docSet{}
	for cid, id := range v.cids {
		err := ask(cid)
		if err != nil && (!errors.Is(err, fault.NotFound) || strings.ReplaceAll(err.Error(), cid.String(), never.String()) != none.Error()) {
			v.t.Fatalf("of a commit is said %v, of none %v", err, none)
		}
		if err == nil {
			s[id] = true
		}
	}
	return s
}

func (v *visitor) packed(w Want) docSet {
	s := docSet{}
	for _, id := range v.ids {
		w.Doc = id
		for range shown(v, v.tx.Pack(v.c.ID, w), blockOf) {
			s[id] = true
		}
	}
	return s
}

// harmless are the methods that mention documents or numbers, and tell of no document
// that the caller may not read. Whoever adds a method either finds a door above, or
// says here why it needs none.
var harmless = map[string]string{
	"Tx.Seq":             "how much has been written here is no secret",
	"Tx.Size":            "for planning; its comment says so",
	"Tx.Count":           "TestCallersCountWhatTheyRead",
	"Tx.CheckUnique":     "TestUniqueAmongWhatOneReads",
	"Tx.Create":          "TestCreatingTellsOfOnesOwnOnly",
	"Tx.CreateEncrypted": "draws the name of the document",
	"Tx.Delete":          "is Write",
	"Tx.WriteAccess":     "TestManagingNeedsNoReading",
	"Tx.Rights":          "of a document that was shown",
	"Tx.RightsIn":        "of what Access returned",
	"Tx.Asked":           "groups, for who watches them on behalf of the caller",
	"Tx.Partings":        "for who serves others: tells who lost the right to read what took it",
	"Tx.DocIDOf":         "is computed of its arguments",
	"Tx.Set":             "schema",
	"Tx.Collection":      "schema",
	"Tx.Collections":     "schema",
	"Tx.CreateIndex":     "schema",
	"Tx.Behind":          "how much has been written here is no secret",
	"Tx.ViewState":       "of a view, whose rows are made of what everybody reads",
	"Tx.Rows":            "of a view, whose rows are made of what everybody reads",
	"Tx.Drafts":          "what the caller itself writes",
	"Store.Submit":       "TestDraftsObeyPolicies: says what became of commits that were brought",
	"Store.Archive":      "whole databases are for their operators",
	"Store.Locked":       "how many are locked is for who looks after the node",
	"Store.Summary":      "trees are for the network, which asks for each peer",
	"Store.Node":         "trees are for the network, which asks for each peer",
	"Store.Elements":     "trees are for the network, which asks for each peer",
	"Store.Merge":        "says what became of commits that were brought",
	"Store.MergeCommits": "says what became of commits that were brought",
	"Store.Schema":       "schema",
	"Store.Seq":          "how much has been written here is no secret",
	"Store.Epoch":        "identity of the feed",
	"Store.Size":         "how large the directory is",
	"Store.Metrics":      "of the storage engine",
	"Store.Now":          "the clock",
	"Store.Begin":        "begins",
}

// No method tells of documents unless somebody has thought about who may hear it.
func TestEveryDoorIsGuarded(t *testing.T) {
	t.Parallel()
	thought := map[string]bool{}
	for name := range doors {
		name, _, _ = strings.Cut(name, ",")
		thought[strings.Join(strings.Fields(name)[:1], "")] = true
	}
	for name := range harmless {
		thought[name] = true
	}
	exists := map[string]bool{}
	for _, of := range []reflect.Type{reflect.TypeFor[*Tx](), reflect.TypeFor[*Store]()} {
		for i := range of.NumMethod() {
			m := of.Method(i)
			name := of.Elem().Name() + "." + m.Name
			exists[name] = true
			if tells(m.Type) && !thought[name] {
				t.Errorf("%s tells of documents: ask what the caller may read and add it to the doors, or say why that is not needed", name)
			}
		}
	}
	for name := range thought {
		if !exists[name] {
			t.Errorf("%s is not there any more", name)
		}
	}
}

// tells reports whether a method returns or yields documents, what names them, or how
// many there are.
func tells(method reflect.Type) bool {
	for i := range method.NumOut() {
		if mentions(method.Out(i), map[reflect.Type]bool{}) {
			return true
		}
	}
	return false
}

func mentions(t reflect.Type, met map[reflect.Type]bool) bool {
	if met[t] {
		return false
	}
	met[t] = true
	switch t {
	case reflect.TypeFor[Doc](), reflect.TypeFor[crdt.Document](), reflect.TypeFor[dag.DocID](), reflect.TypeFor[dag.CID](), reflect.TypeFor[value.Value]():
		return true
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return true
	case reflect.Func:
		for i := range t.NumIn() {
			if mentions(t.In(i), met) {
				return true
			}
		}
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map, reflect.Chan:
		return mentions(t.Elem(), met)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && mentions(f.Type, met) {
				return true
			}
		}
	}
	return false
}
