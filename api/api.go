// Package api hides how operations on a node travel over a wire: one table of
// operations serves HTTP handlers and the Go client alike, so neither can say
// what the other does not understand.
//
// A failure keeps its kind over the wire: errors.Is(err, fault.NotFound) holds
// at the client when it holds at the server.
package api

import "time"

const (
	// Base is the path that all versioned operations share.
	Base = "/api/v0"
	// DefaultAddress is where a node listens unless told otherwise.
	DefaultAddress = "127.0.0.1:9181"

	headerTx       = "X-Pando-Tx"
	headerLegacyTx = "X-Defradb-Tx" // what clients of DefraDB send

	headerLastEvent = "Last-Event-ID" // what browsers send when they come back to a stream
	typeEventStream = "text/event-stream"
)

// Limits, with the reason for each.
const (
	// maxBody bounds a request that is read whole. A batch of 1,000 documents of
	// some kilobytes fits; larger loads go through the import operation, which streams.
	maxBody = 16 << 20
	// largeBody is from what size on a body counts as large, and maxLarge how many
	// requests with such a body run at once: read, they take some ten times as much.
	largeBody = 1 << 20
	maxLarge  = 4
	// maxRecord bounds one document of an import. A commit holds at most 256 KiB, and
	// JSON text may be a few times longer than the commit that it becomes.
	maxRecord = 1 << 20
	// importBatch is how many documents of an import share one transaction, and so one fsync.
	importBatch = 1000
	// importBatchBytes closes a batch of large documents early, to bound its memory.
	importBatchBytes = 4 << 20
	// exportPage is how much of an export is read in one snapshot: enough that opening
	// one costs nothing, little enough to be held for every stream.
	exportPage = 256 << 10
	// maxTransactions bounds open explicit transactions: each pins a snapshot of the store.
	maxTransactions = 256
	// txIdle is how long an explicit transaction may lie unused.
	txIdle = 60 * time.Second
	// txLifetime is how long an explicit transaction may live, however much it is used:
	// what it has read cannot be compacted away before it ends.
	txLifetime = 10 * time.Minute
	// maxInFlight bounds requests that run at once, so that overload is refused
	// at the door instead of growing the heap.
	maxInFlight = 256
	// maxStreams bounds imports, exports and joins, which last as long as their clients
	// like: apart from maxInFlight, so that they leave requests their room.
	maxStreams = 64
	// maxEventStreams bounds connections that follow events, which may last for ever.
	// An idle one takes some ten kilobytes.
	maxEventStreams = 1024
	// maxFollowed bounds what one WebSocket follows or runs at once, and
	// maxFollowedByAll what all of them follow together: each is looked at for writes
	// that concern it.
	maxFollowed      = 1_000
	maxFollowedByAll = 20_000
	// maxStrangers bounds WebSockets that have not said who they are, for which they have
	// initTimeout, and, by themselves, requests of those who were not let in, which bring no
	// more than largeBody: strangers leave room for those who are known.
	maxStrangers = 64
	// maxNothing bounds the body of an operation that has none.
	maxNothing = 4 << 10
	// maxMessage bounds a message that a WebSocket brings. Bulk contents go by POST.
	maxMessage = 1 << 20
	// heartbeat is how often an idle stream shows that it lives: more often than
	// proxies lose patience, which is a minute for most.
	heartbeat = 20 * time.Second
	// initTimeout is how long the client of a WebSocket may take to say what it is.
	initTimeout = 10 * time.Second
	// closeTimeout is how long the other end of a WebSocket may take to say goodbye.
	closeTimeout = 5 * time.Second
	// maxStreamsHTTP2 is how many requests one connection of HTTP/2 may have under way, and
	// streamBuffer how much each may bring that nobody has read yet. All of them may do so at
	// once: else requests that wait for their turn would hold up those whose turn it is.
	maxStreamsHTTP2 = 250
	streamBuffer    = 256 << 10
	// headerTimeout bounds how long a client may take to send its request header.
	headerTimeout = 10 * time.Second
	// idleTimeout closes keep-alive connections that nobody uses.
	idleTimeout = 2 * time.Minute
	// bodyTimeout bounds how long a client may take to send a body that is read whole.
	bodyTimeout = time.Minute
	// answerTimeout bounds how long a client may take to read an answer, plus a second
	// for every answerRate bytes of it.
	answerTimeout = 30 * time.Second
	answerRate    = 64 << 10
	// stallTimeout bounds how long one step of a stream may take: a client that neither
	// sends nor reads for so long has gone.
	stallTimeout = 5 * time.Minute
	// progressBytes is how much a body must bring within that time: what any writer
	// that works exceeds, however slowly its records come.
	progressBytes = 1 << 10
	// drainTimeout is how long a client may go on to send what nobody wants any more.
	drainTimeout = 2 * time.Second
)
