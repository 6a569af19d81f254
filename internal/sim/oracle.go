package sim

import (
	"bytes"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/value"
)

// oracle says what a set of commits makes of a document, by the words of the merge
// rules alone, with no regard to order or cost.
type oracle struct {
	set  map[dag.CID]*dag.Commit
	void map[dag.CID]bool // of these nothing counts but their place
}

// sorted returns the commits by CID.
func (o oracle) sorted() (cs []*dag.Commit) {
	for _, c := range o.set {
		cs = append(cs, c)
	}
	slices.SortFunc(cs, func(a, b *dag.Commit) int { return bytes.Compare(a.CID[:], b.CID[:]) })
	return cs
}

func (o oracle) heads() (heads []dag.CID) {
	parents := map[dag.CID]bool{}
	for _, c := range o.set {
		for _, p := range c.Parents {
			parents[p] = true
		}
	}
	for _, c := range o.sorted() {
		if !parents[c.CID] {
			heads = append(heads, c.CID)
		}
	}
	return heads
}

// write is an operation that counts.
type write struct {
	by    *dag.Commit
	index int
	crdt.Delta
}

func (w write) stamp() crdt.Stamp {
	return crdt.Stamp{HLC: w.by.HLC, Commit: w.by.CID, Op: uint32(w.index)}
}

func (w write) after(o write) bool {
	if w.by.HLC != o.by.HLC {
		return w.by.HLC > o.by.HLC
	}
	if c := bytes.Compare(w.by.CID[:], o.by.CID[:]); c != 0 {
		return c > 0
	}
	return w.index > o.index
}

// compare returns how a document differs from what it should be, "" if it does not.
func (o oracle) compare(d crdt.Document) string {
	type cell struct {
		field crdt.FieldID
		kind  crdt.Kind
	}
	cells := map[cell][]write{}
	var order []cell
	for _, c := range o.sorted() {
		for i, op := range c.Deltas {
			if o.void[c.CID] || op.Void || !op.Kind.Known() {
				continue
			}
			k := cell{op.Field, op.Kind}
			if cells[k] == nil {
				order = append(order, k)
			}
			cells[k] = append(cells[k], write{c, i, op})
		}
	}
	for _, k := range order {
		if diff := o.cell(d, k.field, k.kind, cells[k]); diff != "" {
			return fmt.Sprintf("field %d, %v: %s", k.field, k.kind, diff)
		}
	}
	for f, k := range d.Fields() {
		if cells[cell{f, k}] == nil {
			return fmt.Sprintf("field %d, %v has a value that nobody wrote", f, k)
		}
	}
	return ""
}

func (o oracle) cell(d crdt.Document, f crdt.FieldID, k crdt.Kind, writes []write) string {
	got, ok := d.Value(f, k)
	switch k.Rule() {
	case crdt.LWW:
		last := writes[0]
		for _, w := range writes {
			if w.after(last) {
				last = w
			}
		}
		if st, ok := d.Stamp(f, k); !ok || st != last.stamp() {
			return fmt.Sprintf("value is set by %x, want %x", st.Commit, last.by.CID)
		}
		return differ(got, last.Val, ok)
	case crdt.MVR:
		return o.multi(d, f, k, writes)
	}
	sum := new(big.Rat)
	for _, w := range writes {
		x := new(big.Rat)
		if w.Val.Kind() == value.Int {
			x.SetInt64(w.Val.Int())
		} else if _, fine := x.SetString(w.Val.Text()); !fine {
			return "an increment is no number"
		}
		sum.Add(sum, x)
	}
	if k.Type() == value.TypeInt {
		return differ(got, value.OfInt(sum.Num().Int64()), ok)
	}
	nearest, _ := sum.Float64()
	return differ(got, value.OfFloat(nearest), ok)
}

// multi checks the live values of a multi-value register.
func (o oracle) multi(d crdt.Document, f crdt.FieldID, k crdt.Kind, writes []write) string {
	var live []write
	for _, w := range writes {
		dead := slices.ContainsFunc(writes, func(x write) bool {
			return x.by != w.by && slices.Contains(x.Over, crdt.Tag{Commit: w.by.CID, Op: uint32(w.index)})
		})
		if !dead {
			live = append(live, w)
		}
	}
	slices.SortFunc(live, func(a, b write) int {
		if a.after(b) {
			return -1
		}
		return 1
	})
	got := []string{}
	if v, ok := d.Value(f, k); ok {
		got = append(got, text(v))
	}
	for _, v := range d.Conflicts(f, k) {
		got = append(got, text(v))
	}
	want := []string{}
	for _, w := range live {
		want = append(want, text(w.Val))
	}
	if !slices.Equal(got, want) {
		return fmt.Sprintf("live values are %s, want %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
	return ""
}

func differ(got, want value.Value, ok bool) string {
	if !ok || text(got) != text(want) {
		return fmt.Sprintf("value is %s (%v), want %s", text(got), ok, text(want))
	}
	return ""
}

func text(v value.Value) string { return string(v.AppendJSON(nil)) }
