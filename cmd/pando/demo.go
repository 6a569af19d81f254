package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

const (
	// demoEdits is how many documents both nodes change while they are apart.
	demoEdits = 200
	// demoTimeout bounds how long two nodes may take to hold the same: far beyond what it needs.
	demoTimeout = 60 * time.Second
	// demoPoll is how often they are asked.
	demoPoll = 20 * time.Millisecond
)

func (c *command) demoCommand() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See two nodes share a database, part, and converge again",
		Long: `Start two nodes on this machine, each a process with a directory and a network
address of its own. One imports the IANA language subtag registry and shares it; the
other joins. They are cut off from each other, the same documents are edited on both,
and when they meet again they end up with the same documents. Every claim is checked:
the exit code is not zero if the two do not converge.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.demo(cmd.Context(), keep) },
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the directories of the nodes")
	return cmd
}

func (c *command) demo(ctx context.Context, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "pando-demo-")
	if err != nil {
		return fault.Unavailable.Errorf("directory for the demo: %w", err)
	}
	d := &demo{out: c.out, begun: time.Now(),
		ada: &child{name: "ada", dir: filepath.Join(dir, "ada")},
		bob: &child{name: "bob", dir: filepath.Join(dir, "bob")}}
	defer func() {
		err = errors.Join(err, d.ada.stop(), d.bob.stop())
		if keep {
			fmt.Fprintf(c.out, "\nthe nodes' directories are in %s\n", dir)
		} else {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	for _, step := range []func(context.Context) error{d.begin, d.load, d.join, d.part, d.heal, d.compare} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// demo is the story of two nodes, step by step.
type demo struct {
	out       io.Writer
	begun     time.Time
	ada, bob  *child
	documents int
	edited    []string // docIDs that both edit while apart
	step      int
}

func (d *demo) title(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.out, "\n%d. %s\n", d.step, fmt.Sprintf(format, args...))
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, "   "+format+"\n", args...) }

// loopback makes a child listen for peers on this machine only.
var loopback = []string{"--p2paddr", "/ip4/127.0.0.1/udp/0/quic-v1,/ip4/127.0.0.1/tcp/0"}

func (d *demo) begin(ctx context.Context) error {
	d.title("Two nodes start: two processes, two directories, real sockets")
	for _, n := range []*child{d.ada, d.bob} {
		begun := time.Now()
		if err := n.start(ctx, loopback...); err != nil {
			return err
		}
		first, _, _ := strings.Cut(n.p2p, ",")
		d.say("%s  %s  %s  (%s)", n.name, n.http, first, took(time.Since(begun)))
	}
	return nil
}

func (d *demo) load(ctx context.Context) error {
	d.title("ada imports the IANA language subtag registry")
	begun := time.Now()
	n, bytes, err := loadRegistry(ctx, d.ada.client, func(int) {})
	if err != nil {
		return err
	}
	d.documents = n
	rate := int(float64(n) / time.Since(begun).Seconds())
	d.say("%s, %s of JSON, every one a signed commit on disk  (%s, %s a second)", plural(n, "document"), size(bytes), took(time.Since(begun)), grouped(rate))
	return nil
}

func (d *demo) join(ctx context.Context) error {
	d.title("ada shares, bob joins")
	shared, err := d.ada.client.Share(ctx, nil)
	if err != nil {
		return err
	}
	d.say("ada$ pando share          %s...", shared.Ticket[:min(40, len(shared.Ticket))])
	begun := time.Now()
	joined, err := d.bob.client.Join(ctx, shared.Ticket, nil)
	if err != nil {
		return err
	}
	elapsed := time.Since(begun)
	d.say("bob$ pando join TICKET    in sync: %s docs, root %s  (%s, %s)", grouped(joined.Documents), joined.Root, took(elapsed), size(joined.Bytes))
	if int(joined.Documents) != d.documents {
		return fault.Corrupt.Errorf("bob has %s, ada has %d", plural(joined.Documents, "document"), d.documents)
	}
	d.say("%s documents a second, %d bytes each", grouped(int(float64(joined.Documents)/elapsed.Seconds())), joined.Bytes/max(joined.Documents, 1))

	var data struct {
		Language []struct{ Subtag, Name string }
	}
	begun = time.Now()
	if err := ask(ctx, d.bob.client, `{ Language(filter: {scope: {_eq: "macrolanguage"}}, order: {subtag: ASC}) { subtag name } }`, &data); err != nil {
		return err
	}
	if len(data.Language) == 0 {
		return fault.Corrupt.Errorf("bob finds no macrolanguage in what he got")
	}
	d.say("bob asks for macrolanguages: %d, such as %s (%s)  (%s)", len(data.Language), data.Language[0].Name, data.Language[0].Subtag, took(time.Since(begun)))
	return nil
}

func (d *demo) part(ctx context.Context) error {
	d.title("They are cut off: bob restarts without a network. Both edit the same %d documents", demoEdits)
	if err := d.bob.stop(); err != nil {
		return err
	}
	if err := d.bob.start(ctx, "--no-p2p"); err != nil {
		return err
	}
	var data struct {
		Language []struct {
			ID string `json:"_docID"`
		}
	}
	if err := ask(ctx, d.ada.client, fmt.Sprintf(`{ Language(limit: %d) { _docID } }`, demoEdits), &data); err != nil {
		return err
	}
	for _, row := range data.Language {
		d.edited = append(d.edited, row.ID)
	}
	if len(d.edited) != demoEdits {
		return fault.Corrupt.Errorf("ada lists %d languages, want %d", len(d.edited), demoEdits)
	}
	for _, e := range []struct {
		who   *child
		input string
		what  string
	}{
		{d.ada, `{visits: 1, comments: "seen by ada", note: "ada was here"}`, "comments, note, visits + 1"},
		{d.bob, `{visits: 2, scope: "seen by bob", note: "bob was here"}`, "scope,    note, visits + 2"},
	} {
		begun := time.Now()
		var changed map[string][]any
		ids, err := json.Marshal(d.edited)
		if err != nil {
			return err
		}
		if err := ask(ctx, e.who.client, fmt.Sprintf(`mutation { update_Language(docID: %s, input: %s) { _docID } }`, ids, e.input), &changed); err != nil {
			return fmt.Errorf("%s edits: %w", e.who.name, err)
		}
		d.say("%s sets %s in %s  (%s)", e.who.name, e.what, plural(len(changed["update_Language"]), "document"), took(time.Since(begun)))
	}
	for _, e := range []struct {
		who             *child
		mutation, story string
	}{
		{d.ada, `mutation { create_Language(input: {subtag: "x-ada", name: "Adaese"}) { _docID } }`, "ada creates a language that bob has not"},
		{d.bob, `mutation { create_Language(input: {subtag: "x-bob", name: "Bobish"}) { _docID } }`, "bob creates one that ada has not"},
		{d.bob, `mutation { delete_Language(filter: {subtag: {_eq: "tlh"}}) { _docID } }`, "bob deletes Klingon"},
	} {
		var any map[string]json.RawMessage
		if err := ask(ctx, e.who.client, e.mutation, &any); err != nil {
			return fmt.Errorf("%s: %w", e.story, err)
		}
		d.say("%s", e.story)
	}
	return nil
}

func (d *demo) heal(ctx context.Context) error {
	d.title("They meet again: bob restarts with a network, and remembers ada")
	if err := d.bob.stop(); err != nil {
		return err
	}
	before, err := d.ada.client.LocalStatus(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := d.bob.start(ctx, loopback...); err != nil {
		return err
	}
	up := time.Now()
	if err := converge(ctx, d.ada.client, d.bob.client); err != nil {
		return err
	}
	after, err := d.ada.client.LocalStatus(ctx)
	if err != nil {
		return err
	}
	moved := after.Traffic.Sent + after.Traffic.Received - before.Traffic.Sent - before.Traffic.Received
	d.say("identical again  (start %s, sync %s, %s in both directions)", took(up.Sub(begun)), took(time.Since(up)), size(moved))
	return nil
}

// converge waits until two nodes have the same roots.
func converge(ctx context.Context, a, b *api.Client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoTimeout, fault.Conflict.Errorf("the nodes did not converge within %v", demoTimeout))
	defer cancel()
	for {
		same, err := sameRoots(ctx, a, b)
		if err != nil || same {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(demoPoll):
		}
	}
}

// sameRoots reports whether two nodes hold the same documents.
func sameRoots(ctx context.Context, a, b *api.Client) (bool, error) {
	roots := [2]map[string]string{{}, {}}
	for i, node := range []*api.Client{a, b} {
		status, err := node.LocalStatus(ctx)
		if err != nil {
			return false, err
		}
		for _, one := range status.Collections {
			roots[i][one.Name] = one.Root
		}
	}
	for name, root := range roots[0] {
		if roots[1][name] != root {
			return false, nil
		}
	}
	return len(roots[0]) == len(roots[1]), nil
}

// compare proves that the nodes agree, on the documents and not just on a hash.
func (d *demo) compare(ctx context.Context) error {
	d.title("What became of the edits")
	query := fmt.Sprintf(`{ Language(limit: %d) { subtag comments scope note visits } }`, demoEdits)
	var answers [2]json.RawMessage
	for i, n := range []*child{d.ada, d.bob} {
		if err := ask(ctx, n.client, query, &answers[i]); err != nil {
			return err
		}
	}
	if !bytes.Equal(answers[0], answers[1]) {
		return fault.Corrupt.Errorf("the nodes answer the same query differently")
	}
	var data struct {
		Language []struct {
			Subtag, Comments, Scope, Note string
			Visits                        int
		}
	}
	if err := json.Unmarshal(answers[0], &data); err != nil {
		return err
	}
	counted, kept, notes := 0, 0, map[string]int{}
	for _, row := range data.Language {
		if row.Visits == 3 {
			counted++
		}
		if row.Comments == "seen by ada" && row.Scope == "seen by bob" {
			kept++
		}
		notes[row.Note]++
	}
	d.say("visits    1 + 2 = 3 in %d of %d: no count is lost or doubled", counted, demoEdits)
	d.say("comments, scope   both edits kept in %d of %d: they touched different fields", kept, demoEdits)
	d.say("note      %d by ada, %d by bob: one wins, the same one on both nodes", notes["ada was here"], notes["bob was here"])
	if counted != demoEdits || kept != demoEdits || notes["ada was here"]+notes["bob was here"] != demoEdits {
		return fault.Corrupt.Errorf("an edit was lost")
	}
	if err := d.compareExports(ctx); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\nConverged. %s in all.\n", took(time.Since(d.begun)))
	return nil
}

func (d *demo) compareExports(ctx context.Context) error {
	all, err := d.ada.client.LocalStatus(ctx)
	if err != nil {
		return err
	}
	for _, one := range all.Collections {
		var sums [2][sha256.Size]byte
		for i, n := range []*child{d.ada, d.bob} {
			h := sha256.New()
			if err := n.client.Export(ctx, one.Name, h); err != nil {
				return err
			}
			h.Sum(sums[i][:0])
		}
		if sums[0] != sums[1] {
			return fault.Corrupt.Errorf("collection %s: the nodes export different documents", one.Name)
		}
		d.say("%-10s %6s docs  root %s  the same on both", one.Name, grouped(one.Documents), one.Root)
	}
	return nil
}
