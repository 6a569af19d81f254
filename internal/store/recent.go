package store

import (
	"sync"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
)

// Whether an entry of an index may be shown is seen in its document, and who asks for a
// few entries asks for their documents next. A transaction that writes nothing keeps
// these until then. That they are kept gives nobody a right: they are checked again.
type recent struct {
	mu   sync.Mutex // guards the rest
	rows map[dag.DocID]recentRow
	size int
}

type recentRow struct {
	coll short
	raw  []byte
}

const (
	// recentRows is how many documents of a walk over an index are kept: who wants more
	// reads them in other company.
	recentRows = 512
	// recentBytes bounds all of them. Beyond it they are forgotten.
	recentBytes = 512 << 10
)

// keep keeps a document as it was read.
func (r *recent) keep(n short, id dag.DocID, d crdt.Document) {
	raw := d.Bytes()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size += len(raw); r.rows == nil || r.size > recentBytes {
		r.rows, r.size = map[dag.DocID]recentRow{}, len(raw)
	}
	if len(raw) <= recentBytes {
		r.rows[id] = recentRow{n, append([]byte(nil), raw...)}
	}
}

// row returns the bytes of a document if it was kept.
func (r *recent) row(n short, id dag.DocID) (raw []byte, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, ok := r.rows[id]
	return row.raw, ok && row.coll == n
}
