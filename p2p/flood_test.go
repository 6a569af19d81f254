package p2p

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
)

// A flood of documents that cannot be completed leaves room for what others tell.
func TestOrphansOfOnePeerLeaveRoomForOthers(t *testing.T) {
	w, err := newWants(notes{openDB(t, "").Replica()})
	if err != nil {
		t.Fatal(err)
	}
	id := fill[dag.CollectionID](1)
	flood := func(from byte, docs, commits int) map[dag.DocID][]dag.CID {
		out := map[dag.DocID][]dag.CID{}
		for i := range docs {
			doc := dag.DocID{from, byte(i), byte(i >> 8), byte(i >> 16)}
			for j := range commits {
				out[doc] = append(out[doc], dag.CID{from, byte(i), byte(i >> 8), byte(j), byte(j >> 8)})
			}
		}
		return out
	}
	if lost := w.add(id, flood(1, 100, 10*maxHeads), "liar"); lost == 0 {
		t.Error("no part of the flood was turned down")
	}
	if n := w.held["liar"]; n > maxWantedOfPeer {
		t.Errorf("%d commits are wanted because of one peer, want at most %d", n, maxWantedOfPeer)
	}
	if lost := w.add(id, flood(2, 100, 1), "honest"); lost > 0 {
		t.Errorf("%d documents of an honest peer found no room", lost)
	}
	for k := range w.open { // all are given up in the end
		w.mu.Lock()
		w.giveUp(k)
		w.mu.Unlock()
	}
	if len(w.held) > 0 {
		t.Errorf("held for peers although nothing is wanted: %v", w.held)
	}
}

// Peers that do not answer leave places for others, and when that is known of them
// they share few.
func TestWhoDoesNotAnswerHoldsUpFewFetches(t *testing.T) {
	n := &Node{scores: newScores(), log: slog.New(slog.DiscardHandler)}
	r := newRescues(n)
	var open []func()
	begin := func(p peer.ID) bool {
		done, ok := r.begin(p)
		if ok {
			open = append(open, done)
		}
		return ok
	}
	for i := range 5 { // liars
		for range 10 {
			begin(peer.ID(fmt.Sprint("liar", i)))
		}
	}
	if !begin("honest") {
		t.Error("five silent peers leave no place")
	}
	for _, done := range open {
		done()
	}
	open = nil
	if r.running != 0 || len(r.of) != 0 {
		t.Errorf("%d fetches run, of %v, after all are done", r.running, r.of)
	}
	for i := range 100 {
		p := peer.ID(fmt.Sprint("liar", i))
		n.blame(p, blameSilent, "for the test")
		begin(p)
	}
	if len(open) != rescuesOfPeer {
		t.Errorf("peers that are blamed have %d places together, want %d", len(open), rescuesOfPeer)
	}
}
