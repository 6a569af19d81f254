package api_test

import (
	"bufio"
	"context"
	"errors"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/p2p"
)

// peered is a node with a network on loopback.
func peered(t *testing.T) *node {
	t.Helper()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	network, err := p2p.Start(t.Context(), db, p2p.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		t.Fatal(err)
	}
	server := api.NewServer(api.Config{DB: db, Node: network})
	listener := httptest.NewServer(server.Handler())
	client, err := api.NewClient(listener.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Shutdown(context.Background())
		listener.Close()
		network.Close()
		db.Close()
	})
	return &node{client, listener.URL}
}

// within asks again until the answer is the wanted one.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not in 20 s: %s", what)
		}
	}
}

// pair makes two nodes that share users.
func pair(t *testing.T) (ada, bob *node) {
	t.Helper()
	ada, bob = peered(t), peered(t)
	if _, err := ada.AddSchema(t.Context(), `type User { name: String }`); err != nil {
		t.Fatal(err)
	}
	shared, err := ada.Share(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Join(t.Context(), shared.Ticket, nil); err != nil {
		t.Fatal(err)
	}
	return ada, bob
}

func TestAChangeIsTracedOverTwoNodes(t *testing.T) {
	t.Parallel()
	ada, bob := pair(t)
	query(t, ada.Client, `mutation { create_User(input: {name: "Grace"}) { _docID } }`)
	within(t, "the change is at the other node", func() bool { return strings.Contains(query(t, bob.Client, `{ User { name } }`), "Grace") })
	got := query(t, ada.Client, `{ User { _docID _version { cid } } }`)
	cid := regexp.MustCompile(`"cid":"(\w+)"`).FindStringSubmatch(got)[1]
	doc := regexp.MustCompile(`"_docID":"(\w+)"`).FindStringSubmatch(got)[1]

	here, err := ada.Trace(t.Context(), cid)
	if err != nil {
		t.Fatal(err)
	}
	there, err := bob.Trace(t.Context(), doc)
	if err != nil {
		t.Fatal(err)
	}
	if len(here) != 1 || len(there) != 1 || there[0].Commit != cid || there[0].DocID != doc || there[0].Collection != "User" || there[0].Node == here[0].Node {
		t.Fatalf("%+v and %+v, want the same commit on two nodes", here, there)
	}
	if e := here[0].Events; len(e) < 2 || e[0].Stage != p2p.Written || e[1].Stage != p2p.Synced {
		t.Errorf("its author says %+v", e)
	}
	last := there[0].Events[len(there[0].Events)-1]
	if last.Stage != p2p.Visible || last.Peer != here[0].Node {
		t.Errorf("at the other node it ends with %+v, want it visible, from its author", last)
	}
	recent, err := bob.Traces(t.Context(), 5)
	if err != nil || len(recent) != 1 || recent[0].Commit != cid {
		t.Errorf("recent changes %+v, %v", recent, err)
	}
}

func TestTracesOfWhatIsWrong(t *testing.T) {
	t.Parallel()
	alone, n := start(t), peered(t)
	if _, err := alone.Trace(t.Context(), "bafy"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("without a network: %v", err)
	}
	if _, err := alone.Wants(t.Context(), 1); !errors.Is(err, fault.Unavailable) {
		t.Errorf("wants without a network: %v", err)
	}
	for id, want := range map[string]error{
		"bafy":                  fault.Invalid,
		"../../status":          fault.Invalid,
		pando.CID{1}.String():   fault.NotFound,
		pando.DocID{1}.String(): fault.NotFound,
	} {
		if _, err := n.Trace(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("trace of %q: got %v, want %v", id, err, want)
		}
	}
	if _, err := n.Wants(t.Context(), -1); !errors.Is(err, fault.Invalid) {
		t.Errorf("minus one wants: %v", err)
	}
	if _, err := n.Traces(t.Context(), p2p.MaxRecent+1); !errors.Is(err, fault.TooLarge) {
		t.Errorf("more traces than are listed at once: %v", err)
	}
	if _, err := n.Wants(t.Context(), p2p.MaxWants+1); !errors.Is(err, fault.TooLarge) {
		t.Errorf("more wants than are listed at once: %v", err)
	}
	if all, err := n.Traces(t.Context(), p2p.MaxRecent); err != nil || len(all) != 0 {
		t.Errorf("traces where nothing happened: %v, %v", all, err)
	}
}

func TestStatusHasFiguresOfPeers(t *testing.T) {
	t.Parallel()
	ada, bob := pair(t)
	var st api.Status
	within(t, "the copies are identical, and bytes are counted", func() bool {
		var err error
		if st, err = bob.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(st.Peers) == 1 && len(st.Peers[0].Collections) == 1 && st.Peers[0].Collections[0].State == p2p.Identical
	})
	p := st.Peers[0]
	if p.Received == 0 || p.Sent == 0 || p.Session.At.IsZero() || p.Since.IsZero() || p.Collections[0].Same.IsZero() {
		t.Errorf("peer %+v, want its bytes and its last session", p)
	}
	if st.Counts["sessions"] == 0 || len(st.Queues) == 0 || st.Started.IsZero() || st.At.Before(st.Started) {
		t.Errorf("status %+v, want counts, queues and times", st)
	}
	local, err := ada.LocalStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(local.Peers) != 1 || len(local.Peers[0].Collections) != 1 || local.Peers[0].Collections[0].State != p2p.NotAsked {
		t.Errorf("local status %+v, want the peer, not asked", local)
	}
}

// What Prometheus reads has each name once explained, and only numbers.
func TestMetricsAreReadable(t *testing.T) {
	t.Parallel()
	ada, bob := pair(t)
	query(t, ada.Client, `mutation { create_User(input: {name: "Grace"}) { _docID } }`)
	within(t, "the change is at the other node", func() bool { return strings.Contains(query(t, bob.Client, `{ User { name } }`), "Grace") })
	code, text := bob.send(t, "GET", "/metrics", "")
	if code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	explained, values := map[string]bool{}, map[string]float64{}
	line := regexp.MustCompile(`^([a-z_][a-zA-Z0-9_]*(?:\{.*\})?) (\S+)$`)
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if name, ok := strings.CutPrefix(s.Text(), "# HELP "); ok {
			name, help, _ := strings.Cut(name, " ")
			if explained[name] || help == "" {
				t.Errorf("%s is explained twice, or not: %q", name, help)
			}
			explained[name] = true
			continue
		}
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		m := line.FindStringSubmatch(s.Text())
		if m == nil {
			t.Errorf("a line that is no figure: %q", s.Text())
			continue
		}
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Errorf("%q: %v", s.Text(), err)
		}
		values[m[1]] = v
	}
	for name, least := range map[string]float64{
		`pando_documents{collection="User"}`:                       1,
		`pando_peers_connected`:                                    1,
		`pando_merged_commits_total`:                               1,
		`pando_sync_received_bytes_total`:                          100,
		`pando_collection_received_bytes_total{collection="User"}`: 100,
		`pando_queue_limit{queue="inbox"}`:                         1,
		`pando_storage_tables`:                                     0,
		`go_goroutines`:                                            1,
	} {
		if v, ok := values[name]; !ok || v < least {
			t.Errorf("%s is %v, want at least %v", name, v, least)
		}
	}
	if v, ok := values[`pando_mismatched_copies{collection="User"}`]; !ok || v != 0 {
		t.Errorf("%v mismatched copies, want none", v)
	}
}
