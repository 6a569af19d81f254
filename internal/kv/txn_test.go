package kv_test

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/kv"
)

// model is what a database, a snapshot or a transaction should hold.
type model map[string]string

func (m model) scan(lo, hi []byte, reverse bool) []string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if (lo == nil || k >= string(lo)) && (hi == nil || k < string(hi)) {
			pairs = append(pairs, k+"="+m[k])
		}
	}
	if reverse {
		slices.Reverse(pairs)
	}
	return pairs
}

func collect(t interface{ Fatalf(string, ...any) }, entries iter.Seq2[kv.Entry, error]) []string {
	var pairs []string
	for e, err := range entries {
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		pairs = append(pairs, string(e.Key)+"="+string(e.Value))
	}
	return pairs
}

// view is what snapshots and transactions offer readers.
type view interface {
	reader
	Scan(lo, hi []byte) iter.Seq2[kv.Entry, error]
	ScanReverse(lo, hi []byte) iter.Seq2[kv.Entry, error]
	NewIter(lo, hi []byte) *kv.Iter
}

var (
	drawKey   = rapid.SliceOfN(rapid.ByteRange('a', 'c'), 0, 4)
	drawBound = rapid.OneOf(rapid.Just([]byte(nil)), drawKey)
)

// agree draws a question and fails unless the view answers like the model.
func agree(t *rapid.T, v view, m model) {
	lo, hi := drawBound.Draw(t, "lo"), drawBound.Draw(t, "hi")
	if got, want := collect(t, v.Scan(lo, hi)), m.scan(lo, hi, false); !slices.Equal(got, want) {
		t.Fatalf("scan of %q to %q gives %q, want %q", lo, hi, got, want)
	}
	if got, want := collect(t, v.ScanReverse(lo, hi)), m.scan(lo, hi, true); !slices.Equal(got, want) {
		t.Fatalf("reverse scan of %q to %q gives %q, want %q", lo, hi, got, want)
	}
	key := drawKey.Draw(t, "key")
	value, ok, err := v.Get(key)
	if want, there := m[string(key)]; err != nil || ok != there || string(value) != want {
		t.Fatalf("get %q gives %q, %v, %v; want %q, %v", key, value, ok, err, want, there)
	}
	walk(t, v, m, lo, hi)
}

// walk seeks and steps at random, forwards and back.
func walk(t *rapid.T, v view, m model, lo, hi []byte) {
	it, rest := v.NewIter(lo, hi), m.scan(lo, hi, false)
	all := rest
	defer it.Close()
	for range rapid.IntRange(0, 6).Draw(t, "steps") {
		ok := false
		if rapid.Bool().Draw(t, "seek") {
			to := drawKey.Draw(t, "to")
			i, _ := slices.BinarySearchFunc(all, string(to), func(pair, to string) int {
				key, _, _ := bytes.Cut([]byte(pair), []byte("="))
				return cmp.Compare(string(key), to)
			})
			rest, ok = all[i:], it.SeekGE(to)
		} else {
			ok = it.Next()
		}
		if ok != (len(rest) > 0) || it.Valid() != ok {
			t.Fatalf("the iterator is on an entry: %v, %v; %q are left", ok, it.Valid(), rest)
		}
		if ok {
			if got := string(it.Key()) + "=" + string(it.Value()); got != rest[0] {
				t.Fatalf("the iterator is on %q, want %q", got, rest[0])
			}
			rest = rest[1:]
		}
	}
	if err := it.Err(); err != nil {
		t.Fatalf("iterate: %v", err)
	}
}

// TestTransactionsAreAsTheModel runs transactions, snapshots and plain writes
// side by side. A transaction sees what was there when it began and what it
// wrote itself; a snapshot sees what was there.
func TestTransactionsAreAsTheModel(t *testing.T) {
	type open struct {
		view  view
		txn   *kv.Txn // nil for a snapshot
		model model
		close func()
	}
	rapid.Check(t, func(t *rapid.T) {
		db, err := kv.Open("db", kv.Options{FS: kv.NewMemFS()})
		if err != nil {
			t.Fatal(err)
		}
		now, views := model{}, []*open{}
		n := 0
		some := func(t *rapid.T) *open {
			if len(views) == 0 {
				t.Skip("nothing is open")
			}
			return views[rapid.IntRange(0, len(views)-1).Draw(t, "view")]
		}
		t.Cleanup(func() {
			for _, v := range views {
				v.close()
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
		commit := func(b *kv.Batch) {
			p, err := db.Apply(b)
			if err == nil {
				err = p.Wait()
			}
			if err != nil {
				t.Fatalf("apply: %v", err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				txn := db.Begin()
				views = append(views, &open{txn, txn, maps.Clone(now), txn.Close})
			},
			"snapshot": func(t *rapid.T) {
				s := db.Snapshot()
				views = append(views, &open{s, nil, maps.Clone(now), s.Close})
			},
			"write aside": func(t *rapid.T) {
				b := db.NewBatch()
				for range rapid.IntRange(1, 5).Draw(t, "writes") {
					key := drawKey.Draw(t, "key")
					n++
					b.Set(key, fmt.Append(nil, n))
					now[string(key)] = fmt.Sprint(n)
				}
				if lo, hi := drawKey.Draw(t, "lo"), drawKey.Draw(t, "hi"); string(lo) < string(hi) {
					b.DeleteRange(lo, hi)
					maps.DeleteFunc(now, func(k, _ string) bool { return k >= string(lo) && k < string(hi) })
				}
				commit(b)
			},
			"write within": func(t *rapid.T) {
				o := some(t)
				if o.txn == nil {
					t.Skip("a snapshot")
				}
				key := drawKey.Draw(t, "key")
				if rapid.Bool().Draw(t, "delete") {
					o.txn.Delete(key)
					delete(o.model, string(key))
					return
				}
				n++
				o.txn.Set(key, fmt.Append(nil, n))
				o.model[string(key)] = fmt.Sprint(n)
			},
			"write while scanning": func(t *rapid.T) {
				o := some(t)
				if o.txn == nil {
					t.Skip("a snapshot")
				}
				before := o.model.scan(nil, nil, false)
				var seen []string
				for e, err := range o.txn.Scan(nil, nil) {
					if err != nil {
						t.Fatal(err)
					}
					seen = append(seen, string(e.Key)+"="+string(e.Value))
					later := append(bytes.Clone(e.Key), 'z')
					o.txn.Set(later, e.Value)
					o.model[string(later)] = string(e.Value)
				}
				if !slices.Equal(seen, before) {
					t.Fatalf("a scan that writes ahead of itself saw %q, want %q", seen, before)
				}
			},
			"commit": func(t *rapid.T) {
				o := some(t)
				if o.txn == nil {
					t.Skip("a snapshot")
				}
				b := db.NewBatch()
				o.txn.Writes(b)
				for e, deleted := range o.txn.Written() {
					if now[string(e.Key)] = string(e.Value); deleted {
						delete(now, string(e.Key))
					}
				}
				commit(b)
				o.close()
				views = slices.DeleteFunc(views, func(v *open) bool { return v == o })
			},
			"": func(t *rapid.T) {
				s := db.Snapshot()
				defer s.Close()
				agree(t, s, now)
				for _, v := range views {
					agree(t, v.view, v.model)
				}
			},
		})
	})
}

// Single keys are found as Get finds them, in whatever order they are asked for.
func TestFindIsAsGet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		db, err := kv.Open("db", kv.Options{FS: kv.NewMemFS()})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		keys := rapid.SliceOfN(rapid.StringMatching(`[ab]{1,3}`), 1, 20)
		b := db.NewBatch()
		for i, k := range keys.Draw(t, "before") {
			b.Set([]byte(k), []byte{byte(i)})
		}
		p, err := db.Apply(b)
		if err != nil || p.Wait() != nil {
			t.Fatal(err)
		}
		tx := db.Begin()
		defer tx.Close()
		for i, k := range keys.Draw(t, "own") {
			if i%3 == 0 {
				tx.Delete([]byte(k))
			} else {
				tx.Set([]byte(k), []byte{byte(100 + i)})
			}
		}
		it := tx.NewIter(nil, nil)
		defer it.Close()
		for _, k := range keys.Draw(t, "asked") {
			want, there, err := tx.Get([]byte(k))
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := it.Find([]byte(k)); ok != there || string(got) != string(want) {
				t.Fatalf("%q is found as %v, %v, want %v, %v", k, got, ok, want, there)
			}
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
	})
}
