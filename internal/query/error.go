package query

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// Stage says how far a request came before it failed.
type Stage uint8

const (
	Parse    Stage = iota // the text is no GraphQL
	Validate              // it does not fit the schema, or its variables do not fit it
	Execute               // a valid request failed on the data
)

// Error is one error of a GraphQL response.
type Error struct {
	Message   string
	Stage     Stage
	Locations []Location
	Path      []any // string: a response key; int: an index
	Err       error // the cause, with its kind
}

// Location is a place in the request text, counted from 1.
type Location struct{ Line, Column int }

// Errors are the errors of one response, at least one.
type Errors []*Error

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, so that errors.Is finds its kind.
func (e *Error) Unwrap() error { return e.Err }

// Code returns the name of the kind of failure.
func (e *Error) Code() string {
	if k := fault.Of(e.Err); k != nil {
		return k.Name()
	}
	return "INTERNAL"
}

// Error returns the first message, and how many more there are.
func (es Errors) Error() string {
	if len(es) == 1 {
		return es[0].Message
	}
	return es[0].Message + " (and " + strconv.Itoa(len(es)-1) + " more)"
}

// Unwrap returns the errors one by one.
func (es Errors) Unwrap() []error {
	l := make([]error, len(es))
	for i, e := range es {
		l[i] = e
	}
	return l
}

// Stage returns the stage at which the request failed.
func (es Errors) Stage() Stage { return es[0].Stage }

// AppendJSON appends the errors as the list that a response carries.
func (es Errors) AppendJSON(b []byte) []byte {
	b = append(b, '[')
	for i, e := range es {
		if i > 0 {
			b = append(b, ',')
		}
		b = e.AppendJSON(b)
	}
	return append(b, ']')
}

// AppendJSON appends the error as an object of the GraphQL specification.
func (e *Error) AppendJSON(b []byte) []byte {
	b = append(b, `{"message":`...)
	b = appendString(b, e.Message)
	if len(e.Path) > 0 {
		b = append(b, `,"path":[`...)
		for i, p := range e.Path {
			if i > 0 {
				b = append(b, ',')
			}
			switch p := p.(type) {
			case string:
				b = appendString(b, p)
			case int:
				b = strconv.AppendInt(b, int64(p), 10)
			}
		}
		b = append(b, ']')
	}
	if len(e.Locations) > 0 {
		b = append(b, `,"locations":[`...)
		for i, l := range e.Locations {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"line":`...)
			b = strconv.AppendInt(b, int64(l.Line), 10)
			b = append(b, `,"column":`...)
			b = strconv.AppendInt(b, int64(l.Column), 10)
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	b = append(b, `,"extensions":{"code":`...)
	b = appendString(b, e.Code())
	return append(b, `}}`...)
}

func appendString(b []byte, s string) []byte { return value.OfString(s).AppendJSON(b) }

const (
	// maxErrors bounds the errors of one response: a text of a thousand unknown
	// fields needs no thousand errors to be mended.
	maxErrors = 20
	// maxMessage bounds, in bytes, a message that quotes the request.
	maxMessage = 500
)

// short cuts a message to what a person reads.
func short(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessage], "") + "…"
}

// refused turns what the parser or the validator says into errors.
func refused(stage Stage, list gqlerror.List) Errors {
	var es Errors
	for _, g := range list[:min(len(list), maxErrors)] {
		e := &Error{Message: short(g.Message), Stage: stage, Err: fault.Invalid}
		for _, l := range g.Locations {
			if l.Line > 0 {
				e.Locations = append(e.Locations, Location{l.Line, l.Column})
			}
		}
		es = append(es, e)
	}
	return es
}

// wrong reports a request that the data is not needed to refuse.
func wrong(pos *ast.Position, err error) error {
	return Errors{&Error{Message: short(err.Error()), Stage: Validate, Locations: locate(pos), Err: err}}
}

func wrongf(pos *ast.Position, format string, args ...any) error {
	return wrong(pos, fault.Invalid.Errorf(format, args...))
}

func locate(pos *ast.Position) []Location {
	if pos == nil || pos.Line <= 0 {
		return nil
	}
	return []Location{{pos.Line, pos.Column}}
}

// under says that err happened below a response key or an index. Errors bubble up
// through it, so that the path costs nothing while all goes well.
func under(key any, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Message: short(err.Error()), Stage: Execute, Err: err}
	}
	e.Path = append(e.Path, key)
	return e
}

// failed ends the way up: the error with its path from the root.
func failed(pos *ast.Position, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Message: short(err.Error()), Stage: Execute, Err: err}
	}
	slices.Reverse(e.Path)
	if e.Locations == nil {
		e.Locations = locate(pos)
	}
	return Errors{e}
}

// ofView reports that the query of a view failed. Places and paths go: they are in a
// text that the reader of the view has not sent.
func ofView(name, what string, err error) error {
	what = "view " + name + ": " + what
	var e *Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s%w", what, err)
	}
	if k := fault.Of(err); k != nil {
		return k.Errorf("%s%s", what, err.Error())
	}
	return fmt.Errorf("%s%w", what, e.Err)
}
