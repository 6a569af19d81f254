package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/token"
	"github.com/spf13/cobra"
)

func (c *command) tokenCommand() *cobra.Command {
	var (
		o      api.TokenOptions
		names  []string
		header bool
	)
	cmd := &cobra.Command{
		Use: "token", Short: "Print a token, for programs that call the node in other ways",
		Long: `Print a token by which -i proves who you are to one node: the one in --rootdir, or at --url.
Whoever has it is you to that node until it ends, and may have the node sign for you, unless
--read-only. Hand it on by files and pipes: the arguments of a program are seen by all users
of its machine.`,
		Example: `  (umask 077; pando token -i me --header > auth)
  curl -H @auth -d '{"query": "{ Note { text } }"}' http://127.0.0.1:9181/api/v0/graphql`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := c.token(cmd.Context(), o, names)
			if err != nil {
				return err
			}
			if header {
				text = "Authorization: Bearer " + text
			}
			fmt.Fprintln(c.out, text)
			return nil
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.Lifetime, "lifetime", token.DefaultLifetime, "how long it holds, at most 24h")
	f.BoolVar(&o.ReadOnly, "read-only", false, "do not let the node sign what is written with it")
	f.StringSliceVar(&names, "collections", nil, "let the node sign for these collections only")
	f.BoolVar(&header, "header", false, "print the header of a request")
	return cmd
}

func (c *command) token(ctx context.Context, o api.TokenOptions, names []string) (string, error) {
	if o.Lifetime < time.Second || o.Lifetime > token.MaxLifetime {
		return "", fault.Invalid.Errorf("--lifetime %v: want from 1s to %v", o.Lifetime, token.MaxLifetime)
	}
	if o.ReadOnly && len(names) > 0 {
		return "", fault.Invalid.Errorf("--collections says what may be written, and --read-only that nothing may: choose one")
	}
	node, err := c.client()
	if err != nil {
		return "", err
	}
	if o.Collections, err = collectionIDs(ctx, node, names); err != nil {
		return "", err
	}
	return node.Token(o)
}

// collectionIDs returns the IDs of collections, as the node knows them.
func collectionIDs(ctx context.Context, node *api.Client, names []string) (ids []pando.CollectionID, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	all, err := node.Collections(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for _, one := range all {
		known[one.Version.Name] = one.Version.CollectionID
	}
	for _, name := range names {
		id, err := dag.ParseCollectionID(known[name])
		if err != nil {
			return nil, fault.NotFound.Errorf("the node has no collection %q", name)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
