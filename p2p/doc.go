// Package p2p connects databases: it finds peers, decides which of them may sync
// what, and keeps their copies of collections equal.
//
// It hides the wire protocol, which docs/protocol.md describes. What it builds on is
// pando.Replica, package host, by which it is reached and reaches others, and package
// gossip, which tells many at once, for it as for package room, where applications talk. A
// database knows nothing of it, and works without it.
//
// Equality never depends on luck. Commits are announced as they are made, which is
// fast and may lose; roots of collections are compared when peers meet, after
// anything was lost, and now and then, and what differs is fetched and pushed.
// What is acknowledged is merged and durable.
//
// No database transaction is open while bytes are on their way to or from a peer.
// Everything that waits is bounded, in limits.go.
//
// # Where to look
//
//	connections     dial, companions, peers, alive, exchange, listing: who is found and kept
//	                ties: what the packages below ask; narrow: what passes a relay with limits
//	who may         admission (secrets), access (connections), quota, score, trustworthy (what lies cost)
//	                identities (for whom a peer acts), reader (what it may read: every answer goes through it), blind
//	                limits: every bound there is, with its reason
//	sessions        session leads and serve answers; mend, hello, ahead, walk, blocks; cursors, later, agreed
//	from several    fetch, parts, parallel, pieces, copying; wants; lanes says who goes first
//	live            announce, shards, inbox; watch, watching, hot for who keeps a part; tell for what few may read
//	parts           scope, scoped, parttrees, keep; replicator; join and ticket
//	clients         line: those who use the API and are no peers
//	applications    topics
//	the wire        protocols, wire, message, tongue
//	what is known   status, contacts, backlog, delay, ledger, metrics, trace, doctor; notes is what lasts
//
// # Goroutines
//
// A Node owns all of these; Close ends their context and waits for them.
//
//	watchConnections   one      turns events of the host into companions
//	accompany          per peer runs the sessions with one connected peer
//	keepConnected      one      dials known peers; redial: at most 8, one dial each
//	keepEntropyDown    one      picks a peer to compare with, about once a minute
//	watchSchema        one      notices new collections and changed secrets
//	announce           one      publishes what was made here; owns readFeed
//	rooms.Run          one      keeps up presence in topics, carries and leaves them
//	takeIn             one      merges what was announced; rescue: at most 16 fetches
//	fetchWants         one      asks for documents known to be incomplete: at most 16 fetches
//	keepWatches        one      begins and ends watches of parts: watch, up to 2 for each part
//	look               per filter that peers watch here
//	tellHot            one      says what changed in documents that many watch
//	tellAll            per peer that is to be told of something that not everybody may read
//	flushCursors       one      makes cursors durable
//	sweep              one      drops what was kept of peers that are gone
//	replicate          per replicator
//	keepAlive          per session and fetch of this node, which wait for it
//	exchangePeers      one      asks members for others, if it is on
//	keepListed         one      lists this node in the directory, and looks there, if it is on
//	fetchGroups        at most 16, for groups that commits name
//	unintroduced       per peer that could not say what it speaks, for a moment
//	handleSync, handleFetch, handleWatch, handleTell, handlePeers     per stream, made by the host, bounded by admission
//	a reader, and sift per watch of a peer, which waits for them
//	convoy.work        two per peer that a collection is got of; the session waits for them
//	a reader           per transfer in receiveBlocks, which waits for it
//	probe              at most 16, within Status, which waits for them
//
// The host has its own until it is closed, gossip until the node's context ends.
package p2p
