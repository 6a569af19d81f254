package p2p

import (
	"time"

	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/pace"
)

// What a peer may make this node read, hold or wait for.
const (
	// maxFrame bounds one message of a stream: what a decoder may hold at once.
	maxFrame = 1 << 20
	// packCommits and packBytes are when a sender closes one frame of commits: large
	// enough to share a transaction, small enough that the receiver applies while it reads.
	packCommits = 256
	packBytes   = 192 << 10
	// maxUnapplied bounds what a receiver has read of a stream and not merged yet. The
	// stream's own window holds the sender back from there.
	maxUnapplied = 4 << 20
	// maxUnappliedAll bounds the same of all streams together: while it is passed, each
	// stream may read one frame at a time.
	maxUnappliedAll = 32 << 20
	// mergeCommits is how many commits share one transaction when they have arrived already.
	mergeCommits = 1024

	// maxCollections bounds the collections of one HELLO, and those taken from peers:
	// 4,096 of them fill 320 KiB.
	maxCollections = 4096
	// maxSecrets bounds the secrets that admit to one collection: it takes as many nodes
	// that made it independently. Half of them may come from members that the operator
	// did not name, so that they cannot use up all.
	maxSecrets  = 8
	maxHandedOn = maxSecrets / 2
	// maxCertificates bounds for how many identities a peer acts: the people at one machine.
	maxCertificates = 16
	// maxOffers bounds the collections given to a trusted peer in one message.
	maxOffers = 1024
	// maxVersions bounds the schema versions of one collection in one message.
	maxVersions = 1024
	// maxItems bounds the documents of one FETCH: with their heads they stay under half a frame.
	maxItems = 1024
	// maxHeads bounds the commits that are asked for or announced of one document, and the
	// heads named with a request. A document has few; of more than that the rest is found by
	// asking again.
	maxHeads = 256
	// maxShownHeads bounds the heads that a peer shows of one document when it is asked:
	// half a frame. maxOldHeads is the same for peers that know no more.
	maxShownHeads = 1 << 14
	maxOldHeads   = 256
	// maxLocator bounds the commits named by 8 bytes for one document, ancestors and the heads
	// beyond maxHeads: half a frame. Of a document with more heads some are sent again that are
	// here. maxOldLocator is the same for peers that know no more.
	maxLocator    = 1 << 16
	maxOldLocator = 2048
	// maxPrefixes bounds the tree nodes asked for in one message, nodesPerFrame those in one answer.
	maxPrefixes   = 1 << 16
	nodesPerFrame = 256
	// wideNodes is up to how many differing nodes are expanded by two levels at once:
	// beyond, the hashes of the second level cost more than the round trip they save.
	wideNodes = 8
	// walkAtOnce is how many nodes a walk asks about at once: 600 KB of answer, which
	// hides a round trip.
	walkAtOnce = 4096
	// maxPending is how many nodes a walk may have still to ask about: 17 levels of
	// walkAtOnce, where a billion documents make 7. 33 bytes each.
	maxPending = 1 << 20
	// maxFound is how many documents one walk finds. They are exchanged before the next
	// walk finds more, up to maxCuts times in a session.
	maxFound = 1 << 18
	maxCuts  = 64
	// maxFoundAtFirst is how many the first walk of a session finds; each further one four
	// times as many. What a tree shows and its peer does not give costs no more than this.
	maxFoundAtFirst = 1 << 14
	// maxFoundOfBlamed is the same for a peer that something speaks against: it has to give
	// what it shows before it is asked for more.
	maxFoundOfBlamed = 512
	// maxFoundUnnoted is the same where it cannot be remembered any more what was exchanged:
	// it is exchanged with every change.
	maxFoundUnnoted = 512
	// leafDocuments is the most documents under one leaf, a property of package radix; a
	// docID prefix in FETCH may stand for that many.
	leafDocuments = 32

	// maxLog is up to how many entries of a feed a difference is sent as a log. Behind
	// more, the trees are compared: they also leave out what came by other ways.
	maxLog = 1 << 14
	// fullFactor is from which ratio of document counts on everything is sent unasked.
	fullFactor = 4
	// fetchBytes is how much one FETCH is answered with before the requester must ask
	// again, so that one request never holds a server for long.
	fetchBytes = 32 << 20
	// tallBytes is how much of one document is sent to who asks for several: of a longer
	// history the rest is asked for in parts, perhaps of several peers. maxMore bounds
	// the documents of which that may be said in one answer: there are two for each
	// tallBytes of fetchBytes, and a leaf of them.
	tallBytes = 1 << 20
	maxMore   = 2*fetchBytes/tallBytes + leafDocuments
	// maxUseless is how many commits in a row may turn out to be known already before a
	// stream is taken for endless. A full copy that ends this way goes on at its token. What
	// comes once more beside the many heads of a document does not count, see returning.
	maxUseless = 1 << 15
	// maxUselessOfBlamed is the same for a peer that something speaks against.
	maxUselessOfBlamed = 1 << 11

	// maxFutile is after how many comparisons of trees in a row that brought nothing, though
	// something differs, a session gives up: whatever this side has, was pushed.
	maxFutile = 2
	// maxRounds is how often one session compares roots and mends before it gives up:
	// log, tree, and two more for what was written meanwhile.
	maxRounds = 6
)

// How many streams a peer may hold open here, and all peers together.
const (
	sessionsPerPeer = 2
	fetchesPerPeer  = 4
	maxSessions     = 32
	maxFetches      = 64
	watchesPerPeer  = 16  // each of a part of a collection
	maxWatches      = 256 // each with a goroutine, and a queue
	// watchLookups is what a filter that a peer names counts for at least: it is a query.
	watchLookups = 1024
	// maxStrangers is how many streams there may be besides, of peers that have proved
	// nothing yet. The newest takes the place of the oldest.
	maxStrangers = 16
)

// quotaOf is what each peer may make this node do: at once, and every second from
// then on. What an honest peer needs, stays below by far.
var quotaOf = [efforts]struct{ burst, rate float64 }{
	// A copy of a million documents by their trees takes a million lookups of documents
	// and 70,000 of nodes. What comes back each second keeps a core busy for a fifth.
	lookups: {burst: 4 << 20, rate: 20_000},
	// Of larger databases a peer gets half a gigabit a second.
	reading: {burst: 8 << 30, rate: 64 << 20},
	// A replicator that lost its cursor pushes again what is here already.
	wasting: {burst: 256 << 20, rate: 1 << 20},
}

const (
	// streamLookups is what it costs to open a stream, and certificateLookups to check the
	// signatures of a certificate, in lookups.
	streamLookups      = 16
	certificateLookups = 16
	// maxQuotas bounds the peers whose spending is remembered, beyond their connection.
	maxQuotas = 4096
	// insistent is how many refusals in a row show that nobody reads them: who does waits
	// for as long as they say.
	insistent = 64
	// maxBanned bounds the peers that are cut off; the one whose time ends first is let
	// in again.
	maxBanned = 1 << 14
)

// How long things may take. All are about progress: a long transfer that moves is never cut.
const (
	dialTimeout  = host.DialTimeout
	frameTimeout = 30 * time.Second // for one frame to be read or written
	ackTimeout   = 2 * time.Minute  // for everything on the way to be merged durably
	probeTimeout = 5 * time.Second  // for a peer to answer a question about its status

	// strangerTimeout is how long a peer may take to prove something, in all.
	strangerTimeout = host.StrangerTimeout

	antiEntropyEvery  = 60 * time.Second
	antiEntropyJitter = 0.3
	// spreadDelay is how soon after a session that brought something the other peers are
	// asked: it lets a partition heal in hops of a second, not of a minute.
	spreadDelay = 500 * time.Millisecond
	// repairDelay is how soon a lost announcement is made up for.
	repairDelay = 300 * time.Millisecond
	// courtesyDelay is how long the one of two newly connected peers that does not
	// start the session waits for the other to do so.
	courtesyDelay = 2 * time.Second

	retryFirst = pace.First
	retryMost  = pace.Most
	stuckAfter = 24 * time.Hour

	// quarantine is how long a peer that broke the protocol stays cut off.
	quarantine = 10 * time.Minute
	// busyFor is how long a peer is asked to stay away when there are too many, or its
	// session crosses another.
	busyFor = 250 * time.Millisecond
)

// What finding members costs.
const (
	// enoughMembers is how many connected members of a collection are enough: gossip
	// keeps 4 neighbours, and a few may go.
	enoughMembers = 6
	// maxTold is how many members another is told of at once, maxPeerRecord how large
	// the record of one may be: 16 addresses are less than 1 KiB.
	maxTold       = 32
	maxPeerRecord = 4 << 10
	// maxTried is how many peers are remembered that were found and not reached, and of
	// how many it is kept what they say of themselves.
	maxTried = 1024
	// maxAsked is up to how many collections members are asked for each.
	maxAsked = 16
	// exchangeDelay is how soon after a member was met it is asked for others,
	// exchangeEvery how often one is as long as there are too few.
	exchangeDelay = 2 * time.Second
	exchangeEvery = 5 * time.Minute

	// fewMembers is below how many connected members of a collection the directory is
	// asked for others.
	fewMembers = 2
	// maxListings is for how many collections it is told or asked at once.
	maxListings = 64
	// listDelay is how soon a node lists itself after its start, listRetry how often it
	// looks at what is to be done, listEvery how often it renews an entry: they last 48 h.
	listDelay = 5 * time.Second
	listRetry = 30 * time.Second
	listEvery = 22 * time.Hour
	// listTimeout is for one lookup, over all hops.
	listTimeout = time.Minute

	exchangesPerPeer = 2
	maxExchanges     = 32
)

// limitedLog is how many commits a difference may have to pass a relay with limits: 64
// of the usual size are a sixth of what it carries, and those that are larger fail alone.
const limitedLog = 64

// What gossip may cost.
const (
	inlineBytes  = 4 << 10 // a larger commit is announced by its header alone
	collectFor   = 10 * time.Millisecond
	collectBytes = 16 << 10
	maxGossip    = 64 << 10 // of one announcement
	// inlineCrowded is inlineBytes where a commit is said to many neighbours at once.
	inlineCrowded = 1 << 10
	maxGossipped  = 512 // entries of one message

	inboxDocuments = 8192    // documents waiting to be merged
	inboxBytes     = 4 << 20 // their commits
	inboxPerDoc    = 64 << 10
)

// What is watched.
const (
	watchesPerPart = 2 // members that tell this node of one part: one may be slow, or leave
	// maxWatchQueue is how many changes wait for a watcher that reads slowly, 32 bytes
	// each. Behind more it compares.
	maxWatchQueue = 4096
	// maxNamedDocs bounds the documents that watched scopes name, all together: 25 MB.
	maxNamedDocs = 1 << 18
	// maxWatchedBytes bounds the memory for the documents of watched filters, all
	// together: 800,000 documents.
	maxWatchedBytes = 64 << 20
	// watchBeat is how often a watcher hears that it is still told, watchPatience how
	// long it waits for that.
	watchBeat     = 20 * time.Second
	watchPatience = 3 * watchBeat

	// hotFrom and hotUntil are with how many watchers a document gets a topic, and below
	// how many it loses it: a message in a topic costs about as much as telling five.
	hotFrom  = 8
	hotUntil = 4
	maxHot   = 256 // topics of documents, of gossip.MaxTopics in all
	// maxHotNamed is up to how many documents a scope may name for them to count.
	maxHotNamed = 64
	hotQueue    = 1024 // changes that wait to be said; behind more, each watcher is told by itself
)

// What is told to those who may read it.
const (
	// maxTelling is how many commits wait for one peer, about 100 bytes each. Behind more
	// it compares.
	maxTelling = 4096
	// maxToldReaders is of how many peers it is said that they are told too.
	maxToldReaders = 256
	tellsPerPeer   = 4
	maxTells       = 128
)

const (
	// maxRescues is how many fetches for announced commits run at once, and as many for
	// wanted ones, and rescuesOfPeer how many of one peer: five that do not answer leave
	// a place for others.
	maxRescues    = 16
	rescuesOfPeer = 3
	// maxWants bounds the documents known to be incomplete. Behind more, comparing
	// trees finds them again; the overflow is counted.
	maxWants = 1 << 16
	// maxWantedOfPeer bounds the commits that are wanted because one peer told of their
	// documents, so that a flood of orphans leaves room for what others tell.
	maxWantedOfPeer = 1 << 13
	// maxClashes bounds the names that a peer is known to give to other collections.
	maxClashes = 256
	// maxKnownPeers bounds the peers remembered over restarts besides the trusted ones:
	// the longest unseen goes first, and each after forgetAfter.
	maxKnownPeers = 1024
	forgetAfter   = 30 * 24 * time.Hour
	// maxAddrs bounds the addresses that are remembered of one peer, and carried in a
	// ticket, maxAddrBytes one of them.
	maxAddrs     = host.MaxAddrs
	maxAddrBytes = host.MaxAddrBytes
	maxName      = 256 // bytes of a collection's name

	// maxMarks bounds what is remembered of the ways of changes, live ones and copied ones
	// each: some ten thousand events, a megabyte.
	maxMarks = 1 << 13
	// maxContacts bounds the peers whose last session is remembered.
	maxContacts = 1 << 11
	// maxTallies bounds the pairs of a peer and a collection whose bytes are counted: 128
	// peers with 64 collections each, at 300 bytes.
	maxTallies = 1 << 13

	maxTicketCollections = 64
	maxTicket            = 32 << 10 // characters
)
