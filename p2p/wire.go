package p2p

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/host"
)

// stream is what the protocols need of a libp2p stream.
type stream interface {
	io.ReadWriteCloser
	Reset() error
	CloseRead() error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// wire carries messages over one stream: each a frame of its length as uvarint
// and a CBOR array. Not safe for concurrent use, except that one goroutine may
// read while another writes.
type wire struct {
	s             stream
	version       uint64 // of the protocol, on which both sides agreed
	limited       bool   // a relay carries the stream, and not much of it
	r             *bufio.Reader
	out           []byte        // of the frame being written
	patient       time.Duration // how long a read may take
	read, written atomic.Int64
	traffic       *traffic
	asks          bool        // this side opened the stream: what it reads are answers
	asked         atomic.Bool // it sent something since it last read
	peer          peer.ID     // "" of a stream that is none of libp2p
	book          atomic.Pointer[tally]
}

// traffic counts the bytes of many wires, and how often the side that asks had to
// wait for an answer.
type traffic struct {
	received, sent, roundTrips atomic.Uint64
	ledger                     ledger
}

func newWire(s stream, t *traffic) *wire {
	w := &wire{s: s, version: protocolVersion, r: bufio.NewReaderSize(s, 4<<10), patient: frameTimeout, traffic: t}
	if named, ok := s.(interface{ Protocol() protocol.ID }); ok {
		w.version = versionOf(named.Protocol())
	}
	if over, ok := s.(interface{ Conn() network.Conn }); ok {
		w.peer, w.limited = over.Conn().RemotePeer(), over.Conn().Stat().Limited
	}
	w.about(dag.CollectionID{})
	return w
}

// about says for which collection the next frames are, the zero one for none.
func (w *wire) about(id dag.CollectionID) {
	if w.peer != "" {
		w.book.Store(w.traffic.ledger.of(w.peer, id))
	}
}

// newAsking returns a wire over a stream that this side opened.
func newAsking(s stream, t *traffic) *wire {
	w := newWire(s, t)
	w.asks = true
	return w
}

// message is what a frame carries. Its type is the first item of the array.
type message interface {
	append(b []byte) []byte
}

// send writes one message.
func (w *wire) send(m message) error {
	// The length stands before the body: leave room for the longest and fill it in.
	const room = binary.MaxVarintLen32
	w.out = append(w.out[:0], make([]byte, room)...)
	if h, ok := m.(*hello); ok {
		h.Version = w.version
	}
	w.out = m.append(w.out)
	size := len(w.out) - room
	if size > maxFrame {
		return fault.TooLarge.Errorf("a message of %d bytes to send, the limit is %d", size, maxFrame)
	}
	var head [room]byte
	n := binary.PutUvarint(head[:], uint64(size))
	frame := w.out[room-n:]
	copy(frame, head[:n])

	w.asked.Store(w.asks)
	w.s.SetWriteDeadline(time.Now().Add(frameTimeout)) // a stream without deadlines is bounded by its peer's
	if _, err := w.s.Write(frame); err != nil {
		return fault.Unavailable.Errorf("send: %w", host.Plainly(err))
	}
	w.written.Add(int64(len(frame)))
	w.traffic.sent.Add(uint64(len(frame)))
	w.book.Load().gave(len(frame))
	if cap(w.out) > keepBuffer {
		w.out = nil
	}
	return nil
}

// keepBuffer is up to which size a buffer is kept between frames: most are small.
const keepBuffer = 64 << 10

// receive reads the next message. A REFUSE is returned as the error it carries.
// At the end of the stream the error is io.EOF. The message owns its bytes.
func (w *wire) receive() (message, error) {
	body, err := w.frame()
	if err != nil {
		return nil, err
	}
	m, err := decode(w.version, body)
	if err != nil {
		return nil, err
	}
	if refused, ok := m.(*refuse); ok {
		return nil, refused
	}
	return m, nil
}

// frame reads the bytes of the next frame into memory of its own, because
// messages alias it.
func (w *wire) frame() ([]byte, error) {
	if w.asked.CompareAndSwap(true, false) {
		w.traffic.roundTrips.Add(1)
	}
	w.s.SetReadDeadline(time.Now().Add(w.patient))
	size, err := binary.ReadUvarint(w.r)
	if err == io.EOF {
		return nil, io.EOF
	}
	if err != nil {
		return nil, fault.Unavailable.Errorf("wait for a message: %w", host.Plainly(err))
	}
	if size == 0 || size > maxFrame {
		return nil, breach("a message of %d bytes, allowed are 1 to %d", size, maxFrame)
	}
	// Grown as the bytes arrive: the length alone must not cost memory.
	body := make([]byte, 0, min(int(size), keepBuffer))
	for len(body) < int(size) {
		step := min(int(size)-len(body), max(keepBuffer, len(body)))
		start := len(body)
		body = append(body, make([]byte, step)...)
		if _, err := io.ReadFull(w.r, body[start:]); err != nil {
			return nil, fault.Unavailable.Errorf("read a message of %d bytes: %w", size, host.Plainly(err))
		}
	}
	n := int64(size) + int64(uvarintLen(size))
	w.read.Add(n)
	w.traffic.received.Add(uint64(n))
	w.book.Load().got(int(n))
	return body, nil
}

func uvarintLen(v uint64) int {
	return len(binary.AppendUvarint(nil, v))
}

// bytes returns how much went over the stream, both ways.
func (w *wire) bytes() uint64 { return uint64(w.read.Load() + w.written.Load()) }

// abort ends the stream at once, in both directions and for whoever waits on it.
func (w *wire) abort() { w.s.Reset() }

// expect reads the next message and requires it to be of type M.
func expect[M message](w *wire) (M, error) {
	var none M
	m, err := w.receive()
	if err == io.EOF {
		return none, fault.Unavailable.Errorf("the peer closed the stream where an answer should follow")
	}
	if err != nil {
		return none, err
	}
	want, ok := m.(M)
	if !ok {
		return none, breach("a message of type %T where %T should follow", m, none)
	}
	return want, nil
}

// A breach is an error that only a peer that does not keep the protocol can
// cause: its sender is cut off.
type breachError struct{ err error }

func (b *breachError) Error() string { return b.err.Error() }
func (b *breachError) Unwrap() error { return b.err }

func breach(format string, args ...any) error {
	return &breachError{fault.Invalid.Errorf("protocol: "+format, args...)}
}

// decode reads one message of a version of the protocol strictly: canonical,
// complete, within its limits.
func decode(version uint64, body []byte) (message, error) {
	r := cbor.NewReader(body)
	items := r.Array()
	kind := r.Uint()
	if r.Err() != nil {
		return nil, breach("%w", r.Err())
	}
	// What a newer version may contain is no breach: it is refused, and says why.
	if kind >= uint64(len(messages)) || messages[kind].read == nil || messages[kind].since > version {
		return nil, &refuse{Code: refusedVersion, Text: fmt.Sprintf("a message of type %d is not known here: update the older of both nodes", kind)}
	}
	if kind == msgHello {
		peek := *r
		if v := peek.Uint(); peek.Err() == nil && v != version {
			return nil, &refuse{Code: refusedVersion, Text: fmt.Sprintf("a peer of version %d of the protocol meets one of version %d: update the older of both nodes", v, version)}
		}
	}
	t := messages[kind]
	if items != t.items {
		return nil, breach("%s of %d items, want %d", t.name, items, t.items)
	}
	m := t.read(r)
	if err := r.Done(); err != nil {
		return nil, breach("%s: %w", t.name, err)
	}
	return m, nil
}

// list reads the head of an array of at most limit items.
func list(r *cbor.Reader, what string, limit int) int {
	n := r.Array()
	if n > limit {
		r.Fail(fault.TooLarge.Errorf("%d %s, allowed are %d", n, what, limit))
		return 0
	}
	return n
}

// exactly reads bytes into out, whose length they must have.
func exactly(r *cbor.Reader, what string, out []byte) {
	if b := r.Bytes(); r.Err() == nil && len(b) != len(out) {
		r.Fail(fault.Invalid.Errorf("%s of %d bytes, want %d", what, len(b), len(out)))
	} else {
		copy(out, b)
	}
}
