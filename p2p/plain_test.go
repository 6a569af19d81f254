package p2p

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
	"time"
	"unicode/utf8"

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
		got := plainly(err)
		if text := got.Error(); !strings.Contains(text, want) || strings.Contains(text, "code") || strings.Contains(text, "\n") {
			t.Errorf("%v is told as %q, want %q in it", err, text, want)
		}
		if !errors.Is(got, err) {
			t.Errorf("%v cannot be asked for any more", err)
		}
	}
	own := fault.Denied.Errorf("no: %w", context.DeadlineExceeded)
	if plainly(own) != own {
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

// A peer that hangs, and one that was stopped, are told as what they are.
func TestPeersThatAreAwayAreToldPlainly(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(2)
		a, b := ms[0], ms[1]
		addSchema(t, a.db, schemaText)
		startAll(ms)
		converge(t, time.Minute, ms...)
		w.cut(ms[:1], ms[1:])
		st, err := a.node.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if p := st.Peers[0].Problem; !strings.Contains(p, "stands still") || strings.Contains(p, "code") {
			t.Errorf("of a peer that does not answer: %q", p)
		}
		w.heal(ms[:1], ms[1:])
		converge(t, 5*time.Minute, ms...)
		b.stop()
		time.Sleep(time.Minute)
		for _, p := range a.node.Peers() {
			if p.Connected || strings.Contains(p.Problem, "speak") {
				t.Errorf("of a peer that was stopped: %+v", p)
			}
		}
	})
}

// Who asks with a ticket, before anything is shared, hears that the clocks are apart.
func TestTheDoctorComparesClocksByATicket(t *testing.T) {
	model(t, 2, func(t *testing.T, _ *modelNet, ms []*machine) {
		addSchema(t, ms[0].db, schemaText)
		ms[1].skew.Store(int64(-24 * time.Hour))
		for _, m := range ms {
			m.join()
		}
		createUsers(t, ms[0].db, "a", 1)
		ticket, err := ms[0].node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		all, err := ms[1].node.Examine(t.Context(), ticket)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.About == "clock" && f.Grade == Problem && strings.Contains(f.Text, "24h") && strings.Contains(f.Text, "behind") {
				return
			}
		}
		t.Errorf("not a word of the clocks in %+v", all)
	})
}

// What a peer says of why it refuses is shown to people, and does nothing to their terminal.
func TestWhatAPeerSaysMovesNoCursor(t *testing.T) {
	said := &refuse{Code: refusedInvalid, Text: "no\x1b[2J\x07\u009b1m\u202e" + strings.Repeat("\u00e9", 600)}
	m, err := decode(1, said.append(nil))
	if err != nil {
		t.Fatal(err)
	}
	got := m.(*refuse).Error()
	if strings.ContainsAny(got, "\x1b\x07\u009b\u202e") || !strings.Contains(got, "no\uFFFD[2J") || len(got) > 3*maxReason || !utf8.ValidString(got) {
		t.Errorf("it is shown as %q", got)
	}
}
