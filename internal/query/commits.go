package query

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// commits is a list of commits: the root fields commits and latestCommits, and
// _version of a document.
type commits struct {
	doc    *dag.DocID // only of this document
	none   bool       // the docID is none, and names nothing
	cid    *dag.CID
	field  string // only commits that changed it; "": all
	depth  int    // levels from the heads, or from cid; 0: all
	latest bool   // of those, the ones that no other of those descends from
	keys   []commitKey
	limit  int
	offset int

	columns []commitColumn
	groups  *commitGroups // instead of columns
}

type commitKey struct {
	compare    func(a, b store.Applied) int
	name, text string
}

type commitColumn struct {
	label []byte
	write func(w *writer, c store.Applied)
}

// commits plans the root fields over commits.
func (c *compiler) commits(name string, f *selected) (column, error) {
	n := &commits{latest: name == "latestCommits"}
	var err error
	arg := func(name string) value.Value {
		if f.Definition.Arguments.ForName(name) == nil || err != nil {
			return value.Value{}
		}
		var v value.Value
		v, _, err = c.in.argument(f.Field, name)
		return v
	}
	doc, cid, order := arg("docID"), arg("cid"), arg("order")
	field := arg("fieldName")
	n.field = field.Text()
	n.depth = int(max(arg("depth").Int(), 0))
	n.limit, n.offset = windowOf(arg("limit"), arg("offset"))
	if err != nil {
		return column{}, err
	}
	n.none = !field.IsNull() && n.field == "" // no field has that name
	if !doc.IsNull() {
		id, err := dag.ParseDocID(doc.Text())
		n.doc, n.none = &id, n.none || err != nil
	}
	if !cid.IsNull() {
		id, err := dag.ParseCID(cid.Text())
		if err != nil {
			return column{}, argumentError(f, "cid", fmt.Errorf("invalid cid: %w", err))
		}
		n.cid = &id
		n.depth = max(n.depth, 1)
	}
	if n.keys, err = commitOrder(order); err != nil {
		return column{}, argumentError(f, "order", err)
	}
	if n.groups, err = c.commitGroups(f); err != nil {
		return column{}, err
	}
	if n.groups == nil {
		n.columns, err = c.commitColumns(f)
	} else if err = n.groups.orders(n.keys); err != nil {
		err = argumentError(f, "order", err)
	}
	return column{write: n.write, node: n}, err
}

// versions plans _version of a document of g.
func (c *compiler) versions(g *collection, s *selected) (column, *relation, error) {
	columns, err := c.commitColumns(s)
	if err != nil {
		return column{}, nil, err
	}
	return column{write: func(x *run, r *row) error {
		n := commits{columns: columns}
		return n.list(x, n.madeOf(x, r))
	}}, nil, nil
}

func commitOrder(order value.Value) ([]commitKey, error) {
	var keys []commitKey
	for _, o := range order.List() {
		if o.Len() > 1 {
			return nil, fault.Invalid.Errorf("each order argument can only define one field: write [{height: ASC}, {cid: DESC}]")
		}
		for name, v := range o.Members() {
			var k func(a, b store.Applied) int
			switch name {
			case "height":
				k = func(a, b store.Applied) int { return cmp.Compare(a.Height, b.Height) }
			case "cid":
				k = func(a, b store.Applied) int { return slices.Compare(a.CID[:], b.CID[:]) }
			case "docID":
				k = func(a, b store.Applied) int { return slices.Compare(a.Doc[:], b.Doc[:]) }
			}
			if k == nil || v.IsNull() {
				continue
			}
			if v.Text() == "DESC" {
				up := k
				k = func(a, b store.Applied) int { return up(b, a) }
			}
			keys = append(keys, commitKey{k, name, name + " " + v.Text()})
		}
	}
	return keys, nil
}

func (n *commits) write(x *run, _ *row) error {
	var from iter.Seq2[store.Applied, error]
	switch {
	case n.none:
		from = noCommits
	case n.cid != nil:
		from = n.fromCID(x)
	case n.doc == nil:
		from = n.everything(x)
	default:
		c, err := x.collectionOf(*n.doc)
		if err != nil {
			return err
		}
		if from = noCommits; c != nil {
			from = n.ofDocument(x, c, *n.doc)
		}
	}
	if n.groups != nil {
		return n.listGroups(x, from)
	}
	if len(n.keys) > 0 {
		from = n.sorted(x, from)
	}
	return n.list(x, from)
}

func noCommits(func(store.Applied, error) bool) {}

// collectionOf returns the collection that a document is in, or nil.
func (x *run) collectionOf(id dag.DocID) (*schema.Collection, error) {
	for _, c := range x.tx.Collections() {
		_, err := x.tx.Get(c, id)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	return nil, nil
}

// everything yields the commits of all collections.
func (n *commits) everything(x *run) iter.Seq2[store.Applied, error] {
	return func(yield func(store.Applied, error) bool) {
		for _, c := range x.tx.Collections() {
			for history, err := range x.histories(x.tx.Commits(c)) {
				if err != nil {
					yield(store.Applied{}, err)
					return
				}
				for _, a := range n.chosen(history) {
					if !yield(a, nil) {
						return
					}
				}
			}
		}
	}
}

// histories cuts a sequence of commits into the histories of the documents. Each is
// held as a whole: it comes oldest first, and is wanted from its heads.
func (x *run) histories(all iter.Seq2[store.Applied, error]) iter.Seq2[[]store.Applied, error] {
	return func(yield func([]store.Applied, error) bool) {
		var history []store.Applied
		var size int64
		defer func() { x.release(size) }()
		for a, err := range all {
			if err == nil {
				err = x.step()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if len(history) > 0 && history[0].Doc != a.Doc {
				if !yield(history, nil) {
					return
				}
				x.release(size)
				history, size = history[:0], 0
			}
			if err := x.reserve(commitSize(a)); err != nil {
				yield(nil, err)
				return
			}
			history, size = append(history, a), size+commitSize(a)
		}
		if len(history) > 0 {
			yield(history, nil)
		}
	}
}

// ofDocument yields the commits of one document.
func (n *commits) ofDocument(x *run, c *schema.Collection, id dag.DocID) iter.Seq2[store.Applied, error] {
	return func(yield func(store.Applied, error) bool) {
		for history, err := range x.histories(x.tx.History(c, id)) {
			if err != nil {
				yield(store.Applied{}, err)
				return
			}
			for _, a := range n.chosen(history) {
				if !yield(a, nil) {
					return
				}
			}
		}
	}
}

// chosen returns the wanted commits of a history, newest first. The history is in
// topological order, so that going backwards meets children before parents.
func (n *commits) chosen(history []store.Applied) []store.Applied {
	level := make(map[dag.CID]int, len(history)) // from the heads
	covered := map[dag.CID]bool{}                // some descendant is chosen
	var out []store.Applied
	for _, a := range slices.Backward(history) {
		l := max(level[a.CID], 1)
		for _, p := range a.Parents {
			if old, ok := level[p]; !ok || l+1 < old {
				level[p] = l + 1
			}
		}
		wanted := n.touches(a) && (n.depth == 0 || l <= n.depth)
		if n.latest && (wanted || covered[a.CID]) {
			for _, p := range a.Parents {
				covered[p] = true
			}
		}
		if wanted && !(n.latest && covered[a.CID]) {
			out = append(out, a)
		}
	}
	return out
}

// touches reports whether a commit changed the field that is asked for.
func (n *commits) touches(a store.Applied) bool {
	if n.field == "" {
		return true
	}
	for _, d := range a.Deltas {
		if fieldName(a.Collection, d.Field) == n.field || idName(a.Collection, d.Field) == n.field {
			return true
		}
	}
	return false
}

// fromCID yields a commit, and its ancestors as far as depth goes.
func (n *commits) fromCID(x *run) iter.Seq2[store.Applied, error] {
	return func(yield func(store.Applied, error) bool) {
		fail := func(err error) { yield(store.Applied{}, err) }
		seen := map[dag.CID]bool{*n.cid: true}
		level := []dag.CID{*n.cid}
		for depth := 1; depth <= n.depth && len(level) > 0; depth++ {
			var next []dag.CID
			for _, cid := range level {
				a, err := x.tx.FindCommit(cid)
				if err == nil && n.doc != nil && a.Doc != *n.doc {
					err = fault.Invalid.Errorf("cid does not belong to document: %s is of document %s", cid, a.Doc)
				}
				if err == nil {
					err = x.step()
				}
				if err != nil {
					fail(err)
					return
				}
				if n.touches(a) && !yield(a, nil) {
					return
				}
				for _, p := range a.Parents {
					if !seen[p] {
						seen[p] = true
						next = append(next, p)
					}
				}
			}
			level = next
		}
	}
}

// sorted holds the commits and yields them in order.
func (n *commits) sorted(x *run, from iter.Seq2[store.Applied, error]) iter.Seq2[store.Applied, error] {
	return func(yield func(store.Applied, error) bool) {
		var all []store.Applied
		for a, err := range from {
			if err == nil {
				err = x.reserve(commitSize(a))
			}
			if err != nil {
				yield(store.Applied{}, err)
				return
			}
			all = append(all, a)
		}
		slices.SortStableFunc(all, n.compare)
		for _, a := range all {
			if !yield(a, nil) {
				return
			}
		}
	}
}

func (n *commits) compare(a, b store.Applied) int {
	for _, k := range n.keys {
		if c := k.compare(a, b); c != 0 {
			return c
		}
	}
	return 0
}

// list writes the commits.
func (n *commits) list(x *run, from iter.Seq2[store.Applied, error]) error {
	w := x.out
	w.byte('[')
	i, written := 0, 0
	for a, err := range from {
		if err == nil {
			err = x.step()
		}
		if err == nil {
			err = w.pass()
		}
		if err != nil {
			return err
		}
		if i++; n.offset < 0 || i <= n.offset {
			continue
		}
		if written > 0 {
			w.byte(',')
		}
		writeCommit(w, n.columns, a)
		if written++; n.limit > 0 && written == n.limit {
			break
		}
	}
	w.byte(']')
	return nil
}

func writeCommit(w *writer, columns []commitColumn, a store.Applied) {
	w.byte('{')
	for i, c := range columns {
		if i > 0 {
			w.byte(',')
		}
		w.buf = append(w.buf, c.label...)
		c.write(w, a)
	}
	w.byte('}')
}

func (n *commits) tree(p *printer) {
	var of []string
	if n.cid != nil {
		of = append(of, "from "+n.cid.String())
	}
	if n.doc != nil {
		of = append(of, "of "+n.doc.String())
	}
	if n.field != "" {
		of = append(of, "that changed "+n.field)
	}
	if n.depth > 0 {
		of = append(of, fmt.Sprintf("to depth %d", n.depth))
	}
	if n.latest {
		of = append(of, "latest")
	}
	p.line(strings.TrimSpace("commits " + strings.Join(of, ", ")))
	if n.groups != nil {
		p.line("group by " + strings.Join(n.groups.by, ", "))
	}
	for _, k := range n.keys {
		p.line("order " + k.text)
	}
	if n.limit > 0 || n.offset != 0 {
		p.line((&slice{limit: n.limit, offset: n.offset}).describe())
	}
}

// commitColumns plans what is selected of a commit.
func (c *compiler) commitColumns(f *selected) ([]commitColumn, error) {
	fields, err := c.collect(f.sub)
	if err != nil {
		return nil, err
	}
	var columns []commitColumn
	for _, s := range fields {
		write, err := c.commitColumn(s)
		if err != nil {
			return nil, at(s, err)
		}
		columns = append(columns, commitColumn{newColumn(s.key, nil).label, write})
	}
	return columns, nil
}

func (c *compiler) commitColumn(s *selected) (func(w *writer, a store.Applied), error) {
	switch canonicalName(s.Name, s.Definition.Directives) {
	case "__typename":
		return func(w *writer, _ store.Applied) { w.string("Commit") }, nil
	case "_group":
		return nil, errNoGroup
	case "_count":
		return c.countOf(s)
	case "cid":
		return func(w *writer, a store.Applied) { w.string(a.CID.String()) }, nil
	case "height":
		return func(w *writer, a store.Applied) { w.buf = strconv.AppendUint(w.buf, a.Height, 10) }, nil
	case "docID":
		return func(w *writer, a store.Applied) { w.string(a.Doc.String()) }, nil
	case "schemaVersionId", "collectionVersionId":
		return func(w *writer, a store.Applied) { w.string(a.Schema.String()) }, nil
	case "author":
		return func(w *writer, a store.Applied) { w.stringOrNull(string(a.Author.Key.DID())) }, nil
	case "time":
		return func(w *writer, a store.Applied) { w.value(value.OfTime(dag.HLCTime(a.HLC))) }, nil
	}
	fields, err := c.collect(s.sub)
	if err != nil {
		return nil, err
	}
	switch s.Name {
	case "links":
		return func(w *writer, a store.Applied) { writeList(w, a.Parents, fields, linkMember) }, nil
	case "deltas":
		return func(w *writer, a store.Applied) {
			if a.HeaderOnly() {
				w.text("null")
				return
			}
			writeList(w, a.Deltas, fields, func(w *writer, name string, d crdt.Delta) { deltaMember(w, name, a.Collection, d) })
		}, nil
	}
	return func(w *writer, a store.Applied) { // signature
		if len(a.Sig) == 0 { // it is made when the transaction commits
			w.text("null")
			return
		}
		writeMembers(w, a, fields, signatureMember)
	}, nil
}

func writeList[T any](w *writer, list []T, fields []*selected, member func(*writer, string, T)) {
	w.byte('[')
	for i, e := range list {
		if i > 0 {
			w.byte(',')
		}
		writeMembers(w, e, fields, member)
	}
	w.byte(']')
}

func writeMembers[T any](w *writer, e T, fields []*selected, member func(*writer, string, T)) {
	w.byte('{')
	for i, f := range fields {
		if i > 0 {
			w.byte(',')
		}
		w.string(f.key)
		w.byte(':')
		if f.Name == "__typename" {
			w.string(f.ObjectDefinition.Name)
			continue
		}
		member(w, f.Name, e)
	}
	w.byte('}')
}

func linkMember(w *writer, _ string, cid dag.CID) { w.string(cid.String()) }

func deltaMember(w *writer, name string, c *schema.Collection, d crdt.Delta) {
	switch name {
	case "fieldName":
		w.string(fieldName(c, d.Field))
	case "kind":
		w.string(d.Kind.String())
	case "value":
		v := d.Val
		if ops, err := acp.Ops([]crdt.Delta{d}); err == nil && len(ops) == 1 {
			v = value.OfString(ops[0].String())
		} else if d.Void {
			v = value.Value{}
		} else if d.Kind.Rule() == crdt.PCounter || d.Kind.Rule() == crdt.PNCounter {
			if n, err := value.ParseJSON([]byte(v.Text())); err == nil { // a decimal
				v = n
			}
		}
		w.value(v)
	}
}

// idName returns the name that a relation has as a docID, "" for any other field.
func idName(c *schema.Collection, id crdt.FieldID) string {
	if c == nil {
		return ""
	}
	f, ok := c.FieldByID(id)
	if !ok {
		return ""
	}
	return f.IDName()
}

// fieldName returns the name of a field of a commit; a field that the local schema
// does not know goes by its number.
func fieldName(c *schema.Collection, id crdt.FieldID) string {
	switch id {
	case crdt.FieldStatus:
		return "_deleted"
	case crdt.FieldAccess:
		return "_acl"
	case crdt.FieldKeys:
		return "_keys"
	}
	if c != nil {
		if name, ok := c.FieldName(id); ok {
			return name
		}
	}
	return "#" + strconv.FormatUint(uint64(id), 10)
}

func signatureMember(w *writer, name string, a store.Applied) {
	switch name {
	case "type":
		w.string(string(a.Author.Signer().Algorithm()))
	case "identity":
		w.stringOrNull(string(a.Author.Signer().DID()))
	case "value":
		w.string(base64.StdEncoding.EncodeToString(a.Sig))
	}
}
