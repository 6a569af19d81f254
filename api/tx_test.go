package api

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

func TestUnusedTransactionIsDiscarded(t *testing.T) {
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	synctest.Test(t, func(t *testing.T) {
		txs := newTransactions(slog.New(slog.DiscardHandler))
		defer txs.close()
		tx, err := db.Begin(t.Context(), pando.TxOptions{})
		if err != nil {
			t.Fatal(err)
		}
		id, err := txs.add(tx, "")
		if err != nil {
			t.Fatal(err)
		}
		use := func() error { return txs.use(id, "", func(*pando.Tx) (bool, error) { return false, nil }) }
		for range 3 { // each use starts the minute anew
			time.Sleep(txIdle - time.Second)
			if err := use(); err != nil {
				t.Fatalf("a transaction in use: %v", err)
			}
		}
		time.Sleep(txIdle + time.Second)
		if err := use(); !errors.Is(err, fault.NotFound) {
			t.Fatalf("an unused transaction: %v, want NotFound", err)
		}
	})
}

func TestOpenTransactionsAreBounded(t *testing.T) {
	t.Parallel()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	txs := newTransactions(slog.New(slog.DiscardHandler))
	defer txs.close()
	for range maxTransactions {
		tx, err := db.Begin(t.Context(), pando.TxOptions{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := txs.add(tx, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := txs.add(nil, ""); StatusCode(err) != 429 || !errors.Is(err, fault.Unavailable) {
		t.Fatalf("one too many: %v, status %d", err, StatusCode(err))
	}
}
