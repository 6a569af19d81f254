package main

import (
	"context"
	"fmt"
	"io"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
)

const (
	// topEvery is how often the figures of the node are read, which costs it little, and
	// topCompare how often it compares its copies with those of its peers.
	topEvery   = time.Second
	topCompare = 5 * time.Second
	// topTimeout is how long the node may take to answer.
	topTimeout = 10 * time.Second
)

func (c *command) topCommand() *cobra.Command {
	var once, plain bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch peers, rates, lag and queues of a node live",
		Long: `Watch the node live: its peers and how their copies compare, how fast bytes come and go, for
how long copies have not been the same, and what waits in its queues. The states of copies
are of the last comparison, whose age is shown. Keys: q quits, p pauses, c compares at once.

Without a terminal, or with --plain, it prints one block after the other; with --once a
single one.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return fault.Invalid.Errorf("--every %v: want at least 100ms", every)
			}
			node, err := c.client()
			if err != nil {
				return err
			}
			t := &top{node: node, every: every}
			if once || plain || !terminal(c.out) || !terminalIn(c.in) {
				return t.print(cmd.Context(), c.out, once)
			}
			// The first answer before the screen: who mistyped the address is told so.
			if err := t.read(cmd.Context(), true).err; err != nil {
				return err
			}
			_, err = tea.NewProgram(t, tea.WithContext(cmd.Context()), tea.WithInput(c.in), tea.WithOutput(c.out)).Run()
			if cmd.Context().Err() != nil {
				return nil // an interrupt is how it ends
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print the figures of now and end")
	cmd.Flags().BoolVar(&plain, "plain", false, "print one block after the other, without a screen")
	cmd.Flags().DurationVar(&every, "every", topEvery, "how often figures are read")
	return cmd
}

// top is what the screen shows, and how it is kept up to date.
type top struct {
	node   *api.Client
	every  time.Duration
	shown  topState
	width  int
	height int
	paused bool
}

// topState is what is known of a node.
type topState struct {
	now      api.Status // of a moment ago, without states
	compared api.Status // whose peers have states
	problem  error      // why there is nothing newer
}

// reading is an answer of the node.
type reading struct {
	status api.Status
	asked  bool // the peers, for states
	err    error
}

// Init starts to read.
func (t *top) Init() tea.Cmd { return t.readLater(0, true) }

// Update takes in what the node answered, and what keys say.
func (t *top) Update(m tea.Msg) (tea.Model, tea.Cmd) {
	switch m := m.(type) {
	case tea.WindowSizeMsg:
		t.width, t.height = m.Width, m.Height
	case tea.KeyPressMsg:
		switch m.String() {
		case "q", "esc", "ctrl+c":
			return t, tea.Quit
		case "p", "space":
			t.paused = !t.paused
		case "c":
			return t, func() tea.Msg { return t.read(context.Background(), true).once() }
		}
	case reading:
		if !t.paused {
			t.shown.take(m)
		}
		due := t.shown.compared.At.IsZero() || time.Since(t.shown.compared.At) >= topCompare
		return t, t.readLater(t.every, due)
	case extra:
		t.shown.take(reading(m))
	}
	return t, nil
}

// extra is an answer besides the regular ones.
type extra reading

func (f reading) once() extra { return extra(f) }

// View draws the screen.
func (t *top) View() tea.View {
	v := tea.NewView(t.shown.screen(time.Now(), t.width, t.height, t.paused))
	v.AltScreen = true
	v.WindowTitle = "pando top"
	return v
}

func (t *top) readLater(after time.Duration, compare bool) tea.Cmd {
	return tea.Tick(max(after, time.Millisecond), func(time.Time) tea.Msg { return t.read(context.Background(), compare) })
}

func (t *top) read(ctx context.Context, compare bool) reading {
	ctx, cancel := context.WithTimeout(ctx, topTimeout)
	defer cancel()
	ask := t.node.LocalStatus
	if compare {
		ask = t.node.Status
	}
	st, err := ask(ctx)
	return reading{st, compare, err}
}

func (s *topState) take(f reading) {
	if s.problem = f.err; f.err != nil {
		return
	}
	s.now = f.status
	if f.asked {
		s.compared = f.status
	}
}

// print shows the figures without a screen, once or until ctx ends.
func (t *top) print(ctx context.Context, out io.Writer, once bool) error {
	for {
		f := t.read(ctx, true)
		if f.err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return f.err
		}
		t.shown.take(f)
		if _, err := fmt.Fprintln(out, t.shown.screen(time.Now(), 0, 0, false)); err != nil || once {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(t.every):
		}
	}
}
