package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
)

// withPages is a node with documents of 3 MB together, which holds little at once.
func withPages(t *testing.T) *node {
	t.Helper()
	db, err := pando.Open(t.Context(), "", &pando.Options{Limits: pando.Limits{Held: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	server := api.NewServer(api.Config{DB: db})
	listener := httptest.NewServer(server.Handler())
	client, err := api.NewClient(listener.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		if err := errors.Join(server.Shutdown(context.Background())); err != nil {
			t.Error(err)
		}
		listener.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := client.AddSchema(t.Context(), `type Page { n: Int text: String }`); err != nil {
		t.Fatal(err)
	}
	var pages strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&pages, `{"n": %d, "text": %q}`+"\n", i, strings.Repeat("é", 500))
	}
	if _, err := client.Import(t.Context(), "Page", strings.NewReader(pages.String()), api.ImportOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	return &node{client, listener.URL}
}

func TestLargeAnswerArrivesWhole(t *testing.T) {
	t.Parallel()
	n := withPages(t)
	for _, query := range []string{`{ Page { _docID n text } }`, `{ Page(limit: 1) { n } }`, `{ Page(limit: 0, filter: {n: {_eq: -1}}) { n } }`} {
		whole, err := n.Query(t.Context(), api.Request{Query: query})
		if err != nil {
			t.Fatal(err)
		}
		var pieces bytes.Buffer
		resp, err := n.Stream(t.Context(), api.Request{Query: query}, &pieces)
		if err != nil || len(resp.Errors) > 0 {
			t.Fatal(err, resp)
		}
		if !bytes.Equal(pieces.Bytes(), whole.Data) {
			t.Errorf("%s: got %.60s… (%d bytes), want %.60s… (%d bytes)", query, pieces.Bytes(), pieces.Len(), whole.Data, len(whole.Data))
		}
	}
}

func TestMistakeIsReportedToTheReaderOfAStream(t *testing.T) {
	t.Parallel()
	n := withPages(t)
	var data bytes.Buffer
	resp, err := n.Stream(t.Context(), api.Request{Query: `{ Page { nn } }`}, &data)
	if err != nil || len(resp.Errors) != 1 || data.Len() > 0 {
		t.Errorf("got %v %v, and %q", resp, err, &data)
	}
	resp, err = n.Stream(t.Context(), api.Request{Query: `{ Page(order: {n: ASC}) { n } }`}, &data)
	if err != nil || len(resp.Errors) != 1 || resp.Errors[0].Extensions.Code != "TOO_LARGE" || data.Len() > 0 {
		t.Errorf("got %v %v, and %q", resp, err, &data)
	}
}

// What fails when half of the answer is sent cannot be told in it: the connection
// ends before the answer does.
func TestLateFailureBreaksTheAnswerOff(t *testing.T) {
	t.Parallel()
	n := withPages(t)
	const query = `{ Page { text } sorted: Page(order: {n: ASC}) { n } }`
	if resp, err := n.Query(t.Context(), api.Request{Query: query}); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("whole: got %v %v", resp, err)
	}
	var data bytes.Buffer
	if resp, err := n.Stream(t.Context(), api.Request{Query: query}, &data); !errors.Is(err, fault.Unavailable) || data.Len() == 0 {
		t.Errorf("in pieces: got %v %v after %d bytes", resp, err, data.Len())
	}
}
