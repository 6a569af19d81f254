package pando

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// Coverage says which documents of a collection a database keeps, and when it was last
// known to have all of them.
type Coverage struct {
	Collection CollectionID
	Name       string
	Scope      Scope
	From       string    // the peer with which it was compared then, or from which it comes; "" if there is none
	AsOf       time.Time // zero: it never was
	Since      time.Time // of an incomplete one: when it was begun to be kept
	noted      bool      // else it was made here
}

// Complete reports whether the database was ever known to have all that it keeps.
func (c Coverage) Complete() bool { return !c.AsOf.IsZero() }

// Incomplete reports whether the database was never known to have all that it keeps: the
// collection comes from others, and is still copied. One that was made here is complete.
func (c Coverage) Incomplete() bool { return c.noted && !c.Complete() }

// coverages is what is known of collections that are not kept whole, or were compared.
type coverages struct {
	mu      sync.Mutex // guards what follows
	at      map[CollectionID]Coverage
	written map[CollectionID]time.Time // the AsOf that is durable
}

// noteCoverage is the note of a collection: [scope, peer, time in milliseconds], and of an
// incomplete one when it was begun to be kept.
const noteCoverage = "coverage/"

// coverageEvery is how much newer a comparison has to be than the one that was noted to
// be noted in turn: after a crash, what is known is that much older.
const coverageEvery = 5 * time.Second

// maxFilterText is how long a filter of a scope may be.
const maxFilterText = 16 << 10

// AppendBinary writes a scope in its canonical form: null if it is everything, else the
// filter and the docIDs.
func (s Scope) AppendBinary(b []byte) []byte {
	if s = s.Canonical(); s.Whole {
		return cbor.AppendNull(b)
	}
	b = cbor.AppendText(cbor.AppendArray(b, 2), s.Filter)
	packed := make([]byte, 0, 32*len(s.Docs))
	for _, d := range s.Docs {
		packed = append(packed, d[:]...)
	}
	return cbor.AppendBytes(b, packed)
}

// ReadScope reads what AppendBinary writes, and nothing else.
func ReadScope(r *cbor.Reader) Scope {
	if r.Null() {
		return Whole
	}
	if n := r.Array(); r.Err() == nil && n != 2 {
		r.Fail(fault.Invalid.Errorf("a scope of %d items, want 2", n))
	}
	s := Scope{Filter: r.Text()}
	packed := r.Bytes()
	switch {
	case r.Err() != nil:
		return Scope{}
	case len(s.Filter) > maxFilterText:
		r.Fail(fault.TooLarge.Errorf("a filter of %d bytes, allowed are %d", len(s.Filter), maxFilterText))
		return Scope{}
	case len(packed)%32 != 0 || len(packed) > 32*MaxScopeDocs:
		r.Fail(fault.Invalid.Errorf("docIDs of %d bytes in all, want at most %d of 32", len(packed), MaxScopeDocs))
		return Scope{}
	}
	for ; len(packed) > 0; packed = packed[32:] {
		s.Docs = append(s.Docs, dag.DocID(packed))
	}
	if c := s.Canonical(); c.Filter != s.Filter || !slices.Equal(c.Docs, s.Docs) {
		r.Fail(fault.Invalid.Errorf("a scope that is not in its canonical form"))
	}
	return s
}

func (c Coverage) encode() []byte {
	items := 3
	if c.Incomplete() {
		items++
	}
	b := c.Scope.AppendBinary(cbor.AppendArray(nil, items))
	b = cbor.AppendText(b, c.From)
	if c.Incomplete() {
		return appendTime(cbor.AppendUint(b, 0), c.Since)
	}
	return appendTime(b, c.AsOf)
}

// appendTime writes a time in milliseconds, none as 0.
func appendTime(b []byte, at time.Time) []byte {
	if at.IsZero() {
		return cbor.AppendUint(b, 0)
	}
	return cbor.AppendUint(b, uint64(max(at.UnixMilli(), 0)))
}

func readTime(r *cbor.Reader) time.Time {
	if at := r.Uint(); at > 0 {
		return time.UnixMilli(int64(at))
	}
	return time.Time{}
}

func decodeCoverage(v []byte) (Coverage, error) {
	r := cbor.NewReader(v)
	items := r.Array()
	if r.Err() == nil && items != 3 && items != 4 {
		r.Fail(fault.Invalid.Errorf("%d items, want 3 or 4", items))
	}
	c := Coverage{Scope: ReadScope(r), From: r.Text(), AsOf: readTime(r), noted: true}
	if items == 4 {
		c.Since = readTime(r)
	}
	return c, r.Done()
}

// loadCoverage reads what is kept of the collections.
func (s *shared) loadCoverage() error {
	s.coverage.at, s.coverage.written = map[CollectionID]Coverage{}, map[CollectionID]time.Time{}
	for e, err := range s.store.Notes([]byte(noteCoverage)) {
		if err != nil {
			return err
		}
		key := e.Key[len(noteCoverage):]
		c, err := decodeCoverage(slices.Clone(e.Value))
		if err == nil && len(key) != 32 {
			err = fault.Invalid.Errorf("a key of %d bytes", len(key))
		}
		if err != nil {
			return fault.Corrupt.Errorf("note of what is kept of a collection: %w: restore the directory from a backup", err)
		}
		c.Collection = CollectionID(key)
		s.coverage.at[c.Collection], s.coverage.written[c.Collection] = c, c.AsOf
	}
	return nil
}

// Coverage tells of each collection, by name, what the database keeps of it. Answers
// about a collection that is not kept whole are about that part.
func (db *DB) Coverage() []Coverage {
	var all []Coverage
	for _, c := range db.Collections() {
		all = append(all, db.coverageOf(c))
	}
	return all
}

func (s *shared) coverageOf(c *Collection) Coverage {
	s.coverage.mu.Lock()
	defer s.coverage.mu.Unlock()
	found, ok := s.coverage.at[c.ID]
	if !ok {
		found.Scope = Whole
	}
	found.Collection, found.Name = c.ID, c.Name
	return found
}

// Scopes returns what is kept of the collections of which not everything is: also of
// such as are not here yet.
func (r *Replica) Scopes() map[CollectionID]Scope {
	c := &r.db.coverage
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[CollectionID]Scope{}
	for id, one := range c.at {
		if !one.Scope.Whole {
			found[id] = one.Scope
		}
	}
	return found
}

// SetScope notes what is kept of a collection from now on, durably. It is not known to
// be complete then.
func (r *Replica) SetScope(coll CollectionID, s Scope) error { return r.begin(coll, s, "") }

// begin notes what is kept from now on, and from whom it comes.
func (r *Replica) begin(coll CollectionID, s Scope, from string) error {
	if err := s.check(); err != nil {
		return err
	}
	c := &r.db.coverage
	c.mu.Lock()
	defer c.mu.Unlock()
	next := Coverage{Collection: coll, Scope: s.Canonical(), From: from, Since: r.Now(), noted: true}
	if err := r.Put(map[string][]byte{noteCoverage + string(coll[:]): next.encode()}); err != nil {
		return err
	}
	c.at[coll] = next
	delete(c.written, coll)
	return nil
}

// Joined notes, durably, that some collection comes from a peer: it is not known to be
// complete until a comparison shows that. One that was made here is, unless noted.
func (r *Replica) Joined(coll CollectionID, from string) error {
	c := &r.db.coverage
	c.mu.Lock()
	_, known := c.at[coll]
	c.mu.Unlock()
	if known {
		return nil
	}
	return r.begin(coll, Whole, from)
}

// Incomplete reports whether a collection was never known to have all that is kept of it.
func (r *Replica) Incomplete(coll CollectionID) bool {
	c := &r.db.coverage
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[coll].Incomplete()
}

// Covered notes that the database has all that it keeps of a collection, as the
// comparison with a peer showed at some time. It is nothing if another part is kept by now.
func (r *Replica) Covered(coll CollectionID, s Scope, from string, at time.Time) error {
	c := &r.db.coverage
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.at[coll]
	if !ok {
		old = Coverage{Collection: coll, Scope: Whole, noted: true}
	}
	if !old.Scope.Equal(s) || !at.After(old.AsOf) {
		return nil
	}
	old.From, old.AsOf, old.Since = from, at, time.Time{}
	c.at[coll] = old
	if at.Sub(c.written[coll]) < coverageEvery {
		return nil
	}
	c.written[coll] = at
	return r.Put(map[string][]byte{noteCoverage + string(coll[:]): old.encode()})
}

// partial returns what is kept of those among some collections of which not everything is,
// or is not known to be here.
func (s *shared) partial(names []string) []Coverage {
	s.coverage.mu.Lock()
	nothing := len(s.coverage.at) == 0
	s.coverage.mu.Unlock()
	if nothing {
		return nil
	}
	var all []Coverage
	set := s.store.Schema()
	for _, name := range names {
		if c, ok := set.Collection(name); ok {
			if found := s.coverageOf(c); !found.Scope.Whole || found.Incomplete() {
				all = append(all, found)
			}
		}
	}
	slices.SortFunc(all, func(a, b Coverage) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// appendCoverage appends to a response, after its data, what of the collections that it
// depends on is kept, if that is not everything, or not all of it is here.
func appendCoverage(b []byte, all []Coverage) []byte {
	if len(all) == 0 {
		return b
	}
	return append(appendCoverageList(append(b, `,"extensions":{`...), all), '}')
}

func appendCoverageList(b []byte, all []Coverage) []byte {
	b = append(b, `"coverage":[`...)
	for i, c := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = c.AppendJSON(b)
	}
	return append(b, ']')
}

// AppendJSON appends the coverage as answers and the remote surface tell of it.
func (c Coverage) AppendJSON(b []byte) []byte {
	text := func(name, v string) {
		b = append(append(append(b, `,"`...), name...), `":`...)
		b = value.AppendJSONString(b, v)
	}
	b = append(b, `{"collection":`...)
	b = value.AppendJSONString(b, c.Name)
	text("kept", c.Scope.Kind())
	if c.Scope.Filter != "" {
		text("filter", c.Scope.Filter)
	}
	if len(c.Scope.Docs) > 0 {
		b = append(b, `,"documents":`...)
		b = strconv.AppendInt(b, int64(len(c.Scope.Docs)), 10)
	}
	if c.Incomplete() && !c.Scope.None() {
		b = append(b, `,"incomplete":true`...)
		if !c.Since.IsZero() {
			text("since", c.Since.UTC().Format(time.RFC3339))
		}
	}
	if c.From != "" {
		text("from", c.From)
	}
	if c.Complete() {
		text("asOf", c.AsOf.UTC().Format(time.RFC3339))
	}
	return append(b, '}')
}

// Kind says how much a scope is, in a word: whole, part or none.
func (s Scope) Kind() string {
	switch {
	case s.Whole:
		return "whole"
	case s.None():
		return "none"
	}
	return "part"
}
