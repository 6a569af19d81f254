package store

import (
	"encoding/binary"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// One ordered key space; the first byte names the table. Numbers are big-endian
// so that keys sort by them. A collection is known by a short local number.
//
//	c collection doc height cid   commit: seq, origin, envelope. Being here is being applied
//	i cid                         where the commit is: collection, doc, height; with a
//	                              policy also the events it stands on, see access.go  derived
//	d collection doc              the merged document with its heads (crdt.Document)  derived
//	e collection doc              what rights and keys of a document follow from, where
//	                              that is more than who began it, see access.go       derived
//	s seq                         feed: collection, doc, height, cid, origin          derived
//	k collection                  how many documents, and how many alive              derived
//	a group collection doc        a document that names a group                       derived
//	l collection doc              a document that no key here opens, see veil.go       derived
//	x collection index            how far the index is built                          derived
//	x collection index key doc    secondary index, see secondary.go                   derived
//	g …                           format, epoch, schema versions, short numbers
//	w view key                    row of a materialized view; without key its state   derived
//	n key                         notes: what the network remembers about peers
//
// A document's commits lie side by side in the order in which they apply, so a
// history, a full copy and a rebuild are each one sequential read.
const (
	tableCommit     = 'c'
	tableIndex      = 'i'
	tableDocument   = 'd'
	tableEvent      = 'e'
	tableFeed       = 's'
	tableCount      = 'k'
	tableNamed      = 'a'
	tableLocked     = 'l'
	tableGlobal     = 'g'
	tableNote       = 'n'
	tableSecondary  = 'x'
	tableRow        = 'w'
	globalFormat    = 'f' // format version of the directory
	globalEpoch     = 'e' // identity of the feed
	globalVersion   = 'v' // schema version digest → encoded version
	globalActive    = 'c' // collection ID → short number, active version, local description
	globalOrigin    = 'o' // short number → peer
	globalView      = 'w' // name of a view → short number, definition
	globalModule    = 'm' // hash of a WASM module → the module
	globalRunning   = 'r' // schema version digest → its modules run here, see lens.go
	globalPolicy    = 'p' // policy ID → canonical policy, for collections to come
	globalLost      = 'l' // collection ID → short number, of documents whose schema damage took
	formatVersion   = 2
	oldestFormat    = 1 // of which a rebuild makes the newest: of the commits all is the same
	commitKeySize   = 1 + 4 + 32 + 8 + 32
	documentKeySize = 1 + 4 + 32
)

// short is the local number of a collection.
type short uint32

func commitKey(coll short, doc dag.DocID, height uint64, cid dag.CID) []byte {
	b := make([]byte, 0, commitKeySize)
	b = append(b, tableCommit)
	b = binary.BigEndian.AppendUint32(b, uint32(coll))
	b = append(b, doc[:]...)
	b = binary.BigEndian.AppendUint64(b, height)
	return append(b, cid[:]...)
}

// place says where a commit is stored.
type place struct {
	coll   short
	doc    dag.DocID
	height uint64
	cid    dag.CID
}

func (p place) key() []byte { return commitKey(p.coll, p.doc, p.height, p.cid) }

func parseCommitKey(k []byte) (place, error) {
	if len(k) != commitKeySize || k[0] != tableCommit {
		return place{}, fault.Corrupt.Errorf("commit key of %d bytes, want %d: run pando fsck", len(k), commitKeySize)
	}
	p := place{coll: short(binary.BigEndian.Uint32(k[1:])), height: binary.BigEndian.Uint64(k[37:])}
	copy(p.doc[:], k[5:37])
	copy(p.cid[:], k[45:])
	return p, nil
}

// documentRange returns the bounds of a document's commits.
func documentRange(coll short, doc dag.DocID) (lo, hi []byte) {
	lo = commitKey(coll, doc, 0, dag.CID{})[:documentKeySize]
	return lo, after(lo)
}

// after returns the smallest key greater than every key that starts with prefix.
func after(prefix []byte) []byte {
	hi := append([]byte(nil), prefix...)
	for i := len(hi) - 1; i >= 0; i-- {
		if hi[i]++; hi[i] != 0 {
			return hi[:i+1]
		}
	}
	return nil // the prefix was all 0xff: no upper bound
}

func collectionPrefix(table byte, coll short) []byte {
	return binary.BigEndian.AppendUint32([]byte{table}, uint32(coll))
}

func documentKey(coll short, doc dag.DocID) []byte {
	b := make([]byte, 0, documentKeySize)
	b = append(b, tableDocument)
	b = binary.BigEndian.AppendUint32(b, uint32(coll))
	return append(b, doc[:]...)
}

// eventsKey is where the events of a document are, if it has some.
func eventsKey(coll short, doc dag.DocID) []byte {
	k := documentKey(coll, doc)
	k[0] = tableEvent
	return k
}

func parseDocumentKey(k []byte) (doc dag.DocID, err error) {
	if len(k) != documentKeySize {
		return doc, fault.Corrupt.Errorf("document key of %d bytes, want %d: run pando fsck", len(k), documentKeySize)
	}
	copy(doc[:], k[5:])
	return doc, nil
}

func indexKey(cid dag.CID) []byte {
	return append([]byte{tableIndex}, cid[:]...)
}

// indexSize is the size of an index entry without events.
const indexSize = 4 + 32 + 8

func (p place) indexValue(above acp.Frontier) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, indexSize+32*len(above)), uint32(p.coll))
	b = append(b, p.doc[:]...)
	b = binary.BigEndian.AppendUint64(b, p.height)
	for i := range above {
		b = append(b, above[i][:]...)
	}
	return b
}

func parseIndexValue(cid dag.CID, v []byte) (place, error) {
	if len(v) < indexSize || (len(v)-indexSize)%32 != 0 {
		return place{}, fault.Corrupt.Errorf("index entry of commit %s: %d bytes, want 44 and 32 for each event: run pando fsck --rebuild", cid, len(v))
	}
	p := place{coll: short(binary.BigEndian.Uint32(v)), height: binary.BigEndian.Uint64(v[36:]), cid: cid}
	copy(p.doc[:], v[4:36])
	return p, nil
}

// parseAbove returns the events that those stand on that stand on the commit.
func parseAbove(cid dag.CID, v []byte) (above acp.Frontier, err error) {
	if _, err := parseIndexValue(cid, v); err != nil {
		return nil, err
	}
	for v = v[indexSize:]; len(v) > 0; v = v[32:] {
		above = append(above, acp.ID(v[:32]))
	}
	return above, nil
}

func feedKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{tableFeed}, seq)
}

// feedValue is the commit key without its table, and the origin.
func (p place) feedValue(origin uint64) []byte {
	return binary.AppendUvarint(p.key()[1:], origin)
}

func parseFeedValue(seq uint64, v []byte) (p place, origin uint64, err error) {
	n := commitKeySize - 1
	if len(v) > n {
		var used int
		if origin, used = binary.Uvarint(v[n:]); used == len(v)-n {
			p, err = parseCommitKey(append([]byte{tableCommit}, v[:n]...))
			return p, origin, err
		}
	}
	return p, 0, fault.Corrupt.Errorf("feed entry %d: malformed: run pando fsck --rebuild", seq)
}

// stored is the value of a commit's key.
type stored struct {
	seq      uint64
	origin   uint64
	envelope []byte
}

func (s stored) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, s.seq)
	b = binary.AppendUvarint(b, s.origin)
	return append(b, s.envelope...)
}

func parseStored(cid dag.CID, v []byte) (stored, error) {
	if len(v) > 8 {
		if origin, n := binary.Uvarint(v[8:]); n > 0 {
			return stored{binary.BigEndian.Uint64(v), origin, v[8+n:]}, nil
		}
	}
	return stored{}, fault.Corrupt.Errorf("commit %s: malformed entry: run pando fsck", cid)
}

func globalKey(kind byte, rest ...byte) []byte {
	return append([]byte{tableGlobal, kind}, rest...)
}

func noteKey(key []byte) []byte { return append([]byte{tableNote}, key...) }
