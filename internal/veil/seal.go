package veil

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// GroupDocument is the group of all encrypted fields without keys of their own. The
// group of another is its number.
const GroupDocument = 1

// overhead is what sealing adds: the nonce and the tag.
const overhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

const linkSize = secretSize + overhead

// aead returns the cipher for one purpose under a secret:
//
//	key = HKDF-SHA256(secret, salt: epoch, info: purpose ‖ number, 8 bytes big-endian)
//
// Secrets are random and whole, so that no two purposes share a key, and each key
// meets random nonces of 24 bytes.
func (s Secret) aead(e EpochID, purpose string, number uint64) (cipher.AEAD, error) {
	info := binary.BigEndian.AppendUint64([]byte(purpose), number)
	key, err := hkdf.Key(sha256.New, s[:], e[:], string(info), chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.NewX(key)
}

func seal(a cipher.AEAD, rand io.Reader, text, aad []byte) ([]byte, error) {
	b := make([]byte, chacha20poly1305.NonceSizeX, overhead+len(text))
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("random bytes for a nonce: %w", err)
	}
	return a.Seal(b, b[:chacha20poly1305.NonceSizeX], text, aad), nil
}

// open returns nil and false whatever is wrong.
func open(a cipher.AEAD, sealed, aad []byte) ([]byte, bool) {
	if len(sealed) < overhead {
		return nil, false
	}
	text, err := a.Open(nil, sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:], aad)
	return text, err == nil
}

// sealTo wraps the secret to a reader.
func (s Secret) sealTo(to ident.PublicKey, doc ID, e EpochID) (Wrap, error) {
	sealed, err := ident.Seal(to, wrapInfo(doc, e), s[:])
	return Wrap{to, sealed}, err
}

// wrapsEach is how many wraps make it worthwhile to wake another core: each takes some
// 0.1 ms.
const wrapsEach = 2

// sealToAll wraps the secret to those of the readers who can have their keys, on all
// cores if they are many.
func (s Secret) sealToAll(readers []ident.PublicKey, doc ID, e EpochID) ([]Wrap, error) {
	wraps := make([]Wrap, len(readers))
	errs := make([]error, len(readers))
	var next atomic.Int32
	work := func() {
		for i := int(next.Add(1)) - 1; i < len(readers); i = int(next.Add(1)) - 1 {
			wraps[i], errs[i] = s.sealTo(readers[i], doc, e)
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(readers)/wrapsEach) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	kept := wraps[:0]
	for i, w := range wraps {
		switch {
		case errs[i] == nil:
			kept = append(kept, w)
		case !errors.Is(errs[i], fault.Invalid): // a key that nobody can have must not keep others from writing
			return nil, errs[i]
		}
	}
	return kept, nil
}

func wrapInfo(doc ID, e EpochID) []byte {
	return append(append([]byte(wrapDomain), doc[:]...), e[:]...)
}

// open returns the secret if the wrap is for that key and holds that of the epoch.
func (w Wrap) open(k ident.Key, doc ID, e EpochID) (Secret, bool) {
	text, err := k.Open(wrapInfo(doc, e), w.Sealed)
	if err != nil {
		return Secret{}, false
	}
	return checked(text, doc, e)
}

// checked returns the secret if it is that of the epoch.
func checked(text []byte, doc ID, e EpochID) (Secret, bool) {
	if len(text) != secretSize || Secret(text).Epoch(doc) != e {
		return Secret{}, false
	}
	return Secret(text), true
}

// link seals the secret of an earlier epoch under this one.
func (s Secret) link(doc ID, e, older EpochID, secret Secret, rand io.Reader) (Op, error) {
	a, err := s.aead(e, linkDomain, 0)
	if err != nil {
		return Op{}, err
	}
	sealed, err := seal(a, rand, secret[:], linkInfo(doc, e, older))
	return Op{Kind: Link, Epoch: e, Older: older, Sealed: sealed}, err
}

func linkInfo(doc ID, e, older EpochID) []byte {
	return append(append(append([]byte(linkDomain), doc[:]...), e[:]...), older[:]...)
}

// unlink returns the secret of the earlier epoch.
func (s Secret) unlink(doc ID, o *Op) (Secret, bool) {
	a, err := s.aead(o.Epoch, linkDomain, 0)
	if err != nil {
		return Secret{}, false
	}
	text, ok := open(a, o.Sealed, linkInfo(doc, o.Epoch, o.Older))
	if !ok {
		return Secret{}, false
	}
	return checked(text, doc, o.Older)
}

// Key is what segments are sealed with.
type Key struct {
	Epoch  EpochID
	Secret Secret
}

// segmentInfo is the additional data of a segment: where it belongs. Author and clock
// are part of it, so that nobody can pass what another wrote for something new, whether
// he can read it or not.
func (k Key) segmentInfo(c *dag.Commit, group uint64) []byte {
	b := make([]byte, 0, len(segmentDomain)+32+32+8+8+ident.MaxPublicKeySize)
	b = append(append(append(b, segmentDomain...), c.Doc[:]...), k.Epoch[:]...)
	b = binary.BigEndian.AppendUint64(b, group)
	b = binary.BigEndian.AppendUint64(b, c.HLC)
	return append(b, c.Author.Key...)
}

// Seal moves the operations that are to be encrypted into segments. The document, the
// author and the clock of the commit must be filled in; call it before dag.Prepare. A
// first commit gets a segment in any case: its docID must not be the hash of what is
// in clear.
func (k Key) Seal(c *dag.Commit, cover Cover, rand io.Reader) error {
	var clear []crdt.Delta
	groups := map[uint64][]crdt.Delta{}
	for _, d := range c.Deltas {
		if g := cover.Group(d.Field); g == 0 {
			clear = append(clear, d)
		} else {
			groups[g] = append(groups[g], d)
		}
	}
	if c.Root != nil && len(groups) == 0 {
		g := uint64(GroupDocument)
		if !cover.All {
			g = uint64(cover.Fields[0])
		}
		groups[g] = nil
	}
	for g, deltas := range groups {
		a, err := k.Secret.aead(k.Epoch, segmentDomain, g)
		if err != nil {
			return err
		}
		sealed, err := seal(a, rand, appendDeltas(nil, deltas), k.segmentInfo(c, g))
		if err != nil {
			return err
		}
		c.AddSegment(g, k.Epoch.Number(), sealed)
	}
	c.Deltas = clear
	return nil
}

// Seals reports whether some of the operations are to be encrypted.
func (c Cover) Seals(deltas []crdt.Delta) bool {
	return slices.ContainsFunc(deltas, func(d crdt.Delta) bool { return c.Group(d.Field) != 0 })
}

func appendDeltas(b []byte, deltas []crdt.Delta) []byte {
	b = cbor.AppendArray(b, len(deltas))
	for _, d := range deltas {
		b = crdt.AppendDelta(b, d)
	}
	return b
}

// open returns the operations of an encrypted segment. One that does not open, or
// holds something else, has none: whoever has the secret comes to that, so that
// nobody can show different things to different readers. Operations that do not
// belong into the group are void.
func (k Key) open(c *dag.Commit, i int) (deltas []crdt.Delta, ok bool) {
	group := c.Segs[i].Group
	a, err := k.Secret.aead(k.Epoch, segmentDomain, group)
	if err != nil {
		return nil, false
	}
	text, ok := open(a, c.Payload[i], k.segmentInfo(c, group))
	if !ok {
		return nil, false
	}
	r := cbor.NewReader(text)
	n := r.Array()
	if n > dag.MaxOps {
		return nil, true
	}
	for j := 0; j < n && r.Err() == nil; j++ {
		d := crdt.ReadDelta(r)
		if d.Field < crdt.FirstField || group != GroupDocument && uint64(d.Field) != group {
			d.Void = true
		}
		deltas = append(deltas, d)
	}
	if r.Done() != nil {
		return nil, true
	}
	return deltas, true
}
