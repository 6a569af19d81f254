package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// wires is a listener whose connections are pipes: what one side does not read the
// other cannot write, and time is that of the test.
type wires struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (w *wires) Accept() (net.Conn, error) {
	select {
	case c := <-w.accept:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wires) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

func (w *wires) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// caller is a client that sends and reads as slowly as the test has it.
type caller struct {
	net.Conn
	in *bufio.Reader
}

func (w *wires) dial() *caller {
	near, far := net.Pipe()
	w.accept <- far
	return &caller{near, bufio.NewReader(near)}
}

func (c *caller) send(method, path, body string) {
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
}

func (c *caller) answer() (int, string, error) {
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// inBubble runs a server, whose clock is the bubble's, on a database of large users.
func inBubble(t *testing.T, test func(t *testing.T, s *Server, w *wires)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		db := withLargeUsers(t)
		defer db.Close()
		s := NewServer(Config{DB: db})
		w := &wires{accept: make(chan net.Conn), closed: make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- s.Serve(w) }()
		test(t, s, w)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
}

// withLargeUsers is a database whose users together are larger than any buffer.
func withLargeUsers(t *testing.T) *pando.DB {
	t.Helper()
	db, err := pando.Open(context.Background(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.AddSchema(t.Context(), "type User { name: String }"); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		createUser(t, db, fmt.Sprint(i, strings.Repeat("x", 50_000)))
	}
	return db
}

func createUser(t *testing.T, db *pando.DB, name string) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx *pando.Tx) error {
		users, err := tx.Collection("User")
		if err != nil {
			return err
		}
		_, err = users.Create(map[string]any{"name": name})
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

const allUsers = `{"query": "{ User { name } }"}`

func TestReaderThatDoesNotReadLosesItsPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		c := w.dial()
		defer c.Close()
		c.send("POST", "/api/v0/graphql", allUsers)
		synctest.Wait()
		if len(s.requestSlots) != 1 {
			t.Fatalf("%d requests run, want the one that nobody reads", len(s.requestSlots))
		}
		time.Sleep(2 * answerTimeout)
		synctest.Wait()
		if len(s.requestSlots) != 0 {
			t.Errorf("the answer that nobody reads holds its place after %v", 2*answerTimeout)
		}
	})
}

func TestSlowImportLosesItsPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		c := w.dial()
		defer c.Close()
		fmt.Fprint(c, "POST /api/v0/import/User HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n")
		for range 3 { // a byte now and then is not progress
			time.Sleep(stallTimeout - time.Minute)
			if _, err := c.Write([]byte(" ")); err != nil {
				break
			}
		}
		synctest.Wait()
		if len(s.streamSlots) != 0 {
			t.Errorf("an import that sends a byte every %v goes on", stallTimeout-time.Minute)
		}
	})
}

func TestStreamsLeaveRoomForRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		for range maxStreams {
			c := w.dial()
			defer c.Close()
			c.send("GET", "/api/v0/export/User", "")
		}
		synctest.Wait()
		c := w.dial()
		defer c.Close()
		c.send("GET", "/api/v0/export/User", "")
		if status, body, err := c.answer(); status != http.StatusTooManyRequests {
			t.Errorf("one stream too many: %d %.100s %v", status, body, err)
		}
		c.send("POST", "/api/v0/graphql", `{"query": "{ User(limit: 1) { _docID } }"}`)
		if status, body, err := c.answer(); status != http.StatusOK {
			t.Errorf("a query beside them: %d %.100s %v", status, body, err)
		}
	})
}

func TestHealthIsToldUnderLoad(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		for range maxInFlight {
			c := w.dial()
			defer c.Close()
			c.send("POST", "/api/v0/graphql", allUsers)
		}
		synctest.Wait()
		c := w.dial()
		defer c.Close()
		c.send("POST", "/api/v0/graphql", allUsers)
		if status, _, err := c.answer(); status != http.StatusTooManyRequests {
			t.Errorf("one request too many: %d %v", status, err)
		}
		c.send("GET", "/health", "")
		if status, _, err := c.answer(); status != http.StatusOK {
			t.Errorf("health: %d %v", status, err)
		}
	})
}

func TestConnectionOutlivesTheDeadlinesOfItsRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		c := w.dial()
		defer c.Close()
		c.send("POST", "/api/v0/import/User", `{"name": "bo"}`)
		if status, _, err := c.answer(); status != http.StatusOK || err != nil {
			t.Fatalf("import: %d %v", status, err)
		}
		for begun := time.Now(); time.Since(begun) < 2*stallTimeout; time.Sleep(time.Minute) {
			c.send("POST", "/api/v0/graphql", allUsers)
			if status, _, err := c.answer(); status != http.StatusOK || err != nil {
				t.Fatalf("%v later: %d %v", time.Since(begun), status, err)
			}
		}
	})
}

func TestExportHoldsNoSnapshotWhileItsReaderSleeps(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		c := w.dial()
		defer c.Close()
		c.send("GET", "/api/v0/export/User", "")
		synctest.Wait()
		before := countUsers(t, s)
		for i := range 200 {
			createUser(t, s.db, fmt.Sprint("late ", i))
		}
		status, body, err := c.answer()
		if status != http.StatusOK || err != nil {
			t.Fatalf("%d %v", status, err)
		}
		if got := strings.Count(body, "\n"); got <= before {
			t.Errorf("%d documents: the export went on in a snapshot from before its reader slept", got)
		}
	})
}

func countUsers(t *testing.T, s *Server) int {
	t.Helper()
	var n uint64
	if err := s.db.View(t.Context(), func(tx *pando.Tx) error {
		users, err := tx.Collection("User")
		if err == nil {
			n, err = users.Count()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return int(n)
}

func TestShutdownEndsEverythingHoweverItIsCutShort(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		c := w.dial()
		defer c.Close()
		fmt.Fprint(c, "POST /api/v0/graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(s.requestSlots) != 0 {
			t.Error("a request runs after the shutdown")
		}
	})
}

// held is a transaction of an empty database, kept as a client's.
func held(t *testing.T) (txs *transactions, id uint64, db *pando.DB) {
	t.Helper()
	db, err := pando.Open(context.Background(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin(context.Background(), pando.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	txs = newTransactions(slog.New(slog.DiscardHandler))
	if id, err = txs.add(tx, ""); err != nil {
		t.Fatal(err)
	}
	return txs, id, db
}

func TestTransactionInUseEndsToo(t *testing.T) {
	var db *pando.DB
	synctest.Test(t, func(t *testing.T) {
		var txs *transactions
		var id uint64
		txs, id, db = held(t)
		defer db.Close()
		defer txs.close()
		begun := time.Now()
		for time.Since(begun) < 2*txLifetime {
			err := txs.use(id, "", func(*pando.Tx) (bool, error) { return false, nil })
			if errors.Is(err, fault.NotFound) && time.Since(begun) > txLifetime-txIdle {
				return
			}
			if err != nil {
				t.Fatalf("after %v: %v", time.Since(begun), err)
			}
			time.Sleep(txIdle - time.Second)
		}
		t.Fatalf("a transaction that is touched every %v is open after %v", txIdle-time.Second, time.Since(begun))
	})
}

func TestTransactionThatPanickedIsDiscardedWhenUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		txs, id, db := held(t)
		defer db.Close()
		defer txs.close()
		func() {
			defer func() { _ = recover() }()
			_ = txs.use(id, "", func(*pando.Tx) (bool, error) { panic("a defect") })
		}()
		time.Sleep(txIdle + time.Second)
		synctest.Wait()
		txs.mu.Lock()
		defer txs.mu.Unlock()
		if len(txs.open) != 0 {
			t.Error("the transaction is open for ever")
		}
	})
}

func TestBodyThatIsTooLargeIsNotWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		c := w.dial()
		defer c.Close()
		begun := time.Now()
		fmt.Fprintf(c, "POST /api/v0/graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", maxBody+1)
		if status, body, err := c.answer(); status != http.StatusRequestEntityTooLarge || time.Since(begun) > time.Second {
			t.Errorf("after %v: %d %s %v, want 413 at once", time.Since(begun), status, body, err)
		}
	})
}
