package crdt_test

import (
	"bytes"
	"encoding/binary"
	"math/big"
	"slices"
	"sort"
	"strings"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

// oracle computes a document from a set of commits by the words of the package
// comment, with no regard to cost or to the order in which commits arrived.
type oracle struct {
	set map[[32]byte]crdt.Change
}

type cellName struct {
	field crdt.FieldID
	kind  crdt.Kind
}

// written is one operation that counts.
type written struct {
	stamp crdt.Stamp
	delta crdt.Delta
}

func oracleOf(commits []crdt.Change) oracle {
	o := oracle{map[[32]byte]crdt.Change{}}
	for _, c := range commits {
		o.set[c.Commit] = c
	}
	return o
}

func (o oracle) heads() []crdt.Head {
	var heads []crdt.Head
	for id, c := range o.set {
		isParent := false
		for _, other := range o.set {
			isParent = isParent || slices.Contains(other.Parents, id)
		}
		if !isParent {
			heads = append(heads, crdt.Head{Commit: id, Height: c.Height, HLC: c.HLC})
		}
	}
	sort.Slice(heads, func(i, j int) bool { return bytes.Compare(heads[i].Commit[:], heads[j].Commit[:]) < 0 })
	return heads
}

func (o oracle) cells() map[cellName][]written {
	cells := map[cellName][]written{}
	for id, c := range o.set {
		for i, d := range c.Deltas {
			if !c.Void && !d.Void {
				name := cellName{d.Field, d.Kind}
				cells[name] = append(cells[name], written{crdt.Stamp{HLC: c.HLC, Commit: id, Op: uint32(i)}, d})
			}
		}
	}
	return cells
}

func older(a, b crdt.Stamp) bool {
	if a.HLC != b.HLC {
		return a.HLC < b.HLC
	}
	if a.Commit != b.Commit {
		return string(a.Commit[:]) < string(b.Commit[:])
	}
	return a.Op < b.Op
}

func newestFirst(ws []written) []written {
	ws = slices.Clone(ws)
	sort.Slice(ws, func(i, j int) bool { return older(ws[j].stamp, ws[i].stamp) })
	return ws
}

// live returns the live writes of a multi-value register, newest first, and its
// tombstones.
func (o oracle) live(ws []written) (live []written, tombs []crdt.Tag) {
	for _, w := range ws {
		dead := false
		for _, other := range ws {
			for _, t := range other.delta.Over {
				dead = dead || other.stamp.Commit != w.stamp.Commit && t.Commit == w.stamp.Commit && t.Op == w.stamp.Op
			}
		}
		if !dead {
			live = append(live, w)
		}
		for _, t := range w.delta.Over {
			if _, here := o.set[t.Commit]; !here && !slices.Contains(tombs, t) {
				tombs = append(tombs, t)
			}
		}
	}
	sort.Slice(tombs, func(i, j int) bool { return tagBefore(tombs[i], tombs[j]) })
	return newestFirst(live), tombs
}

func tagBefore(a, b crdt.Tag) bool {
	if a.Commit != b.Commit {
		return string(a.Commit[:]) < string(b.Commit[:])
	}
	return a.Op < b.Op
}

func total(ws []written) *big.Rat {
	sum := new(big.Rat)
	for _, w := range ws {
		increment := new(big.Rat)
		if w.delta.Val.Kind() == value.Int {
			increment.SetInt64(w.delta.Val.Int())
		} else {
			increment.SetString(w.delta.Val.Text())
		}
		sum.Add(sum, increment)
	}
	return sum
}

func decimalText(r *big.Rat) string {
	text := strings.TrimRight(r.FloatString(crdt.MaxFraction), "0")
	text = strings.TrimSuffix(text, ".")
	if text == "-0" {
		return "0"
	}
	return text
}

// encode writes the canonical form.
func (o oracle) encode() []byte {
	heads, cells := o.heads(), o.cells()
	if len(heads) == 0 {
		return nil
	}
	var names []cellName
	named := map[[32]byte]bool{}
	for _, h := range heads {
		named[h.Commit] = true
	}
	for name, ws := range cells {
		switch name.kind.Rule() {
		case crdt.LWW:
			named[newestFirst(ws)[0].stamp.Commit] = true
		case crdt.MVR:
			live, tombs := o.live(ws)
			if len(live)+len(tombs) == 0 {
				continue
			}
			for _, w := range live {
				named[w.stamp.Commit] = true
			}
		}
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := names[i], names[j]
		return a.field < b.field || a.field == b.field && a.kind < b.kind
	})
	var table [][]byte
	for id := range named {
		table = append(table, binary.BigEndian.AppendUint64(bytes.Clone(id[:]), o.set[id].HLC))
	}
	slices.SortFunc(table, bytes.Compare)
	place := map[[32]byte]uint64{}
	for i, e := range table {
		place[[32]byte(e)] = uint64(i)
	}

	out := binary.AppendUvarint([]byte{1}, uint64(len(table)))
	out = append(out, bytes.Join(table, nil)...)
	out = binary.AppendUvarint(out, uint64(len(heads)))
	for _, h := range heads {
		out = binary.AppendUvarint(out, place[h.Commit])
		out = binary.AppendUvarint(out, h.Height)
	}
	for _, name := range names {
		payload := o.payload(name, cells[name], place)
		out = binary.AppendUvarint(out, uint64(name.field))
		out = append(out, byte(name.kind.Rule()), byte(name.kind.Type()))
		out = binary.AppendUvarint(out, uint64(len(payload)))
		out = append(out, payload...)
	}
	return out
}

func (o oracle) payload(name cellName, ws []written, place map[[32]byte]uint64) []byte {
	switch name.kind.Rule() {
	case crdt.LWW:
		w := newestFirst(ws)[0]
		b := binary.AppendUvarint(nil, place[w.stamp.Commit])
		b = binary.AppendUvarint(b, uint64(w.stamp.Op))
		return w.delta.Val.AppendBinary(b)
	case crdt.MVR:
		live, tombs := o.live(ws)
		sort.Slice(live, func(i, j int) bool {
			a, b := live[i].stamp, live[j].stamp
			return tagBefore(crdt.Tag{Commit: a.Commit, Op: a.Op}, crdt.Tag{Commit: b.Commit, Op: b.Op})
		})
		b := binary.AppendUvarint(nil, uint64(len(live)))
		for _, w := range live {
			val := w.delta.Val.AppendBinary(nil)
			b = binary.AppendUvarint(b, place[w.stamp.Commit])
			b = binary.AppendUvarint(b, uint64(w.stamp.Op))
			b = append(binary.AppendUvarint(b, uint64(len(val))), val...)
		}
		for _, t := range tombs {
			b = binary.AppendUvarint(append(b, t.Commit[:]...), uint64(t.Op))
		}
		return b
	}
	return []byte(decimalText(total(ws)))
}
