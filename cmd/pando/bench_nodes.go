package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
)

// nodes measures nodes that are processes of their own, over loopback.
func (b *bench) nodes(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	info, err := os.Stat(self)
	if err != nil {
		return err
	}
	b.figure("size of the program", size(info.Size()), "< 60 MB")
	for _, n := range []int{b.documents / 10, b.documents} {
		if err := b.sync(ctx, n, n == b.documents); err != nil {
			return fmt.Errorf("sync of %s: %w", plural(n, "document"), err)
		}
	}
	return nil
}

// sync measures how two nodes get the same n documents; of the larger pair also how
// they mend a difference, and what an idle node costs.
func (b *bench) sync(ctx context.Context, n int, more bool) (err error) {
	ada := &child{name: "ada", dir: filepath.Join(b.dir, fmt.Sprintf("ada-%d", n))}
	bob := &child{name: "bob", dir: filepath.Join(b.dir, fmt.Sprintf("bob-%d", n))}
	defer func() { err = errors.Join(err, ada.stop(), bob.stop()) }()
	for _, c := range []*child{ada, bob} {
		if err := c.start(ctx, loopback...); err != nil {
			return err
		}
	}
	if _, err := ada.client.AddSchema(ctx, benchSchema); err != nil {
		return err
	}
	begun := time.Now()
	if _, err := ada.client.Import(ctx, "User", bytes.NewReader(b.lines(n)), api.ImportOptions{}, nil); err != nil {
		return err
	}
	b.figure("import of "+plural(n, "document")+" over HTTP", perSecond(float64(n)/time.Since(begun).Seconds()), "")
	shared, err := ada.client.Share(ctx, nil)
	if err != nil {
		return err
	}
	begun = time.Now()
	joined, err := bob.client.Join(ctx, shared.Ticket, nil)
	if err != nil {
		return err
	}
	b.figure("cold sync of "+plural(n, "document"), fmt.Sprintf("%s, %d bytes a document",
		perSecond(float64(n)/time.Since(begun).Seconds()), joined.Bytes/uint64(n)), ">= 10 000/s")
	if !more {
		return nil
	}
	if err := b.resync(ctx, ada, bob); err != nil {
		return err
	}
	return b.idle(ctx, ada, n)
}

// lines makes n users as an import reads them.
func (b *bench) lines(n int) []byte {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for range n {
		_ = enc.Encode(b.user()) // strings, numbers and times
	}
	return lines.Bytes()
}

// differing is how many documents change while the nodes are apart.
const differing = 100

func (b *bench) resync(ctx context.Context, ada, bob *child) error {
	if err := bob.stop(); err != nil {
		return err
	}
	var data map[string][]map[string]string
	if err := ask(ctx, ada.client, fmt.Sprintf(`{ User(limit: %d) { _docID } }`, differing), &data); err != nil {
		return err
	}
	var ids []string
	for _, row := range data["User"] {
		ids = append(ids, row["_docID"])
	}
	quoted, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	if err := ask(ctx, ada.client, fmt.Sprintf(`mutation { update_User(docID: %s, input: {age: 1000}) { _docID } }`, quoted), new(any)); err != nil {
		return err
	}
	before, err := ada.client.LocalStatus(ctx)
	if err != nil {
		return err
	}
	if err := bob.start(ctx, loopback...); err != nil {
		return err
	}
	begun := time.Now()
	if err := converge(ctx, ada.client, bob.client); err != nil {
		return err
	}
	elapsed := time.Since(begun)
	after, err := ada.client.LocalStatus(ctx)
	if err != nil {
		return err
	}
	moved := after.Traffic.Sent + after.Traffic.Received - before.Traffic.Sent - before.Traffic.Received
	b.figure(fmt.Sprintf("resync, %d of %s differ", differing, grouped(b.documents)), fmt.Sprintf("%s, %s", took(elapsed), size(moved)), "")
	return nil
}

// idle measures a node that was just started on n documents and has nothing to do.
func (b *bench) idle(ctx context.Context, n *child, documents int) error {
	if err := n.stop(); err != nil {
		return err
	}
	begun := time.Now()
	if err := n.start(ctx, loopback...); err != nil {
		return err
	}
	b.figure("start with "+plural(documents, "document"), took(time.Since(begun)), "")
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.Process.Pid))
	if err != nil {
		b.figure("memory of an idle node", "not measured on this system", "< 40 MB")
		return nil
	}
	all, err := statusKiB(string(raw), "VmRSS:")
	if err != nil {
		return err
	}
	own, err := statusKiB(string(raw), "RssAnon:")
	if err != nil {
		return err
	}
	b.figure("memory of an idle node", fmt.Sprintf("%s, %s of it not the program itself", size(all<<10), size(own<<10)), "< 40 MB")
	return nil
}

func statusKiB(status, key string) (int, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			var n int
			_, err := fmt.Sscan(rest, &n)
			return n, err
		}
	}
	return 0, fault.Unavailable.Errorf("the system does not say how much memory a process has")
}
