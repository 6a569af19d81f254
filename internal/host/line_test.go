package host

import (
	"bytes"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/ident"
)

// However many strangers hold lines, those whom the node knows get theirs.
func TestStrangersLeaveLinesForKnownClients(t *testing.T) {
	t.Parallel()
	friend := newKey(t, 1)
	l := &lines{known: func(k ident.PublicKey) bool { return k == friend.Public() }, open: map[peer.ID]int{}}
	enters := func(k ident.Key) bool {
		p, err := PeerOf(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		return l.enter(p)
	}
	strange := 0
	for i := range maxLines / LinesPerClient {
		stranger := newKey(t, byte(2+i))
		for range LinesPerClient {
			if enters(stranger) {
				strange++
			}
		}
	}
	if strange != maxStrangeLines {
		t.Errorf("strangers hold %d lines, want %d", strange, maxStrangeLines)
	}
	for i := range LinesPerClient {
		if !enters(friend) {
			t.Fatalf("a known client has %d lines", i)
		}
	}
}

func newKey(t testing.TB, n byte) ident.Key {
	t.Helper()
	k, err := ident.GenerateFrom(ident.EdDSA, bytes.NewReader(bytes.Repeat([]byte{n}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}
