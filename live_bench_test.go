package pando_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/pandodb/pando"
)

// quiet is a database in memory for measuring.
func quiet(b *testing.B, sdl string) *pando.DB {
	b.Helper()
	db, err := pando.Open(b.Context(), "", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	if _, err := db.AddSchema(b.Context(), sdl); err != nil {
		b.Fatal(err)
	}
	return db
}

func write(b *testing.B, db *pando.DB, fn func(c *pando.Documents) error) {
	b.Helper()
	if err := db.Update(b.Context(), func(tx *pando.Tx) error {
		c, err := tx.Collection("Song")
		if err != nil {
			return err
		}
		return fn(c)
	}); err != nil {
		b.Fatal(err)
	}
}

// One write, and the one event that it makes, beside ever more live queries that ask
// for other values: the cost must not follow their number.
func BenchmarkWriteBesideLiveQueries(b *testing.B) {
	for _, open := range []int{0, 1, 100, 1_000, 10_000} {
		b.Run(strconv.Itoa(open), func(b *testing.B) {
			db := quiet(b, `type Song { title: String, stars: Int, plays: Int }`)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			told := make(chan struct{}, 1024)
			var readers, ready sync.WaitGroup
			for i := range open {
				ready.Add(1)
				readers.Go(func() {
					whole := false
					r := pando.Request{Query: `query($s: Int) @live { Song(filter: {stars: {_eq: $s}}) { title plays } }`, Variables: fmt.Appendf(nil, `{"s":%d}`, i)}
					for _, err := range db.Subscribe(ctx, r, pando.SubscribeOptions{}) {
						if ctx.Err() != nil {
							return
						}
						if err != nil {
							panic(err)
						}
						if !whole {
							whole = true
							ready.Done()
							continue
						}
						told <- struct{}{}
					}
				})
			}
			ready.Wait()
			var docs []pando.DocID
			for i := range max(open, 1) {
				write(b, db, func(c *pando.Documents) error {
					d, err := c.Create(map[string]any{"title": "t", "stars": i, "plays": 0})
					docs = append(docs, d.ID)
					return err
				})
				if open > 0 {
					<-told
				}
			}
			n := 0
			for b.Loop() {
				n++
				write(b, db, func(c *pando.Documents) error {
					_, err := c.Update(docs[n%len(docs)], map[string]any{"plays": n})
					return err
				})
				if open > 0 {
					<-told
				}
			}
			b.StopTimer()
			cancel()
			readers.Wait()
		})
	}
}

// Events of one subscription that catches up.
func BenchmarkSubscription(b *testing.B) {
	db := quiet(b, `type Song { title: String, stars: Int, plays: Int }`)
	const batch = 10_000
	songs := pando.Request{Query: `subscription { Song(filter: {stars: {_ge: 0}}) { _docID title stars } }`}
	var start pando.Cursor
	for e := range db.Subscribe(b.Context(), songs, pando.SubscribeOptions{Heartbeat: 1}) {
		start = e.Cursor
		break
	}
	for i := range batch {
		write(b, db, func(c *pando.Documents) error {
			_, err := c.Create(map[string]any{"title": "t", "stars": i})
			return err
		})
	}
	for b.Loop() {
		n := 0
		for _, err := range db.Subscribe(b.Context(), songs, pando.SubscribeOptions{After: start}) {
			if err != nil {
				b.Fatal(err)
			}
			if n++; n == batch {
				break
			}
		}
	}
	b.ReportMetric(float64(batch)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
