package p2p

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
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
