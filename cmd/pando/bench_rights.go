package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/token"
)

// benchPolicy lets those who create documents show them to others.
const benchPolicy = `
name: bench
resources:
  user:
    permissions:
      read: {expr: owner + reader}
      update: {expr: owner}
      delete: {expr: owner}
    relations:
      owner: {}
      reader: {}
`

// rights measures what it costs that documents belong to somebody: a policy, encryption,
// and the token by which somebody says who he is. What is compared is done in turn.
func (b *bench) rights(ctx context.Context) error {
	policy, err := b.db.AddPolicy(ctx, benchPolicy)
	if err != nil {
		return err
	}
	fields := fmt.Sprintf("@policy(id: %q, resource: \"user\") {%s", policy, strings.SplitN(benchUser, "{", 2)[1])
	if _, err := b.db.AddSchema(ctx, "type Own "+fields+"\ntype Clear "+fields+"\ntype Sealed "+fields); err != nil {
		return err
	}
	for n := 0; n < b.documents; n += 1000 {
		if err := b.create(ctx, "Own", min(1000, b.documents-n)); err != nil {
			return err
		}
	}
	over, err := b.compareFilters(ctx, "Own", "Many")
	if err != nil {
		return err
	}
	b.figure("filter over "+plural(b.documents, "document")+", with a policy / without", over, ratio, "<= 1.15")
	if err := b.sealed(ctx); err != nil {
		return err
	}
	return b.tokens()
}

// compareFilters returns by how much a filter over one collection takes longer than over
// another of as many documents.
func (b *bench) compareFilters(ctx context.Context, collection, other string) (all figures, err error) {
	for range 2*rounds - 1 {
		var took [2]float64
		for i, name := range []string{collection, other} {
			begun := time.Now()
			query := fmt.Sprintf(`{ %s(filter: {age: {_gt: 1000}}) { name } }`, name)
			if err := b.db.Exec(ctx, pando.Request{Query: query}).Err(); err != nil {
				return nil, err
			}
			took[i] = micros(time.Since(begun))
		}
		all = append(all, took[0]/took[1])
	}
	return all, nil
}

// sealed compares encrypted documents with others that belong to somebody.
func (b *bench) sealed(ctx context.Context) error {
	const batch = 100
	var writes figures
	for range max(rounds, b.documents/batch/20) {
		begun := time.Now()
		if err := b.create(ctx, "Clear", batch); err != nil {
			return err
		}
		clear := time.Since(begun)
		begun = time.Now()
		err := b.db.Update(ctx, func(tx *pando.Tx) error {
			docs, err := tx.Collection("Sealed")
			for i := 0; i < batch && err == nil; i++ {
				_, err = docs.CreateEncrypted(b.user())
			}
			return err
		})
		if err != nil {
			return err
		}
		writes = append(writes, micros(time.Since(begun))/micros(clear))
	}
	b.figure("creates, batches of 100, encrypted / in clear", writes, ratio, "<= 2")
	reads, err := b.compareFilters(ctx, "Sealed", "Clear")
	if err != nil {
		return err
	}
	b.figure("filter over encrypted documents / in clear", reads, ratio, "<= 1.15")
	return nil
}

// tokens measures how long it takes to see who somebody is who shows a token.
func (b *bench) tokens() error {
	const each = 100
	node := b.db.NodeIdentity()
	var unknown, known figures
	for round := range rounds {
		v := token.NewVerifier(node.DID())
		now := time.Now()
		var texts []string
		for i := range each {
			text, err := token.Sign(node, token.Claims{Audience: node.DID(), NotBefore: now, Expiry: now.Add(time.Duration(round*each+i+1) * time.Second)})
			if err != nil {
				return err
			}
			texts = append(texts, text)
		}
		for _, into := range []*figures{&unknown, &known} {
			begun := time.Now()
			for _, text := range texts {
				if _, err := v.Verify(text, now); err != nil {
					return err
				}
			}
			*into = append(*into, micros(time.Since(begun))/each)
		}
	}
	b.figure("check of a token", unknown, short, "")
	b.figure("check of a token, again", known, short, "")
	return nil
}
