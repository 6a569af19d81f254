// Package fault names the few kinds of failure that callers can tell apart, and
// their names on the wire.
//
// Every other detail of an error is text. A kind survives wrapping with %w and a
// trip over the network, so errors.Is(err, fault.NotFound) holds on either side.
package fault

import (
	"errors"
	"fmt"
)

// Kind is a class of failure. It is itself an error, so that it can be the
// target of errors.Is.
type Kind struct {
	name string // what the wire carries
	text string // what a person reads when nothing more is known
}

var (
	// Invalid: the input is wrong, and would be wrong again.
	Invalid = &Kind{"INVALID", "invalid input"}
	// NotFound: it does not exist, or the caller may not see it.
	NotFound = &Kind{"NOT_FOUND", "not found"}
	// Exists: it is there already.
	Exists = &Kind{"EXISTS", "already exists"}
	// Conflict: another transaction was first; trying again may work.
	Conflict = &Kind{"CONFLICT", "conflict"}
	// Denied: the caller has not the right, or has not said who it is.
	Denied = &Kind{"DENIED", "denied"}
	// TooLarge: an explicit limit was passed.
	TooLarge = &Kind{"TOO_LARGE", "limit exceeded"}
	// Corrupt: bytes at rest or on the wire are damaged.
	Corrupt = &Kind{"CORRUPT", "corrupt data"}
	// Unavailable: a resource is missing for now: disk, peer, capacity.
	Unavailable = &Kind{"UNAVAILABLE", "unavailable"}
	// Closed: the database is closing or closed.
	Closed = &Kind{"CLOSED", "closed"}
)

var kinds = []*Kind{Invalid, NotFound, Exists, Conflict, Denied, TooLarge, Corrupt, Unavailable, Closed}

// Error returns the text of the kind.
func (k *Kind) Error() string { return k.text }

// Name returns the name of the kind on the wire, such as "NOT_FOUND".
func (k *Kind) Name() string { return k.name }

// Errorf makes an error of this kind. The text is the formatted message alone;
// %w works as in fmt.Errorf.
func (k *Kind) Errorf(format string, args ...any) error {
	return &failure{k, fmt.Errorf(format, args...)}
}

type failure struct {
	kind *Kind
	err  error
}

func (f *failure) Error() string   { return f.err.Error() }
func (f *failure) Unwrap() []error { return []error{f.kind, f.err} }

// Of returns the kind of err, the outermost if it has several, or nil if err
// has none: an unforeseen failure.
func Of(err error) *Kind {
	var k *Kind
	if errors.As(err, &k) {
		return k
	}
	return nil
}

// Named returns the kind with that name on the wire, or nil.
func Named(name string) *Kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	return nil
}
