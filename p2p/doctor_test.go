package p2p

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/pandodb/pando"
)

// graded returns the finding about something, which must be there.
func graded(t *testing.T, all []Finding, about string) Finding {
	t.Helper()
	for _, f := range all {
		if strings.HasPrefix(f.About, about) {
			return f
		}
	}
	t.Fatalf("nothing was found about %s: %+v", about, all)
	return Finding{}
}

func examine(t *testing.T, n *Node, target string) []Finding {
	t.Helper()
	all, err := n.Examine(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What keeps two nodes apart is named, and what to do about it.
func TestTheDoctorSaysWhyNodesDoNotMeet(t *testing.T) {
	a, b := openDB(t, ""), openDB(t, "")
	addSchema(t, a, schemaText)
	na, nb := startNode(t, a, Config{}), startNode(t, b, Config{})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := closed.Addr().(*net.TCPAddr).Port
	closed.Close()
	quic := na.Info().Addrs[0]
	for _, c := range []struct {
		name, target, about string
		grade               Grade
		text, hint          string
	}{
		{"this node is for itself", "", "this node listens", Warning, "this machine only", "--p2paddr"},
		{"it knows nobody", "", "peers", Warning, "knows none", "ticket"},
		{"it is pointed at itself", nb.Info().Addrs[0] + "/p2p/" + nb.Info().ID, "the target", Problem, "this node itself", "another"},
		{"nobody listens", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/p2p/%s", port, na.Info().ID), "address", Problem, "nothing listens", "another"},
		{"somebody else listens", quic + "/p2p/12D3KooWQbdFeZUdPhUzF3vXaxTMMPkXjZAtAhUmLmEVkiYJSK1X", "address", Problem, na.Info().ID, "new ticket"},
		{"a name of nothing", "/dns4/doctor.invalid/tcp/1/p2p/" + na.Info().ID, "address", Problem, "cannot be looked up", "DNS"},
		{"an unknown peer", "12D3KooWQbdFeZUdPhUzF3vXaxTMMPkXjZAtAhUmLmEVkiYJSK1X", "the peer's addresses", Problem, "none is known", "ticket"},
	} {
		f := graded(t, examine(t, nb, c.target), c.about)
		if f.Grade != c.grade || !strings.Contains(f.Text, c.text) || !strings.Contains(f.Hint, c.hint) {
			t.Errorf("%s: got %+v, want %s, %q and %q", c.name, f, c.grade, c.text, c.hint)
		}
	}
	for _, target := range []string{"nonsense", "pandoabc", "/ip4/127.0.0.1/tcp/1", "12D3KooWNope"} {
		if _, err := nb.Examine(t.Context(), target); !errors.Is(err, pando.ErrInvalid) {
			t.Errorf("target %q: got %v, want Invalid", target, err)
		}
	}
	if all := nb.Peers(); len(all) != 0 {
		t.Errorf("after only looking, peers are remembered: %+v", all)
	}
}

// A ticket is examined without being used.
func TestTheDoctorLooksAtATicketAndTakesNothing(t *testing.T) {
	a, b := openDB(t, ""), openDB(t, "")
	id := addSchema(t, a, schemaText)
	createUsers(t, a, "u", 3)
	na, nb := startNode(t, a, Config{}), startNode(t, b, Config{})
	ticket, err := na.Share(nil)
	if err != nil {
		t.Fatal(err)
	}
	all := examine(t, nb, ticket)
	if f := graded(t, all, "collection User"); f.Grade != Good || !strings.Contains(f.Text, "3 documents there") {
		t.Errorf("before the join: %+v", f)
	}
	if f := graded(t, all, "peer "); f.Grade != Good || !strings.Contains(f.Text, "/pando/sync/") {
		t.Errorf("the peer: %+v", f)
	}
	if _, known := nb.admission.secret(id); known || nb.has(id) {
		t.Error("looking at a ticket used it")
	}
	if _, err := nb.Join(t.Context(), ticket, nil); err != nil {
		t.Fatal(err)
	}
	if f := graded(t, examine(t, nb, ticket), "collection User"); f.Grade != Good || !strings.Contains(f.Text, "identical") {
		t.Errorf("after the join: %+v", f)
	}
	if f := graded(t, examine(t, nb, na.Info().ID), "peer "); f.Grade != Good {
		t.Errorf("the peer by its ID: %+v", f)
	}
	nowhere := "/ip4/127.0.0.1/tcp/7778/p2p/" + na.Info().ID
	examine(t, nb, nowhere)
	for _, p := range nb.Peers() {
		if slices.Contains(p.Addrs, "/ip4/127.0.0.1/tcp/7778") {
			t.Errorf("an address that was looked at is remembered: %v", p.Addrs)
		}
	}

	// A ticket for what is not shared, and one for a collection that is another here.
	stale, err := ParseTicket(ticket)
	if err != nil {
		t.Fatal(err)
	}
	stale.Collections[0].secret[0]++
	if f := graded(t, examine(t, nb, stale.String()), "collection User"); f.Grade != Problem || !strings.Contains(f.Hint, "new ticket") {
		t.Errorf("a stale ticket: %+v", f)
	}
	c := openDB(t, "")
	addSchema(t, c, `type User { other: Int }`)
	if f := graded(t, examine(t, startNode(t, c, Config{}), ticket), "collection User"); f.Grade != Problem || !strings.Contains(f.Hint, "same definition") {
		t.Errorf("another definition: %+v", f)
	}
}

// Who keeps a part, and who is kept out, is told so.
func TestTheDoctorKnowsPartsAndLists(t *testing.T) {
	a, b := openDB(t, ""), openDB(t, "")
	addSchema(t, a, schemaText)
	addSchema(t, a, `type Other { name: String }`)
	createUsers(t, a, "u", 3)
	na, nb := startNode(t, a, Config{}), startNode(t, b, Config{})
	ticket, err := na.Share([]string{"User"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nb.JoinPart(t.Context(), ticket, Scope{Filter: `{points: {_gt: 1}}`}, nil); err != nil {
		t.Fatal(err)
	}
	if f := graded(t, examine(t, nb, ticket), "collection User"); f.Grade != Good || !strings.Contains(f.Text, "a part") {
		t.Errorf("a part: %+v", f)
	}
	if f := graded(t, examine(t, na, nb.Info().ID), "peer "); f.Grade == Problem {
		t.Errorf("one of two collections is shared, and that is a problem: %+v", f)
	}
	if err := nb.Deny(na.Info().ID); err != nil {
		t.Fatal(err)
	}
	if f := graded(t, examine(t, nb, na.Info().ID), "peer "); f.Grade != Problem || !strings.Contains(f.Text, "denied") {
		t.Errorf("a denied peer: %+v", f)
	}
}
