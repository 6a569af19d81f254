package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/keyring"
	"github.com/spf13/cobra"
)

func (c *command) identityCommand() *cobra.Command {
	g := group("identity", "Make and keep the keys that you own documents with",
		c.identityNewCommand(), c.identityListCommand(), c.identityShowCommand(),
		c.exportSecretCommand(keyring.Identity), c.importSecretCommand(keyring.Identity), c.removeSecretCommand(keyring.Identity))
	g.Long = `Make and keep the keys that you own documents with.

An identity is a key pair. Its DID, such as did:key:z6Mk…, is its name to others, and says
nothing that is secret; the secret key stays in your keyring. See pando keyring --help.`
	g.Example = `  pando identity new ada
  pando start --identity ada`
	return g
}

// algorithms are the names of signature schemes on the command line.
var algorithms = []struct {
	name string
	alg  ident.Algorithm
}{{"ed25519", ident.EdDSA}, {"secp256k1", ident.ES256K}, {"p256", ident.ES256}}

func parseAlgorithm(name string) (ident.Algorithm, error) {
	for _, a := range algorithms {
		if a.name == name {
			return a.alg, nil
		}
	}
	return "", fault.Invalid.Errorf("--algorithm %q: want ed25519, secp256k1 or p256", name)
}

func algorithmName(alg ident.Algorithm) string {
	for _, a := range algorithms {
		if a.alg == alg {
			return a.name
		}
	}
	return string(alg)
}

func (c *command) identityNewCommand() *cobra.Command {
	var algorithm string
	cmd := &cobra.Command{
		Use: "new NAME", Example: "  pando identity new ada", Short: "Make a new identity", Args: exactly("NAME"),
		Long: `Make a new identity, and keep its key in your keyring under a name of your choice. The name
is for you alone. A key cannot be made again: keep a copy, see pando identity export --help.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.identityNew(cmd.Context(), args[0], algorithm)
		},
	}
	cmd.Flags().StringVar(&algorithm, "algorithm", "ed25519", "kind of key: ed25519, secp256k1 or p256")
	return cmd
}

func (c *command) identityNew(ctx context.Context, name, algorithm string) error {
	alg, err := parseAlgorithm(algorithm)
	if err != nil {
		return err
	}
	if err := keyring.CheckName(name); err != nil {
		return err
	}
	k, err := c.openKeyring(ctx)
	if err != nil {
		return err
	}
	key, err := ident.Generate(alg)
	if err != nil {
		return err
	}
	if err := k.AddIdentity(name, key); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s  %s\n", name, key.DID())
	return nil
}

func (c *command) identityListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List your identities", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := c.openKeyring(cmd.Context())
			if err != nil {
				return err
			}
			list := slices.DeleteFunc(k.List(), func(e keyring.Entry) bool { return e.Kind != keyring.Identity })
			if len(list) == 0 {
				fmt.Fprintln(c.out, "no identities yet: make one with: pando identity new NAME")
				return nil
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tALGORITHM\tDID")
			for _, e := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\n", e.Name, didAlgorithm(e.DID), e.DID)
			}
			return w.Flush()
		},
	}
}

func didAlgorithm(d ident.DID) string {
	k, err := d.PublicKey()
	if err != nil {
		return "?"
	}
	return algorithmName(k.Algorithm())
}

func (c *command) identityShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show NAME|FILE", Example: "  pando identity show ada", Short: "Show the DID and the public key of an identity", Args: exactly("NAME"),
		Long: `Show the DID and the public key of an identity of your keyring, or of a file with a key, such
as ~/.pando/node.key. Both are for others to know.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := c.identity(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.showIdentity(key.Public(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *command) showIdentity(key ident.PublicKey, asJSON bool) error {
	const multicodec = 2 // bytes that name the algorithm
	algorithm, public := algorithmName(key.Algorithm()), hex.EncodeToString([]byte(key[multicodec:]))
	if asJSON {
		return printJSON(c.out, map[string]string{"did": key.String(), "algorithm": algorithm, "publicKey": public})
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "did\t%s\nalgorithm\t%s\npublic key\t%s\n", key, algorithm, public)
	return w.Flush()
}

// exportSecretCommand copies a secret out of the keyring; of any kind, or of one.
func (c *command) exportSecretCommand(kind keyring.Kind) *cobra.Command {
	return &cobra.Command{
		Use: "export NAME FILE|-", Short: "Copy " + secretNoun(kind) + " to a file", Args: exactly("NAME", "FILE"),
		Example: secretExample(kind, "export %s %s.key"),
		Long: `Copy ` + secretNoun(kind) + ` to a new file that you alone can read, or to standard output if - is
written for it. It is not encrypted: whoever has the copy has the secret.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.exportSecret(cmd.Context(), args[0], args[1], kind)
		},
	}
}

func (c *command) exportSecret(ctx context.Context, name, file string, kind keyring.Kind) error {
	k, err := c.openKeyring(ctx)
	if err != nil {
		return err
	}
	if kind == "" {
		e, err := k.Entry(name)
		if err != nil {
			return err
		}
		kind = e.Kind
	}
	var text []byte
	if kind == keyring.Identity {
		key, err := k.Identity(name)
		if err != nil {
			return err
		}
		text = key.Text()
	} else {
		key, err := k.Store(name)
		if err != nil {
			return err
		}
		text = []byte(hex.EncodeToString(key.Bytes()) + "\n")
	}
	if file == "-" {
		_, err := c.out.Write(text)
		return err
	}
	if err := writeSecret(file, text); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "wrote %s: it is not encrypted, keep it where nobody else comes\n", file)
	return nil
}

// importSecretCommand puts a secret into the keyring; of any kind, or of one.
func (c *command) importSecretCommand(kind keyring.Kind) *cobra.Command {
	var algorithm string
	cmd := &cobra.Command{
		Use: "import NAME FILE|-", Short: "Put " + secretNoun(kind) + " of a file into your keyring", Args: exactly("NAME", "FILE"),
		Example: secretExample(kind, "import %s %s.key"),
		Long: `Put ` + secretNoun(kind) + ` of a file, or of standard input, into your keyring under a new name. An
identity is what export wrote, a node.key, what DefraDB's identity new printed, or with
--algorithm the secret key alone in hexadecimal.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.importSecret(cmd.Context(), args[0], args[1], kind, algorithm)
		},
	}
	if kind == "" {
		cmd.Long += "\nA store key is 64 hexadecimal digits."
	}
	cmd.Flags().StringVar(&algorithm, "algorithm", "", "what a secret key in hexadecimal is for: ed25519, secp256k1 or p256")
	return cmd
}

func (c *command) importSecret(ctx context.Context, name, file string, kind keyring.Kind, algorithm string) error {
	if err := keyring.CheckName(name); err != nil {
		return err
	}
	raw, err := c.readSecretOrInput(file)
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(raw))
	if kind == "" && algorithm == "" && isStoreKey(text) {
		key, err := parseStoreKey(text)
		if err != nil {
			return err
		}
		k, err := c.openKeyring(ctx)
		if err != nil {
			return err
		}
		if err := k.AddStore(name, key); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%s  store key\n", name)
		return nil
	}
	key, err := parseIdentity(text, algorithm)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	k, err := c.openKeyring(ctx)
	if err != nil {
		return err
	}
	if err := k.AddIdentity(name, key); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s  %s\n", name, key.DID())
	return nil
}

func (c *command) readSecretOrInput(file string) ([]byte, error) {
	if file == "-" {
		return readLimited(c.in, "standard input")
	}
	return readSecret(file)
}

// removeSecretCommand forgets a secret; of any kind, or of one.
func (c *command) removeSecretCommand(kind keyring.Kind) *cobra.Command {
	var sure bool
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Forget " + secretNoun(kind), Args: exactly("NAME"),
		Example: secretExample(kind, "remove %s"),
		Long: `Forget ` + secretNoun(kind) + `. Without a copy it is lost for ever, and with it what only its owner may do
or read.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.removeSecret(cmd.Context(), args[0], kind, sure)
		},
	}
	cmd.Flags().BoolVar(&sure, "yes", false, "do not ask")
	return cmd
}

func (c *command) removeSecret(ctx context.Context, name string, kind keyring.Kind, sure bool) error {
	k, err := c.openKeyring(ctx)
	if err != nil {
		return err
	}
	e, err := k.Entry(name)
	if err != nil {
		return err
	}
	if kind != "" && e.Kind != kind {
		return fault.Invalid.Errorf("%q is no identity: see pando keyring remove --help", name)
	}
	if !sure {
		if err := c.confirm(fmt.Sprintf("Without a copy, %s is lost for ever. Type its name to remove it: ", describe(e)), name); err != nil {
			return err
		}
	}
	if err := k.Remove(name); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "removed %s\n", name)
	return nil
}

// confirm asks a person to type a word, and gives Denied to who does not.
func (c *command) confirm(question, word string) error {
	if !terminal(c.err) || !terminalIn(c.in) {
		return fault.Denied.Errorf("nothing was removed: say --yes if you are sure, there is no terminal to ask at")
	}
	fmt.Fprint(c.err, question)
	var answer string
	if _, err := fmt.Fscanln(io.LimitReader(c.in, maxSecretFile), &answer); err != nil || answer != word {
		return fault.Denied.Errorf("nothing was removed")
	}
	return nil
}

func describe(e keyring.Entry) string {
	if e.Kind == keyring.Identity {
		return fmt.Sprintf("the identity %s (%s)", e.Name, e.DID)
	}
	return "the store key " + e.Name + ", and what is encrypted with it,"
}

// secretNoun is what a command about a kind of secret is about.
func secretNoun(kind keyring.Kind) string {
	if kind == keyring.Identity {
		return "the secret key of an identity"
	}
	return "a secret"
}

// secretExample shows how a command about a kind of secret is used, with a name for each %s.
func secretExample(kind keyring.Kind, use string) string {
	group, name := "keyring", "laptop"
	if kind == keyring.Identity {
		group, name = "identity", "ada"
	}
	return "  pando " + group + " " + strings.ReplaceAll(use, "%s", name)
}
