package p2p

import (
	"slices"
	"strings"
	"unicode"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// foreign says why a peer that was connected does not understand this node; "" if
// it does, or did not say yet what it speaks.
func (n *Node) foreign(p peer.ID) string {
	all, err := n.host.Peerstore().GetProtocols(p)
	if err != nil || len(all) == 0 {
		return ""
	}
	prefix := strings.TrimRight(string(protocolSync), "0123456789")
	var theirs []protocol.ID
	for _, id := range all {
		if slices.Contains(syncProtocols, id) {
			return ""
		}
		if strings.HasPrefix(string(id), prefix) {
			theirs = append(theirs, id)
		}
	}
	if len(theirs) == 0 && !n.host.Here(p) {
		return "" // a node that is stopped takes back what it speaks before it goes
	}
	if len(theirs) == 0 {
		return "it does not speak " + string(protocolSync) + ": is it a node of Pando?"
	}
	slices.Sort(theirs)
	return "it speaks " + spoken(theirs) + ", and this node " + spoken(syncProtocols) + ": update the older of both"
}

func spoken(ids []protocol.ID) string { return strings.Join(protocol.ConvertToStrings(ids), " and ") }

// maxReason bounds a text for people that comes from a peer.
const maxReason = 512

// forPeople returns a text that came from a peer as it may be shown: it is short, and nothing
// in it moves a cursor or turns the order of letters round.
func forPeople(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), maxReason)], "\uFFFD")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '\uFFFD'
		}
		return r
	}, text)
}
