package kv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/pandodb/pando/internal/fault"
)

// Problem is damage that Verify or Salvage found.
type Problem struct {
	File        string // its name in the directory of the database
	Offset      int64  // of the damaged block, or -1 if it is the file as a whole
	Size        int64  // of the block
	Mended      bool   // by Salvage: nothing is lost
	First, Last []byte // the keys of the table: what is damaged lies between them
	Err         error  // of kind Corrupt
}

// Verify reads every block of every table from disk, and reports each that does
// not have its checksum. It goes on after damage; the error tells only why it
// could not go on. Reads and writes meanwhile are not held up.
func (db *DB) Verify(ctx context.Context, report func(Problem)) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	done := map[string]bool{}
	for {
		// Compaction replaces tables as we go: look again until nothing is new.
		tables, err := db.tables(done)
		if err != nil {
			return fmt.Errorf("verify: %w", classify(err))
		}
		if len(tables) == 0 {
			return nil
		}
		for _, t := range tables {
			done[t.name] = true
			if err := db.verify(ctx, t, report); err != nil {
				return fmt.Errorf("verify: %w", err)
			}
		}
	}
}

// table is a file of sorted keys.
type table struct {
	name        string
	first, last []byte
}

// tables returns those that are not done.
func (db *DB) tables(done map[string]bool) ([]table, error) {
	levels, err := db.engine.SSTables()
	if err != nil {
		return nil, err
	}
	var tables []table
	for _, info := range slices.Concat(levels...) {
		name := info.BackingSSTNum.String() + ".sst"
		if !done[name] {
			tables = append(tables, table{name, info.Smallest.UserKey, info.Largest.UserKey})
		}
	}
	return tables, nil
}

func (db *DB) verify(ctx context.Context, t table, report func(Problem)) error {
	bad := func(offset, size int64, err error) {
		report(Problem{File: t.name, Offset: offset, Size: size, First: t.first, Last: t.last,
			Err: fault.Corrupt.Errorf("file %s is damaged: %w", t.name, plain(err))})
	}
	r, err := db.openTable(t)
	if errors.Is(err, fs.ErrNotExist) && !db.live(t) {
		return nil // compacted away
	}
	if err != nil {
		bad(-1, 0, err)
		return nil
	}
	defer r.Close()
	layout, err := r.Layout()
	if err != nil {
		bad(-1, 0, err)
		return nil
	}
	for _, h := range blocks(layout) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.check(h); err != nil {
			bad(int64(h.Offset), int64(h.Length), err)
		}
	}
	return nil
}

// live reports whether a table is still part of the database.
func (db *DB) live(t table) bool {
	tables, err := db.tables(nil)
	return err != nil || slices.ContainsFunc(tables, func(l table) bool { return l.name == t.name })
}

// tableReader reads a table past the caches.
type tableReader struct {
	*sstable.Reader
	file vfs.File
}

func (db *DB) openTable(t table) (*tableReader, error) {
	f, err := db.fs.Open(db.fs.PathJoin(db.dir, t.name))
	if err != nil {
		return nil, err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	r, err := sstable.NewReader(context.Background(), readable, (&pebble.Options{}).MakeReaderOptions())
	if err != nil {
		_ = readable.Close()
		return nil, err
	}
	return &tableReader{r, f}, nil
}

// check reads one block and compares its checksum.
func (r *tableReader) check(h block.Handle) error {
	b := make([]byte, h.Length+block.TrailerLen)
	if _, err := r.file.ReadAt(b, int64(h.Offset)); err != nil {
		return err
	}
	return block.ValidateChecksum(r.BlockReader().ChecksumType(), b, h)
}

// blocks returns all blocks of a table, in the order of the file.
func blocks(l *sstable.Layout) []block.Handle {
	all := []block.Handle{l.TopIndex, l.RangeDel, l.RangeKey, l.ValueIndex, l.Properties, l.MetaIndex, l.BlobReferenceIndex}
	all = append(append(all, l.Index...), l.ValueBlock...)
	for _, h := range l.Data {
		all = append(all, h.Handle)
	}
	for _, h := range l.Filter {
		all = append(all, h.Handle)
	}
	all = slices.DeleteFunc(all, func(h block.Handle) bool { return h.Length == 0 })
	slices.SortFunc(all, func(a, b block.Handle) int { return int(int64(a.Offset) - int64(b.Offset)) })
	return slices.Compact(all)
}
