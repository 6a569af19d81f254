// Package pace says when something is done again: after how long, and who is woken for it.
//
// All of it follows the time of package time, and so virtual time in tests.
package pace

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// First and Most are how long to wait after one failure, and after many.
const (
	First = time.Second
	Most  = 5 * time.Minute
)

// Alarm wakes one goroutine at the earliest of the times that were set. Copies of it
// are the same alarm.
type Alarm struct{ s *state }

type state struct {
	mu      sync.Mutex // guards at and asked
	at      time.Time
	asked   time.Time // when it was set last
	changed chan struct{}
}

// NewAlarm returns an alarm that is not set.
func NewAlarm() Alarm { return Alarm{&state{changed: make(chan struct{}, 1)}} }

// Set makes the alarm go off after d, unless it does so sooner anyway.
func (a Alarm) Set(d time.Duration) {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.s.asked = time.Now()
	if at := a.s.asked.Add(d); a.s.at.IsZero() || at.Before(a.s.at) {
		a.s.at = at
		select {
		case a.s.changed <- struct{}{}:
		default: // it will look again anyway
		}
	}
}

// Clear takes back what was set before a moment, unless it was set after it too.
func (a Alarm) Clear(before time.Time) {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	if a.s.asked.Before(before) {
		a.s.at = time.Time{}
	}
}

// Wait returns true when the alarm goes off, and false when ctx ends.
func (a Alarm) Wait(ctx context.Context) bool {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		a.s.mu.Lock()
		at := a.s.at
		a.s.mu.Unlock()
		var due <-chan time.Time
		if !at.IsZero() {
			timer.Reset(time.Until(at))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return false
		case <-a.s.changed:
		case <-due:
			a.s.mu.Lock()
			now := !a.s.at.IsZero() && !time.Now().Before(a.s.at)
			if now {
				a.s.at = time.Time{}
			}
			a.s.mu.Unlock()
			if now {
				return true
			}
		}
	}
}

// Sleep returns true after d, and false when ctx ends before.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Backoff is how long to wait after so many failures in a row: doubling, with jitter,
// so that many who failed together do not come back together.
func Backoff(failures int) time.Duration {
	d := Most
	if failures < 16 {
		d = min(First<<max(failures-1, 0), Most)
	}
	return Jitter(d, 0.5)
}

// Jitter returns d, more or less by up to a share of it.
func Jitter(d time.Duration, share float64) time.Duration {
	return time.Duration(float64(d) * (1 + share*(2*rand.Float64()-1)))
}
