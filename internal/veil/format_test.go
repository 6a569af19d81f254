package veil_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/veil"
)

// unbox opens a box by the words of docs/format.md alone.
func unbox(t *testing.T, secret, epoch [32]byte, purpose string, n uint64, box, aad []byte) []byte {
	t.Helper()
	key, err := hkdf.Key(sha256.New, secret[:], epoch[:], purpose+string(binary.BigEndian.AppendUint64(nil, n)), 32)
	if err != nil {
		t.Fatal(err)
	}
	a, err := chacha20poly1305.NewX(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := a.Open(nil, box[:24], box[24:], aad)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What is written here is what docs/format.md says, byte for byte: it must never
// change.
func TestTheBytesAreThoseOfTheFormat(t *testing.T) {
	t.Parallel()
	doc, secret := acp.ID{1, 2, 3}, veil.Secret{4, 5, 6}
	epoch := sha256.Sum256(slices.Concat([]byte("pando/1 epoch\n"), doc[:], secret[:]))
	if got := secret.Epoch(doc); got != epoch {
		t.Fatalf("epoch %x, want %x", got, epoch)
	}
	c := &dag.Commit{Author: dag.Author{Key: people[0].Public()}, Height: 2, HLC: 77, Doc: dag.DocID(doc), Deltas: []crdt.Delta{set(title, "hi")}}
	if err := (veil.Key{Epoch: epoch, Secret: secret}).Seal(c, veil.Cover{All: true}, chance(1)); err != nil {
		t.Fatal(err)
	}
	if got, want := c.Segs[0].Epoch, binary.BigEndian.Uint64(epoch[:])>>1; got != want {
		t.Errorf("the header says epoch %d, want %d", got, want)
	}
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	aad := slices.Concat([]byte("pando/1 segment\n"), doc[:], epoch[:], number(1), number(77), []byte(people[0].Public()))
	if got := hex.EncodeToString(unbox(t, secret, epoch, "pando/1 segment\n", 1, c.Payload[0], aad)); got != "8183101901066268"+"69" {
		t.Errorf("the segment holds %s", got)
	}

	_, ann := newWorld(t)
	if _, err := ann.write("", revoke("reader", acp.Everyone)); err != nil {
		t.Fatal(err)
	}
	ops, err := veil.Ops(ann.order[1].Deltas)
	if err != nil {
		t.Fatal(err)
	}
	begin, give, link := ops[0], ops[1], ops[2]
	newer, err := people[0].Open(slices.Concat([]byte("pando/1 epoch secret\n"), ann.doc[:], begin.Epoch[:]), give.Wraps[0].Sealed)
	if err != nil {
		t.Fatal(err)
	}
	aad = slices.Concat([]byte("pando/1 epoch link\n"), ann.doc[:], link.Epoch[:], link.Older[:])
	older := unbox(t, [32]byte(newer), link.Epoch, "pando/1 epoch link\n", 0, link.Sealed, aad)
	if got := veil.Secret(older).Epoch(ann.doc); got != link.Older {
		t.Errorf("the link holds the secret of %x, want %x", got, link.Older)
	}
	for _, c := range []struct {
		op   veil.Op
		want string
	}{
		{veil.Op{Kind: veil.Hide, Cover: veil.Cover{All: true, Fields: []crdt.FieldID{title, body}}}, "8301f5821011"},
		{veil.Op{Kind: veil.Begin, Epoch: veil.EpochID{1}}, "82025820" + "01" + zeros(31)},
		{veil.Op{Kind: veil.Publish, Epoch: veil.EpochID{1}, Secret: veil.Secret{2}}, "83055820" + "01" + zeros(31) + "5820" + "02" + zeros(31)},
	} {
		if got := hex.EncodeToString(c.op.Delta().Raw); got != c.want {
			t.Errorf("%v is %s, want %s", c.op.Kind, got, c.want)
		}
	}
}

func zeros(n int) string { return string(bytes.Repeat([]byte("00"), n)) }
