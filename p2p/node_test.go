package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pandodb/pando"
)

const schemaText = `type User { name: String  points: Int }`

func openDB(t testing.TB, dir string) *pando.DB {
	t.Helper()
	db, err := pando.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func addSchema(t testing.TB, db *pando.DB, text string) pando.CollectionID {
	t.Helper()
	cs, err := db.AddSchema(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	return cs[0].ID
}

func createUsers(t testing.TB, db *pando.DB, prefix string, n int) {
	t.Helper()
	err := db.Update(t.Context(), func(tx *pando.Tx) error {
		users, err := tx.Collection("User")
		if err != nil {
			return err
		}
		for i := range n {
			if _, err := users.Create(map[string]any{"name": fmt.Sprint(prefix, i), "points": i}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func startNode(t testing.TB, db *pando.DB, c Config) *Node {
	t.Helper()
	if c.Listen == nil {
		c.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"}
	}
	if c.Logger == nil && os.Getenv("PANDO_LOG") != "" {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", t.Name())
	}
	n, err := Start(t.Context(), db, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// Over the real loopback: a ticket is all that a second node needs.
func TestJoinWithTicket(t *testing.T) {
	a := openDB(t, "")
	addSchema(t, a, schemaText)
	createUsers(t, a, "u", 1000)
	na := startNode(t, a, Config{})
	ticket, err := na.Share(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := openDB(t, "")
	nb := startNode(t, b, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	res, err := nb.Join(ctx, ticket, func(p Progress) { t.Logf("%+v", p) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", res)
	if res.Documents != 1000 {
		t.Errorf("joined %d documents, want 1000", res.Documents)
	}
	createUsers(t, b, "b", 1)
	st, err := nb.Status(ctx)
	t.Logf("%+v %v", st, err)
}

func TestTransportsShareAPort(t *testing.T) {
	a := openDB(t, "")
	addSchema(t, a, schemaText)
	createUsers(t, a, "u", 10)
	na := startNode(t, a, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	var plain, web string
	for _, addr := range na.Info().Addrs {
		if strings.HasSuffix(addr, "/ws") {
			web = addr
		} else {
			plain = addr
		}
	}
	if web != plain+"/ws" {
		t.Errorf("TCP on %s, WebSocket on %s: want one port", plain, web)
	}
	for _, addr := range []string{plain, web} {
		b := openDB(t, "")
		nb := startNode(t, b, Config{})
		if err := nb.Connect(t.Context(), addr+"/p2p/"+na.Info().ID); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestAPortInUseIsAnError(t *testing.T) {
	a := startNode(t, openDB(t, ""), Config{})
	_, err := Start(t.Context(), openDB(t, ""), Config{Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1", a.Info().Addrs[1]}})
	if !errors.Is(err, pando.ErrUnavailable) || !strings.Contains(err.Error(), "choose another address") {
		t.Errorf("got %v, want Unavailable and what to do", err)
	}
}

func TestAddressesSayWhatIsWrong(t *testing.T) {
	db := openDB(t, "")
	for _, c := range []Config{{Peers: []string{"/ip4/127.0.0.1/tcp/9171"}}, {Peers: []string{"localhost:9171"}}, {Listen: []string{"0.0.0.0:9171"}},
		{Listen: []string{"/ip4/127.0.0.1"}}, {Listen: []string{"/ip4/127.0.0.1/udp/9171"}}, {Listen: []string{"/ip4/127.0.0.1/quic-v1"}}} {
		if _, err := Start(t.Context(), db, c); !errors.Is(err, pando.ErrInvalid) || !strings.Contains(err.Error(), "write it as") {
			t.Errorf("%+v: got %v, want Invalid and how to write it", c, err)
		}
	}
}

func TestStartAndCloseAreQuiet(t *testing.T) {
	var said strings.Builder
	n := startNode(t, openDB(t, ""), Config{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	n.Close()
	if said.Len() > 0 {
		t.Errorf("a node that was started and closed says at info:\n%s", &said)
	}
}

// A node that only answered remembers who asked: after a restart it may be
// elsewhere, and nobody else could find the other.
func TestARestartedServerFindsItsMembers(t *testing.T) {
	dir := t.TempDir()
	a := openDB(t, dir)
	addSchema(t, a, schemaText)
	na := startNode(t, a, Config{})
	ticket, err := na.Share(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := openDB(t, "")
	nb := startNode(t, b, Config{})
	if _, err := nb.Join(t.Context(), ticket, nil); err != nil {
		t.Fatal(err)
	}
	na.Close()
	a.Close()
	createUsers(t, b, "missed", 3)
	a = openDB(t, dir)
	na = startNode(t, a, Config{}) // on other ports
	ma := &member{w: &world{t: t}, db: a, node: na}
	mb := &member{w: &world{t: t}, db: b, node: nb}
	converge(t, 10*time.Second, ma, mb)
}

func BenchmarkJoin(b *testing.B) {
	const documents = 20_000
	a := openDB(b, b.TempDir())
	addSchema(b, a, schemaText)
	for i := range documents / 1000 {
		createUsers(b, a, fmt.Sprint("u", i, "-"), 1000)
	}
	na := startNode(b, a, Config{})
	ticket, err := na.Share(nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		db := openDB(b, b.TempDir())
		n := startNode(b, db, Config{})
		res, err := n.Join(b.Context(), ticket, nil)
		if err != nil || res.Documents != documents {
			b.Fatalf("%d documents: %v", res.Documents, err)
		}
		n.Close()
	}
	b.ReportMetric(documents*float64(b.N)/b.Elapsed().Seconds(), "docs/s")
}

// Everything at once, over real sockets: what the race detector is to see.
func TestNodesWriteAllAtOnce(t *testing.T) {
	var ms []*member
	var ticket string
	for i := range 4 {
		db := openDB(t, "")
		if i == 0 {
			addSchema(t, db, schemaText)
			createUsers(t, db, "before", 300)
		}
		n := startNode(t, db, Config{})
		if i == 0 {
			var err error
			if ticket, err = n.Share(nil); err != nil {
				t.Fatal(err)
			}
		} else if _, err := n.Join(t.Context(), ticket, nil); err != nil {
			t.Fatal(err)
		}
		ms = append(ms, &member{w: &world{t: t}, db: db, node: n})
	}
	var writers sync.WaitGroup
	for i, m := range ms {
		writers.Go(func() {
			for k := range 30 {
				createUsers(t, m.db, fmt.Sprint("node", i, "-", k, "-"), 1)
			}
		})
		writers.Go(func() {
			for range 5 {
				if _, err := m.node.Status(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	converge(t, 30*time.Second, ms...)
	if n := documents(t, ms[3]); n != 420 {
		t.Errorf("%d documents, want 420", n)
	}
}
