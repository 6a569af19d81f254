// Command pando runs a Pando node and talks to one.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/keyring"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is the whole command: its result is the exit code.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once

	c := &command{in: in, out: out, err: errOut}
	root := c.root()
	refuseUnknown(root)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	c.rememberMet(err)
	err = c.unnamed(err)
	for _, node := range c.peers {
		node.Close() // else the node would wait for it
	}
	if err != nil {
		fmt.Fprintln(errOut, "pando:", printableLines(err.Error()))
	}
	return api.ExitCode(err)
}

// command is what all commands share: the streams, and the flags of the root.
type command struct {
	in       io.Reader
	out, err io.Writer
	peers    []*api.Client // that are reached over libp2p

	rootdir   string
	url       string
	logLevel  string
	logFormat string
	keyring   keyringFlags
	who       credentialFlags
	ring      *keyring.Keyring // once it was unlocked
}

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "pando",
		Short: "A peer-to-peer document database",
		Long: `Pando is a document database that needs no server: every node keeps its own copy,
answers queries by itself and merges with others when it meets them.

  pando start                    run a node
  pando share                    on one machine: print a ticket
  pando join TICKET              on another: get everything, and stay in sync
  pando demo                     see it happen, with two nodes on this machine

Every setting is a flag, or an environment variable PANDO_…; the flag wins.

Exit codes: 0 done · 1 unforeseen · 2 wrong input · 3 not found · 4 exists already · 5 conflict
            6 denied · 7 too large · 8 corrupt data · 9 unavailable · 10 closed`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			named := cmd.Flags().Changed("rootdir") && !cmd.Flags().Changed("url")
			err := applyEnv(cmd.Flags(), os.LookupEnv)
			if err == nil && c.rootdir == "" { // it would be the current one, or memory
				err = fault.Invalid.Errorf("--rootdir is empty: name a directory")
			}
			c.who.urlGiven, c.who.rootGiven, c.who.ctx = cmd.Flags().Changed("url"), cmd.Flags().Changed("rootdir"), cmd.Context()
			if named && hasSocket(c.rootdir) && cmd.Name() != "start" {
				// Who names a directory means the node in it, wherever the environment says that one is.
				c.url, c.who.urlGiven = api.DefaultAddress, false
			}
			return err
		},
		RunE: help,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fault.Invalid.Errorf("%w: see '%s --help'", err, cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&c.rootdir, "rootdir", defaultRootdir(), "directory of the node")
	f.StringVar(&c.url, "url", api.DefaultAddress, "HOST:PORT of the node's HTTP API; of another node also its multiaddr, with /p2p/PEERID")
	f.StringVar(&c.logLevel, "log-level", "info", "what to log: debug, info, warn or error")
	f.StringVar(&c.logFormat, "log-format", "text", "form of the log: text or json")
	settings(f, "rootdir", "url", "log-level", "log-format")
	c.keyring.add(f)
	c.who.add(f)
	root.AddCommand(
		c.startCommand(), c.shareCommand(), c.joinCommand(),
		c.schemaCommand(), c.aclCommand(), c.indexCommand(), c.viewCommand(), c.queryCommand(), c.importCommand(), c.exportCommand(), c.backupCommand(),
		c.statusCommand(), c.topCommand(), c.traceCommand(), c.verifyCommand(), c.blameCommand(), c.doctorCommand(), c.peerCommand(), c.hubCommand(), c.replicatorCommand(), c.keepCommand(), c.topicCommand(), c.nodeCommand(), c.tokenCommand(),
		c.fsckCommand(), c.benchCommand(), c.demoCommand(), c.versionCommand(),
		c.identityCommand(), c.keyringCommand(),
	)
	return root
}

func defaultRootdir() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ".pando"
	}
	return filepath.Join(home, ".pando")
}

// help is what a command that only groups others does.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// refuseUnknown makes the commands that the library brings fail where somebody names what is not
// there, as all others do: by themselves they show help, and end well.
func refuseUnknown(root *cobra.Command) {
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command", Example: "  pando help schema add",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return fault.Invalid.Errorf("%q is no command: see 'pando --help'", strings.Join(args, " "))
			}
			return about.Help()
		},
	})
	root.InitDefaultCompletionCmd()
	for _, sub := range root.Commands() {
		if sub.Name() == "completion" {
			sub.Args, sub.RunE = noArgs, help
		}
	}
}

// group is a command that only groups others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: noArgs, RunE: help}
	g.AddCommand(subs...)
	return g
}

// patience is how long a command waits for a node that was started just before it,
// as in a script. A start takes a fraction of a second.
const patience = 2 * time.Second

// logger writes to standard error: standard output belongs to results.
func (c *command) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return nil, fault.Invalid.Errorf("--log-level %q: want debug, info, warn or error", c.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch c.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(c.err, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(c.err, options)), nil
	}
	return nil, fault.Invalid.Errorf("--log-format %q: want text or json", c.logFormat)
}

// terminal reports whether a person looks at w.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalIn reports whether a person types.
func terminalIn(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return fault.Invalid.Errorf("%q is no command of '%s': see '%s --help'", args[0], cmd.CommandPath(), cmd.CommandPath())
	}
	return fault.Invalid.Errorf("%q is one argument too many: see '%s --help'", args[0], cmd.CommandPath())
}

// exactly refuses another number of arguments than the named ones.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fault.Invalid.Errorf("%s is missing: see '%s --help'", names[len(args)], cmd.CommandPath())
		case len(args) > len(names):
			return fault.Invalid.Errorf("%q is one argument too many: see '%s --help'", args[len(names)], cmd.CommandPath())
		}
		return nil
	}
}
