package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
)

func (c *command) peerList(cmd *cobra.Command, _ []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	if _, err := node.Peers(cmd.Context()); err != nil { // which says if there is no network
		return err
	}
	status, err := node.LocalStatus(cmd.Context())
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PEER\tLINK\tTRUSTED\tLAST SESSION\tADDRESS")
	for _, p := range status.Peers {
		trusted := "no"
		if p.Trusted {
			trusted = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.ID, link(p), trusted, sessionText(p.Session, status.At), cmp.Or(strings.Join(p.Addrs, " "), "-"))
	}
	return w.Flush()
}

func (c *command) peerShow(cmd *cobra.Command, args []string) error {
	wanted, err := peerID(args[0])
	if err != nil {
		return err
	}
	node, err := c.client()
	if err != nil {
		return err
	}
	if _, err := node.Peers(cmd.Context()); err != nil {
		return err
	}
	status, err := node.Status(cmd.Context())
	if err != nil {
		return err
	}
	p, err := findPeer(status.Peers, wanted)
	if err != nil {
		return err
	}
	return showPeer(c.out, p, status.At)
}

// findPeer returns the only peer whose id ends with some letters.
func findPeer(all []api.PeerStatus, end string) (found api.PeerStatus, err error) {
	end = strings.TrimPrefix(end, "…")
	n := 0
	for _, p := range all {
		if strings.HasSuffix(p.ID, end) {
			found = p
			n++
		}
	}
	switch {
	case n == 0 || end == "":
		return found, fault.NotFound.Errorf("no peer is known by %q: 'pando peer list' has them", end)
	case n > 1:
		return found, fault.Invalid.Errorf("%d peers end with %q: give more of the id", n, end)
	}
	return found, nil
}

func showPeer(out io.Writer, p api.PeerStatus, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(what, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, args...)) }
	line("peer", "%s", p.ID)
	if p.Connected {
		line("connected", "for %s, round trip %s", ago(now.Sub(p.Since)), millis(p.Millis))
	} else {
		line("connected", "no")
	}
	for _, one := range p.Connections {
		line("connection", "%s", connectionText(one))
	}
	for _, a := range p.Addrs {
		line("address", "%s", a)
	}
	line("trusted", "%t", p.Trusted)
	for _, a := range p.ActsFor {
		line("acts for", "%s, until %s", a.DID, a.Until.Local().Format(time.DateTime))
	}
	if p.Hub {
		line("hub", "true")
	}
	line("score", "%.0f", p.Score)
	line("received", "%s, %s/s", size(p.Received), size(uint64(p.ReceiveRate)))
	line("sent", "%s, %s/s", size(p.Sent), size(uint64(p.SendRate)))
	line("last session", "%s", sessionText(p.Session, now))
	if p.Session.Problem != "" {
		line("", "%s", p.Session.Problem)
	}
	if p.Problem != "" {
		line("problem", "%s", p.Problem)
	}
	if p.Hint != "" {
		line("hint", "%s", p.Hint)
	}
	if err := w.Flush(); err != nil || len(p.Collections) == 0 {
		return err
	}
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COLLECTION\tSTATE\tDOCUMENTS\tRECEIVED\tSENT\tINCOMPLETE HERE")
	for _, one := range p.Collections {
		fmt.Fprintf(w, "%s\t%s%s\t%s\t%s\t%s\t%s\n", one.Name, stateText(one), lagText(one, now), grouped(one.Documents),
			size(one.Received), size(one.Sent), grouped(one.Wants))
	}
	return w.Flush()
}

func connectionText(c api.Connection) string {
	text := c.Addr
	if c.Inbound {
		text += ", opened by the peer"
	}
	switch {
	case c.Relay == "":
		return text + ", direct"
	case c.Limited:
		return text + ", over relay " + shortID(c.Relay) + ", which carries little"
	}
	return text + ", over relay " + shortID(c.Relay)
}
