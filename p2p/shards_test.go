package p2p

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/ident"
)

// sharded starts members that share a collection with a schema, and waits until
// their topics know each other.
func sharded(t *testing.T, w *world, n int, schema string) []*member {
	t.Helper()
	ms := w.members(n)
	addSchema(t, ms[0].db, schema)
	startAll(ms)
	converge(t, 10*time.Second, ms...)
	time.Sleep(5 * time.Second)
	return ms
}

// toldAtOnce checks that a change reaches all members by gossip, within the latency of the
// network: no session is needed for it.
func toldAtOnce(t *testing.T, name string, from *member, ms []*member) {
	t.Helper()
	sessions, heard := ms[len(ms)-1].node.Counters().Served, ms[len(ms)-1].node.Counters().Heard
	createUsers(t, from.db, name, 20)
	if took := converge(t, 5*time.Second, ms...); took > 150*time.Millisecond {
		t.Errorf("%s: changes were everywhere after %v (%d sessions, %d heard)", name, took,
			ms[len(ms)-1].node.Counters().Served-sessions, ms[len(ms)-1].node.Counters().Heard-heard)
	}
}

func TestABusyCollectionIsToldInShards(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := sharded(t, w, 4, `type User @sync(shards: 16) { name: String points: Int }`)
		for i, m := range ms {
			toldAtOnce(t, fmt.Sprint("node", i), m, ms)
			if c := m.node.Counters(); c.Topics != 16+1 || c.Unfollowed != 0 {
				t.Errorf("node %d takes part in %d topics, want 16, and one for the secret", i, c.Topics)
			}
		}
	})
}

// A version that asks for more shards moves every node, whichever version it uses,
// and one that asks for fewer moves nobody.
func TestTheMostShardsOfAnyVersionHold(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := sharded(t, w, 3, schemaText)
		toldAtOnce(t, "before", ms[1], ms)
		topics := func(want int) {
			t.Helper()
			eventually(t, 10*time.Second, func() (bool, string) {
				for _, m := range ms {
					if got := m.node.Counters().Topics; got != want {
						return false, fmt.Sprintf("node %d takes part in %d topics, want %d", m.i, got, want)
					}
				}
				return true, ""
			})
			time.Sleep(3 * time.Second)
		}
		topics(1) // of the one secret
		patchUser(t, ms[2].db, `[{"op": "replace", "path": "/User/Shards", "value": 8}]`)
		topics(8 + 1)
		toldAtOnce(t, "split", ms[1], ms)
		patchUser(t, ms[2].db, `[{"op": "replace", "path": "/User/Shards", "value": 1}]`)
		time.Sleep(5 * time.Second)
		topics(8 + 1)
		toldAtOnce(t, "fewer", ms[0], ms)
	})
}

// A node takes part in a thousand topics, and peers that meet it then know them all.
// What is beyond is said, and comes by comparing.
func TestTopicsAreBounded(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(2)
		var schema strings.Builder
		for i, shards := range []int{256, 256, 256, 128, 64, 16, 8} {
			fmt.Fprintf(&schema, "type T%d @sync(shards: %d) { name: String }\n", i, shards)
		}
		for _, m := range ms { // both have it before they meet
			if _, err := m.db.AddSchema(t.Context(), schema.String()); err != nil {
				t.Fatal(err)
			}
		}
		startAll(ms)
		converge(t, 10*time.Second, ms...)
		time.Sleep(10 * time.Second)
		write := func(collection, name string) time.Duration {
			t.Helper()
			exec(t, ms[0].db, fmt.Sprintf(`mutation { create_%s(input: [{name: "%s1"}, {name: "%[2]s2"}, {name: "%[2]s3"}]) { _docID } }`, collection, name))
			return converge(t, time.Minute, ms...)
		}
		for i := range 7 {
			if took := write(fmt.Sprint("T", i), "live"); took > 100*time.Millisecond {
				t.Errorf("a change of T%d arrived after %v", i, took)
			}
		}
		for _, m := range ms {
			if c := m.node.Counters(); c.Unfollowed != 0 || c.Topics != 256+256+256+128+64+16+8+2*7 {
				t.Errorf("%d topics, %d collections without", c.Topics, c.Unfollowed)
			}
		}
		for _, m := range ms {
			for i := range 2 { // for something else
				if _, err := m.node.gossip.Join(gossip.Channel{Name: fmt.Sprint("else", i)}, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := ms[0].db.AddSchema(t.Context(), "type Late { name: String }"); err != nil {
			t.Fatal(err)
		}
		converge(t, 20*time.Second, ms...)
		if took := write("Late", "late"); took > 5*time.Second {
			t.Errorf("a change without a topic arrived after %v", took)
		}
		for _, m := range ms {
			if c := m.node.Counters(); c.Unfollowed != 1 {
				t.Errorf("%d collections are said to have no topic, want 1", c.Unfollowed)
			}
		}
	})
}

// What is announced by its header alone crosses members that are fetching it
// themselves at that moment.
func TestLargeCommitsCrossMembersInBetween(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(4)
		addSchema(t, ms[0].db, schemaText)
		ms[0].start(ms[1]) // a line
		ms[1].start(ms[0], ms[2])
		ms[2].start(ms[1], ms[3])
		ms[3].start(ms[2])
		converge(t, 10*time.Second, ms...)
		time.Sleep(5 * time.Second)
		for i := range 5 {
			createUsers(t, ms[0].db, fmt.Sprint(i)+strings.Repeat("large", 2_000), 1)
			took := converge(t, 10*time.Second, ms...)
			t.Logf("after %v", took)
			if took > 200*time.Millisecond { // three hops, and a fetch over each
				t.Errorf("it arrived after %v", took)
			}
			time.Sleep(2 * time.Second)
		}
		for _, m := range ms {
			if c := m.node.Counters(); c.Wants > 0 {
				t.Errorf("node %d wants %d documents still", m.i, c.Wants)
			}
		}
	})
}

// Nodes that joined by a ticket may know only who gave it: they hear of each other as
// soon as that one does.
func TestAHubTellsAllWhoKnowOnlyIt(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := sharded(t, w, 24, schemaText)
		toldAtOnce(t, "of the hub", ms[0], ms)
		toldAtOnce(t, "of another", ms[7], ms)
	})
}

// Who becomes a neighbour in the mesh between two heartbeats was not told what was said
// since the last, and will not be: it is compared with. While nobody speaks it is not.
func TestANewNeighbourMissesNothing(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(3)
		hub, b, c := ms[0], ms[1], ms[2]
		id := addSchema(t, hub.db, schemaText)
		startAll(ms)
		converge(t, 5*time.Second, ms...)
		time.Sleep(5 * time.Second)
		meets := func() uint64 {
			before := hub.node.Counters().Sessions
			hub.node.announcer.grafted(c.id(), hub.node.announcer.channels[id].whole[0].Name)
			time.Sleep(time.Second)
			return hub.node.Counters().Sessions - before
		}
		if n := meets(); n > 0 {
			t.Errorf("%d sessions although nothing was said", n)
		}
		createUsers(t, b.db, "said", 1)
		converge(t, time.Second, ms...)
		if n := meets(); n != 1 {
			t.Errorf("%d sessions after something was said, want 1", n)
		}
	})
}

// In a crowd less is said in full.
func TestACrowdIsToldLess(t *testing.T) {
	db := openDB(t, "")
	addSchema(t, db, schemaText)
	createUsers(t, db, strings.Repeat("x", 2_000), 1)
	var batch []announcement
	for b, err := range db.Replica().Full(t.Context(), db.Collections()[0].ID, pando.DocID{}) {
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, announcement{doc: b.Doc, envelope: b.Envelope})
		for limit, full := range map[int]bool{inlineBytes: true, inlineCrowded: false} {
			said, items := voice{inline: limit}.say(batch)
			if len(said) != 1 || full != (len(items) > len(b.Envelope)) {
				t.Errorf("with a limit of %d, %d commits are said in %d bytes", limit, len(said), len(items))
			}
		}
	}
}

func TestShardsFollowTheFirstBits(t *testing.T) {
	doc := dag.DocID{0b1011_0110}
	for bits, want := range []int{0, 1, 0b10, 0b101, 0b1011} {
		if got := shardOf(doc, bits); got != want {
			t.Errorf("%d bits: shard %b, want %b", bits, got, want)
		}
	}
	if got := shardOf(doc, 8); got != 0b1011_0110 {
		t.Errorf("8 bits: shard %b", got)
	}
	names := map[string]bool{}
	for bits := range 5 {
		for shard := range 1 << bits {
			names[shardName(ident.Secret{1}, dag.CollectionID{2}, bits, shard)] = true
		}
	}
	if len(names) != 31 {
		t.Errorf("%d names of 31 topics", len(names))
	}
}

// Two hundred nodes, each with six neighbours: what is announced by its header alone is
// everywhere soon, though most get it from members that were fetching it themselves.
// It takes a minute: PANDO_LONG=1.
func TestLargeCommitsReachTwoHundred(t *testing.T) {
	if os.Getenv("PANDO_LONG") == "" {
		t.Skip("200 databases: set PANDO_LONG=1")
	}
	const nodes = 200
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(nodes)
		addSchema(t, ms[0].db, schemaText)
		for i, m := range ms {
			m.start(ms[(i+1)%nodes], ms[(i+nodes-1)%nodes], ms[(i+7)%nodes], ms[(i+nodes-7)%nodes], ms[(i+47)%nodes], ms[(i+nodes-47)%nodes])
		}
		converge(t, 2*time.Minute, ms...)
		time.Sleep(20 * time.Second)
		var before, after Counters
		sum := func(c *Counters) {
			for _, m := range ms {
				got := m.node.Counters()
				c.GossipReceived, c.Received, c.Fetches = c.GossipReceived+got.GossipReceived, c.Received+got.Received, c.Fetches+got.Fetches
			}
		}
		for _, size := range []int{200, 3_000, 20_000} {
			before, after = Counters{}, Counters{}
			sum(&before)
			createUsers(t, ms[size%nodes].db, strings.Repeat("x", size), 1)
			took := converge(t, 10*time.Second, ms...)
			sum(&after)
			t.Logf("a commit of %d bytes is everywhere after %v; to each node %d bytes of gossip and %d of fetches, %d fetches in all", size, took,
				(after.GossipReceived-before.GossipReceived)/nodes, (after.Received-before.Received)/nodes, after.Fetches-before.Fetches)
			if took > time.Second {
				t.Errorf("a commit of %d bytes was everywhere after %v", size, took)
			}
			time.Sleep(5 * time.Second)
		}
		for _, m := range ms {
			if c := m.node.Counters(); c.Wants+int(c.Mismatches) > 0 {
				t.Errorf("node %d wants %d documents still", m.i, c.Wants)
			}
		}
	})
}
