package store

import (
	"bytes"
	"iter"
	"math/big"

	"github.com/pandodb/pando/internal/kv"
)

// How many bytes of a key decide where reading goes on behind damage. Of commits
// it is enough to tell documents apart: what follows damage in a document stands on
// what was lost. Each byte more costs sixteen attempts to read damaged files.
const (
	preciseCommit = 1 + 4 + 8
	preciseNote   = 48
)

// salvage yields the entries of a table. Where the files are damaged it tells bad
// and goes on behind the damage.
func salvage(snap *kv.Snapshot, table byte, precise int, bad func(from []byte, err error)) iter.Seq[kv.Entry] {
	lo, hi := []byte{table}, []byte{table + 1}
	return func(yield func(kv.Entry) bool) {
		for from := lo; from != nil; {
			last := bytes.Clone(from)
			lo, from = from, nil
			for e, err := range snap.Scan(lo, hi) {
				if err != nil {
					bad(last, err)
					from = behind(snap, last, hi, keySpace{precise})
					break
				}
				if !yield(e) {
					return
				}
				last = append(last[:0], e.Key...)
			}
		}
	}
}

// behind returns the first key from which the entries up to hi can be read again,
// hi if there are none. It looks further and further ahead, then halves the step.
func behind(snap *kv.Snapshot, lo, hi []byte, space keySpace) []byte {
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

// keySpace takes the first bytes of keys for numbers, so that there is a middle of two.
type keySpace struct{ size int }

func (s keySpace) number(key []byte) *big.Int {
	b := make([]byte, s.size)
	copy(b, key) // of what is longer, the beginning
	return new(big.Int).SetBytes(b)
}

func (s keySpace) key(n *big.Int) []byte { return n.FillBytes(make([]byte, s.size)) }
