package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/p2p"
)

// screen draws what is known, cut to a width and a height; 0 is without end.
func (s *topState) screen(now time.Time, width, height int, paused bool) string {
	var b strings.Builder
	st := s.now
	switch {
	case st.At.IsZero() && s.problem != nil:
		fmt.Fprintf(&b, "%v\n", s.problem)
		return cut(b.String(), width, height)
	case st.Peer == "" && st.At.IsZero() && len(st.Collections) == 0:
		return cut("waiting for the node …\n", width, height)
	}
	s.head(&b, now, paused)
	section(&b, "PEER\tLINK\tRTT\tIN/s\tOUT/s\tLAST SESSION\tSCORE", s.peerRows(now))
	section(&b, "COLLECTION\tDOCUMENTS\tIN/s\tOUT/s\tCOPIES", s.collectionRows(now))
	section(&b, "QUEUE\tWAITING\tOF", s.queueRows())
	section(&b, "PUSHED TO\tSTATE\tBEHIND", s.replicatorRows())
	return cut(b.String(), width, height)
}

func (s *topState) head(b *strings.Builder, now time.Time, paused bool) {
	st := s.now
	connected := 0
	for _, p := range st.Peers {
		if p.Connected {
			connected++
		}
	}
	fmt.Fprintf(b, "pando %s  up %s  %s, %d connected", shortID(st.Peer), ago(now.Sub(st.Started)), plural(len(st.Peers), "peer"), connected)
	if st.Peer == "" {
		fmt.Fprint(b, " (without a network)")
	}
	if paused {
		fmt.Fprint(b, "  PAUSED")
	}
	fmt.Fprintf(b, "\nin %s/s  out %s/s", size(uint64(st.Traffic.ReceiveRate)), size(uint64(st.Traffic.SendRate)))
	if st.Delay.Changes > 0 {
		fmt.Fprintf(b, "  changes of others after %s (99 %%: %s)", millis(st.Delay.P50), millis(st.Delay.P99))
	}
	fmt.Fprintf(b, "  incomplete %s", grouped(st.Wanted.Documents))
	if st.Wanted.Stuck > 0 {
		fmt.Fprintf(b, ", %s STUCK", grouped(st.Wanted.Stuck))
	}
	if lines := mismatches(st); len(lines) > 0 {
		fmt.Fprintf(b, "  MISMATCH: see pando status")
	}
	if s.problem != nil {
		fmt.Fprintf(b, "\n%v; what is shown is %s old", s.problem, ago(now.Sub(st.At)))
	}
	b.WriteByte('\n')
}

func (s *topState) peerRows(now time.Time) (rows []string) {
	rtt := map[string]float64{}
	for _, p := range s.compared.Peers {
		rtt[p.ID] = p.Millis
	}
	peers := slices.Clone(s.now.Peers)
	slices.SortStableFunc(peers, func(a, b api.PeerStatus) int { // who is connected first, then who moves most
		switch {
		case a.Connected != b.Connected && a.Connected, a.Connected == b.Connected && a.SendRate+a.ReceiveRate > b.SendRate+b.ReceiveRate+1:
			return -1
		case a.Connected != b.Connected, b.SendRate+b.ReceiveRate > a.SendRate+a.ReceiveRate+1:
			return 1
		}
		return 0
	})
	for _, p := range peers {
		trip := "-"
		if p.Connected && rtt[p.ID] > 0 {
			trip = millis(rtt[p.ID])
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%.0f", shortID(p.ID), link(p), trip,
			rate(p.ReceiveRate), rate(p.SendRate), sessionText(p.Session, now), p.Score))
	}
	return rows
}

func (s *topState) collectionRows(now time.Time) (rows []string) {
	for _, c := range s.now.Collections {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", c.Name, grouped(c.Documents), rate(c.ReceiveRate), rate(c.SendRate), s.copies(c, now)))
	}
	return rows
}

// copies says how the copies of the peers compare, as of the last comparison.
func (s *topState) copies(c api.CollectionStatus, now time.Time) string {
	identical, unreachable := 0, 0
	var others []string
	for _, p := range s.compared.Peers {
		for _, one := range p.Collections {
			switch {
			case one.Name != c.Name:
			case one.State == p2p.Identical:
				identical++
			case one.State == p2p.Unreachable:
				unreachable++
			default:
				others = append(others, shortID(p.ID)+" "+stateText(one)+lagText(one, s.compared.At))
			}
		}
	}
	var parts []string
	if identical > 0 {
		parts = append(parts, fmt.Sprintf("%d identical", identical))
	}
	parts = append(parts, others...)
	if unreachable > 0 {
		parts = append(parts, fmt.Sprintf("%d unreachable", unreachable))
	}
	if c.Kept != "" {
		parts = append(parts, "kept here: "+c.Kept)
	}
	if c.Incomplete {
		parts = append(parts, "still copied")
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ", ") + " (" + ago(now.Sub(s.compared.At)) + " ago)"
}

// queueRows shows the queues in which something waits, and always those that tell most.
func (s *topState) queueRows() (rows []string) {
	for _, q := range s.now.Queues {
		if q.Items == 0 && q.Name != "inbox" && q.Name != "wants" {
			continue
		}
		of, items := "-", grouped(q.Items)
		if q.Limit > 0 {
			of = grouped(q.Limit)
		}
		if q.Bytes > 0 {
			items += " (" + size(q.Bytes) + ")"
		}
		rows = append(rows, q.Name+"\t"+items+"\t"+of)
	}
	return rows
}

func (s *topState) replicatorRows() (rows []string) {
	for _, r := range s.now.Pushed {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", shortID(r.Info.ID), r.State, grouped(r.Behind)))
	}
	return rows
}

// section writes a table, if it has rows.
func section(b *strings.Builder, head string, rows []string) {
	if len(rows) == 0 {
		return
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, head)
	for _, row := range rows {
		fmt.Fprintln(w, row)
	}
	w.Flush() // into memory
}

// cut makes a text fit: lines that are too long end with …, and so does a text of too
// many.
func cut(text string, width, height int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if height > 0 && len(lines) > height {
		left := len(lines) - height + 1
		lines = append(lines[:height-1], fmt.Sprintf("… %d lines more", left))
	}
	for i, line := range lines {
		line = strings.TrimRight(line, " ")
		if width > 0 && utf8.RuneCountInString(line) > width {
			line = string([]rune(line)[:width-1]) + "…"
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n") + "\n"
}

// shortID is the end of a peer's id: they all begin alike.
func shortID(id string) string {
	if len(id) <= 8 {
		return id
	}
	return "…" + id[len(id)-8:]
}

// link says how a peer is connected.
func link(p api.PeerStatus) string {
	switch {
	case !p.Connected:
		return "no"
	case len(p.Connections) == 0:
		return "yes"
	case p.Connections[0].Relay == "":
		return "direct"
	case p.Connections[0].Limited:
		return "relay, limited"
	}
	return "relay"
}

func sessionText(l api.Session, now time.Time) string {
	switch {
	case l.At.IsZero():
		return "-"
	case l.Problem != "":
		return ago(now.Sub(l.At)) + " ago: failed"
	}
	text := ago(now.Sub(l.At)) + " ago"
	if l.Applied > 0 {
		text += ", " + grouped(l.Applied) + " in"
	}
	if l.Sent > 0 {
		text += ", " + grouped(l.Sent) + " out"
	}
	return text
}

// lagText says since when a copy may differ.
func lagText(c api.PeerCollection, now time.Time) string {
	if c.State == p2p.Identical || c.Same.IsZero() {
		return ""
	}
	return ", the same " + ago(now.Sub(c.Same)) + " ago"
}

func rate(r float64) string {
	if r < 1 {
		return "-"
	}
	return size(uint64(r))
}

func millis(ms float64) string { return took(time.Duration(ms * float64(time.Millisecond))) }

// ago writes a time that has passed, coarsely.
func ago(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
