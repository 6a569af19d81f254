package p2p

import (
	"context"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// versioned is the host of a node that speaks other versions than this one: it
// offers each protocol of Pando in these only, the first first. What it says in a
// version is what this program says in it, or in its newest if it does not know it.
type versioned struct {
	host.Host
	versions []string
}

func (v versioned) all(id protocol.ID) []protocol.ID {
	base := path.Dir(string(id))
	if base != "/pando/sync" && base != "/pando/fetch" {
		return []protocol.ID{id}
	}
	var out []protocol.ID
	for _, version := range v.versions {
		out = append(out, protocol.ID(base+"/"+version))
	}
	return out
}

func (v versioned) SetStreamHandler(id protocol.ID, handler network.StreamHandler) {
	for _, id := range v.all(id) {
		v.Host.SetStreamHandler(id, handler)
	}
}

func (v versioned) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	var out []protocol.ID
	for _, id := range ids {
		for _, id := range v.all(id) {
			if !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return v.Host.NewStream(ctx, p, out...)
}

// startVersions starts a member as a program of other versions of the protocol.
func (m *member) startVersions(versions []string, trusted ...*member) {
	m.w.t.Helper()
	c := Config{Host: versioned{m.up(), versions}}
	for _, p := range trusted {
		c.Peers = append(c.Peers, p.addr())
	}
	var err error
	if m.node, err = Start(m.w.t.Context(), m.db, c); err != nil {
		m.w.t.Fatal(err)
	}
}

// While a network is updated, node by node, old and new ones go on with each other:
// they compare, fetch and announce in the newest version that both know.
func TestNodesOfOtherVersionsSync(t *testing.T) {
	for name, versions := range map[string][]string{
		"older":       {"1"},
		"before":      {"2", "1"},
		"newer":       {"4", "3", "2", "1"},
		"much newer":  {"4", "3"},
		"of this one": {"3", "2", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
				other, own := w.member(0), w.member(1)
				addSchema(t, other.db, schemaText)
				createUsers(t, other.db, "before", 300)
				own.start(other)
				other.startVersions(versions, own)
				converge(t, 5*time.Second, own, other)
				time.Sleep(3 * time.Second)
				for _, m := range []*member{own, other} {
					createUsers(t, m.db, "live"+m.ip(), 1)
					converge(t, time.Second, own, other)
				}
				w.cut([]*member{own}, []*member{other})
				writeChain(t, own.db, 100)
				createUsers(t, other.db, "apart", 10)
				time.Sleep(2 * time.Minute)
				w.heal([]*member{own}, []*member{other})
				converge(t, 2*time.Minute, own, other)
				for _, m := range []*member{own, other} {
					st, err := m.node.Status(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if c := st.Peers[0].Collections; len(c) != 1 || c[0].State != Identical || st.Counters.Breaches > 0 {
						t.Errorf("status: %+v", st.Peers)
					}
				}
			})
		})
	}
}

// Where no version is common nothing is exchanged, and the operator is told why.
func TestNodesWithoutACommonVersionSaySo(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		other, own := w.member(0), w.member(1)
		addSchema(t, other.db, schemaText)
		own.start(other)
		other.startVersions([]string{"9"}, own)
		time.Sleep(time.Minute)
		st, err := own.node.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Peers) != 1 || !strings.Contains(st.Peers[0].Problem, "/pando/sync/9") || !strings.Contains(st.Peers[0].Problem, "update") {
			t.Errorf("status: %+v, want what it speaks and what to do", st.Peers)
		}
		if err := own.node.Connect(t.Context(), other.addr()); err == nil || !strings.Contains(err.Error(), "/pando/sync/9") {
			t.Errorf("connect: got %v, want what it speaks", err)
		}
		if n := documents(t, own); n != 0 {
			t.Errorf("%d documents came", n)
		}
	})
}
