package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

func (c *command) benchCommand() *cobra.Command {
	b := &bench{out: c.out, err: c.err}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what a node does on this machine",
		Long: `Measure, in a temporary directory, what the public interfaces do on this machine.
Writes are signed and durable, and nodes that sync are processes of their own. The
figures depend on what else the machine does; the ratios should not.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.IntVar(&b.documents, "documents", 100_000, "how many documents the large measurements use")
	f.DurationVar(&b.span, "span", 2*time.Second, "how long each rate is measured")
	f.BoolVar(&b.local, "local", false, "leave out what needs several processes")
	return cmd
}

const benchSchema = `
type User { name: String  email: String  age: Int  score: Float  active: Boolean  joined: DateTime }
type Few  { name: String  email: String  age: Int  score: Float  active: Boolean  joined: DateTime }
type Many { name: String  email: String  age: Int  score: Float  active: Boolean  joined: DateTime }
type Page { title: String  hits: Int @crdt(type: pcounter) }`

// bench measures one thing after the other and prints a line for each.
type bench struct {
	out, err  io.Writer
	documents int
	span      time.Duration
	local     bool

	dir   string
	db    *pando.DB
	next  atomic.Int64 // number of the next user: no two are alike
	table *tabwriter.Writer
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.documents < 1000 {
		return fault.Invalid.Errorf("--documents %d: want at least 1000", b.documents)
	}
	if b.dir, err = os.MkdirTemp("", "pando-bench-"); err != nil {
		return fault.Unavailable.Errorf("directory for the measurements: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.table = tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(b.table, "MEASURED\tFIGURE\tAIM")
	steps := []func(context.Context) error{b.embedded}
	if !b.local {
		steps = append(steps, b.nodes)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return b.table.Flush()
}

// figure prints one line; while the measurements run it is all that a person sees.
func (b *bench) figure(what, value, aim string) {
	if terminal(b.err) {
		fmt.Fprintf(b.err, "%s: %s\n", what, value)
	}
	fmt.Fprintf(b.table, "%s\t%s\t%s\n", what, value, aim)
}

// user is a document that is like no other.
func (b *bench) user() map[string]any {
	n := int(b.next.Add(1))
	return map[string]any{"name": fmt.Sprintf("user %d", n), "email": fmt.Sprintf("user%d@example.org", n), "age": n % 100,
		"score": float64(n) / 7, "active": n%2 == 0, "joined": time.Unix(int64(1_700_000_000+n), 0).UTC()}
}

// embedded measures the database as a program that embeds it sees it.
func (b *bench) embedded(ctx context.Context) (err error) {
	if b.db, err = pando.Open(ctx, filepath.Join(b.dir, "embedded"), nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.db.Close()) }()
	if _, err := b.db.AddSchema(ctx, benchSchema); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{b.creates, b.overHTTP, b.filters, b.pointReads, b.history} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// create makes n documents in one transaction.
func (b *bench) create(ctx context.Context, collection string, n int) error {
	return b.db.Update(ctx, func(tx *pando.Tx) error {
		docs, err := tx.Collection(collection)
		if err != nil {
			return err
		}
		for range n {
			if _, err := docs.Create(b.user()); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) creates(ctx context.Context) error {
	single, err := b.rate(1, func() error { return b.create(ctx, "User", 1) })
	if err != nil {
		return err
	}
	b.figure("creates, 1 writer", perSecond(single), "")
	many, err := b.rate(16, func() error { return b.create(ctx, "User", 1) })
	if err != nil {
		return err
	}
	b.figure("creates, 16 writers", perSecond(many), ">= 15 000/s")
	const batch = 100
	batches, err := b.rate(1, func() error { return b.create(ctx, "User", batch) })
	if err != nil {
		return err
	}
	b.figure("creates, batches of 100, 1 writer", perSecond(batches*batch), "")
	b.figure("cost of a create in a batch / alone", ratio(single, batches*batch), "")
	const writers = 4
	if batches, err = b.rate(writers, func() error { return b.create(ctx, "User", batch) }); err != nil {
		return err
	}
	b.figure("creates, batches of 100, 4 writers", perSecond(batches*batch), ">= 30 000/s")
	return nil
}

func (b *bench) overHTTP(ctx context.Context) (err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := api.NewServer(api.Config{DB: b.db})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() { err = errors.Join(err, server.Shutdown(ctx), <-served) }()
	client, err := api.NewClient(listener.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	create := func() error {
		n := b.next.Add(1)
		return ask(ctx, client, fmt.Sprintf(`mutation { create_User(input: {name: "http %d", age: %d}) { _docID } }`, n, n%100), new(any))
	}
	for _, clients := range []int{1, 16} {
		rate, err := b.rate(clients, create)
		if err != nil {
			return err
		}
		b.figure("creates over HTTP, "+plural(clients, "client"), perSecond(rate), "")
	}
	return nil
}

// filters measures a scan that no index helps, per document looked at.
func (b *bench) filters(ctx context.Context) error {
	for _, set := range []struct {
		collection string
		documents  int
	}{{"Few", b.documents / 10}, {"Many", b.documents}} {
		const batch = 1000
		for n := 0; n < set.documents; n += batch {
			if err := b.create(ctx, set.collection, min(batch, set.documents-n)); err != nil {
				return err
			}
		}
		query := fmt.Sprintf(`{ %s(filter: {age: {_gt: 1000}}) { name } }`, set.collection)
		took, err := b.median(9, func() error { return b.db.Exec(ctx, pando.Request{Query: query}).Err() })
		if err != nil {
			return err
		}
		b.figure("filter over "+plural(set.documents, "document"),
			fmt.Sprintf("%.2f us a document", float64(took.Nanoseconds())/1000/float64(set.documents)), "<= 1 us")
	}
	return nil
}

func (b *bench) pointReads(ctx context.Context) error {
	var ids []pando.DocID
	err := b.db.View(ctx, func(tx *pando.Tx) error {
		docs, err := tx.Collection("Many")
		if err != nil {
			return err
		}
		for d, err := range docs.All() {
			if err != nil {
				return err
			}
			ids = append(ids, d.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	read := func(id pando.DocID) error {
		return b.db.View(ctx, func(tx *pando.Tx) error {
			docs, err := tx.Collection("Many")
			if err != nil {
				return err
			}
			_, err = docs.Get(id)
			return err
		})
	}
	var took []time.Duration
	const stride = 7919 // prime: no two reads in a row are near each other
	for i := range min(20_000, len(ids)) {
		begun := time.Now()
		if err := read(ids[i*stride%len(ids)]); err != nil {
			return err
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	b.figure("point read p50 / p99", fmt.Sprintf("%s / %s", short(took[len(took)/2]), short(took[len(took)*99/100])), "")
	return nil
}

// history measures whether a document gets slower as it is changed.
func (b *bench) history(ctx context.Context) error {
	var id pando.DocID
	err := b.db.Update(ctx, func(tx *pando.Tx) error {
		docs, err := tx.Collection("Page")
		if err != nil {
			return err
		}
		d, err := docs.Create(map[string]any{"title": "a page", "hits": 0})
		id = d.ID
		return err
	})
	if err != nil {
		return err
	}
	const window = 100
	updates := min(10_000, b.documents)
	var writes, reads []time.Duration
	for range updates {
		begun := time.Now()
		err := b.db.Update(ctx, func(tx *pando.Tx) error {
			docs, err := tx.Collection("Page")
			if err != nil {
				return err
			}
			_, err = docs.Update(id, map[string]any{"hits": 1})
			return err
		})
		if err != nil {
			return err
		}
		writes = append(writes, time.Since(begun))
		begun = time.Now()
		query := fmt.Sprintf(`{ Page(docID: "%s") { title hits } }`, id)
		if err := b.db.Exec(ctx, pando.Request{Query: query}).Err(); err != nil {
			return err
		}
		reads = append(reads, time.Since(begun))
	}
	early, late := slices.Clone(writes[window:2*window]), slices.Clone(writes[updates-window:])
	b.figure("update no. "+grouped(updates)+" / no. 100 of a document", ratio(middle(late), middle(early)), "<= 1.2")
	early, late = slices.Clone(reads[window:2*window]), slices.Clone(reads[updates-window:])
	b.figure("read after "+grouped(updates)+" updates / after 100", ratio(middle(late), middle(early)), "<= 1.2")
	return nil
}

// rate returns how often per second fn runs, called by several goroutines.
func (b *bench) rate(callers int, fn func() error) (float64, error) {
	var (
		wg    sync.WaitGroup
		done  atomic.Int64
		mu    sync.Mutex // guards first
		first error
	)
	begun := time.Now()
	for range callers {
		wg.Go(func() {
			for time.Since(begun) < b.span {
				if err := fn(); err != nil {
					mu.Lock()
					first = errors.Join(first, err)
					mu.Unlock()
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(begun).Seconds(), first
}

// median returns the middle of the times that some runs of fn take.
func (b *bench) median(runs int, fn func() error) (time.Duration, error) {
	var all []time.Duration
	for range runs {
		begun := time.Now()
		if err := fn(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(begun))
	}
	return middle(all), nil
}

func middle(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func perSecond(rate float64) string { return grouped(int(rate)) + "/s" }

func ratio[N float64 | time.Duration](a, b N) string {
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}

// short writes a short duration in microseconds.
func short(d time.Duration) string { return fmt.Sprintf("%.1f us", float64(d.Nanoseconds())/1000) }
