package kv

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"runtime/debug"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
	"github.com/cockroachdb/pebble/v2/sstable/valblk"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/pandodb/pando/internal/fault"
)

const (
	// keyBundle is how many keys the engine packs together, by default.
	keyBundle = 16

	// maxBlockSearch bounds how far the end of a block is looked for: beyond the
	// largest value.
	maxBlockSearch = 64 << 20
)

var keySchema = colblk.DefaultKeySchema(pebble.DefaultComparer, keyBundle)

// blockHead is how a block with keys and values begins: version, number of columns.
var blockHead = []byte{1, 7, 0}

// table yields the writes of a table, block by block.
func (s *salvager) table(name string) error {
	path := s.files.PathJoin(s.dir, name)
	f, err := s.files.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	handles, err := tableBlocks(s.files, path)
	if err != nil {
		return s.walk(name, f, err)
	}
	for _, h := range handles {
		raw := make([]byte, h.Length+block.TrailerLen)
		if _, err := f.ReadAt(raw, int64(h.Offset)); err != nil {
			s.bad(name, int64(h.Offset), int64(h.Length), false, err)
			continue
		}
		n := len(raw) - block.TrailerLen + 1
		ok, turned := mended(raw[:n], binary.LittleEndian.Uint32(raw[n:]))
		var found []Found
		if ok {
			found, err = blockEntries(raw[:n])
			ok = err == nil
		}
		if !ok || turned {
			s.bad(name, int64(h.Offset), int64(h.Length), ok, fault.Corrupt.Errorf("the block is damaged"))
		}
		if s.pass(found); s.stopped {
			break
		}
	}
	return nil
}

func (s *salvager) pass(found []Found) {
	for _, f := range found {
		if s.stopped = s.stopped || !s.yield(f); s.stopped {
			return
		}
	}
}

// tableBlocks returns where the blocks of a table are, from its index.
func tableBlocks(files vfs.FS, path string) (handles []block.Handle, err error) {
	defer caught(&err)
	f, err := files.Open(path)
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
	defer r.Close()
	l, err := r.Layout()
	if err != nil {
		return nil, err
	}
	for _, h := range l.Data {
		if int64(h.Offset+h.Length) > readable.Size() {
			return nil, fault.Corrupt.Errorf("its index points beyond its end")
		}
		handles = append(handles, h.Handle)
	}
	return handles, nil
}

// walk reads a table without its index: blocks follow each other from its beginning,
// and each ends where its checksum says so.
func (s *salvager) walk(name string, f vfs.File, cause error) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at := int64(0)
	for at < info.Size() && !s.stopped {
		raw := make([]byte, min(info.Size()-at, maxBlockSearch))
		if _, err := f.ReadAt(raw, at); err != nil && err != io.EOF {
			return err
		}
		found, size := firstBlock(raw)
		if size == 0 {
			break
		}
		s.pass(found)
		at += int64(size)
	}
	s.bad(name, at, info.Size()-at, false, fault.Corrupt.Errorf("the index of the table is damaged, so it was read without: %w", plain(cause)))
	return nil
}

// firstBlock returns the entries of the block at the beginning of raw, and its size,
// 0 if there is none.
func firstBlock(raw []byte) ([]Found, int) {
	crc := uint32(0)
	for n := 1; n+4 <= len(raw); n++ {
		crc = crc32.Update(crc, castagnoli, raw[n-1:n])
		if checksum(crc) != binary.LittleEndian.Uint32(raw[n:]) {
			continue
		}
		if found, err := blockEntries(raw[:n]); err == nil {
			return found, n + 4
		}
	}
	return nil, 0
}

// blockEntries returns what is in a block, given with the byte that says how it is
// compressed.
func blockEntries(raw []byte) (found []Found, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer caught(&err)
	raw, how := raw[:len(raw)-1], block.CompressionIndicator(raw[len(raw)-1])
	data := raw
	if how != block.NoCompressionIndicator {
		n, err := block.DecompressedLen(how, raw)
		if err != nil {
			return nil, err
		}
		if n < 0 || n > maxBatchBytes {
			return nil, fault.Corrupt.Errorf("a block of %d bytes", n)
		}
		data = make([]byte, n)
		if err := block.DecompressInto(how, raw, data); err != nil {
			return nil, err
		}
	} else {
		data = slices.Clone(raw) // aligned
	}
	const column0 = 4 // behind the largest length of a key
	if len(data) < column0+len(blockHead) || string(data[column0:column0+len(blockHead)]) != string(blockHead) {
		return nil, fault.Corrupt.Errorf("no block of keys and values")
	}
	var d colblk.DataBlockDecoder
	d.Init(&keySchema, data)
	var it colblk.DataBlockIter
	it.InitOnce(&keySchema, pebble.DefaultComparer, new(valblk.Reader))
	if err := it.Init(&d, block.NoTransforms); err != nil {
		return nil, err
	}
	defer it.Close()
	for kv := it.First(); kv != nil; kv = it.Next() {
		if !kv.V.IsInPlaceValue() {
			continue // the engine puts what a later write replaced elsewhere
		}
		f := Found{Key: slices.Clone(kv.K.UserKey), Seq: uint64(kv.K.SeqNum())}
		switch kv.K.Kind() {
		case pebble.InternalKeyKindSet, pebble.InternalKeyKindSetWithDelete:
			f.Value = slices.Clone(kv.InPlaceValue())
		case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete, pebble.InternalKeyKindDeleteSized:
			f.Deleted = true
		default:
			continue
		}
		found = append(found, f)
	}
	return found, it.Error()
}

// caught makes a panic of the engine an error.
func caught(err *error) {
	if r := recover(); r != nil {
		*err = fault.Corrupt.Errorf("%w", plain(fmt.Errorf("%v", r)))
	}
}
