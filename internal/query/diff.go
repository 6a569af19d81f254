package query

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/pandodb/pando/internal/fault"
)

// patcher compares two results as this package writes them, and collects the operations
// of a JSON Patch (RFC 6902) that makes the second of the first: add, remove and
// replace. Objects that show documents are told apart by marks.
type patcher struct{ ops []byte }

// mark is the key of a member that says which document an object shows. No selection
// can have it.
const mark = "\x01"

// markLabel is mark as it is written: raw, as no text ever is, nor a key of JSON that
// people have stored.
const markLabel = `"` + mark + `":`

// marked adds the mark to what is shown of a document.
func marked(o object) object {
	return slices.Insert(slices.Clone(o), 0, column{key: mark, label: []byte(markLabel), write: func(x *run, r *row) error {
		x.out.string(string(appendHex(nil, r.ID[:])))
		return nil
	}})
}

func appendHex(b, id []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range id {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}

// markSize is the length of a mark with its value.
const markSize = len(markLabel) + 2 + 64

// unmarked returns a result without its marks.
func unmarked(b []byte) []byte {
	if !bytes.Contains(b, []byte(markLabel)) {
		return b
	}
	out := make([]byte, 0, len(b))
	for {
		i := bytes.Index(b, []byte("{"+markLabel))
		if i < 0 {
			return append(out, b...)
		}
		out = append(out, b[:i+1]...)
		b = b[i+1+markSize:]
		b = bytes.TrimPrefix(b, []byte(","))
	}
}

// jsonPart is a member of an object or an element of an array.
type jsonPart struct {
	key   string // as JSON, with the quotes; "" in an array
	value []byte
}

// parts cuts an object or an array into its parts.
func parts(b []byte) ([]jsonPart, error) {
	var all []jsonPart
	object := b[0] == '{'
	for i := 1; i < len(b) && b[i] != '}' && b[i] != ']'; {
		if b[i] == ',' {
			i++
		}
		var p jsonPart
		if object {
			end := skip(b, i)
			p.key, i = string(b[i:end]), end+1
		}
		end := skip(b, min(i, len(b)))
		if end <= i {
			return nil, fault.Corrupt.Errorf("a result is no JSON")
		}
		p.value, i = b[i:end], end
		all = append(all, p)
	}
	return all, nil
}

// skip returns the end of the value that begins at i.
func skip(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',', ':':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

func (d *patcher) op(name, path string, v []byte) {
	if len(d.ops) > 0 {
		d.ops = append(d.ops, ',')
	}
	d.ops = append(append(append(d.ops, `{"op":"`...), name...), `","path":`...)
	d.ops = appendString(d.ops, path)
	if v != nil {
		d.ops = append(append(d.ops, `,"value":`...), unmarked(v)...)
	}
	d.ops = append(d.ops, '}')
}

// values compares what is at a path.
func (d *patcher) values(path string, old, now []byte) error {
	switch {
	case bytes.Equal(old, now):
		return nil
	case len(old) == 0 || len(now) == 0 || old[0] != now[0] || now[0] != '{' && now[0] != '[':
		d.op("replace", path, now)
		return nil
	}
	a, err := parts(old)
	if err != nil {
		return err
	}
	b, err := parts(now)
	if err != nil {
		return err
	}
	if now[0] == '{' {
		return d.members(path, a, b, now)
	}
	return d.elements(path, a, b)
}

// members compares two objects. A selection gives them the same keys; JSON that people
// have stored may have others.
func (d *patcher) members(path string, a, b []jsonPart, now []byte) error {
	same := slices.EqualFunc(a, b, func(p, q jsonPart) bool { return p.key == q.key })
	if !same || path == "" && len(a) == 0 {
		d.op("replace", path, now)
		return nil
	}
	for i := range a {
		if a[i].key == markLabel[:len(markLabel)-1] {
			if !bytes.Equal(a[i].value, b[i].value) { // of another document
				d.op("replace", path, now)
				return nil
			}
			continue
		}
		if err := d.values(path+"/"+pointer(a[i].key), a[i].value, b[i].value); err != nil {
			return err
		}
	}
	return nil
}

// pointer returns a key as a part of a JSON Pointer.
func pointer(key string) string {
	var s string
	if v, err := strconv.Unquote(key); err == nil {
		s = v
	} else {
		s = strings.Trim(key, `"`)
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

// elements compares two arrays: by documents if all elements show one, no two the
// same, else by place.
func (d *patcher) elements(path string, a, b []jsonPart) error {
	before, now := marks(a), marks(b)
	if before == nil || now == nil {
		before, now = places(a), places(b)
	}
	for _, s := range align(before, now) {
		at := path + "/" + strconv.Itoa(s.at)
		switch {
		case s.remove:
			d.op("remove", at, nil)
		case s.from < 0:
			d.op("add", at, b[s.at].value)
		default:
			if err := d.values(at, a[s.from].value, b[s.at].value); err != nil {
				return err
			}
		}
	}
	return nil
}

// marks returns the documents that elements show, or nil.
func marks(ps []jsonPart) []string {
	list := make([]string, len(ps))
	seen := make(map[string]bool, len(ps))
	for i, p := range ps {
		if len(p.value) < 1+markSize || !bytes.HasPrefix(p.value[1:], []byte(markLabel)) {
			return nil
		}
		m := string(p.value[1+len(markLabel) : 1+markSize])
		if seen[m] {
			return nil
		}
		seen[m], list[i] = true, m
	}
	return list
}

func places(ps []jsonPart) []string {
	list := make([]string, len(ps))
	for i := range ps {
		list[i] = strconv.Itoa(i)
	}
	return list
}

// step is one step from a list to another: the element at a place goes, or a new one
// comes (from is negative), or one of the old list is there.
type step struct {
	at     int
	remove bool
	from   int // place in the old list
}

// align returns the steps from one list of different names to another, to be done in
// order. What keeps its order stays: the longest such sequence. What does not goes,
// and comes again.
func align(old, now []string) []step {
	place := make(map[string]int, len(old))
	for i, n := range old {
		place[n] = i
	}
	stays := make(map[string]int, len(old)) // by name, its place in old
	for _, i := range longestRise(now, place) {
		stays[old[i]] = i
	}
	var steps []step
	for i, n := range slices.Backward(old) {
		if _, ok := stays[n]; !ok {
			steps = append(steps, step{at: i, remove: true})
		}
	}
	for i, n := range now {
		from, ok := stays[n]
		if !ok {
			from = -1
		}
		steps = append(steps, step{at: i, from: from})
	}
	return steps
}

// longestRise returns the longest rising sequence of the places of names.
func longestRise(now []string, place map[string]int) []int {
	var tails []int // by length, the index into at of the least last element
	var at, before []int
	for _, n := range now {
		p, ok := place[n]
		if !ok {
			continue
		}
		k, _ := slices.BinarySearchFunc(tails, p, func(t, p int) int { return at[t] - p })
		prev := -1
		if k > 0 {
			prev = tails[k-1]
		}
		at, before = append(at, p), append(before, prev)
		if k == len(tails) {
			tails = append(tails, 0)
		}
		tails[k] = len(at) - 1
	}
	if len(tails) == 0 {
		return nil
	}
	rise := make([]int, len(tails))
	for i, t := len(tails)-1, tails[len(tails)-1]; i >= 0; i, t = i-1, before[t] {
		rise[i] = at[t]
	}
	return rise
}
