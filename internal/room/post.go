package room

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
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

// labelPost is before what the author of a post signs.
const labelPost = "pando/post/1"

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
	if len(p.body) > MaxMessage {
		return nil, fault.TooLarge.Errorf("a post of %d bytes, allowed are %d", len(p.body), MaxMessage)
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
	items, seconds := r.Array(), r.Uint()
	h.asks, h.state = r.Bool(), r.Bytes()
	if err := r.Done(); err != nil {
		return h, err
	}
	if items != 3 {
		return h, fault.Invalid.Errorf("a presence of %d items, want 3", items)
	}
	if most := uint64(presenceMost / time.Second); seconds == 0 || seconds > most {
		return h, fault.Invalid.Errorf("a presence of %d seconds, allowed are 1 to %d", seconds, most)
	}
	if len(h.state) > MaxState {
		return h, fault.TooLarge.Errorf("a state of %d bytes, allowed are %d", len(h.state), MaxState)
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
