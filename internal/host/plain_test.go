package host

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
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

// A host that cannot listen where it is told to says so, also where it would be open to others,
// and is closed like any other.
func TestAHostThatCannotListenIsClosed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	key, err := ident.Generate(ident.EdDSA)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for _, at := range []string{"/ip4/127.0.0.1/tcp/" + port, "/ip4/0.0.0.0/tcp/" + port, "/ip4/192.0.2.1/tcp/0"} {
		h, err := New(Config{Key: key, Listen: []string{at}})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Listen(); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "--p2paddr") {
			t.Errorf("%s: got %v, want that it is not free, and which flag helps", at, err)
		}
		if err := h.Close(); err != nil {
			t.Errorf("%s: close: %v", at, err)
		}
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
