package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/spf13/cobra"
)

func (c *command) aclCommand() *cobra.Command {
	acl := group("acl", "See and change who may read and write documents",
		c.policyCommand(), c.shareDocumentCommand(), c.unshareDocumentCommand(), c.aclShowCommand(), c.aclCheckCommand(), c.transferCommand(), c.acceptCommand())
	acl.Long = `See and change who may read and write documents of collections with a policy. A policy says
which relations there are and what they permit; it is added once, and types name it:

  pando acl policy add notes.yaml
  echo 'type Note @policy(id: "…", resource: "note") { text: String }' | pando schema add -
  pando acl grant DOC reader did:key:z6Mk…

Whoever creates a document owns it. -i says who you are.`
	return acl
}

func (c *command) policyCommand() *cobra.Command {
	add := &cobra.Command{
		Use: "add FILE|-", Short: "Make a policy known, and print its ID", Args: exactly("FILE"),
		Long: `Make a policy known, a file in YAML or JSON as DefraDB has them, and print its ID, which types
name. A policy that says the same has the same ID on every node.`,
		Example: "  pando acl policy add notes.yaml",
		RunE: c.withNode(func(ctx context.Context, node *api.Client, args []string) error {
			text, err := c.readText(args[0])
			if err != nil {
				return err
			}
			id, err := node.AddPolicy(ctx, text)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.out, id)
			return nil
		}),
	}
	list := &cobra.Command{
		Use: "list", Short: "List the policies that the node knows", Args: noArgs,
		RunE: c.withNode(func(ctx context.Context, node *api.Client, _ []string) error {
			all, err := node.Policies(ctx)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "POLICY\tNAME\tRESOURCES")
			for _, p := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\n", p.PolicyID, printable(p.Name), strings.Join(p.Resources, " "))
			}
			return w.Flush()
		}),
	}
	show := &cobra.Command{
		Use: "show ID", Example: "  pando acl policy show bafkrei… > notes.json", Short: "Print a policy, as a file that can be added elsewhere", Args: exactly("ID"),
		RunE: c.withNode(func(ctx context.Context, node *api.Client, args []string) error {
			raw, err := node.Policy(ctx, args[0])
			if err != nil {
				return err
			}
			var b bytes.Buffer
			if err := json.Indent(&b, raw, "", "  "); err != nil {
				return err
			}
			fmt.Fprintln(c.out, b.String())
			return nil
		}),
	}
	return group("policy", "Add, list and show policies", add, list, show)
}

func (c *command) shareDocumentCommand() *cobra.Command {
	return &cobra.Command{
		Use: "grant DOC RELATION DID|DOC#RELATION|*", Short: "Give somebody a relation to a document",
		Long: `Give somebody a relation to a document: the owner of a DID, everybody who has a relation to
another document, which is a group then, or * for everyone. The owner may, and who has a
relation that manages the one that is given.`,
		Example: `  pando acl grant bafkrei… reader did:key:z6Mk…
  pando acl grant bafkrei… reader 'bafkrei…#member'
  pando acl grant bafkrei… reader '*'`,
		Args: exactly("DOC", "RELATION", "DID"),
		RunE: c.withNode(func(ctx context.Context, node *api.Client, args []string) error {
			was, err := node.GrantDocument(ctx, args[0], args[1], args[2])
			if err := c.saidOf(was, err, "was so before", "granted"); err != nil {
				return err
			}
			c.noteCannotCheck(ctx, node, args[0])
			return nil
		}),
	}
}

func (c *command) unshareDocumentCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke DOC RELATION DID|DOC#RELATION|*", Short: "Take it back",
		Long: `Take a relation to a document back. What somebody writes who has not heard of it yet does not
count, unless the owner accepts it. What somebody has read he keeps.`,
		Example: "  pando acl revoke bafkrei… reader did:key:z6Mk…",
		Args:    exactly("DOC", "RELATION", "DID"),
		RunE: c.withNode(func(ctx context.Context, node *api.Client, args []string) error {
			was, err := node.RevokeDocument(ctx, args[0], args[1], args[2])
			return c.saidOf(was, err, "revoked", "was not granted")
		}),
	}
}

func (c *command) aclShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show DOC", Example: "  pando acl show bafkrei…", Short: "Print who may do what with a document", Args: exactly("DOC"),
		RunE: c.withNode(func(ctx context.Context, node *api.Client, args []string) error {
			a, err := node.DocumentAccess(ctx, args[0])
			if err != nil {
				return err
			}
			return c.printRights(a)
		}),
	}
}

func (c *command) printRights(a api.DocumentAccess) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	owner, waits := string(a.Owner), "pending"
	if owner == "" {
		owner, waits = "nobody: two transfers contradict each other", "void" // nobody can accept them
	}
	fmt.Fprintf(w, "owner\t%s\n", owner)
	for _, r := range a.Relationships {
		fmt.Fprintf(w, "%s\t%s\n", r.Relation, r.TargetActor)
	}
	may := "nothing"
	if len(a.Permissions) > 0 {
		may = strings.Join(a.Permissions, ", ")
	}
	fmt.Fprintf(w, "you may\t%s\n", may)
	for _, p := range a.Pending {
		fmt.Fprintf(w, "%s\t%s by %s at %s\n", waits, p.CID, p.Author, p.Time.UTC().Format(time.RFC3339))
	}
	for _, x := range a.CannotCheck {
		fmt.Fprintf(w, "cannot check\t%s\n", cannotCheck(x))
	}
	return w.Flush()
}

// noteCannotCheck names some readers of a document who cannot check what groups write.
func (c *command) noteCannotCheck(ctx context.Context, node *api.Client, docID string) {
	a, err := node.DocumentAccess(ctx, docID)
	if err != nil {
		return // the grant is made; of the rest 'acl show' tells
	}
	for _, x := range a.CannotCheck[:min(len(a.CannotCheck), 3)] {
		fmt.Fprintln(c.err, "note:", cannotCheck(x))
	}
}

func cannotCheck(x pando.CannotCheck) string {
	return fmt.Sprintf("%s may not read group %s, cannot check what its members write, and so gets no further changes of this document: grant a relation that reads the document of the group, too", x.Reader, x.Group)
}

func (c *command) aclCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check DOC PERMISSION [DID]", Short: "Print whether somebody may do something with a document",
		Long: `Print yes or no: whether somebody, or you without a DID, has a permission of the policy, such as
read, update or delete, as far as the node knows now. Either is an answer: the exit code is 0.`,
		Example: "  pando acl check bafkrei… update did:key:z6Mk…",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := atMost(3)(cmd, args); err != nil || len(args) == 3 {
				return err
			}
			return exactly("DOC", "PERMISSION")(cmd, args)
		},
		RunE: c.withNode(func(ctx context.Context, node *api.Client, args []string) error {
			who := pando.DID("")
			if len(args) == 3 {
				who = pando.DID(args[2])
			}
			may, err := node.Allowed(ctx, args[0], args[1], who)
			return c.saidOf(may, err, "yes", "no")
		}),
	}
}

func (c *command) transferCommand() *cobra.Command {
	return &cobra.Command{
		Use: "transfer DOC DID", Example: "  pando acl transfer bafkrei… did:key:z6Mk…", Short: "Make somebody else the owner of a document",
		Long: `Make somebody else the owner of a document. Only the owner can, and only once: a document that
was given to two people, on machines that had not heard of each other, has no owner any
more, for ever.`,
		Args: exactly("DOC", "DID"),
		RunE: c.withNode(func(ctx context.Context, node *api.Client, args []string) error {
			if err := node.TransferDocument(ctx, args[0], pando.DID(args[1])); err != nil {
				return err
			}
			fmt.Fprintln(c.out, "transferred")
			return nil
		}),
	}
}

func (c *command) acceptCommand() *cobra.Command {
	return &cobra.Command{
		Use: "accept DOC [COMMIT…]", Example: "  pando acl accept bafkrei…", Short: "Let changes count that were made while a right was taken away",
		Long: `Let changes of a document count that do not, because they were written beside a revocation: those
that are named, or all that 'acl show' lists as pending. Only the owner can. At a peer address,
where you sign by yourself, they have to be named.`,
		Args: func(cmd *cobra.Command, args []string) error { return exactly("DOC")(cmd, args[:min(len(args), 1)]) },
		RunE: c.withNode(func(ctx context.Context, node *api.Client, args []string) error {
			n, err := node.AcceptCommits(ctx, args[0], args[1:]...)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "accepted %d\n", n)
			return nil
		}),
	}
}
