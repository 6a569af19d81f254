package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/p2p"
	"github.com/spf13/cobra"
)

func (c *command) topicCommand() *cobra.Command {
	pub := &cobra.Command{
		Use: "pub COLLECTION/ROOM [MESSAGE|-]", Short: "Send a message to everybody who listens to a topic",
		Long: `Send a message, or every line of standard input (-), to everybody who listens to a topic
at this moment. Nobody keeps it. Whoever may sync the collection may listen.`,
		Example: "  pando topic pub Note/lobby 'hello'\n  tail -f log | pando topic pub Note/log -",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 {
				return fault.Invalid.Errorf("%d arguments: want a topic and a message, in quotes: see '%s --help'", len(args), cmd.CommandPath())
			}
			return nil
		},
		RunE: c.topicPub,
	}
	var presence, raw bool
	var state string
	sub := &cobra.Command{
		Use: "sub COLLECTION/ROOM", Short: "Print what is said in a topic, until it is interrupted",
		Long:    "Print what is said in a topic, one message to a line, until it is interrupted. Others who\nlisten see that this node does.",
		Example: "  pando topic sub Note/lobby --presence --state 'Ada'",
		Args:    exactly("COLLECTION/ROOM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.topicSub(cmd, args[0], api.TopicOptions{Presence: presence, State: state}, raw)
		},
	}
	f := sub.Flags()
	f.BoolVar(&presence, "presence", false, "print who comes and goes, too")
	f.StringVar(&state, "state", "", "what others see of this node in the topic, such as a name")
	f.BoolVar(&raw, "json", false, "print messages as JSON")
	who := &cobra.Command{
		Use: "who COLLECTION/ROOM", Example: "  pando topic who Note/lobby", Short: "List who listens to a topic", Args: exactly("COLLECTION/ROOM"), RunE: c.topicWho,
	}
	list := &cobra.Command{Use: "list", Short: "List the topics that the node takes part in", Args: noArgs, RunE: c.topicList}
	return group("topic", "Talk to others who sync a collection, without storing anything", pub, sub, who, list)
}

func (c *command) topicPub(cmd *cobra.Command, args []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	if len(args) == 2 && args[1] != "-" {
		peers, err := node.Publish(cmd.Context(), args[0], []byte(args[1]))
		if err == nil && peers == 0 {
			fmt.Fprintln(c.err, "note: no connected peer takes part in this topic: nobody else has heard it")
		}
		return err
	}
	lines := bufio.NewScanner(c.in)
	lines.Buffer(nil, p2p.MaxTopicMessage+1)
	for lines.Scan() {
		if err := publishLine(cmd.Context(), node, args[0], lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fault.TooLarge.Errorf("a line has more than %d bytes", p2p.MaxTopicMessage)
	} else if err != nil {
		return fault.Invalid.Errorf("read standard input: %w", err)
	}
	return nil
}

// publishLine sends a line, and tries again while lines come faster than the node lets
// pass.
func publishLine(ctx context.Context, node *api.Client, topic string, line []byte) error {
	for {
		_, err := node.Publish(ctx, topic, line)
		if !api.Busy(err) {
			return err
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *command) topicSub(cmd *cobra.Command, topic string, o api.TopicOptions, raw bool) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	ready := func() { fmt.Fprintf(c.err, "note: listening to %s\n", topic) }
	err = node.Listen(cmd.Context(), topic, o, ready, func(m api.TopicMessage) error {
		if raw {
			return json.NewEncoder(c.out).Encode(m)
		}
		return printTopicMessage(c.out, m)
	})
	if cmd.Context().Err() != nil {
		return nil // the person has heard enough
	}
	return err
}

func printTopicMessage(w io.Writer, m api.TopicMessage) error {
	at := m.Time.Local().Format(time.TimeOnly)
	if m.Dropped > 0 {
		fmt.Fprintf(w, "%s  … %d messages lost: this reader did not keep up\n", at, m.Dropped)
	}
	text := printable(string(m.Data()))
	var err error
	switch {
	case m.Kind == p2p.Said:
		_, err = fmt.Fprintf(w, "%s  %s  %s\n", at, shortDID(m.From), text)
	case text != "":
		_, err = fmt.Fprintf(w, "%s  %s  * %s: %s\n", at, shortDID(m.From), m.Kind, text)
	default:
		_, err = fmt.Fprintf(w, "%s  %s  * %s\n", at, shortDID(m.From), m.Kind)
	}
	return err
}

// shortDID is enough of a DID for a person to tell some apart. All of Ed25519 begin
// the same, so it is the end.
func shortDID(did string) string { return "…" + did[max(len(did)-8, 0):] }

func (c *command) topicWho(cmd *cobra.Command, args []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	here, err := node.Present(cmd.Context(), args[0])
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DID\tSINCE\tSTATE")
	for _, m := range here {
		state := m.Text
		if m.Bytes != nil {
			state = string(m.Bytes)
		}
		if m.Self {
			state = strings.TrimSpace(state + " (this node)")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", m.DID, m.Since.Local().Format(time.TimeOnly), printable(state))
	}
	return w.Flush()
}

func (c *command) topicList(cmd *cobra.Command, _ []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	all, err := node.Topics(cmd.Context())
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tLISTENERS\tPRESENT\tPEERS\tHEARD\tDROPPED")
	for _, t := range all {
		listeners := fmt.Sprint(t.Listeners)
		if t.Carried {
			listeners = "carried"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\n", printable(t.Name), listeners, t.Present, t.Peers, t.Heard, t.Dropped)
	}
	return w.Flush()
}
