package api

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"sync"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Relation is what somebody is to a node.
type Relation string

const (
	// Owner may do everything. There is one.
	Owner Relation = "owner"
	// Admin runs the node: schema, peers, backups; and lets users and operators in.
	Admin Relation = "admin"
	// Operator looks after the node: status, metrics, lists. Documents and secrets are
	// not for operators.
	Operator Relation = "operator"
	// User works with documents, as far as the policies of their collections let them.
	User Relation = "user"
)

// relations are those that are granted.
var relations = []Relation{Admin, Operator, User}

// Everyone stands for all who prove an identity, in grants of User.
const Everyone = "*"

// maxGrants bounds who is named in a node's access: it is read whole, and written whole.
const maxGrants = 10_000

// NodeAccess says to whom a node belongs, and who else may do what with it. Every change
// is durable before it counts.
type NodeAccess struct {
	file string // "": memory

	mu      sync.RWMutex // guards state
	state   accessState
	changed chan struct{} // closed by the next change
}

// accessState is what the file holds.
type accessState struct {
	Owner    pando.DID             `json:"owner,omitempty"`
	Disabled bool                  `json:"disabled,omitempty"`
	Granted  map[Relation][]string `json:"granted,omitempty"` // DIDs, sorted
}

// OpenNodeAccess reads who may do what with a node from a file, which need not exist;
// "" keeps it in memory. A file that is damaged is an error: a node must not forget its
// owner.
func OpenNodeAccess(file string) (*NodeAccess, error) {
	a := &NodeAccess{file: file, changed: make(chan struct{})}
	if file == "" {
		return a, nil
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fault.Unavailable.Errorf("node access: %w", err)
	}
	if err := json.Unmarshal(raw, &a.state); err == nil {
		if err = a.state.check(); err == nil {
			for r, all := range a.state.Granted { // somebody may have written it by hand
				slices.Sort(all)
				a.state.Granted[r] = slices.Compact(all)
			}
			return a, nil
		}
	}
	return nil, fault.Corrupt.Errorf("%s is damaged, so it is not known whose node this is: restore it, or move it away and claim the node again", file)
}

func (s accessState) check() error {
	if _, err := ident.ParseDID(string(s.Owner)); err != nil {
		return err
	}
	for r, all := range s.Granted {
		if !slices.Contains(relations, r) {
			return fault.Invalid.Errorf("relation %q is not known", r)
		}
		for _, who := range all {
			if err := checkSubject(r, who); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkSubject(r Relation, who string) error {
	if who == Everyone {
		if r == User {
			return nil
		}
		return fault.Invalid.Errorf("everyone (*) may be a user, and no %s", r)
	}
	_, err := ident.ParseDID(who)
	return err
}

// Claimed reports whether the node has an owner.
func (a *NodeAccess) Claimed() bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.state.Owner != ""
}

// Owner returns to whom the node belongs, "" if to nobody.
func (a *NodeAccess) Owner() pando.DID {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.state.Owner
}

// standing returns whether the node has an owner, and whether the checks are off.
func (a *NodeAccess) standing() (claimed, disabled bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.state.Owner != "", a.state.Disabled
}

// relationsOf returns what somebody is to the node.
func (a *NodeAccess) relationsOf(who pando.DID) (all []Relation) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if who != "" && who == a.state.Owner {
		all = append(all, Owner)
	}
	for _, r := range relations {
		if a.state.has(r, who) {
			all = append(all, r)
		}
	}
	return all
}

// names reports whether somebody in particular is something to the node.
func (a *NodeAccess) names(who pando.DID) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return who == a.state.Owner || slices.ContainsFunc(relations, func(r Relation) bool {
		_, ok := slices.BinarySearch(a.state.Granted[r], string(who))
		return ok
	})
}

func (s *accessState) has(r Relation, who pando.DID) bool {
	all := s.Granted[r]
	if _, ok := slices.BinarySearch(all, string(who)); ok {
		return true
	}
	return r == User && len(all) > 0 && all[0] == Everyone // it sorts before every DID
}

// allows reports whether a class of routes is open to somebody who proved an identity.
func (a *NodeAccess) allows(who pando.DID, c class) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if who == "" || c == local {
		return false
	}
	return who == a.state.Owner || slices.ContainsFunc(c.relations(), func(r Relation) bool { return a.state.has(r, who) })
}

// Claim makes somebody the owner of a node that has none.
func (a *NodeAccess) Claim(who pando.DID) error {
	return a.change(func(s *accessState) error {
		if s.Owner != "" && s.Owner != who {
			return fault.Exists.Errorf("the node belongs to %s: who sits at its machine can take it over, by pando node claim --recover", s.Owner)
		}
		s.Owner = who
		return nil
	})
}

// recover makes somebody the owner, whoever was before.
func (a *NodeAccess) recover(who pando.DID) error {
	return a.change(func(s *accessState) error {
		s.Owner, s.Disabled = who, false
		return nil
	})
}

// grant makes somebody something to the node; was is whether he was before.
func (a *NodeAccess) grant(r Relation, who string) (was bool, err error) {
	err = a.change(func(s *accessState) error {
		if s.Owner == "" {
			return fault.Invalid.Errorf("nobody owns this node: claim it first, by pando node claim")
		}
		if err := checkSubject(r, who); err != nil {
			return err
		}
		all := s.Granted[r]
		i, found := slices.BinarySearch(all, who)
		if was = found; was {
			return nil
		}
		if len(all) >= maxGrants {
			return fault.TooLarge.Errorf("%d are %s of this node: revoke some, or let everyone (*) be a user", len(all), r)
		}
		if s.Granted == nil {
			s.Granted = map[Relation][]string{}
		}
		s.Granted[r] = slices.Insert(all, i, who)
		return nil
	})
	return was, err
}

// revoke takes it back; was is whether there was something to take.
func (a *NodeAccess) revoke(r Relation, who string) (was bool, err error) {
	err = a.change(func(s *accessState) error {
		i, found := slices.BinarySearch(s.Granted[r], who)
		if was = found; was {
			s.Granted[r] = slices.Delete(s.Granted[r], i, i+1)
		}
		return nil
	})
	return was, err
}

// disable switches the checks off, or on again.
func (a *NodeAccess) disable(off bool) error {
	return a.change(func(s *accessState) error {
		if s.Owner == "" {
			return fault.Invalid.Errorf("nobody owns this node, so nothing is checked: claim it first, by pando node claim")
		}
		s.Disabled = off
		return nil
	})
}

// change changes a copy of the state, which counts when it is on disk.
func (a *NodeAccess) change(fn func(*accessState) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.state
	next.Granted = maps.Clone(next.Granted)
	for r, all := range next.Granted {
		next.Granted[r] = slices.Clone(all)
	}
	if err := fn(&next); err != nil {
		return err
	}
	if reflect.DeepEqual(next, a.state) { // of a node without owner there is nothing to keep
		return nil
	}
	if err := a.save(next); err != nil {
		return err
	}
	a.state = next
	close(a.changed)
	a.changed = make(chan struct{})
	return nil
}

// watch returns a channel that the next change closes.
func (a *NodeAccess) watch() <-chan struct{} {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.changed
}

// save replaces the file, whole or not at all.
func (a *NodeAccess) save(s accessState) error {
	if a.file == "" {
		return nil
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(a.file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Unavailable.Errorf("node access: %w", err)
	}
	f, err := os.CreateTemp(dir, ".access-*") // mode 0600
	if err != nil {
		return fault.Unavailable.Errorf("node access: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(raw, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), a.file)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fault.Unavailable.Errorf("node access: %w: nothing has changed", err)
	}
	return nil
}

// syncDir makes a new name survive a power loss.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // directories cannot be opened there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
