package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
)

// BenchmarkPointRead reads single documents over HTTP, with 16 clients at once on
// connections that stay open. Clients and node share the machine.
func BenchmarkPointRead(b *testing.B) {
	db, err := pando.Open(b.Context(), b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if _, err := db.AddSchema(b.Context(), `type Note { text: String n: Int }`); err != nil {
		b.Fatal(err)
	}
	var bodies [][]byte
	err = db.Update(b.Context(), func(tx *pando.Tx) error {
		notes, err := tx.Collection("Note")
		if err != nil {
			return err
		}
		for i := range 10_000 {
			d, err := notes.Create(map[string]any{"text": fmt.Sprint("note ", i), "n": i})
			if err != nil {
				return err
			}
			body, err := json.Marshal(api.Request{
				Query:     `query($id: [String!]) { Note(docID: $id) { _docID text n } }`,
				Variables: json.RawMessage(fmt.Sprintf(`{"id":[%q]}`, d.ID)),
			})
			if err != nil {
				return err
			}
			bodies = append(bodies, body)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := api.NewServer(api.Config{DB: db})
	go s.Serve(l)
	defer s.Shutdown(b.Context())
	const clients = 16
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	url := "http://" + l.Addr().String() + api.Base + "/graphql"
	var n atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for {
				i := n.Add(1)
				if i > int64(b.N) {
					return
				}
				resp, err := client.Post(url, "application/json", bytes.NewReader(bodies[i*7919%int64(len(bodies))]))
				if err != nil {
					b.Error(err)
					return
				}
				answer, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !bytes.Contains(answer, []byte(`"text":"note `)) {
					b.Errorf("%s, %v", answer, err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
}
