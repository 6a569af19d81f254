package p2p

import (
	"crypto/hmac"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/ident"
)

// What posts are.
const (
	postSaid = iota // a message of an application
	postHere        // its sender is in the room, for so long
	postGone        // and is no longer
	postWho         // whoever is here may say so
)

const postVersion = 1

// post is what travels in a room: signed by whoever sent it, sealed for those who
// know the secret of the collection.
type post struct {
	room string
	kind uint64
	from ident.PublicKey
	run  uint64 // since when the sender takes part, in milliseconds since 1970; grows with every time that it comes
	seq  uint64 // of the sender within the run, from 1
	sent uint64 // milliseconds since 1970, by the sender's clock
	body []byte
	sig  []byte
}

// here is the body of postHere.
type here struct {
	lasts time.Duration // whole seconds
	asks  bool          // the sender does not know yet who else is here
	state []byte
}

// fields are the items that the signature is over.
func (p *post) fields() []byte {
	b := cbor.AppendUint(nil, postVersion)
	b = cbor.AppendText(b, p.room)
	b = cbor.AppendUint(b, p.kind)
	b = cbor.AppendBytes(b, []byte(p.from))
	b = cbor.AppendUint(b, p.run)
	b = cbor.AppendUint(b, p.seq)
	b = cbor.AppendUint(b, p.sent)
	return cbor.AppendBytes(b, p.body)
}

func signedText(id dag.CollectionID, fields []byte) []byte {
	return append(append([]byte(labelPost), id[:]...), fields...)
}

// sign makes the post its author's. The signature says in which room of which
// collection it was made: it is worth nothing elsewhere.
func (p *post) sign(key ident.Key, id dag.CollectionID) (err error) {
	p.sig, err = key.Sign(signedText(id, p.fields()))
	return err
}

func (p *post) append(b []byte) []byte {
	b = append(cbor.AppendArray(b, 9), p.fields()...)
	return cbor.AppendBytes(b, p.sig)
}

// errOtherVersion says that a post is of a version that this node cannot judge.
var errOtherVersion = fault.Invalid.Errorf("a post of another version")

// readPost reads a post and checks everything but what depends on time and on what
// was heard before.
func readPost(b []byte, id dag.CollectionID) (*post, error) {
	r := cbor.NewReader(b)
	items, version := r.Array(), r.Uint()
	if r.Err() == nil && version != postVersion {
		return nil, errOtherVersion
	}
	if r.Err() == nil && items != 9 {
		return nil, fault.Invalid.Errorf("a post of %d items, want 9", items)
	}
	p := &post{room: r.Text(), kind: r.Uint(), from: ident.PublicKey(r.Bytes()), run: r.Uint(), seq: r.Uint(), sent: r.Uint(), body: r.Bytes(), sig: r.Bytes()}
	if err := r.Done(); err != nil {
		return nil, err
	}
	if err := checkRoom(p.room); err != nil {
		return nil, err
	}
	if len(p.body) > MaxTopicMessage {
		return nil, fault.TooLarge.Errorf("a post of %d bytes, allowed are %d", len(p.body), MaxTopicMessage)
	}
	if p.kind == postHere {
		if _, err := readHere(p.body); err != nil {
			return nil, err
		}
	}
	if !p.from.Verify(signedText(id, p.fields()), p.sig) {
		return nil, fault.Invalid.Errorf("a post whose signature does not verify")
	}
	return p, nil
}

func (h here) append() []byte {
	b := cbor.AppendUint(cbor.AppendArray(nil, 3), uint64(h.lasts/time.Second))
	b = cbor.AppendBool(b, h.asks)
	return cbor.AppendBytes(b, h.state)
}

func readHere(b []byte) (h here, err error) {
	r := cbor.NewReader(b)
	tuple(r, 3)
	seconds := r.Uint()
	h.asks, h.state = r.Bool(), r.Bytes()
	if err := r.Done(); err != nil {
		return h, err
	}
	if most := uint64(presenceMost / time.Second); seconds == 0 || seconds > most {
		return h, fault.Invalid.Errorf("a presence of %d seconds, allowed are 1 to %d", seconds, most)
	}
	if len(h.state) > MaxTopicState {
		return h, fault.TooLarge.Errorf("a state of %d bytes, allowed are %d", len(h.state), MaxTopicState)
	}
	h.lasts = time.Duration(seconds) * time.Second
	return h, nil
}

// checkRoom says what is wrong with the name of a room.
func checkRoom(room string) error {
	switch {
	case room == "":
		return fault.Invalid.Errorf("the topic has no name behind the collection: write it as COLLECTION/ROOM, such as Note/lobby")
	case len(room) > maxRoomName:
		return fault.TooLarge.Errorf("the name of a room has %d bytes, allowed are %d", len(room), maxRoomName)
	case room == "." || room == "..": // which addresses cannot tell
		return fault.Invalid.Errorf("a room cannot be called %q: choose another name", room)
	case !utf8.ValidString(room) || strings.ContainsFunc(room, unicode.IsControl):
		return fault.Invalid.Errorf("the name of a room %q: want text without control characters", room)
	}
	return nil
}

// line is a topic of gossip that carries one room, under one secret of its
// collection. Its name is as blind as those of collections; but whoever knows the
// secret sees of which collection it is, and can read and pass on what is in it
// without knowing the name of the room before.
type line struct {
	gossip.Channel
	tag   roomTag
	topic *gossip.Topic

	// The rest is guarded by rooms.mu.
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
	return ticketText.EncodeToString(s.Derive(labelHouse, id[:])[:15])
}

func lineName(c claim, tag roomTag) string {
	return linePrefix + house(c.secret, c.id) + "/" + ticketText.EncodeToString(tag[:])
}

// splitLine takes the name of a line apart.
func splitLine(name string) (house string, tag roomTag, ok bool) {
	rest, ok := strings.CutPrefix(name, linePrefix)
	if !ok || len(rest) != 2*linePart+1 || rest[linePart] != '/' {
		return "", tag, false
	}
	raw, err := ticketText.DecodeString(rest[linePart+1:])
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
