package room

import (
	"crypto/hmac"
	"encoding/base32"
	"strings"
	"time"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/ident"
)

// What the secret of a collection is used for here: each use has a label of its own.
const (
	labelHouse   = "pando/house/1"    // what the names of all lines of a collection share
	labelRoom    = "pando/room/1"     // the part of a line's name that stands for the room
	labelRoomKey = "pando/room key/1" // key that seals what is posted in a room
)

// claim is a secret of a collection.
type claim struct {
	id     dag.CollectionID
	secret ident.Secret
}

// line is a topic of gossip that carries one room, under one secret of its
// collection. Its name is as blind as those of collections; but whoever knows the
// secret sees of which collection it is, and can read and pass on what is in it
// without knowing the name of the room before.
type line struct {
	gossip.Channel
	tag   roomTag
	topic *gossip.Topic

	// The rest is guarded by Rooms.mu.
	room  *room     // nil until something was heard in a line that is only carried
	until time.Time // when it is not carried any longer unless something is heard; zero: it is here for its room
}

// roomTag is the name of a room as others see it.
type roomTag [15]byte

// linePrefix begins the names of all lines: of 15 bytes each, in base32, follow
// the name of the collection and that of the room.
const linePrefix = "/pando/room/1/"

const linePart = 24 // characters of 15 bytes in base32

func tagOf(s ident.Secret, id dag.CollectionID, room string) (t roomTag) {
	copy(t[:], s.Derive(labelRoom, id[:], []byte(room)))
	return t
}

// house is the part of a line's name that all rooms of a collection share.
func house(s ident.Secret, id dag.CollectionID) string {
	return base32Lower.EncodeToString(s.Derive(labelHouse, id[:])[:15])
}

func lineName(c claim, tag roomTag) string {
	return linePrefix + house(c.secret, c.id) + "/" + base32Lower.EncodeToString(tag[:])
}

// splitLine takes the name of a line apart.
func splitLine(name string) (house string, tag roomTag, ok bool) {
	rest, ok := strings.CutPrefix(name, linePrefix)
	if !ok || len(rest) != 2*linePart+1 || rest[linePart] != '/' {
		return "", tag, false
	}
	raw, err := base32Lower.DecodeString(rest[linePart+1:])
	if err != nil || len(raw) != len(tag) {
		return "", tag, false
	}
	return rest[:linePart], roomTag(raw), true
}

func newLine(c claim, tag roomTag) *line {
	return &line{Channel: gossip.Channel{Name: lineName(c, tag), Collection: c.id, Secret: c.secret,
		Key: c.secret.Derive(labelRoomKey, c.id[:], tag[:])}, tag: tag}
}

// read reads what was said in a line. Every error but errOtherVersion means that its
// author does not keep the protocol.
func (c *line) read(said []byte) (*post, error) {
	p, err := readPost(said, c.Collection)
	if err != nil {
		return nil, err
	}
	if tag := tagOf(c.Secret, c.Collection, p.room); !hmac.Equal(tag[:], c.tag[:]) {
		return nil, fault.Invalid.Errorf("a post of room %q in the line of another", p.room)
	}
	return p, nil
}

// base32Lower is RFC 4648 in lower case without padding.
var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
