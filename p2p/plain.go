package p2p

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

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

// plainly says what it means that a stream broke, or could not be opened. Errors that
// need no words of their own stay what they are.
func plainly(err error) error {
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
		return err
	}
	return &plainError{text, err}
}

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

// maxReasons is how many reasons are told why a peer cannot be dialed.
const maxReasons = 3

// undialed says in one line why no address of a peer could be connected to.
func undialed(err error) error {
	failed := new(swarm.DialError)
	if !errors.As(err, &failed) {
		return plainly(firstLine(err))
	}
	var reasons []string
	waiting := false
	for _, at := range failed.DialErrors {
		if errors.Is(at.Cause, swarm.ErrDialBackoff) {
			waiting = true
			continue
		}
		why, _ := whyNot(at.Address, at.Cause)
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
		return plainly(firstLine(err))
	}
	return &plainError{strings.Join(reasons, "; "), err}
}

func firstLine(err error) error {
	if text, _, more := strings.Cut(err.Error(), "\n"); more {
		return &plainError{text, err}
	}
	return err
}

// clockHint is for connections that fail before anything is said: what peers show each
// other of themselves holds for a time.
const clockHint = "or the clock of one machine is far off"

// outOfTime reports whether a peer was not believed because of what time it is.
func outOfTime(err error) bool {
	bad, mismatch := x509.CertificateInvalidError{}, sec.ErrPeerIDMismatch{}
	if errors.As(err, &mismatch) {
		return false
	}
	return errors.As(err, &bad) && bad.Reason == x509.Expired || strings.Contains(err.Error(), "certificate")
}
