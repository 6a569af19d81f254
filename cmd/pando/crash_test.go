package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/pandodb/pando/api"
	"github.com/rogpeppe/go-internal/testscript"
)

// kill is kill -9; the process is gone when it returns.
func (n *scriptNode) kill(ts *testscript.TestScript) {
	ts.Check(n.process.Process.Signal(syscall.SIGKILL))
	n.process.Wait() // it reports the signal
	n.process = nil
}

func cmdCrash(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: crash NAME")
	}
	clusterOf(ts).node(ts, args[0]).kill(ts)
}

func cmdCrashImporting(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: crash-importing NAME COLLECTION FILE")
	}
	c := clusterOf(ts)
	n := c.node(ts, args[0])
	f, err := os.Open(ts.MkAbs(args[2]))
	ts.Check(err)
	defer f.Close()
	batches := 0
	_, err = n.client.Import(context.Background(), args[1], f, api.ImportOptions{}, func(at api.Imported) {
		c.least = at.Documents
		if batches++; batches == 2 {
			n.kill(ts)
		}
	})
	if err == nil {
		ts.Fatalf("the import was over before the node was killed: give it more records")
	}
}

func cmdCrashJoining(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: crash-joining NAME FILE")
	}
	n := clusterOf(ts).node(ts, args[0])
	killed := false
	_, err := n.client.Join(context.Background(), strings.TrimSpace(ts.ReadFile(args[1])), func(at api.JoinProgress) {
		if at.Bytes > 0 && !killed {
			killed = true
			n.kill(ts)
		}
	})
	if err == nil {
		ts.Fatalf("the join was over before the node was killed: share more documents")
	}
	if !killed {
		ts.Fatalf("join: %v", err)
	}
}

func cmdCrashWriting(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: crash-writing NAME")
	}
	c := clusterOf(ts)
	n := c.node(ts, args[0])
	const writers, enough = 16, 500
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex // guards c.acked
		acked  atomic.Int64
		killed = make(chan struct{})
	)
	for w := range writers {
		wg.Go(func() {
			for i := 0; ; i++ {
				id, err := createUser(n.client, fmt.Sprintf("writer %d, user %d", w, i))
				if err != nil {
					return // the node is gone
				}
				mu.Lock()
				c.acked = append(c.acked, id)
				mu.Unlock()
				if acked.Add(1) == enough {
					close(killed)
				}
			}
		})
	}
	<-killed
	n.kill(ts)
	wg.Wait()
	ts.Logf("%d creates were acknowledged", len(c.acked))
}

func createUser(node *api.Client, name string) (id string, err error) {
	var data map[string][]struct {
		ID string `json:"_docID"`
	}
	err = ask(context.Background(), node, fmt.Sprintf(`mutation { create_User(input: {name: %q}) { _docID } }`, name), &data)
	if err != nil {
		return "", err
	}
	return data["create_User"][0].ID, nil
}

func cmdKept(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: kept NAME")
	}
	c := clusterOf(ts)
	ids, err := docIDs(context.Background(), c.node(ts, args[0]).client, "User", "name")
	ts.Check(err)
	if len(ids) < c.least {
		ts.Fatalf("%d documents, but %d were reported as imported", len(ids), c.least)
	}
	have := map[string]bool{}
	for _, id := range ids {
		have[id] = true
	}
	for _, id := range c.acked {
		if !have[id] {
			ts.Fatalf("document %s was acknowledged and is lost", id)
		}
	}
}
