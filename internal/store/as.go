package store

import (
	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
)

// As returns a read-only transaction as another caller sees it. Both are on one
// snapshot, which ends with tx.
func (tx *Tx) As(who Caller) *Tx {
	return &Tx{s: tx.s, kv: tx.kv, who: who, set: tx.set, seq: tx.seq, base: tx.base, readOnly: true, explicit: true, ctx: tx.ctx}
}

// Asked returns the groups that were looked at so far to say what the caller may read:
// as long as these are as they are, and a document is, so is the answer.
func (tx *Tx) Asked() []dag.DocID {
	if tx.caller == nil {
		return nil
	}
	tx.caller.mu.RLock()
	defer tx.caller.mu.RUnlock()
	var groups []dag.DocID
	for m := range tx.caller.groups {
		groups = append(groups, m.group)
	}
	return groups
}

// Seat is a relation in a group.
type Seat struct {
	Group    dag.DocID
	Relation string
}

// Seats returns what was found so far to say what the caller may read: which relations
// he has in groups, and which not.
func (tx *Tx) Seats() map[Seat]bool {
	if tx.caller == nil {
		return nil
	}
	tx.caller.mu.RLock()
	defer tx.caller.mu.RUnlock()
	seats := make(map[Seat]bool, len(tx.caller.groups))
	for m, is := range tx.caller.groups {
		seats[Seat{m.group, m.relation}] = is
	}
	return seats
}

// Sits reports whether the caller has a relation in a group.
func (tx *Tx) Sits(s Seat) (bool, error) {
	r := tx.reading()
	is := r.member(acp.ID(s.Group), s.Relation)
	if err := r.failed.Load(); err != nil && !is {
		return false, *err
	}
	return is, nil
}

// MayRead reports whether the caller may read a document, as it is now, that another
// caller's transaction on the same snapshot returned.
func (tx *Tx) MayRead(d Doc) (bool, error) { return tx.reading().ReadableDoc(d) }
