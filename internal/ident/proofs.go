package ident

import "sync"

// maxOpened bounds the memory of verified delegations to some 2 MB, of certificates to
// less: far more users than a gateway serves within the life of their delegations.
const maxOpened = 1024

// proofs are statements whose signatures were found good, by their hash. Only good
// ones: a bad one costs its sender a connection, and us one verification.
type proofs[T any] struct {
	mu   sync.Mutex // guards good
	good map[[32]byte]T
}

func (p *proofs[T]) get(id [32]byte) (T, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, ok := p.good[id]
	return d, ok
}

func (p *proofs[T]) put(id [32]byte, d T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for old := range p.good {
		if len(p.good) < maxOpened {
			break
		}
		delete(p.good, old) // any: who comes back is verified once more
	}
	p.good[id] = d
}
