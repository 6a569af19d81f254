package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// page is a document as the model knows it.
type page struct {
	hits    int
	body    string
	deleted bool
	commits int
}

// model is a collection of pages in plain Go, by title. A title stands for the
// contents that a page is created with, and so for its docID.
type model map[string]page

func (m model) alive() (n uint64) {
	for _, p := range m {
		if !p.deleted {
			n++
		}
	}
	return n
}

// action is one call in a transaction, on the store and on the model alike.
func action(t *rapid.T, n *node, tx *Tx, m model, ids map[string]dag.DocID) (touched string, err error) {
	title := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "title")
	p, exists := m[title]
	var want error
	switch rapid.IntRange(0, 4).Draw(t, "action") {
	case 0:
		var d Doc
		d, err = createIn(tx, "Page", "title", title, "hits", 1)
		if exists {
			want = fault.Exists
		} else if err == nil {
			m[title], ids[title] = page{hits: 1, commits: 1}, d.ID
		}
	case 1:
		add := rapid.IntRange(-3, 3).Draw(t, "add")
		_, err = updateIn(tx, "Page", ids[title], "hits", add)
		if !exists || p.deleted {
			want = fault.NotFound
		} else if err == nil && add != 0 {
			m[title] = page{p.hits + add, p.body, false, p.commits + 1}
		}
		if add == 0 {
			title = ""
		}
	case 2:
		body := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "body")
		_, err = updateIn(tx, "Page", ids[title], "body", body)
		if !exists || p.deleted {
			want = fault.NotFound
		} else if err == nil && p.body != body {
			m[title] = page{p.hits, body, false, p.commits + 1}
		} else {
			title = ""
		}
	case 3:
		_, err = tx.Delete(n.coll("Page"), ids[title])
		if !exists || p.deleted {
			want = fault.NotFound
		} else if err == nil {
			m[title] = page{p.hits, p.body, true, p.commits + 1}
		}
	default:
		wantModel(t, n, tx, m, ids)
		return "", nil
	}
	if !errors.Is(err, want) {
		t.Fatalf("page %s: got %v, want %v", title, err, want)
	}
	return title, err
}

// wantModel compares all that a transaction sees with the model.
func wantModel(t *rapid.T, n *node, tx *Tx, m model, ids map[string]dag.DocID) {
	t.Helper()
	c := n.coll("Page")
	seen := model{}
	last := dag.DocID{}
	for d, err := range tx.Scan(c, Range{Deleted: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if d.ID.Compare(last) <= 0 {
			t.Fatalf("a scan yields %s after %s", d.ID, last)
		}
		last = d.ID
		p := page{deleted: d.Deleted(), hits: int(d.Value(field(t, n, "hits")).Int()), body: strings.Clone(d.Value(field(t, n, "body")).Text())}
		for a, err := range tx.History(c, d.ID) {
			if err != nil {
				t.Fatal(err)
			}
			found, err := tx.FindCommit(a.CID)
			if err != nil || found.CID != a.CID || found.Doc != d.ID {
				t.Fatalf("commit %s of the history is found as %v, %v", a.CID, found.CID, err)
			}
			p.commits++
		}
		seen[strings.Clone(d.Value(field(t, n, "title")).Text())] = p // the scan goes on
	}
	if !maps.Equal(seen, m) {
		t.Fatalf("transaction sees %v, want %v", seen, m)
	}
	if count, err := tx.Count(c); err != nil || count != m.alive() {
		t.Fatalf("transaction counts %d, %v, want %d", count, err, m.alive())
	}
	for title, p := range m {
		if d, err := tx.Get(c, ids[title]); err != nil || d.Deleted() != p.deleted {
			t.Fatalf("page %s: deleted %v, %v, want %v", title, d.Deleted(), err, p.deleted)
		}
	}
}

// open transactions of the model.
type session struct {
	tx    *Tx
	sees  model
	wrote map[string]bool
	since map[string]bool // changed by others since it began
}

var errUndo = errors.New("undo")

// some runs actions in a transaction, parts of it taken back.
func some(t *rapid.T, n *node, tx *Tx, sees model, wrote map[string]bool, ids map[string]dag.DocID, depth int) {
	for range rapid.IntRange(1, 3).Draw(t, "actions") {
		if depth < 2 && rapid.IntRange(0, 3).Draw(t, "try") == 0 {
			before, marks := maps.Clone(sees), maps.Clone(wrote)
			undo := rapid.Bool().Draw(t, "undo")
			err := tx.Try(func() error {
				some(t, n, tx, sees, wrote, ids, depth+1)
				if undo {
					return errUndo
				}
				return nil
			})
			if undo != (err == errUndo) {
				t.Fatalf("try gives %v", err)
			}
			if undo {
				clear(sees)
				maps.Copy(sees, before)
				clear(wrote)
				maps.Copy(wrote, marks)
			}
			continue
		}
		if title, err := action(t, n, tx, sees, ids); err == nil && title != "" {
			wrote[title] = true
		}
	}
}

// Random transactions, explicit and not, overlapping, with parts taken back, do what
// they would in plain Go: they see their snapshot and their own writes, and the first
// committer wins.
func TestTransactionsFollowTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := newNode(t, "ada")
		now, ids := model{}, map[string]dag.DocID{}
		for title := range model(map[string]page{"a": {}, "b": {}, "c": {}, "d": {}}) {
			deltas, err := n.coll("Page").Create(fields("title", title, "hits", 1))
			if err != nil {
				t.Fatal(err)
			}
			seed := dag.RootSeed{Collection: n.coll("Page").ID, Seed: dag.ContentSeed(deltas)}
			ids[title] = seed.DocID()
		}
		var open []*session
		defer func() {
			for _, s := range open {
				s.tx.Discard()
			}
		}()
		changed := func(wrote map[string]bool) {
			for _, s := range open {
				maps.Copy(s.since, wrote)
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch k := rapid.IntRange(0, 5).Draw(t, "step"); {
			case k == 0 && len(open) < 3:
				tx, err := n.Begin(As(n.key), false)
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, &session{tx, maps.Clone(now), map[string]bool{}, map[string]bool{}})
			case k <= 2 && len(open) > 0:
				s := rapid.SampledFrom(open).Draw(t, "session")
				some(t, n, s.tx, s.sees, s.wrote, ids, 0)
			case k == 3 && len(open) > 0:
				i := rapid.IntRange(0, len(open)-1).Draw(t, "session")
				s := open[i]
				open = slices.Delete(open, i, i+1)
				wantModel(t, n, s.tx, s.sees, ids)
				conflict := false
				for title := range s.wrote {
					conflict = conflict || s.since[title]
				}
				err := s.tx.Commit(context.Background())
				if conflict != errors.Is(err, fault.Conflict) || !conflict && err != nil {
					t.Fatalf("commit gives %v, want a conflict: %v", err, conflict)
				}
				if !conflict {
					for title := range s.wrote {
						now[title] = s.sees[title]
					}
					changed(s.wrote)
				}
			case k == 4 && len(open) == 0:
				n.reopen()
			default:
				sees, wrote := maps.Clone(now), map[string]bool{}
				give := rapid.IntRange(0, 4).Draw(t, "give up") == 0
				err := n.Update(context.Background(), As(n.key), func(tx *Tx) error {
					some(t, n, tx, sees, wrote, ids, 0)
					wantModel(t, n, tx, sees, ids)
					if give {
						return errUndo
					}
					return nil
				})
				if give != errors.Is(err, errUndo) || !give && err != nil {
					t.Fatalf("update gives %v", err)
				}
				if !give {
					now = sees
					changed(wrote)
				}
			}
			n.view(func(tx *Tx) error { wantModel(t, n, tx, now, ids); return nil })
		}
		commits := 0
		for _, p := range now {
			commits += p.commits
		}
		if n.Seq() != uint64(commits) {
			t.Fatalf("the feed has %d entries, want %d", n.Seq(), commits)
		}
		for _, s := range open {
			s.tx.Discard()
		}
		open = nil
		wantSound(t, n)
	})
}
