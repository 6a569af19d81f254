package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/p2p"
)

// aNode is the status of a node with two peers, of which one is gone.
func aNode(at time.Time, asked bool) api.Status {
	state := func(s p2p.State) p2p.State {
		if asked {
			return s
		}
		return p2p.NotAsked
	}
	return api.Status{
		Peer: "12D3KooWself1234", At: at, Started: at.Add(-2 * time.Hour),
		Collections: []api.CollectionStatus{{Name: "Note", Documents: 12904, Moved: api.Moved{ReceiveRate: 1200}}},
		Traffic:     api.Traffic{ReceiveRate: 2_500_000, SendRate: 300},
		Delay:       api.Delay{Changes: 7, P50: 12, P99: 80},
		Queues:      []api.Queue{{Name: "inbox", Items: 17, Limit: 8192, Bytes: 5000}, {Name: "wants", Limit: 65536}, {Name: "merging, live", Items: 3}, {Name: "postponed", Limit: 10}},
		Wanted:      api.Wanted{Documents: 2, Stuck: 1},
		Pushed:      []api.Replicator{{Info: api.PeerInfo{ID: "12D3KooWbob56789"}, State: p2p.Failing, Behind: 1500}},
		Peers: []api.PeerStatus{
			{ID: "12D3KooWgone5678", Collections: []api.PeerCollection{{Name: "Note", State: state(p2p.Unreachable), Same: at.Add(-time.Hour)}}},
			{ID: "12D3KooWbob56789", Connected: true, Millis: 41.2, Connections: []api.Connection{{Relay: "12D3relay", Limited: true}},
				Session:     api.Session{At: at.Add(-3 * time.Second), Applied: 12},
				Collections: []api.PeerCollection{{Name: "Note", State: state(p2p.Differs), Differ: 3, Same: at.Add(-90 * time.Second)}}},
		},
	}
}

func TestTheScreenShowsWhatMatters(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var s topState
	if got := s.screen(now, 80, 24, false); !strings.Contains(got, "waiting") {
		t.Errorf("before the first answer it shows %q", got)
	}
	s.take(reading{aNode(now, true), true, nil})
	s.take(reading{aNode(now.Add(2*time.Second), false), false, nil})
	got := s.screen(now.Add(3*time.Second), 0, 0, false)
	for _, want := range []string{
		"pando …self1234  up 2 h  2 peers, 1 connected",
		"in 2.5 MB/s  out 300 B/s  changes of others after 12.0 ms (99 %: 80.0 ms)  incomplete 2, 1 STUCK",
		"…bob56789  relay, limited  41.2 ms",
		"4 s ago, 12 in",
		"…gone5678  no ",
		"…bob56789 3 differ, the same 1 min ago, 1 unreachable (3 s ago)",
		"17 (5.0 kB)  8 192",
		"merging, live  3 ",
		"…bob56789  failing  1 500",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the screen lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "identical") || strings.Contains(got, "postponed") {
		t.Errorf("the screen claims what is not, or shows what is empty:\n%s", got)
	}
	if strings.Index(got, "…bob56789") > strings.Index(got, "…gone5678") {
		t.Errorf("who is gone stands first:\n%s", got)
	}

	s.take(reading{err: errors.New("no node answers")})
	if got := s.screen(now.Add(10*time.Second), 0, 0, true); !strings.Contains(got, "no node answers; what is shown is 8 s old") || !strings.Contains(got, "PAUSED") {
		t.Errorf("a node that does not answer, and a pause, are not shown:\n%s", got)
	}
}

// Whatever the size of the terminal, no line is broken and none is below it.
func TestTheScreenFits(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var s topState
	s.take(reading{aNode(now, true), true, nil})
	for _, size := range [][2]int{{1, 1}, {2, 2}, {10, 3}, {40, 10}, {200, 100}} {
		got := strings.TrimSuffix(s.screen(now, size[0], size[1], false), "\n")
		lines := strings.Split(got, "\n")
		if len(lines) > size[1] {
			t.Errorf("%d lines on a screen of %v", len(lines), size)
		}
		for _, l := range lines {
			if utf8.RuneCountInString(l) > size[0] {
				t.Errorf("a line of %d on a screen of %v: %q", utf8.RuneCountInString(l), size, l)
			}
		}
	}
}

func TestKeysOfTop(t *testing.T) {
	t.Parallel()
	node, err := api.NewClient("127.0.0.1:2")
	if err != nil {
		t.Fatal(err)
	}
	top := &top{node: node, every: time.Second}
	press := func(r rune) tea.Cmd {
		_, cmd := top.Update(tea.KeyPressMsg{Code: r, Text: string(r)})
		return cmd
	}
	press('p')
	now := time.Now()
	if top.Update(reading{aNode(now, true), true, nil}); !top.shown.now.At.IsZero() {
		t.Error("it goes on while it is paused")
	}
	press('p')
	if top.Update(reading{aNode(now, true), true, nil}); top.shown.now.At != now || top.shown.compared.At != now {
		t.Error("it does not go on after a pause")
	}
	if cmd := press('q'); cmd == nil {
		t.Error("q does nothing")
	} else if _, ok := cmd().(tea.QuitMsg); !ok {
		t.Error("q does not quit")
	}
	top.Update(tea.WindowSizeMsg{Width: 30, Height: 5})
	if got := top.View().Content; strings.Count(got, "\n") > 5 {
		t.Errorf("a screen of 5 lines shows %q", got)
	}
}

func TestStatusNamesWhatSomebodyShouldLookAt(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	st := aNode(now, true)
	st.Skew, st.Counts = 90_000, map[string]uint64{"unfollowed": 2}
	st.Collections[0].Kept, st.Collections[0].Complete = `{points: {_gt: 9}}`, now.Add(-time.Minute)
	st.Peers[1].Collections[0].Mismatch = now.Add(-10 * time.Minute)
	st.Wanted = api.Wanted{Documents: 30, Stuck: 1, Oldest: []api.Want{{Collection: "Note", DocID: "bafkreione", Commits: 3, Since: now.Add(-49 * time.Hour), Stuck: true}}}
	var b strings.Builder
	if err := showStatus(&b, st); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"3 differ, the same 1 min ago\n",
		"unreachable, the same 1 h ago\n",
		"of Note this node keeps a part: {points: {_gt: 9}}; it was complete 1 min ago\n",
		"MISMATCH: Note here and at 12D3KooWbob56789 stayed different 10 min ago, after all was exchanged\n  run 'pando fsck'",
		"clocks of the peers differ from the one here by 1m30s",
		"2 collections found no room among the topics",
		"incomplete here: 30 documents, 1 for more than a day\n",
		"Note        bafkreione  3 commits  2 days  nobody\n",
		"and 29 more\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the status lacks %q:\n%s", want, b.String())
		}
	}

	b.Reset()
	begun, half := now.Add(-3*time.Minute), aNode(now, true)
	half.Collections[0].Incomplete, half.Collections[0].Since, half.Collections[0].From = true, &begun, "12D3KooWbob56789"
	if err := showStatus(&b, half); err != nil {
		t.Fatal(err)
	}
	if want := "\nNote is still copied from 12D3KooWbob56789, for 3 min, and not known to be complete: queries"; !strings.Contains(b.String(), want) {
		t.Errorf("the status lacks %q:\n%s", want, b.String())
	}

	b.Reset()
	well := aNode(now, true)
	well.Wanted, well.Peers = api.Wanted{}, nil
	if err := showStatus(&b, well); err != nil || strings.Count(b.String(), "\n") != 2 {
		t.Errorf("where nothing is wrong it says %q, %v", b.String(), err)
	}
}

// The steps of several nodes make one timeline, the write in front whatever the clocks
// of the others say, and once.
func TestTracesOfSeveralNodesMakeOneTimeline(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	event := func(after time.Duration, stage p2p.Stage, peer string) api.TraceEvent {
		return api.TraceEvent{At: at.Add(after), Stage: stage, Peer: peer}
	}
	var b strings.Builder
	err := showTraces(&b, []api.Trace{
		{Node: "12D3KooWada12345", Commit: "bafyone", Events: []api.TraceEvent{event(40*time.Millisecond, p2p.Heard, "12D3KooWbob56789")}}, // it is not merged there
		{Node: "12D3KooWbob56789", Commit: "bafyone", DocID: "bafkdoc", Collection: "Note", Height: 2,
			Events: []api.TraceEvent{event(0, p2p.Written, ""), event(-3*time.Millisecond, p2p.Synced, "")}},
		{Node: "12D3KooWcat56789", Commit: "bafyone", DocID: "bafkdoc", Collection: "Note", Height: 2, Events: []api.TraceEvent{event(0, p2p.Written, "")}},
		{Node: "12D3KooWcat56789", Commit: "bafytwo", DocID: "bafkdoc", Collection: "Note", Height: 3, Events: []api.TraceEvent{event(0, p2p.Written, "")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for line := range strings.Lines(b.String()) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.Contains(fields[0], ":") {
			seen = append(seen, strings.Join(fields[1:len(fields)-2], " "))
		} else {
			seen = append(seen, strings.TrimSpace(line))
		}
	}
	want := []string{
		"commit bafyone", "document bafkdoc of Note, height 2", "TIME  AFTER    NODE       STAGE    PEER       WAY",
		"0 us author written", "-3.0 ms …bob56789 synced", "40.0 ms …ada12345 heard",
		"", "commit bafytwo", "document bafkdoc of Note, height 3", "TIME  AFTER  NODE  STAGE  PEER  WAY", "0 us author written",
		"nothing else is remembered: that was too long, or too many changes, ago",
	}
	space := regexp.MustCompile(` +`)
	if got, want := space.ReplaceAllString(strings.Join(seen, "\n"), " "), space.ReplaceAllString(strings.Join(want, "\n"), " "); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
