package dag

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/pandodb/pando/internal/ident"
)

func BenchmarkSeal(b *testing.B) {
	k := ada(b)
	first := seal(b, root(k, title("Ada"), hits(10)), k)
	for name, work := range map[string]func(*Commit) error{
		"prepare": Prepare,
		"sealed":  func(c *Commit) error { _, err := Seal(c, k); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := work(child(k, []*Commit{first}, title("Bob"), hits(1))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	k := ada(b)
	first := seal(b, root(k, title("Ada"), hits(10)), k)
	for name, c := range map[string]*Commit{
		"root":   first,
		"update": seal(b, child(k, []*Commit{first}, title("Bob"), hits(1)), k),
	} {
		b.Run(name, func(b *testing.B) {
			env := c.Envelope()
			b.ReportAllocs()
			b.SetBytes(int64(len(env)))
			for b.Loop() {
				if _, err := Open(env); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{1, 256, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			cs := make([]*Commit, n)
			for i := range cs {
				k := key(b, ident.EdDSA, fmt.Sprint("author ", i%50))
				cs[i] = seal(b, root(k, title(fmt.Sprint(i))), k)
			}
			for b.Loop() {
				if bad := Verify(cs); bad != nil {
					b.Fatal(bad)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

func BenchmarkCIDText(b *testing.B) {
	id := CID(sha256.Sum256(nil))
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = id.String()
		}
	})
	s := id.String()
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseCID(s); err != nil {
				b.Fatal(err)
			}
		}
	})
}
