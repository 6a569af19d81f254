package p2p

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
)

// later remembers what was exchanged in vain: commits from the future, or of a
// format that this node does not know, which stay a difference until their time
// comes. Asked for in every session they would cost as much as news. Nothing of it
// outlives the process.
type later struct {
	now func() time.Time // the clock by which commits come too early

	mu      sync.Mutex // guards what follows
	sharing map[sharing]*postponed
	docs    int // of all
}

// sharing is a collection as one peer has it.
type sharing struct {
	peer       peer.ID
	collection dag.CollectionID
}

type postponed struct {
	docs   map[short]time.Time // by the first 8 bytes of docIDs: ask again from then on
	refuse time.Time           // until then, the peer can do nothing with what is pushed
	// Of a collection with a policy it is of single documents that this is known, as they
	// were here: it may not read what tells who may write these.
	refused map[dag.DocID]refusal
	// The copies as they were when all their difference was postponed.
	mine, theirs rootSum
	until        time.Time
}

type refusal struct {
	sum   [32]byte // as in the tree
	until time.Time
}

const (
	// laterMost is how long something is postponed of which it is not known when its
	// time comes: programs are updated, and clocks set right, without telling.
	laterMost = 15 * time.Minute
	// maxLater bounds the documents remembered, of all peers.
	maxLater = 1 << 16
	// maxLaterOf bounds those of one copy of a collection, so that one peer leaves room
	// for others.
	maxLaterOf = maxLater / 4
)

func newLater(now func() time.Time) *later {
	return &later{now: now, sharing: map[sharing]*postponed{}}
}

// of returns what is postponed of a copy, less what is due. l.mu is held.
func (l *later) of(s sharing, now time.Time) *postponed {
	p := l.sharing[s]
	if p == nil {
		return &postponed{}
	}
	for doc, due := range p.docs {
		if !now.Before(due) {
			delete(p.docs, doc)
			l.docs--
		}
	}
	for doc, r := range p.refused {
		if !now.Before(r.until) {
			delete(p.refused, doc)
			l.docs--
		}
	}
	if len(p.docs)+len(p.refused) == 0 && now.After(p.refuse) && now.After(p.until) {
		delete(l.sharing, s)
	}
	return p
}

// change returns what is postponed of a copy, to be added to. l.mu is held.
func (l *later) change(s sharing, now time.Time) *postponed {
	for other := range l.sharing {
		l.of(other, now) // few have anything postponed
	}
	p := l.sharing[s]
	if p == nil {
		p = &postponed{docs: map[short]time.Time{}}
		l.sharing[s] = p
	}
	return p
}

func start(doc []byte) short { return short(doc[:8]) }

// postpone notes when to ask for documents again, by the beginnings of their IDs.
func (l *later) postpone(s sharing, docs map[short]time.Time) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.change(s, now)
	for doc, due := range docs {
		if _, known := p.docs[doc]; !known {
			if l.docs >= maxLater || len(p.docs) >= maxLaterOf {
				continue
			}
			l.docs++
		}
		p.docs[doc] = due
	}
}

// any reports whether documents of a copy are postponed, or pushes to it.
func (l *later) any(s sharing) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.of(s, now)
	return len(p.docs)+len(p.refused) > 0 || now.Before(p.refuse)
}

// until returns when to ask for a document again; zero: now.
func (l *later) until(s sharing, doc dag.DocID) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(s, l.now()).docs[start(doc[:])]
}

// filter takes out of a difference what is postponed, and returns how much that was.
func (l *later) filter(s sharing, d *difference) int {
	before := d.size()
	*d = l.without(s, *d)
	return before - d.size()
}

// without returns a difference less what is postponed.
func (l *later) without(s sharing, d difference) difference {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.of(s, l.now())
	if len(p.docs) == 0 {
		return d
	}
	d.Both = slices.DeleteFunc(slices.Clone(d.Both), func(doc dag.DocID) bool { return !p.docs[start(doc[:])].IsZero() })
	d.Theirs = slices.DeleteFunc(slices.Clone(d.Theirs), func(doc []byte) bool { return !p.docs[start(doc)].IsZero() })
	return d
}

// refused notes that the peer could do nothing with what was pushed.
func (l *later) refused(s sharing) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.change(s, now).refuse = now.Add(laterMost)
}

// refusedDocs notes that the peer could do nothing with some documents, as they are here.
// If there are too many to remember, that goes for whatever is pushed.
func (l *later) refusedDocs(s sharing, sums map[dag.DocID][32]byte) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.change(s, now)
	if l.docs+len(sums) > maxLater || len(p.refused)+len(sums) > maxLaterOf {
		p.refuse = now.Add(laterMost)
		return
	}
	if p.refused == nil {
		p.refused = map[dag.DocID]refusal{}
	}
	for doc, sum := range sums {
		if _, known := p.refused[doc]; !known {
			l.docs++
		}
		p.refused[doc] = refusal{sum, now.Add(laterMost)}
	}
}

// refuses reports whether the peer could do nothing with something that was pushed.
func (l *later) refuses(s sharing) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.of(s, now)
	return now.Before(p.refuse) || len(p.refused) > 0
}

// takes reports whether the peer may be able to do something with a document as it is here.
func (l *later) takes(s sharing, doc dag.DocID, sum [32]byte) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.of(s, now)
	r, refused := p.refused[doc]
	return !now.Before(p.refuse) && !(refused && r.sum == sum)
}

// rest notes that all that differs between two copies is postponed.
func (l *later) rest(s sharing, mine, theirs rootSum) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.change(s, now)
	p.mine, p.theirs, p.until = mine, theirs, now.Add(laterMost)
	for _, due := range p.docs {
		if due.Before(p.until) {
			p.until = due
		}
	}
	for _, r := range p.refused {
		if r.until.Before(p.until) {
			p.until = r.until
		}
	}
}

// rests reports whether nothing has changed since rest.
func (l *later) rests(s sharing, mine, theirs rootSum) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.of(s, now)
	return now.Before(p.until) && p.mine == mine && p.theirs == theirs
}

// earlyHint is what to do about commits that come too early.
const earlyHint = "they are from the future, of a newer version, or of members of a group that may not be read there: set the clocks of both machines right, update both, and see who cannot check whom with 'pando acl show'"

// postpone notes the commits of a pack that came too early. It returns how many of
// them do not even tell of which document they are.
func (n *Node) postpone(s sharing, envelopes [][]byte, early []dag.CID) (nameless int) {
	if len(early) == 0 {
		return 0
	}
	now := n.later.now()
	docs := map[short]time.Time{}
	nameless = len(early)
	is := map[dag.CID]bool{}
	for _, c := range early {
		is[c] = true
	}
	for _, e := range envelopes {
		c, err := dag.Open(e)
		if err != nil || !is[c.CID] {
			continue
		}
		nameless--
		due := now.Add(laterMost)
		if dag.Future(c.HLC, now) {
			due = dag.HLCTime(c.HLC).Add(-dag.MaxAhead) // by the clock on the wall: setting it right is noticed
		}
		docs[start(c.Doc[:])] = due
	}
	n.later.postpone(s, docs)
	return nameless
}
