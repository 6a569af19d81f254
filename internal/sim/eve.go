package sim

import (
	"slices"
	"time"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// forge lets the adversary make a commit and send it to a node: one that breaks a
// rule, or one that keeps them all and is as nasty as they allow.
func (w *world) forge(to *node) {
	coll, parents := w.ground()
	c := &dag.Commit{Author: dag.Author{Key: w.eve.Public()}, Schema: coll.Version, Height: 1}
	var hlc uint64
	for _, p := range parents {
		c.Doc, c.Parents = p.Doc, append(c.Parents, p.CID)
		c.Height, hlc = max(c.Height, p.Height+1), max(hlc, p.HLC)
	}
	c.HLC = hlc + 1 + uint64(w.one(3)) // often equal to those of others
	if w.chance(3) {
		c.HLC = max(c.HLC, dag.HLC(w.now.Add(time.Duration(w.one(10))*time.Minute), 0)) // ahead, some too far
	}
	c.Deltas = w.junk(parents)
	if len(parents) == 0 {
		c.Root = &dag.RootSeed{Mode: dag.ModeContent, Collection: coll.ID, Seed: dag.ContentSeed(c.Deltas)}
		if coll.Access() != nil {
			c.Root.Mode, c.Root.Seed = dag.ModeOwned, dag.OwnedSeed(w.eve.Public(), c.Deltas)
		}
	}
	how, envelope := w.spoil(c, coll)
	w.note("eve: %s commit %s of %s %s to %s, height %d, %d ops", how, name(c.CID), coll.Name, name(c.Doc), to.name, c.Height, len(c.Deltas))
	pack := [][]byte{envelope}
	if how == "fair" {
		w.forged = append(w.forged, c)
	}
	// Sometimes she sends along what stands below, so that it can apply.
	for w.chance(2) && len(parents) > 0 {
		p := parents[0]
		pack = slices.Insert(pack, 0, p.Envelope())
		parents = nil
		for _, id := range p.Parents {
			parents = append(parents, w.find(id))
		}
	}
	w.send(message{from: to.place, to: to.place, coll: coll, pack: pack})
}

// ground chooses what a forged commit stands on: up to three commits of one
// document, any, or nothing.
func (w *world) ground() (*schema.Collection, []*dag.Commit) {
	if len(w.docs) == 0 || w.chance(6) {
		return pick(w, w.Collections), nil
	}
	d := pick(w, w.docs)
	var all []*dag.Commit
	for _, n := range w.nodes {
		for _, id := range n.of[d.id] {
			if c := w.commits[id]; !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	for _, c := range w.forged { // also what nobody took so far
		if c.Doc == d.id && !slices.Contains(all, c) && w.chance(2) {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return d.coll, nil
	}
	var parents []*dag.Commit
	for range 1 + w.one(3) {
		if c := pick(w, all); !slices.Contains(parents, c) {
			parents = append(parents, c)
		}
	}
	return d.coll, parents
}

// junk draws operations: of the right kinds and of wrong ones, void ones, several
// on one field, and overwriting what is not theirs to overwrite.
func (w *world) junk(parents []*dag.Commit) []crdt.Delta {
	var ops []crdt.Delta
	for range w.one(5) {
		ops = append(ops, w.op(parents))
	}
	return ops
}

var junkKinds = []crdt.Kind{
	crdt.KindStatus,
	crdt.KindOf(crdt.LWW, value.TypeString), crdt.KindOf(crdt.LWW, value.TypeInt),
	crdt.KindOf(crdt.PNCounter, value.TypeInt), crdt.KindOf(crdt.PCounter, value.TypeFloat64), crdt.KindOf(crdt.PCounter, value.TypeInt),
	crdt.KindOf(crdt.MVR, value.TypeString), crdt.KindOf(crdt.MVR, value.TypeString),
	crdt.KindOf(77, value.TypeString), // a rule of the future
}

func (w *world) op(parents []*dag.Commit) crdt.Delta {
	kind := pick(w, junkKinds)
	fields := []crdt.FieldID{crdt.FieldStatus, crdt.FirstField, crdt.FirstField + 1, crdt.FirstField + 2, crdt.FirstField + 3, 4000}
	b := cbor.AppendArray(nil, 3)
	b = cbor.AppendUint(b, uint64(pick(w, fields)))
	b = cbor.AppendUint(b, uint64(kind))
	if w.chance(5) {
		kind = pick(w, junkKinds) // the argument of another kind: mostly void
	}
	b = w.argument(b, kind)
	r := cbor.NewReader(b)
	d := crdt.ReadDelta(r)
	w.must(r.Done())
	return d
}

func (w *world) argument(b []byte, kind crdt.Kind) []byte {
	switch {
	case kind.Rule() == crdt.MVR:
		b = cbor.AppendText(cbor.AppendArray(b, 2), pick(w, contents))
		tags := w.tags()
		b = cbor.AppendArray(b, len(tags))
		for _, t := range tags {
			b = cbor.AppendBytes(cbor.AppendArray(b, 2), t.Commit[:])
			b = cbor.AppendUint(b, uint64(t.Op))
		}
		return b
	case kind.Rule() > crdt.MVR:
		return cbor.AppendBytes(b, []byte("whatever"))
	}
	switch kind.Type() {
	case value.TypeBoolean:
		return cbor.AppendBool(b, w.chance(2))
	case value.TypeInt:
		return cbor.AppendInt(b, int64(w.one(7)-3))
	case value.TypeFloat64:
		return cbor.AppendText(b, pick(w, []string{"0.5", "1.25", "-2", "0.50"}))
	}
	return cbor.AppendText(b, pick(w, contents))
}

// tags draws writes to overwrite: any commit of any document, or one that is
// still to come.
func (w *world) tags() (tags []crdt.Tag) {
	var ids []dag.CID
	for _, n := range w.nodes {
		for _, c := range n.feed {
			ids = append(ids, c.Commit)
		}
	}
	for _, c := range w.forged {
		ids = append(ids, c.CID)
	}
	for range w.one(4) {
		if len(ids) > 0 {
			tags = append(tags, crdt.Tag{Commit: pick(w, ids), Op: uint32(w.one(3))})
		}
	}
	if !w.chance(8) { // else void
		slices.SortFunc(tags, crdt.Tag.Compare)
		tags = slices.Compact(tags)
	}
	return tags
}

// spoil seals a commit, one time in two after breaking a rule.
func (w *world) spoil(c *dag.Commit, coll *schema.Collection) (how string, envelope []byte) {
	root := c.Root != nil
	how = "fair"
	if w.chance(2) {
		how = pick(w, []string{"too high", "too low", "too early", "strange parent", "badly signed", "altered", "misplaced"})
	}
	switch {
	case how == "too high" && !root:
		c.Height += 1 + uint64(w.one(5))
	case how == "too low" && !root && c.Height > 2:
		c.Height--
	case how == "too early" && !root:
		c.HLC = w.find(c.Parents[0]).HLC
	case how == "strange parent" && !root && w.stranger(c.Doc) != nil:
		p := w.stranger(c.Doc)
		c.Parents = append(c.Parents, p.CID)
		c.Height, c.HLC = max(c.Height, p.Height+1), max(c.HLC, p.HLC+1)
	case how == "misplaced" && root && len(w.Collections) > 1:
		c.Root.Collection = w.Collections[(slices.Index(w.Collections, coll)+1)%len(w.Collections)].ID
	case how == "badly signed", how == "altered":
	default:
		how = "fair"
	}
	envelope, err := dag.Seal(c, w.eve)
	w.must(err)
	if how == "fair" {
		return how, envelope
	}
	envelope = slices.Clone(envelope)
	switch how {
	case "badly signed":
		at := len(c.Header()) + 10 // in the signature, which follows the header
		envelope[at] ^= 1
		w.unsound[string(envelope)] = true
		return how, envelope // its CID may well come again, with a good signature
	case "altered":
		envelope[len(envelope)-1] ^= 1
		return how, envelope
	}
	w.invalid[c.CID] = true
	return how, envelope
}

func (w *world) find(id dag.CID) *dag.Commit {
	if c := w.commits[id]; c != nil {
		return c
	}
	for _, c := range w.forged {
		if c.CID == id {
			return c
		}
	}
	w.fail("no commit %s", name(id))
	return nil
}

// stranger returns a commit of another document, or nil.
func (w *world) stranger(doc dag.DocID) *dag.Commit {
	for _, n := range w.nodes {
		for _, c := range n.feed {
			if c.Doc != doc {
				return w.commits[c.Commit]
			}
		}
	}
	return nil
}
