package store

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// The entries of a secondary index have no values; all is in the key:
//
//	x collection index columns doc
//
// A column is the key form of what readers see of the field (package value), for a
// descending one with all bits turned around; a relation is the docID it leads to.
// Of the columns of an index at most one has several entries per document: a list
// has one per distinct element, JSON one per distinct leaf, and that is the path
// followed by the key form of the leaf. A document that is deleted has no entry.
//
// The entry without columns and document says how far the index is built.

// A document may have as many entries as there are leaves, each with the whole path
// and all other columns: some kilobytes could make gigabytes. Beyond maxGrowth times
// its size (an integer in a list takes 25 times its own) it has one entry instead, of
// the byte tooLarge before the docID, and while there is one nobody reads the index.
const (
	maxGrowth  = 64
	minEntries = 4 << 10
	tooLarge   = 0x00 // less than the first byte of any column
)

// secondaryPrefix is what the key of each entry of an index starts with.
const secondaryPrefix = 1 + 4 + 4

// secondary is an index of a collection, ready to make entries. It is immutable.
type secondary struct {
	schema.Index
	coll    short
	prefix  []byte
	columns []column
	several int  // the column that may have several entries, or -1
	ready   bool // it has the entries of all documents; part of the set, see Set
	// form says what the entries depend on besides the documents: when it changes,
	// the index has to be built again.
	form []byte
}

// column is one column of an index.
type column struct {
	name       string
	field      *schema.Field // nil: the docID
	descending bool
}

// newSecondary prepares an index of a collection. It returns nil for one whose
// fields are not there.
func newSecondary(c *schema.Collection, n short, ix schema.Index) *secondary {
	x := &secondary{Index: ix, coll: n, several: -1, prefix: binary.BigEndian.AppendUint32(collectionPrefix(tableSecondary, n), ix.ID)}
	for i, f := range ix.Fields {
		col := column{name: f.Name, descending: f.Descending}
		if f.Name != schema.DocIDField {
			var ok bool
			if col.field, ok = c.Field(f.Name); !ok || col.field.IsVirtual() {
				return nil
			}
			if col.field.IsMultiple() {
				x.several = i
			}
		}
		x.columns = append(x.columns, col)
	}
	x.form = x.formOf()
	return x
}

// entries returns the keys of the document's entries, sorted, each once.
func (x *secondary) entries(id dag.DocID, d crdt.Document) [][]byte {
	if len(d.Bytes()) == 0 || d.Deleted() {
		return nil
	}
	b := make([]byte, 0, 128)
	b = append(b, x.prefix...)
	if x.several < 0 {
		b = appendColumns(b, x.columns, id, d)
		return [][]byte{append(b, id[:]...)}
	}
	b = appendColumns(b, x.columns[:x.several], id, d)
	head := len(b)
	tail := appendColumns(nil, x.columns[x.several+1:], id, d)
	tail = append(tail, id[:]...)
	var keys [][]byte
	col := &x.columns[x.several]
	room := minEntries + maxGrowth*len(d.Bytes())
	for leaf := range leaves(col.field, d) {
		if room -= head + len(leaf.path) + len(tail); room < 0 {
			return [][]byte{append(append(x.prefix[:secondaryPrefix:secondaryPrefix], tooLarge), id[:]...)}
		}
		key := append(b[:head:head], leaf.path...)
		key = appendColumn(key, leaf.Value, col.descending)
		keys = append(keys, append(key, tail...))
	}
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}

func appendColumns(b []byte, cols []column, id dag.DocID, d crdt.Document) []byte {
	for i := range cols {
		v := value.OfRef(id)
		if cols[i].field != nil {
			v = cols[i].field.Value(d)
		}
		b = appendColumn(b, v, cols[i].descending)
	}
	return b
}

func appendColumn(b []byte, v value.Value, descending bool) []byte {
	if descending {
		return v.AppendKeyDesc(b)
	}
	return v.AppendKey(b)
}

// leaf is what one entry of a list or of JSON is made of.
type leaf struct {
	path []byte
	value.Value
}

// leaves yields the elements of a list or the leaves of JSON, nothing for null. The
// path is valid until the next step.
func leaves(f *schema.Field, d crdt.Document) func(yield func(leaf) bool) {
	return func(yield func(leaf) bool) {
		v := f.Value(d)
		switch {
		case v.IsNull():
		case f.Type.IsList():
			for _, e := range v.List() {
				if !yield(leaf{nil, e}) {
					return
				}
			}
		default:
			w := leafWalk{yield: yield}
			w.value(v)
		}
	}
}

// leafWalk goes through JSON. All paths share one buffer.
type leafWalk struct {
	path  []byte
	yield func(leaf) bool
}

func (w *leafWalk) value(v value.Value) bool {
	switch v.Kind() {
	case value.List:
		for _, e := range v.List() {
			if !w.value(e) {
				return false
			}
		}
		return true
	case value.Map:
		up := len(w.path)
		for key, e := range v.Members() {
			w.path = appendStep(w.path[:up], key)
			if !w.value(e) {
				return false
			}
		}
		w.path = w.path[:up]
		return true
	}
	return w.yield(leaf{w.path, v})
}

// pathStep begins each step of a path: less than the first byte of any value.
const pathStep = 0x01

// AppendPath appends the path of a leaf of JSON as entries of an index have it. The
// key form of the leaf, ascending or descending, follows; the path itself is the
// same in both. No path is the beginning of another path with its leaf: the leaves
// right under a path are those whose next byte is no step.
func AppendPath(b []byte, steps []string) []byte {
	for _, s := range steps {
		b = appendStep(b, s)
	}
	return b
}

func appendStep(b []byte, step string) []byte {
	return value.OfString(step).AppendKey(append(b, pathStep))
}

// formOf returns what entries depend on: the columns, and what readers see of them
// beside their own cells.
func (x *secondary) formOf() []byte {
	var b []byte
	for _, col := range x.columns {
		var id crdt.FieldID
		var kind crdt.Kind
		reading := ""
		if col.field != nil {
			id, kind, reading = col.field.ID, col.field.Kind(), col.field.Reading()
		}
		b = binary.AppendUvarint(b, uint64(id))
		b = binary.BigEndian.AppendUint16(b, uint16(kind))
		if col.descending {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		b = append(b, reading...)
	}
	return b
}

// parts splits the key of an entry into the columns and the document.
func (x *secondary) parts(key []byte) (columns []byte, doc dag.DocID) {
	end := len(key) - len(doc)
	copy(doc[:], key[end:])
	return key[len(x.prefix):end:end], doc
}

// built says how far an index is built.
type built struct {
	ready bool
	begun bool      // the entries up to done are there, and none that are not due
	done  dag.DocID // documents up to here have their entries
}

const (
	builtReady = 'r'
	builtUpTo  = 'b'
)

// built reads how far the index is built: not begun, if it was built for something
// else than its form.
func (x *secondary) built(r getter) (b built, err error) {
	v, ok, err := r.Get(x.prefix)
	if err != nil || !ok || len(v) == 0 {
		return b, err
	}
	form := v[1:]
	if v[0] == builtUpTo {
		if copy(b.done[:], form) < len(b.done) {
			return b, nil
		}
		form = form[len(b.done):]
	}
	if !bytes.Equal(form, x.form) {
		return built{}, nil
	}
	b.begun, b.ready = true, v[0] == builtReady
	return b, nil
}

// state is what the entry of the index itself holds.
func (x *secondary) state(b built) []byte {
	if b.ready {
		return append([]byte{builtReady}, x.form...)
	}
	return append(append([]byte{builtUpTo}, b.done[:]...), x.form...)
}
