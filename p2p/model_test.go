package p2p

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// The collections of every history: documents named by content, by keys, which are
// made twice, and at random; every rule by which writes merge.
const modelSchema = `
type Page @index(name: "both", includes: [{field: "title"}, {field: "hits"}]) { title: String @index  hits: Int @crdt(type: pncounter)  tags: String @crdt(type: mvregister)  text: String }
type City @docID(mode: KEYED, fields: ["name"]) { name: String  people: Int  visits: Int @crdt(type: pcounter) }
type Note @docID(mode: UNIQUE) { text: String  votes: Int @crdt(type: pncounter) }
`

// TestHistories runs whole nodes through histories of faults, each drawn from a
// number, and requires that in the end all hold the same, whatever happened.
//
// PANDO_SEEDS=from-to runs these numbers instead of the first 200. A number draws
// what happens and when; the scheduler and the secrets of the nodes are not drawn
// from it, so a failure returns mostly, not always, with its number.
func TestHistories(t *testing.T) {
	from, to := 1, 200
	if testing.Short() {
		to = 20
	}
	if raceDetector {
		t.Skip("the race detector and virtual time do not go together")
	}
	eachSeed(t, from, to, func(t *testing.T, seed uint64) {
		h := newHistory(t, seed)
		defer h.close()
		h.run()
	})
}

// eachSeed runs a history for each of some numbers, or of those that PANDO_SEEDS names.
func eachSeed(t *testing.T, from, to int, run func(t *testing.T, seed uint64)) {
	if s := os.Getenv("PANDO_SEEDS"); s != "" {
		a, b, more := strings.Cut(s, "-")
		if !more {
			b = a
		}
		var errs [2]error
		from, errs[0] = strconv.Atoi(a)
		to, errs[1] = strconv.Atoi(b)
		if err := errors.Join(errs[:]...); err != nil || from > to {
			t.Fatalf("PANDO_SEEDS is %q, want a number or from-to", s)
		}
	}
	for seed := from; seed <= to; seed++ {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { run(t, uint64(seed)) })
		})
	}
}

// history is one run of some machines.
type history struct {
	t     *testing.T
	rng   *rand.Rand
	net   *modelNet
	all   []*machine
	trace []string
	start time.Time

	made  int // contents of documents
	docs  []modelDoc
	acked map[dag.CID]string     // acknowledged commits, and where
	read  map[*machine]uint64    // of the feed of each
	adds  map[string]*counterSum // by docID, to its counter
	down  map[*machine]time.Time // when it comes back
	tight map[*machine]bool      // its disk was full
	trust map[*machine][]*machine
	skew  bool
	patch int
	part  *machine // keeps a part of what the others keep, in some histories
	memos memos    // under a policy

	probes sync.WaitGroup
}

type modelDoc struct{ collection, id string }

// counterSum is what a counter must come to: everything that was acknowledged, and
// perhaps what was not, and was in doubt.
type counterSum struct {
	sum   int
	doubt []int
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 1)), start: time.Now(),
		acked: map[dag.CID]string{}, read: map[*machine]uint64{}, adds: map[string]*counterSum{},
		down: map[*machine]time.Time{}, tight: map[*machine]bool{}, trust: map[*machine][]*machine{}}
	h.memos.rng = rand.New(rand.NewPCG(seed, 3))
	h.net = newModelNet(rand.New(rand.NewPCG(seed, 2)), time.Duration(1+h.rng.IntN(60))*time.Millisecond)
	for i := range 2 + h.rng.IntN(4) {
		h.all = append(h.all, newMachine(t, h.net, i))
	}
	// A tree at least, so that all can be reached in the end; some know each other besides.
	for i, m := range h.all[1:] {
		h.trusts(m, h.all[h.rng.IntN(i+1)])
	}
	for range h.rng.IntN(len(h.all)) {
		h.trusts(h.all[h.one(len(h.all))], h.all[h.one(len(h.all))])
	}
	h.skew = h.chance(3)
	if len(h.all) > 2 && h.chance(3) {
		h.part = h.all[len(h.all)-1] // on which no way between two others depends
	}
	return h
}

func (h *history) trusts(a, b *machine) {
	if a != b && !slices.Contains(h.trust[a], b) {
		h.trust[a], h.trust[b] = append(h.trust[a], b), append(h.trust[b], a)
	}
}

func (h *history) one(n int) int     { return h.rng.IntN(n) }
func (h *history) chance(n int) bool { return h.rng.IntN(n) == 0 }

func (h *history) note(format string, args ...any) {
	line := fmt.Sprintf("%8.3f ", time.Since(h.start).Seconds()) + fmt.Sprintf(format, args...)
	h.trace = append(h.trace, line)
	if os.Getenv("PANDO_LOG") != "" {
		fmt.Fprintln(os.Stderr, line)
	}
}

// fail ends the history.
func (h *history) fail(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(h.trace, "\n"))
}

func (h *history) close() {
	h.net.heal()
	h.probes.Wait()
	for _, m := range h.all {
		m.shut()
	}
}

// up returns the machines that run.
func (h *history) up() []*machine {
	return slices.DeleteFunc(slices.Clone(h.all), func(m *machine) bool { return m.db == nil })
}

func (h *history) run() {
	for i, m := range h.all {
		m.boot()
		if i == 0 || h.chance(3) || m == h.part {
			addSchema(h.t, m.db, modelSchema)
			addMemos(h.t, m.db)
		}
		m.join(h.trust[m]...)
		if m == h.part {
			h.keepPart(m)
		}
	}
	h.note("%d machines, %v one way, clocks wander: %v, the last keeps a part: %v", len(h.all), h.net.latency, h.skew, h.part != nil)
	for range 20 + h.one(40) {
		h.pause()
		h.step()
		h.memos.step(h)
	}
	h.mend()
	h.converge()
	h.compare()
}

// modelPart is which pages a machine that keeps a part has. Counters make documents
// enter and leave it wherever they are changed.
const modelPart = `{hits: {_ge: 2}}`

// keepPart makes a machine keep some pages, all cities and no notes.
func (h *history) keepPart(m *machine) {
	for name, s := range map[string]Scope{"Page": {Filter: modelPart}, "Note": {}} {
		if err := m.node.Keep(h.t.Context(), name, s); err != nil {
			h.fail("%s: %v", m.name(), err)
		}
	}
}

// pause lets some time pass: often none, sometimes long.
func (h *history) pause() {
	d := time.Duration(h.one(200)) * time.Millisecond
	switch {
	case h.chance(4):
		d = 0
	case h.chance(4):
		d = time.Duration(h.one(5000)) * time.Millisecond
	case h.chance(16):
		d = time.Duration(h.one(40)) * time.Second
	}
	time.Sleep(d)
	for m, at := range h.down {
		if time.Now().After(at) {
			h.revive(m)
		}
	}
}

func (h *history) revive(m *machine) {
	delete(h.down, m)
	m.boot()
	h.kept(m)
	m.join(h.trust[m]...)
	h.note("%s is back", m.name())
}

// step lets one thing happen.
func (h *history) step() {
	up := h.up()
	if len(up) == 0 {
		return
	}
	m := up[h.one(len(up))]
	switch x := h.one(100); {
	case x < 45:
		h.write(m)
	case x < 50:
		for range 5 + h.one(60) {
			h.write(m)
		}
	case x < 60:
		a, b := h.one(len(h.all)), h.one(len(h.all))
		if a != b {
			yes := h.chance(2)
			h.note("link %s-%s cut: %v", h.all[a].name(), h.all[b].name(), yes)
			h.net.cut(a, b, yes)
		}
	case x < 64:
		h.partition()
	case x < 67:
		h.note("all links are whole")
		h.net.heal()
	case x < 70:
		h.net.sever()
		h.note("a connection is gone")
	case x < 74:
		h.net.breakStream()
		h.note("a stream is reset")
	case x < 78:
		h.stop(m)
	case x < 81:
		h.lose(m)
	case x < 84:
		h.noise()
	case x < 86:
		if h.skew {
			d := time.Duration(h.one(121)-60) * time.Minute
			m.skew.Store(int64(d))
			h.note("clock of %s: %v", m.name(), d)
		}
	case x < 88:
		h.fill(m)
	case x < 89:
		h.evolve(m)
	case x < 97:
		h.ask(m)
	default:
		h.compareSoon(m)
	}
}

func (h *history) partition() {
	side := make([]bool, len(h.all))
	for i := range side {
		side[i] = h.chance(2)
	}
	h.note("partition %v", side)
	for a := range h.all {
		for b := range a {
			h.net.cut(a, b, side[a] != side[b])
		}
	}
}

func (h *history) noise() {
	h.net.mu.Lock()
	h.net.noise = []int{0, 5, 30, 90}[h.one(4)]
	h.note("noise of gossip: %d %%", h.net.noise)
	h.net.mu.Unlock()
}

func (h *history) later() time.Time {
	return time.Now().Add(time.Duration(h.one(30_000)) * time.Millisecond)
}

func (h *history) stop(m *machine) {
	h.note("%s is stopped", m.name())
	if err := m.shut(); err != nil && !h.tight[m] {
		h.fail("%s does not close: %v", m.name(), err)
	}
	h.empty(m)
	h.down[m] = h.later()
}

func (h *history) lose(m *machine) {
	generous := h.chance(2)
	h.note("%s loses power, of what was not synced everything is left: %v", m.name(), generous)
	m.lose(generous)
	delete(h.tight, m)
	h.down[m] = h.later()
}

// fill makes a disk full. A database whose disk was full is started anew, as its
// errors ask for.
func (h *history) fill(m *machine) {
	h.note("disk of %s is full", m.name())
	m.disk.full.Store(true)
	h.tight[m] = true
}

func (h *history) empty(m *machine) {
	m.disk.full.Store(false)
	delete(h.tight, m)
}

// evolve gives a collection another version.
func (h *history) evolve(m *machine) {
	if _, err := m.db.Collection("Note"); err != nil {
		return
	}
	h.patch++
	text := fmt.Sprintf(`[{"op": "add", "path": "/Note/Fields/-", "value": {"Name": "more%d", "Kind": "String"}}]`, h.patch)
	_, err := m.db.PatchSchema(h.t.Context(), pando.SchemaPatch{Patch: text, Activate: h.chance(2)})
	h.note("%s: another version of Note: %v", m.name(), err)
	if err != nil && !h.tight[m] {
		h.fail("%s: %v", m.name(), err)
	}
}

// compareSoon makes a node compare with everybody now, as a user who reconnects does.
func (h *history) compareSoon(m *machine) {
	h.note("%s compares", m.name())
	for _, c := range m.node.connected() {
		c.next.Set(0)
	}
}

// write makes one change, and notes what was acknowledged.
func (h *history) write(m *machine) {
	if _, err := m.db.Collection("Page"); err != nil {
		return // it came to none yet
	}
	h.made++
	var text, counted string
	n := h.one(9) - 4
	switch x := h.one(10); {
	case x < 2:
		text = fmt.Sprintf(`create_Page(input: {title: "p%d", hits: 1, text: "%s"})`, h.made, strings.Repeat("x", 1<<h.one(14)))
	case x < 3:
		text = fmt.Sprintf(`create_Note(input: {text: "n%d"})`, h.made)
	case x < 4:
		text = fmt.Sprintf(`create_City(input: {name: "c%d", people: %d})`, h.one(8), h.made)
	default:
		if len(h.docs) == 0 {
			return
		}
		d := h.docs[h.one(len(h.docs))]
		input := map[string][]string{
			"Page": {fmt.Sprintf(`{hits: %d}`, n), fmt.Sprintf(`{title: "t%d", tags: "%d"}`, h.made, h.one(4))},
			"City": {fmt.Sprintf(`{visits: %d}`, n*n), fmt.Sprintf(`{people: %d}`, h.made)},
			"Note": {fmt.Sprintf(`{votes: %d}`, n), fmt.Sprintf(`{text: "u%d"}`, h.made)},
		}[d.collection]
		which := h.one(2)
		if which == 0 {
			counted = d.id
			if d.collection == "City" {
				n *= n
			}
		}
		text = fmt.Sprintf(`update_%s(docID: "%s", input: %s)`, d.collection, d.id, input[which])
		if h.chance(12) {
			text, counted = fmt.Sprintf(`delete_%s(docID: "%s")`, d.collection, d.id), ""
		}
	}
	h.exec(m, text, counted, n)
}

// exec runs a mutation.
func (h *history) exec(m *machine, text, counted string, n int) {
	res := m.db.Exec(h.t.Context(), pando.Request{Query: "mutation { " + text + " { _docID } }"})
	err := res.Err()
	if len(text) > 120 {
		text = text[:120] + "…"
	}
	h.note("%s: %s: %s %v", m.name(), text, res.Data, err)
	if err != nil && !h.tight[m] && !errors.Is(err, fault.Exists) && !errors.Is(err, fault.NotFound) && !errors.Is(err, fault.Invalid) {
		h.fail("%s: %v", m.name(), err)
	}
	id, touched := docIn(string(res.Data))
	if counted != "" && (touched || err != nil) {
		c := h.adds[counted]
		if c == nil {
			c = &counterSum{}
			h.adds[counted] = c
		}
		if err == nil {
			c.sum += n
		} else {
			c.doubt = append(c.doubt, n)
		}
	}
	if err != nil || !touched {
		return
	}
	if name, made := strings.CutPrefix(text, "create_"); made {
		d := modelDoc{name[:4], id}
		if !slices.Contains(h.docs, d) {
			h.docs = append(h.docs, d)
		}
		if d.collection == "Page" && h.adds[id] == nil {
			h.adds[id] = &counterSum{sum: 1}
		}
	}
	h.acknowledged(m)
}

// docIn finds the docID in an answer.
func docIn(data string) (string, bool) {
	_, rest, ok := strings.Cut(data, `"_docID":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id, ok
}

// acknowledged notes the commits that were made on a machine: they must never be lost.
func (h *history) acknowledged(m *machine) {
	for c, err := range m.db.Replica().Log(h.t.Context(), h.read[m]) {
		if err != nil {
			h.fail("%s: feed: %v", m.name(), err)
		}
		h.read[m] = c.Seq
		if c.Origin == "" && !m.db.Replica().Protected(c.Collection) { // not everybody is to have those
			h.acked[c.Commit] = m.name()
		}
	}
}

// kept requires a machine that comes back to have what it acknowledged.
func (h *history) kept(m *machine) {
	for c, at := range h.acked {
		if at != m.name() {
			continue
		}
		if _, err := m.db.Replica().Block(h.t.Context(), c); err != nil {
			h.fail("%s lost the acknowledged commit %s: %v", m.name(), c, err)
		}
	}
	h.read[m] = m.db.Seq()
}

// rootsOf returns the roots of a machine's collections by name; nil if it is off.
func (h *history) rootsOf(m *machine) map[string]pando.Summary {
	out := map[string]pando.Summary{}
	if m.db == nil {
		return nil
	}
	sums, err := m.db.Replica().Summaries(context.Background())
	if err != nil {
		return nil
	}
	for _, s := range sums {
		out[s.Name] = s
	}
	return out
}

// ask asks a node for its status while the history goes on, and requires that it
// calls identical only what was.
func (h *history) ask(m *machine) {
	before := map[string]map[string]pando.Summary{}
	for _, o := range h.all {
		before[o.id().String()] = h.rootsOf(o)
	}
	node, own := m.node, before[m.id().String()]
	st, err := node.Status(h.t.Context())
	if err != nil {
		if !h.tight[m] {
			h.fail("status of %s: %v", m.name(), err)
		}
		return
	}
	after := h.rootsOf(m)
	for _, p := range st.Peers {
		var other *machine
		for _, o := range h.all {
			if o.id().String() == p.ID {
				other = o
			}
		}
		theirs := h.rootsOf(other)
		if m == h.part || other == h.part {
			continue // what is identical there is no whole collection
		}
		for _, c := range p.Collections {
			if c.Name == "Memo" {
				continue // identical as far as both may read
			}
			a, b := own[c.Name], before[p.ID][c.Name]
			quiet := after[c.Name].Root == a.Root && theirs[c.Name].Root == b.Root
			if c.State == Identical && quiet && a.Root != b.Root && a.Documents+b.Documents > 0 {
				h.fail("%s calls %s of %s identical, with roots %x and %x", m.name(), c.Name, other.name(), a.Root[:4], b.Root[:4])
			}
		}
	}
}

// mend ends all faults.
func (h *history) mend() {
	h.note("mend")
	h.net.mu.Lock()
	h.net.noise = 0
	h.net.mu.Unlock()
	h.net.heal()
	for _, m := range h.all {
		if h.tight[m] {
			m.shut() // as the errors of a full disk ask for
			h.empty(m)
			h.down[m] = time.Now()
		}
	}
	for _, m := range h.all {
		if m.db == nil {
			h.revive(m)
		}
		// All clocks are right again, past every one that ran ahead.
		m.skew.Store(int64(2 * time.Hour))
	}
}

// converge waits until all roots are equal, and no node waits for anything.
func (h *history) converge() {
	within, start := 10*time.Minute, time.Now()
	if h.skew {
		within = 20 * time.Minute
	}
	for {
		what := h.difference()
		if what == "" {
			h.note("converged after %v", time.Since(start))
			return
		}
		if time.Since(start) > within {
			h.fail("after %v: %s", time.Since(start), what)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func (h *history) difference() string {
	first := h.rootsOf(h.all[0])
	for _, m := range h.all {
		roots := h.rootsOf(m)
		if len(roots) != 4 {
			return fmt.Sprintf("%s has %d collections", m.name(), len(roots))
		}
		for name, s := range roots {
			if m == h.part && name != "City" || name == "Memo" {
				continue
			}
			if f := first[name]; f.Root != s.Root || f.Documents != s.Documents {
				return fmt.Sprintf("%s: %s has root %x of %d, %s has %x of %d", name, h.all[0].name(), f.Root[:4], f.Documents, m.name(), s.Root[:4], s.Documents)
			}
		}
	}
	if what := h.memos.difference(h); what != "" {
		return what
	}
	if h.part != nil {
		for c, at := range h.acked { // also what does not belong to its part
			if _, err := h.all[0].db.Replica().Block(h.t.Context(), c); err != nil && at == h.part.name() {
				return fmt.Sprintf("%s lacks the commit %s that %s acknowledged: %v", h.all[0].name(), c, at, err)
			}
		}
		if a, b := h.pages(h.all[0]), h.pages(h.part); a != b {
			return fmt.Sprintf("of the pages with %s, %s has %s\n%s has %s", modelPart, h.all[0].name(), a, h.part.name(), b)
		}
	}
	return ""
}

// pages returns the pages that a machine which keeps a part must have.
func (h *history) pages(m *machine) string {
	res := m.db.Exec(h.t.Context(), pando.Request{Query: `{ Page(filter: ` + modelPart + `, order: {_docID: ASC}) { _docID title hits tags _version { cid } } }`})
	if err := res.Err(); err != nil {
		h.fail("%s: %v", m.name(), err)
	}
	return string(res.Data)
}

// compare requires that equal roots are equal contents, that nothing acknowledged is
// lost, and that nothing is left over.
func (h *history) compare() {
	for _, m := range h.all {
		for c, at := range h.acked {
			if m == h.part && at != m.name() {
				continue
			}
			if _, err := m.db.Replica().Block(h.t.Context(), c); err != nil {
				h.fail("%s lacks the commit %s that %s acknowledged: %v", m.name(), c, at, err)
			}
		}
	}
	first := h.contents(h.all[0])
	for _, m := range h.all[1:] {
		if got := h.contents(m); got != first && m != h.part {
			h.fail("roots are equal, contents are not:\n%s: %s\n%s: %s", h.all[0].name(), first, m.name(), got)
		}
	}
	h.counters(h.all[0])
	h.quiet()
}

func (h *history) contents(m *machine) string {
	res := m.db.Exec(h.t.Context(), pando.Request{Query: `{
		Page(showDeleted: true, order: {_docID: ASC}) { _docID _deleted title hits tags text _version { cid } }
		City(showDeleted: true, order: {_docID: ASC}) { _docID _deleted name people visits _version { cid } }
		Note(showDeleted: true, order: {_docID: ASC}) { _docID _deleted text votes _version { cid } } }`})
	if err := res.Err(); err != nil {
		h.fail("%s: %v", m.name(), err)
	}
	return string(res.Data)
}

// counters requires that each counter came to the sum of what was added, once.
func (h *history) counters(m *machine) {
	for _, d := range h.docs {
		c := h.adds[d.id]
		if c == nil {
			continue
		}
		field := map[string]string{"Page": "hits", "City": "visits", "Note": "votes"}[d.collection]
		res := m.db.Exec(h.t.Context(), pando.Request{Query: fmt.Sprintf(`{ %s(docID: "%s") { %s } }`, d.collection, d.id, field)})
		if err := res.Err(); err != nil {
			h.fail("%s: %v", m.name(), err)
		}
		_, rest, ok := strings.Cut(string(res.Data), `"`+field+`":`)
		if !ok {
			continue // deleted
		}
		got, _ := strconv.Atoi(strings.TrimRight(rest, "}]"))
		if !possible(got-c.sum, c.doubt) {
			h.fail("%s of %s is %d, want %d and perhaps some of %v", field, d.id, got, c.sum, c.doubt)
		}
	}
}

// possible reports whether some of the numbers have that sum.
func possible(sum int, of []int) bool {
	sums := map[int]bool{0: true}
	for _, n := range of {
		for s := range maps.Clone(sums) {
			sums[s+n] = true
		}
	}
	return sums[sum]
}

// quiet requires that after some time no node waits for anything or serves anybody.
func (h *history) quiet() {
	start := time.Now()
	for {
		what := ""
		for _, m := range h.all {
			c := m.node.Counters()
			m.node.mu.Lock()
			serving := 0
			for _, streams := range m.node.serving { // a part that is watched live is served all the time
				serving += streams[aSession] + streams[aFetch]
			}
			m.node.mu.Unlock()
			if c.Wants > 0 || serving > 0 {
				what = fmt.Sprintf("%s has %d wants, and serves %d streams", m.name(), c.Wants, serving)
			}
			if c.Mismatches+c.Breaches+c.InvalidCommits > 0 {
				h.fail("%s counts %d mismatches, %d breaches, %d invalid commits", m.name(), c.Mismatches, c.Breaches, c.InvalidCommits)
			}
		}
		if what == "" {
			return
		}
		if time.Since(start) > 20*time.Minute {
			h.fail("all is equal, and %v later %s", time.Since(start), what)
		}
		time.Sleep(time.Second)
	}
}
