package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/pandodb/pando/api/pandov1"
	"github.com/pandodb/pando/api/pandov1/pandov1connect"
)

func TestACallThatDoesNotArriveLosesItsPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		c := w.dial()
		defer c.Close()
		fmt.Fprintf(c, "POST %sExecute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", rpcPath)
		synctest.Wait()
		if len(s.requestSlots) != 1 {
			t.Fatalf("%d requests run, want the one that does not arrive", len(s.requestSlots))
		}
		time.Sleep(bodyTimeout + time.Second)
		synctest.Wait()
		if len(s.requestSlots) != 0 {
			t.Errorf("a call of which a byte arrived holds its place after %v", bodyTimeout)
		}
	})
}

// rpcOver is a client over HTTP/2 on wires.
func rpcOver(t *testing.T, w *wires) pandov1connect.PandoClient {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	h := &http.Transport{Protocols: p, DialContext: func(context.Context, string, string) (net.Conn, error) { return w.dial(), nil }}
	t.Cleanup(h.CloseIdleConnections)
	return pandov1connect.NewPandoClient(&http.Client{Transport: h}, "http://localhost", connect.WithGRPC())
}

// A stream may be silent for longer than any deadline, as long as its client is there.
func TestAQuietStreamOfCallsLives(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := rpcOver(t, w).Subscribe(ctx, connect.NewRequest(&pandov1.SubscribeRequest{Query: `subscription { User { name } }`}))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		beats := 0
		for end := time.Now().Add(2 * stallTimeout); time.Now().Before(end); beats++ {
			if !stream.Receive() {
				t.Fatalf("after %d heartbeats: %v", beats, stream.Err())
			}
		}
		if want := int(2 * stallTimeout / heartbeat); beats < want {
			t.Errorf("%d heartbeats in %v, want %d", beats, 2*stallTimeout, want)
		}
		createUser(t, s.db, "Ada")
		if !stream.Receive() || !strings.Contains(stream.Msg().GetEvents()[0].GetJson(), "Ada") {
			t.Errorf("got %v, %v; want Ada", stream.Msg(), stream.Err())
		}
		cancel()
		synctest.Wait()
		if len(s.eventSlots) != 0 {
			t.Error("a stream whose client has gone holds its place")
		}
	})
}

func TestAStreamOfCallsThatNobodyReadsLosesItsPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := rpcOver(t, w).Subscribe(ctx, connect.NewRequest(&pandov1.SubscribeRequest{Query: `subscription { User { name } }`}))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		for i := range 400 { // 20 MB, and the client takes in 4
			createUser(t, s.db, fmt.Sprint("new", i, strings.Repeat("y", 50_000)))
		}
		synctest.Wait()
		if len(s.eventSlots) != 1 {
			t.Fatalf("%d streams, want the one that nobody reads", len(s.eventSlots))
		}
		time.Sleep(stallTimeout + time.Minute)
		synctest.Wait()
		if len(s.eventSlots) != 0 {
			t.Errorf("a stream that nobody reads holds its place after %v", stallTimeout)
		}
	})
}
