package store

import (
	"iter"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

var errNoCommits = fault.NotFound.Errorf("there are no commits")

// judgeAll judges commits of a document that hold the ancestors of each, in the order
// of their keys.
func judgeAll(rules *acp.Rules, commits iter.Seq2[*dag.Commit, error], m acp.Members) (*acp.Judged, error) {
	var h *acp.History
	for cm, err := range commits {
		if err != nil {
			return nil, err
		}
		if h == nil {
			h = acp.NewHistory(rules, cm.Author.Key)
		}
		c, err := judgeable(cm)
		if err != nil {
			return nil, err
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
	return h.Judge(m)
}

// foldAll makes a document of such commits. j are the verdicts on them, nil in a
// collection without a policy.
func foldAll(commits iter.Seq2[*dag.Commit, error], j *acp.Judged) (d crdt.Document, err error) {
	folded := map[dag.CID]bool{}
	isFolded := func(cid [32]byte) bool { return folded[cid] }
	i := 0
	for cm, err := range commits {
		if err != nil {
			return d, err
		}
		ch := change(cm)
		ch.Void = j != nil && j.Verdicts[i] == acp.Void
		if d, err = d.Fold(ch, isFolded); err != nil {
			return d, fault.Corrupt.Errorf("commit %s: %w", cm.CID, err)
		}
		folded[cm.CID] = true
		i++
	}
	if j != nil {
		d = withAccess(d, j.State)
	}
	return d, nil
}
