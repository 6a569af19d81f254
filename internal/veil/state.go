package veil

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
)

// The bytes of a state, with uvarint as in package crdt:
//
//	state  = version: 1 byte, 0x01
//	         1 byte: 1 if a segment was not opened here: the only part that is not the
//	           same everywhere
//	         uvarint number of epochs, then each, sorted: 32 bytes
//	         uvarint number of commits with operations on keys, then each, sorted by
//	           height and commit
//	commit = 32 bytes, uvarint height
//	         1 byte: 1 it says what is encrypted + 2 all fields
//	         if it says so: uvarint number of fields with keys of their own, then each,
//	           ascending: uvarint
//	         uvarint number of epochs that it names, then each, ascending:
//	           uvarint 4 × its place + 1 if it begins there + 2 if its secret is sealed
//	           under a later one there
const (
	stateVersion = 1

	flagLocked = 1

	flagCovers = 1
	flagAll    = 2

	minGiver = 32 + 3 // bytes of the shortest commit: it bounds how many there can be
)

// State is what the operations on keys of a document amount to: its epochs, and the
// commits that have something to say of them. The secrets stay in the commits. The
// zero State is that of a document of which nothing is encrypted.
type State struct {
	locked  bool
	epochs  []EpochID // sorted
	commits []giver   // sorted
}

// giver is a commit with operations on keys.
type giver struct {
	id     ID
	height uint64
	cover  Cover
	names  []mention // sorted by epoch
}

func (g *giver) compare(o *giver) int {
	return cmp.Or(cmp.Compare(g.height, o.height), g.id.Compare(o.id))
}

// mention is an epoch that a commit names.
type mention struct {
	epoch  EpochID
	begins bool
	linked bool // its secret is sealed under a later one
}

// Locked reports whether a document with these bytes of a state has a segment that
// was not opened. It looks at two bytes.
func Locked(raw []byte) bool { return len(raw) > 1 && raw[1]&flagLocked != 0 }

// Open returns the state whose bytes are raw.
func Open(raw []byte) (State, error) {
	var s State
	if len(raw) == 0 {
		return s, nil
	}
	b := scanner{b: raw}
	version, flags := b.byte(), b.byte()
	s.locked = flags&flagLocked != 0
	s.epochs = make([]EpochID, b.count(len(EpochID{})))
	for i := range s.epochs {
		if s.epochs[i] = b.hash(); i > 0 && s.epochs[i-1].Compare(s.epochs[i]) >= 0 {
			b.bad = true
		}
	}
	s.commits = make([]giver, b.count(minGiver))
	for i := range s.commits {
		if s.commits[i] = b.giver(s.epochs); i > 0 && s.commits[i-1].compare(&s.commits[i]) >= 0 {
			b.bad = true
		}
	}
	if version != stateVersion || flags > flagLocked || b.bad || len(b.b) > 0 || len(s.commits) == 0 {
		return State{}, fault.Corrupt.Errorf("state of the keys is damaged: rebuild it from its commits")
	}
	return s, nil
}

// Bytes returns the canonical bytes: none if nothing is encrypted.
func (s State) Bytes() []byte {
	if len(s.commits) == 0 {
		return nil
	}
	b := make([]byte, 0, 16+len(s.epochs)*32+len(s.commits)*48)
	b = append(b, stateVersion, 0)
	if s.locked {
		b[1] = flagLocked
	}
	b = binary.AppendUvarint(b, uint64(len(s.epochs)))
	for _, e := range s.epochs {
		b = append(b, e[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(s.commits)))
	for i := range s.commits {
		b = s.commits[i].append(b, s.epochs)
	}
	return b
}

func (g *giver) append(b []byte, epochs []EpochID) []byte {
	b = append(b, g.id[:]...)
	b = binary.AppendUvarint(b, g.height)
	switch {
	case g.cover.None():
		b = append(b, 0)
	case g.cover.All:
		b = append(b, flagCovers|flagAll)
	default:
		b = append(b, flagCovers)
	}
	if !g.cover.None() {
		b = binary.AppendUvarint(b, uint64(len(g.cover.Fields)))
		for _, f := range g.cover.Fields {
			b = binary.AppendUvarint(b, uint64(f))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(g.names)))
	for _, m := range g.names {
		i, _ := slices.BinarySearchFunc(epochs, m.epoch, EpochID.Compare)
		n := 4 * uint64(i)
		if m.begins {
			n |= 1
		}
		if m.linked {
			n |= 2
		}
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// Encrypted reports whether something of the document is.
func (s State) Encrypted() bool { return len(s.commits) > 0 }

// Locked reports whether a segment was not opened.
func (s State) Locked() bool { return s.locked }

// WithLocked returns the state with a note whether all segments were opened.
func (s State) WithLocked(locked bool) State {
	s.locked = locked
	return s
}

// Cover returns which fields are encrypted.
func (s State) Cover() (c Cover) {
	for i := range s.commits {
		if !s.commits[i].cover.None() {
			c = c.with(s.commits[i].cover)
		}
	}
	return c
}

// Epochs returns the epochs of the document, sorted by name.
func (s State) Epochs() []EpochID { return slices.Clone(s.epochs) }

// Add returns the state with a commit more that was checked; the order does not
// matter, and twice is as good as once.
func (s State) Add(id ID, height uint64, ops []Op) State {
	if len(ops) == 0 {
		return s
	}
	g := giver{id: id, height: height}
	s.epochs = slices.Clone(s.epochs)
	for i := range ops {
		o := &ops[i]
		if o.Kind == Hide {
			g.cover = o.Cover
			continue
		}
		g.name(mention{epoch: o.Epoch, begins: o.Kind == Begin})
		s.name(o.Epoch)
		if o.Kind == Link {
			g.name(mention{epoch: o.Older, linked: true})
			s.name(o.Older)
		}
	}
	at, found := slices.BinarySearchFunc(s.commits, g, func(a, b giver) int { return a.compare(&b) })
	if !found {
		s.commits = slices.Insert(slices.Clone(s.commits), at, g)
	}
	return s
}

func (g *giver) name(m mention) {
	at, found := slices.BinarySearchFunc(g.names, m, func(a, b mention) int { return a.epoch.Compare(b.epoch) })
	if !found {
		g.names = slices.Insert(g.names, at, m)
		return
	}
	g.names[at].begins = g.names[at].begins || m.begins
	g.names[at].linked = g.names[at].linked || m.linked
}

func (s *State) name(e EpochID) {
	if at, found := slices.BinarySearchFunc(s.epochs, e, EpochID.Compare); !found {
		s.epochs = slices.Insert(s.epochs, at, e)
	}
}

// naming returns the commits that name each epoch.
func (s State) naming() map[EpochID][]ID {
	by := make(map[EpochID][]ID, len(s.epochs))
	for i := range s.commits {
		g := &s.commits[i]
		for _, m := range g.names {
			by[m.epoch] = append(by[m.epoch], g.id)
		}
	}
	return by
}

// numbered returns the epochs that headers call by that number: nearly always one.
func (s State) numbered(n uint64) []EpochID {
	lo, _ := slices.BinarySearchFunc(s.epochs, n, func(e EpochID, n uint64) int { return cmp.Compare(e.Number(), n) })
	hi := lo
	for hi < len(s.epochs) && s.epochs[hi].Number() == n {
		hi++
	}
	return s.epochs[lo:hi]
}

// scanner takes parts off bytes. After damage it returns zeros, and bad is set.
type scanner struct {
	b   []byte
	bad bool
}

func (b *scanner) fail() { b.bad, b.b = true, nil }

func (b *scanner) byte() byte {
	if len(b.b) == 0 {
		b.fail()
		return 0
	}
	c := b.b[0]
	b.b = b.b[1:]
	return c
}

func (b *scanner) uvarint() uint64 {
	n, size := binary.Uvarint(b.b)
	if size <= 0 || size > 1 && b.b[size-1] == 0 {
		b.fail()
		return 0
	}
	b.b = b.b[size:]
	return n
}

// count reads how many parts of at least that size follow.
func (b *scanner) count(size int) int {
	n := b.uvarint()
	if n > uint64(len(b.b)/size) {
		b.fail()
		return 0
	}
	return int(n)
}

func (b *scanner) hash() (h [32]byte) {
	if len(b.b) < len(h) {
		b.fail()
		return h
	}
	copy(h[:], b.b)
	b.b = b.b[len(h):]
	return h
}

func (b *scanner) giver(epochs []EpochID) (g giver) {
	g.id, g.height = b.hash(), b.uvarint()
	flags := b.byte()
	if flags > flagCovers|flagAll || flags == flagAll {
		b.fail()
	}
	g.cover.All = flags&flagAll != 0
	if flags&flagCovers != 0 {
		for range b.count(1) {
			f := b.uvarint()
			if k := len(g.cover.Fields); f > math.MaxUint32 || k > 0 && g.cover.Fields[k-1] >= crdt.FieldID(f) {
				b.fail()
			}
			g.cover.Fields = append(g.cover.Fields, crdt.FieldID(f))
		}
		if g.cover.None() {
			b.fail()
		}
	}
	for range b.count(1) {
		n := b.uvarint()
		if n/4 >= uint64(len(epochs)) {
			b.fail()
			return g
		}
		m := mention{epochs[n/4], n&1 != 0, n&2 != 0}
		if k := len(g.names); k > 0 && g.names[k-1].epoch.Compare(m.epoch) >= 0 {
			b.fail()
		}
		g.names = append(g.names, m)
	}
	return g
}

// Equal reports whether two states say the same of the document, whatever was opened.
func (s State) Equal(o State) bool {
	return bytes.Equal(s.WithLocked(false).Bytes(), o.WithLocked(false).Bytes())
}
