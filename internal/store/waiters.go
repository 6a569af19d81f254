package store

import (
	"context"
	"sync"

	"github.com/pandodb/pando/internal/fault"
)

// waiters tells readers of the feed how far it is durable.
type waiters struct {
	mu     sync.Mutex
	seq    uint64
	closed bool
	failed error         // why nothing more becomes durable
	wake   chan struct{} // closed and replaced when seq or closed changes
}

// advance says that the feed is durable up to seq.
func (w *waiters) advance(seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if seq > w.seq {
		w.seq = seq
		w.signal()
	}
}

// fail says that nothing more becomes durable.
func (w *waiters) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
		w.signal()
	}
}

// wait returns when the feed is durable up to seq.
func (w *waiters) wait(ctx context.Context, seq uint64) error {
	for {
		durable, closed, changed := w.state()
		if durable >= seq {
			return nil
		}
		w.mu.Lock()
		err := w.failed
		w.mu.Unlock()
		switch {
		case err != nil:
			return err
		case closed:
			return fault.Closed.Errorf("the database is closed")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *waiters) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.signal()
}

func (w *waiters) signal() {
	if w.wake != nil {
		close(w.wake)
		w.wake = nil
	}
}

// state returns how far the feed is durable, whether it ended, and a channel
// that closes when either changes.
func (w *waiters) state() (seq uint64, closed bool, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wake == nil {
		w.wake = make(chan struct{})
	}
	return w.seq, w.closed, w.wake
}
