package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
)

// live measures how changes reach other nodes while they are made.
func (b *bench) live(ctx context.Context) error {
	for _, step := range []func(context.Context) error{b.latency, b.longDocument} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	for _, subscribers := range []int{2, 10} {
		if err := b.burst(ctx, subscribers); err != nil {
			return fmt.Errorf("burst to %s: %w", plural(subscribers, "node"), err)
		}
	}
	return nil
}

// family starts a node with the schema of the measurements and others that joined it.
func (b *bench) family(ctx context.Context, name string, others int) (all []*child, err error) {
	for i := range others + 1 {
		n := &child{name: fmt.Sprintf("%s-%d", name, i)}
		n.dir = filepath.Join(b.dir, n.name)
		all = append(all, n)
		if err := n.start(ctx, loopback...); err != nil {
			return all, err
		}
		if i == 0 {
			if _, err := n.client.AddSchema(ctx, benchSchema); err != nil {
				return all, err
			}
			continue
		}
		shared, err := all[0].client.Share(ctx, nil)
		if err != nil {
			return all, err
		}
		if _, err := n.client.Join(ctx, shared.Ticket, nil); err != nil {
			return all, err
		}
	}
	return all, nil
}

func stopAll(all []*child) (err error) {
	for _, n := range all {
		err = errors.Join(err, n.stop())
	}
	return err
}

const (
	// latencies is how many changes are timed one by one.
	latencies = 400
	// latencyPause is between them: what is made sooner is collected into one
	// announcement with others, and a measure of that instead.
	latencyPause = 20 * time.Millisecond
)

// latency measures from a write acknowledged on one node to its event on another.
func (b *bench) latency(ctx context.Context) (err error) {
	all, err := b.family(ctx, "latency", 1)
	defer func() { err = errors.Join(err, stopAll(all)) }()
	if err != nil {
		return err
	}
	ada, bob := all[0].client, all[1].client
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	seen := make(chan time.Time, 1)
	followed := make(chan error, 1)
	go func() {
		_, err := bob.Follow(ctx, api.Request{Query: `subscription { Page { title } }`}, "", io.Discard, func(api.Event) error {
			seen <- time.Now()
			return nil
		})
		cancel(fault.Unavailable.Errorf("the subscription ended: %w", err))
		followed <- err
	}()
	var took figures
	for i := 0; len(took) < latencies; i++ {
		if err := ask(ctx, ada, fmt.Sprintf(`mutation { create_Page(input: {title: "live %d"}) { _docID } }`, i), new(any)); err != nil {
			return err
		}
		written := time.Now()
		select {
		case at := <-seen:
			if i >= latencies/10 { // the first ones find the way
				took = append(took, max(0, micros(at.Sub(written))))
			}
		case <-time.After(time.Second):
			if i >= latencies/10 {
				return fault.Unavailable.Errorf("a change did not reach the other node within a second")
			} // the subscription may have begun after it
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		time.Sleep(latencyPause)
	}
	cancel(nil)
	<-followed
	took = took.sorted()
	b.figure("acknowledged here, visible there, p50", figures{took[len(took)/2]}, span, "")
	b.figure("acknowledged here, visible there, p99", figures{took[len(took)*99/100]}, span, "")
	return nil
}

// longDocument measures a fresh node getting one document with many updates.
func (b *bench) longDocument(ctx context.Context) (err error) {
	updates := min(10_000, b.documents)
	all, err := b.family(ctx, "long", 0)
	defer func() { err = errors.Join(err, stopAll(all)) }()
	if err != nil {
		return err
	}
	ada := all[0].client
	if err := ask(ctx, ada, `mutation { create_Page(input: {title: "long", hits: 0}) { _docID } }`, new(any)); err != nil {
		return err
	}
	const batch = 500 // aliases of one request
	for n := 0; n < updates; n += batch {
		var q bytes.Buffer
		q.WriteString("mutation {")
		for i := range min(batch, updates-n) {
			fmt.Fprintf(&q, ` u%d: update_Page(filter: {title: {_eq: "long"}}, input: {hits: 1}) { _docID }`, i)
		}
		q.WriteString(" }")
		if err := ask(ctx, ada, q.String(), new(any)); err != nil {
			return err
		}
	}
	var took figures
	for round := range rounds {
		bob := &child{name: "bob", dir: filepath.Join(b.dir, fmt.Sprintf("long-bob-%d", round))}
		all = append(all, bob)
		if err := bob.start(ctx, loopback...); err != nil {
			return err
		}
		shared, err := ada.Share(ctx, nil)
		if err != nil {
			return err
		}
		begun := time.Now()
		if _, err := bob.client.Join(ctx, shared.Ticket, nil); err != nil {
			return err
		}
		took = append(took, micros(time.Since(begun)))
		if err := bob.stop(); err != nil {
			return err
		}
	}
	b.figure("one document with "+grouped(updates)+" updates to a new node", took, span, "")
	return nil
}

// burst measures many documents written on one node while others follow.
func (b *bench) burst(ctx context.Context, subscribers int) (err error) {
	all, err := b.family(ctx, fmt.Sprintf("burst%d", subscribers), subscribers)
	defer func() { err = errors.Join(err, stopAll(all)) }()
	if err != nil {
		return err
	}
	begun := time.Now()
	if _, err := all[0].client.Import(ctx, "User", bytes.NewReader(b.lines(b.documents)), api.ImportOptions{}, nil); err != nil {
		return err
	}
	written := time.Since(begun)
	for _, n := range all[1:] {
		if err := converge(ctx, all[0].client, n.client); err != nil {
			return err
		}
		status, err := n.client.LocalStatus(ctx)
		if err != nil {
			return err
		}
		if status.Documents != uint64(b.documents) {
			return fault.Corrupt.Errorf("%s has %d of %d documents", n.name, status.Documents, b.documents)
		}
	}
	what := fmt.Sprintf("burst of %s to %s", plural(b.documents, "document"), plural(subscribers, "node"))
	b.figure(what+", until all have all", figures{float64(b.documents) / time.Since(begun).Seconds()}, perSecond, "")
	b.figure(what+", after the last was written", figures{micros(time.Since(begun) - written)}, span, "")
	return nil
}
