package pando

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/query"
	"github.com/pandodb/pando/internal/store"
)

// Request is a GraphQL request.
type Request struct {
	Query         string
	Variables     json.RawMessage // a JSON object; may be empty
	OperationName string          // which operation, if the text has several
	Explain       string          // simple, execute or debug: answer with the plan, as @explain does
	ReadOnly      bool            // refuse mutations
}

// QueryError is one error of a GraphQL response.
type QueryError = query.Error

// Result is a GraphQL response: data, or errors.
type Result struct {
	Data   json.RawMessage // an object in the order of the selection; nil after an error
	Errors []*QueryError
	Stage  Stage // how far the request came, if there are errors
	// Coverage tells of the collections that the answer depends on and of which the
	// database does not keep everything: what it keeps, the answer is about.
	Coverage []Coverage
}

// Stage says how far a request came before it failed.
type Stage = query.Stage

// The stages of a request.
const (
	StageParse    = query.Parse    // the text is no GraphQL
	StageValidate = query.Validate // it does not fit the schema
	StageExecute  = query.Execute  // a valid request failed on the data
)

// Err returns the errors as one, or nil.
func (r *Result) Err() error {
	if len(r.Errors) == 0 {
		return nil
	}
	return query.Errors(r.Errors)
}

// AppendErrors appends the errors as the list that a response carries.
func (r *Result) AppendErrors(b []byte) []byte { return query.Errors(r.Errors).AppendJSON(b) }

// AppendJSON appends the response as GraphQL over HTTP carries it.
func (r *Result) AppendJSON(b []byte) []byte {
	if len(r.Errors) > 0 {
		b = append(b, `{"errors":`...)
		b = query.Errors(r.Errors).AppendJSON(b)
		return append(b, `,"data":null}`...)
	}
	b = append(b, `{"data":`...)
	b = append(b, r.Data...)
	return append(appendCoverage(b, r.Coverage), '}')
}

// MarshalJSON returns the response as GraphQL over HTTP carries it.
func (r *Result) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// FailedResult returns the response that reports an error.
func FailedResult(err error) *Result { return failedResult(err) }

func failedResult(err error) *Result {
	var es query.Errors
	if !errors.As(err, &es) {
		es = query.Errors{{Message: err.Error(), Stage: query.Execute, Err: err}}
	}
	return &Result{Errors: es, Stage: es.Stage()}
}

// Exec runs a GraphQL request in a transaction of its own: a query on a snapshot,
// a mutation all or none, durable on return.
func (db *DB) Exec(ctx context.Context, r Request) *Result {
	set := db.store.Schema()
	p, err := db.compile(set, r)
	if err != nil {
		return failedResult(err)
	}
	out := db.answer()
	run := func(tx *store.Tx) error {
		out.Reset()
		return db.run(ctx, tx, r, p, set, out)
	}
	if p.ReadOnly() {
		err = db.store.View(ctx, db.who, run)
	} else {
		err = db.store.Update(ctx, db.who, run)
	}
	if err != nil {
		return failedResult(err)
	}
	return &Result{Data: out.Bytes(), Coverage: db.partial(p.Reads())}
}

// answer is an answer that is made as a whole: documents that are related to each
// other may be in it any number of times.
type answer struct {
	bytes.Buffer
	most int64
}

func (s *shared) answer() *answer { return &answer{most: s.schemas.Limits.AnswerLimit()} }

func (a *answer) Write(p []byte) (int, error) {
	if int64(a.Len()+len(p)) > a.most {
		return 0, fault.TooLarge.Errorf("the answer has more than %d MiB, and is made as a whole: select less or add a limit; queries outside of transactions can be streamed", a.most>>20)
	}
	return a.Buffer.Write(p)
}

// run runs a plan that was made for a set of collections. If the transaction sees
// another one, where another version of a collection may be used, it is made again.
func (db *DB) run(ctx context.Context, tx *store.Tx, r Request, p *query.Plan, set *store.Set, out io.Writer) error {
	if now := tx.Set(); now != set {
		var err error
		if p, err = db.compile(now, r); err != nil {
			return err
		}
	}
	return p.Run(ctx, tx, out)
}

func (db *DB) compile(set *store.Set, r Request) (*query.Plan, error) {
	p, err := query.Compile(db.schemas.Of(set), query.Request{Query: r.Query, Variables: r.Variables, OperationName: r.OperationName, Explain: r.Explain})
	if err != nil {
		return nil, err
	}
	if !p.ReadOnly() {
		if err := db.Signs(); err != nil {
			return nil, query.Errors{{Message: err.Error(), Stage: query.Validate, Err: fault.Denied}}
		}
	}
	if r.ReadOnly && !p.ReadOnly() {
		return nil, query.Errors{{
			Message: "the request may only read, and this is a mutation: send it with POST",
			Stage:   query.Validate,
			Err:     fault.Denied,
		}}
	}
	return p, nil
}
