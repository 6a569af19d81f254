package store

import (
	"iter"
	"math/big"

	"github.com/pandodb/pando/internal/kv"
)

// salvage yields the entries from lo up to, but without, hi. Where the files are
// damaged it tells bad and goes on behind the damage.
func salvage(snap *kv.Snapshot, lo, hi []byte, bad func(from []byte, err error)) iter.Seq[kv.Entry] {
	return func(yield func(kv.Entry) bool) {
		for lo != nil {
			from := lo
			lo = nil
			for e, err := range snap.Scan(from, hi) {
				if err != nil {
					bad(from, err)
					lo = behind(snap, from, hi)
					break
				}
				if !yield(e) {
					return
				}
				from = append(append(from[:0:0], e.Key...), 0)
			}
		}
	}
}

// behind returns the first key from which the entries up to hi can be read again,
// hi if there are none. It looks further and further ahead, then halves the step.
func behind(snap *kv.Snapshot, lo, hi []byte) []byte {
	space := newKeySpace(lo, hi)
	failed, step := space.number(lo), big.NewInt(1)
	end := space.number(hi)
	var found *big.Int
	for found == nil {
		at := new(big.Int).Add(failed, step)
		switch {
		case at.Cmp(end) >= 0:
			found = end
		case readable(snap, space.key(at), hi):
			found = at
		default:
			failed = at
			step.Lsh(step, 1)
		}
	}
	for {
		middle := new(big.Int).Add(failed, found)
		middle.Rsh(middle, 1)
		if middle.Cmp(failed) == 0 {
			return space.key(found)
		}
		if readable(snap, space.key(middle), hi) {
			found = middle
		} else {
			failed = middle
		}
	}
}

func readable(snap *kv.Snapshot, lo, hi []byte) bool {
	for _, err := range snap.Scan(lo, hi) {
		return err == nil
	}
	return true
}

// keySpace takes keys for numbers, so that there is a middle of two.
type keySpace struct{ size int }

func newKeySpace(lo, hi []byte) keySpace { return keySpace{max(len(lo), len(hi), commitKeySize+1)} }

func (s keySpace) number(key []byte) *big.Int {
	b := make([]byte, s.size)
	copy(b, key)
	return new(big.Int).SetBytes(b)
}

func (s keySpace) key(n *big.Int) []byte { return n.FillBytes(make([]byte, s.size)) }
