package p2p_test

import (
	"context"
	"fmt"
	"log"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/p2p"
)

// Three nodes share a collection, and talk in one of its rooms.
func ExampleNode_Subscribe() {
	ctx := context.Background()
	var nodes []*p2p.Node
	for i := range 3 {
		db, err := pando.Open(ctx, "", nil)
		if err != nil {
			log.Fatal(err)
		}
		defer db.Close()
		if i == 0 {
			if _, err := db.AddSchema(ctx, `type Note { text: String }`); err != nil {
				log.Fatal(err)
			}
		}
		node, err := p2p.Start(ctx, db, p2p.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
		if err != nil {
			log.Fatal(err)
		}
		defer node.Close()
		nodes = append(nodes, node)
	}
	ticket, err := nodes[0].Share(nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, node := range nodes[1:] {
		if _, err := node.Join(ctx, ticket, nil); err != nil {
			log.Fatal(err)
		}
	}

	ada, err := nodes[1].Subscribe(ctx, "Note/lobby", p2p.TopicOptions{Presence: true, State: []byte("Ada")})
	if err != nil {
		log.Fatal(err)
	}
	defer ada.Close()
	bob, err := nodes[2].Subscribe(ctx, "Note/lobby", p2p.TopicOptions{Presence: true, State: []byte("Bob")})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()
	for m, err := range ada.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if m.Kind == p2p.Here && string(m.Data) == "Bob" {
			break // they see each other, over the first node if need be
		}
	}
	if _, err := nodes[2].Publish(ctx, "Note/lobby", []byte("hello")); err != nil {
		log.Fatal(err)
	}
	for m, err := range ada.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if m.Kind == p2p.Said {
			fmt.Printf("%s\n", m.Data)
			break
		}
	}
	// Output: hello
}
