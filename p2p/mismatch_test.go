package p2p

import (
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/kv"
)

// saying gathers what nodes log.
type saying struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *saying) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *saying) says(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

// commits reads the records of the commits of a stopped member. With put it writes these
// back, with lose it removes them.
func (m *member) commits(put, lose map[string][]byte) map[string][]byte {
	m.w.t.Helper()
	must := func(err error) {
		m.w.t.Helper()
		if err != nil {
			m.w.t.Fatal(err)
		}
	}
	must(m.db.Close())
	db, err := kv.Open(filepath.Join(m.dir, "data"), kv.Options{})
	must(err)
	found := map[string][]byte{}
	snap := db.Snapshot()
	for e, err := range snap.Scan([]byte{'c'}, []byte{'c' + 1}) {
		must(err)
		found[string(e.Key)] = slices.Clone(e.Value)
	}
	snap.Close()
	b := db.NewBatch()
	for k, v := range put {
		b.Set([]byte(k), v)
	}
	for k := range lose {
		b.Delete([]byte(k))
	}
	done, err := db.Apply(b)
	must(err)
	must(done.Wait())
	must(db.Close())
	m.db = openDB(m.w.t, m.dir)
	return found
}

// A disk that loses a commit leaves a node with a document that it can give to nobody.
// No comparison mends that; it is found, and everything that is asked says so.
func TestADamagedCopyIsFound(t *testing.T) {
	for _, s := range []Scope{{Whole: true}, {Filter: best}} {
		t.Run(s.Kind(), func(t *testing.T) {
			simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) { findDamage(t, w, s) })
		})
	}
}

func findDamage(t *testing.T, w *world, s Scope) {
	a, b := w.member(0), w.memberAt(1, t.TempDir())
	said := new(saying)
	for _, m := range []*member{a, b} {
		m.config.Logger = slog.New(slog.NewTextHandler(said, nil))
	}
	addSchema(t, a.db, schemaText)
	createUsers(t, a.db, "user", 100)
	startAll([]*member{a, b})
	converge(t, 10*time.Second, a, b)
	if err := b.node.Keep(t.Context(), "User", s); err != nil {
		t.Fatal(err)
	}
	b.stop()
	before := b.commits(nil, nil)
	exec(t, b.db, `mutation { update_User(filter: {points: {_eq: 95}}, input: {points: 96}) { _docID } }`)
	lost := b.commits(nil, nil)
	maps.DeleteFunc(lost, func(k string, _ []byte) bool { return before[k] != nil })
	if len(lost) != 1 {
		t.Fatalf("%d commits to lose, want 1", len(lost))
	}
	b.commits(nil, lost)
	b.start(a)
	for _, of := range [][2]*member{{b, a}, {a, b}} {
		eventually(t, 5*time.Minute, func() (bool, string) {
			c := stateOf(t, of[0], of[1])
			return c.State == Differs && c.Differ == 1 && !c.Mismatch.IsZero() && of[0].node.Counters().Mismatches > 0, fmt.Sprintf("node %d: %+v, %d mismatches", of[0].i, c, of[0].node.Counters().Mismatches)
		})
	}
	if !said.says("stay different") {
		t.Error("no log tells of it")
	}
	// Once the database is whole again, so is what is said.
	b.stop()
	b.commits(lost, nil)
	b.start(a)
	agree(t, time.Minute, s, a, b)
	for _, of := range [][2]*member{{b, a}, {a, b}} {
		eventually(t, time.Minute, func() (bool, string) {
			c := stateOf(t, of[0], of[1])
			return c.State == Identical && c.Mismatch.IsZero(), fmt.Sprintf("node %d: %+v", of[0].i, c)
		})
	}
}
