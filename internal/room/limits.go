package room

import (
	"time"

	"github.com/pandodb/pando/internal/pace"
)

// What rooms may cost. All of it is in memory only.
const (
	// MaxMessage bounds one message: it is passed on whole by every node on its way.
	MaxMessage = 16 << 10
	// MaxState bounds what a member shows of itself with its presence, which is
	// told again and again.
	MaxState    = 1 << 10
	maxRoomName = 128

	// maxRooms bounds the rooms that a node takes part in for its own users, and
	// maxRoomsCarried those that it carries between others. Each takes one topic of gossip for
	// every secret of its collection.
	maxRooms        = 128
	maxRoomsCarried = 64
	// maxAuthors bounds whom one room remembers, some 250 bytes each; the longest unheard
	// goes first. maxStates bounds what all of them show of themselves.
	maxAuthors = 512
	// maxSeen is over how many lines it is remembered what came of one author: as many as a
	// collection has secrets, and one that was left.
	maxSeen   = 9
	maxStates = 4 << 20
	// maxCandidates bounds the rooms that others are known to take part in, and
	// candidatesPerPeer those that one peer makes known.
	maxCandidates     = 1024
	candidatesPerPeer = 256

	// maxSubscriptions bounds who listens here; queueMessages and queueBytes what waits
	// for one that does not read: the oldest give way, and are counted.
	maxSubscriptions = 2048
	queueMessages    = 256
	queueBytes       = 256 << 10
	// maxPublishing bounds who waits to publish in one room.
	maxPublishing = 64

	// topicWindow is how far the clock of a sender may be off: an hour, which is what a
	// wrong time zone makes, and some. What is older is not taken for new, even by a node
	// that heard nothing of its sender yet.
	topicWindow = 90 * time.Minute

	// presenceEvery is how often a member says that it is still here, and presenceShare
	// what is added for each other: in a room of many all together make 10 a second. It
	// is gone when it missed three. presenceMost bounds for how long one may say to be here.
	presenceEvery = 20 * time.Second
	presenceShare = 100 * time.Millisecond
	presenceMost  = 10 * time.Minute
	// presenceGap is the least between two times.
	presenceGap = 250 * time.Millisecond
	// whoWait is how long somebody who asks from outside listens for answers.
	whoWait = 1500 * time.Millisecond

	// linger is for how long a node stays in a room that nobody here listens to any more:
	// who comes back soon finds the mesh as it was.
	linger = 30 * time.Second
	// carryFor is how long a room is carried without a sign of life, and carryAgain when
	// such a one is looked at again.
	carryFor   = 75 * time.Second
	carryAgain = 5 * time.Minute
	// carryFirst is how soon a line that cannot be carried yet is looked at again, first.
	carryFirst = pace.First / 4
	// smallNetwork is up to how many neighbours a node carries what a single one of them
	// takes part in: the other end may be several nodes away. Among more, two of them.
	smallNetwork = 16
)

// What one member may send into one room: a person who types, or a machine that
// reports, not a file. Everybody leaves twice as much to others, whose messages may
// have been held up on the way; roomFlow is what is passed on of all together.
var (
	senderFlow = flow{items: 20, bytes: 64 << 10, burst: 3}
	othersFlow = flow{items: 40, bytes: 128 << 10, burst: 4}
	roomFlow   = flow{items: 500, bytes: 2 << 20, burst: 4}
)
