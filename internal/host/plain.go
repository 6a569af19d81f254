package host

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/pandodb/pando/internal/fault"
)

// plainError is an error of the library, in words of whoever runs the node: one line
// that says what it means. What it was stays to be asked for.
type plainError struct {
	text string
	err  error
}

func (p *plainError) Error() string { return p.text }
func (p *plainError) Unwrap() error { return p.err }

// Plainly says what it means that a stream broke, or could not be opened. Errors that
// need no words of their own stay what they are.
func Plainly(err error) error {
	stream, conn, timeout := new(network.StreamError), new(network.ConnError), interface{ Timeout() bool }(nil)
	text := ""
	switch {
	case fault.Of(err) != nil:
		return err
	case errors.As(err, &stream) && stream.Remote:
		text = "the peer broke it off: its log may say why"
	case errors.As(err, &stream):
		text = "this node gave up waiting: the peer is busy, stands still, or is cut off"
	case errors.As(err, &conn), errors.Is(err, network.ErrReset):
		text = "the connection is lost: the peer is gone, or was cut off"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		text = "no answer in time: the peer is busy, stands still, or is cut off"
	default:
		return firstLine(err)
	}
	return &plainError{text, err}
}

// maxReasons is how many reasons are told why a peer cannot be dialed.
const maxReasons = 3

// undialed says in one line why no address of a peer could be connected to.
func undialed(err error) error {
	failed := new(swarm.DialError)
	if !errors.As(err, &failed) {
		return Plainly(err)
	}
	var reasons []string
	waiting := false
	for _, at := range failed.DialErrors {
		if errors.Is(at.Cause, swarm.ErrDialBackoff) {
			waiting = true
			continue
		}
		why, _ := WhyNot(at.Address, at.Cause)
		why, _, _ = strings.Cut(why, "\n")
		if !slices.ContainsFunc(reasons, func(r string) bool { return strings.HasSuffix(r, ": "+why) }) {
			reasons = append(reasons, fmt.Sprintf("%s: %s", at.Address, why))
		}
	}
	switch {
	case len(reasons) > maxReasons:
		reasons = append(reasons[:maxReasons], fmt.Sprintf("and %d more", len(reasons)-maxReasons))
	case len(reasons) > 0:
	case waiting:
		reasons = []string{"it could not be reached a moment ago, and is tried again soon"}
	case errors.Is(err, swarm.ErrNoAddresses), errors.Is(err, swarm.ErrNoGoodAddresses):
		reasons = []string{"no address of it is known that this node can use"}
	default:
		return Plainly(err)
	}
	return &plainError{strings.Join(reasons, "; "), err}
}

// firstLine leaves out what the library adds in further lines.
func firstLine(err error) error {
	if text, _, more := strings.Cut(err.Error(), "\n"); more {
		return &plainError{text, err}
	}
	return err
}

// outOfTime reports whether a peer was not believed because of what time it is.
func outOfTime(err error) bool {
	bad, mismatch := x509.CertificateInvalidError{}, sec.ErrPeerIDMismatch{}
	if errors.As(err, &mismatch) {
		return false
	}
	return errors.As(err, &bad) && bad.Reason == x509.Expired || strings.Contains(err.Error(), "certificate")
}

// WhyNot says what a failed dial means, and what to do.
func WhyNot(a ma.Multiaddr, err error) (text, hint string) {
	mismatch := sec.ErrPeerIDMismatch{}
	netErr := net.Error(nil)
	loopback := manet.IsIPLoopback(a)
	switch {
	case errors.As(err, &mismatch):
		return fmt.Sprintf("another node answers there: %s", mismatch.Actual), "the peer has a new identity or the address a new owner: ask for a new ticket"
	case errors.Is(err, syscall.ECONNREFUSED) && loopback:
		return "nothing listens there on this machine", "the address is one of the peer's own machine: it must listen on another (--p2paddr /ip4/0.0.0.0/tcp/9171,…) to be reached from elsewhere, or is not running"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the machine answers, but nothing listens on that port", "start the peer, or see on which port it listens (pando peer info)"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no way to that network from here", "both machines must be in one network, or the peer needs a public address or a relay"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &netErr) && netErr.Timeout(), strings.Contains(err.Error(), "no recent network activity"):
		hint = "is the peer running, and does a firewall let its port through?"
		if manet.IsPrivateAddr(a) && !loopback {
			hint = "it is a private address: it works only within the peer's own network. From elsewhere its router must forward the port, or both use a relay"
		}
		return "no answer: packets go nowhere, or are dropped on the way", hint
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it hangs up before it says a word: too many connections come from here, or it is busy", "try again in a minute; one program can use one connection for all that it asks"
	}
	if outOfTime(err) {
		return "what it shows of itself does not hold at this time: the clock of one of both is far off", "set the clocks of both machines, by NTP"
	}
	return err.Error(), ""
}
