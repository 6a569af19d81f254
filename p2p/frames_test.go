package p2p

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/radix"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// script is a stream that reads what it was given and keeps what is written.
type script struct {
	in  io.Reader
	out bytes.Buffer
}

func (s *script) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error)      { return s.out.Write(b) }
func (s *script) Close() error                     { return nil }
func (s *script) Reset() error                     { return nil }
func (s *script) CloseRead() error                 { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

func scripted(in []byte) (*wire, *script) {
	s := &script{in: bytes.NewReader(in)}
	return newWire(s, new(traffic)), s
}

func fill[T ~[8]byte | ~[16]byte | ~[32]byte | ~[4]byte](b byte) (out T) {
	v := reflect.ValueOf(&out).Elem()
	for i := range v.Len() {
		v.Index(i).SetUint(uint64(b))
	}
	return out
}

// specimens has one message of every type that a version of the protocol added, and
// every shape a part of one can have.
func specimens(version uint64) map[string]message {
	switch version {
	case 1:
		return specimensOf1()
	case 2:
		return specimensOf2()
	case 3:
		return specimensOf3()
	}
	return nil
}

func specimensOf3() map[string]message {
	return map[string]message{
		"show":         &show{false, [][]byte{{1, 2}, {3}}},
		"show nothing": &show{Blind: true},
		"tell":         &tell{fill[proof](6), []uint64{1, 1 << 40}, [][]byte{{1, 2, 3}, {4}}},
	}
}

func specimensOf2() map[string]message {
	part := Scope{Filter: "{points: {_gt: 3}}", Docs: []dag.DocID{fill[dag.DocID](1), fill[dag.DocID](2)}}
	doc, next := fill[dag.DocID](0xd0), fill[dag.DocID](0xe0)
	at := pando.Point{Height: 7000, CID: fill[dag.CID](5)}
	return map[string]message{
		"range":             &getRange{fill[proof](6), &doc, &next},
		"range whole":       &getRange{fill[proof](6), nil, nil},
		"part":              &getPart{fill[proof](6), doc, []dag.CID{fill[dag.CID](2)}, []uint64{1, 2}, at, 9000},
		"part first":        &getPart{Proof: fill[proof](6), Doc: doc},
		"more":              &more{doc, at, 90_000},
		"scope":             &scopeSays{2, part},
		"scope of all":      &scopeSays{2, Scope{Whole: true}},
		"scoped":            &scopeAnswer{2, Scope{}, 7, fill[rootSum](3), 1, ""},
		"scoped not at all": &scopeAnswer{Collection: 2, Scope: Scope{Whole: true}, Why: "there is no field points"},
		"peers":             &getPeers{fill[proof](9), 12},
		"told":              &toldPeers{[][]byte{{1, 2}, {3}}},
		"watch":             &watch{fill[proof](6), part, []docHeads{{doc, []dag.CID{fill[dag.CID](4)}}, {next, nil}}},
		"watching":          &watching{},
		"watching hot":      &watching{[]dag.DocID{doc}, []dag.DocID{next}},
		"keep":              &keepOffers{[]keepOffer{{fill[dag.CollectionID](7), part}}},
	}
}

func specimensOf1() map[string]message {
	doc := fill[dag.DocID](0xd0)
	var children [16]short
	children[0], children[15] = fill[short](1), fill[short](2)
	var wide [16]treeGrandchild
	wide[3].leaf, wide[9].children = fill[short](3), &children
	return map[string]message{
		"hello": &hello{
			Version: 1,
			Nonce:   fill[nonce](1),
			Entries: []entry{{fill[proof](4), someEntryCard()}},
			Offers:  []offer{{fill[dag.CollectionID](7), fill[ident.Secret](8), [][]byte{{1, 2}, {3}}}},
		},
		"hello of a stranger": &hello{Version: 1, Entries: []entry{}},
		"offer":               &offers{[]offer{{fill[dag.CollectionID](7), fill[ident.Secret](8), [][]byte{{1, 2}}}}},
		"schema":              &schemaVersions{1, [][]byte{{1}, {2, 3}}},
		"log":                 &getLog{2, 1 << 40},
		"full":                &getFull{3, nil},
		"full resumed":        &getFull{3, &doc},
		"nodes":               &getNodes{4, 2, []radix.Prefix{{}, radix.PrefixOf(doc, 3)}},
		"tree":                &tree{[]treeNode{{}, {leaf: []leafElement{{fill[short](4), fill[short](5)}}}, {children: &children}, {wide: &wide}}},
		"push":                &push{5},
		"blocks":              &blocks{Envelopes: [][]byte{{1, 2, 3}, {4}}},
		"blocks of a full":    &blocks{2, &doc, [][]byte{{1}}},
		"end":                 &end{99},
		"ack":                 &ack{10, 2, 1},
		"fetch": &fetch{fill[proof](6), true, []item{
			{doc[:], []dag.CID{fill[dag.CID](1)}, []dag.CID{fill[dag.CID](2), fill[dag.CID](3)}, []uint64{1, 2}},
			{doc[:10], nil, nil, nil},
		}},
		"heads":  &heads{[]docHeads{{doc, []dag.CID{fill[dag.CID](4)}}, {doc, nil}}},
		"refuse": &refuse{refusedBusy, "too many at once", 1500 * time.Millisecond},
	}
}

var someCard = card{Schema: fill[fingerprint](5), Root: fill[rootSum](6), Epoch: fill[epoch](2), YourEpoch: fill[epoch](3),
	Count: 1000, Seq: 12345, Cursor: 77, Clock: 1_700_000_000_000}

// someEntryCard is that card under its veil.
func someEntryCard() sealedCard {
	c := someCard.plain()
	c.veil(fill[ident.Secret](9), "from", "to", fill[dag.CollectionID](7), fill[nonce](1))
	return c
}

func TestACardIsReadByWhoKnowsTheSecret(t *testing.T) {
	c := someEntryCard()
	if c == someCard.plain() {
		t.Error("the card has no veil")
	}
	c.veil(fill[ident.Secret](9), "from", "to", fill[dag.CollectionID](7), fill[nonce](1))
	lacks := someCard
	lacks.Lacks = true
	if got := lacks.plain().read(); got != lacks {
		t.Errorf("got %+v, want %+v", got, lacks)
	}
	if got := c.read(); got != someCard {
		t.Errorf("got %+v, want %+v", got, someCard)
	}
}

func TestMessagesArriveAsTheyWereSent(t *testing.T) {
	for version := uint64(1); version <= protocolVersion; version++ {
		for name, m := range specimens(version) {
			body := m.append(nil)
			got, err := decode(version, body)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if !reflect.DeepEqual(got, m) {
				t.Errorf("%s: got %+v, want %+v", name, got, m)
			}
			if why := new(refuse); version > 1 {
				if _, err := decode(version-1, body); !errors.As(err, &why) || why.Code != refusedVersion {
					t.Errorf("%s: a peer of the version before answers %v, want a refusal", name, err)
				}
			}
		}
	}
}

// The bytes of every message are a promise to the other implementations.
func TestGoldenMessages(t *testing.T) {
	for version := uint64(1); version <= protocolVersion; version++ {
		for name, m := range specimens(version) {
			golden(t, version, "message/"+strings.ReplaceAll(name, " ", "-"), func() []byte {
				w, s := scripted(nil)
				w.version = version
				if err := w.send(m); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				return s.out.Bytes()
			}())
		}
	}
}

func golden(t *testing.T, version uint64, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", fmt.Sprintf("v%d", version), name)
	want, err := os.ReadFile(path)
	if *rewrite && errors.Is(err, os.ErrNotExist) {
		// An existing file is never rewritten: changed bytes need a new version.
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %x, want %x", name, got, want)
	}
}

func TestRefusalIsAnError(t *testing.T) {
	w, _ := scripted(frameOf(&refuse{refusedAdmission, "not shared", 0}))
	if _, err := w.receive(); !errors.Is(err, fault.Denied) {
		t.Errorf("a refused admission: got %v, want kind Denied", err)
	}
}

func frameOf(ms ...message) []byte {
	w, s := scripted(nil)
	for _, m := range ms {
		w.send(m)
	}
	return s.out.Bytes()
}

func TestFramesOutsideTheirLimitsAreABreach(t *testing.T) {
	for name, in := range map[string][]byte{
		"empty":            {0},
		"larger than 1MiB": {0x81, 0x80, 0x40, 0},
		"not an array":     {1, 0x01},
		"wrong size":       {3, 0x83, 0x01, 0x80},
		"long integer":     {4, 0x82, 0x18, 0x01, 0x80},
		"bytes behind":     append([]byte{byte(len((&push{5}).append(nil)) + 1)}, append((&push{5}).append(nil), 0)...),
		"no commits":       frameOf(&blocks{}),
		"three levels":     frameOf(&getNodes{1, 3, nil}),
		"half a locator":   {10, 0x84, 0x0b, 0x50},
	} {
		w, _ := scripted(in)
		_, err := w.receive()
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if b := new(breachError); name != "half a locator" && !errors.As(err, &b) {
			t.Errorf("%s: got %v, want a breach", name, err)
		}
	}
}

// A newer node is no enemy: it is told why nothing comes of it.
func TestANewerVersionIsRefusedWithAReason(t *testing.T) {
	for name, body := range map[string][]byte{
		"a type of message":  {0x82, 0x18, 0x63, 0x01},
		"a HELLO":            {0x83, 0x00, 0x04, 0x80},
		"a HELLO of our own": append([]byte{0x85, 0x00, 0x04}, (&hello{}).append(nil)[3:]...),
	} {
		_, err := decode(protocolVersion, body)
		why := new(refuse)
		if !errors.As(err, &why) || why.Code != refusedVersion || !strings.Contains(err.Error(), "update the older") {
			t.Errorf("%s: got %v, want a refusal that says what to do", name, err)
		}
		if b := new(breachError); errors.As(err, &b) {
			t.Errorf("%s: it is a breach", name)
		}
	}
}

// A length alone must not cost memory: the rest never comes.
func TestAnnouncedBytesAreNotAllocated(t *testing.T) {
	in := []byte{0x80, 0x80, 0x40, 1, 2, 3} // 1 MiB announced
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w, _ := scripted(in)
			w.receive()
		}
	}).AllocedBytesPerOp()
	if allocated > 200<<10 {
		t.Errorf("%d bytes allocated for a frame of which 3 bytes came", allocated)
	}
}

func FuzzDecode(f *testing.F) {
	for _, some := range []map[string]message{specimensOf1(), specimensOf2()} {
		for _, m := range some {
			f.Add(m.append(nil))
		}
	}
	f.Add((&scopeAnswer{2, Scope{}, 7, fill[rootSum](3), 1, "it moves \x1b[2J the cursor"}).append(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := decode(protocolVersion, body)
		if err != nil {
			return
		}
		switch m.(type) {
		case *refuse, *scopeAnswer: // what is for people is made fit for them, and stays so
			body = m.append(nil)
			if m, err = decode(protocolVersion, body); err != nil {
				t.Fatalf("%x was written: %v", body, err)
			}
		}
		if _, ok := m.(*blocks); ok {
			return // one content has several compressed forms
		}
		if again := m.append(nil); !bytes.Equal(again, body) {
			t.Errorf("%T: read %x, wrote %x", m, body, again)
		}
	})
}

func someTicket(t testing.TB) Ticket {
	t.Helper()
	id, err := peer.Decode("12D3KooWKRyzVWW6ChFjQjK4miCty85Niy48tpPV95XdKu1BcvMA")
	if err != nil {
		t.Fatal(err)
	}
	return Ticket{
		Peer:  id,
		Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/udp/9171/quic-v1"), ma.StringCast("/ip4/192.0.2.1/tcp/9171")},
		Collections: []TicketCollection{
			{fill[dag.CollectionID](1), "Author", fill[ident.Secret](2)},
			{fill[dag.CollectionID](3), "Book", fill[ident.Secret](4)},
		},
	}
}

func TestTicketsSurviveTheirTextForm(t *testing.T) {
	want := someTicket(t)
	got, err := ParseTicket(" " + want.String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if got.Peer != want.Peer || !reflect.DeepEqual(got.Collections, want.Collections) || len(got.Addrs) != 2 || !got.Addrs[0].Equal(want.Addrs[0]) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	golden(t, 1, "ticket", []byte(want.String()))
}

func TestDamagedTicketsSayWhatToDo(t *testing.T) {
	good := someTicket(t).String()
	unsorted := someTicket(t)
	unsorted.Collections[0], unsorted.Collections[1] = unsorted.Collections[1], unsorted.Collections[0]
	nameless := someTicket(t)
	nameless.Collections[0].Name = ""
	for in, want := range map[string]string{
		"":                                       `must begin with "pando"`,
		"defra" + good:                           `must begin with "pando"`,
		good[:40]:                                "copy it again",
		"pando":                                  "cut short",
		good[:20] + "1" + good[21:]:              "no ticket has",
		strings.ToUpper(good):                    "must begin with",
		swap(good, 30):                           "checksum is wrong",
		unsorted.String():                        "not sorted",
		nameless.String():                        "collection name",
		Ticket{Peer: unsorted.Peer}.String():     "no collection",
		"pando" + strings.Repeat("a", maxTicket): "at most",
	} {
		_, err := ParseTicket(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want an error with %q", in, err, want)
		}
	}
}

func swap(s string, i int) string {
	c := byte('a')
	if s[i] == c {
		c = 'b'
	}
	return s[:i] + string(c) + s[i+1:]
}

func FuzzTicket(f *testing.F) {
	f.Add(someTicket(f).String())
	f.Add("pando")
	f.Fuzz(func(t *testing.T, in string) {
		ticket, err := ParseTicket(in)
		if err == nil && ticket.String() != strings.TrimSpace(in) {
			t.Errorf("%q parsed, and printed as %q", in, ticket.String())
		}
	})
}

// The reader of a ticket's body, without the checksum in the way.
func FuzzTicketBody(f *testing.F) {
	raw, _ := ticketText.DecodeString(strings.TrimPrefix(someTicket(f).String(), ticketPrefix))
	f.Add(raw[:len(raw)-ticketSumSize])
	f.Fuzz(func(t *testing.T, body []byte) {
		if ticket, err := readTicket(body); err == nil {
			if _, err := ParseTicket(ticket.String()); err != nil {
				t.Errorf("%x: read, printed, and then refused: %v", body, err)
			}
		}
	})
}
