package main

import (
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdDamage overwrites bytes of a file, as a failing disk would: in the middle of the
// largest that matches a pattern, or at the beginning of the newest.
func cmdDamage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: damage DIR PATTERN begin|middle")
	}
	var chosen string
	var size int64
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if ok, err := filepath.Match(args[1], d.Name()); err != nil || !ok {
			return err
		}
		info, err := d.Info()
		newest := args[2] == "begin" // names end in numbers that grow
		if err == nil && (newest || info.Size() > size) {
			chosen, size = path, info.Size()
		}
		return err
	}))
	if chosen == "" {
		ts.Fatalf("no file in %s matches %s", args[0], args[1])
	}
	f, err := os.OpenFile(chosen, os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	bad := make([]byte, min(64, size/2))
	for i := range bad {
		bad[i] = 0x5a
	}
	at := size / 2
	if args[2] == "begin" {
		at = 16
	}
	_, err = f.WriteAt(bad, at)
	ts.Check(err)
	ts.Logf("damaged %s at %d of %d bytes", filepath.Base(chosen), at, size)
}
