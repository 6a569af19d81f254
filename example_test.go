package pando_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/pandodb/pando"
)

// Open a database, describe a collection, write and query.
func Example() {
	ctx := context.Background()
	db, err := pando.Open(ctx, "", nil) // "" keeps it in memory; give a directory to keep it
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	if _, err := db.AddSchema(ctx, `type User { name: String points: Int }`); err != nil {
		log.Fatal(err)
	}
	res := db.Exec(ctx, pando.Request{Query: `mutation {
		create_User(input: [{name: "Ada", points: 10}, {name: "Bo", points: 7}]) { name }
	}`})
	if err := res.Err(); err != nil {
		log.Fatal(err)
	}
	res = db.Exec(ctx, pando.Request{
		Query:     `query ($least: Int) { User(filter: {points: {_ge: $least}}, order: {name: ASC}) { name points } }`,
		Variables: []byte(`{"least": 8}`),
	})
	fmt.Println(string(res.Data))
	// Output: {"User":[{"name":"Ada","points":10}]}
}

// Several changes that belong together go into one transaction.
func ExampleDB_Update() {
	ctx := context.Background()
	db, _ := pando.Open(ctx, "", nil)
	defer db.Close()
	db.AddSchema(ctx, `type Account { owner: String cents: Int }`)

	var from, to pando.DocID
	db.Update(ctx, func(tx *pando.Tx) error {
		accounts, err := tx.Collection("Account")
		if err != nil {
			return err
		}
		a, err := accounts.Create(map[string]any{"owner": "Ada", "cents": 500})
		if err != nil {
			return err
		}
		b, err := accounts.Create(map[string]any{"owner": "Bo", "cents": 0})
		from, to = a.ID, b.ID
		return err
	})

	transfer := func(cents int64) error {
		return db.Update(ctx, func(tx *pando.Tx) error {
			accounts, err := tx.Collection("Account")
			if err != nil {
				return err
			}
			a, err := accounts.Get(from)
			if err != nil {
				return err
			}
			b, err := accounts.Get(to)
			if err != nil {
				return err
			}
			left := a.Get("cents").(int64) - cents
			if left < 0 {
				return errors.New("not enough money")
			}
			if _, err := accounts.Update(from, map[string]any{"cents": left}); err != nil {
				return err
			}
			_, err = accounts.Update(to, map[string]any{"cents": b.Get("cents").(int64) + cents})
			return err
		})
	}
	fmt.Println(transfer(200), transfer(400))

	db.View(ctx, func(tx *pando.Tx) error {
		accounts, _ := tx.Collection("Account")
		a, _ := accounts.Get(from)
		b, _ := accounts.Get(to)
		fmt.Println(a.Get("cents"), b.Get("cents"))
		return nil
	})
	// Output:
	// <nil> not enough money
	// 300 200
}

// Follow every change, local or remote; keep the last Seq to resume later.
func ExampleDB_Changes() {
	ctx := context.Background()
	db, _ := pando.Open(ctx, "", nil)
	defer db.Close()
	db.AddSchema(ctx, `type Note { text: String }`)
	for _, text := range []string{"one", "two"} {
		db.Exec(ctx, pando.Request{Query: fmt.Sprintf(`mutation { create_Note(input: {text: %q}) { _docID } }`, text)})
	}

	for change, err := range db.Changes(ctx, 0) {
		if err != nil {
			log.Fatal(err)
		}
		db.View(ctx, func(tx *pando.Tx) error {
			notes, _ := tx.Collection("Note")
			note, err := notes.Get(change.Doc)
			fmt.Println(change.Seq, note.Get("text"))
			return err
		})
		if change.Seq == 2 {
			break
		}
	}
	// Output:
	// 1 one
	// 2 two
}

// An explicit transaction spans several calls; the first committer wins.
func ExampleDB_Begin() {
	ctx := context.Background()
	db, _ := pando.Open(ctx, "", nil)
	defer db.Close()
	db.AddSchema(ctx, `type Page @docID(mode: KEYED, fields: ["path"]) { path: String title: String }`)
	db.Exec(ctx, pando.Request{Query: `mutation { create_Page(input: {path: "/", title: "Home"}) { _docID } }`})

	one, _ := db.Begin(ctx, pando.TxOptions{})
	two, _ := db.Begin(ctx, pando.TxOptions{})
	for i, tx := range []*pando.Tx{one, two} {
		res := tx.Exec(ctx, pando.Request{Query: fmt.Sprintf(
			`mutation { update_Page(filter: {path: {_eq: "/"}}, input: {title: "Title %d"}) { title } }`, i+1)})
		fmt.Println(string(res.Data))
	}
	fmt.Println(one.Commit(ctx))
	fmt.Println(errors.Is(two.Commit(ctx), pando.ErrConflict))
	// Output:
	// {"update_Page":[{"title":"Title 1"}]}
	// {"update_Page":[{"title":"Title 2"}]}
	// <nil>
	// true
}

// Who creates a document owns it, and shows it to whom they like.
func ExampleDB_Grant() {
	ctx := context.Background()
	db, _ := pando.Open(ctx, "", nil)
	defer db.Close()
	id, err := db.AddPolicy(ctx, `
name: notes
resources:
  note:
    permissions:
      read:   {expr: owner + reader}
      update: {expr: owner}
      delete: {expr: owner}
    relations:
      owner:  {types: [actor]}
      reader: {types: [actor]}
`)
	if err != nil {
		log.Fatal(err)
	}
	db.AddSchema(ctx, fmt.Sprintf(`type Note @policy(id: %q, resource: "note") { text: String }`, id))

	ada, _ := pando.NewIdentity()
	bo, _ := pando.NewIdentity()
	var note pando.DocID
	db.As(ada).Update(ctx, func(tx *pando.Tx) error {
		notes, err := tx.Collection("Note")
		if err != nil {
			return err
		}
		d, err := notes.Create(map[string]any{"text": "plan"})
		note = d.ID
		return err
	})
	read := pando.Request{Query: `{ Note { text _acl { permissions } } }`}
	fmt.Println(string(db.As(bo).Exec(ctx, read).Data))

	who, _ := pando.ParseSubject(bo.DID().String())
	if _, err := db.As(ada).Grant(ctx, "Note", note, "reader", who); err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(db.As(bo).Exec(ctx, read).Data))
	// Output:
	// {"Note":[]}
	// {"Note":[{"text":"plan","_acl":{"permissions":["read"]}}]}
}
