package api

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"

	"github.com/pandodb/pando/internal/fault"
)

// outcome is what one kind of failure looks like on each surface.
type outcome struct {
	kind   *fault.Kind
	status int // of the HTTP answer
	exit   int // of the command
	rpc    connect.Code
}

// The one table of failures. The code in an answer's body is the name of the kind.
var outcomes = []outcome{
	{fault.Invalid, http.StatusBadRequest, 2, connect.CodeInvalidArgument},
	{fault.NotFound, http.StatusNotFound, 3, connect.CodeNotFound},
	{fault.Exists, http.StatusConflict, 4, connect.CodeAlreadyExists},
	{fault.Conflict, http.StatusConflict, 5, connect.CodeAborted},
	{fault.Denied, http.StatusForbidden, 6, connect.CodePermissionDenied},
	{fault.TooLarge, http.StatusRequestEntityTooLarge, 7, connect.CodeResourceExhausted},
	{fault.Corrupt, http.StatusInternalServerError, 8, connect.CodeDataLoss},
	{fault.Unavailable, http.StatusServiceUnavailable, 9, connect.CodeUnavailable},
	{fault.Closed, http.StatusServiceUnavailable, 10, connect.CodeUnavailable},
}

// unforeseen is the outcome of an error without a kind.
var unforeseen = outcome{nil, http.StatusInternalServerError, 1, connect.CodeInternal}

// codeInternal names an unforeseen failure in an answer's body.
const codeInternal = "INTERNAL"

func outcomeOf(err error) outcome {
	kind := kindOf(err)
	for _, o := range outcomes {
		if kind != nil && o.kind == kind {
			return o
		}
	}
	return unforeseen
}

func kindOf(err error) *fault.Kind {
	if kind := fault.Of(err); kind != nil {
		return kind
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return fault.TooLarge
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault.Unavailable
	}
	return nil
}

// StatusCode returns the HTTP status of an answer that reports err.
func StatusCode(err error) int {
	var busy *busyError
	if errors.As(err, &busy) {
		return http.StatusTooManyRequests
	}
	var refused *refusal
	if errors.As(err, &refused) {
		return refused.status()
	}
	return outcomeOf(err).status
}

// ExitCode returns the exit code of a command that ends with err; 0 for nil.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	return outcomeOf(err).exit
}

// Code returns the name that err's kind has on the wire.
func Code(err error) string {
	if kind := kindOf(err); kind != nil {
		return kind.Name()
	}
	return codeInternal
}

// busyError is a refusal for now, because too much is going on: status 429.
type busyError struct{ error }

func (b *busyError) Unwrap() error { return b.error }

// Busy reports whether a node refused something only for now, because too much is going
// on: the same may be tried again in a moment.
func Busy(err error) bool {
	var b *busyError
	return errors.As(err, &b)
}

func busy(format string, args ...any) error {
	return &busyError{fault.Unavailable.Errorf(format, args...)}
}

// problem is the body of an answer that reports a failure.
type problem struct {
	Error  string `json:"error"`
	Code   string `json:"code"`
	Reason reason `json:"reason,omitempty"` // of who is not let in
}

func problemOf(err error) problem {
	return problem{Error: err.Error(), Code: Code(err), Reason: reason(Reason(err))}
}

// err gives the failure back as the client sees it.
func (p problem) err() error {
	kind := fault.Named(p.Code)
	switch {
	case kind == nil:
		return errors.New(p.Error)
	case p.Reason != "":
		return &refusal{p.Reason, kind.Errorf("%s", p.Error)}
	}
	return kind.Errorf("%s", p.Error)
}

// Reason returns for which kind of cause a node did not let somebody in, such as
// "token-expired", or "" if err is about something else.
func Reason(err error) string {
	var refused *refusal
	if errors.As(err, &refused) {
		return string(refused.reason)
	}
	return ""
}
