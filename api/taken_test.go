package api

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/pandodb/pando/api/pandov1"
)

// Whose access was taken away does nothing more, also not in the seconds that he has to say
// goodbye in.
func TestASocketObeysNobodyWhoseAccessWasTakenAway(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		ada, before := someone(t), countUsers(t, s)
		if err := s.rights.Claim(someone(t).DID()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.rights.grant(User, string(ada.DID())); err != nil {
			t.Fatal(err)
		}
		k, _, err := w.connect(t)
		if err != nil {
			t.Fatal(err)
		}
		k.send(`{"type":"connection_init","payload":{"Authorization":"Bearer ` + pass(t, s, ada, delegated(t, ada, s.key)) + `"}}`)
		k.hears(`{"type":"connection_ack"}`)
		k.send(`{"id":"1","type":"subscribe","payload":{"query":"mutation { create_User(input: {name: \"ada\"}) { name } }"}}`)
		k.hears(`{"type":"next","id":"1","payload":{"data":{"create_User":[{"name":"ada"}]}}}`)
		k.hears(`{"type":"complete","id":"1"}`)
		if _, err := s.rights.revoke(User, string(ada.DID())); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // she is told, and does not listen
		k.send(`{"id":"2","type":"subscribe","payload":{"query":"mutation { create_User(input: {name: \"eve\"}) { name } }"}}`)
		synctest.Wait()
		time.Sleep(2 * closeTimeout)
		if n := countUsers(t, s); n != before+1 {
			t.Errorf("%d were written, want the one from before", n-before)
		}
	})
}

// An import takes as long as it takes, also beyond the token that it began with, but not
// beyond the access to the node; nor does an export.
func TestWorkEndsWithTheAccessAndNotWithTheToken(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		ada, before := someone(t), countUsers(t, s)
		if err := s.rights.Claim(someone(t).DID()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.rights.grant(User, string(ada.DID())); err != nil {
			t.Fatal(err)
		}
		in := w.dial()
		fmt.Fprintf(in, "POST /api/v0/import/User HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n",
			pass(t, s, ada, delegated(t, ada, s.key)))
		batches := 0
		send := func() {
			var body strings.Builder
			for i := range importBatch {
				fmt.Fprintf(&body, "{\"name\":\"%d %d\"}\n", batches, i)
			}
			batches++
			fmt.Fprintf(in, "%x\r\n%s\r\n", body.Len(), body.String())
		}
		go send()
		resp, err := http.ReadResponse(in.in, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("got %v, %v", resp, err)
		}
		lines := bufio.NewScanner(resp.Body)
		for range 5 {
			lines.Scan()
			time.Sleep(stallTimeout - time.Minute) // a minute less than one may say nothing
			go send()
		}
		lines.Scan()
		if !strings.Contains(lines.Text(), "progress") {
			t.Errorf("after the token has expired: %s", lines.Text())
		}
		out := w.dial()
		fmt.Fprintf(out, "GET /api/v0/export/User HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", pass(t, s, ada))
		synctest.Wait()
		if _, err := s.rights.revoke(User, string(ada.DID())); err != nil {
			t.Fatal(err)
		}
		go send()
		lines.Scan()
		if !strings.Contains(lines.Text(), "has not the access to this node") {
			t.Errorf("the import after the access was taken away: %s", lines.Text())
		}
		if n := countUsers(t, s); n != before+6*importBatch {
			t.Errorf("%d documents, want those from before", n-before)
		}
		if code, body, err := out.answer(); err == nil {
			t.Errorf("the export is answered by %d to its end, with %d bytes", code, len(body))
		}
		in.Close()
	})
}

// An answer that breaks off is not taken for a whole one, whatever wire it comes over.
func TestAnExportThatBreaksOffIsNotWholeOverGRPC(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		ada := someone(t)
		if err := s.rights.Claim(someone(t).DID()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.rights.grant(Admin, string(ada.DID())); err != nil {
			t.Fatal(err)
		}
		for i := range 200 { // more than the client takes in
			createUser(t, s.db, fmt.Sprint("new", i, strings.Repeat("y", 50_000)))
		}
		for _, operation := range []string{"GET /export/{collection}", "POST /backup/export"} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := connect.NewRequest(&pandov1.FollowRequest{Operation: operation})
			if strings.Contains(operation, "{") {
				r.Msg.Parameters = map[string]string{"collection": "User"}
			}
			r.Header().Set("Authorization", "Bearer "+pass(t, s, ada))
			stream, err := rpcOver(t, w).Follow(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			if !stream.Receive() {
				t.Fatal(operation, stream.Err())
			}
			synctest.Wait()
			if _, err := s.rights.revoke(Admin, string(ada.DID())); err != nil {
				t.Fatal(err)
			}
			last := ""
			for stream.Receive() {
				last = string(stream.Msg().GetPiece())
			}
			if stream.Err() == nil {
				t.Errorf("%s: it is said to be whole, and ends with %q", operation, last[max(0, len(last)-200):])
			}
			stream.Close()
			if _, err := s.rights.grant(Admin, string(ada.DID())); err != nil {
				t.Fatal(err)
			}
		}
	})
}
