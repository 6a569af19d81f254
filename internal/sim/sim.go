// Package sim runs histories of several nodes from one number: writers, an
// adversary, a network that loses, repeats and delays, clocks that disagree, and
// power losses. After every step it checks what must always hold.
//
// It hides the order of events. One seeded generator draws everything; there is no
// clock of the machine and no goroutine of its own, so a seed that fails once fails
// again, in the same way.
package sim

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// A history has between minSteps and maxSteps steps, on two to maxNodes nodes:
// short ones find as much as long ones, and many fit into the time of a test.
const (
	minSteps = 20
	maxSteps = 60
	maxNodes = 4
)

// The collections of every history: each way to name documents, each rule by which
// writes merge, each kind of index.
const sdl = `
type Page @index(name: "mixed", includes: [{field: "tags", direction: DESC}, {field: "hits"}]) {
	title: String @index, hits: Int @crdt(type: pncounter), size: Float @crdt(type: pcounter), tags: String @crdt(type: mvregister)
}
type City @docID(mode: KEYED, fields: ["name"]) { name: String, people: Int @index(direction: DESC), visits: Int @crdt(type: pcounter), mayor: Page }
type Note @docID(mode: UNIQUE) { text: String, votes: [Int!] @crdt(type: mvregister) @index, more: JSON @index(direction: DESC, includes: [{field: "text"}, {field: "more"}]) }
type Deed @docID(mode: OWNED) @index(name: "once", unique: true, includes: [{field: "text"}, {field: "at"}]) { text: String, at: DateTime }
`

// Collections parses the collections of every history. They are immutable: one
// parse serves all.
func Collections() ([]*schema.Collection, error) {
	p, err := policy()
	if err != nil {
		return nil, err
	}
	return schema.Parse(sdl+fmt.Sprintf(policedSDL, dag.Digest(p.Sum())), nil, p)
}

// Failure is a history in which something did not hold.
type Failure struct {
	Seed  uint64
	Steps []int    // that were taken
	What  string   // such as "I7: …"
	Trace []string // the history up to there
}

func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, steps %v: %s\n", f.Seed, f.Steps, f.What)
	for _, l := range f.Trace {
		fmt.Fprintf(&b, "    %s\n", l)
	}
	return b.String()
}

// Options configure a run. The zero value is an honest one.
type Options struct {
	Collections []*schema.Collection
	// Sabotage, if not nil, damages a node that is shut down; it returns whether
	// it did. It is there to prove that the checks see it.
	Sabotage func(d *Damage) bool
	// Forgetful disks acknowledge what they do not keep.
	Forgetful bool
	// Tamper, if not nil, changes what readers see of the feed.
	Tamper func([]store.Change) []store.Change
}

// Length returns how many steps the history of a seed has.
func Length(seed uint64) int {
	r := rand.New(rand.NewPCG(seed, 1))
	return minSteps + r.IntN(maxSteps-minSteps+1)
}

// Run plays those steps of the history of a seed, all if steps is nil, and returns
// its trace, or a *Failure.
func Run(seed uint64, steps []int, o Options) (trace []string, err error) {
	if steps == nil {
		for i := range Length(seed) {
			steps = append(steps, i)
		}
	}
	w := newWorld(seed, o)
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(*Failure)
			if !ok {
				f = &Failure{What: fmt.Sprintf("panic: %v\n%s", r, debug.Stack())}
			}
			f.Seed, f.Steps, f.Trace = seed, steps, w.trace
			err = f
		}
		w.close()
	}()
	w.begin()
	for _, i := range steps {
		// Each step draws from a generator of its own, so that leaving one out
		// changes the others as little as possible.
		w.rng = rand.New(rand.NewPCG(seed, uint64(i)+1000))
		w.step()
	}
	w.rng = rand.New(rand.NewPCG(seed, 2))
	w.end()
	return w.trace, nil
}

// Shrink returns a failure of the same seed with as few steps as it finds, within
// a number of attempts.
func Shrink(f *Failure, o Options, attempts int) *Failure {
	for size := max(1, len(f.Steps)/2); size > 0; size /= 2 {
		for at := 0; at < len(f.Steps) && attempts > 0; attempts-- {
			fewer := slices.Delete(slices.Clone(f.Steps), at, min(at+size, len(f.Steps)))
			var g *Failure
			if _, err := Run(f.Seed, fewer, o); len(fewer) > 0 && errors.As(err, &g) {
				f = g
			} else {
				at += size
			}
		}
	}
	return f
}

// world is all there is of a history.
type world struct {
	Options
	seed  uint64
	rng   *rand.Rand
	now   time.Time
	nodes []*node
	eve   ident.Key // the adversary
	bag   []message // under way
	cuts  map[[2]int]bool
	trace []string

	commits map[dag.CID]*dag.Commit // that some node applied
	invalid map[dag.CID]bool        // made by the adversary: no node may apply them
	unsound map[string]bool         // envelopes of hers with a wrong signature
	forged  []*dag.Commit           // by the adversary, valid
	docs    []docRef                // of which somebody knows, in the order of their appearance
	known   map[dag.DocID]bool
	bytes   map[string]string // of documents, by their heads: the same on every node
	enough  int               // when there are so many documents, no more are created
	rights  map[dag.CID]bool  // of commits in collections with a policy: whether they may be
}

// docRef is a document and its collection.
type docRef struct {
	coll *schema.Collection
	id   dag.DocID
}

func newWorld(seed uint64, o Options) *world {
	w := &world{
		Options: o, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)),
		now:     time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		cuts:    map[[2]int]bool{},
		commits: map[dag.CID]*dag.Commit{},
		invalid: map[dag.CID]bool{},
		unsound: map[string]bool{},
		known:   map[dag.DocID]bool{},
		bytes:   map[string]string{},
		rights:  map[dag.CID]bool{},
	}
	w.eve = w.key("eve")
	return w
}

// key makes the key of a name; the same for every seed, because keys are costly
// and their contents do not matter.
func (w *world) key(name string) ident.Key {
	k, err := keys(name)
	w.must(err)
	return k
}

func (w *world) begin() {
	w.enough = math.MaxInt
	if w.chance(4) { // few documents, all with a policy, and much ado about who may write
		w.enough = 1 + w.one(2)
		w.Collections = slices.DeleteFunc(slices.Clone(w.Collections), func(c *schema.Collection) bool { return c.Access() == nil })
	}
	for i := range 2 + w.rng.IntN(maxNodes-1) {
		n := &node{w: w, place: i, name: string(rune('a' + i)), disk: newDisk(w.Forgetful)}
		n.key = w.key(n.name)
		n.random.r = rand.New(rand.NewPCG(w.seed, uint64(100+i)))
		w.nodes = append(w.nodes, n)
		n.boot()
		n.learn(w.Collections[:1+w.rng.IntN(len(w.Collections))])
	}
	w.note("%d nodes", len(w.nodes))
	if w.enough < math.MaxInt {
		w.nodes[0].learn(w.Collections)
		w.nodes[0].write("share", func(tx *store.Tx) error {
			c := w.nodes[0].collection()
			deltas, err := c.Create(w.nodes[0].input(c, true))
			w.must(err)
			d, err := tx.Create(c, deltas)
			w.must(err)
			return w.nodes[0].letIn(tx, d)
		})
		for _, n := range w.nodes {
			n.learn(w.Collections)
			w.reconcile(w.nodes[0], n)
		}
	}
}

func (w *world) close() {
	for _, n := range w.nodes {
		n.shut()
	}
}

// fail ends the history.
func (w *world) fail(format string, args ...any) {
	panic(&Failure{What: fmt.Sprintf(format, args...)})
}

func (w *world) must(err error) {
	if err != nil {
		w.fail("unexpected error: %v", err)
	}
}

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// one draws a number below n.
func (w *world) one(n int) int { return w.rng.IntN(n) }

// chance is true in one of n cases.
func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }

func pick[T any](w *world, list []T) T { return list[w.rng.IntN(len(list))] }

// name shortens an identifier for the trace.
func name(id [32]byte) string { return fmt.Sprintf("%x", id[:3]) }

// meet notes a document that appeared.
func (w *world) meet(c *schema.Collection, id dag.DocID) {
	if !w.known[id] {
		w.known[id] = true
		w.docs = append(w.docs, docRef{c, id})
	}
}

// step lets one thing happen.
func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.one(1500)) * time.Millisecond)
	n := pick(w, w.nodes)
	armed := w.chance(16)
	if armed {
		n.disk.arm(w.one(4), w.chance(2))
	}
	switch x := w.one(100); {
	case x < 14 && len(w.docs) < w.enough:
		n.create()
	case x < 19:
		n.share()
	case x < 34:
		n.change()
	case x < 38:
		n.remove()
	case x < 42:
		n.several()
	case x < 49:
		n.explicit()
	case x < 57:
		w.forge(n)
	case x < 67:
		n.announce()
	case x < 72:
		n.ask()
	case x < 86:
		w.deliver()
	case x < 88:
		n.reindex()
	case x < 89:
		n.build()
	case x < 91:
		w.toggle()
	case x < 94:
		n.wind()
	case x < 95:
		n.learn(w.Collections)
	case x < 97:
		n.lose("power loss")
	case x < 99:
		n.restart()
	default:
		w.reconcile(n, pick(w, w.nodes))
	}
	if armed && !n.disk.calm() {
		n.lose("power loss in the middle")
	}
	for _, n := range w.nodes {
		n.check()
	}
}

// toggle cuts a link or heals it.
func (w *world) toggle() {
	a := w.one(len(w.nodes))
	b := (a + 1 + w.one(len(w.nodes)-1)) % len(w.nodes)
	link := [2]int{min(a, b), max(a, b)}
	w.cuts[link] = !w.cuts[link]
	w.note("link %s-%s cut: %v", w.nodes[a].name, w.nodes[b].name, w.cuts[link])
}

func (w *world) cutOff(a, b int) bool { return w.cuts[[2]int{min(a, b), max(a, b)}] }

// end lets everybody learn everything, and compares.
func (w *world) end() {
	w.note("heal")
	w.cuts = map[[2]int]bool{}
	w.now = w.now.Add(3 * time.Hour) // past every clock that ran ahead
	for _, n := range w.nodes {
		n.drop()
		n.learn(w.Collections)
	}
	for range 2 { // the second round brings to the first what the last one had
		for i, a := range w.nodes {
			for _, b := range w.nodes[i+1:] {
				w.reconcile(a, b)
			}
		}
	}
	for _, n := range w.nodes {
		n.check()
	}
	w.converged()
	// These cost as much as all the rest.
	n := pick(w, w.nodes)
	if w.chance(2) {
		n.audit()
	}
	if w.chance(8) {
		n.rebuilt()
	}
}
