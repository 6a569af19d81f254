package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/ident"
)

// accessModel is what the access of a node must be, told in the plainest way.
type accessModel struct {
	owner    pando.DID
	disabled bool
	granted  map[NodeGrant]bool
}

func (m *accessModel) is(who pando.DID, r Relation) bool {
	if who == "" {
		return false
	}
	return r == Owner && who == m.owner || m.granted[NodeGrant{r, string(who)}] || r == User && m.granted[NodeGrant{User, Everyone}]
}

// allows is who may call a class, from where.
func (m *accessModel) allows(who pando.DID, from place, c class) bool {
	if from == inside {
		return true
	}
	if m.owner == "" {
		return from == here
	}
	if m.disabled && from == here && c <= admin {
		return true
	}
	if c == identified {
		return who != ""
	}
	return c != local && m.is(who, Owner) || slices.ContainsFunc(c.relations(), func(r Relation) bool { return m.is(who, r) })
}

// grants is who may say who is what.
func (m *accessModel) grants(who pando.DID, from place, r Relation) bool {
	switch {
	case m.owner == "" || r == Owner: // there is nobody to grant, or to be granted
		return false
	case from == inside || m.is(who, Owner):
		return true
	}
	return r != Admin && m.is(who, Admin)
}

// Whatever happens to a node, claims, grants, revocations, checks that are switched off and on
// again, restarts, and whoever tries it from wherever: nobody comes to more than he was given.
func TestNobodyGainsAccess(t *testing.T) {
	t.Parallel()
	keys := map[string]ident.Key{}
	for _, name := range []string{"ada", "bob", "cyn"} {
		keys[name] = someone(t)
	}
	didOf := func(name string) pando.DID {
		if name == "nobody" {
			return ""
		}
		return keys[name].DID()
	}
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tokens := map[string]string{}
	for name, key := range keys {
		tokens[name] = pass(t, &Server{key: db.NodeIdentity()}, key)
	}
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		file := filepath.Join(dir, fmt.Sprint(runs))
		open := func() *Server {
			access, err := OpenNodeAccess(file)
			if err != nil {
				t.Fatal(err)
			}
			return NewServer(Config{DB: db, Access: access})
		}
		s, m := open(), &accessModel{granted: map[NodeGrant]bool{}}
		try := func(name string, from place, method, path string, body any) int {
			raw, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			r := withPlace(from, method, Base+path, string(raw))
			if name != "nobody" {
				r.Header.Set("Authorization", "Bearer "+tokens[name])
			}
			w := httptest.NewRecorder()
			s.http.Handler.ServeHTTP(w, r)
			return w.Code
		}
		names := rapid.SampledFrom([]string{"ada", "bob", "cyn", "nobody"})
		people := rapid.SampledFrom([]string{"ada", "bob", "cyn"})
		froms := rapid.SampledFrom([]place{here, afar, afar, inside})
		relation := rapid.SampledFrom([]Relation{Owner, Admin, Operator, User, User})
		t.Repeat(map[string]func(*rapid.T){
			"claim": func(t *rapid.T) {
				who, from, owner, recover := names.Draw(t, "who"), froms.Draw(t, "from"), didOf(people.Draw(t, "owner")), rapid.Bool().Draw(t, "recover")
				code := try(who, from, "POST", "/acp/node/claim", map[string]any{"Owner": owner, "Recover": recover})
				if ok := m.allows(didOf(who), from, local) && (recover || m.owner == "" || m.owner == owner); ok != (code == http.StatusOK) {
					t.Fatalf("%s from %d claims the node of %s for %s: %d", who, from, m.owner, owner, code)
				} else if ok {
					m.disabled = m.disabled && !recover
					m.owner = owner
				}
			},
			"grant": func(t *rapid.T) {
				who, from := names.Draw(t, "who"), froms.Draw(t, "from")
				g := NodeGrant{relation.Draw(t, "relation"), string(didOf(people.Draw(t, "to")))}
				if g.Relation == User && rapid.IntRange(0, 3).Draw(t, "everyone") == 0 {
					g.TargetActor = Everyone
				}
				method := rapid.SampledFrom([]string{"POST", "DELETE"}).Draw(t, "method")
				code := try(who, from, method, "/acp/node/relationship", g)
				ok := m.allows(didOf(who), from, admin) && m.grants(didOf(who), from, g.Relation)
				// Of a node without owner there is nothing to take, which is no failure.
				if free := m.owner == "" && method == "DELETE"; !free && ok != (code == http.StatusOK) {
					t.Fatalf("%s from %d: %s of %v: %d, want %v", who, from, method, g, code, ok)
				}
				if ok && method == "POST" {
					m.granted[g] = true
				} else if ok {
					delete(m.granted, g)
				}
			},
			"enforce": func(t *rapid.T) {
				who, from, off := names.Draw(t, "who"), froms.Draw(t, "from"), rapid.Bool().Draw(t, "off")
				path := "/acp/node/re-enable"
				if off {
					path = "/acp/node/disable"
				}
				code := try(who, from, "POST", path, struct{}{})
				ok := m.owner != "" && m.allows(didOf(who), from, owner)
				if ok != (code == http.StatusOK) {
					t.Fatalf("%s from %d: %s: %d, want %v", who, from, path, code, ok)
				} else if ok {
					m.disabled = off
				}
			},
			"restart": func(*rapid.T) { s = open() },
			"": func(t *rapid.T) {
				for _, name := range []string{"ada", "bob", "cyn", "nobody"} {
					for _, from := range []place{here, afar, inside} {
						shows := credentials{token: tokens[name], from: from}
						who, err := s.identify(shows)
						for _, c := range classes[1:] {
							why := err
							if why == nil {
								why = s.authorize(who, c.class)
							}
							if want := m.allows(didOf(name), from, c.class); want != (why == nil) {
								t.Fatalf("%s from %d and class %s: %v, want %v; the node is of %s, disabled %v, granted %v", name, from, c.name, why, want, m.owner, m.disabled, m.granted)
							}
						}
					}
				}
			},
		})
	})
}

// withPlace makes a request that comes from a place.
func withPlace(where place, method, path, body string) *http.Request {
	switch where {
	case inside:
		r := from(atLoopback, method, path, body)
		return r.WithContext(context.WithValue(r.Context(), insideKey{}, true))
	case here:
		return from(atLoopback, method, path, body)
	}
	return from(atAfar, method, path, body)
}
