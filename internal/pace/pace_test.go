package pace_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando/internal/pace"
)

// rings reports whether an alarm goes off within a minute, and after how long.
func rings(t *testing.T, a pace.Alarm) (after time.Duration, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begun := time.Now()
	ok = a.Wait(ctx)
	return time.Since(begun), ok
}

func TestTheEarliestTimeThatWasSetCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := pace.NewAlarm()
		a.Set(30 * time.Second)
		a.Set(10 * time.Second)
		a.Set(20 * time.Second)
		if after, ok := rings(t, a); !ok || after != 10*time.Second {
			t.Errorf("it rings after %v (%v), want 10s", after, ok)
		}
		if after, ok := rings(t, a); ok {
			t.Errorf("it rings again after %v: one ring is for all that was set", after)
		}
	})
}

// What is set while somebody waits is heard by who waits.
func TestAnAlarmIsSetWhileSomebodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := pace.NewAlarm()
		a.Set(30 * time.Second)
		time.AfterFunc(time.Second, func() { a.Set(time.Second) })
		if after, ok := rings(t, a); !ok || after != 2*time.Second {
			t.Errorf("it rings after %v (%v), want 2s", after, ok)
		}
	})
}

func TestOnlyWhatWasSetBeforeIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := pace.NewAlarm()
		a.Set(10 * time.Second)
		time.Sleep(time.Second)
		then := time.Now()
		time.Sleep(time.Second)
		a.Set(time.Second)
		a.Clear(then)
		if _, ok := rings(t, a); !ok {
			t.Error("what was set afterwards was taken back")
		}
		a.Set(10 * time.Second)
		time.Sleep(time.Second)
		a.Clear(time.Now())
		if after, ok := rings(t, a); ok {
			t.Errorf("what was set before was not taken back: it rings after %v", after)
		}
	})
}

func TestFailuresLastLongerAndLongerUpToABound(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		0: pace.First, 1: pace.First, 2: 2 * pace.First, 5: 16 * pace.First, 9: 256 * pace.First, 10: pace.Most, 15: pace.Most, 1 << 30: pace.Most,
	} {
		for range 100 {
			if got := pace.Backoff(failures); got < want/2 || got > want*3/2 {
				t.Fatalf("after %d failures %v, want %v, half more or less", failures, got, want)
			}
		}
	}
}
