package p2p

import (
	"context"
	"errors"
	"iter"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
)

// reader is a peer as one collection sees it: what this node says to the peer about
// documents of the collection, it reads through here. Of a collection with a policy
// that is what the peer may read by what is known now; the rest does not exist. It
// serves for one question, or one batch: the next may come from other identities.
type reader struct {
	*pando.Replica // as the peer sees it
	n              *Node
	peer           peer.ID
	id             dag.CollectionID
	all            bool // there is no policy: it may read everything
	by             pando.Reader
}

// reader returns a peer as a collection sees it.
func (n *Node) reader(p peer.ID, id dag.CollectionID) *reader {
	r := &reader{Replica: n.replica, n: n, peer: p, id: id, all: !n.protected(id)}
	if !r.all {
		r.by = n.readerOf(p)
		r.Replica = n.replica.For(r.by)
	}
	return r
}

// readerOf returns all that a peer may read as.
func (n *Node) readerOf(p peer.ID) pando.Reader {
	r := pando.ReaderOf(n.identities.keys(p, n.replica.Now())...)
	r.Hub, r.Blind = n.hubs.has(p), n.identities.blind(p)
	return r
}

// ownReader returns all that this node itself may read as.
func (n *Node) ownReader() pando.Reader {
	r := pando.ReaderOf(n.identities.ownKeys(n.replica.Now())...)
	r.Blind = n.identities.own.Blind
	return r
}

// protected reports whether not everybody may read all of a collection.
func (n *Node) protected(id dag.CollectionID) bool { return n.replica.Protected(id) }

// may reports whether the peer may be told of a document. If it may not, it asked for
// something that is not its business, or does not know yet that it is no more.
func (r *reader) may(ctx context.Context, doc dag.DocID) (bool, error) {
	if r.all {
		return true, nil
	}
	may, err := r.Readable(ctx, r.id, doc, r.by)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	return may, err
}

// only returns those of some documents that the peer may be told of.
func (r *reader) only(ctx context.Context, docs []dag.DocID) ([]dag.DocID, error) {
	if r.all {
		return docs, nil
	}
	var out []dag.DocID
	for _, doc := range docs {
		may, err := r.may(ctx, doc)
		if err != nil {
			return nil, err
		}
		if may {
			out = append(out, doc)
		}
	}
	return out, nil
}

// those returns which of some commits the peer may be told of.
func (r *reader) those(ctx context.Context, commits []dag.CID) ([]dag.CID, error) {
	if r.all {
		return commits, nil
	}
	var out []dag.CID
	for _, c := range commits {
		switch _, err := r.Block(ctx, c); {
		case err == nil:
			out = append(out, c)
		case !errors.Is(err, fault.NotFound):
			return nil, err
		}
	}
	return out, nil
}

// side is this node's side of a comparison with the peer: what it may read here.
func (r *reader) side(ctx context.Context) (local, error) {
	if r.all {
		return side{r.n.replica, r.id}, nil
	}
	part, _, err := r.n.parts.seen(ctx, r)
	if err != nil {
		return nil, err
	}
	return partSide{part}, nil
}

// summary is how this node's side stands.
func (r *reader) summary(ctx context.Context) (pando.Summary, error) {
	if r.all {
		return r.n.replica.Summary(ctx, r.id)
	}
	if !r.n.has(r.id) {
		return pando.Summary{}, fault.NotFound.Errorf("collection %s is unknown", r.id)
	}
	_, sum, err := r.n.parts.seen(ctx, r)
	return sum, err
}

// beginning returns the documents whose IDs begin with some bytes, as many as there
// can be in a leaf.
func (r *reader) beginning(ctx context.Context, first []byte) ([]dag.DocID, error) {
	if len(first) == 32 {
		return r.only(ctx, []dag.DocID{dag.DocID(first)})
	}
	in, err := r.side(ctx)
	if err != nil {
		return nil, err
	}
	var key [32]byte
	copy(key[:], first)
	var docs []dag.DocID
	for e, err := range in.Elements(ctx, radix.PrefixOf(key, 2*len(first))) {
		if err != nil {
			return nil, err
		}
		if docs = append(docs, e.Key); len(docs) == leafDocuments {
			break
		}
	}
	return docs, nil
}

// blocksAfter yields every commit of the documents after one, in the order of docIDs. Of
// many documents that the peer may not read nothing is read.
func (r *reader) blocksAfter(ctx context.Context, after dag.DocID) iter.Seq2[pando.Block, error] {
	if r.all {
		return r.Full(ctx, r.id, after)
	}
	return func(yield func(pando.Block, error) bool) {
		in, err := r.side(ctx)
		if err != nil {
			yield(pando.Block{}, err)
			return
		}
		for wants, err := range wantsAfter(ctx, in, after) {
			if err != nil {
				yield(pando.Block{}, err)
				return
			}
			for b, err := range r.Pack(ctx, r.id, wants) {
				if !yield(b, err) || err != nil {
					return
				}
			}
		}
	}
}

// wantsAfter yields requests for the documents after one, some at a time.
func wantsAfter(ctx context.Context, in local, after dag.DocID) iter.Seq2[[]pando.Want, error] {
	const atOnce = 64
	return func(yield func([]pando.Want, error) bool) {
		var wants []pando.Want
		for first := int(after[0]); first < 256; first++ {
			for e, err := range in.Elements(ctx, radix.PrefixOf([32]byte{byte(first)}, 2)) {
				if err != nil {
					yield(nil, err)
					return
				}
				if after.Compare(e.Key) >= 0 {
					continue
				}
				if wants = append(wants, pando.Want{Doc: e.Key}); len(wants) < atOnce {
					continue
				}
				if !yield(wants, nil) {
					return
				}
				wants = nil
			}
		}
		if len(wants) > 0 {
			yield(wants, nil)
		}
	}
}

// logLookups is what it costs to look through so many entries of the feed, in lookups,
// though nothing of them may be for the peer: 3 µs each where it is asked who may read,
// else far less.
func (r *reader) logLookups(entries uint64) int64 {
	if r.all {
		return int64(entries / 64)
	}
	return int64(entries / 4)
}

// deny counts that a peer asked for what it may not read, or what is not here: who
// asked for it by its name.
func (r *reader) deny(what string, doc dag.DocID) {
	if r.all {
		return
	}
	r.n.count.Denied.Add(1)
	r.n.denied(DeniedReading, r.peer, what, r.id)
	r.n.log.Debug("a peer asked for a document that does not exist for it", "peer", r.peer, "collection", r.id, "document", doc, "by", what)
}

// seen returns the tree over what a peer may read and that belongs to all of some
// scopes, and how it stands now.
func (ps *partTrees) seen(ctx context.Context, r *reader, scopes ...Scope) (*pando.Part, pando.Summary, error) {
	if r.all {
		return ps.of(ctx, r.id, scopes...)
	}
	key := treeKey{partKey(r.id, scopes), true, r.by}
	return ps.get(ctx, key, func() (*pando.Part, error) { return ps.replica.View(r.id, r.by, scopes...) })
}

// unsaidCount stands in a card for a count that is not told yet: what a peer may read is
// told when it has proved who it is, and that it is a member.
const unsaidCount = maxNumber - 1

func (c card) unsaid() bool { return c.Count == unsaidCount }

// unsaid is the card of a collection with a policy for a peer that has proved nothing.
func (n *Node) unsaid(ctx context.Context, id dag.CollectionID) card {
	return card{Epoch: n.epoch(), Schema: n.print(ctx, id), Count: unsaidCount, Clock: n.clock()}
}

func (n *Node) clock() uint64 { return uint64(max(n.replica.Now().UnixMilli(), 0)) }
