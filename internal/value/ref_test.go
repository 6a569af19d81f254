package value

import (
	"strings"
	"testing"

	gocid "github.com/ipfs/go-cid"
	"pgregory.net/rapid"
)

func drawRef(t *rapid.T) (id [32]byte) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "id"))
	return id
}

func TestRefTextIsACIDWithOneSpelling(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := drawRef(t)
		text := RefText(want)
		if got, err := ParseRef(text); err != nil || got != want {
			t.Fatalf("ParseRef(%s): got %x, %v, want %x", text, got, err, want)
		}
		c, err := gocid.Decode(text)
		if err != nil || c.Version() != 1 || c.Type() != gocid.Raw || !strings.HasPrefix(text, "bafkrei") {
			t.Fatalf("go-cid reads %s as %v, %v", text, c, err)
		}
		if digest := c.Hash()[2:]; string(digest) != string(want[:]) {
			t.Fatalf("go-cid reads digest %x, want %x", digest, want)
		}
	})
}

func TestOtherTextIsNoRef(t *testing.T) {
	t.Parallel()
	good := RefText([32]byte{})
	for _, s := range []string{"", "b", good[1:], strings.ToUpper(good), good[:58], good + "a", good[:58] + "b",
		"bafyrei" + good[7:], "z" + good[1:], good[:30] + "\n" + good[30:], strings.Repeat("b", 1000)} {
		if id, err := ParseRef(s); err == nil {
			t.Errorf("ParseRef(%q): got %x, want an error", s, id)
		}
	}
}
