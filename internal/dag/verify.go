package dag

import (
	"bytes"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pandodb/pando/internal/ident"
)

// Signatures are verified in chunks: small enough that one bad signature, which
// makes its chunk be verified one by one, costs little, and large enough for
// most of what a batch saves.
const (
	minChunk = 8
	maxChunk = 64
)

// Verify returns the positions, ascending, of the commits whose signature is
// wrong, or that of the delegation they bring. It uses all cores and returns when all
// are done.
func Verify(cs []*Commit) (bad []int) {
	cores := runtime.GOMAXPROCS(0)
	size := min(max((len(cs)+cores-1)/cores, minChunk), maxChunk)
	chunks := (len(cs) + size - 1) / size
	if chunks <= 1 {
		return verifyChunk(cs, 0)
	}
	found := make([][]int, chunks)
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= chunks {
				return
			}
			lo := i * size
			found[i] = verifyChunk(cs[lo:min(lo+size, len(cs))], lo)
		}
	}
	var wg sync.WaitGroup
	for range min(cores, chunks) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return slices.Concat(found...)
}

func verifyChunk(cs []*Commit, offset int) []int {
	var b ident.Batch
	b.Grow(len(cs))
	for _, c := range cs {
		b.Add(c.Author.Signer(), signedMessage(c.CID), c.Sig)
	}
	wrong, next := b.Verify(), 0
	var bad []int
	for i, c := range cs {
		signed := next == len(wrong) || wrong[next] != i
		if !signed {
			next++
		}
		if !signed || !c.delegationSigned() {
			bad = append(bad, i+offset)
			continue
		}
		c.verified = c.mark()
	}
	return bad
}

// delegationSigned reports that the author signed the delegation, if one is here.
// That one does not pass for many commits: its proof is verified once.
func (c *Commit) delegationSigned() bool {
	if len(c.Proof) == 0 {
		return true
	}
	_, err := ident.OpenDelegation(c.Proof)
	return err == nil
}

// Verified reports that Verify has found this commit's signature right. Only it can
// say so, and of exactly this commit: one that was changed since is not verified.
func (c *Commit) Verified() bool {
	return c.verified != nil && bytes.Equal(c.verified, c.mark())
}

// mark is all that was looked at: without its proof, a delegated commit is verified
// only as far as it is here.
func (c *Commit) mark() []byte {
	signer := c.Author.Signer()
	b := make([]byte, 0, len(c.CID)+len(signer)+len(c.Sig)+len(c.Proof))
	return append(append(append(append(b, c.CID[:]...), signer...), c.Sig...), c.Proof...)
}
