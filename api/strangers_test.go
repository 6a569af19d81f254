package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

// Whoever was let in is answered, however many strangers stand at the door and say half of what
// they have to say.
func TestStrangersLeaveRoomForThoseWhoAreLetIn(t *testing.T) {
	for name, head := range map[string]string{
		"who shows nothing":           "GET /api/v0/node/identity HTTP/1.1\r\n",
		"who asks what he is":         "GET /api/v0/acp/node/status HTTP/1.1\r\nAuthorization: Bearer EVE\r\n",
		"a call":                      "POST /pando.v1.Pando/Execute HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: Bearer EVE\r\n",
		"a call of unknown length":    "POST /pando.v1.Pando/Execute HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: Bearer EVE\r\nTransfer-Encoding: chunked\r\n",
		"a call of another's service": "POST /pando.v1.Pando/Guess HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: Bearer EVE\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *Server, w *wires) {
				ada, eve := someone(t), someone(t)
				if err := s.rights.Claim(ada.DID()); err != nil {
					t.Fatal(err)
				}
				head := strings.ReplaceAll(head, "EVE", pass(t, s, eve)) + "Host: localhost\r\n"
				if !strings.Contains(head, "chunked") {
					head += "Content-Length: 100\r\n"
				}
				for range maxInFlight {
					c := w.dial()
					defer c.Close()
					fmt.Fprint(c, head+"\r\n")
				}
				synctest.Wait()
				for _, path := range []string{"/api/v0/graphql", "/pando.v1.Pando/Execute"} {
					c := w.dial()
					defer c.Close()
					body := `{"query": "{ User(limit: 1) { _docID } }"}`
					fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", path, pass(t, s, ada), len(body), body)
					if status, body, err := c.answer(); status != http.StatusOK {
						t.Errorf("%s: %d %.100s %v", path, status, body, err)
					}
				}
			})
		})
	}
}

// What a stranger sends is no longer than a question may be, and takes no turn of those who send
// much.
func TestAStrangerSendsLittle(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, w *wires) {
		if err := s.rights.Claim(someone(t).DID()); err != nil {
			t.Fatal(err)
		}
		c := w.dial()
		defer c.Close()
		fmt.Fprintf(c, "POST /pando.v1.Pando/Execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n", pass(t, s, someone(t)))
		go func() {
			for range 8 {
				if _, err := fmt.Fprintf(c, "%x\r\n%s\r\n", largeBody/4, strings.Repeat(" ", largeBody/4)); err != nil {
					return
				}
			}
		}()
		if status, body, err := c.answer(); err == nil && status != http.StatusTooManyRequests && !strings.Contains(body, "resource_exhausted") {
			t.Errorf("two MiB of a stranger: %d %.200s", status, body)
		}
		if len(s.largeSlots) != 0 {
			t.Error("they take the turn of somebody who was let in")
		}
	})
}
