package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
)

// Histories of rights: a few people, each with a machine, give each other what they
// write, take it back, give it away, form groups and leave them, write what does not
// count and accept it, while links are cut and machines restart. In the end, when
// everybody is connected, nobody holds what somebody else should have, and no status
// tells of a difference that is none.

const rightsPolicy = `
name: rights
actor: {name: actor}
resources:
  paper:
    permissions: {read: {expr: owner + reader + writer}, update: {expr: owner + writer}, delete: {expr: owner + writer}}
    relations:
      owner: {types: [actor]}
      reader: {types: [actor]}
      writer: {types: [actor]}
      admin: {types: [actor], manages: [reader, writer]}
  crew:
    permissions: {read: {expr: owner + member + guest}, update: {expr: owner}, delete: {expr: owner}}
    relations:
      owner: {types: [actor]}
      member: {types: [actor]}
      guest: {types: [actor]}
      head: {types: [actor], manages: [member, guest]}
`

// TestHistoriesOfRights runs histories drawn from the numbers 1 to 20; with PANDO_LONG=1 to
// 1000, and PANDO_SEEDS=from-to says otherwise.
func TestHistoriesOfRights(t *testing.T) {
	from, to := 1, 20
	if raceDetector {
		t.Skip("the race detector and virtual time do not go together")
	}
	if os.Getenv("PANDO_LONG") != "" {
		to = 1000
	}
	eachSeed(t, from, to, func(t *testing.T, seed uint64) {
		h := newRightsHistory(t, seed)
		defer h.close()
		h.run()
	})
}

// rightsHistory is one of them.
type rightsHistory struct {
	t       *testing.T
	rng     *rand.Rand
	net     *modelNet
	all     []*machine
	docs    []rightsDoc
	trace   []string
	start   time.Time
	groups  bool // people form some
	faults  bool // links are cut, and machines restart
	excused map[excuse]bool
}

type rightsDoc struct {
	collection string
	id         pando.DocID
}

func newRightsHistory(t *testing.T, seed uint64) *rightsHistory {
	h := &rightsHistory{t: t, rng: rand.New(rand.NewPCG(seed, 11)), start: time.Now(), excused: map[excuse]bool{}}
	h.net = newModelNet(rand.New(rand.NewPCG(seed, 12)), time.Duration(1+h.rng.IntN(40))*time.Millisecond)
	for i := range 3 + h.rng.IntN(3) {
		h.all = append(h.all, newMachine(t, h.net, i))
	}
	h.groups, h.faults = h.rng.IntN(2) == 0, h.rng.IntN(2) == 0
	return h
}

func (h *rightsHistory) note(format string, args ...any) {
	line := fmt.Sprintf("%8.3f ", time.Since(h.start).Seconds()) + fmt.Sprintf(format, args...)
	h.trace = append(h.trace, line)
	if os.Getenv("PANDO_LOG") != "" {
		fmt.Fprintln(os.Stderr, line)
	}
}

func (h *rightsHistory) fail(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(h.trace, "\n"))
}

func (h *rightsHistory) close() {
	h.net.heal()
	for _, m := range h.all {
		m.shut()
	}
}

func (h *rightsHistory) one(n int) int     { return h.rng.IntN(n) }
func (h *rightsHistory) chance(n int) bool { return h.rng.IntN(n) == 0 }

func (h *rightsHistory) run() {
	for i, m := range h.all {
		m.boot()
		if i == 0 {
			id, err := m.db.AddPolicy(h.t.Context(), rightsPolicy)
			if err != nil {
				h.t.Fatal(err)
			}
			addSchema(h.t, m.db, fmt.Sprintf(`
				type Paper @policy(id: %q, resource: "paper") { text: String  marks: Int @crdt(type: pncounter) }
				type Crew @policy(id: %q, resource: "crew") { name: String }`, id, id))
		}
	}
	for _, m := range h.all {
		m.join(h.all...)
	}
	eventually(h.t, 5*time.Minute, func() (bool, string) {
		for _, m := range h.all {
			if len(m.db.Collections()) != 2 {
				return false, m.name() + " has no collections"
			}
		}
		return true, ""
	})
	h.note("%d machines, groups: %v, faults: %v", len(h.all), h.groups, h.faults)
	for range 10 + h.one(30) {
		h.pause()
		if h.faults && h.chance(8) {
			h.fault()
		} else {
			h.step()
		}
	}
	h.note("mend")
	h.net.heal()
	h.settle()
}

// pause lets some time pass.
func (h *rightsHistory) pause() {
	d := time.Duration(h.one(300)) * time.Millisecond
	switch {
	case h.chance(3):
		d = 0
	case h.chance(3):
		d = time.Duration(h.one(5000)) * time.Millisecond
	case h.chance(12):
		d = time.Duration(h.one(100)) * time.Second
	}
	time.Sleep(d)
}

func (h *rightsHistory) fault() {
	switch m := h.all[h.one(len(h.all))]; {
	case h.chance(4):
		h.note("%s restarts", m.name())
		if err := m.shut(); err != nil {
			h.fail("%s does not close: %v", m.name(), err)
		}
		m.boot()
		m.join(h.all...)
	case h.chance(3):
		h.note("all links are whole")
		h.net.heal()
	default:
		a, b := h.one(len(h.all)), h.one(len(h.all))
		if a != b {
			yes := h.chance(2)
			h.note("link %s-%s cut: %v", h.all[a].name(), h.all[b].name(), yes)
			h.net.cut(a, b, yes)
		}
	}
}

// subject is whom something is granted to: somebody, everybody, or a group.
func (h *rightsHistory) subject() (text, name string) {
	switch {
	case h.chance(10):
		return "*", "*"
	case h.groups && h.chance(3):
		for _, d := range h.docs {
			if d.collection == "Crew" && h.chance(2) {
				r := []string{"member", "guest"}[h.one(2)]
				return d.id.String() + "#" + r, h.called(d) + "#" + r
			}
		}
	}
	m := h.all[h.one(len(h.all))]
	return m.who.Public().String(), m.name()
}

func (h *rightsHistory) called(d rightsDoc) string {
	return strings.ToLower(d.collection[:1]) + strconv.Itoa(slices.Index(h.docs, d))
}

// step lets somebody do something, who may not be allowed to.
func (h *rightsHistory) step() {
	m := h.all[h.one(len(h.all))]
	if len(h.docs) == 0 || h.chance(8) {
		h.begin(m)
		return
	}
	d := h.docs[h.one(len(h.docs))]
	if h.chance(2) { // mostly somebody who may
		for _, other := range h.all {
			if a, err := other.db.Access(h.t.Context(), d.collection, d.id); err == nil && string(a.Owner) == string(other.who.Public().DID()) {
				m = other
			}
		}
	}
	what, err := h.does(m, d)
	h.note("%s: %s %s: %v", m.name(), h.called(d), what, err)
	if err != nil && !errors.Is(err, pando.ErrDenied) && !errors.Is(err, pando.ErrNotFound) && !errors.Is(err, pando.ErrInvalid) {
		h.fail("%s: %v", m.name(), err)
	}
}

func (h *rightsHistory) begin(m *machine) {
	d := rightsDoc{collection: "Paper"}
	values := map[string]any{"text": fmt.Sprint("paper ", len(h.docs))}
	if h.groups && h.chance(3) {
		d.collection, values = "Crew", map[string]any{"name": fmt.Sprint("crew ", len(h.docs))}
	}
	sealed := h.chance(4)
	err := m.db.Update(h.t.Context(), func(tx *pando.Tx) error {
		docs, err := tx.Collection(d.collection)
		if err != nil {
			return err
		}
		var made pando.Document
		if sealed {
			made, err = docs.CreateEncrypted(values)
		} else {
			made, err = docs.Create(values)
		}
		d.id = made.ID
		return err
	})
	if err != nil {
		h.fail("%s: %v", m.name(), err)
	}
	h.docs = append(h.docs, d)
	h.note("%s: begins %s, sealed: %v", m.name(), h.called(d), sealed)
}

func (h *rightsHistory) does(m *machine, d rightsDoc) (what string, err error) {
	relations := []string{"reader", "writer", "admin"}
	if d.collection == "Crew" {
		relations = []string{"member", "guest", "head"}
	}
	ctx, relation := h.t.Context(), relations[h.one(3)]
	switch x := h.one(20); {
	case x < 7:
		text, name := h.subject()
		who, err := pando.ParseSubject(text)
		if err == nil {
			_, err = m.db.Grant(ctx, d.collection, d.id, relation, who)
		}
		return "grant " + relation + " to " + name, err
	case x < 10:
		a, err := m.db.Access(ctx, d.collection, d.id)
		if err != nil || len(a.Tuples) == 0 {
			return "revoke nothing", err
		}
		tuple := a.Tuples[h.one(len(a.Tuples))]
		who, err := pando.ParseSubject(tuple.Subject)
		if err == nil {
			_, err = m.db.Revoke(ctx, d.collection, d.id, tuple.Relation, who)
		}
		return "revoke " + tuple.Relation + " from " + h.nameOf(tuple.Subject), err
	case x < 13:
		to := h.all[h.one(len(h.all))]
		return "transfer to " + to.name(), m.db.Transfer(ctx, d.collection, d.id, to.who.Public().DID())
	case x < 14:
		n, err := m.db.Accept(ctx, d.collection, d.id)
		return fmt.Sprint("accept ", n), err
	case x < 15:
		return "delete", m.db.Update(ctx, func(tx *pando.Tx) error {
			docs, err := tx.Collection(d.collection)
			if err == nil {
				err = docs.Delete(d.id)
			}
			return err
		})
	}
	values := map[string]any{"marks": 1}
	if d.collection == "Crew" {
		values = map[string]any{"name": fmt.Sprint("crew renamed ", h.one(1000))}
	}
	return "edit", m.db.Update(ctx, func(tx *pando.Tx) error {
		docs, err := tx.Collection(d.collection)
		if err == nil {
			_, err = docs.Update(d.id, values)
		}
		return err
	})
}

func (h *rightsHistory) nameOf(subject string) string {
	for _, m := range h.all {
		if m.who.Public().String() == subject {
			return m.name()
		}
	}
	for _, d := range h.docs {
		if rest, ok := strings.CutPrefix(subject, d.id.String()); ok {
			return h.called(d) + rest
		}
	}
	return subject
}

// settle requires that whoever may read something comes to have it, and that no status
// tells of anything else soon after, and then ever.
func (h *rightsHistory) settle() {
	start, patience := time.Now(), 10*time.Minute
	eventually(h.t, patience, func() (bool, string) {
		for _, m := range h.all {
			if len(m.node.connected()) < len(h.all)-1 {
				return false, m.name() + " is not connected with all others"
			}
		}
		return true, ""
	})
	for what := h.owed(); what != ""; what = h.owed() {
		if time.Since(start) > patience {
			h.excuse()
			if what := h.owed(); what != "" {
				h.fail("after %v: %s", time.Since(start), what)
			}
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	h.note("nobody is owed anything after %v", time.Since(start))
	for i, d := range []time.Duration{20 * time.Second, 30 * time.Second, 2 * time.Minute, 20 * time.Minute} {
		time.Sleep(d)
		if what := h.owed(); what != "" {
			h.fail("at look %d: %s", i, what)
		}
		what := h.told()
		if what != "" && (h.groups || h.faults) {
			// Two who know different things of rights, or cannot check the same, find out by comparing.
			h.note("at look %d: %s", i, what)
			time.Sleep(5 * time.Second)
			what = h.told()
		}
		if what != "" {
			h.fail("at look %d: %s", i, what)
		}
	}
	for _, m := range h.all {
		if c := m.node.Counters(); c.Mismatches+c.Breaches+c.InvalidCommits+c.Blamed > 0 {
			h.fail("%s: %+v", m.name(), c)
		}
	}
}

// owed says what somebody holds that somebody else may have, and has not.
func (h *rightsHistory) owed() string {
	for _, m := range h.all {
		for _, other := range h.all {
			if docs := h.owes(m, other); len(docs) > 0 {
				return fmt.Sprintf("%s owes %s %s", m.name(), other.name(), docs)
			}
		}
	}
	return ""
}

// owes returns the documents that a machine could give another something of.
func (h *rightsHistory) owes(m, other *machine) (all []string) {
	for _, d := range h.docs {
		if h.excused[excuse{other, d.id}] {
			continue
		}
		if len(h.lacks(m, other, d)) > 0 {
			all = append(all, h.called(d))
		}
	}
	return all
}

// lacks returns what a machine could give another of a document.
func (h *rightsHistory) lacks(m, other *machine, d rightsDoc) (lacks [][]byte) {
	ctx, by := context.Background(), pando.ReaderOf(other.who.Public())
	c, err := m.db.Collection(d.collection)
	if err != nil {
		h.fail("%v", err)
	}
	mine, theirs := h.heads(m, d), h.heads(other, d)
	if m == other || slices.Equal(mine, theirs) || len(mine) == 0 {
		return nil
	}
	if may, err := m.db.Replica().Readable(ctx, c.ID, d.id, by); err != nil {
		h.fail("%v", err)
	} else if !may {
		return nil
	}
	for b, err := range m.db.Replica().Pack(ctx, c.ID, []pando.Want{{Doc: d.id, Have: theirs}}) {
		if err != nil {
			h.fail("%v", err)
		}
		if _, err := other.db.Replica().Block(ctx, b.CID); err != nil {
			lacks = append(lacks, bytes.Clone(b.Envelope))
		}
	}
	return lacks
}

// excuse says who cannot take what of a document, because he may not read the group of who
// wrote it.
func (h *rightsHistory) excuse() {
	for _, d := range h.docs {
		for _, m := range h.all {
			for _, other := range h.all {
				lacks := h.lacks(m, other, d)
				if len(lacks) == 0 {
					continue
				}
				c, _ := m.db.Collection(d.collection)
				got, err := other.db.Replica().Merge(context.Background(), c.ID, lacks, "")
				if err != nil {
					h.fail("%s owes %s of %s what it does not take: %v", m.name(), other.name(), h.called(d), err)
				}
				if got.Applied > 0 || len(got.Awaits) == 0 {
					h.fail("%s owes %s of %s: %+v", m.name(), other.name(), h.called(d), got)
				}
				h.note("%s cannot take what %s has of %s", other.name(), m.name(), h.called(d))
				h.excused[excuse{other, d.id}] = true
			}
		}
	}
}

// excuse is who cannot take a document.
type excuse struct {
	of  *machine
	doc pando.DocID
}

// excuses returns how many documents two machines may differ by.
func (h *rightsHistory) excuses(a, b *machine, collection string) (n uint64) {
	for _, d := range h.docs {
		if d.collection == collection && (h.excused[excuse{a, d.id}] || h.excused[excuse{b, d.id}]) {
			n++
		}
	}
	return n
}

func (h *rightsHistory) heads(m *machine, d rightsDoc) []pando.CID {
	c, err := m.db.Collection(d.collection)
	if err != nil {
		h.fail("%v", err)
	}
	heads, err := m.db.Replica().Heads(context.Background(), c.ID, d.id)
	if err != nil {
		h.fail("%v", err)
	}
	return heads
}

// told says what a status tells of a difference though there is none.
func (h *rightsHistory) told() string {
	var all []string
	for _, m := range h.all {
		st, err := m.node.Status(h.t.Context())
		if err != nil {
			h.fail("%v", err)
		}
		for _, p := range st.Peers {
			for _, c := range p.Collections {
				other := h.all[slices.IndexFunc(h.all, func(x *machine) bool { return x.id().String() == p.ID })]
				if c.State != Identical && (c.State != Differs || c.Differ > h.excuses(m, other, c.Name)) {
					all = append(all, fmt.Sprintf("%s of %s: %s %s, %d differ %s", m.name(), other.name(), c.Name, c.State, c.Differ, c.Problem))
				}
			}
		}
	}
	if len(all) == 0 {
		return ""
	}
	for i, d := range h.docs {
		by := map[string]string{}
		for _, m := range h.all {
			by[m.name()] = fmt.Sprint(len(h.heads(m, d)), " ", h.heads(m, d))
		}
		all = append(all, fmt.Sprint(i, " ", h.called(d), " ", by))
	}
	return strings.Join(all, "\n")
}
