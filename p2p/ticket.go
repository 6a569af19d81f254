package p2p

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Ticket is an invitation to share collections: where a node is that has them,
// and the secrets that admit whoever holds the ticket. Its text form is one word
// without punctuation, to be pasted, spoken by a QR code, or sent in a message.
type Ticket struct {
	Peer        peer.ID
	Addrs       []ma.Multiaddr
	Collections []TicketCollection // sorted by id
}

// TicketCollection is one collection of a ticket.
type TicketCollection struct {
	ID     dag.CollectionID
	Name   string
	secret ident.Secret // not for others to read: String is the only way out
}

const (
	ticketPrefix  = "pando"
	ticketVersion = 1
	ticketSumSize = 4
)

var ticketText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// String returns the text form: the prefix, then base32 of the CBOR form and
// the first bytes of its SHA-256, which tell a mistyped ticket from a good one.
func (t Ticket) String() string {
	b := cbor.AppendUint(cbor.AppendArray(nil, 4), ticketVersion)
	b = cbor.AppendBytes(b, []byte(t.Peer))
	b = cbor.AppendArray(b, len(t.Addrs))
	for _, a := range t.Addrs {
		b = cbor.AppendBytes(b, a.Bytes())
	}
	b = cbor.AppendArray(b, len(t.Collections))
	for _, c := range t.Collections {
		b = cbor.AppendArray(b, 3)
		b = cbor.AppendBytes(b, c.ID[:])
		b = cbor.AppendText(b, c.Name)
		b = cbor.AppendBytes(b, c.secret[:])
	}
	sum := sha256.Sum256(b)
	return ticketPrefix + ticketText.EncodeToString(append(b, sum[:ticketSumSize]...))
}

// ParseTicket reads the text form. Space around it is ignored, since tickets
// are pasted; anything else that is not exactly a ticket is Invalid.
func ParseTicket(s string) (Ticket, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxTicket {
		return Ticket{}, fault.TooLarge.Errorf("ticket: %d characters, at most %d are allowed: share fewer collections in one ticket", len(s), maxTicket)
	}
	text, ok := strings.CutPrefix(s, ticketPrefix)
	if !ok {
		return Ticket{}, fault.Invalid.Errorf("ticket: it must begin with %q: copy the whole line that share printed", ticketPrefix)
	}
	raw, err := ticketText.DecodeString(text)
	if err != nil || ticketText.EncodeToString(raw) != text { // bits beyond the last byte must be zero
		return Ticket{}, fault.Invalid.Errorf("ticket: it holds characters that no ticket has: copy it again")
	}
	if len(raw) <= ticketSumSize {
		return Ticket{}, fault.Invalid.Errorf("ticket: it is cut short: copy it again")
	}
	body, sum := raw[:len(raw)-ticketSumSize], raw[len(raw)-ticketSumSize:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:ticketSumSize]) {
		return Ticket{}, fault.Invalid.Errorf("ticket: its checksum is wrong, a character was lost or changed: copy it again")
	}
	t, err := readTicket(body)
	if err != nil {
		return Ticket{}, fault.Invalid.Errorf("ticket: %w", err)
	}
	return t, nil
}

func readTicket(body []byte) (Ticket, error) {
	var t Ticket
	r := cbor.NewReader(body)
	tuple(r, 4)
	if v := r.Uint(); r.Err() == nil && v != ticketVersion {
		return t, fault.Invalid.Errorf("it is of version %d, this node knows %d: update pando", v, ticketVersion)
	}
	id, err := peer.IDFromBytes(r.Bytes())
	if r.Err() == nil && err != nil {
		return t, fault.Invalid.Errorf("the peer id in it: %w", err)
	}
	t.Peer = id
	for n := list(r, "addresses", maxAddrs); n > 0 && r.Err() == nil; n-- {
		b := r.Bytes()
		if len(b) > maxAddrBytes {
			return t, fault.TooLarge.Errorf("an address of %d bytes in it, at most %d are allowed", len(b), maxAddrBytes)
		}
		a, err := ma.NewMultiaddrBytes(slices.Clone(b))
		if r.Err() == nil && err != nil {
			return t, fault.Invalid.Errorf("an address in it: %w", err)
		}
		t.Addrs = append(t.Addrs, a)
	}
	for n := list(r, "collections", maxTicketCollections); n > 0 && r.Err() == nil; n-- {
		var c TicketCollection
		tuple(r, 3)
		exactly(r, "a collection id", c.ID[:])
		c.Name = r.Text()
		exactly(r, "a secret", c.secret[:])
		if r.Err() == nil && (c.Name == "" || len(c.Name) > maxName) {
			return t, fault.Invalid.Errorf("a collection name of %d bytes in it, want 1 to %d", len(c.Name), maxName)
		}
		if last := len(t.Collections) - 1; last >= 0 && bytes.Compare(t.Collections[last].ID[:], c.ID[:]) >= 0 {
			return t, fault.Invalid.Errorf("its collections are not sorted")
		}
		t.Collections = append(t.Collections, c)
	}
	if err := r.Done(); err != nil {
		return t, err
	}
	if len(t.Collections) == 0 {
		return t, fault.Invalid.Errorf("it shares no collection")
	}
	return t, nil
}

// Names returns the names of the collections, as the ticket's maker knew them.
func (t Ticket) Names() []string {
	var names []string
	for _, c := range t.Collections {
		names = append(names, c.Name)
	}
	return names
}
