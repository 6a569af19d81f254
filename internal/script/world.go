package script

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// start is what clocks show at the beginning of every script.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is what a script plays in.
type world struct {
	t     testing.TB
	now   time.Time
	nodes []*node
	txs   map[string]*node // explicit transactions by name; each is its node
	cuts  map[[2]string]bool

	docs    map[string]string // docIDs by name
	names   map[string]string // the other way round
	commits map[string]string // names of commits by CID
	roots   map[string]string // names of roots
}

func newWorld(t testing.TB) *world {
	return &world{t: t, now: start, txs: map[string]*node{}, cuts: map[[2]string]bool{}, docs: map[string]string{},
		names: map[string]string{}, commits: map[string]string{}, roots: map[string]string{}}
}

func (w *world) close() {
	for _, tx := range w.txs {
		tx.tx.Discard()
	}
	for _, n := range w.nodes {
		if err := n.store.Close(); err != nil {
			w.t.Errorf("close %s: %v", n.name, err)
		}
	}
}

// word splits the first word off a line.
func word(s string) (first, rest string) {
	first, rest, _ = strings.Cut(strings.TrimSpace(s), " ")
	return first, strings.TrimSpace(rest)
}

// run runs one command and returns what it prints, in whole lines.
func (w *world) run(line string) string {
	first, rest := word(line)
	switch first {
	case "cluster":
		for _, name := range strings.Fields(rest) {
			w.nodes = append(w.nodes, newNode(w, name))
		}
		return ""
	case "cut":
		w.link(rest, true)
		return ""
	case "heal":
		w.link(rest, false)
		return ""
	case "settle":
		return shown("", w.settle())
	}
	if tx := w.txs[first]; tx != nil {
		return shown(first+": ", w.inTx(tx, first, rest))
	}
	if n := w.node(first); n != nil {
		return shown(first+": ", w.at(n, rest))
	}
	var names, outputs []string
	for _, n := range w.nodes {
		names, outputs = append(names, n.name), append(outputs, w.at(n, line))
	}
	return together(names, outputs)
}

// together prints what several say, those who say the same in one.
func together(names, outputs []string) (all string) {
	for i, out := range outputs {
		if slices.Index(outputs, out) < i {
			continue
		}
		var who []string
		for k := range outputs {
			if outputs[k] == out {
				who = append(who, names[k])
			}
		}
		all += shown(strings.Join(who, ", ")+": ", out)
	}
	return all
}

// shown puts a name before output, and nothing before nothing.
func shown(prefix, out string) string {
	switch out = strings.TrimRight(out, "\n"); {
	case out == "":
		return ""
	case strings.Contains(out, "\n"):
		return strings.TrimSpace(prefix) + "\n    " + strings.ReplaceAll(out, "\n", "\n    ") + "\n"
	}
	return prefix + out + "\n"
}

func (w *world) node(name string) *node {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (w *world) link(pair string, cut bool) {
	names := strings.Fields(pair)
	if len(names) == 0 {
		w.cuts = map[[2]string]bool{}
		return
	}
	if len(names) != 2 || w.node(names[0]) == nil || w.node(names[1]) == nil {
		w.t.Fatalf("cut or heal %q: want two nodes", pair)
	}
	slices.Sort(names)
	w.cuts[[2]string(names)] = cut
}

func (w *world) connected(a, b *node) bool {
	names := []string{a.name, b.name}
	slices.Sort(names)
	return a != b && !w.cuts[[2]string(names)]
}

// failed prints an error by its kind.
func (w *world) failed(err error) string {
	if err == nil {
		return ""
	}
	kind := "ERROR"
	if k := fault.Of(err); k != nil {
		kind = k.Name()
	}
	return kind + " " + w.named(err.Error())
}

var (
	identifier = regexp.MustCompile(`ba(fkrei|fyrei)[a-z2-7]{52}`)
	docID      = regexp.MustCompile(`bafkrei[a-z2-7]{52}`)
	token      = regexp.MustCompile(`"[^"]*"|[A-Za-z_][A-Za-z_0-9]*`)
)

// named replaces identifiers by names.
func (w *world) named(s string) string {
	return identifier.ReplaceAllStringFunc(s, func(id string) string {
		if name, ok := w.names[id]; ok {
			return name
		}
		if strings.HasPrefix(id, "bafyrei") {
			return w.commit(id)
		}
		return "?"
	})
}

func (w *world) commit(cid string) string {
	if w.commits[cid] == "" {
		w.commits[cid] = fmt.Sprint("c", len(w.commits)+1)
	}
	return w.commits[cid]
}

func (w *world) labels(ids []dag.CID) string {
	var list []string
	for _, id := range ids {
		list = append(list, w.commit(id.String()))
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	return strings.Join(list, " ")
}

// ids replaces names of documents in a request by their docIDs.
func (w *world) ids(s string) string {
	return token.ReplaceAllStringFunc(s, func(word string) string {
		if id, ok := w.docs[word]; ok {
			return `"` + id + `"`
		}
		return word
	})
}

// doc returns the document that a name stands for.
func (w *world) doc(name string) dag.DocID {
	id, err := dag.ParseDocID(w.docs[name])
	if err != nil {
		w.t.Fatalf("no document is called %q", name)
	}
	return id
}

// settle lets connected nodes exchange what they lack, until nothing moves.
func (w *world) settle() string {
	for moved := true; moved; {
		moved = false
		for _, a := range w.nodes {
			for _, b := range w.nodes {
				if !w.connected(a, b) {
					continue
				}
				n, err := w.exchange(a, b)
				if err != nil {
					return w.failed(err)
				}
				moved = moved || n > 0
			}
		}
	}
	return ""
}

// exchange brings b what a has, of all collections that both have.
func (w *world) exchange(a, b *node) (applied int, err error) {
	for _, c := range a.store.Schema().Collections() {
		if _, ok := b.store.Schema().ByID(c.ID); !ok {
			continue
		}
		var docs []dag.DocID
		for e, err := range a.store.Elements(c.ID, all) {
			if err != nil {
				return applied, err
			}
			docs = append(docs, e.Key)
		}
		for _, id := range docs {
			n, err := a.send(b, c, id)
			if applied += n; err != nil {
				return applied, err
			}
		}
	}
	return applied, nil
}

// redeliver brings n all commits of a document that anybody has.
func (w *world) redeliver(n *node, name string) string {
	id := w.doc(name)
	var out []string
	for _, from := range w.nodes {
		for _, c := range from.store.Schema().Collections() {
			pack, err := from.pack(c, store.Want{Doc: id})
			if err != nil {
				return w.failed(err)
			}
			if len(pack) == 0 {
				continue
			}
			m, err := n.store.Merge(context.Background(), c.ID, pack, from.name)
			if err != nil {
				return w.failed(err)
			}
			out = append(out, fmt.Sprintf("%d applied, %d known from %s", m.Applied, m.Known, from.name))
		}
	}
	return strings.Join(out, "\n")
}

// merged prints what became of a pack.
func (w *world) merged(m store.Merged) string {
	out := fmt.Sprintf("%d applied, %d known", m.Applied, m.Known)
	for _, id := range slices.SortedFunc(maps.Keys(m.Missing), dag.DocID.Compare) {
		out += ", lacks " + w.labels(m.Missing[id])
	}
	if len(m.Future) > 0 {
		out += ", waits for " + w.labels(m.Future)
	}
	return out
}

// byName makes keys, and is as random as a script needs: the same bytes for a name.
type byName struct {
	name string
	n    *uint64
}

func (r byName) Read(p []byte) (int, error) {
	for i := range p {
		*r.n++
		sum := digest(append(binary.BigEndian.AppendUint64(nil, *r.n), r.name...))
		p[i] = sum[0]
	}
	return len(p), nil
}
