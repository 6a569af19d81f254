package gossip

import "time"

const (
	// MaxTopics bounds the topics that a node takes part in, of all kinds. Names of more
	// than some thousand do not fit into what the library says first on a connection,
	// and then the peer learns of none, silently; other implementations take 1,000.
	MaxTopics = 1000
	// maxFrame is for what is said on one stream at once. The largest is the first, with
	// the names of all topics: MaxTopics of 80 bytes.
	maxFrame = 128 << 10
	// Crowd is from how many neighbours in a topic on less should be said, since each of
	// them gets it several times, and only some of them are told at once.
	Crowd = 32
	// validateQueue is how many messages wait to be judged.
	validateQueue = 1024
	// outboundQueue is how many messages wait for one peer. The library's 32 is passed
	// by any burst; at 16 KiB a message this is 4 MiB for a peer that does not read.
	outboundQueue = 256
	// maxTopicsOfPeer bounds the topics that a peer may say it follows, twice what a node
	// follows, and maxTopicName their names: the library keeps them for as long as the
	// peer is connected.
	maxTopicsOfPeer = 2048
	maxTopicName    = 256
	// scoreEvery is how often Ties hear how peers are scored.
	scoreEvery = 5 * time.Second
)
