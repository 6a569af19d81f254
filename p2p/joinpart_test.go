package p2p

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
)

// A ticket of a node that keeps a part leads to that part, and no further: who joins for
// more is told so, and what to do. Who joins for the same part has it.
func TestJoiningByATicketOfWhoKeepsAPart(t *testing.T) {
	other := Scope{Filter: `{points: {_lt: 95}}`}
	top := Scope{Docs: []pando.DocID{}} // the one document with 99 points
	for name, c := range map[string]struct {
		keeps, joins Scope
		says         []string // of the error; none: it goes well
		comes        int
	}{
		"all":                    {Scope{Filter: best}, pando.Whole, []string{"a part only (where " + best + ")", "a member that keeps all", "pando keep User --filter '" + best + "'"}, 10},
		"another part":           {Scope{Filter: best}, other, []string{"a part only (where " + best + ")", "a member that keeps all"}, 5},
		"the same part":          {Scope{Filter: best}, Scope{Filter: " " + best}, nil, 10},
		"a document of the part": {Scope{Filter: best}, top, nil, 1},
		"all of nothing":         {Scope{}, pando.Whole, []string{"keeps nothing of it"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
				part, joins := w.member(0), w.member(1)
				addSchema(t, part.db, schemaText)
				createUsers(t, part.db, "user", 100)
				for i := range 20 { // which it goes on holding
					createUsers(t, part.db, fmt.Sprint("more", i, "-"), 80)
				}
				part.start()
				if err := part.node.Keep(t.Context(), "User", c.keeps); err != nil {
					t.Fatal(err)
				}
				if c.joins.Docs != nil {
					c.joins.Docs = slices.Collect(maps.Keys(heldPart(t, part, Scope{Filter: `{points: {_eq: 99}}`})))
				}
				ticket, err := part.node.Share(nil)
				if err != nil {
					t.Fatal(err)
				}
				joins.start()
				res, err := joins.node.JoinPart(t.Context(), ticket, c.joins, nil)
				if len(c.says) == 0 && (err != nil || res.Documents != uint64(c.comes)) {
					t.Errorf("joined %+v, %v", res, err)
				}
				if len(c.says) > 0 && !errors.Is(err, pando.ErrUnavailable) {
					t.Errorf("joined %+v, %v", res, err)
				}
				for _, say := range c.says {
					if err != nil && !strings.Contains(err.Error(), say) {
						t.Errorf("the error %q lacks %q", err, say)
					}
				}
				if got := len(heldPart(t, joins, Scope{Filter: best})); got < c.comes {
					t.Errorf("%d documents of the part came, want %d", got, c.comes)
				}
				if kept := joins.node.Kept(); len(kept) != 1 || !kept[0].Scope.Equal(c.joins) || !kept[0].Incomplete() {
					t.Errorf("who joined keeps %+v", kept)
				}
			})
		})
	}
}
