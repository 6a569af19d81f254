package host

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/fault"
)

// What the library says of a broken stream is told in one plain line, and can still be
// asked for what it was.
func TestBrokenStreamsAreToldPlainly(t *testing.T) {
	for want, err := range map[string]error{
		"broke it off":   &network.StreamError{Remote: true, TransportError: errors.New("stream 416 canceled by remote with error code 0")},
		"gave up":        &network.StreamError{TransportError: errors.New("stream 416 canceled by local with error code 0")},
		"is lost":        &network.ConnError{TransportError: errors.New("timeout: no recent network activity")},
		"no answer":      fmt.Errorf("failed to open stream: %w", context.DeadlineExceeded),
		"stands still":   os.ErrDeadlineExceeded,
		"unexpected EOF": io.ErrUnexpectedEOF,
	} {
		got := Plainly(err)
		if text := got.Error(); !strings.Contains(text, want) || strings.Contains(text, "code") || strings.Contains(text, "\n") {
			t.Errorf("%v is told as %q, want %q in it", err, text, want)
		}
		if !errors.Is(got, err) {
			t.Errorf("%v cannot be asked for any more", err)
		}
	}
	own := fault.Denied.Errorf("no: %w", context.DeadlineExceeded)
	if Plainly(own) != own {
		t.Error("an error of this node was told otherwise")
	}
}

func TestFailedDialsAreToldPlainly(t *testing.T) {
	tcp, quic := ma.StringCast("/ip4/127.0.0.1/tcp/9171"), ma.StringCast("/ip4/127.0.0.1/udp/9171/quic-v1")
	for want, causes := range map[string][]swarm.TransportError{
		"/ip4/127.0.0.1/tcp/9171: nothing listens there on this machine; /ip4/127.0.0.1/udp/9171/quic-v1: no answer": {
			{Address: tcp, Cause: fmt.Errorf("dial: %w", syscall.ECONNREFUSED)}, {Address: quic, Cause: context.DeadlineExceeded}},
		"could not be reached a moment ago": {{Address: tcp, Cause: swarm.ErrDialBackoff}, {Address: quic, Cause: swarm.ErrDialBackoff}},
		"clock":                             {{Address: tcp, Cause: x509.CertificateInvalidError{Reason: x509.Expired}}},
		"a":                                 {{Address: tcp, Cause: errors.New("a\n  * b")}},
	} {
		err := fmt.Errorf("failed to dial: %w", &swarm.DialError{DialErrors: causes, Cause: swarm.ErrAllDialsFailed})
		text := undialed(err).Error()
		if !strings.Contains(text, want) || strings.Contains(text, "\n") || strings.Contains(text, "all dials") {
			t.Errorf("told as %q, want %q", text, want)
		}
	}
}
