package pando

import (
	"context"
	"fmt"
	"io"

	"github.com/pandodb/pando/internal/store"
)

// streamAhead is how much of an answer is made before any of it is written: most
// answers are whole by then, and most failures known.
const streamAhead = 1 << 20

// Stream is Exec for answers of any size: it writes the response to w while it comes
// about, and returns it without its data. A request that fails before the first
// megabyte of its answer has come about writes nothing; one that fails later leaves
// an unfinished text in w, and whoever reads it has to be told. The snapshot is held
// until w has taken everything.
//
// A mutation is answered whole, once it is durable.
func (db *DB) Stream(ctx context.Context, r Request, w io.Writer) *Result {
	set := db.store.Schema()
	p, err := db.compile(set, r)
	if err != nil {
		return failedResult(err)
	}
	out := &ahead{to: w}
	run := func(tx *store.Tx) error {
		out.restart()
		return db.run(ctx, tx, r, p, set, out)
	}
	if p.ReadOnly() {
		err = db.store.View(ctx, db.who, run)
	} else {
		out.whole = true
		err = db.store.Update(ctx, db.who, run)
	}
	covered := db.partial(p.Reads())
	if err == nil {
		err = out.finish(covered)
	}
	if err != nil {
		return failedResult(err)
	}
	return &Result{Coverage: covered}
}

// ahead holds back the beginning of an answer, or the whole of it.
type ahead struct {
	to    io.Writer
	whole bool
	begun bool // something was written
	buf   []byte
}

// restart drops what an attempt that did not come through has left.
func (a *ahead) restart() { a.buf = append(a.buf[:0], `{"data":`...) }

func (a *ahead) Write(p []byte) (int, error) {
	if a.begun {
		return a.to.Write(p)
	}
	a.buf = append(a.buf, p...)
	if a.whole || len(a.buf) < streamAhead {
		return len(p), nil
	}
	a.begun = true
	_, err := a.to.Write(a.buf)
	a.buf = nil
	return len(p), err
}

func (a *ahead) finish(covered []Coverage) error {
	if _, err := a.to.Write(append(appendCoverage(a.buf, covered), '}')); err != nil {
		return fmt.Errorf("write response: %w", err)
	}
	return nil
}
