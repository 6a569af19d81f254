package api

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// transactions are the explicit transactions that clients hold open. One that
// lies unused for txIdle, or is older than txLifetime, is discarded, since it pins a
// snapshot of the store.
type transactions struct {
	log *slog.Logger

	mu     sync.Mutex // guards open, closed
	open   map[uint64]*transaction
	closed bool
}

type transaction struct {
	who  string     // began it; to others it does not exist
	mu   sync.Mutex // one request at a time; guards the rest
	tx   *pando.Tx  // nil when it has ended
	born time.Time
	ends time.Time // if nobody uses it until then
	idle *time.Timer
}

func newTransactions(log *slog.Logger) *transactions {
	return &transactions{log: log, open: map[uint64]*transaction{}}
}

// add keeps a transaction of somebody and returns its id.
func (t *transactions) add(tx *pando.Tx, who string) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return 0, fault.Closed.Errorf("the node is closing")
	case len(t.open) >= maxTransactions:
		return 0, busy("%d transactions are open: commit or discard one first", maxTransactions)
	}
	id := t.newID()
	now := time.Now()
	open := &transaction{who: who, tx: tx, born: now, ends: now.Add(txIdle)}
	open.idle = time.AfterFunc(txIdle, func() { t.expire(id, open) })
	t.open[id] = open
	return id, nil
}

// newID is random, so that an id from before a restart never names the transaction
// of somebody else, and below 2^53, so that JavaScript reads it exactly.
func (t *transactions) newID() uint64 {
	for {
		var b [8]byte
		rand.Read(b[:])
		id := binary.BigEndian.Uint64(b[:]) >> 11
		if _, taken := t.open[id]; !taken && id != 0 {
			return id
		}
	}
}

// use runs fn in somebody's transaction with that id. If fn ends it, the id is forgotten.
func (t *transactions) use(id uint64, who string, fn func(tx *pando.Tx) (ended bool, err error)) error {
	t.mu.Lock()
	open := t.open[id]
	t.mu.Unlock()
	if open == nil || open.who != who {
		return unknownTx(id)
	}
	open.mu.Lock()
	defer open.mu.Unlock()
	if open.tx == nil {
		return unknownTx(id)
	}
	open.idle.Stop()
	defer open.wait() // also when fn panics
	ended, err := fn(open.tx)
	if ended {
		open.tx = nil
		t.forget(id)
	}
	return err
}

// wait begins the time that the transaction may lie unused.
func (o *transaction) wait() {
	if o.tx == nil {
		return
	}
	now := time.Now()
	o.ends = now.Add(txIdle)
	if last := o.born.Add(txLifetime); last.Before(o.ends) {
		o.ends = last
	}
	o.idle.Reset(o.ends.Sub(now))
}

func unknownTx(id uint64) error {
	return fault.NotFound.Errorf("transaction %d is not open: it was ended, lay unused for %v, grew older than %v, is somebody else's, or never was", id, txIdle, txLifetime)
}

func (t *transactions) expire(id uint64, open *transaction) {
	open.mu.Lock()
	defer open.mu.Unlock()
	if open.tx == nil || time.Now().Before(open.ends) {
		return // a request was quicker
	}
	open.tx.Discard()
	open.tx = nil
	t.forget(id)
	t.log.Info("transaction discarded, unused or too old", "id", id, "age", time.Since(open.born).Round(time.Second))
}

func (t *transactions) forget(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, id)
}

// close discards what is open.
func (t *transactions) close() {
	t.mu.Lock()
	t.closed = true
	open := t.open
	t.open = map[uint64]*transaction{}
	t.mu.Unlock()
	for _, o := range open {
		o.mu.Lock()
		o.idle.Stop()
		if o.tx != nil {
			o.tx.Discard()
			o.tx = nil
		}
		o.mu.Unlock()
	}
}

// txOf returns the transaction that a request names, 0 for none. Both headers are
// read; what is no number is refused, and so are two of them, for the request must not
// run outside, or in another.
func txOf(r *http.Request) (id uint64, err error) {
	for _, name := range []string{headerTx, headerLegacyTx} {
		for _, text := range r.Header.Values(name) {
			one, err := strconv.ParseUint(text, 10, 64)
			if err != nil || one == 0 {
				return 0, fault.Invalid.Errorf("header %s: %q is no transaction id", name, text)
			}
			if id != 0 && one != id {
				return 0, fault.Invalid.Errorf("the headers name two transactions, %d and %d: a request runs in one", id, one)
			}
			id = one
		}
	}
	return id, nil
}

// refuseTx refuses a request that names a transaction for an operation that runs in none.
func refuseTx(r *http.Request) error {
	id, err := txOf(r)
	if err == nil && id != 0 {
		err = fault.Invalid.Errorf("%s %s does not run in a transaction: leave out the header %s", r.Method, r.URL.Path, headerTx)
	}
	return err
}

// plain refuses a transaction and parameters, for an operation that has neither.
func plain(r *http.Request) error {
	if err := refuseTx(r); err != nil {
		return err
	}
	_, err := parameters(r)
	return err
}

// TxID names an explicit transaction of a node.
type TxID struct {
	ID uint64 `json:"id"`
}

type beginTx struct {
	ReadOnly bool `query:"read_only"`
}

type endTx struct {
	ID uint64 `path:"id"`
}

var (
	opBegin           = op[beginTx, TxID]{"POST /tx", data, (*Server).begin}
	opBeginConcurrent = op[beginTx, TxID]{"POST /tx/concurrent", data, (*Server).begin} // every transaction may be shared
	opCommit          = op[endTx, none]{"POST /tx/{id}", data, (*Server).commit}
	opDiscard         = op[endTx, none]{"DELETE /tx/{id}", data, (*Server).discard}
)

func (s *Server) begin(ctx context.Context, in beginTx) (TxID, error) {
	// The transaction outlives the request that begins it.
	db := s.as(ctx)
	if err := db.Signs(); err != nil && !in.ReadOnly {
		return TxID{}, err
	}
	tx, err := db.Begin(s.requests, pando.TxOptions{ReadOnly: in.ReadOnly})
	if err != nil {
		return TxID{}, err
	}
	id, err := s.txs.add(tx, requesterOf(ctx).name())
	if err != nil {
		tx.Discard()
		return TxID{}, err
	}
	return TxID{id}, nil
}

func (s *Server) commit(ctx context.Context, in endTx) (none, error) {
	return none{}, s.txs.use(in.ID, requesterOf(ctx).name(), func(tx *pando.Tx) (bool, error) {
		defer tx.Discard() // it ends, whether it could be committed or not
		return true, tx.Commit(ctx)
	})
}

func (s *Server) discard(ctx context.Context, in endTx) (none, error) {
	return none{}, s.txs.use(in.ID, requesterOf(ctx).name(), func(tx *pando.Tx) (bool, error) {
		tx.Discard()
		return true, nil
	})
}

// Begin opens an explicit transaction; Within gives a client that works in it.
// The node discards it when it lies unused for a minute, and after ten minutes in any case.
func (c *Client) Begin(ctx context.Context, readOnly bool) (TxID, error) {
	return opBegin.call(ctx, c, beginTx{readOnly})
}

// Commit makes the writes of a transaction durable, or fails with fault.Conflict
// if another transaction was first. Either way the transaction has ended.
func (c *Client) Commit(ctx context.Context, tx TxID) error {
	_, err := opCommit.call(ctx, c, endTx(tx))
	return err
}

// Discard drops the writes of a transaction.
func (c *Client) Discard(ctx context.Context, tx TxID) error {
	_, err := opDiscard.call(ctx, c, endTx(tx))
	return err
}
