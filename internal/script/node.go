package script

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/query"
	"github.com/pandodb/pando/internal/radix"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

var all radix.Prefix

func digest(b []byte) [32]byte { return sha256.Sum256(b) }

// keepNothing makes a power loss take all that was not synced.
const keepNothing = 19

// node is a database with a disk and a clock of its own, or a transaction on one.
type node struct {
	w     *world
	name  string
	key   ident.Key
	files *kv.CrashFS
	skew  time.Duration
	store *store.Store
	tx    *store.Tx
}

func newNode(w *world, name string) *node {
	key, err := ident.GenerateFrom(ident.EdDSA, byName{name, new(uint64)})
	if err != nil {
		w.t.Fatal(err)
	}
	n := &node{w: w, name: name, key: key, files: kv.NewCrashFS()}
	n.open()
	return n
}

func (n *node) options() store.Options {
	return store.Options{FS: n.files, Rand: byName{n.name + " random", new(uint64)}, Now: func() time.Time {
		n.w.now = n.w.now.Add(time.Millisecond)
		return n.w.now.Add(n.skew)
	}}
}

func (n *node) open() {
	s, err := store.Open("db", n.options())
	if err != nil {
		n.w.t.Fatalf("open %s: %v", n.name, err)
	}
	n.store = s
}

func (n *node) close() {
	if err := n.store.Close(); err != nil {
		n.w.t.Fatalf("close %s: %v", n.name, err)
	}
}

// at runs a command at a node.
func (w *world) at(n *node, line string) string {
	cmd, rest := word(line)
	ctx := context.Background()
	switch cmd {
	case "schema":
		return w.failed(n.store.Update(ctx, store.As(n.key), func(tx *store.Tx) error {
			known, err := tx.Policies()
			if err != nil {
				return err
			}
			cs, err := schema.Parse(rest, tx.Set().All(), known...)
			if err != nil {
				return err
			}
			return tx.AddCollections(cs)
		}))
	case "policy":
		p, err := acp.ParsePolicy([]byte(rest))
		if err == nil {
			err = n.store.Update(ctx, store.As(n.key), func(tx *store.Tx) error { return tx.AddPolicy(p) })
		}
		if err != nil {
			return w.failed(err)
		}
		return dag.Digest(p.Sum()).String()
	case "mutate", "query":
		return w.request(n, cmd, rest)
	case "begin":
		tx, err := n.store.Begin(store.As(n.key), false)
		if err == nil {
			w.txs[rest] = &node{w: w, name: rest, key: n.key, store: n.store, tx: tx}
		}
		return w.failed(err)
	case "send":
		to, name := word(rest)
		return w.send(n, w.node(to), name)
	case "redeliver":
		name, _ := word(rest)
		return w.redeliver(n, name)
	case "clock":
		skew, err := time.ParseDuration(strings.TrimPrefix(rest, "+"))
		if err != nil {
			w.t.Fatal(err)
		}
		n.skew = skew
		return ""
	case "crash":
		left := n.files.Crash(keepNothing)
		n.close()
		n.files = left
		n.open()
		return ""
	case "reopen":
		n.close()
		n.open()
		return ""
	case "check":
		return n.check()
	case "rebuild":
		return n.rebuild()
	}
	return n.look(cmd, rest)
}

// look runs the commands that only read.
func (n *node) look(cmd, rest string) (out string) {
	w, name := n.w, rest
	err := n.store.View(context.Background(), store.System, func(tx *store.Tx) error {
		switch cmd {
		case "heads":
			for _, c := range tx.Collections() {
				heads, err := tx.Heads(c.ID, w.doc(name))
				if err != nil {
					return err
				}
				out += w.labels(heads)
			}
			return nil
		case "history":
			return n.history(tx, name, &out)
		case "changes":
			return n.changes(rest, &out)
		case "count":
			c, err := tx.Collection(name)
			if err != nil {
				return err
			}
			count, err := tx.Count(c)
			out = fmt.Sprint(count)
			return err
		case "root":
			c, err := tx.Collection(name)
			if err != nil {
				return err
			}
			sum, err := n.store.Summary(c.ID)
			root := fmt.Sprintf("%x", sum.Root)
			if w.roots[root] == "" {
				w.roots[root] = fmt.Sprint("r", len(w.roots)+1)
			}
			out = fmt.Sprintf("%d documents, %d alive, %s", sum.Documents, sum.Alive, w.roots[root])
			return err
		}
		return fault.Invalid.Errorf("unknown command %q: want one of%s", cmd, Commands)
	})
	return out + w.failed(err)
}

func (n *node) history(tx *store.Tx, name string, out *string) error {
	for _, c := range tx.Collections() {
		for a, err := range tx.History(c, n.w.doc(name)) {
			if err != nil {
				return err
			}
			*out += fmt.Sprintf("%d %s by %s", a.Height, n.w.commit(a.CID.String()), n.w.author(a.Author.Key))
			if len(a.Parents) > 0 {
				*out += " on " + n.w.labels(a.Parents)
			}
			*out += "\n"
		}
	}
	return nil
}

func (w *world) author(k ident.PublicKey) string {
	for _, n := range w.nodes {
		if n.key.Public() == k {
			return n.name
		}
	}
	return "?"
}

func (n *node) changes(after string, out *string) error {
	seq, _ := strconv.ParseUint(after, 10, 64)
	for c, err := range n.store.Log(context.Background(), store.System, seq) {
		if err != nil {
			return err
		}
		*out += fmt.Sprintf("%d %s of %s", c.Seq, n.w.commit(c.Commit.String()), n.w.named(c.Doc.String()))
		if c.Origin != "" {
			*out += " from " + c.Origin
		}
		*out += "\n"
	}
	return nil
}

// inTx runs a command in an explicit transaction.
func (w *world) inTx(tx *node, name, line string) string {
	cmd, rest := word(line)
	switch cmd {
	case "commit":
		delete(w.txs, name)
		return w.failed(tx.tx.Commit(context.Background()))
	case "discard":
		delete(w.txs, name)
		tx.tx.Discard()
		return ""
	}
	return w.request(tx, cmd, rest)
}

// request runs a query or a mutation. Before a mutation stand the names of the
// documents that it answers with.
func (w *world) request(n *node, cmd, text string) string {
	var names []string
	if cmd == "mutate" {
		for !strings.ContainsAny(firstWord(text), "({") {
			var name string
			if name, text = word(text); name == "" {
				return w.failed(fault.Invalid.Errorf("mutate what?"))
			}
			names = append(names, name)
		}
		if !strings.HasSuffix(text, "}") {
			text += " { _docID }"
		}
		text = "mutation { " + text + " }"
	}
	out, err := n.exec(w.ids(text))
	if err != nil {
		return w.failed(err)
	}
	if cmd == "query" {
		return w.named(out)
	}
	for i, id := range docID.FindAllString(out, -1) {
		if i < len(names) {
			w.docs[names[i]], w.names[id] = id, names[i]
		}
	}
	if len(names) > 0 {
		return ""
	}
	if strings.HasSuffix(out, ":[]}") {
		return "nothing changed"
	}
	return ""
}

func firstWord(s string) string {
	first, _ := word(s)
	return first
}

func (n *node) exec(text string) (string, error) {
	set := n.store.Schema()
	if n.tx != nil {
		set = n.tx.Set()
	}
	p, err := query.Compile(query.NewSchema(set.All(), nil, query.Limits{}), query.Request{Query: text})
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	ctx := context.Background()
	run := func(tx *store.Tx) error {
		out.Reset()
		return p.Run(ctx, tx, &out)
	}
	switch {
	case n.tx != nil:
		err = n.tx.Try(func() error { return run(n.tx) })
	case p.ReadOnly():
		err = n.store.View(ctx, store.System, run)
	default:
		err = n.store.Update(ctx, store.As(n.key), run)
	}
	return out.String(), err
}

// send brings another node what it lacks of a document.
func (w *world) send(from, to *node, name string) string {
	if to == nil {
		return w.failed(fault.Invalid.Errorf("send to whom?"))
	}
	if !w.connected(from, to) {
		return "cut off"
	}
	id := w.doc(name)
	for _, c := range from.store.Schema().Collections() {
		pack, err := from.pack(c, store.Want{Doc: id})
		if err != nil {
			return w.failed(err)
		}
		if len(pack) > 0 {
			m, err := from.offer(to, c, id)
			if err != nil {
				return w.failed(err)
			}
			return w.merged(m)
		}
	}
	return "nothing to send"
}

func (n *node) send(to *node, c *schema.Collection, id dag.DocID) (int, error) {
	m, err := n.offer(to, c, id)
	return m.Applied, err
}

// offer sends what the other node lacks of a document.
func (n *node) offer(to *node, c *schema.Collection, id dag.DocID) (m store.Merged, err error) {
	want := store.Want{Doc: id}
	err = to.store.View(context.Background(), store.System, func(tx *store.Tx) (err error) {
		want.Have, err = tx.Heads(c.ID, id)
		return err
	})
	if err != nil {
		return m, err
	}
	pack, err := n.pack(c, want)
	if err != nil || len(pack) == 0 {
		return m, err
	}
	return to.store.Merge(context.Background(), c.ID, pack, n.name)
}

func (n *node) pack(c *schema.Collection, want store.Want) (pack [][]byte, err error) {
	err = n.store.View(context.Background(), store.System, func(tx *store.Tx) error {
		for b, err := range tx.Pack(c.ID, want) {
			if err != nil {
				return err
			}
			pack = append(pack, slices.Clone(b.Envelope))
		}
		return nil
	})
	return pack, err
}

func (n *node) check() (out string) {
	err := n.store.Check(context.Background(), func(p store.Problem) { out += n.w.named(p.String()) + "\n" })
	if out == "" && err == nil {
		return "sound"
	}
	return out + n.w.failed(err)
}

func (n *node) rebuild() (out string) {
	n.close()
	defer n.open()
	r, err := store.Rebuild(context.Background(), "db", n.options(), func(p store.Problem) { out += n.w.named(p.String()) + "\n" })
	if err != nil {
		return out + n.w.failed(err)
	}
	return out + fmt.Sprintf("%d documents from %d commits, %d lost", r.Documents, r.Commits, r.Lost)
}
