package main

import (
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func init() { linuxCommands["full-disk"] = cmdFullDisk }

// cmdFullDisk makes every file of a running node end at so many bytes, whereupon
// the node's writes fail as on a full disk.
func cmdFullDisk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: full-disk NAME BYTES")
	}
	n, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	pid := clusterOf(ts).node(ts, args[0]).process.Process.Pid
	ts.Check(unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: n}, nil))
}
