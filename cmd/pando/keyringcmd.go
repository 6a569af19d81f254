package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/keyring"
	"github.com/spf13/cobra"
)

func (c *command) keyringCommand() *cobra.Command {
	g := group("keyring", "See and change where your secrets are",
		c.keyringStatusCommand(), c.keyringListCommand(), c.newStoreKeyCommand(),
		c.exportSecretCommand(""), c.importSecretCommand(""), c.removeSecretCommand(""),
		c.keyringPassphraseCommand(), c.keyringMoveCommand())
	g.Long = `See and change where your secrets are: the keys of your identities, and those that stores are
encrypted with. They are in one file of your own, not in the directory of a node. It is
encrypted with a key that the keyring of the operating system keeps, or, where there is none,
with a passphrase: from --keyring-passphrase-file, from the environment (` + passphraseEnv + `),
or typed.`
	return g
}

func (c *command) keyringStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Tell where the keyring is, and what protects it", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := c.keyringOptions(cmd.Context())
			if err != nil {
				return err
			}
			s, err := keyring.Stat(o)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "file\t%s\n", s.Path)
			fmt.Fprintf(w, "protected by\t%s\n", protection(s.Backend))
			works := "works"
			if s.System != nil {
				works = s.System.Error()
			}
			fmt.Fprintf(w, "keyring of the system\t%s\n", works)
			return w.Flush()
		},
	}
}

func protection(b keyring.Backend) string {
	switch b {
	case keyring.System:
		return "a key in the keyring of the system (" + string(b) + ")"
	case keyring.File:
		return "a passphrase (" + string(b) + ")"
	case keyring.Plain:
		return "nothing: it is for development only (" + string(b) + ")"
	}
	return "there is no keyring yet: it is made with the first secret"
}

func (c *command) keyringListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the secrets by name", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := c.openKeyring(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tIS\tSINCE\tDID")
			for _, e := range k.List() {
				is := "store key"
				if e.Kind == keyring.Identity {
					is = "identity"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.Name, is, e.Made.Format("2006-01-02"), e.DID)
			}
			return w.Flush()
		},
	}
}

func (c *command) newStoreKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "new-store-key NAME", Short: "Make a key that a store is encrypted with", Args: exactly("NAME"),
		Long: `Make a key that a store is encrypted with, and keep it in your keyring. A lost key is a lost
database: keep a copy, see pando keyring export --help.`,
		Example: `  pando keyring new-store-key laptop
  pando start --store-key laptop`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := keyring.CheckName(args[0]); err != nil {
				return err
			}
			k, err := c.openKeyring(cmd.Context())
			if err != nil {
				return err
			}
			if err := k.AddStore(args[0], keyring.NewStoreKey()); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s  store key: a lost key is a lost database, so keep a copy: pando keyring export %s FILE\n", args[0], args[0])
			return nil
		},
	}
}

func (c *command) keyringPassphraseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "passphrase", Short: "Change the passphrase", Args: noArgs,
		Long: `Change the passphrase of a keyring that has one. A copy of the file from before opens with the
old one.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := c.openKeyring(cmd.Context())
			if err != nil {
				return err
			}
			if b := k.Backend(); b != keyring.File && b != "" {
				return fault.Invalid.Errorf("the keyring %s has no passphrase, but is protected by %s: see pando keyring move --help", k.Path(), protection(b))
			}
			c.keyring.changing = true
			return c.moveKeyring(k, keyring.File)
		},
	}
	c.newPassphraseFlag(cmd)
	return cmd
}

func (c *command) keyringMoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "move system|file|plain", Short: "Change what protects the keyring", Args: exactly("system, file or plain"), Example: "  pando keyring move file",
		Long: `Change what protects the keyring: system is a key in the keyring of the operating system, file
is a passphrase, plain is nothing, for development. Secrets and names stay as they are.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := keyring.ParseBackend(args[0])
			if err != nil {
				return err
			}
			k, err := c.openKeyring(cmd.Context())
			if err != nil {
				return err
			}
			return c.moveKeyring(k, to)
		},
	}
	c.newPassphraseFlag(cmd)
	return cmd
}

func (c *command) newPassphraseFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.keyring.next, "new-passphrase-file", "", "file with the passphrase to choose; default: ask for it")
}

func (c *command) moveKeyring(k *keyring.Keyring, to keyring.Backend) error {
	if err := k.Move(to); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s is protected by %s\n", k.Path(), protection(to))
	return nil
}

// storeKey returns a key of the keyring that a store is encrypted with.
func (c *command) storeKey(ctx context.Context, name string) ([]byte, error) {
	k, err := c.openKeyring(ctx)
	if err != nil {
		return nil, err
	}
	key, err := k.Store(name)
	if err != nil {
		return nil, err
	}
	return key.Bytes(), nil
}
