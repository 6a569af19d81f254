package query

import (
	"slices"
	"sync"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// Schemas keeps the generated schemas of the sets of collections that are in use:
// the newest, and those that open transactions still see. The zero value is ready
// and safe for concurrent use.
type Schemas struct {
	// Limits apply to all requests; set them before the first use.
	Limits Limits
	// Lenses runs WASM modules; nil: requests that need one fail. Set it before the
	// first use, too.
	Lenses schema.Lenses

	pipelines pipelines
	cores     cores

	mu     sync.Mutex // guards recent
	recent []schemaOf // the one used last in front
}

type schemaOf struct {
	set    *store.Set
	schema *Schema
}

// maxSchemas is how many schemas are kept. Transactions across more changes of the
// schema than this generate theirs anew.
const maxSchemas = 4

// Of returns the schema of a set of collections, and generates it the first time.
func (s *Schemas) Of(set *store.Set) *Schema {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range s.recent {
		if r.set == set {
			if i > 0 {
				copy(s.recent[1:], s.recent[:i])
				s.recent[0] = r
			}
			return r.schema
		}
	}
	var prev *Schema
	if len(s.recent) > 0 {
		prev = s.recent[0].schema
	}
	r := schemaOf{set, NewSchema(set.All(), prev, s.Limits)}
	r.schema.pipeline, r.schema.cores = s.pipeline, &s.cores
	s.recent = slices.Insert(s.recent, 0, r)
	s.recent = s.recent[:min(len(s.recent), maxSchemas)]
	return r.schema
}
