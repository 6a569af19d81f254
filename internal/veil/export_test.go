package veil

import (
	"io"

	"github.com/pandodb/pando/internal/dag"
)

// SealText seals whatever it is given as the segment of a group.
func SealText(k Key, c *dag.Commit, group uint64, text []byte, rand io.Reader) ([]byte, error) {
	a, err := k.Secret.aead(k.Epoch, segmentDomain, group)
	if err != nil {
		return nil, err
	}
	return seal(a, rand, text, k.segmentInfo(c, group))
}
