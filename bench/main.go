// Command bench compares Pando with SQLite, on the same documents in the same run.
//
// It is a module of its own, so that nobody who embeds Pando compiles SQLite, and it
// uses the public package only. Every row of the table is one question in GraphQL and
// the same in SQL; the test of this module checks that both answer it alike. Pando
// answers with JSON, SQLite with columns scanned into Go values, and either prepares
// its text once.
//
//	go run .                       the table with 10,000 documents
//	go run . -documents 100000     with more
//	go run . -rows order,index     only rows whose name has one of these in it
//	go run . -growth               how figures grow from 10³ to 10⁶ documents
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"time"
)

type settings struct {
	documents int
	rounds    int
	span      time.Duration
	rows      string
	growth    bool
	most      int
	profile   string
}

func main() {
	var s settings
	flag.IntVar(&s.documents, "documents", 10_000, "how many people; there are a tenth of authors with ten books each")
	flag.IntVar(&s.rounds, "rounds", 9, "how often each row is measured, in turns")
	flag.DurationVar(&s.span, "span", 30*time.Millisecond, "how long one side of one round lasts at least")
	flag.StringVar(&s.rows, "rows", "", "only rows whose name contains one of these, separated by commas")
	flag.BoolVar(&s.growth, "growth", false, "measure how figures grow with the number of documents, instead")
	flag.IntVar(&s.most, "most", 1_000_000, "with -growth, up to how many documents")
	flag.StringVar(&s.profile, "profile", "", "write a CPU profile of Pando's side to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := s.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (s settings) run(ctx context.Context) error {
	if s.documents < 100 || s.rounds < 1 || s.most < 1000 {
		return fmt.Errorf("-documents %d, -rounds %d, -most %d: want at least 100, 1 and 1000", s.documents, s.rounds, s.most)
	}
	if s.profile != "" {
		f, err := os.Create(s.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	dir, err := os.MkdirTemp("", "pando-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if s.growth {
		return s.grow(ctx, dir)
	}
	return s.compare(ctx, dir)
}

// wanted reports whether a row was asked for.
func (s settings) wanted(name string) bool {
	for part := range strings.SplitSeq(s.rows, ",") {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
