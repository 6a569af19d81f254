package p2p

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
)

// Two peers of which one keeps a part of a collection compare what belongs to that part;
// if both keep parts, what belongs to both. Each finds the documents among its own, so
// a document that changed in such a way that it belongs no longer differs too: it is
// brought up to date on both sides, and belongs on neither then.
//
// What a peer that keeps a part changed outside of it, nobody would find by comparing
// parts. It gives that itself, as its feed tells: a loose document.

// scopeSays tells what its sender keeps of a collection, or means to give of it. The
// answer is scopeAnswer.
type scopeSays struct {
	Collection uint64 // index in the responder's HELLO
	Scope      Scope
}

func (m *scopeSays) append(b []byte) []byte {
	return appendScope(cbor.AppendUint(begin(b, msgScope), m.Collection), m.Scope)
}

func readScopeSays(r *cbor.Reader) message { return &scopeSays{r.Uint(), readScope(r)} }

// scopeAnswer tells what the responder keeps, and how the documents that belong to both
// parts stand there. Why is set instead if they cannot be told: for people.
type scopeAnswer struct {
	Collection uint64
	Scope      Scope
	Count      uint64
	Root       rootSum
	Loose      uint64 // documents that the responder will give in a session of its own
	Why        string
}

func (m *scopeAnswer) append(b []byte) []byte {
	b = appendScope(cbor.AppendUint(begin(b, msgScoped), m.Collection), m.Scope)
	b = cbor.AppendBytes(cbor.AppendUint(b, m.Count), m.Root[:])
	return cbor.AppendText(cbor.AppendUint(b, m.Loose), m.Why)
}

func readScopeAnswer(r *cbor.Reader) message {
	m := &scopeAnswer{Collection: r.Uint(), Scope: readScope(r), Count: r.Uint()}
	exactly(r, "a root", m.Root[:])
	m.Loose, m.Why = r.Uint(), forPeople(r.Text())
	return m
}

// keepOffers says of collections that are offered next which part of them the receiver
// is meant to keep, if it has not got them yet.
type keepOffers struct{ Parts []keepOffer }

type keepOffer struct {
	Collection dag.CollectionID
	Scope      Scope
}

func (m *keepOffers) append(b []byte) []byte {
	b = cbor.AppendArray(begin(b, msgKeep), len(m.Parts))
	for _, p := range m.Parts {
		b = cbor.AppendBytes(cbor.AppendArray(b, 2), p.Collection[:])
		b = appendScope(b, p.Scope)
	}
	return b
}

func readKeepOffers(r *cbor.Reader) message {
	m := new(keepOffers)
	for n := list(r, "parts", maxOffers); n > 0 && r.Err() == nil; n-- {
		var p keepOffer
		tuple(r, 2)
		exactly(r, "a collection id", p.Collection[:])
		p.Scope = readScope(r)
		m.Parts = append(m.Parts, p)
	}
	return m
}

// partCount stands in a card for a count that says nothing, because the sender keeps a
// part: SCOPE says which.
const partCount = maxNumber

// partIndex is added to the index of a collection to mean the part of it that the last
// SCOPE was about.
const partIndex = maxCollections

func (c card) ofPart() bool { return c.Count == partCount }

// narrowed is what a session knows of a collection of which not all is compared.
type narrowed struct {
	part   *pando.Part // nil: it cannot be told, and why says so
	own    Scope       // what this side keeps or, of a replicator, gives
	theirs Scope
	keeps  bool // this node keeps less than all
	loose  []dag.DocID
	until  uint64 // of this node's feed: all that is loose is in there, all that is compared is of there
	why    string
}

// narrow finds the part of a collection to compare, if there is one.
func (s *session) narrow() error {
	for i := range s.pairs {
		p := &s.pairs[i]
		own, given := s.errand.parts[p.id]
		if !given {
			own = s.n.scopeOf(p.id)
		}
		if p.narrowed != nil || own.Whole && !p.theirs.ofPart() || !s.n.has(p.id) {
			continue
		}
		if err := s.w.send(&scopeSays{p.index, own}); err != nil {
			return err
		}
		answer, err := expect[*scopeAnswer](s.w)
		if err == nil && answer.Collection != p.index {
			err = breach("SCOPED about collection %d where one about %d should follow", answer.Collection, p.index)
		}
		if err != nil {
			return err
		}
		p.narrowed = &narrowed{own: own, theirs: answer.Scope, keeps: s.n.partial(p.id), why: answer.Why}
		if answer.Why == "" {
			if err := s.weigh(p, answer); err != nil {
				return err
			}
		}
		s.tellPart(p, answer)
	}
	return nil
}

// weigh compares what belongs to both parts.
func (s *session) weigh(p *pair, answer *scopeAnswer) error {
	x := p.narrowed
	part, sum, err := s.n.parts.seen(s.ctx, s.n.reader(s.peer, p.id), x.own, x.theirs)
	if errors.Is(err, fault.Invalid) || errors.Is(err, fault.TooLarge) {
		x.why = "what the peer keeps cannot be told here: " + err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	x.part = part
	p.mine.Count, p.theirs.Count = sum.Documents, answer.Count
	copy(p.mine.Root[:], sum.Root[:])
	p.theirs.Root = answer.Root
	if x.until = sum.Seq; x.keeps {
		x.loose, x.until, err = s.n.looseFor(s.ctx, sharing{s.peer, p.id}, p.theirs, part, x.theirs)
		x.until = min(x.until, sum.Seq) // what changed since then may be neither loose nor compared
	}
	return err
}

// looseFor finds what this node changed outside of a part since the peer last got that.
func (n *Node) looseFor(ctx context.Context, with sharing, theirs card, part *pando.Part, keeps Scope) (docs []dag.DocID, until uint64, err error) {
	after := n.parts.quietUntil(with, theirs.Epoch, keeps)
	if theirs.YourEpoch == n.epoch() {
		after = max(after, theirs.Cursor)
	}
	for more := true; more && len(docs) == 0; after = until {
		if docs, until, more, err = n.loose(ctx, with.peer, with.collection, part, keeps, after); err == nil {
			docs, err = n.reader(with.peer, with.collection).only(ctx, docs)
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return docs, until, nil
}

// tellPart notes in the report how a part stands.
func (s *session) tellPart(p *pair, answer *scopeAnswer) {
	x, v := p.narrowed, s.report.Collections[p.id]
	v.Part, v.Problem, v.Equal = partText(x.own, x.theirs), strings.TrimRight(x.why, ". "), false
	v.Given, v.Keeps = x.own, x.theirs
	if x.part == nil {
		return
	}
	v.Mine, v.Theirs, v.Root = p.mine.Count, p.theirs.Count, p.mine.Root
	v.Loose = len(x.loose) + int(min(answer.Loose, maxLoose))
	v.Alike = p.equal()
	v.Equal = v.Alike && v.Loose == 0
	s.n.contacts.compared(sharing{s.peer, p.id}, v.Equal)
	if p.equal() && x.keeps && x.theirs.Whole && !p.theirs.Lacks {
		s.n.covered(p.id, x.own, s.peer, s.since)
	}
}

// partText says which documents are compared, for people.
func partText(own, theirs Scope) string {
	switch {
	case own.Whole || own.Equal(theirs):
		return theirs.String()
	case theirs.Whole:
		return own.String()
	}
	return own.String() + "; of these, " + theirs.String()
}

// settled reports whether there is nothing to do about a part.
func (s *session) settled(p pair) bool {
	x := p.narrowed
	if x.part != nil && p.equal() && len(x.loose) == 0 && (x.keeps || x.own.Whole) {
		s.n.parts.setQuiet(sharing{s.peer, p.id}, p.theirs.Epoch, x.until, x.theirs)
	}
	return x.part == nil || p.equal() && len(x.loose) == 0
}

// mendPart brings a part of a collection together, and gives what is loose.
func (s *session) mendPart(p pair) error {
	x, here := p.narrowed, sharing{s.peer, p.id}
	v := s.report.Collections[p.id]
	var found difference
	if !p.equal() {
		var err error
		if found, err = s.walkPart(p); err != nil {
			return err
		}
	}
	early, moved := s.n.later.filter(here, &found), s.report.Applied+s.report.Taken
	var docs []dag.DocID
	defer func() {
		refuses := len(docs) > 0 && s.n.later.refuses(here)
		if (early > 0 || refuses) && s.report.Applied+s.report.Taken == moved && !found.Cut {
			s.n.later.rest(here, p.mine.Root, p.theirs.Root)
		}
	}()
	s.cut = s.cut || found.Cut
	if s.n.protected(p.id) && found.size() == 0 && !found.Cut && early == 0 && len(x.loose) == 0 && !s.errand.pushOnly {
		s.agrees(p)
		return nil
	}
	var unknown [][]byte
	var err error
	if !s.n.protected(p.id) {
		docs, unknown, err = s.sort(p, found)
	} else if docs = s.here(p, found); !s.errand.pushOnly {
		err = s.fetchShown(p, found.Theirs)
	}
	if err != nil {
		return err
	}
	there := map[dag.DocID][]dag.CID{}
	if err := s.fetchPart(p, docs, unknown, there); err != nil {
		return err
	}
	whole := !found.Cut && early == 0 && !s.n.later.refuses(here)
	if len(unknown) == 0 && early == 0 && len(docs) > 0 && len(x.loose) == 0 {
		same, err := s.holdTheSame(p.id, docs, there)
		if err != nil {
			return err
		}
		if same && !s.n.protected(p.id) { // no commit can bring them together
			s.n.contacts.otherwise(here)
			s.n.later.rest(here, p.mine.Root, p.theirs.Root)
			s.early[p.id] = true
			v.Acked = whole && s.errand.pushOnly
			return nil
		}
	}
	if len(docs) == 0 || s.n.later.refuses(here) {
		v.Acked = whole && s.errand.pushOnly
		return nil
	}
	mark := uint64(0)
	if whole && x.keeps && x.theirs.Whole && !s.errand.pushOnly {
		mark = x.until // what lies in the part is given, and what is loose
	}
	err = s.give(p, mark, found.sums, nil, func(out *sender) error {
		for _, doc := range docs {
			if err := out.sendDocument(s.ctx, pando.Want{Doc: doc, Have: there[doc]}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if v.Acked = v.Complete && whole; v.Acked && x.keeps {
		s.n.parts.setQuiet(here, p.theirs.Epoch, x.until, x.theirs)
	}
	return nil
}

// holdTheSame reports whether some documents have the same heads here and there, as far
// as is known.
func (s *session) holdTheSame(id dag.CollectionID, docs []dag.DocID, there map[dag.DocID][]dag.CID) (bool, error) {
	for _, doc := range docs {
		own, err := s.n.replica.Heads(s.ctx, id, doc)
		if err != nil || len(own) != len(there[doc]) {
			return false, err
		}
		shown := make(map[dag.CID]bool, len(own))
		for _, c := range there[doc] {
			shown[c] = true
		}
		if slices.ContainsFunc(own, func(c dag.CID) bool { return !shown[c] }) {
			return false, nil
		}
	}
	return true, nil
}

// otherwiseHint says why a part differs in which no document does, and what to do.
const otherwiseHint = "both hold the same commits of these documents, and read them by different versions of the schema, so that the filter means something else: use the same version on both (pando schema activate)"

func (s *session) walkPart(p pair) (difference, error) {
	q := p
	q.index += partIndex
	w := s.walker(p, partSide{p.narrowed.part}, maxFound)
	if s.errand.pushOnly {
		w.giving, w.limit = true, math.MaxInt
	}
	err := w.run(s.asker(q))
	return w.found, err
}

// sort parts what differs into documents that are here and those that are not: one that
// belongs only there may be here all the same, as it was before.
func (s *session) sort(p pair, found difference) (docs []dag.DocID, unknown [][]byte, err error) {
	docs = s.here(p, found)
	for _, first := range found.Theirs {
		var key [32]byte
		copy(key[:], first)
		known := false
		for e, err := range s.n.replica.Elements(s.ctx, p.id, radix.PrefixOf(key, 2*len(first))) {
			if err != nil {
				return nil, nil, err
			}
			docs, known = append(docs, e.Key), true
		}
		if !known {
			unknown = append(unknown, first)
		}
	}
	slices.SortFunc(docs, dag.DocID.Compare)
	return slices.Compact(docs), unknown, nil
}

// here are the documents that differ and that the peer is shown, or given.
func (s *session) here(p pair, found difference) []dag.DocID {
	docs := slices.Concat(found.Both, found.Mine, p.narrowed.loose)
	slices.SortFunc(docs, dag.DocID.Compare)
	return slices.Compact(docs)
}

// fetchPart gets what is lacking here, and learns the peer's heads of what is here.
func (s *session) fetchPart(p pair, docs []dag.DocID, unknown [][]byte, there map[dag.DocID][]dag.CID) error {
	if s.errand.pushOnly {
		return s.askHeads(p, docs, there)
	}
	got, err := s.n.fetchDifference(s.ctx, s.peer, p.id, difference{Both: docs, Theirs: unknown}, func(h *heads) {
		for _, d := range h.Documents {
			there[d.Doc] = d.Heads
		}
	})
	s.fetched(p, got)
	return err
}

// countPart counts the documents of a part that differ.
func (s *session) countPart(p pair) error {
	v := s.report.Collections[p.id]
	if p.narrowed.part == nil || v.Equal {
		return nil
	}
	var found difference
	if !p.equal() {
		q := p
		q.index += partIndex
		var err error
		w := s.walker(p, partSide{p.narrowed.part}, maxCounted)
		if err = w.run(s.asker(q)); err != nil {
			return err
		}
		found = w.found
	}
	return s.counted(p, found) // what is loose may be there
}

// queryLookups is what it costs to find the documents of a part, in lookups: it may be a
// pass over the collection, which reads eight in the time of one lookup.
func queryLookups(c card) int64 {
	if c.ofPart() {
		return watchLookups
	}
	return watchLookups + int64(c.Count/8)
}

// passLookups is queryLookups of a collection.
func (n *Node) passLookups(ctx context.Context, id dag.CollectionID) int64 {
	sum, err := n.replica.Summary(ctx, id)
	if err != nil {
		return 1
	}
	return queryLookups(card{Count: sum.Documents})
}

// scope answers SCOPE.
func (s *service) scope(m *scopeSays) error {
	id, _, err := s.collection(m.Collection)
	if err != nil {
		return err
	}
	own := s.n.scopeOf(id)
	answer := &scopeAnswer{Collection: m.Collection, Scope: own}
	if own.Whole && m.Scope.Whole {
		answer.Why = "both sides keep all of it by now: compare again"
		return s.w.send(answer)
	}
	to := s.n.reader(s.peer, id)
	if !s.n.parts.has(to, own, m.Scope) {
		s.n.quotas.spend(s.peer, lookups, s.n.passLookups(s.ctx, id), time.Now())
	}
	part, sum, err := s.n.parts.seen(s.ctx, to, own, m.Scope)
	switch {
	case fault.Of(err) == fault.Invalid, fault.Of(err) == fault.TooLarge, fault.Of(err) == fault.NotFound:
		answer.Why = err.Error()
		return s.w.send(answer)
	case err != nil:
		return err
	}
	if s.parts == nil {
		s.parts = map[uint64]*pando.Part{}
	}
	s.parts[m.Collection] = part
	answer.Count = sum.Documents
	copy(answer.Root[:], sum.Root[:])
	if !own.Whole {
		docs, _, err := s.n.looseFor(s.ctx, sharing{s.peer, id}, s.their[id], part, m.Scope)
		if err != nil {
			return err
		}
		if answer.Loose = uint64(len(docs)); len(docs) > 0 {
			s.n.repair(s.peer) // to give them
		}
	}
	return s.w.send(answer)
}

// side is what a question of a walk is about: a collection, or a part of one.
func (s *service) side(index uint64) (local, error) {
	if index < partIndex {
		id, _, err := s.collection(index)
		if err != nil {
			return nil, err
		}
		return s.n.reader(s.peer, id).side(s.ctx)
	}
	part := s.parts[index-partIndex]
	if part == nil {
		return nil, breach("a question about a part of collection %d, of which none was named", index-partIndex)
	}
	_, _, err := s.collection(index - partIndex)
	return partSide{part}, err
}
