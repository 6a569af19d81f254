package store

import (
	"iter"

	"github.com/pandodb/pando/internal/kv"
)

// Notes are small durable entries that the layers above keep beside the
// documents: what the network remembers of its peers.

// Note returns the note under a key, and whether there is one.
func (s *Store) Note(key []byte) ([]byte, bool, error) {
	if err := s.gate.enter(); err != nil {
		return nil, false, err
	}
	defer s.gate.leave()
	snap := s.kv.Snapshot()
	defer snap.Close()
	return snap.Get(noteKey(key))
}

// SetNotes writes notes, all or none, durable on return. A nil value deletes.
func (s *Store) SetNotes(notes map[string][]byte) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	b := s.kv.NewBatch()
	for k, v := range notes {
		if v == nil {
			b.Delete(noteKey([]byte(k)))
		} else {
			b.Set(noteKey([]byte(k)), v)
		}
	}
	return s.write(b)
}

// Notes yields the notes whose keys start with a prefix, in order. An entry is
// valid until the next step; its key is the note's, with the prefix.
func (s *Store) Notes(prefix []byte) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		if err := s.gate.enter(); err != nil {
			yield(kv.Entry{}, err)
			return
		}
		defer s.gate.leave()
		snap := s.kv.Snapshot()
		defer snap.Close()
		lo := noteKey(prefix)
		for e, err := range snap.Scan(lo, after(lo)) {
			if err == nil {
				e.Key = e.Key[1:]
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}
