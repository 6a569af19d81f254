package room

import "time"

// flow is how much may pass: so much a second, and what burst seconds bring at once.
type flow struct{ items, bytes, burst float64 }

// bucket is what of a flow is left. The zero value is full.
type bucket struct {
	items, bytes float64 // taken and not made up for yet
	at           time.Time
}

// take lets one message pass, or returns in how long it may.
func (b *bucket) take(f flow, size int, now time.Time) time.Duration {
	passed := max(now.Sub(b.at).Seconds(), 0)
	b.items, b.bytes, b.at = max(b.items-passed*f.items, 0), max(b.bytes-passed*f.bytes, 0), now
	over := max((b.items+1)/f.items, (b.bytes+float64(size))/f.bytes) - f.burst
	if d := time.Duration(over * float64(time.Second)); d > 0 { // none of less than that is waited for
		return d
	}
	b.items, b.bytes = b.items+1, b.bytes+float64(size)
	return 0
}
