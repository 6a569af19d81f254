package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/kv"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be pando itself, so scripts run the real command
// in processes of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pando": main})
}

// Scripts of the whole program. Besides the commands of testscript they know
//
//	node NAME [FLAG…]        start a node on directory NAME; $NAME is its --url, $NAME_p2p its address for peers
//	end NAME                 end it as a user would; fails if it ends badly or slowly
//	crash NAME               kill -9
//	crash-importing NAME COLLECTION FILE   import, and kill -9 the node when it has reported two batches
//	crash-joining NAME FILE  join with the ticket in FILE, and kill -9 the node when documents have come
//	crash-writing NAME       16 clients create users one by one; kill -9 the node under them
//	kept NAME                every document that was acknowledged before a crash is there
//	converged NAME NAME      wait until both hold the same documents
//	acknowledged NAME        wait until the peers that the node pushes to have everything
//	waits URL TEXT ARG…      run pando against a node again and again until it prints TEXT
//	root-in-status NAME      the root that was printed last is one that NAME's status prints
//	records FILE N           write N records of users into FILE
//	newer-format DIR         make a directory one of a future version
//	damage DIR PATTERN begin|middle   overwrite bytes in the largest file of DIR that matches
//	hear NAME TOPIC FILE [FLAG…]   listen to a topic on a node, in the background, and write FILE, until the node ends
//	heard FILE TEXT          wait until TEXT is in FILE
//	lens FILE                build lens/testdata/fullname, a WASM module
//	full-disk NAME BYTES     no file of the node can grow beyond so many bytes (Linux)
//	key NAME                 make a key in NAME.key, of which $NAME_did is the DID
//	named NAME FILE          $NAME_did is the DID in the first line of FILE
//	exits CODE ARG…          run pando; it must end with CODE, and say one thing on standard error unless that is 0
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("PANDO_KEYRING_BACKEND", "file") // that of whoever runs the tests is none of theirs
			nodes := &cluster{t: t, dir: env.WorkDir, nodes: map[string]*scriptNode{}}
			env.Values[clusterKey{}] = nodes
			env.Defer(nodes.killAll)
			return nil
		},
		Condition: func(name string) (bool, error) {
			_, ok := linuxCommands[name]
			return ok, nil
		},
		Cmds: commands(),
	})
}

// linuxCommands are those that need Linux; a script asks for one with [NAME].
var linuxCommands = map[string]func(*testscript.TestScript, bool, []string){}

func commands() map[string]func(*testscript.TestScript, bool, []string) {
	all := map[string]func(*testscript.TestScript, bool, []string){
		"node":            cmdNode,
		"end":             cmdEnd,
		"crash":           cmdCrash,
		"converged":       cmdConverged,
		"acknowledged":    cmdAcknowledged,
		"waits":           cmdWaits,
		"hear":            cmdHear,
		"heard":           cmdHeard,
		"root-in-status":  cmdRootInStatus,
		"records":         cmdRecords,
		"exits":           cmdExits,
		"crash-importing": cmdCrashImporting,
		"crash-joining":   cmdCrashJoining,
		"crash-writing":   cmdCrashWriting,
		"kept":            cmdKept,
		"newer-format":    cmdNewerFormat,
		"damage":          cmdDamage,
		"lens":            cmdLens,
		"key":             cmdKey,
		"named":           cmdNamed,
		"captures":        cmdCaptures,
		"holds":           cmdHolds,
	}
	maps.Copy(all, linuxCommands)
	return all
}

type clusterKey struct{}

// cluster is the nodes that one script has started.
type cluster struct {
	t     *testing.T
	dir   string
	nodes map[string]*scriptNode
	acked []string // docIDs of acknowledged creates
	least int      // documents that an import has reported
}

type scriptNode struct {
	*child
	flags []string
}

func clusterOf(ts *testscript.TestScript) *cluster { return ts.Value(clusterKey{}).(*cluster) }

func (c *cluster) killAll() {
	for _, n := range c.nodes {
		if n.process != nil {
			n.process.Process.Kill()
			n.process.Wait()
		}
	}
}

func (c *cluster) node(ts *testscript.TestScript, name string) *scriptNode {
	n := c.nodes[name]
	if n == nil || n.process == nil {
		ts.Fatalf("node %s is not running", name)
	}
	return n
}

// pandoPath is the command that testscript put into PATH.
func pandoPath(ts *testscript.TestScript) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, "pando")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	ts.Fatalf("pando is not in PATH")
	return ""
}

func cmdNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: node NAME [FLAG…]")
	}
	c, name := clusterOf(ts), args[0]
	n := &scriptNode{child: &child{name: name, dir: ts.MkAbs(name), program: pandoPath(ts)}, flags: args[1:]}
	flags := n.flags
	if before := c.nodes[name]; len(flags) == 0 && before != nil {
		flags = []string{"--p2paddr", listenedOn(before.p2p)} // a real node comes back where it was
	} else if !slices.Contains(flags, "--p2paddr") && !slices.Contains(flags, "--no-p2p") {
		flags = slices.Concat(flags, loopback) // whoever works on this machine has nodes at the usual ports
	}
	ts.Check(n.start(context.Background(), flags...))
	c.nodes[name] = n
	ts.Setenv(name, strings.TrimPrefix(n.http, "http://"))
	first, _, _ := strings.Cut(n.p2p, ",")
	ts.Setenv(name+"_p2p", first)
}

// listenedOn returns the addresses that a node printed, as --p2paddr takes them.
func listenedOn(p2p string) string {
	var addrs []string
	for a := range strings.SplitSeq(p2p, ",") {
		a, _, _ = strings.Cut(a, "/p2p/")
		if !strings.HasSuffix(a, "/ws") { // it shares the port of TCP
			addrs = append(addrs, a)
		}
	}
	return strings.Join(addrs, ",")
}

func cmdEnd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: end NAME")
	}
	begun := time.Now()
	ts.Check(clusterOf(ts).node(ts, args[0]).stop())
	if d := time.Since(begun); d > endTimeout {
		ts.Fatalf("node %s took %v to end", args[0], d)
	}
}

// endTimeout is how long a node may take to end: the grace for requests, and the 5 s
// that libp2p may wait for a peer that has died in the middle of saying who it is.
const endTimeout = shutdownGrace + 6*time.Second

// convergeTimeout is far beyond what two nodes on one machine need.
const convergeTimeout = 60 * time.Second

func cmdConverged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: converged NAME NAME")
	}
	c := clusterOf(ts)
	a, b := c.node(ts, args[0]), c.node(ts, args[1])
	deadline := time.Now().Add(convergeTimeout)
	for {
		same, err := sameRoots(context.Background(), a.client, b.client)
		ts.Check(err)
		if same {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s and %s differ after %v\n%s\n%s", a.name, b.name, convergeTimeout, a.log.last(), b.log.last())
		}
		time.Sleep(demoPoll)
	}
}

func cmdAcknowledged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: acknowledged NAME")
	}
	n := clusterOf(ts).node(ts, args[0])
	deadline := time.Now().Add(convergeTimeout)
	for {
		all, err := n.client.Replicators(context.Background())
		ts.Check(err)
		if !slices.ContainsFunc(all, func(r api.Replicator) bool { return r.Behind > 0 || r.Problem != "" }) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s is behind after %v: %+v\n%s", n.name, convergeTimeout, all, n.log.last())
		}
		time.Sleep(demoPoll)
	}
}

func cmdWaits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: waits URL TEXT ARG…")
	}
	deadline := time.Now().Add(convergeTimeout)
	for {
		ts.Check(ts.Exec("pando", append(args[2:], "--url", args[0])...))
		if strings.Contains(ts.ReadFile("stdout"), args[1]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("pando %s: not %q after %v", strings.Join(args[2:], " "), args[1], convergeTimeout)
		}
		time.Sleep(demoPoll)
	}
}

func cmdHear(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: hear NAME TOPIC FILE [FLAG…]")
	}
	out, err := os.Create(ts.MkAbs(args[2]))
	ts.Check(err)
	cmd := exec.Command(pandoPath(ts), append([]string{"topic", "sub", args[1], "--url", ts.Getenv(args[0])}, args[3:]...)...)
	cmd.Stdout = out
	ts.Check(cmd.Start())
	ts.Defer(func() {
		cmd.Process.Kill()
		cmd.Wait()
		out.Close()
	})
}

func cmdHeard(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: heard FILE TEXT")
	}
	for deadline := time.Now().Add(convergeTimeout); ; time.Sleep(demoPoll) {
		heard := ts.ReadFile(args[0])
		if strings.Contains(heard, args[1]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not %q after %v, but:\n%s", args[1], convergeTimeout, heard)
		}
	}
}

func cmdRootInStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: root-in-status NAME")
	}
	printed := ts.ReadFile("stdout")
	_, rest, _ := strings.Cut(printed, "root ")
	root, _, _ := strings.Cut(rest, " ")
	status, err := clusterOf(ts).node(ts, args[0]).client.LocalStatus(context.Background())
	ts.Check(err)
	var said strings.Builder
	ts.Check(showStatus(&said, status))
	if root == "" || !strings.Contains(said.String(), " "+root+"\n") {
		ts.Fatalf("root %q is not in the status of %s:\n%s", root, args[0], &said)
	}
}

// cmdRecords writes records that an import reads.
func cmdRecords(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: records FILE N")
	}
	var n int
	if _, err := fmt.Sscan(args[1], &n); err != nil {
		ts.Fatalf("records: %v", err)
	}
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"name\": \"user %d\", \"age\": %d}\n", i, i%100)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o644))
}

// cmdExits runs pando and checks its exit code and that it says one thing on
// standard error: exits CODE ARG…
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE ARG…")
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, pandoPath(ts), args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(quietEnv(), "HOME="+ts.Getenv("HOME"), "PANDO_URL="+ts.Getenv("PANDO_URL"), "PANDO_NO_P2P="+ts.Getenv("PANDO_NO_P2P"))
	for _, name := range []string{"BACKEND", "DIR", "PASSPHRASE", "PASSPHRASE_FILE"} {
		cmd.Env = append(cmd.Env, "PANDO_KEYRING_"+name+"="+ts.Getenv("PANDO_KEYRING_"+name))
	}
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	fmt.Fprint(ts.Stdout(), out.String())
	fmt.Fprint(ts.Stderr(), errOut.String())
	if got := fmt.Sprint(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("pando %s: exit code %s, want %s (%v)\n%s", strings.Join(args[1:], " "), got, args[0], err, errOut.String())
	}
	if args[0] == "0" {
		return
	}
	_, said, _ := strings.Cut("\n"+errOut.String(), "\npando:") // after what was logged
	if strings.Count(said, "\n") != 1 || strings.Contains(said, "pando:") {
		ts.Fatalf("pando %s: want one error on standard error, in one line:\n%s", strings.Join(args[1:], " "), errOut.String())
	}
}

// cmdNewerFormat makes a directory look as if a pando of the future had made it.
func cmdNewerFormat(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: newer-format DIR")
	}
	db, err := kv.Open(filepath.Join(ts.MkAbs(args[0]), "data"), kv.Options{})
	ts.Check(err)
	b := db.NewBatch()
	b.Set([]byte("gf"), []byte{0, 0, 0, 99})
	p, err := db.Apply(b)
	ts.Check(err)
	ts.Check(p.Wait())
	ts.Check(db.Close())
}

func cmdKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: key NAME")
	}
	k, err := ident.Generate(ident.EdDSA)
	ts.Check(err)
	ts.Check(ident.SaveKey(ts.MkAbs(args[0]+".key"), k))
	ts.Setenv(args[0]+"_did", string(k.DID()))
}

// cmdCaptures keeps what a group of a regular expression matches in the last output:
// captures NAME REGEXP.
func cmdCaptures(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: captures NAME REGEXP")
	}
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) != 2 {
		ts.Fatalf("the output does not match %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// cmdHolds looks for a text in the files of a directory: holds DIR TEXT.
func cmdHolds(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: holds DIR TEXT")
	}
	found := ""
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(args[1])) {
			found = path
		}
		return err
	}))
	if neg == (found != "") {
		ts.Fatalf("%s holds %q: %v %s", args[0], args[1], found != "", found)
	}
}

func cmdNamed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: named NAME FILE")
	}
	did, _, _ := strings.Cut(ts.ReadFile(args[1]), "\n")
	ts.Setenv(args[0]+"_did", did)
}
