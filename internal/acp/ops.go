package acp

import (
	"cmp"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Subject is who a relation is granted to: a key, everybody who has a relation in a
// group document, or everyone. The zero Subject is nobody.
type Subject struct {
	Key      ident.PublicKey
	Group    ID     // the docID, with Relation
	Relation string // of the group
	All      bool
}

// Everyone is the subject that anybody is.
var Everyone = Subject{All: true}

// OfKey returns the subject that has that key.
func OfKey(k ident.PublicKey) Subject { return Subject{Key: k} }

// OfGroup returns the subject that everybody is who has the relation in the document.
func OfGroup(group ID, relation string) Subject { return Subject{Group: group, Relation: relation} }

// Compare orders everyone first, then keys, then groups.
func (s Subject) Compare(o Subject) int {
	return cmp.Or(
		cmp.Compare(s.kind(), o.kind()),
		cmp.Compare(s.Key, o.Key),
		s.Group.Compare(o.Group),
		cmp.Compare(s.Relation, o.Relation),
	)
}

// How subjects are told apart in the bytes of a state, and their order there.
const (
	kindEveryone = 1
	kindKey      = 2
	kindGroup    = 3
)

func (s Subject) kind() byte {
	switch {
	case s.All:
		return kindEveryone
	case s.Relation != "":
		return kindGroup
	}
	return kindKey
}

func (s Subject) check() error {
	switch s.kind() {
	case kindEveryone:
		return nil
	case kindGroup:
		return checkName("relation of a group", s.Relation)
	}
	return s.Key.Check()
}

// groupPrefix stands before the hash in the binary form of a docID.
const groupPrefix = "\x01\x55\x12\x20"

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// String returns the form that ParseSubject reads: a DID, docID#relation, or *.
func (s Subject) String() string {
	switch s.kind() {
	case kindEveryone:
		return "*"
	case kindGroup:
		return "b" + base32Lower.EncodeToString(append([]byte(groupPrefix), s.Group[:]...)) + "#" + s.Relation
	}
	return s.Key.String()
}

// ParseSubject reads a DID, docID#relation, or *.
func ParseSubject(text string) (Subject, error) {
	if text == "*" {
		return Everyone, nil
	}
	if group, relation, ok := strings.Cut(text, "#"); ok && !strings.HasPrefix(text, "did:") {
		var s Subject
		raw, err := base32Lower.DecodeString(strings.TrimPrefix(group, "b"))
		if err == nil && len(raw) == len(groupPrefix)+32 {
			s = Subject{Group: ID(raw[len(groupPrefix):]), Relation: relation}
		}
		if s.check() != nil || s.String() != text {
			return Subject{}, fault.Invalid.Errorf("subject %.160q: want the docID of a group, # and one of its relations, such as bafkrei…#member", text)
		}
		return s, nil
	}
	if !strings.HasPrefix(text, "did:") {
		return Subject{}, fault.Invalid.Errorf("subject %.160q: want a DID, docID#relation of a group, or * for everyone", text)
	}
	k, err := ident.DID(text).PublicKey()
	return Subject{Key: k}, err
}

// OpKind is what an access operation does. Its number is part of the commit format.
type OpKind uint8

const (
	Grant    OpKind = 1 // give the subject the relation
	Revoke   OpKind = 2 // take it away
	Transfer OpKind = 3 // make the subject, a key, the owner
	Accept   OpKind = 4 // let commits count that are void
)

// String returns the name of the kind.
func (k OpKind) String() string {
	switch k {
	case Grant:
		return "grant"
	case Revoke:
		return "revoke"
	case Transfer:
		return "transfer"
	case Accept:
		return "accept"
	}
	return "unknown access operation"
}

// Op is an access operation.
type Op struct {
	Kind     OpKind
	Relation string  // of Grant and Revoke
	Subject  Subject // of Grant, Revoke and Transfer
	Commits  []ID    // of Accept, sorted and unique
}

// String says what the operation does, such as "grant reader did:key:…".
func (o Op) String() string {
	switch o.Kind {
	case Grant, Revoke:
		return o.Kind.String() + " " + o.Relation + " " + o.Subject.String()
	case Transfer:
		return o.Kind.String() + " " + o.Subject.String()
	}
	return fmt.Sprintf("%s %d commits", o.Kind, len(o.Commits))
}

// Delta returns the operation as it stands in a commit. Accepted commits are sorted.
func (o Op) Delta() crdt.Delta {
	return crdt.Delta{Field: crdt.FieldAccess, Kind: crdt.KindAccess, Void: true, Raw: o.append(nil)}
}

func (o Op) append(b []byte) []byte {
	switch o.Kind {
	case Grant, Revoke:
		b = cbor.AppendArray(b, 3)
		b = cbor.AppendUint(b, uint64(o.Kind))
		b = cbor.AppendText(b, o.Relation)
		return o.Subject.append(b)
	case Transfer:
		b = cbor.AppendArray(b, 2)
		b = cbor.AppendUint(b, uint64(o.Kind))
		return cbor.AppendBytes(b, []byte(o.Subject.Key))
	}
	commits := slices.Clone(o.Commits)
	slices.SortFunc(commits, ID.Compare)
	commits = slices.Compact(commits)
	b = cbor.AppendArray(b, 2)
	b = cbor.AppendUint(b, uint64(o.Kind))
	b = cbor.AppendArray(b, len(commits))
	for _, id := range commits {
		b = cbor.AppendBytes(b, id[:])
	}
	return b
}

func (s Subject) append(b []byte) []byte {
	switch s.kind() {
	case kindEveryone:
		return cbor.AppendText(b, "*")
	case kindGroup:
		b = cbor.AppendArray(b, 2)
		b = cbor.AppendBytes(b, s.Group[:])
		return cbor.AppendText(b, s.Relation)
	}
	return cbor.AppendBytes(b, []byte(s.Key))
}

// Ops returns the access operations among those of a commit. One that is malformed
// makes a commit invalid in a collection with a policy.
func Ops(deltas []crdt.Delta) ([]Op, error) {
	var ops []Op
	for i := range deltas {
		d := &deltas[i]
		if d.Field != crdt.FieldAccess {
			continue
		}
		if d.Kind != crdt.KindAccess {
			return nil, fault.Invalid.Errorf("operation %d: kind %v on the field of access operations: use another field", i, d.Kind)
		}
		op, err := readOp(d.Raw)
		if err != nil {
			return nil, fault.Invalid.Errorf("operation %d: %w", i, err)
		}
		ops = append(ops, op)
	}
	return ops, checkOps(ops)
}

// checkOps checks what operations of one commit have to do with each other.
func checkOps(ops []Op) error {
	accepted, transfers := 0, 0
	for _, op := range ops {
		accepted += len(op.Commits)
		if op.Kind == Transfer {
			transfers++
		}
	}
	switch {
	case len(ops) > MaxOps:
		return fault.Invalid.Errorf("%d access operations in one commit, want at most %d: make several commits", len(ops), MaxOps)
	case accepted > MaxAccepted:
		return fault.Invalid.Errorf("%d commits accepted by one commit, want at most %d: make several commits", accepted, MaxAccepted)
	case transfers > 1:
		return fault.Invalid.Errorf("%d transfers in one commit: a document has one owner", transfers)
	}
	return nil
}

func readOp(raw []byte) (op Op, err error) {
	r := cbor.NewReader(raw)
	parts := r.Array()
	kind := r.Uint()
	want := 2
	switch op.Kind = OpKind(kind); {
	case kind == uint64(Grant), kind == uint64(Revoke):
		want = 3
		op.Relation = r.Text()
		op.Subject = readSubject(r)
	case kind == uint64(Transfer):
		op.Subject.Key = ident.PublicKey(r.Bytes())
	case kind == uint64(Accept):
		op.Commits = readIDs(r)
	default:
		r.Fail(fault.Invalid.Errorf("access operation of unknown kind %d: want 1 to %d", kind, Accept))
	}
	if err := r.Done(); err != nil {
		return Op{}, err
	}
	if parts != want {
		return Op{}, fault.Invalid.Errorf("%v of %d parts, want %d", op.Kind, parts, want)
	}
	return op, op.check()
}

func (o Op) check() error {
	switch o.Kind {
	case Grant, Revoke:
		if err := checkName("relation", o.Relation); err != nil {
			return err
		}
		if o.Relation == ownerName {
			return fault.Invalid.Errorf("%v of the relation owner: ownership is transferred, not granted", o.Kind)
		}
	case Accept:
		if len(o.Commits) == 0 {
			return fault.Invalid.Errorf("acceptance of nothing: name the commits")
		}
		return nil
	}
	return o.Subject.check()
}

func readSubject(r *cbor.Reader) (s Subject) {
	switch r.Peek() {
	case cbor.Text:
		if text := r.Text(); r.Err() == nil && text != "*" {
			r.Fail(fault.Invalid.Errorf("subject %.40q: want a key, a group, or * for everyone", text))
		}
		s.All = true
	case cbor.Array:
		if n := r.Array(); r.Err() == nil && n != 2 {
			r.Fail(fault.Invalid.Errorf("group of %d parts, want 2: docID and relation", n))
		}
		s.Group = readID(r)
		s.Relation = r.Text()
		if r.Err() == nil && s.Relation == "" {
			r.Fail(fault.Invalid.Errorf("group without a relation: name one"))
		}
	default:
		s.Key = ident.PublicKey(r.Bytes())
	}
	return s
}

func readID(r *cbor.Reader) (id ID) {
	b := r.Bytes()
	if r.Err() == nil && len(b) != len(id) {
		r.Fail(fault.Invalid.Errorf("identity of %d bytes, want %d", len(b), len(id)))
	}
	copy(id[:], b)
	return id
}

// readIDs reads identities that are sorted and unique. Their number is bounded by
// the bytes that are there.
func readIDs(r *cbor.Reader) []ID {
	var ids []ID
	for n := r.Array(); n > 0 && r.Err() == nil; n-- {
		id := readID(r)
		if k := len(ids); k > 0 && ids[k-1].Compare(id) >= 0 {
			r.Fail(fault.Invalid.Errorf("identities are not sorted and unique: sort them"))
		}
		ids = append(ids, id)
	}
	return ids
}

// Need is what a commit asks of the rights of its author.
type Need struct {
	Update bool // ordinary operations, or none at all
	Delete bool // operations on the status
	Keys   bool // operations on keys
	Ops    []Op // each by its own rule
}

// NeedOf returns what a commit with these operations in clear needs; sealed says
// that it has other segments too, or is no write. Malformed operations make a commit
// invalid in a collection with a policy.
func NeedOf(deltas []crdt.Delta, sealed bool) (n Need, err error) {
	if n.Ops, err = Ops(deltas); err != nil {
		return Need{}, err
	}
	for i := range deltas {
		switch d := &deltas[i]; d.Field {
		case crdt.FieldStatus:
			n.Delete = true
		case crdt.FieldAccess:
		case crdt.FieldKeys:
			if d.Kind != crdt.KindKeys {
				return Need{}, fault.Invalid.Errorf("operation %d: kind %v on the field of keys: use another field", i, d.Kind)
			}
			n.Keys = true
		default:
			n.Update = true
		}
	}
	n.Update = n.Update || sealed || len(deltas) == 0
	return n, nil
}

// owned reports whether the commit needs its author to be the owner.
func (n *Need) owned() bool {
	return slices.ContainsFunc(n.Ops, func(o Op) bool { return o.Kind == Transfer || o.Kind == Accept })
}
