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
Writes are signed and durable, and nodes that sync are processes of their own. Each is
measured in several short rounds: the figure is that of the middle one, the range that
of all. A wide range says that the machine had something else to do.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.IntVar(&b.documents, "documents", 100_000, "how many documents the large measurements use")
	f.DurationVar(&b.span, "span", 2*time.Second, "how long each rate is measured, all rounds together")
	f.BoolVar(&b.local, "local", false, "leave out what needs several processes")
	return cmd
}

const benchUser = `type User { name: String  email: String  age: Int  score: Float  active: Boolean  joined: DateTime }`

const benchSchema = benchUser + `
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
	if b.span <= 0 || b.documents < 1 {
		return fault.Invalid.Errorf("--span %v, --documents %d: both must be more than nothing", b.span, b.documents)
	}
	if b.documents < 1000 {
		return fault.Invalid.Errorf("--documents %d: want at least 1000", b.documents)
	}
	if b.dir, err = os.MkdirTemp("", "pando-bench-"); err != nil {
		return fault.Unavailable.Errorf("directory for the measurements: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.table = tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(b.table, "MEASURED\tFIGURE\tRANGE\tAIM")
	steps := []func(context.Context) error{b.embedded}
	if !b.local {
		steps = append(steps, b.nodes, b.live)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return b.table.Flush()
}

// rounds is how often each thing is measured: odd, so that there is a middle one.
const rounds = 5

// figures are what the rounds gave.
type figures []float64

func (f figures) sorted() figures {
	f = slices.Clone(f)
	slices.Sort(f)
	return f
}

// middle is the figure that counts.
func (f figures) middle() float64 { return f.sorted()[len(f)/2] }

// figure prints one line; while the measurements run it is all that a person sees.
func (b *bench) figure(what string, f figures, write func(float64) string, aim string) {
	all := f.sorted()
	spread := "-"
	if len(all) > 1 {
		spread = write(all[0]) + " - " + write(all[len(all)-1])
	}
	b.line(what, write(f.middle()), spread, aim)
}

func (b *bench) line(what, value, spread, aim string) {
	if terminal(b.err) {
		fmt.Fprintf(b.err, "%s: %s\n", what, value)
	}
	fmt.Fprintf(b.table, "%s\t%s\t%s\t%s\n", what, value, spread, aim)
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
	for _, step := range []func(context.Context) error{b.creates, b.overHTTP, b.filters, b.pointReads, b.rights, b.history} {
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
	const batch = 100
	alone := func() error { return b.create(ctx, "User", 1) }
	batched := func() error { return b.create(ctx, "User", batch) }
	var single, inBatch figures
	for _, m := range []struct {
		what    string
		writers int
		each    float64 // documents a call
		fn      func() error
		into    *figures
		aim     string
	}{
		{"creates, 1 writer", 1, 1, alone, &single, ""},
		{"creates, 16 writers", 16, 1, alone, new(figures), ">= 15 000/s"},
		{"creates, batches of 100, 1 writer", 1, batch, batched, &inBatch, ""},
		{"creates, batches of 100, 4 writers", 4, batch, batched, new(figures), ">= 30 000/s"},
	} {
		rates, err := b.rate(m.writers, m.fn)
		if err != nil {
			return err
		}
		for i := range rates {
			rates[i] *= m.each
		}
		*m.into = rates
		b.figure(m.what, rates, perSecond, m.aim)
	}
	b.line("time of a create in a batch / alone", ratio(single.middle()/inBatch.middle()), "-", "< 1")
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
		rates, err := b.rate(clients, create)
		if err != nil {
			return err
		}
		b.figure("creates over HTTP, "+plural(clients, "client"), rates, perSecond, "")
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
		var took figures
		for range 2*rounds - 1 {
			begun := time.Now()
			if err := b.db.Exec(ctx, pando.Request{Query: query}).Err(); err != nil {
				return err
			}
			took = append(took, micros(time.Since(begun))/float64(set.documents))
		}
		b.figure("filter over "+plural(set.documents, "document")+", each", took, short, "<= 1 us")
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
	var p50, p99 figures
	const stride = 7919 // prime: no two reads in a row are near each other
	reads := min(4000, len(ids))
	for round := range rounds {
		var took figures
		for i := range reads {
			begun := time.Now()
			if err := read(ids[(round*reads+i)*stride%len(ids)]); err != nil {
				return err
			}
			took = append(took, micros(time.Since(begun)))
		}
		took = took.sorted()
		p50, p99 = append(p50, took[len(took)/2]), append(p99, took[len(took)*99/100])
	}
	b.figure("point read, p50", p50, short, "")
	b.figure("point read, p99", p99, short, "")
	return nil
}

// history measures whether a document gets slower as it is changed: one with a long
// history and one with a short are changed and read in turn, so that what else the
// machine does meets both.
func (b *bench) history(ctx context.Context) error {
	const short, window = 100, 100
	long := min(10_000, b.documents)
	old, err := b.page(ctx, long)
	if err != nil {
		return err
	}
	var writes, reads figures
	for range rounds {
		young, err := b.page(ctx, short)
		if err != nil {
			return err
		}
		var took [2][2]figures // of the old and the young: writes, reads
		for range window {
			for i, id := range []pando.DocID{old, young} {
				begun := time.Now()
				if err := b.hit(ctx, id); err != nil {
					return err
				}
				took[i][0] = append(took[i][0], micros(time.Since(begun)))
				begun = time.Now()
				query := fmt.Sprintf(`{ Page(docID: "%s") { title hits } }`, id)
				if err := b.db.Exec(ctx, pando.Request{Query: query}).Err(); err != nil {
					return err
				}
				took[i][1] = append(took[i][1], micros(time.Since(begun)))
			}
		}
		writes = append(writes, took[0][0].middle()/took[1][0].middle())
		reads = append(reads, took[0][1].middle()/took[1][1].middle())
	}
	b.figure("update after "+grouped(long)+" updates / after "+grouped(short), writes, ratio, "<= 1.2")
	b.figure("read after "+grouped(long)+" updates / after "+grouped(short), reads, ratio, "<= 1.2")
	return nil
}

// page makes a document that has been changed so many times.
func (b *bench) page(ctx context.Context, updates int) (id pando.DocID, err error) {
	err = b.db.Update(ctx, func(tx *pando.Tx) error {
		docs, err := tx.Collection("Page")
		if err != nil {
			return err
		}
		d, err := docs.Create(map[string]any{"title": fmt.Sprint("page ", b.next.Add(1)), "hits": 0})
		id = d.ID
		return err
	})
	for ; updates > 0 && err == nil; updates-- {
		err = b.hit(ctx, id)
	}
	return id, err
}

func (b *bench) hit(ctx context.Context, id pando.DocID) error {
	return b.db.Update(ctx, func(tx *pando.Tx) error {
		docs, err := tx.Collection("Page")
		if err != nil {
			return err
		}
		_, err = docs.Update(id, map[string]any{"hits": 1})
		return err
	})
}

// rate returns how often per second fn runs, called by several goroutines, in each
// round.
func (b *bench) rate(callers int, fn func() error) (all figures, err error) {
	for range rounds {
		one, err := rateFor(b.span/rounds, callers, fn)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func rateFor(span time.Duration, callers int, fn func() error) (float64, error) {
	var (
		wg    sync.WaitGroup
		done  atomic.Int64
		mu    sync.Mutex // guards first
		first error
	)
	begun := time.Now()
	for range callers {
		wg.Go(func() {
			for time.Since(begun) < span {
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

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func perSecond(rate float64) string { return grouped(int(rate)) + "/s" }
func ratio(r float64) string        { return fmt.Sprintf("%.2f", r) }
func short(us float64) string       { return fmt.Sprintf("%.2f us", us) }
func span(us float64) string        { return took(time.Duration(us * 1000)) }
func bytesText(n float64) string    { return size(int64(n)) }
