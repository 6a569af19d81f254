package kv

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/pandodb/pando/internal/fault"
)

// A log is a sequence of blocks of 32 KiB, each a sequence of chunks: checksum 4,
// length 2, type 1, number of the log 4, and in newer logs how far it was synced, 8.
// A record is a batch, in one chunk or in several.
const (
	logBlock      = 32 << 10
	oldHeader     = 11
	newHeader     = 19
	oldFull       = 5 // and first, middle, last
	newFull       = 9
	chunkFull     = 0
	chunkFirst    = 1
	chunkMiddle   = 2
	chunkLast     = 3
	chunkTypes    = 4
	batchHeader   = 12 // sequence number 8, count 4
	maxRecordSize = maxBatchBytes + 1<<20
)

// logReader reads a log past damage.
type logReader struct {
	number  uint32
	record  []byte                                // of the chunks so far; nil: none has begun
	doubted [][2]int                              // parts of the record without their checksum
	deliver func(record []byte, doubted [][2]int) // nil: nobody wants the records
	damage  func(offset, size int64, mended bool)

	gap     int64           // where what cannot be read begins, -1: nowhere
	claimed int64           // where a chunk of this log that begins there would end; 0: none does
	seen    func(end int64) // of each chunk, and each place that is damaged
}

// chunk is one at the beginning of some bytes.
type chunk struct {
	kind    int
	payload []byte
	size    int  // with its header
	whole   bool // it has its checksum
	turned  bool // after turning back a bit
	end     bool // of the log
}

// parse reads a chunk. Without mend, only if it has its checksum.
func (r *logReader) parse(b []byte, mend bool) (c chunk, ok bool) {
	if len(b) < oldHeader {
		return c, false
	}
	header, first := oldHeader, oldFull
	if b[6] >= newFull {
		header, first = newHeader, newFull
	}
	if c.kind = int(b[6]) - first; c.kind < 0 || c.kind >= chunkTypes || len(b) < header {
		return c, false
	}
	c.size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if c.size > len(b) {
		return c, false
	}
	sum, data := binary.LittleEndian.Uint32(b), b[6:c.size]
	switch number := binary.LittleEndian.Uint32(b[7:]); {
	case number == r.number+1 && c.size == header && checksumOf(data) == sum:
		c.end = true
		return c, true
	case number != r.number:
		return c, false // of a log that used the file before
	}
	if mend {
		c.whole, c.turned = mended(data, sum)
	} else {
		c.whole = checksumOf(data) == sum
	}
	c.payload = data[header-6:]
	return c, mend || c.whole
}

// read reads a whole log.
func (r *logReader) read(f io.Reader) error {
	r.gap = -1
	block := make([]byte, logBlock)
	for at := int64(0); ; at += logBlock {
		n, err := io.ReadFull(f, block)
		if n > 0 && r.block(block[:n], at) {
			return nil
		}
		if err != nil {
			r.finish()
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		}
	}
}

// block reads one block, and reports whether the log ends in it.
func (r *logReader) block(b []byte, at int64) (end bool) {
	for i := 0; i < len(b); {
		c, ok := r.parse(b[i:], r.gap < 0)
		switch {
		case !ok && r.gap < 0 && zero(b[i:]):
			if len(b)-i >= newHeader {
				r.gap = at + int64(i) // the end of the log, if nothing follows
			}
			return false
		case !ok:
			if r.gap < 0 {
				r.gap = at + int64(i)
			}
			i++
			continue
		case !c.whole && !c.end && !r.follows(b[i+c.size:]):
			// Its length cannot be trusted.
			r.gap, r.claimed = at+int64(i), at+int64(i+c.size)
			i++
			continue
		}
		r.close(at + int64(i))
		if c.end {
			r.finish()
			return true
		}
		r.add(c, at+int64(i))
		i += c.size
	}
	return false
}

// follows reports whether b begins as it must behind a chunk.
func (r *logReader) follows(b []byte) bool {
	_, ok := r.parse(b, false)
	return ok || len(b) < newHeader && zero(b)
}

// close ends a gap: something of this log came after it.
func (r *logReader) close(at int64) {
	if r.gap >= 0 {
		r.damage(r.gap, at-r.gap, false)
		r.gap, r.claimed = -1, 0
		r.drop()
	}
}

// drop ends a record of which a part is missing. Its beginning can be used.
func (r *logReader) drop() {
	if r.record != nil {
		r.deliver(r.record, append(r.doubted, [2]int{len(r.record), maxRecordSize}))
		r.record = nil
	}
}

func (r *logReader) finish() {
	if r.gap >= 0 && r.claimed > 0 {
		r.damage(r.gap, r.claimed-r.gap, false)
		r.seen(r.claimed)
	}
	r.gap = -1
	r.drop()
}

func (r *logReader) add(c chunk, at int64) {
	r.seen(at + int64(c.size))
	if !c.whole || c.turned {
		r.damage(at, int64(c.size), c.whole)
	}
	if r.deliver == nil {
		return
	}
	if c.kind == chunkFull || c.kind == chunkFirst {
		r.drop()
		r.record, r.doubted = []byte{}, nil
	}
	if r.record == nil || len(r.record)+len(c.payload) > maxRecordSize {
		r.record = nil
		return // the beginning is missing
	}
	if !c.whole {
		r.doubted = append(r.doubted, [2]int{len(r.record), len(r.record) + len(c.payload)})
	}
	r.record = append(r.record, c.payload...)
	if c.kind == chunkFull || c.kind == chunkLast {
		r.deliver(r.record, r.doubted)
		r.record = nil
	}
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// The kinds of write in a batch that have a value, and those that remove a key.
const (
	opDelete       = 0
	opSet          = 1
	opMerge        = 2
	opLogData      = 3
	opSingleDelete = 7
	opRangeDelete  = 15
	opSizedDelete  = 23
)

// batchEntries yields the writes of a batch, as far as it can be read. What lies in
// doubted parts is left out, and what lies behind them is doubtful.
func batchEntries(record []byte, doubted [][2]int, yield func(Found) bool) bool {
	if len(record) < batchHeader || len(doubted) > 0 && doubted[0][0] < batchHeader {
		return true
	}
	seq := binary.LittleEndian.Uint64(record)
	for at := batchHeader; at < len(record); {
		from, op := at, record[at]
		at++
		f := Found{Seq: seq}
		var ok bool
		if f.Key, at, ok = prefixed(record, at); !ok {
			return true
		}
		switch op {
		case opSet, opMerge, opRangeDelete, opSizedDelete:
			if f.Value, at, ok = prefixed(record, at); !ok {
				return true
			}
		case opDelete, opSingleDelete, opLogData:
		default:
			return true // nothing that this database writes
		}
		if op != opLogData {
			seq++
		}
		hit := false
		for _, d := range doubted {
			f.Doubtful = f.Doubtful || d[0] < at
			hit = hit || d[0] < at && from < d[1]
		}
		f.Deleted = op == opDelete || op == opSingleDelete || op == opSizedDelete
		if hit || op != opSet && !f.Deleted {
			continue
		}
		if !yield(f) {
			return false
		}
	}
	return true
}

// prefixed reads a length and as many bytes.
func prefixed(b []byte, at int) (s []byte, next int, ok bool) {
	n, used := binary.Uvarint(b[at:])
	if used <= 0 || n > uint64(len(b)-at-used) {
		return nil, at, false
	}
	at += used
	return b[at : at+int(n)], at + int(n), true
}

// log yields the writes of a log.
func (s *salvager) log(name string, number uint64) error {
	f, err := s.files.Open(s.files.PathJoin(s.dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	defer f.Close()
	r := logReader{number: uint32(number)}
	r.seen = func(int64) {}
	r.deliver = func(record []byte, doubted [][2]int) {
		if !s.stopped && !batchEntries(record, doubted, s.yield) {
			s.stopped = true
		}
	}
	r.damage = func(offset, size int64, mended bool) {
		s.bad(name, offset, size, mended, fault.Corrupt.Errorf("the log is damaged"))
	}
	return r.read(f)
}
