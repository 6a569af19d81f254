package pando_test

import (
	"fmt"
	"testing"

	"github.com/pandodb/pando"
)

func BenchmarkAddCollection(b *testing.B) {
	for _, n := range []int{5, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			db, err := pando.Open(b.Context(), "", nil)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			add := func(i int) {
				if _, err := db.AddSchema(b.Context(), fmt.Sprintf("type C%d { a: String b: Int @index c: Float d: DateTime e: [String!] f: JSON }", i)); err != nil {
					b.Fatal(err)
				}
			}
			for i := range n {
				add(i)
			}
			b.ResetTimer()
			for i := range b.N {
				add(n + i)
			}
		})
	}
}
