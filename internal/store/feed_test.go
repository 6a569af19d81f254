package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// log returns the feed after a number.
func (n *node) log(after uint64) (all []Change) {
	n.t.Helper()
	for c, err := range n.Log(context.Background(), System, after) {
		if err != nil {
			n.t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func TestFeedNamesEveryCommitOnceInOrder(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	aHistory(t, n)
	all := n.log(0)
	seen := map[dag.CID]bool{}
	origins := map[string]int{}
	for i, c := range all {
		if c.Seq != uint64(i+1) {
			t.Fatalf("entry %d has number %d", i, c.Seq)
		}
		if seen[c.Commit] {
			t.Errorf("commit %s comes twice", c.Commit)
		}
		seen[c.Commit] = true
		origins[c.Origin]++
		n.view(func(tx *Tx) error {
			a, err := tx.FindCommit(c.Commit)
			if err != nil || a.Seq != c.Seq || a.Origin != c.Origin || a.Doc != c.Doc || a.Height != c.Height || a.Collection.ID != c.Collection {
				t.Errorf("entry %+v is of commit %+v, %v", c, a, err)
			}
			for _, p := range a.Parents {
				if !seen[p] {
					t.Errorf("commit %s comes before its parent", c.Commit)
				}
			}
			return nil
		})
	}
	if origins["peer"] != 2 || origins["another peer"] != 1 || origins[""] != len(all)-3 {
		t.Errorf("origins are %v", origins)
	}
	for after := range all {
		if rest := n.log(uint64(after)); !slices.Equal(rest, all[after:]) {
			t.Errorf("after %d the feed has %d entries, want %d", after, len(rest), len(all)-after)
		}
	}
	if rest := n.log(uint64(len(all)) + 5); len(rest) > 0 {
		t.Errorf("after the end the feed has %d entries", len(rest))
	}
	n.reopen()
	if again := n.log(0); !slices.Equal(again, all) {
		t.Error("after a restart the feed is another one")
	}
	n.create("Page", "title", "one more")
	if last := n.log(uint64(len(all))); len(last) != 1 || last[0].Seq != uint64(len(all)+1) {
		t.Errorf("after a restart the feed goes on with %v", last)
	}
}

// A reader that follows sees what there was, what comes, and the end.
func TestFollowingTheFeed(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	n.create("Page", "title", "before")
	read := make(chan Change)
	ended := make(chan error, 1)
	go func() {
		for c, err := range n.Store.Changes(context.Background(), System, 0) {
			if err != nil {
				ended <- err
				return
			}
			read <- c
		}
		ended <- nil
	}()
	for i := range 5 {
		if c := <-read; c.Seq != uint64(i+1) {
			t.Fatalf("change %d has number %d", i, c.Seq)
		}
		n.create("Page", "title", fmt.Sprint("page ", i))
	}
	<-read
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, fault.Closed) {
		t.Errorf("the feed of a closed database ends with %v, want Closed", err)
	}
	for _, err := range n.Store.Changes(context.Background(), System, 0) {
		if !errors.Is(err, fault.Closed) {
			t.Errorf("following a closed database gives %v, want Closed", err)
		}
	}
	for _, err := range n.Log(context.Background(), System, 0) {
		if !errors.Is(err, fault.Closed) {
			t.Errorf("the log of a closed database gives %v, want Closed", err)
		}
	}
}

func TestFollowingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	n.create("Page", "title", "a")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	enough := errors.New("enough")
	var got []error
	for _, err := range n.Changes(ctx, System, 0) {
		if err == nil {
			cancel(enough) // the next step would wait
		}
		got = append(got, err)
	}
	if len(got) != 2 || got[0] != nil || !errors.Is(got[1], enough) {
		t.Errorf("got %v, want one change and then the cause", got)
	}
}

// Closing waits for those inside, and lets nobody in.
func TestCloseWaitsForTransactions(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	inside, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- n.Update(context.Background(), As(n.key), func(tx *Tx) error {
			close(inside)
			<-leave
			_, err := createIn(tx, "Page", "title", "a")
			return err
		})
	}()
	<-inside
	closed := make(chan error, 1)
	go func() { closed <- n.Store.Close() }()
	for { // until the gate is shut
		tx, err := n.Begin(As(n.key), true)
		if errors.Is(err, fault.Closed) {
			break
		}
		tx.Discard()
	}
	close(leave)
	if err := <-done; err != nil {
		t.Errorf("the transaction inside gives %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("close gives %v", err)
	}
	n.open()
	if got := n.log(0); len(got) != 1 {
		t.Errorf("the feed has %d entries, want the one written while closing", len(got))
	}
}
