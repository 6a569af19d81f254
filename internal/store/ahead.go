package store

import (
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/veil"
)

// To begin an encrypted document its secret is wrapped to whoever creates it, which
// takes longer than all else and says nothing of what is in the document. A transaction
// that creates many therefore has some more ready than it was asked for, made on all
// cores: never more than it has created already.
type ahead struct {
	of    *schema.Collection
	cover veil.Cover
	made  int         // documents that were asked for
	ready []beginning // the next ones
	now   *beginning  // the one that is being created, if it was made ahead

	readers []ident.PublicKey // of all that were made ahead
}

// beginning is the docID of an encrypted document, and the keys that its first commit
// gives to nobody but its author.
type beginning struct {
	seed *dag.RootSeed
	plan veil.Plan
}

const (
	// aheadFrom is after how many documents others are made ahead.
	aheadFrom = 4
	// aheadEach is how many of them, at most, for each core.
	aheadEach = 4
)

// next returns the beginning of a document to be created.
func (a *ahead) next(tx *Tx, c *schema.Collection, cover veil.Cover) (b beginning, err error) {
	if a.of != c || a.cover.All != cover.All || !slices.Equal(a.cover.Fields, cover.Fields) {
		*a = ahead{of: c, cover: cover, readers: []ident.PublicKey{tx.who.Public()}}
	}
	a.now = nil
	cores := runtime.GOMAXPROCS(0)
	if len(a.ready) == 0 && a.made >= aheadFrom && cores > 1 {
		if a.ready, err = tx.begin(c, cover, min(a.made, aheadEach*cores)); err != nil {
			return b, err
		}
	}
	a.made++
	if len(a.ready) == 0 {
		b.seed, err = tx.sealedSeed(c)
		return b, err
	}
	b, a.ready = a.ready[0], a.ready[1:]
	a.now = &b
	return b, nil
}

// planned returns the plan that was made ahead for the first commit of a document, nil if
// there is none for those readers.
func (a *ahead) planned(doc acp.ID, readers veil.Readers) *veil.Plan {
	if a.now == nil || acp.ID(a.now.seed.DocID()) != doc || readers.Everyone || !slices.Equal(readers.Keys, a.readers) {
		return nil
	}
	return &a.now.plan
}

// begin makes n beginnings. What is random and names them is drawn in turn.
func (tx *Tx) begin(c *schema.Collection, cover veil.Cover, n int) ([]beginning, error) {
	all, errs := make([]beginning, n), make([]error, n)
	var err error
	for i := range all {
		if all[i].seed, err = tx.sealedSeed(c); err != nil {
			return nil, err
		}
	}
	readers := veil.Readers{Keys: tx.ahead.readers}
	keys, random := tx.opener().keys, &inTurn{r: tx.s.rand}
	var next atomic.Int32
	work := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			all[i].plan, errs[i] = cover.Begin(acp.ID(all[i].seed.DocID()), readers, keys, random)
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// sealedSeed returns what names an encrypted document.
func (tx *Tx) sealedSeed(c *schema.Collection) (seed *dag.RootSeed, err error) {
	seed = &dag.RootSeed{Mode: c.Mode, Collection: c.ID}
	if c.Mode == dag.ModeUnique {
		seed.Seed, err = dag.UniqueSeed(tx.who.Public(), tx.s.rand)
	} else {
		seed.Seed, err = dag.SealedSeed(tx.who.Public(), tx.s.rand)
	}
	return seed, err
}

// inTurn is a source of random bytes for several goroutines.
type inTurn struct {
	mu sync.Mutex
	r  io.Reader
}

func (t *inTurn) Read(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.r.Read(b)
}
