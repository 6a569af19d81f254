package main

import (
	"os"
	"os/exec"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdLens builds a module that makes name of first and last, and back.
func cmdLens(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lens FILE")
	}
	build := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s", "-o", ts.MkAbs(args[0]), "../../lens/testdata/fullname")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		ts.Fatalf("%v: %s", err, out)
	}
}
