package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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
	b.line("size of the program", size(info.Size()), "-", "< 60 MB")
	for _, n := range []int{b.documents / 10, b.documents} {
		if err := b.sync(ctx, n, n == b.documents); err != nil {
			return fmt.Errorf("sync of %s: %w", plural(n, "document"), err)
		}
	}
	return nil
}

// sync measures how a new node gets n documents of another; of the larger pair also how
// they mend a difference, and what an idle node costs.
func (b *bench) sync(ctx context.Context, n int, more bool) (err error) {
	ada := &child{name: "ada", dir: filepath.Join(b.dir, fmt.Sprintf("ada-%d", n))}
	defer func() { err = errors.Join(err, ada.stop()) }()
	if err := ada.start(ctx, loopback...); err != nil {
		return err
	}
	if _, err := ada.client.AddSchema(ctx, benchSchema); err != nil {
		return err
	}
	var imports figures
	for range rounds {
		begun := time.Now()
		if _, err := ada.client.Import(ctx, "User", bytes.NewReader(b.lines(n/rounds)), api.ImportOptions{}, nil); err != nil {
			return err
		}
		imports = append(imports, float64(n/rounds)/time.Since(begun).Seconds())
	}
	b.figure("import over HTTP up to "+plural(n, "document"), imports, perSecond, "")
	bob, err := b.coldSync(ctx, ada, n)
	if bob != nil {
		defer func() { err = errors.Join(err, bob.stop()) }()
	}
	if err != nil || !more {
		return err
	}
	if err := b.resync(ctx, ada, bob); err != nil {
		return err
	}
	return b.idle(ctx, ada, n)
}

// coldSyncs is how many new nodes get everything: each costs seconds.
const coldSyncs = 3

// coldSync has one new node after the other join, and returns the last of them.
func (b *bench) coldSync(ctx context.Context, ada *child, n int) (bob *child, err error) {
	var rates, sizes figures
	for round := range coldSyncs {
		if bob != nil {
			if err := bob.stop(); err != nil {
				return bob, err
			}
		}
		bob = &child{name: "bob", dir: filepath.Join(b.dir, fmt.Sprintf("bob-%d-%d", n, round))}
		if err := bob.start(ctx, loopback...); err != nil {
			return bob, err
		}
		shared, err := ada.client.Share(ctx, nil)
		if err != nil {
			return bob, err
		}
		begun := time.Now()
		joined, err := bob.client.Join(ctx, shared.Ticket, nil)
		if err != nil {
			return bob, err
		}
		rates = append(rates, float64(joined.Documents)/time.Since(begun).Seconds())
		sizes = append(sizes, float64(joined.Bytes)/float64(max(joined.Documents, 1)))
	}
	b.figure("cold sync of "+plural(n, "document"), rates, perSecond, ">= 10 000/s")
	b.figure("cold sync of "+plural(n, "document")+", each", sizes, bytesText, "")
	return bob, nil
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

// resync parts the nodes, changes documents on one, and lets them meet again.
func (b *bench) resync(ctx context.Context, ada, bob *child) error {
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
	var took, moved, waits figures
	for round := range rounds {
		if err := bob.stop(); err != nil {
			return err
		}
		if err := ask(ctx, ada.client, fmt.Sprintf(`mutation { update_User(docID: %s, input: {age: %d}) { _docID } }`, quoted, 1000+round), new(any)); err != nil {
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
		// bob has just started: what it counts is of this meeting, and so is what
		// ada asked since.
		here, err := bob.client.LocalStatus(ctx)
		if err != nil {
			return err
		}
		took = append(took, micros(time.Since(begun)))
		after, err := ada.client.LocalStatus(ctx)
		if err != nil {
			return err
		}
		waits = append(waits, float64(here.Traffic.RoundTrips+after.Traffic.RoundTrips-before.Traffic.RoundTrips))
		moved = append(moved, float64(after.Traffic.Sent+after.Traffic.Received-before.Traffic.Sent-before.Traffic.Received))
	}
	what := fmt.Sprintf("resync after a restart, %d of %s differ", differing, grouped(b.documents))
	b.figure(what+", time", took, span, "")
	b.figure(what+", bytes", moved, bytesText, "")
	b.figure(what+", round trips", waits, func(n float64) string { return strconv.Itoa(int(n)) }, "")
	return nil
}

// idle measures a node that was just started on n documents and has nothing to do.
func (b *bench) idle(ctx context.Context, n *child, documents int) error {
	var starts, resident, own figures
	measured := true
	for range rounds {
		if err := n.stop(); err != nil {
			return err
		}
		begun := time.Now()
		if err := n.start(ctx, loopback...); err != nil {
			return err
		}
		starts = append(starts, micros(time.Since(begun)))
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.Process.Pid))
		if measured = err == nil; !measured {
			continue
		}
		all, err := statusKiB(string(raw), "VmRSS:")
		if err != nil {
			return err
		}
		anon, err := statusKiB(string(raw), "RssAnon:")
		if err != nil {
			return err
		}
		resident, own = append(resident, float64(all<<10)), append(own, float64(anon<<10))
	}
	b.figure("start with "+plural(documents, "document"), starts, span, "")
	if !measured {
		b.line("memory of an idle node", "not measured on this system", "-", "< 40 MB")
		return nil
	}
	b.figure("memory of an idle node, its own", own, bytesText, "")
	b.figure("memory of an idle node, with the program", resident, bytesText, "< 40 MB")
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
