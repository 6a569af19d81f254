package api

import (
	"context"
	"net/http"
	"strings"
)

// class says who may call a route of a claimed node. A route without one is refused to
// all, so what is forgotten is closed. They are in the order of how much it takes.
type class int

const (
	unclassed  class = iota
	open             // anybody: that the node lives, and who it is
	identified       // whoever proves an identity, known here or not
	catalog          // users and operators: which collections there are
	data             // users: documents, under their own identity
	observe          // operators: how the node does, without documents or secrets
	admin            // admins: what is kept, with whom, under which schema
	owner            // the owner: who else may do what, and all that the node holds
	local            // who sits at the machine: to whom the node belongs
)

// classes are the names and meanings, in the order of the documentation.
var classes = []struct {
	class     class
	name      string
	relations []Relation // that let somebody in, beside Owner
}{
	{open, "open", nil},
	{identified, "identified", nil},
	{catalog, "catalog", []Relation{User, Operator, Admin}},
	{data, "data", []Relation{User, Admin}},
	{observe, "observe", []Relation{Operator, Admin}},
	{admin, "admin", []Relation{Admin}},
	{owner, "owner", nil},
	{local, "local", nil},
}

func (c class) String() string {
	for _, known := range classes {
		if known.class == c {
			return known.name
		}
	}
	return "nobody"
}

// relations are what lets somebody in, beside being the owner.
func (c class) relations() []Relation {
	for _, known := range classes {
		if known.class == c {
			return known.relations
		}
	}
	return nil
}

// router is a mux on which nothing is served without its class.
type router struct {
	s       *Server
	mux     *http.ServeMux
	classes map[string]class // by pattern
}

// handle serves a pattern, "METHOD /path", to those whom its class lets in.
func (rt *router) handle(pattern string, c class, next http.HandlerFunc) {
	rt.classes[pattern] = c
	rt.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if c == open {
			next(w, r)
			return
		}
		rt.s.admitted(w, r, c, next)
	})
}

// door is handle for a path on which a WebSocket may say later who it is: one that shows
// no token is let as far as that.
func (rt *router) door(pattern string, c class, next http.HandlerFunc) {
	rt.classes[pattern] = c
	rt.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if wantsSocket(r) && r.Header.Get("Authorization") == "" {
			next(w, r)
			return
		}
		rt.s.admitted(w, r, c, next)
	})
}

// admitted runs a handler if the class of its path is open to who asks.
func (s *Server) admitted(w http.ResponseWriter, r *http.Request, c class, next http.HandlerFunc) {
	shows, err := shown(r)
	var who requester
	if err == nil {
		who, err = s.identify(shows)
	}
	if err == nil {
		err = s.authorize(who, c)
	}
	r = r.WithContext(context.WithValue(r.Context(), requesterKey{}, who))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	next(w, r)
}

// authorize returns why a class is closed to somebody, or nil.
func (s *Server) authorize(who requester, c class) error {
	switch {
	case c == unclassed:
		return denied(reasonClass, "this path is closed: no rule says who may call it")
	case c <= who.trusted:
		return nil
	case c == local:
		return denied(reasonLocal, "only who sits at the machine of the node may do this: use its socket, by running pando there")
	case who.did == "":
		return errNoToken
	case c == identified, s.rights.allows(who.did, c):
		return nil
	}
	needs := []string{string(Owner)}
	for _, r := range c.relations() {
		needs = append(needs, string(r))
	}
	return denied(reasonNode, "%s has not the access to this node that this takes (%s): its owner or an admin grants it, by pando node grant",
		who.did, strings.Join(needs, " or "))
}
