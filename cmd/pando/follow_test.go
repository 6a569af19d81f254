package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
)

func TestQueryPrintsTheEventsOfASubscription(t *testing.T) {
	t.Parallel()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.AddSchema(t.Context(), `type User { name: String n: Int }`); err != nil {
		t.Fatal(err)
	}
	server := api.NewServer(api.Config{DB: db})
	listener := httptest.NewServer(server.Handler())
	defer listener.Close()

	follow := func(args ...string) (line, told string) {
		out, in := io.Pipe()
		var errs bytes.Buffer
		ended := make(chan int, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			c := &command{out: in, err: &errs}
			root := c.root()
			root.SetArgs(append([]string{"query", "--url", listener.URL, `subscription { User { name } }`}, args...))
			root.SetErr(io.Discard)
			ended <- api.ExitCode(root.ExecuteContext(ctx))
			in.Close()
		}()
		written := make(chan error, 1)
		go func() { // until it has been told of one
			var err error
			for i := 0; ctx.Err() == nil && err == nil; i++ {
				err = db.Exec(t.Context(), pando.Request{Query: fmt.Sprintf(`mutation { create_User(input: {name: "ada", n: %d}) { name } }`, i)}).Err()
				if errors.Is(err, pando.ErrExists) {
					err = nil
				}
			}
			written <- err
		}()
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		go io.Copy(io.Discard, out)
		if code := <-ended; code != 0 {
			t.Errorf("exit code %d of one that was interrupted", code)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		return line, errs.String()
	}
	line, told := follow()
	if line != `{"data":{"User":[{"name":"ada"}]}}`+"\n" {
		t.Errorf("printed %q", line)
	}
	_, cursor, ok := strings.Cut(strings.TrimSpace(told), "--after ")
	if !ok {
		t.Fatalf("no cursor on standard error: %q", told)
	}
	if line, _ := follow("--after", cursor); !strings.HasPrefix(line, `{"data":{"User":[`) {
		t.Errorf("after a cursor, printed %q", line)
	}
}
