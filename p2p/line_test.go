package p2p

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/ident"
)

// greet answers each client with the DID that it has proved, on the line that it opened.
func greet(t *testing.T, l net.Listener) {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			said, _ := bufio.NewReader(c).ReadString('\n')
			fmt.Fprintf(c, "%s from %s\n", strings.TrimSpace(said), c.(*Line).Peer())
			c.Close()
		}
	}()
}

func dialerOf(t *testing.T, n *Node, addr string, key ident.Key) *Dialer {
	t.Helper()
	if addr == "" {
		addr = n.Info().Addrs[0] + "/p2p/" + n.Info().ID
	}
	d, err := NewDialer(addr, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// ask says something on a line of its own, and returns the answer.
func ask(t *testing.T, d *Dialer, text string) (string, error) {
	t.Helper()
	line, err := d.Dial(t.Context())
	if err != nil {
		return "", err
	}
	defer line.Close()
	if _, err := fmt.Fprintln(line, text); err != nil {
		return "", err
	}
	return bufio.NewReader(line).ReadString('\n')
}

func nobody(ident.PublicKey) bool { return false }

func TestAClientIsWhoItsKeySays(t *testing.T) {
	t.Parallel()
	n := startNode(t, openDB(t, ""), Config{})
	greet(t, n.Lines(nobody))
	key := newKey(t, 1)
	for _, addr := range n.Info().Addrs {
		d := dialerOf(t, n, addr+"/p2p/"+n.Info().ID, key)
		got, err := ask(t, d, "hello")
		if want := fmt.Sprintf("hello from %s\n", key.DID()); err != nil || got != want {
			t.Errorf("over %s: got %q, %v; want %q", addr, got, err, want)
		}
	}
	d := dialerOf(t, n, "", pando.Identity{})
	if got, err := ask(t, d, "hello"); err != nil || !strings.HasPrefix(got, "hello from did:key:") || strings.Contains(got, string(key.DID())) {
		t.Errorf("without a key: got %q, %v; want a new DID", got, err)
	}
}

// Whoever answers at an address with another key than it names is not talked to.
func TestADialerReachesTheNodeThatItNames(t *testing.T) {
	t.Parallel()
	n := startNode(t, openDB(t, ""), Config{})
	greet(t, n.Lines(nobody))
	other, err := peerOfDID(string(newKey(t, 2).DID()))
	if err != nil {
		t.Fatal(err)
	}
	d := dialerOf(t, n, n.Info().Addrs[0]+"/p2p/"+other.String(), pando.Identity{})
	if _, err := ask(t, d, "hello"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a node with another key: got %v, want Unavailable", err)
	}
	for _, addr := range []string{"/p2p/" + n.Info().ID, n.Info().Addrs[0], "nonsense"} {
		if _, err := NewDialer(addr, pando.Identity{}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want Invalid", addr, err)
		}
	}
}

func TestANodeThatServesNoClientsSaysSo(t *testing.T) {
	t.Parallel()
	n := startNode(t, openDB(t, ""), Config{})
	d := dialerOf(t, n, "", pando.Identity{})
	if _, err := ask(t, d, "hello"); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "does not serve its API to peers") {
		t.Errorf("got %v, want that it does not serve its API to peers", err)
	}
}

func TestAClosedNodeHasLinesForKnownClientsAlone(t *testing.T) {
	t.Parallel()
	n := startNode(t, openDB(t, ""), Config{Closed: true})
	friend := newKey(t, 3)
	greet(t, n.Lines(func(k ident.PublicKey) bool { return k == friend.Public() }))
	if got, err := ask(t, dialerOf(t, n, "", friend), "hello"); err != nil {
		t.Errorf("a known client: got %q, %v", got, err)
	}
	if got, err := ask(t, dialerOf(t, n, "", newKey(t, 4)), "hello"); err == nil {
		t.Errorf("a stranger: got %q, want nothing", got)
	}
}

func TestAClientHasSoManyLines(t *testing.T) {
	t.Parallel()
	n := startNode(t, openDB(t, ""), Config{})
	l := n.Lines(nobody)
	t.Cleanup(func() { l.Close() })
	go func() { // takes them all, and answers nothing
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "welcome")
		}
	}()
	d := dialerOf(t, n, "", pando.Identity{})
	open := 0
	for range LinesPerClient + 4 {
		line, err := d.Dial(t.Context())
		if err != nil {
			break
		}
		fmt.Fprintln(line, "hello")
		if _, err := bufio.NewReader(line).ReadString('\n'); err == nil {
			open++
		}
	}
	if open != LinesPerClient {
		t.Errorf("got %d lines, want %d", open, LinesPerClient)
	}
	if got, err := ask(t, dialerOf(t, n, "", pando.Identity{}), "hello"); err != nil {
		t.Errorf("another client beside it: got %q, %v", got, err)
	}
}

// desk is a client of a node in a world, on a machine of its own.
func desk(t *testing.T, at, to *member, key ident.Key) (d *Dialer, leave func()) {
	t.Helper()
	h, err := host.New(host.Config{Key: key, QUIC: at.here()})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Listen(); err != nil {
		t.Fatal(err)
	}
	info, err := peer.AddrInfoFromString(to.addr())
	if err != nil {
		t.Fatal(err)
	}
	d = &Dialer{h, *info}
	leave = sync.OnceFunc(func() { d.Close() })
	t.Cleanup(leave)
	return d, leave
}

// Somebody works on two machines with one key: what begins and ends on one of them ends
// nothing on the other, unless that one is gone.
func TestClientsOfOneKeyAreServedBesideEachOther(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		server, home, office := w.member(0), w.member(1), w.member(2)
		node := server.own(Config{})
		l := node.Lines(nobody)
		t.Cleanup(func() { l.Close() })
		ended := make(chan error, 8)
		go func() { // echoes what is said until the line ends
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					_, err := io.Copy(c, c)
					c.Close()
					ended <- err
				}()
			}
		}()
		key := newKey(t, 1)
		d, _ := desk(t, home, server, key)
		long, err := d.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		says := bufio.NewReader(long)
		echo := func(text string) error {
			if _, err := fmt.Fprintln(long, text); err != nil {
				return err
			}
			_, err := says.ReadString('\n')
			return err
		}
		if err := echo("hello"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		// One that is over before it was asked what it speaks, and one that does something.
		brief, leave := desk(t, office, server, key)
		if err := brief.host.Connect(t.Context(), brief.to); err != nil {
			t.Fatal(err)
		}
		leave()
		time.Sleep(time.Minute)
		other, leave := desk(t, office, server, key)
		if got, err := ask(t, other, "and from here"); err != nil || got != "and from here\n" {
			t.Fatalf("the second: got %q, %v", got, err)
		}
		<-ended
		leave()
		time.Sleep(time.Minute)
		if err := echo("still here?"); err != nil {
			t.Errorf("the line of the first: %v", err)
		}
		w.cut([]*member{server}, []*member{home})
		lost := time.Now()
		last, _ := desk(t, office, server, key)
		if got, err := ask(t, last, "home burned down"); err != nil || got != "home burned down\n" {
			t.Fatalf("the third: got %q, %v", got, err)
		}
		<-ended
		if <-ended; time.Since(lost) > 10*time.Second {
			t.Errorf("the line of a machine that is gone ended after %v, want it asked whether it is there", time.Since(lost))
		}
	})
}

func newKey(t testing.TB, n byte) ident.Key {
	t.Helper()
	k, err := ident.GenerateFrom(ident.EdDSA, bytes.NewReader(bytes.Repeat([]byte{n}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}
