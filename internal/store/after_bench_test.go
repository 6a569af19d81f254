package store

import (
	"fmt"
	"testing"
)

// A document that changed often, as who follows a collection is told of it: with a policy
// and without.
func BenchmarkReplay(b *testing.B) {
	for _, coll := range []string{"Page", "Paper"} {
		for _, commits := range []int{100, 400, 1600} {
			b.Run(fmt.Sprintf("%s/%d", coll, commits), func(b *testing.B) {
				n := newNode(b, "ada").policed()
				id := n.create(coll, "title", "first")
				for i := range commits {
					n.set(coll, id, "title", fmt.Sprint(i))
				}
				var changes []Change
				n.view(func(tx *Tx) error {
					for ch, err := range tx.Changed(0) {
						if err != nil {
							return err
						}
						changes = append(changes, ch)
					}
					return nil
				})
				for b.Loop() {
					n.view(func(tx *Tx) error {
						for _, err := range tx.Replay(b.Context(), n.coll(coll), changes) {
							if err != nil {
								return err
							}
						}
						return nil
					})
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(changes)), "µs/change")
			})
		}
	}
}
