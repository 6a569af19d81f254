package main

import (
	"encoding/binary"
	"net/netip"
)

// nat stands between one host and the others as a home router does: it gives what
// the host sends a port of its own public address, and lets in only answers from
// where something was sent.
type nat struct {
	public netip.Addr
	// hard gives every destination another port. Holes cannot be punched through it.
	hard   bool
	inside *port

	mappings map[mapping]uint16
	owners   map[uint16]mapping
	sentTo   map[sentTo]bool
	last     uint16
}

type mapping struct {
	proto  byte
	inside netip.AddrPort
	remote netip.AddrPort // only of a hard one
}

type sentTo struct {
	proto  byte
	public uint16
	remote netip.AddrPort
}

func newNAT(public string, hard bool) *nat {
	return &nat{public: netip.MustParseAddr(public), hard: hard, last: 20000,
		mappings: map[mapping]uint16{}, owners: map[uint16]mapping{}, sentTo: map[sentTo]bool{}}
}

// leave makes a packet one of the public address. The exchange's lock is held.
func (n *nat) leave(p packet) bool {
	m := mapping{proto: p.proto(), inside: p.src()}
	if n.hard {
		m.remote = p.dst()
	}
	public, ok := n.mappings[m]
	if !ok {
		n.last++
		public = n.last
		n.mappings[m], n.owners[public] = public, m
	}
	n.sentTo[sentTo{p.proto(), public, p.dst()}] = true
	p.readdress(srcAt, netip.AddrPortFrom(n.public, public))
	return true
}

// enter makes a packet one of the host's address, if it is an answer.
func (n *nat) enter(p packet) bool {
	m, ok := n.owners[p.dst().Port()]
	if !ok || m.proto != p.proto() || !n.sentTo[sentTo{p.proto(), p.dst().Port(), p.src()}] {
		return false
	}
	p.readdress(dstAt, m.inside)
	return true
}

// packet is an IPv4 packet with TCP or UDP in it.
type packet []byte

const (
	protoTCP, protoUDP = 6, 17

	srcAt, dstAt = 0, 1
)

// ok reports whether it is one, and whole.
func (p packet) ok() bool {
	if len(p) < 20 || p[0]>>4 != 4 || binary.BigEndian.Uint16(p[6:])&0x3fff != 0 {
		return false
	}
	switch need := p.header(); p.proto() {
	case protoTCP:
		return len(p) >= need+20
	case protoUDP:
		return len(p) >= need+8
	}
	return false
}

func (p packet) header() int         { return int(p[0]&0xf) * 4 }
func (p packet) proto() byte         { return p[9] }
func (p packet) src() netip.AddrPort { return p.end(srcAt) }
func (p packet) dst() netip.AddrPort { return p.end(dstAt) }

func (p packet) end(which int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12+4*which:])), binary.BigEndian.Uint16(p[p.header()+2*which:]))
}

// readdress changes the source or the destination, and the checksums with it.
func (p packet) readdress(which int, to netip.AddrPort) {
	body := p[p.header():]
	sumAt := 16
	if p.proto() == protoUDP {
		sumAt = 6
	}
	addr := to.Addr().As4()
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], to.Port())
	oldAddr, oldPort := p[12+4*which:16+4*which], body[2*which:2*which+2]
	amend(p[10:12], oldAddr, addr[:])
	if p.proto() == protoTCP || body[sumAt]|body[sumAt+1] != 0 { // UDP may have none
		amend(body[sumAt:sumAt+2], oldAddr, addr[:])
		amend(body[sumAt:sumAt+2], oldPort, port[:])
	}
	copy(oldAddr, addr[:])
	copy(oldPort, port[:])
}

// amend updates an Internet checksum for bytes that change (RFC 1624).
func amend(sum, was, is []byte) {
	total := uint32(^binary.BigEndian.Uint16(sum))
	for i := 0; i < len(was); i += 2 {
		total += uint32(^binary.BigEndian.Uint16(was[i:])) + uint32(binary.BigEndian.Uint16(is[i:]))
	}
	for total>>16 != 0 {
		total = total&0xffff + total>>16
	}
	binary.BigEndian.PutUint16(sum, ^uint16(total))
}
