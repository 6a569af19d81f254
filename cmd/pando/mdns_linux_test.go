package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// host is a network namespace of its own, joined to one other by a cable.
type host struct {
	t         *testing.T
	name, dir string
	node      *exec.Cmd
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// newHost makes a host, or skips the test where that is not allowed.
func newHost(t *testing.T, name string) *host {
	t.Helper()
	h := &host{t: t, name: fmt.Sprintf("pando%d%s", os.Getpid(), name), dir: t.TempDir()}
	if out, err := exec.Command("ip", "netns", "add", h.name).CombinedOutput(); err != nil {
		t.Skipf("needs network namespaces: %v: %s", err, out)
	}
	t.Cleanup(func() {
		h.stop()
		ip(t, "netns", "del", h.name)
	})
	ip(t, "-n", h.name, "link", "set", "lo", "up")
	return h
}

// address makes addr the host's only address on the cable.
func (h *host) address(addr string) {
	h.t.Helper()
	ip(h.t, "-n", h.name, "link", "set", "eth", "up", "multicast", "on")
	ip(h.t, "-n", h.name, "addr", "flush", "dev", "eth")
	ip(h.t, "-n", h.name, "addr", "add", addr+"/24", "dev", "eth")
	ip(h.t, "-n", h.name, "route", "replace", "default", "dev", "eth")
}

func (h *host) command(args ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", h.name, "pando"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+h.dir)
	return cmd
}

// start runs a node that takes whatever ports are free.
func (h *host) start(flags ...string) {
	h.t.Helper()
	h.node = h.command(append([]string{"start", "--p2paddr", "/ip4/0.0.0.0/tcp/0,/ip4/0.0.0.0/udp/0/quic-v1"}, flags...)...)
	if err := h.node.Start(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) stop() {
	if h.node == nil {
		return
	}
	h.node.Process.Signal(os.Interrupt)
	node := h.node
	defer time.AfterFunc(20*time.Second, func() { node.Process.Kill() }).Stop()
	if err := h.node.Wait(); err != nil {
		h.t.Errorf("%s ends with %v", h.name, err)
	}
	h.node = nil
}

// run runs a command against the host's node and returns what it prints.
func (h *host) run(input string, args ...string) string {
	h.t.Helper()
	cmd := h.command(args...)
	var failure bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), &failure
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("pando %s: %v: %s", args[0], err, failure.String())
	}
	return strings.TrimSpace(string(out))
}

// Two nodes that know each other come back with other addresses and other ports:
// nothing they remember is of use, and nobody tells them. The local network does.
func TestNodesFindEachOtherOnTheLocalNetwork(t *testing.T) {
	if testing.Short() {
		t.Skip("starts nodes on hosts of their own")
	}
	ada, bob := newHost(t, "a"), newHost(t, "b")
	ip(t, "link", "add", "eth", "netns", ada.name, "type", "veth", "peer", "name", "eth", "netns", bob.name)
	ada.address("10.99.0.1")
	bob.address("10.99.0.2")
	ada.start()
	bob.start()
	ada.run("type Note { text: String }", "schema", "add", "-")
	bob.run(ada.run("", "share", "Note"), "join", "-")
	ada.stop()
	bob.stop()

	ada.address("10.99.0.3")
	bob.address("10.99.0.4")
	ada.start()
	bob.start()
	ada.run("", "query", `mutation { create_Note(input: {text: "found"}) { text } }`)
	for end := time.Now().Add(30 * time.Second); ; {
		if got := bob.run("", "query", `{ Note { text } }`); strings.Contains(got, "found") {
			return
		} else if time.Now().After(end) {
			t.Fatalf("bob has not found ada: %s\n%s", got, bob.run("", "status"))
		}
	}
}
