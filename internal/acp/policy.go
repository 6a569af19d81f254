package acp

import (
	"crypto/sha256"
	"maps"
	"slices"
	"strings"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
)

// Limits of a policy. They are part of the format.
const (
	// MaxPolicy bounds the text of a policy, and its canonical form: it stands in
	// the first version of each collection that uses it.
	MaxPolicy = 64 << 10
	// MaxRelations lets a set of relations be a machine word.
	MaxRelations = 64
	// MaxPermissions is as many.
	MaxPermissions = 64
	// MaxResources is more than an application has kinds of documents.
	MaxResources = 256
	// MaxName bounds the names of resources, relations and permissions.
	MaxName = 128
)

const (
	policyVersion = 1
	policyDomain  = "pando/1 policy\n"
	ownerName     = "owner"
)

// required are the permissions that a resource of a collection has.
var required = []string{"read", "update", "delete"}

// Policy says for several resources which relations there are, and what they permit.
// It is immutable.
type Policy struct {
	Name, Description string
	Actor             string // what the policy calls those who have relations
	resources         map[string]*resource
	raw               []byte
}

// resource is what a policy says of one kind of documents.
type resource struct {
	permissions map[string][]string // the relations, sorted
	relations   map[string][]string // those that it manages, sorted
}

// Encode returns the canonical form. It must not be changed.
func (p *Policy) Encode() []byte { return p.raw }

// Sum returns what the policy is named by: the hash of its canonical form.
func (p *Policy) Sum() [32]byte {
	return sha256.Sum256(append([]byte(policyDomain), p.raw...))
}

// Resources returns the names of the resources, sorted.
func (p *Policy) Resources() []string { return slices.Sorted(maps.Keys(p.resources)) }

// seal checks the policy and makes its canonical form.
func (p *Policy) seal() error {
	if len(p.resources) == 0 {
		return fault.Invalid.Errorf("policy without resources: name at least one")
	}
	if len(p.resources) > MaxResources {
		return fault.Invalid.Errorf("policy of %d resources, want at most %d: make several policies", len(p.resources), MaxResources)
	}
	for _, name := range p.Resources() {
		if err := checkName("resource", name); err != nil {
			return err
		}
		if err := p.resources[name].check(); err != nil {
			return fault.Invalid.Errorf("resource %q: %w", name, err)
		}
	}
	p.raw = p.append(nil)
	if len(p.raw) > MaxPolicy {
		return fault.Invalid.Errorf("policy of %d bytes in canonical form, want at most %d", len(p.raw), MaxPolicy)
	}
	return nil
}

func (s *resource) check() error {
	if len(s.relations) > MaxRelations {
		return fault.Invalid.Errorf("%d relations, want at most %d", len(s.relations), MaxRelations)
	}
	if len(s.permissions) > MaxPermissions {
		return fault.Invalid.Errorf("%d permissions, want at most %d", len(s.permissions), MaxPermissions)
	}
	if _, ok := s.relations[ownerName]; !ok {
		return fault.Invalid.Errorf("relation owner is missing: who begins a document has it")
	}
	for name, manages := range s.relations {
		if err := checkName("relation", name); err != nil {
			return err
		}
		for _, m := range manages {
			if m == ownerName {
				return fault.Invalid.Errorf("relation %q manages owner: ownership is transferred by the owner only", name)
			}
			if _, ok := s.relations[m]; !ok {
				return fault.Invalid.Errorf("relation %q manages %q, which is no relation here", name, m)
			}
		}
	}
	for name, relations := range s.permissions {
		if err := checkName("permission", name); err != nil {
			return err
		}
		for _, rel := range relations {
			if _, ok := s.relations[rel]; !ok {
				return fault.Invalid.Errorf("permission %q names %q, which is no relation here", name, rel)
			}
		}
	}
	return nil
}

// checkName accepts what DefraDB does, and what a group reference can hold.
func checkName(what, name string) error {
	if name == "" || len(name) > MaxName {
		return fault.Invalid.Errorf("%s %.40q has %d bytes, want 1 to %d", what, name, len(name), MaxName)
	}
	for i, c := range []byte(name) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-') {
			return fault.Invalid.Errorf("%s %q: want letters, digits, _ and -, a letter or _ first", what, name)
		}
	}
	return nil
}

// append appends [version, name, description, actor, [*[resource,
// [*[permission, [*relation]]], [*[relation, [*managed]]]]]], all sorted by name.
func (p *Policy) append(b []byte) []byte {
	b = cbor.AppendArray(b, 5)
	b = cbor.AppendUint(b, policyVersion)
	b = cbor.AppendText(b, p.Name)
	b = cbor.AppendText(b, p.Description)
	b = cbor.AppendText(b, p.Actor)
	b = cbor.AppendArray(b, len(p.resources))
	for _, name := range p.Resources() {
		b = cbor.AppendArray(b, 3)
		b = cbor.AppendText(b, name)
		b = appendLists(b, p.resources[name].permissions)
		b = appendLists(b, p.resources[name].relations)
	}
	return b
}

func appendLists(b []byte, lists map[string][]string) []byte {
	b = cbor.AppendArray(b, len(lists))
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		b = cbor.AppendArray(b, 2)
		b = cbor.AppendText(b, name)
		b = cbor.AppendArray(b, len(lists[name]))
		for _, s := range lists[name] {
			b = cbor.AppendText(b, s)
		}
	}
	return b
}

// DecodePolicy reads the canonical form, and refuses every other.
func DecodePolicy(raw []byte) (*Policy, error) {
	if len(raw) > MaxPolicy {
		return nil, fault.Invalid.Errorf("policy of %d bytes, want at most %d", len(raw), MaxPolicy)
	}
	r := cbor.NewReader(raw)
	expectArray(r, "policy", 5)
	if v := r.Uint(); r.Err() == nil && v != policyVersion {
		r.Fail(fault.Invalid.Errorf("policy of version %d, want %d: was it written by a newer pando?", v, policyVersion))
	}
	p := &Policy{Name: r.Text(), Description: r.Text(), Actor: r.Text(), resources: map[string]*resource{}}
	last := ""
	for n := r.Array(); n > 0 && r.Err() == nil; n-- {
		expectArray(r, "resource", 3)
		name := readSorted(r, "resources", &last)
		p.resources[name] = &resource{permissions: readLists(r, "permissions"), relations: readLists(r, "relations")}
	}
	if err := r.Done(); err != nil {
		return nil, fault.Invalid.Errorf("policy: %w", err)
	}
	if p.Actor == "" {
		return nil, fault.Invalid.Errorf("policy without a name for its actors")
	}
	if err := p.seal(); err != nil {
		return nil, err
	}
	return p, nil
}

func expectArray(r *cbor.Reader, what string, want int) {
	if n := r.Array(); r.Err() == nil && n != want {
		r.Fail(fault.Invalid.Errorf("%s of %d parts, want %d", what, n, want))
	}
}

// readSorted reads a text that must come after the last one.
func readSorted(r *cbor.Reader, what string, last *string) string {
	s := r.Text()
	if r.Err() == nil && s <= *last {
		r.Fail(fault.Invalid.Errorf("%s are not sorted and unique", what))
	}
	*last = s
	return s
}

func readLists(r *cbor.Reader, what string) map[string][]string {
	lists := map[string][]string{}
	last := ""
	for n := r.Array(); n > 0 && r.Err() == nil; n-- {
		expectArray(r, what, 2)
		name := readSorted(r, what, &last)
		var list []string
		entry := ""
		for k := r.Array(); k > 0 && r.Err() == nil; k-- {
			list = append(list, readSorted(r, "names", &entry))
		}
		lists[name] = list
	}
	return lists
}

// Permission is a set of relations, any of which permits something.
type Permission uint64

// Rules are what a policy says of one resource. A nil *Rules is no policy: who asks
// has no need to.
type Rules struct {
	// Read, Update and Delete are what a database asks for.
	Read, Update, Delete Permission
	// Manage is of who may grant and revoke something, besides the owner.
	Manage Permission

	relations []string // sorted: places are what states name relations by
	manages   []uint64 // of each relation
	others    map[string]Permission
	owner     int
}

// Rules returns what the policy says of a resource, and Invalid if a collection
// cannot use it: the permissions read, update and delete must be there and begin
// with owner.
func (p *Policy) Rules(name string) (*Rules, error) {
	s, ok := p.resources[name]
	if !ok {
		return nil, fault.Invalid.Errorf("policy %q has no resource %q: it has %s", p.Name, name, strings.Join(p.Resources(), ", "))
	}
	r := &Rules{relations: slices.Sorted(maps.Keys(s.relations)), others: map[string]Permission{}}
	r.owner, _ = r.relation(ownerName)
	r.manages = make([]uint64, len(r.relations))
	for i, rel := range r.relations {
		r.manages[i] = r.set(s.relations[rel])
	}
	for perm, relations := range s.permissions {
		r.others[perm] = Permission(r.set(relations))
	}
	for _, perm := range required {
		mask, ok := r.others[perm]
		if !ok {
			return nil, fault.Invalid.Errorf("resource %q has no permission %q: a collection needs read, update and delete", name, perm)
		}
		if mask>>r.owner&1 == 0 {
			return nil, fault.Invalid.Errorf("resource %q: permission %q must begin with owner", name, perm)
		}
	}
	for i, managed := range r.manages {
		if managed != 0 {
			r.Manage |= 1 << i
		}
	}
	r.Read, r.Update, r.Delete = r.others["read"], r.others["update"], r.others["delete"]
	return r, nil
}

func (r *Rules) set(relations []string) (mask uint64) {
	for _, rel := range relations {
		if i, ok := r.relation(rel); ok {
			mask |= 1 << i
		}
	}
	return mask
}

// relation returns the place of a relation.
func (r *Rules) relation(name string) (int, bool) {
	return slices.BinarySearch(r.relations, name)
}

// Relations returns the names of the relations, sorted.
func (r *Rules) Relations() []string { return slices.Clone(r.relations) }

// Permission returns the permission of that name.
func (r *Rules) Permission(name string) (Permission, bool) {
	p, ok := r.others[name]
	return p, ok
}

// managers returns the relations that manage the one at that place.
func (r *Rules) managers(relation int) (mask uint64) {
	for i, m := range r.manages {
		if m>>relation&1 != 0 {
			mask |= 1 << i
		}
	}
	return mask
}

// Powers are the relations of whose holders it has to be known who they are to judge a
// commit: all but those that permit reading alone.
func (r *Rules) Powers() Permission { return r.Update | r.Delete | r.Manage }

// givers returns the relations whose holders give keys: those that manage something,
// as they say who reads, and those that permit to update, as who writes beside a
// revocation that somebody else made needs new keys to write under.
func (r *Rules) givers() uint64 {
	mask := uint64(r.Update)
	for i, m := range r.manages {
		if m != 0 {
			mask |= 1 << i
		}
	}
	return mask
}
