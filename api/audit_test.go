package api

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/token"
)

// What is denied is counted and told by kind, and neither the log nor an answer tells
// what was shown.
func TestDenialsAreCountedAndTold(t *testing.T) {
	var log bytes.Buffer
	s, owner := claimed(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ada := someone(t)
	expired := pass(t, s, ada, func(c *token.Claims) { c.NotBefore, c.Expiry = time.Unix(0, 0), time.Unix(60, 0) })
	s.answerTo(from(atAfar, "GET", Base+"/export/Secret", ""))
	s.answerTo(from(atAfar, "GET", Base+"/export/Secret", "", "Authorization", "Bearer "+pass(t, s, ada)))
	s.answerTo(from(atAfar, "GET", Base+"/export/Secret", "", "Authorization", "Bearer "+expired))
	s.answerTo(from("192.0.2.7:9181", "GET", Base+"/schema", "", "Origin", "https://example.org", "Sec-Fetch-Site", "cross-site"))
	s.answerTo(from(atAfar, "POST", Base+"/schema", "type Secret { a: Int }", "Origin", "https://example.org", "Sec-Fetch-Site", "cross-site"))
	for _, r := range []*http.Request{
		from(atLoopback, "POST", Base+"/schema", "type Note { a: Int }"),
		from(atLoopback, "GET", Base+"/graphql?query=mutation%7Bcreate_Note(input:%7Ba:1%7D)%7Ba%7D%7D", ""), // by GET
	} {
		s.answerTo(r.WithContext(context.WithValue(r.Context(), insideKey{}, true)))
	}
	for kind, want := range map[string]uint64{"token-missing": 2, "node-access": 1, "token-expired": 1, "cross-origin": 1} {
		if got := s.audit.Counts()[kind]; got != want {
			t.Errorf("%s: %d times, want %d", kind, got, want)
		}
	}
	for _, want := range []string{
		"kind=node-access who=" + string(ada.DID()) + ` what="GET /api/v0/export/{collection}" from=192.0.2.1 collection=Secret`,
		`kind=token-missing who="" what="GET /api/v0/export/{collection}"`,
		`kind=document who=node what="GET /api/v0/graphql" from=socket`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no line with %s:\n%s", want, &log)
		}
	}
	if strings.Contains(log.String(), "eyJ") {
		t.Errorf("the log holds a token:\n%s", &log)
	}
	code, metrics := s.answerTo(from(atAfar, "GET", "/metrics", "", "Authorization", "Bearer "+pass(t, s, owner)))
	if code != http.StatusOK || !strings.Contains(metrics, `pando_denied_total{kind="token-missing"} 2`) {
		t.Errorf("metrics: %d %s", code, metrics)
	}
	if _, body := s.answerTo(from(atAfar, "GET", Base+"/p2p/status", "", "Authorization", "Bearer "+pass(t, s, owner))); !strings.Contains(body, `"token-missing":2`) {
		t.Errorf("status: %s", body)
	}
}

// A flood of denials does not fill the disk, and one kind does not hide another.
func TestTheLogOfDenialsIsBounded(t *testing.T) {
	var log bytes.Buffer
	a := NewAudit(slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Unix(0, 0)
	a.now = func() time.Time { return now }
	lines := func() int { return strings.Count(log.String(), "\n") }
	for range 1000 {
		a.Deny(Denial{Kind: "token-expired", What: strings.Repeat("x", 10_000)})
	}
	if lines() != deniedBurst || log.Len() > 10_000 {
		t.Errorf("1,000 at once make %d lines of %d bytes, want %d lines", lines(), log.Len(), deniedBurst)
	}
	a.Deny(Denial{Kind: "node-access"})
	if lines() != deniedBurst+1 {
		t.Error("another kind is not told of")
	}
	now = now.Add(deniedEvery)
	a.Deny(Denial{Kind: "token-expired"})
	if !strings.Contains(log.String(), "untold=990") {
		t.Errorf("the next line does not say how many were left out:\n%s", log.String()[log.Len()-200:])
	}
	for i := range 2 * maxKinds {
		a.Deny(Denial{Kind: fmt.Sprint(i)})
	}
	if n := len(a.Counts()); n > maxKinds {
		t.Errorf("%d kinds, want at most %d", n, maxKinds)
	}
	if got := a.Counts()["token-expired"]; got != 1001 {
		t.Errorf("%d were counted, want 1001", got)
	}
}
