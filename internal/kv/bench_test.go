package kv_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/pandodb/pando/internal/kv"
)

// commit is a batch like that of one commit: 8 small puts.
func commit(db *kv.DB, rng *rand.Rand) *kv.Batch {
	b := db.NewBatch()
	var key [40]byte
	var value [100]byte
	for i := range 8 {
		key[0] = byte('a' + i)
		binary.BigEndian.PutUint64(key[1:], rng.Uint64())
		b.Set(key[:], value[:])
	}
	return b
}

func BenchmarkApply(b *testing.B) {
	for _, writers := range []int{0, 1, 16} { // 0: one that does not wait
		name := fmt.Sprintf("writers=%d", writers)
		if writers == 0 {
			name = "without waiting"
		}
		b.Run(name, func(b *testing.B) {
			db := open(b, b.TempDir(), kv.Options{})
			turns := make(chan struct{})
			var wg sync.WaitGroup
			for w := range max(1, writers) {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(1, uint64(w)))
					for range turns {
						p, err := db.Apply(commit(db, rng))
						if err == nil && writers > 0 {
							err = p.Wait()
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			for b.Loop() {
				turns <- struct{}{}
			}
			close(turns)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// loaded returns a database with n keys, sorted into tables.
func loaded(b testing.TB, n int) *kv.DB {
	db := open(b, b.TempDir(), kv.Options{})
	batch := db.NewBatch()
	for i := range n {
		batch.Set(row(i), make([]byte, 200))
		if batch.Len() == 1000 || i == n-1 {
			apply(b, db, batch)
			batch = db.NewBatch()
		}
	}
	if err := kv.Flush(db); err != nil {
		b.Fatal(err)
	}
	return db
}

func row(i int) []byte { return fmt.Appendf(nil, "row/%032d", i) }

const benchRows = 200_000

func BenchmarkScan(b *testing.B) {
	db := loaded(b, benchRows)
	rows := 0
	for b.Loop() {
		s := db.Snapshot()
		for _, err := range s.Scan(nil, nil) {
			if err != nil {
				b.Fatal(err)
			}
			rows++
		}
		s.Close()
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}

func BenchmarkScanOf100(b *testing.B) {
	db := loaded(b, benchRows)
	s := db.Snapshot()
	defer s.Close()
	txn := db.Begin()
	defer txn.Close()
	txn.Set(row(77), []byte("own"))
	for name, v := range map[string]view{"snapshot": s, "transaction": txn} {
		b.Run(name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				i = (i + 7919) % (benchRows - 100)
				for _, err := range v.Scan(row(i), row(i+100)) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	db := loaded(b, benchRows)
	s := db.Snapshot()
	defer s.Close()
	i := 0
	for b.Loop() {
		i = (i + 7919) % benchRows
		if _, ok, err := s.Get(row(i)); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// An iterator that is sought onwards in steps, as a join does.
func BenchmarkSeekOnwards(b *testing.B) {
	db := loaded(b, benchRows)
	s := db.Snapshot()
	defer s.Close()
	it := s.NewIter(nil, nil)
	defer it.Close()
	i := 0
	for b.Loop() {
		if i = i + 5; i >= benchRows {
			i = 0
		}
		if !it.SeekGE(row(i)) {
			b.Fatal(it.Err())
		}
	}
}

// idleDir tells the test binary to open a database, do nothing, and print what
// memory it has.
const idleDir = "PANDO_TEST_IDLE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(idleDir); dir != "" {
		if err := idle(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func idle(dir string) error {
	db, err := kv.Open(dir, kv.Options{})
	if err != nil {
		return err
	}
	s := db.Snapshot()
	if _, _, err := s.Get(row(1)); err != nil {
		return err
	}
	s.Close()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	rss := 0
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	fmt.Sscan(after, &rss)
	fmt.Println(m.HeapAlloc>>10, rss)
	return db.Close()
}

// TestIdleDatabaseIsSmall keeps a promise to those who run many nodes, or small
// machines: a node that does nothing takes next to nothing.
func TestIdleDatabaseIsSmall(t *testing.T) {
	for _, n := range []int{0, 100_000} {
		dir := t.TempDir()
		db := open(t, dir, kv.Options{})
		for from := 0; from < n; from += 1000 {
			batch := db.NewBatch()
			for i := range 1000 {
				batch.Set(row(from+i), make([]byte, 200))
			}
			apply(t, db, batch)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), idleDir+"="+dir)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("idle process: %v", err)
		}
		heap, rss := 0, 0
		fmt.Sscan(string(out), &heap, &rss)
		t.Logf("%d keys: heap %d kB, RSS %d kB", n, heap, rss)
		if raceEnabled {
			continue // the detector takes several times the memory
		}
		if heap == 0 || heap > 8<<10 || rss == 0 || rss > 32<<10 {
			t.Errorf("%d keys: heap %d kB, RSS %d kB; want at most 8 and 32 MiB", n, heap, rss)
		}
	}
}
