package store

import (
	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/veil"
)

// A commit that stands beside events is judged by all of them, which acp.Review takes
// apart. A merge keeps the Review of a document from one commit to the next. Once it
// has to fold the document again at its end, events that come beside others only go
// into the Review: to find out after each what all count for would let whoever may
// write a document, or once could, hold up its nodes by a few thousand small commits.
// The access state in the row is behind then, until the document is settled.

// ruling is what became of a commit under a policy.
type ruling struct {
	state     acp.State    // of the document with it, but for voids
	voids     int          // 1 if it has to be counted as void still
	verdict   acp.Verdict  // on it
	above     acp.Frontier // what those stand on that stand on it
	unsettles bool         // it can change what commits before it count for
	inserted  bool         // it is an event that stands beside others
	review    *acp.Review  // by which the next commit of the merge is judged; nil: by the state
	veiled
}

// rule judges a commit by the document so far. A commit that may not be is Invalid.
// state is that of the document, with its events.
func (tx *Tx) rule(rules *acp.Rules, state acp.State, d *crdt.Folding, cm *dag.Commit, own bool) (r ruling, err error) {
	c, err := judgeable(cm)
	if err != nil {
		return r, err
	}
	var joined joiner = state
	st := tx.staged[cm.Doc]
	if !own && st != nil && st.review != nil {
		r.review, joined = st.review, st.review
	}
	if c.Before, err = tx.before(joined, cm.Parents); err != nil {
		return r, err
	}
	m := tx.members()
	onAll := state.StandsOnAll(c.Before)
	if !own && r.review == nil && !onAll {
		if r.review, err = state.Review(rules, m); err != nil {
			return r, err
		}
	}
	r.above, r.state = acp.Above(c), state
	if r.review != nil && st != nil && st.unsettled {
		r.verdict, r.unsettles = acp.Counts, true // until it is settled
		if r.veiled, err = tx.veiled(rules, r.review, d, cm, c); err != nil {
			return r, err
		}
		return r, r.review.Admit(c)
	}
	var history veil.History = state
	if r.review != nil {
		history = r.review
		r.verdict, err = r.review.Judge(c)
	} else {
		r.verdict, err = state.Judge(rules, c, m)
	}
	if err != nil {
		return r, err
	}
	if r.veiled, err = tx.veiled(rules, history, d, cm, c); err != nil {
		return r, err
	}
	r.unsettles = state.Unsettles(c, onHeads(d, cm))
	if !c.Event() { // which changes the state by no more than the number of void commits
		if r.verdict == acp.Void {
			r.voids = 1
		}
		return r, nil
	}
	if r.review != nil && (r.unsettles || st != nil && st.inserted && !onAll) {
		r.unsettles = true
		return r, r.review.Admit(c)
	}
	r.review, r.inserted = nil, !onAll // it lacks the event
	r.state, err = state.Add(rules, c, r.verdict, m)
	return r, err
}

// onHeads reports whether the parents of a commit are all heads there are.
func onHeads(d *crdt.Folding, cm *dag.Commit) bool {
	n := 0
	for _, p := range cm.Parents {
		if _, ok := d.Head(p); ok {
			n++
		}
	}
	return n == d.Heads()
}

// judgedBy notes what the next commit of a merge is judged by.
func (st *staged) judgedBy(r *ruling) {
	st.inserted = st.inserted || r.inserted
	st.review = r.review
	st.voids += r.voids
	st.unsettled = st.unsettled || r.unsettles
	st.made(r.state)
}

// made notes the events of a state that was made anew.
func (st *staged) made(s acp.State) {
	if log, made := s.Log(); made {
		st.log = log
	}
}

type joiner interface {
	Join(...acp.Frontier) (acp.Frontier, error)
}

// before returns what a commit with those parents stands on.
func (tx *Tx) before(state joiner, parents []dag.CID) (acp.Frontier, error) {
	below := make([]acp.Frontier, 0, len(parents))
	for _, p := range parents {
		f, err := tx.aboveOf(p)
		if err != nil {
			return nil, err
		}
		below = append(below, f)
	}
	return state.Join(below...)
}
