package p2p

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/golang/snappy"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/radix"
)

// protocolVersion is the newest version of the protocol. HELLO names the one that
// both sides agreed on when the stream was opened.
const protocolVersion = 3

// Types of messages: the first item of each.
const (
	msgHello = iota
	msgOffer
	msgSchema
	msgLog
	msgFull
	msgNodes
	msgTree
	msgPush
	msgBlocks
	msgEnd
	msgAck
	msgFetch
	msgHeads
	msgRefuse

	// Of version 2.
	msgRange    = 14
	msgPart     = 15
	msgMore     = 16
	msgScope    = 17
	msgScoped   = 18
	msgKeep     = 19
	msgPeers    = 25
	msgTold     = 26
	msgWatch    = 21
	msgWatching = 22

	// Of version 3.
	msgShow = 27
	msgTell = 28
)

var messages = [...]struct {
	name  string
	since uint64 // the first version that has it
	items int    // of the array, the type included
	read  func(*cbor.Reader) message
}{
	msgHello:  {"HELLO", 1, 5, readHello},
	msgOffer:  {"OFFER", 1, 2, readOffer},
	msgSchema: {"SCHEMA", 1, 3, readSchema},
	msgLog:    {"LOG", 1, 3, readLog},
	msgFull:   {"FULL", 1, 3, readFull},
	msgNodes:  {"NODES", 1, 4, readNodes},
	msgTree:   {"TREE", 1, 2, readTree},
	msgPush:   {"PUSH", 1, 2, readPush},
	msgBlocks: {"BLOCKS", 1, 4, readBlocks},
	msgEnd:    {"END", 1, 2, readEnd},
	msgAck:    {"ACK", 1, 4, readAck},
	msgFetch:  {"FETCH", 1, 4, readFetch},
	msgHeads:  {"HEADS", 1, 2, readHeads},
	msgRefuse: {"REFUSE", 1, 4, readRefuse},

	msgRange:    {"RANGE", 2, 4, readRange},
	msgPart:     {"PART", 2, 8, readPart},
	msgMore:     {"MORE", 2, 5, readMore},
	msgScope:    {"SCOPE", 2, 3, readScopeSays},
	msgScoped:   {"SCOPED", 2, 7, readScopeAnswer},
	msgKeep:     {"KEEP", 2, 2, readKeepOffers},
	msgPeers:    {"PEERS", 2, 3, readGetPeers},
	msgTold:     {"TOLD", 2, 2, readToldPeers},
	msgWatch:    {"WATCH", 2, 4, readWatch},
	msgWatching: {"WATCHING", 2, 3, readWatching},

	msgShow: {"SHOW", 3, 3, readShow},
	msgTell: {"TELL", 3, 4, readTell},
}

func begin(b []byte, kind int) []byte {
	return cbor.AppendUint(cbor.AppendArray(b, messages[kind].items), uint64(kind))
}

// What HELLO shortens: nothing here is looked up by these, they are compared
// within one authenticated connection.
type (
	nonce       [8]byte
	epoch       [8]byte
	proof       [16]byte // that its sender knows the secret of a collection
	rootSum     [16]byte
	fingerprint [4]byte // of the schema versions of a collection
)

// hello opens a session, from both sides, and each further round of it.
type hello struct {
	Version uint64
	Nonce   nonce
	Entries []entry
	Offers  []offer
}

// entry is one collection in a HELLO, under one of its secrets. To whoever does
// not know the secret it is as good as random bytes.
type entry struct {
	Proof proof
	Card  sealedCard
}

// card is how the sender of a HELLO stands with a collection.
type card struct {
	Schema    fingerprint
	Root      rootSum
	Epoch     epoch  // of the sender's feed
	YourEpoch epoch  // that the cursor below is of
	Count     uint64 // of documents
	Seq       uint64 // newest in the sender's feed when the root was taken
	Cursor    uint64 // the sender holds everything of the receiver's feed up to here
	Clock     uint64 // milliseconds since 1970
	Lacks     bool   // the sender keeps all, and was never known to have it
}

// sealedCard is a card under its veil. All have one size, so that it tells nothing.
type sealedCard [cardSize]byte

const (
	numberSize = 6 // bytes of a number in a card: 2^48 documents are enough
	cardSize   = 4 + 16 + 8 + 8 + 4*numberSize
	maxNumber  = 1<<(8*numberSize) - 1
	lacksBit   = 1 << (8*numberSize - 1) // of the clock, which has no use for it until the year 6429
)

func (c card) plain() (out sealedCard) {
	b := append(out[:0], c.Schema[:]...)
	b = append(b, c.Root[:]...)
	b = append(b, c.Epoch[:]...)
	b = append(b, c.YourEpoch[:]...)
	clock := min(c.Clock, lacksBit-1)
	if c.Lacks {
		clock |= lacksBit
	}
	for _, v := range [...]uint64{c.Count, c.Seq, c.Cursor, clock} {
		b = append(b, binary.BigEndian.AppendUint64(nil, min(v, maxNumber))[8-numberSize:]...)
	}
	return out
}

// read reads a card without its veil. Every one is a card.
func (c sealedCard) read() (out card) {
	b := c[:]
	for _, part := range [][]byte{out.Schema[:], out.Root[:], out.Epoch[:], out.YourEpoch[:]} {
		b = b[copy(part, b):]
	}
	for _, v := range []*uint64{&out.Count, &out.Seq, &out.Cursor, &out.Clock} {
		for _, x := range b[:numberSize] {
			*v = *v<<8 | uint64(x)
		}
		b = b[numberSize:]
	}
	out.Lacks, out.Clock = out.Clock&lacksBit != 0, out.Clock&^lacksBit
	return out
}

// offer gives a secret of a collection, and to a peer that the operator named the
// collection itself.
type offer struct {
	Collection dag.CollectionID
	Secret     ident.Secret
	Versions   [][]byte // of its schema, oldest first
}

func (h *hello) append(b []byte) []byte {
	b = begin(b, msgHello)
	b = cbor.AppendUint(b, h.Version)
	b = cbor.AppendBytes(b, h.Nonce[:])
	b = cbor.AppendArray(b, len(h.Entries))
	for _, e := range h.Entries {
		b = cbor.AppendBytes(b, append(e.Proof[:], e.Card[:]...))
	}
	return appendOffers(b, h.Offers)
}

func readHello(r *cbor.Reader) message {
	h := new(hello)
	h.Version = r.Uint() // which decode has looked at
	exactly(r, "a nonce", h.Nonce[:])
	n := list(r, "collections", maxCollections)
	h.Entries = make([]entry, 0, n)
	for i := 0; i < n && r.Err() == nil; i++ {
		var both [len(proof{}) + cardSize]byte
		exactly(r, "a collection", both[:])
		h.Entries = append(h.Entries, entry{proof(both[:16]), sealedCard(both[16:])})
	}
	h.Offers = readOffers(r)
	return h
}

// offers is how the one who opened the session gives collections.
type offers struct{ Offers []offer }

func (o *offers) append(b []byte) []byte { return appendOffers(begin(b, msgOffer), o.Offers) }
func readOffer(r *cbor.Reader) message   { return &offers{readOffers(r)} }

func appendOffers(b []byte, os []offer) []byte {
	b = cbor.AppendArray(b, len(os))
	for _, o := range os {
		b = cbor.AppendArray(b, 3)
		b = cbor.AppendBytes(b, o.Collection[:])
		b = cbor.AppendBytes(b, o.Secret[:])
		b = appendVersions(b, o.Versions)
	}
	return b
}

func readOffers(r *cbor.Reader) []offer {
	var os []offer
	for n := list(r, "offers", maxOffers); n > 0 && r.Err() == nil; n-- {
		var o offer
		tuple(r, 3)
		exactly(r, "a collection id", o.Collection[:])
		exactly(r, "a secret", o.Secret[:])
		o.Versions = readVersions(r)
		os = append(os, o)
	}
	return os
}

func appendVersions(b []byte, vs [][]byte) []byte {
	b = cbor.AppendArray(b, len(vs))
	for _, v := range vs {
		b = cbor.AppendBytes(b, v)
	}
	return b
}

func readVersions(r *cbor.Reader) [][]byte {
	var vs [][]byte
	for n := list(r, "schema versions", maxVersions); n > 0 && r.Err() == nil; n-- {
		vs = append(vs, r.Bytes())
	}
	return vs
}

// schemaVersions carries what the sender knows of one collection's schema; the
// answer is the same message with what the receiver knew.
type schemaVersions struct {
	Collection uint64 // index in the responder's HELLO, in this and all messages below
	Versions   [][]byte
}

func (m *schemaVersions) append(b []byte) []byte {
	return appendVersions(cbor.AppendUint(begin(b, msgSchema), m.Collection), m.Versions)
}

func readSchema(r *cbor.Reader) message {
	return &schemaVersions{Collection: r.Uint(), Versions: readVersions(r)}
}

// getLog asks for the feed's commits of one collection after a sequence number.
type getLog struct{ Collection, After uint64 }

func (m *getLog) append(b []byte) []byte {
	return cbor.AppendUint(cbor.AppendUint(begin(b, msgLog), m.Collection), m.After)
}
func readLog(r *cbor.Reader) message { return &getLog{r.Uint(), r.Uint()} }

// getFull asks for all commits of one collection, by docID, after a document.
type getFull struct {
	Collection uint64
	After      *dag.DocID // nil: from the start
}

func (m *getFull) append(b []byte) []byte {
	return appendToken(cbor.AppendUint(begin(b, msgFull), m.Collection), m.After)
}
func readFull(r *cbor.Reader) message { return &getFull{r.Uint(), readToken(r)} }

func appendToken(b []byte, doc *dag.DocID) []byte {
	if doc == nil {
		return cbor.AppendNull(b)
	}
	return cbor.AppendBytes(b, doc[:])
}

func readToken(r *cbor.Reader) *dag.DocID {
	if r.Null() {
		return nil
	}
	doc := new(dag.DocID)
	exactly(r, "a docID", doc[:])
	return doc
}

// getNodes asks what the responder's tree holds under some prefixes.
type getNodes struct {
	Collection uint64
	Levels     uint64 // 1: the children of each, 2: and theirs
	Prefixes   []radix.Prefix
}

func (m *getNodes) append(b []byte) []byte {
	b = cbor.AppendUint(begin(b, msgNodes), m.Collection)
	b = cbor.AppendUint(b, m.Levels)
	b = cbor.AppendArray(b, len(m.Prefixes))
	for _, p := range m.Prefixes {
		b = cbor.AppendBytes(b, p.AppendBinary(nil))
	}
	return b
}

func readNodes(r *cbor.Reader) message {
	m := &getNodes{Collection: r.Uint(), Levels: r.Uint()}
	if r.Err() == nil && m.Levels != 1 && m.Levels != 2 {
		r.Fail(fault.Invalid.Errorf("%d levels asked for, there are answers of 1 and 2", m.Levels))
	}
	n := list(r, "prefixes", maxPrefixes)
	if m.Levels == 2 && n > wideNodes {
		r.Fail(fault.TooLarge.Errorf("%d prefixes with two levels each, allowed are %d", n, wideNodes))
	}
	for ; n > 0 && r.Err() == nil; n-- {
		p, err := radix.ParsePrefix(r.Bytes())
		if err != nil {
			r.Fail(err)
		}
		m.Prefixes = append(m.Prefixes, p)
	}
	return m
}

// tree answers getNodes, in its order, in as many messages as it takes.
type tree struct{ Nodes []treeNode }

func (m *tree) append(b []byte) []byte {
	b = cbor.AppendArray(begin(b, msgTree), len(m.Nodes))
	for _, n := range m.Nodes {
		b = n.append(b)
	}
	return b
}

func readTree(r *cbor.Reader) message {
	m := new(tree)
	n := list(r, "tree nodes", nodesPerFrame)
	if n == 0 {
		r.Fail(fault.Invalid.Errorf("a part of a tree without nodes"))
	}
	for ; n > 0 && r.Err() == nil; n-- {
		m.Nodes = append(m.Nodes, readTreeNode(r))
	}
	return m
}

// push announces commits that follow without having been asked for.
type push struct{ Collection uint64 }

func (m *push) append(b []byte) []byte { return cbor.AppendUint(begin(b, msgPush), m.Collection) }
func readPush(r *cbor.Reader) message  { return &push{r.Uint()} }

// blocks carries commits, parents before children.
type blocks struct {
	Documents uint64     // of FULL: how many were completed by this message
	Done      *dag.DocID // of FULL: the last of them
	Envelopes [][]byte
}

func (m *blocks) append(b []byte) []byte {
	p := pack{documents: m.Documents, done: m.Done, commits: len(m.Envelopes)}
	for _, e := range m.Envelopes {
		p.packed = cbor.AppendBytes(p.packed, e)
	}
	return p.append(b)
}

// size is what the commits take.
func (m *blocks) size() (n int) {
	for _, e := range m.Envelopes {
		n += len(e)
	}
	return n
}

// pack is a blocks message on its way out: the commits are encoded already, so
// that each is copied once.
type pack struct {
	documents uint64
	done      *dag.DocID
	commits   int
	packed    []byte
}

// The commits travel as one Snappy block: much of a commit is the same in its
// neighbours, and a pack shrinks by 45 % at a cost that no disk notices.
func (p *pack) append(b []byte) []byte {
	b = cbor.AppendUint(begin(b, msgBlocks), p.documents)
	b = appendToken(b, p.done)
	plain := append(cbor.AppendArray(nil, p.commits), p.packed...)
	return cbor.AppendBytes(b, snappy.Encode(nil, plain))
}

func readBlocks(r *cbor.Reader) message {
	m := &blocks{Documents: r.Uint(), Done: readToken(r)}
	squeezed := r.Bytes()
	if r.Err() != nil {
		return m
	}
	// Asked before anything is allocated: a few bytes may claim to be much.
	size, err := snappy.DecodedLen(squeezed)
	if err == nil && size > maxFrame {
		err = fault.TooLarge.Errorf("%d bytes, allowed are %d", size, maxFrame)
	}
	var plain []byte
	if err == nil {
		plain, err = snappy.Decode(nil, squeezed)
	}
	if err != nil {
		r.Fail(fault.Invalid.Errorf("commits: %w", err))
		return m
	}
	in := cbor.NewReader(plain)
	n := list(in, "commits", 4*packCommits)
	if n == 0 {
		// Nothing but a way to keep a stream open for ever.
		in.Fail(fault.Invalid.Errorf("a pack without commits"))
	}
	m.Envelopes = make([][]byte, 0, n)
	for ; n > 0 && in.Err() == nil; n-- {
		m.Envelopes = append(m.Envelopes, in.Bytes())
	}
	if err := in.Done(); err != nil {
		r.Fail(err)
	}
	return m
}

// end closes a run of blocks. Mark is, after LOG and PUSH, the sequence number
// in the sender's feed up to which the receiver now holds everything (0: says
// nothing), and after FETCH the number of items that were answered in full.
type end struct{ Mark uint64 }

func (m *end) append(b []byte) []byte { return cbor.AppendUint(begin(b, msgEnd), m.Mark) }
func readEnd(r *cbor.Reader) message  { return &end{r.Uint()} }

// ack says that the commits of a PUSH are merged and durable.
type ack struct {
	Applied, Known uint64
	Missing        uint64 // documents of which parents are lacking: not acknowledged
}

func (m *ack) append(b []byte) []byte {
	b = cbor.AppendUint(begin(b, msgAck), m.Applied)
	return cbor.AppendUint(cbor.AppendUint(b, m.Known), m.Missing)
}
func readAck(r *cbor.Reader) message { return &ack{r.Uint(), r.Uint(), r.Uint()} }

// fetch asks for commits of some documents of one collection.
type fetch struct {
	Proof proof
	Heads bool // answer with the heads of each document first
	Items []item
}

// item is one document of a FETCH.
type item struct {
	Doc     []byte    // docID, or the first bytes of it: every document that begins so
	Want    []dag.CID // none: all heads
	Have    []dag.CID // the requester's heads
	Locator []uint64  // ids of its ancestors at growing distance
}

func (m *fetch) append(b []byte) []byte {
	b = cbor.AppendBytes(begin(b, msgFetch), m.Proof[:])
	b = cbor.AppendBool(b, m.Heads)
	b = cbor.AppendArray(b, len(m.Items))
	for _, it := range m.Items {
		b = cbor.AppendArray(b, 4)
		b = cbor.AppendBytes(b, it.Doc)
		b = appendCIDs(b, it.Want)
		b = appendCIDs(b, it.Have)
		b = appendLocator(b, it.Locator)
	}
	return b
}

func appendLocator(b []byte, ids []uint64) []byte {
	packed := make([]byte, 0, 8*len(ids))
	for _, id := range ids {
		packed = binary.BigEndian.AppendUint64(packed, id)
	}
	return cbor.AppendBytes(b, packed)
}

func readLocator(r *cbor.Reader) (ids []uint64) {
	packed := r.Bytes()
	if len(packed)%8 != 0 || len(packed) > 8*maxLocator {
		r.Fail(fault.Invalid.Errorf("a locator of %d bytes, want at most %d ids of 8", len(packed), maxLocator))
	}
	for ; r.Err() == nil && len(packed) > 0; packed = packed[8:] {
		ids = append(ids, binary.BigEndian.Uint64(packed))
	}
	return ids
}

func readFetch(r *cbor.Reader) message {
	m := new(fetch)
	exactly(r, "a proof", m.Proof[:])
	m.Heads = r.Bool()
	n := list(r, "documents", maxItems)
	if n == 0 {
		r.Fail(fault.Invalid.Errorf("a request for no document"))
	}
	for ; n > 0 && r.Err() == nil; n-- {
		tuple(r, 4)
		it := item{Doc: r.Bytes(), Want: readCIDs(r, maxHeads), Have: readCIDs(r, maxHeads)}
		if r.Err() == nil && (len(it.Doc) == 0 || len(it.Doc) > 32) {
			r.Fail(fault.Invalid.Errorf("a docID of %d bytes, want 32 or the first of them", len(it.Doc)))
		}
		it.Locator = readLocator(r)
		m.Items = append(m.Items, it)
	}
	return m
}

// appendCIDs writes hashes as one byte string: they all have 32 bytes.
func appendCIDs(b []byte, cs []dag.CID) []byte {
	packed := make([]byte, 0, 32*len(cs))
	for _, c := range cs {
		packed = append(packed, c[:]...)
	}
	return cbor.AppendBytes(b, packed)
}

func readCIDs(r *cbor.Reader, most int) []dag.CID {
	packed := r.Bytes()
	if len(packed)%32 != 0 || len(packed) > 32*most {
		r.Fail(fault.Invalid.Errorf("hashes of %d bytes in all, want at most %d of 32", len(packed), most))
		return nil
	}
	var cs []dag.CID
	for ; len(packed) > 0; packed = packed[32:] {
		cs = append(cs, dag.CID(packed))
	}
	return cs
}

// heads names the heads of documents as the responder holds them.
type heads struct{ Documents []docHeads }

type docHeads struct {
	Doc   dag.DocID
	Heads []dag.CID
}

func (m *heads) append(b []byte) []byte { return appendDocHeads(begin(b, msgHeads), m.Documents) }

func readHeads(r *cbor.Reader) message {
	return &heads{readDocHeads(r, maxItems*leafDocuments, maxShownHeads)}
}

func appendDocHeads(b []byte, all []docHeads) []byte {
	b = cbor.AppendArray(b, len(all))
	for _, d := range all {
		b = cbor.AppendBytes(cbor.AppendArray(b, 2), d.Doc[:])
		b = appendCIDs(b, d.Heads)
	}
	return b
}

func readDocHeads(r *cbor.Reader, most, heads int) (all []docHeads) {
	for n := list(r, "documents", most); n > 0 && r.Err() == nil; n-- {
		var d docHeads
		tuple(r, 2)
		exactly(r, "a docID", d.Doc[:])
		d.Heads = readCIDs(r, heads)
		all = append(all, d)
	}
	return all
}

// Why a peer is refused. The numbers are part of the protocol.
const (
	refusedAdmission = 1 // the collection is not shared with this peer
	refusedBusy      = 2 // too many at once: again after the time given
	refusedInvalid   = 3 // the request breaks the protocol
	refusedFailed    = 4 // this side has a problem of its own
	refusedVersion   = 6 // the two speak different versions of the protocol
	refusedPart      = 7 // a watch of a node that keeps nothing, or less since now
)

// refuse is the typed answer in place of the one asked for. It is the error
// that the asking side sees.
type refuse struct {
	Code  uint64
	Text  string
	After time.Duration // do not ask again sooner
}

func (m *refuse) append(b []byte) []byte {
	b = cbor.AppendUint(begin(b, msgRefuse), m.Code)
	b = cbor.AppendText(b, m.Text)
	return cbor.AppendUint(b, uint64(m.After.Milliseconds()))
}

func readRefuse(r *cbor.Reader) message {
	m := &refuse{Code: r.Uint(), Text: forPeople(r.Text())}
	m.After = min(time.Duration(min(r.Uint(), uint64(retryMost/time.Millisecond)))*time.Millisecond, retryMost)
	return m
}

func (m *refuse) Error() string { return fmt.Sprintf("the peer refuses: %s", m.Text) }

// Unwrap makes the kind of failure known to errors.Is.
func (m *refuse) Unwrap() error {
	switch m.Code {
	case refusedAdmission:
		return fault.Denied
	case refusedInvalid:
		return fault.Invalid
	}
	return fault.Unavailable
}

// tuple reads the head of an array of exactly n items.
func tuple(r *cbor.Reader, n int) {
	if got := r.Array(); r.Err() == nil && got != n {
		r.Fail(fault.Invalid.Errorf("an array of %d items, want %d", got, n))
	}
}
