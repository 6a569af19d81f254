package p2p

import (
	"net"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/ident"
)

// A node with as many connections from one address as it takes hangs up before it says a word. A
// client is told what that may mean.
func TestWhoIsHungUpOnIsToldWhatItMayMean(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	k, err := ident.Generate(ident.EdDSA)
	if err != nil {
		t.Fatal(err)
	}
	whose, err := peerOfDID(string(k.DID()))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	d, err := NewDialer("/ip4/127.0.0.1/tcp/"+port+"/p2p/"+whose.String(), ident.Key{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "too many connections come from here") {
		t.Errorf("got %v", err)
	}
}
