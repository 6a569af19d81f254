package api_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/api/pandov1"
	"github.com/pandodb/pando/api/pandov1/pandov1connect"
	"github.com/pandodb/pando/p2p"
)

// BenchmarkWires answers one small query, and what it costs to write a document that its
// author signs, on each way to a node; and a stream of 10,000 documents.
func BenchmarkWires(b *testing.B) {
	ada, err := pando.NewIdentity()
	if err != nil {
		b.Fatal(err)
	}
	db, err := pando.Open(b.Context(), "", &pando.Options{Identity: ada})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if _, err := db.AddSchema(b.Context(), `type User @docID(mode: UNIQUE) { name: String  age: Int }`); err != nil {
		b.Fatal(err)
	}
	if err := db.Update(b.Context(), func(tx *pando.Tx) error {
		users, err := tx.Collection("User")
		for i := 0; i < 10_000 && err == nil; i++ {
			_, err = users.Create(map[string]any{"name": fmt.Sprint("user ", i), "age": i})
		}
		return err
	}); err != nil {
		b.Fatal(err)
	}
	node, err := p2p.Start(b.Context(), db, p2p.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		b.Fatal(err)
	}
	defer node.Close()
	access, err := api.OpenNodeAccess(filepath.Join(b.TempDir(), "access.json"))
	if err == nil {
		err = access.Claim(ada.DID())
	}
	if err != nil {
		b.Fatal(err)
	}
	server := api.NewServer(api.Config{DB: db, Node: node, Access: access})
	defer server.Shutdown(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go server.Serve(l)
	lines := node.Lines(server.Knows)
	go server.Serve(lines)
	over, err := api.NewClient(l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer over.Close()
	over.Authenticate(ada, db.NodeIdentity().DID())
	line, err := api.NewPeerClient(node.Info().Addrs[0]+"/p2p/"+node.Info().ID, ada)
	if err != nil {
		b.Fatal(err)
	}
	defer line.Close()
	token, err := over.Token(api.TokenOptions{})
	if err != nil {
		b.Fatal(err)
	}
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	grpc := pandov1connect.NewPandoClient(&http.Client{Transport: &http.Transport{Protocols: h2}}, "http://"+l.Addr().String(), connect.WithGRPC())
	const one = `{ User(limit: 1) { name } }`
	for name, c := range map[string]*api.Client{"HTTP": over, "libp2p": line} {
		b.Run("query/"+name, func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Query(b.Context(), api.Request{Query: one}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("signed/"+name, func(b *testing.B) {
			a := c.Author(ada)
			for b.Loop() {
				if _, err := a.Create(b.Context(), "User", map[string]any{"name": "Ada"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("query/gRPC", func(b *testing.B) {
		for b.Loop() {
			r := connect.NewRequest(&pandov1.ExecuteRequest{Query: one})
			r.Header().Set("Authorization", "Bearer "+token)
			if _, err := grpc.Execute(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stream/gRPC", func(b *testing.B) {
		for b.Loop() {
			r := connect.NewRequest(&pandov1.FollowRequest{Operation: "GET /export/{collection}", Parameters: map[string]string{"collection": "User"}})
			r.Header().Set("Authorization", "Bearer "+token)
			s, err := grpc.Follow(b.Context(), r)
			if err != nil {
				b.Fatal(err)
			}
			for s.Receive() {
				_ = s.Msg()
			}
			if s.Err() != nil {
				b.Fatal(s.Err())
			}
		}
	})
}
