package store

import (
	"iter"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/veil"
)

var errNoCommits = fault.NotFound.Errorf("there are no commits")

// judged is a history with its verdicts, and what it says of keys.
type judged struct {
	*acp.Judged
	rules *acp.Rules
	doc   dag.DocID
	keys  veil.State
	ops   map[acp.ID][]veil.Op
}

// standing returns where the commit at a place stands, for who checks or opens it.
func (j *judged) standing(i int, need acp.Need) veil.Standing {
	return veil.Standing{Rules: j.rules, Access: j.Judged, Before: j.Before(i), Need: need}
}

// judgeAll judges commits of a document that hold the ancestors of each, in the order
// of their keys.
func judgeAll(rules *acp.Rules, commits iter.Seq2[*dag.Commit, error], m acp.Members) (*judged, error) {
	var h *acp.History
	all := &judged{rules: rules, ops: map[acp.ID][]veil.Op{}}
	for cm, err := range commits {
		if err != nil {
			return nil, err
		}
		if h == nil {
			h = acp.NewHistory(rules, cm.Author.Key)
			all.doc = cm.Doc
		}
		c, err := judgeable(cm)
		if err != nil {
			return nil, err
		}
		if c.Need.Keys {
			ops, err := veil.Ops(cm.Deltas)
			if err != nil {
				return nil, err
			}
			all.ops[c.ID] = ops
			all.keys = all.keys.Add(c.ID, c.Height, ops)
		}
		parents := make([]acp.ID, 0, len(cm.Parents))
		for _, p := range cm.Parents {
			parents = append(parents, acp.ID(p))
		}
		if err := h.Add(c, parents...); err != nil {
			return nil, err
		}
	}
	if h == nil {
		return nil, errNoCommits
	}
	var err error
	all.Judged, err = h.Judge(m)
	return all, err
}

// foldAll makes a document of such commits. j are the verdicts on them, nil in a
// collection without a policy. What is encrypted counts as far as o opens it.
func foldAll(commits iter.Seq2[*dag.Commit, error], j *judged, o opener) (d crdt.Document, err error) {
	f, err := d.Folding()
	if err != nil {
		return d, err
	}
	var keys *finder
	if j != nil && j.keys.Encrypted() {
		keys = o.finderFor(j)
		defer o.keep(keys)
	}
	folded := map[dag.CID]bool{}
	isFolded := func(cid [32]byte) bool { return folded[cid] }
	i := 0
	for cm, err := range commits {
		if err != nil {
			return d, err
		}
		ch := change(cm)
		ch.Void = j != nil && j.Verdicts[i] == acp.Void
		if keys != nil && !ch.Void && hasSealed(cm) {
			var ok bool
			if ch.Deltas, ok, err = keys.Open(cm, j.standing(i, acp.Need{})); err != nil {
				return d, err
			}
			j.keys = j.keys.WithLocked(j.keys.Locked() || !ok)
		}
		if err = f.Fold(ch, isFolded); err != nil {
			return d, fault.Corrupt.Errorf("commit %s: %w", cm.CID, err)
		}
		folded[cm.CID] = true
		i++
	}
	if j != nil {
		carry(f, j.State, j.keys)
	}
	return f.Document()
}
