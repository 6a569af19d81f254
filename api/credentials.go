package api

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/token"
)

// credentials are what a caller shows of who it is, whichever wire brought it.
type credentials struct {
	token string          // a bearer token; "": none
	peer  ident.PublicKey // that the connection itself has proved; "": none
	from  place
}

// place is where a caller is, as far as that is certain.
type place int

const (
	afar     place = iota // on another machine, or who knows where
	here                  // on the machine of the node: it came over loopback
	inside                // in the node's own directory: it could open the socket there
	peerside              // at the other end of libp2p, by which peers find the node from anywhere
)

// requester is who makes a request, as far as the node knows.
type requester struct {
	did pando.DID // that was proved; "": none
	// caller is how documents are read and written for it.
	caller pando.Caller
	// trusted is up to which class all is allowed, whoever it is: to who sits at the
	// machine, or where nothing is checked.
	trusted class
	from    place
	until   time.Time // when what it has proved ends; zero: never
}

// name is what transactions are told apart by: those of the node itself are not of nobody.
func (q requester) name() string {
	if q.did == "" {
		return string(q.caller.Public().DID())
	}
	return string(q.did)
}

// told is who it is to who reads of a denial.
func (q requester) told() string {
	if q.did == "" && q.caller.Public() != "" {
		return WhoNode
	}
	return string(q.did)
}

// over reports whether what it has proved has ended.
func (q requester) over(now time.Time) bool { return !q.until.IsZero() && !now.Before(q.until) }

// identify finds out who calls. It gives a refusal for credentials that are not good,
// also where none were needed: who shows some means to be somebody.
//
//   - A token says who calls. With a delegation for this node in it, the node signs what
//     is written; without one, the caller reads.
//   - Else the key of a connection does, and the caller signs its own commits.
//   - Else it is the node itself, where nothing is checked, or nobody.
func (s *Server) identify(c credentials) (requester, error) {
	who := requester{from: c.from}
	var err error
	if who.trusted, err = s.trust(c.from); err != nil {
		return requester{}, err
	}
	switch {
	case c.token != "":
		err = s.identifyToken(&who, c.token)
	case c.peer != "":
		who.did, who.caller = c.peer.DID(), reader(c.peer)
	case c.from == inside || !s.rights.Claimed():
		who.caller = s.db.Caller()
	}
	return who, err
}

// reader reads as the owner of a key, for whom nothing is signed here.
func reader(key ident.PublicKey) pando.Caller {
	return pando.Caller{Reads: []ident.PublicKey{key}}
}

// identifyToken fills in what a token proves.
func (s *Server) identifyToken(who *requester, text string) error {
	claims, err := s.tokens.Verify(text, time.Now())
	if err != nil {
		return refusalOf(err)
	}
	key := claims.Key()
	who.did, who.until = claims.Issuer, claims.Ends()
	for _, held := range []pando.Identity{s.key, s.db.Identity()} {
		if key == held.Public() { // it signs with the key that proved who it is
			who.caller = pando.Caller{Key: held}
			return nil
		}
	}
	if claims.Delegation == nil {
		who.caller = reader(key)
		return nil
	}
	d, err := ident.OpenDelegation(claims.Delegation)
	if err == nil && d.Author != key {
		err = fault.Denied.Errorf("it is by %s", d.Author)
	}
	if err == nil {
		err = d.AllowsAt(s.key.Public(), time.Now())
	}
	if err != nil {
		return denied(reasonDelegation, "the delegation in the token of %s is not good: %w", claims.Issuer, err)
	}
	who.caller = pando.Caller{Key: s.key, Author: key, Proof: claims.Delegation}
	return nil
}

// trust returns up to which class a caller may do all, whoever it is.
func (s *Server) trust(from place) (class, error) {
	claimed, disabled := s.rights.standing()
	switch {
	case from == inside:
		return local, nil
	case !claimed && from == here:
		return local, nil
	case !claimed && s.allowUnclaimed && from == afar:
		return owner, nil // but nobody takes the node over from afar
	case !claimed:
		return unclassed, denied(reasonOpen, "nobody owns this node yet, so it answers on its own machine only: claim it there, by pando node claim")
	case disabled && from == here:
		return admin, nil // but not who else may do what
	}
	return unclassed, nil
}

// still returns why somebody who was let in to a class would not be any more, or nil.
func (s *Server) still(who requester, c class) (err error) {
	if who.trusted, err = s.trust(who.from); err != nil {
		return err
	}
	return s.authorize(who, c)
}

// reason says for which kind of cause somebody is refused. It is part of the API. Those
// of package token are reasons too.
type reason string

const (
	reasonMissing    reason = "token-missing"
	reasonDelegation reason = "token-delegation"
	reasonNode       reason = "node-access"
	reasonLocal      reason = "local-only"
	reasonClass      reason = "unclassed"
	reasonOpen       reason = "unclaimed"
	reasonOrigin     reason = "cross-origin"
	reasonHost       reason = "unknown-host"
)

// refusal is an error that says why somebody was not let in.
type refusal struct {
	reason reason
	error
}

func (f *refusal) Unwrap() error { return f.error }

// status is 401 if it is not known who calls, 403 if it is.
func (f *refusal) status() int {
	if strings.HasPrefix(string(f.reason), "token-") {
		return http.StatusUnauthorized
	}
	return http.StatusForbidden
}

// errNoToken refuses who says nothing about himself.
var errNoToken = &refusal{reasonMissing,
	fault.Denied.Errorf("this node wants to know who calls: send a token, with -i NAME on the command line or as the header Authorization: Bearer TOKEN; on its own machine, run pando with its --rootdir and without --url")}

// refusalOf makes a refusal of what is wrong with a token.
func refusalOf(err error) error {
	var r *token.Refusal
	if errors.As(err, &r) {
		return &refusal{reason(r.Reason), err}
	}
	return err
}

func denied(why reason, format string, args ...any) error {
	return &refusal{why, fault.Denied.Errorf(format, args...)}
}
