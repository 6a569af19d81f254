package p2p

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pandodb/pando"
)

// capture is all that passes through a proxy, both ways.
type capture struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes.Write(p)
}

func (c *capture) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes.String()
}

// tapped listens before a TCP address of a node, and returns the address of the proxy.
func tapped(t *testing.T, n *Node, c *capture) string {
	t.Helper()
	var port string
	for _, addr := range n.Info().Addrs {
		if rest, ok := strings.CutPrefix(addr, "/ip4/127.0.0.1/tcp/"); ok && !strings.Contains(rest, "/") {
			port = rest
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err != nil {
				in.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				io.Copy(to, io.TeeReader(from, c))
				to.Close()
			}
			go pass(out, in)
			go pass(in, out)
		}
	}()
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/p2p/%s", l.Addr().(*net.TCPAddr).Port, n.Info().ID)
}

// Over the real loopback: what passes between somebody and a blind hub says nothing of
// what is encrypted, and neither does anything that the hub has got.
func TestTheWireToAHubSaysNothing(t *testing.T) {
	a, hub := openDB(t, ""), openDB(t, "")
	addNotes(t, a)
	na, nh := startNode(t, a, Config{}), startNode(t, hub, Config{Blind: true})
	ticket, err := na.Share(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := nh.Join(ctx, ticket, nil); err != nil {
		t.Fatal(err)
	}
	na.Close()
	nh.Close()
	// The hub is elsewhere now, and a knows of no other way to it than by the proxy.
	nh = startNode(t, hub, Config{Blind: true, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	na = startNode(t, a, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err := na.AddHub(nh.Info().ID); err != nil {
		t.Fatal(err)
	}
	var wire capture
	if err := na.Connect(ctx, tapped(t, nh, &wire)); err != nil {
		t.Fatal(err)
	}
	const secret = "clandestine-contents"
	if err := a.Update(ctx, func(tx *pando.Tx) error {
		notes, err := tx.Collection("Note")
		if err == nil {
			_, err = notes.CreateEncrypted(map[string]any{"text": secret})
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	notes, err := hub.Collection("Note")
	if err != nil {
		t.Fatal(err)
	}
	var held []byte
	eventually(t, 20*time.Second, func() (bool, string) {
		for b, err := range hub.Replica().Full(ctx, notes.ID, pando.DocID{}) {
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, b.Envelope...)
		}
		return len(held) > 0, "the hub has nothing"
	})
	if n := len(wire.String()); n < len(held) {
		t.Fatalf("%d bytes were captured, and the commit has %d: it came another way", n, len(held))
	}
	for what, where := range map[string]string{"the wire": wire.String(), "what the hub holds": string(held)} {
		if strings.Contains(where, secret) {
			t.Errorf("%s holds what is encrypted", what)
		}
	}
	own := a.Exec(ctx, pando.Request{Query: `{ Note { text } }`})
	if !strings.Contains(string(own.Data), secret) {
		t.Errorf("who wrote it reads %s", own.Data)
	}
}
