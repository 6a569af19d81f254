package p2p

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A peer that hangs, and one that was stopped, are told as what they are.
func TestPeersThatAreAwayAreToldPlainly(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(2)
		a, b := ms[0], ms[1]
		addSchema(t, a.db, schemaText)
		startAll(ms)
		converge(t, time.Minute, ms...)
		w.cut(ms[:1], ms[1:])
		st, err := a.node.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if p := st.Peers[0].Problem; !strings.Contains(p, "stands still") || strings.Contains(p, "code") {
			t.Errorf("of a peer that does not answer: %q", p)
		}
		w.heal(ms[:1], ms[1:])
		converge(t, 5*time.Minute, ms...)
		b.stop()
		time.Sleep(time.Minute)
		for _, p := range a.node.Peers() {
			if p.Connected || strings.Contains(p.Problem, "speak") {
				t.Errorf("of a peer that was stopped: %+v", p)
			}
		}
	})
}

// Who asks with a ticket, before anything is shared, hears that the clocks are apart.
func TestTheDoctorComparesClocksByATicket(t *testing.T) {
	model(t, 2, func(t *testing.T, _ *modelNet, ms []*machine) {
		addSchema(t, ms[0].db, schemaText)
		ms[1].skew.Store(int64(-24 * time.Hour))
		for _, m := range ms {
			m.join()
		}
		createUsers(t, ms[0].db, "a", 1)
		ticket, err := ms[0].node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		all, err := ms[1].node.Examine(t.Context(), ticket)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.About == "clock" && f.Grade == Problem && strings.Contains(f.Text, "24h") && strings.Contains(f.Text, "behind") {
				return
			}
		}
		t.Errorf("not a word of the clocks in %+v", all)
	})
}

// What a peer says of why it refuses is shown to people, and does nothing to their terminal.
func TestWhatAPeerSaysMovesNoCursor(t *testing.T) {
	said := &refuse{Code: refusedInvalid, Text: "no\x1b[2J\x07\u009b1m\u202e" + strings.Repeat("\u00e9", 600)}
	m, err := decode(1, said.append(nil))
	if err != nil {
		t.Fatal(err)
	}
	got := m.(*refuse).Error()
	if strings.ContainsAny(got, "\x1b\x07\u009b\u202e") || !strings.Contains(got, "no\uFFFD[2J") || len(got) > 3*maxReason || !utf8.ValidString(got) {
		t.Errorf("it is shown as %q", got)
	}
}
