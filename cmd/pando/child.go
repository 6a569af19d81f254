package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
)

// startTimeout bounds how long a child may take to be ready, stopTimeout how long to end.
const (
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
)

// child is a node that runs as a process of its own, on a directory of its own.
type child struct {
	name, dir string
	program   string // empty: this one
	process   *exec.Cmd
	log       tail
	client    *api.Client
	http, p2p string // where it listens
}

// start runs the node; flags are added to those that every child has.
func (n *child) start(ctx context.Context, flags ...string) error {
	program := n.program
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return err
		}
	}
	args := append([]string{"start", "--rootdir", n.dir, "--url", "127.0.0.1:0", "--log-level", "warn"}, flags...)
	n.process = exec.CommandContext(ctx, program, args...)
	n.process.Cancel = func() error { return n.process.Process.Signal(syscall.SIGTERM) }
	n.process.WaitDelay = stopTimeout
	n.process.Stderr = &n.log
	n.process.Env = quietEnv()
	out, err := n.process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.process.Start(); err != nil {
		return err
	}
	timer := time.AfterFunc(startTimeout, func() { n.process.Process.Kill() })
	defer timer.Stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		n.process.Wait()
		return fault.Unavailable.Errorf("node %s did not start: %s", n.name, n.log.last())
	}
	n.http, n.p2p = parseReady(line)
	n.client, err = api.NewClient(n.http)
	return err
}

// stop ends the node as a user would.
func (n *child) stop() error {
	if n.process == nil {
		return nil
	}
	p := n.process
	n.process = nil
	n.client.Close()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.AfterFunc(stopTimeout, func() { p.Process.Kill() })
	defer timer.Stop()
	if err := p.Wait(); err != nil {
		return fmt.Errorf("node %s: %w: %s", n.name, err, n.log.last())
	}
	return nil
}

// quietEnv is the environment without settings meant for another node.
func quietEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PANDO_") {
			env = append(env, kv)
		}
	}
	return env
}

// parseReady reads the line that a node prints when it is ready.
func parseReady(line string) (http, p2p string) {
	for word := range strings.FieldsSeq(line) {
		if v, ok := strings.CutPrefix(word, "http="); ok {
			http = v
		}
		if v, ok := strings.CutPrefix(word, "p2p="); ok {
			p2p = v
		}
	}
	return http, p2p
}

// tail keeps the end of what a process logs, to show when it fails.
type tail struct {
	mu  sync.Mutex // guards end
	end []byte
}

const tailBytes = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, p...)
	t.end = t.end[max(0, len(t.end)-tailBytes):]
	return len(p), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.end))
}

var _ io.Writer = (*tail)(nil)
