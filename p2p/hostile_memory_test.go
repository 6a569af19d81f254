package p2p

import (
	"encoding/binary"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/radix"
)

// heap returns how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Floods of all kinds at once, from strangers and members, and what they make a node
// hold. The attackers live in the same process, so what they hold themselves counts,
// too.
func TestFloodsAreHeldInBoundedMemory(t *testing.T) {
	strangers := maxAtDoor + 8
	if os.Getenv("PANDO_LONG") != "" { // a connection flood of its own: some minutes
		strangers = 1000
	}
	simulateInTurn(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, id := attack(t, w, true)
		before := heap()
		// Strangers, each with streams on which a large message begins and never ends.
		for i := range strangers {
			y := w.member(100 + i)
			h := y.up()
			h.Connect(t.Context(), peer.AddrInfo{ID: a.id(), Addrs: a.host.Addrs()})
			for range 3 {
				s, err := h.NewStream(t.Context(), a.id(), protocolSync)
				if err != nil {
					continue
				}
				s.Write(append(binary.AppendUvarint(nil, maxFrame), make([]byte, 1<<10)...))
			}
		}
		// A member that floods with orphans and questions, and reads no answer.
		f := x.forger(t, id)
		orphans := commitAttacks[len(commitAttacks)-1].push(f)
		for range 5 {
			x.pushed(t, a, id, orphans)
		}
		for range 10 {
			s, err := x.host.NewStream(t.Context(), a.id(), protocolSync)
			if err != nil {
				break
			}
			wire := newWire(s, new(traffic))
			ps := x.admission.with(a.id())
			wire.send(&hello{Entries: []entry{{Proof: ps.mine[claim{id, ps.secrets[id][0]}]}}})
			for range 5 {
				wire.send(&getNodes{Levels: 1, Prefixes: make([]radix.Prefix, maxPrefixes)})
			}
		}
		time.Sleep(5 * time.Second)
		grown := heap() - before
		a.node.mu.Lock()
		open := len(a.node.strangers)
		a.node.mu.Unlock()
		atDoor := len(a.node.host.Network().Peers()) - 1 // without b
		t.Logf("%d strangers: %d MB more in use, %d of their streams open, %d at the door, %d wants", strangers, grown>>20, open, atDoor, a.node.Counters().Wants)
		if open > maxStrangers || atDoor > maxAtDoor {
			t.Errorf("%d streams of %d strangers, want at most %d and %d", open, atDoor, maxStrangers, maxAtDoor)
		}
		// A host of the library and an empty database of an attacker are 2 MB.
		if most := int64(strangers)*(2<<20) + 64<<20; grown > most {
			t.Errorf("%d MB more in use, want at most %d", grown>>20, most>>20)
		}
		createUsers(t, b.db, "meanwhile", 5)
		t.Logf("honest changes arrived after %v", converge(t, 5*time.Second, a, b))
	})
}
