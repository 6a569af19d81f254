package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/pace"
)

// Finding is one thing that an examination looked at.
type Finding struct {
	About string // what was looked at
	Grade Grade
	Text  string
	Hint  string // what to do, if something is to be done
}

// Grade says how bad a finding is.
type Grade string

const (
	Good    Grade = "ok"
	Warning Grade = "warning" // it works, or will, but perhaps not as meant
	Problem Grade = "problem"
)

const (
	// examineTimeout bounds one look at one address.
	examineTimeout = 8 * time.Second
	// muchSkew is how far clocks may be apart before it is worth a word: commits that
	// are more than dag's five minutes ahead wait.
	muchSkew = 30 * time.Second
)

// examination gathers findings.
type examination struct {
	n   *Node
	all []Finding
}

func (x *examination) find(about string, g Grade, hint, format string, args ...any) {
	x.all = append(x.all, Finding{about, g, fmt.Sprintf(format, args...), hint})
}

// Examine explains why this node and others can or cannot connect and sync. target is
// a ticket, a multiaddr that ends with /p2p/…, or the ID of a known peer; without one
// this node alone is looked at, and how its known peers are. Nothing is changed by it:
// nobody is remembered, trusted or joined.
func (n *Node) Examine(ctx context.Context, target string) ([]Finding, error) {
	x := &examination{n: n}
	info, ticket, err := n.examinee(target)
	if err != nil {
		return nil, err
	}
	x.here()
	if target == "" {
		x.known(ctx)
		return x.all, nil
	}
	if info.ID == n.host.ID() {
		x.find("the target", Problem, "name another node: each has its own --rootdir", "it is this node itself")
		return x.all, nil
	}
	if err := n.host.Refuses(info.ID); err != nil {
		x.find("peer "+info.ID.String(), Problem, "pando peer allow "+info.ID.String(), "this node does not let it connect: %v", err)
		return x.all, nil
	}
	// With what works alone: of what does not, nothing is to stay with the peer.
	x.connection(ctx, peer.AddrInfo{ID: info.ID, Addrs: x.addresses(ctx, info)}, ticket)
	return x.all, nil
}

// examinee reads what names a peer.
func (n *Node) examinee(target string) (info peer.AddrInfo, t *Ticket, err error) {
	target = strings.TrimSpace(target)
	switch {
	case target == "":
		return info, nil, nil
	case strings.HasPrefix(target, ticketPrefix):
		ticket, err := ParseTicket(target)
		return peer.AddrInfo{ID: ticket.Peer, Addrs: ticket.Addrs}, &ticket, err
	case strings.HasPrefix(target, "/"):
		infos, err := parsePeers([]string{target})
		if err != nil {
			return info, nil, err
		}
		return infos[0], nil, nil
	}
	p, err := peer.Decode(target)
	if err == nil {
		_, err = p.ExtractPublicKey() // an ID that is cut short has none
	}
	if err != nil {
		return info, nil, fault.Invalid.Errorf("%q is no ticket, no multiaddr and no peer ID: %w", target, err)
	}
	info = peer.AddrInfo{ID: p, Addrs: n.host.Peerstore().Addrs(p)}
	n.mu.Lock()
	for _, a := range n.known[p].addrs {
		if !slices.ContainsFunc(info.Addrs, a.Equal) {
			info.Addrs = append(info.Addrs, a)
		}
	}
	n.mu.Unlock()
	return info, nil, nil
}

// here looks at this node.
func (x *examination) here() {
	addrs := x.n.host.Addrs()
	const about = "this node listens"
	switch {
	case len(addrs) == 0:
		x.find(about, Problem, "start it with --p2paddr /ip4/0.0.0.0/tcp/9171,/ip4/0.0.0.0/udp/9171/quic-v1", "on no address: nobody can connect to it")
	case !slices.ContainsFunc(addrs, func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) }):
		x.find(about, Warning, "to let other machines in, start it with --p2paddr /ip4/0.0.0.0/tcp/9171,/ip4/0.0.0.0/udp/9171/quic-v1",
			"on this machine only (%s): others cannot connect to it, but it can connect to them", addrList(addrs))
	case !slices.ContainsFunc(addrs, manet.IsPublicAddr):
		x.find(about, Good, "", "on %s: in the local network it can be reached, from the Internet only by way of a router that forwards the port, or of a relay", addrList(addrs))
	default:
		x.find(about, Good, "", "on %s", addrList(addrs))
	}
	x.reach()
	if len(x.n.db.Collections()) == 0 {
		x.find("collections", Warning, "add a schema, or join with a ticket", "this node has none: there is nothing to sync")
	}
}

// reach tells whether others get in.
func (x *examination) reach() {
	r := x.n.Reach()
	const about = "this node is reached"
	var relays []string
	for _, p := range r.Relays {
		if p.Limited {
			relays = append(relays, p.Relay+" (which carries only what it takes to find a direct way)")
		} else {
			relays = append(relays, p.Relay)
		}
	}
	switch {
	case len(relays) > 0:
		x.find(about, Good, "", "from outside by way of the relays %s", strings.Join(relays, ", "))
	case r.Direct == "public":
		x.find(about, Good, "", "from outside: other nodes have tried")
	case r.Direct == "private":
		x.find(about, Warning, "forward its port on the router, try --nat-map, or sync with a node that was started with --relay", "not from outside: other nodes have tried, and there is no relay")
	}
	if r.Relay != nil {
		x.find("this node relays", Good, "", "for %d peers; it carries %d connections now", r.Relay.Places, r.Relay.Connections)
	}
}

func addrList(addrs []ma.Multiaddr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return strings.Join(all, ", ")
}

// known tells how it goes with the peers that this node remembers.
func (x *examination) known(ctx context.Context) {
	status, err := x.n.Status(ctx)
	if err != nil {
		x.find("peers", Problem, "", "%v", err)
		return
	}
	if len(status.Peers) == 0 {
		x.find("peers", Warning, "join with a ticket, or name one: pando peer connect MULTIADDR", "this node knows none")
	}
	for _, p := range status.Peers {
		x.peerStatus(p, "look closer: pando doctor "+p.ID)
	}
	x.skew(status.Skew)
}

// peerStatus tells how one peer's copies compare.
func (x *examination) peerStatus(p PeerStatus, unreachable string) {
	about := "peer " + p.ID
	if !p.Connected {
		x.find(about, Problem, unreachable, "not connected")
		return
	}
	if p.Problem != "" {
		x.find(about, Problem, p.Hint, "connected, but the last session failed: %s", p.Problem)
		return
	}
	same, apart, grade := 0, 0, Good
	var others []string
	for _, c := range p.Collections {
		if c.State == Identical {
			same++
			continue
		}
		others = append(others, fmt.Sprintf("%s: %s", c.Name, c.State))
		switch {
		case c.State == NotAdmitted: // not everything is for everybody
			apart++
		case c.State != Differs && c.State != Comparing:
			grade = Problem
		case grade == Good:
			grade = Warning
		}
	}
	if apart > 0 && apart == len(p.Collections) {
		grade = Problem
	}
	if len(others) == 0 {
		x.find(about, grade, p.Hint, "connected, round trip %v, %d of %[2]d collections identical", p.RTT.Round(time.Millisecond/10), same)
		return
	}
	hint := p.Hint
	untold := slices.ContainsFunc(p.Collections, func(c PeerCollection) bool { return c.State == Uncomparable })
	switch {
	case hint == "" && untold:
		hint = "one side cannot tell the part from the rest: use the same version of the collection on both (pando schema activate), or keep another part (pando keep)"
	case hint == "":
		hint = "differences are being mended: look again in a minute"
		for _, c := range p.Collections {
			if wanted := x.n.groupWanted(c.ID); wanted != "" && c.State == Differs {
				hint = wanted
			}
		}
	}
	x.find(about, grade, hint, "connected, %d of %d collections identical; %s", same, len(p.Collections), strings.Join(others, ", "))
}

func (x *examination) skew(skew time.Duration) {
	if skew.Abs() < muchSkew {
		return
	}
	ahead := "behind"
	if skew < 0 {
		ahead = "ahead of"
	}
	x.find("clock", Problem, "set the clock of this machine, or of the others, by NTP: whose clock runs ahead wins conflicts, and what is over five minutes ahead waits",
		"this machine's clock is %v %s those of its peers", skew.Abs().Round(time.Second), ahead)
}

// addresses tries each address by itself, and returns those worth connecting by.
func (x *examination) addresses(ctx context.Context, info peer.AddrInfo) (good []ma.Multiaddr) {
	if len(info.Addrs) == 0 {
		x.find("the peer's addresses", Problem, "ask for a ticket or a multiaddr, which names them", "none is known of peer %s", info.ID)
		return nil
	}
	info.Addrs = info.Addrs[:min(len(info.Addrs), maxAddrs)]
	found := make([]Finding, len(info.Addrs))
	var tries sync.WaitGroup
	// Another connection would take the place of the one there is, at the peer.
	conns := x.n.host.Network().ConnsToPeer(info.ID)
	for i, a := range info.Addrs {
		if len(conns) > 0 {
			found[i] = inUse(conns, a)
			continue
		}
		tries.Go(func() { found[i] = x.n.tryAddress(ctx, info.ID, a) })
	}
	tries.Wait()
	works := len(conns) > 0 || slices.ContainsFunc(found, func(f Finding) bool { return f.Grade != Problem })
	for i, f := range found {
		if len(conns) == 0 && f.Grade != Problem {
			good = append(good, info.Addrs[i])
		}
		if works && f.Grade == Problem {
			f.Grade = Warning // one that works is enough
		}
		x.all = append(x.all, f)
	}
	return good
}

// inUse tells of an address of a peer that is connected.
func inUse(conns []network.Conn, a ma.Multiaddr) Finding {
	f := Finding{About: "address " + a.String(), Grade: Good, Text: "not tried: there is a connection already, over another"}
	if slices.ContainsFunc(conns, func(c network.Conn) bool { return c.RemoteMultiaddr().Equal(a) }) {
		f.Text = "in use"
	}
	return f
}

// tryAddress opens a connection of its own, and closes it.
func (n *Node) tryAddress(ctx context.Context, p peer.ID, a ma.Multiaddr) Finding {
	f := Finding{About: "address " + a.String(), Grade: Problem}
	dialer, ok := n.host.Network().(interface {
		TransportForDialing(ma.Multiaddr) transport.Transport
	})
	if !ok {
		f.Grade, f.Text = Warning, "it cannot be tried with this network"
		return f
	}
	switch first := a.Protocols()[0]; first.Code {
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		name, _ := a.ValueForProtocol(first.Code)
		ips, err := net.DefaultResolver.LookupHost(ctx, name)
		if err != nil {
			f.Text, f.Hint = fmt.Sprintf("the name cannot be looked up: %v", err), "is it spelled right, and does this machine have DNS?"
			return f
		}
		f.Grade, f.Text = Warning, fmt.Sprintf("a name of %s, tried only by connecting", strings.Join(ips, ", "))
		return f
	case ma.P_DNSADDR:
		f.Grade, f.Text = Warning, "a name for other addresses, tried only by connecting"
		return f
	}
	t := dialer.TransportForDialing(a)
	if t == nil {
		f.Text, f.Hint = "this node does not speak that transport", "the peer should listen on TCP or QUIC"
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	begun := time.Now()
	c, err := t.Dial(ctx, a, p)
	if err != nil {
		f.Text, f.Hint = host.WhyNot(a, err)
		return f
	}
	took := time.Since(begun)
	c.Close() // it has shown what it should
	f.Grade, f.Text = Good, fmt.Sprintf("it answers, and is who it should be (%v)", took.Round(time.Millisecond/10))
	return f
}

// connection connects as a session would, and looks at what the peers tell each other.
func (x *examination) connection(ctx context.Context, info peer.AddrInfo, t *Ticket) {
	n := x.n
	about := "peer " + info.ID.String()
	if n.isBanned(info.ID) {
		x.find(about, Problem, "it broke the protocol: see the log for why; pando peer connect lifts it", "it is cut off for a while")
		return
	}
	before := n.host.Network().Connectedness(info.ID)
	if len(info.Addrs) == 0 && before == network.NotConnected {
		x.find(about, Problem, "mend one of the addresses above, or let both use a relay", "no address works: there can be no connection")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := n.connect(ctx, info); err != nil {
		x.find(about, Problem, shutOutHint, "%v", err)
		return
	}
	if before == network.NotConnected && !n.named(info.ID) {
		defer n.hangUp(info.ID)
	}
	x.introduction(info.ID)
	if t != nil {
		x.ticket(ctx, info.ID, *t)
		return
	}
	status, err := n.Status(ctx)
	if err != nil {
		x.find(about, Problem, "", "%v", err)
		return
	}
	for _, p := range status.Peers {
		if p.ID == info.ID.String() {
			x.peerStatus(p, shutOutHint)
		}
	}
	n.mu.Lock()
	var skew time.Duration
	if c := n.companions[info.ID]; c != nil {
		skew = c.skew
	}
	n.mu.Unlock()
	x.skew(skew)
}

// shutOutHint is what to look at if an address answers, and no connection lasts.
const shutOutHint = "the peer may be closed, deny this node, or have cut it off: look at pando peer allowed there, and at its log; " + clockHint

// hangUp closes a connection that was made to look, unless it turned out to be good
// for something.
func (n *Node) hangUp(p peer.ID) {
	if !n.admission.knows(p) {
		n.host.Network().ClosePeer(p)
	}
}

// introduction tells what the peer says of itself.
func (x *examination) introduction(p peer.ID) {
	about := "peer " + p.String()
	protos, err := x.n.host.Peerstore().SupportsProtocols(p, syncProtocols...)
	if err != nil || len(protos) == 0 {
		x.find(about, Problem, "update the older of both nodes", "it speaks no version of the protocol that this node knows")
		return
	}
	how := "directly"
	conns := x.n.host.Network().ConnsToPeer(p)
	for _, c := range conns {
		if _, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT); err == nil {
			how = "by way of a relay"
		}
	}
	if len(conns) > 0 {
		how += " over " + conns[0].RemoteMultiaddr().String()
	}
	newest := slices.MinFunc(protos, func(a, b protocol.ID) int { return slices.Index(syncProtocols, a) - slices.Index(syncProtocols, b) })
	x.find(about, Good, "", "connected %s; both speak %s", how, newest)
}

// ticket looks whether the peer admits who holds a ticket. It greets as a join
// would, and takes nothing: what the ticket admits to stays unknown here.
func (x *examination) ticket(ctx context.Context, p peer.ID, t Ticket) {
	there, err := x.n.greetWith(ctx, p, t)
	refused := new(refuse)
	for tries := 1; tries < 8 && errors.As(err, &refused) && refused.After > 0 && refused.After <= busyFor; tries++ { // busy for a moment is no finding
		if !pace.Sleep(ctx, pace.Jitter(refused.After, 0.5)) {
			break
		}
		there, err = x.n.greetWith(ctx, p, t)
	}
	if err != nil {
		x.find("the ticket", Problem, "", "%v", err)
		return
	}
	for _, theirs := range there {
		if theirs.Clock > 0 {
			x.skew(time.UnixMilli(int64(theirs.Clock)).Sub(x.n.replica.Now()))
			break
		}
	}
	for _, c := range t.Collections {
		about := "collection " + c.Name
		theirs, shared := there[c.ID]
		switch own, err := x.n.db.Collection(c.Name); {
		case err == nil && own.ID != c.ID:
			x.find(about, Problem, "the same definition is needed on every node: rename one of them", "another collection of this name exists here")
		case !shared:
			x.find(about, Problem, "ask for a new ticket", "the peer does not share it under this ticket any more")
		case err != nil && theirs.ofPart():
			x.find(about, Good, "get it with pando join", "shared, as far as the peer keeps it; nothing is here yet")
		case err != nil:
			x.find(about, Good, "get them with pando join", "shared: %d documents there, none here yet", theirs.Count)
		default:
			x.compare(ctx, about, c.ID, theirs)
		}
	}
}

func (x *examination) compare(ctx context.Context, about string, id dag.CollectionID, theirs card) {
	mine, err := x.n.card(ctx, "", id)
	if err != nil {
		x.find(about, Problem, "", "%v", err)
		return
	}
	if mine.ofPart() || theirs.ofPart() {
		x.find(about, Good, "", "shared; one side keeps a part of it, which pando status compares")
		return
	}
	if (pair{id: id, mine: mine, theirs: theirs}).equal() {
		x.find(about, Good, "", "shared, and identical on both sides")
		return
	}
	x.find(about, Warning, "pando join, if this node has not joined yet; else look again in a minute", "shared, but not the same: %d documents here, %d there", mine.Count, theirs.Count)
}

// greetWith shows a peer the secrets of a ticket, and returns what it says of the
// collections that it proves to share under them.
func (n *Node) greetWith(ctx context.Context, p peer.ID, t Ticket) (map[dag.CollectionID]card, error) {
	s, err := n.open(ctx, p, syncProtocols)
	if err != nil {
		return nil, err
	}
	w := newAsking(s, &n.traffic)
	defer w.abort()
	defer context.AfterFunc(ctx, w.abort)()
	mine := &hello{}
	rand.Read(mine.Nonce[:])
	expected := map[proof]TicketCollection{}
	for _, c := range t.Collections {
		e := entry{prove(c.secret, n.host.ID(), p, c.ID), card{}.plain()}
		e.Card.veil(c.secret, n.host.ID(), p, c.ID, mine.Nonce)
		mine.Entries = append(mine.Entries, e)
		expected[prove(c.secret, p, n.host.ID(), c.ID)] = c
	}
	if err := w.send(mine); err != nil {
		return nil, err
	}
	theirs, _, err := greeted(w)
	if err != nil {
		return nil, err
	}
	shared := map[dag.CollectionID]card{}
	for _, e := range theirs.Entries {
		if c, ok := expected[e.Proof]; ok {
			shared[c.ID] = n.lifted(p, e, claim{c.ID, c.secret}, theirs.Nonce)
		}
	}
	return shared, nil
}
