package ident

import (
	"encoding/hex"
	"testing"
)

// Other implementations derive the same, and what serves in one use serves in no other.
func TestWhatFollowsFromASecret(t *testing.T) {
	t.Parallel()
	s := Secret{0: 1, 15: 16}
	if got, want := hex.EncodeToString(s.Derive("pando/topic/1", []byte("a"), []byte("bc"))), "2da69d405de10ce3e8163c05f0e45f451e7ba912ef21ac287e4e4711227a7b39"; got != want {
		t.Errorf("derived %s, want %s", got, want)
	}
	seen := map[string]string{}
	for what, b := range map[string][]byte{
		"a use": s.Derive("pando/topic/1", []byte("x")), "another use": s.Derive("pando/nonce/1", []byte("x")),
		"of something else": s.Derive("pando/topic/1", []byte("y")), "another secret": Secret{}.Derive("pando/topic/1", []byte("x")),
	} {
		if other, ok := seen[string(b)]; ok {
			t.Errorf("%s and %s come to the same", what, other)
		}
		seen[string(b)] = what
	}
}
