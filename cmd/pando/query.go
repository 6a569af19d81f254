package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

func (c *command) queryCommand() *cobra.Command {
	var file, variables, operation, after, explain string
	cmd := &cobra.Command{
		Use:   "query [flags] 'GRAPHQL'",
		Short: "Run a GraphQL query, mutation or subscription",
		Long: "Run a GraphQL query or mutation, given as an argument, in a file, or on standard input (-).\nThe data goes to standard output; each error to standard error.\n" +
			"A subscription prints every event, on one line, until it is interrupted.",
		Example: `  pando query '{ User(filter: {age: {_gt: 30}}) { name age } }'
  pando query --variables '{"name": "Ada"}' 'mutation($name: String) { create_User(input: {name: $name}) { _docID } }'`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return fault.Invalid.Errorf("%d arguments: put the query in quotes, as one", len(args))
			case (len(args) == 1) == (file != ""):
				return fault.Invalid.Errorf("give the query as one argument, or in a file with -f: see '%s --help'", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			text := file
			if len(args) == 1 {
				text = args[0]
			}
			if file != "" || text == "-" {
				var err error
				if text, err = c.readText(text); err != nil {
					return err
				}
			}
			req := api.Request{Query: text, OperationName: operation, Explain: explain}
			if variables != "" {
				if !isObject(variables) {
					return fault.Invalid.Errorf("--variables: want a JSON object, such as {\"name\": \"Ada\"}")
				}
				req.Variables = json.RawMessage(variables)
			}
			if explain != "" {
				return c.explain(cmd, req)
			}
			return c.query(cmd, req, pando.Cursor(after))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "file with the query, - for standard input")
	f.StringVarP(&variables, "variables", "v", "", "variables, as a JSON object")
	f.StringVarP(&operation, "operation", "o", "", "name of the operation to run, if the text has several")
	f.StringVar(&explain, "explain", "", "show the plan instead: simple, debug, or execute, which runs the request, too")
	f.Lookup("explain").NoOptDefVal = "simple"
	f.StringVar(&after, "after", "", "cursor at which a subscription ended, to go on behind it")
	return cmd
}

// explain prints the plan of a request.
func (c *command) explain(cmd *cobra.Command, req api.Request) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	resp, err := node.Query(cmd.Context(), req)
	if err != nil {
		return err
	}
	if len(resp.Errors) > 0 {
		return resp.Errors[0].Err()
	}
	var data struct{ Explain struct{ Text string } }
	if err := json.Unmarshal(resp.Data, &data); err != nil {
		return fmt.Errorf("answer of the node: %w", err)
	}
	_, err = fmt.Fprint(c.out, data.Explain.Text)
	return err
}

func isObject(text string) bool {
	var object map[string]json.RawMessage
	return json.Unmarshal([]byte(text), &object) == nil && object != nil
}

func (c *command) query(cmd *cobra.Command, req api.Request, after pando.Cursor) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	// As it comes: an answer may be larger than memory.
	out := bufio.NewWriterSize(c.out, 64<<10)
	data := &indenter{to: out}
	resp, err := c.follow(cmd.Context(), node, req, after, data, func(e api.Event) error {
		after = e.Cursor
		_, err := fmt.Fprintf(c.out, "%s\n", e.Body)
		return err
	})
	if data.begun {
		out.WriteByte('\n')
	}
	if e := out.Flush(); err == nil {
		err = e
	}
	if err != nil && after != "" {
		fmt.Fprintf(c.err, "note: to go on behind the last event, add --after %s\n", after)
		if cmd.Context().Err() != nil {
			return nil // the person has seen enough
		}
	}
	if err != nil {
		return err
	}
	for _, about := range resp.Extensions.Coverage {
		fmt.Fprintln(c.err, "pando:", coveredText(about, time.Now()))
	}
	// All but the last error are printed here; the last one ends the command.
	for _, e := range resp.Errors[:max(len(resp.Errors)-1, 0)] {
		fmt.Fprintln(c.err, "pando:", e.Err())
	}
	if n := len(resp.Errors); n > 0 {
		return resp.Errors[n-1].Err()
	}
	return nil
}
