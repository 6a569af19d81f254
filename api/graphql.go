package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// Request is one GraphQL request.
type Request struct {
	Query         string          `json:"query"`
	Variables     json.RawMessage `json:"variables,omitempty"` // an object, or nothing
	OperationName string          `json:"operationName,omitempty"`
	Explain       string          `json:"explain,omitempty"` // simple, execute or debug
	// Extensions are what clients may add to any GraphQL request; the node ignores them.
	Extensions json.RawMessage `json:"extensions,omitempty"`
}

// Response is the answer to a GraphQL request that was carried out, wholly or not.
type Response struct {
	Data   json.RawMessage `json:"data"`
	Errors []GraphQLError  `json:"errors,omitempty"`
	// Extensions say, of collections that the answer depends on and that the node does not
	// keep whole, or has not got all of yet, what it keeps.
	Extensions struct {
		Coverage []Covered `json:"coverage,omitempty"`
	} `json:"extensions,omitzero"`
}

// Covered is what an answer says of a collection that is not kept whole, or not all here yet: Kept, with the
// number of documents that are kept whatever they hold.
type Covered struct {
	Collection string     `json:"collection"`
	Kept       string     `json:"kept"`
	Filter     string     `json:"filter,omitempty"`
	Documents  int        `json:"documents,omitempty"`
	From       string     `json:"from,omitempty"`
	AsOf       *time.Time `json:"asOf,omitempty"`
	Incomplete bool       `json:"incomplete,omitempty"`
	Since      *time.Time `json:"since,omitempty"`
}

// GraphQLError is one error of a response.
type GraphQLError struct {
	Message   string `json:"message"`
	Path      []any  `json:"path,omitempty"`
	Locations []struct {
		Line   int `json:"line"`
		Column int `json:"column"`
	} `json:"locations,omitempty"`
	Extensions struct {
		Code   string `json:"code"`
		Reason reason `json:"reason,omitempty"` // of who is not let in
	} `json:"extensions"`
}

// Err returns the error with its kind.
func (e GraphQLError) Err() error {
	return problem{e.Message, e.Extensions.Code, e.Extensions.Reason}.err()
}

// postGraphQL returns what is left to do when a request was read that is answered by
// a stream of events.
func (s *Server) postGraphQL(w http.ResponseWriter, r *http.Request) (stream func()) {
	raw, err := readAllBody(w, r)
	if err != nil {
		s.refuseGraphQL(w, r, err)
		return nil
	}
	var req Request
	if _, err = parameters(r, "after"); err == nil {
		err = readJSON(raw, &req)
	}
	if err != nil {
		s.refuseGraphQL(w, r, err)
		return nil
	}
	if losesHalves(raw, req.Query) {
		s.refuseGraphQL(w, r, fault.Invalid.Errorf("body: the query has an escape for half of a character, such as \\ud83d: write the character itself, or both halves"))
		return nil
	}
	return s.runGraphQL(w, r, req, false)
}

// losesHalves reports whether the JSON reader has put U+FFFD where the body had half
// of a pair of surrogates: what is stored must be what was sent.
func losesHalves(body []byte, text string) bool {
	const lost = "\uFFFD"
	return strings.Contains(text, lost) && !bytes.Contains(body, []byte(lost)) && !bytes.Contains(bytes.ToLower(body), []byte(`\ufffd`))
}

// getGraphQL runs queries and subscriptions alone: what a link can do, any page can
// make a browser do.
func (s *Server) getGraphQL(w http.ResponseWriter, r *http.Request) (stream func()) {
	q, err := parameters(r, "query", "variables", "operationName", "extensions", "after")
	if err != nil {
		s.refuseGraphQL(w, r, err)
		return nil
	}
	req := Request{Query: q.Get("query"), OperationName: q.Get("operationName")}
	if text := q.Get("variables"); text != "" {
		if !json.Valid([]byte(text)) {
			s.refuseGraphQL(w, r, fault.Invalid.Errorf("query string: variables are no JSON"))
			return nil
		}
		req.Variables = json.RawMessage(text)
	}
	return s.runGraphQL(w, r, req, true)
}

func (s *Server) runGraphQL(w http.ResponseWriter, r *http.Request, req Request, readOnly bool) (stream func()) {
	if strings.TrimSpace(req.Query) == "" {
		s.refuseGraphQL(w, r, fault.Invalid.Errorf("the request has no query: send {\"query\": \"{ … }\"}"))
		return nil
	}
	if bytes.Equal(req.Variables, []byte("null")) {
		req.Variables = nil
	}
	id, err := txOf(r)
	if err != nil {
		s.refuseGraphQL(w, r, err)
		return nil
	}
	in := pando.Request{Query: req.Query, Variables: req.Variables, OperationName: req.OperationName, Explain: req.Explain, ReadOnly: readOnly}
	if s.db.Streams(in) {
		return func() { s.streamEvents(w, r, in) }
	}
	if id == 0 {
		s.streamGraphQL(w, r, in)
		return nil
	}
	var result *pando.Result
	if err := s.txs.use(id, requesterOf(r.Context()).name(), func(tx *pando.Tx) (bool, error) {
		result = tx.Exec(r.Context(), in)
		return false, nil
	}); err != nil {
		s.refuseGraphQL(w, r, err)
		return nil
	}
	s.denyResult(r, result)
	s.answerGraphQL(w, result)
	return nil
}

// answerGraphQL writes a result: 200 if the request was carried out, even when it
// failed on the data, 400 if it is wrong whatever the data.
func (s *Server) answerGraphQL(w http.ResponseWriter, result *pando.Result) {
	writeJSON(w, resultStatus(result), append(result.AppendJSON(nil), '\n'))
}

func resultStatus(result *pando.Result) int {
	if len(result.Errors) == 0 {
		return http.StatusOK
	}
	first := error(result.Errors[0])
	if result.Stage == pando.StageExecute && !errors.Is(first, fault.Closed) {
		return http.StatusOK
	}
	return StatusCode(first)
}

// refuseGraphQL reports a request that never was a GraphQL request, in the shape
// that a GraphQL client reads.
func (s *Server) refuseGraphQL(w http.ResponseWriter, r *http.Request, err error) {
	s.deny(r, err, DeniedOperation)
	s.answer(w, StatusCode(err), failedResponse(err))
}

func failedResponse(err error) Response {
	var e GraphQLError
	e.Message, e.Extensions.Code, e.Extensions.Reason = err.Error(), Code(err), reason(Reason(err))
	return Response{Errors: []GraphQLError{e}}
}
