package schema_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

// noted is a policy of two resources, and notes is a collection that uses it.
const noted = `
name: notes
actor: {name: actor}
resources:
  note:
    permissions:
      read:   {expr: owner + reader}
      update: {expr: owner}
      delete: {expr: owner}
    relations:
      owner:  {types: [actor]}
      reader: {types: [actor]}
  folder:
    permissions:
      read:   {expr: owner}
      update: {expr: owner}
      delete: {expr: owner}
    relations:
      owner: {types: [actor]}
`

func policy(t rapid.TB, text string) *acp.Policy {
	t.Helper()
	p, err := acp.ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func protected(t rapid.TB, p *acp.Policy, resource string) *schema.Collection {
	t.Helper()
	cs, err := schema.Parse(fmt.Sprintf("type Note @policy(id: %q, resource: %q) { text: String }", dag.Digest(p.Sum()), resource), nil, p)
	if err != nil {
		t.Fatal(err)
	}
	return cs[0]
}

// Whoever holds the collection holds the rules: nothing but its bytes is needed.
func TestACollectionCarriesItsPolicy(t *testing.T) {
	t.Parallel()
	p := policy(t, noted)
	c, err := schema.Decode(protected(t, p, "note").Encode())
	if err != nil {
		t.Fatal(err)
	}
	if c.Access() == nil || fmt.Sprint(c.Access().Relations()) != "[owner reader]" {
		t.Fatalf("the rules are %v", c.Access())
	}
	if c.Policy.ID != p.Sum() || c.Policy.Resource != "note" || !bytes.Equal(c.Policy.Whole().Encode(), p.Encode()) {
		t.Fatalf("the policy is read as %v", c.Policy)
	}
	if c.Mode != dag.ModeOwned {
		t.Fatalf("documents are named in mode %d", c.Mode)
	}
	if open := parse(t, "type Note { text: String }")[0]; open.Access() != nil || open.ID == c.ID {
		t.Fatal("without a policy it is the same collection, or has rules")
	}
}

// Another policy, or another resource of the same, is another collection.
func TestTheIDOfACollectionCommitsToItsPolicy(t *testing.T) {
	t.Parallel()
	p := policy(t, noted)
	stricter := policy(t, strings.Replace(noted, "owner + reader", "owner", 1))
	ids := map[dag.CollectionID]bool{}
	for _, c := range []*schema.Collection{protected(t, p, "note"), protected(t, p, "folder"), protected(t, stricter, "note")} {
		ids[c.ID] = true
	}
	if len(ids) != 3 {
		t.Fatalf("three different rules give %d collections", len(ids))
	}
}

func TestAKnownCollectionMakesItsPolicyKnown(t *testing.T) {
	t.Parallel()
	p := policy(t, noted)
	note := protected(t, p, "note")
	sdl := fmt.Sprintf("type Folder @policy(id: %q, resource: \"folder\") { name: String }", note.Policy.ID)
	cs, err := schema.Parse(sdl, []*schema.Collection{note})
	if err != nil {
		t.Fatal(err)
	}
	if cs[0].Policy.ID != note.Policy.ID || cs[0].Access() == nil {
		t.Fatalf("the second collection has %v", cs[0].Policy)
	}
}

// successor returns a version that follows c, with a policy of its own choice.
func successor(t *testing.T, c *schema.Collection, p *acp.Policy, resource string) (*schema.Collection, error) {
	t.Helper()
	format, items := uint64(4), 10
	if p == nil {
		format, items = 2, 9
	}
	b := cbor.AppendUint(cbor.AppendArray(nil, items), format)
	b = cbor.AppendText(b, c.Name)
	b = cbor.AppendUint(b, uint64(c.Mode))
	b = cbor.AppendArray(b, 0)
	b = cbor.AppendBytes(cbor.AppendBytes(cbor.AppendArray(b, 2), c.ID[:]), c.Version[:])
	if p == nil {
		b = cbor.AppendNull(b)
	} else {
		b = cbor.AppendText(cbor.AppendBytes(cbor.AppendArray(b, 2), p.Encode()), resource)
	}
	b = cbor.AppendArray(b, 0) // no fields
	b = cbor.AppendArray(b, 0) // no rules
	b = cbor.AppendNull(b)
	if p == nil {
		b[0], b[1] = 0x87, 1 // which without rules is format 1
		b = b[:len(b)-2]
	} else {
		b = cbor.AppendUint(b, 0)
	}
	return schema.Decode(b)
}

func TestLaterVersionsKeepThePolicy(t *testing.T) {
	t.Parallel()
	p := policy(t, noted)
	c := protected(t, p, "note")
	for name, v := range map[string]struct {
		policy   *acp.Policy
		resource string
		ok       bool
	}{
		"the same":         {p, "note", true},
		"another resource": {p, "folder", false},
		"another policy":   {policy(t, strings.Replace(noted, "owner + reader", "owner", 1)), "note", false},
		"none":             {nil, "", false},
	} {
		next, err := successor(t, c, v.policy, v.resource)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err = schema.NewLineage([]*schema.Collection{c, next})
		if v.ok && err != nil || !v.ok && fault.Of(err) != fault.Invalid {
			t.Errorf("%s: the lineage gives %v", name, err)
		}
	}
	open := parse(t, "type Note @docID(mode: OWNED)")[0]
	next, err := successor(t, open, p, "note")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schema.NewLineage([]*schema.Collection{open, next}); fault.Of(err) != fault.Invalid {
		t.Errorf("a policy that comes later: the lineage gives %v", err)
	}
}

func TestAPatchKeepsThePolicy(t *testing.T) {
	t.Parallel()
	c := protected(t, policy(t, noted), "note")
	apply := func(text string) ([]*schema.Collection, error) {
		return schema.Patch{Text: []byte(text)}.Apply([]*schema.Collection{c})
	}
	made, err := apply(`[{"op": "add", "path": "/Note/Fields/-", "value": {"Name": "title", "Kind": "String"}}]`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schema.NewLineage([]*schema.Collection{c, made[0]}); err != nil || made[0].Access() == nil || made[0].Policy.ID != c.Policy.ID {
		t.Fatalf("the next version has the policy %v, %v", made[0].Policy, err)
	}
	for _, text := range []string{
		`[{"op": "add", "path": "/Note/Policy", "value": {"ID": "x", "ResourceName": "folder"}}]`,
		`[{"op": "add", "path": "/Note/Policy", "value": null}]`,
	} {
		if _, err := apply(text); fault.Of(err) != fault.Invalid || !strings.Contains(err.Error(), "policy cannot be mutated") {
			t.Errorf("%s gives %v", text, err)
		}
	}
}

// What a peer sends is held to what Parse makes.
func TestDecodeRefusesPoliciesThatNobodyWouldEnforce(t *testing.T) {
	t.Parallel()
	p := policy(t, noted)
	encode := func(format int, mode dag.Mode, policy func([]byte) []byte) []byte {
		b := cbor.AppendUint(cbor.AppendArray(nil, map[int]int{1: 7, 2: 9, 3: 10, 4: 10}[format]), uint64(format))
		b = cbor.AppendUint(cbor.AppendText(b, "Note"), uint64(mode))
		b = cbor.AppendNull(cbor.AppendArray(b, 0))
		b = cbor.AppendArray(orNull(b, policy), 0)
		if format > 1 {
			b = cbor.AppendNull(cbor.AppendArray(b, 0))
		}
		if format > 2 {
			b = cbor.AppendUint(b, map[int]uint64{3: 1, 4: 0}[format])
		}
		return b
	}
	pair := func(raw []byte, resource string) func([]byte) []byte {
		return func(b []byte) []byte {
			return cbor.AppendText(cbor.AppendBytes(cbor.AppendArray(b, 2), raw), resource)
		}
	}
	sound := pair(p.Encode(), "note")
	if _, err := schema.Decode(encode(4, dag.ModeOwned, sound)); err != nil {
		t.Fatalf("the sound version is refused: %v", err)
	}
	named := func(b []byte) []byte {
		return cbor.AppendText(cbor.AppendText(cbor.AppendArray(b, 2), "p"), "note")
	}
	for name, raw := range map[string][]byte{
		"a policy that is only named":      encode(2, dag.ModeOwned, named),
		"a named policy in the new format": encode(4, dag.ModeOwned, named),
		"a policy in format 1":             encode(1, dag.ModeOwned, sound),
		"a policy in format 2":             encode(2, dag.ModeOwned, sound),
		"a policy in format 3":             encode(3, dag.ModeOwned, sound),
		"the format without a policy":      encode(4, dag.ModeOwned, nil),
		"documents without an owner":       encode(4, dag.ModeContent, sound),
		"an unknown resource":              encode(4, dag.ModeOwned, pair(p.Encode(), "notes")),
		"no policy in it":                  encode(4, dag.ModeOwned, pair(nil, "note")),
		"a policy cut short":               encode(4, dag.ModeOwned, pair(p.Encode()[:len(p.Encode())-1], "note")),
		"a policy that is too long":        encode(4, dag.ModeOwned, pair(make([]byte, acp.MaxPolicy+1), "note")),
	} {
		c, err := schema.Decode(raw)
		if err == nil {
			t.Errorf("%s: accepted as %s", name, c.SDL())
		} else if fault.Of(err) == nil {
			t.Errorf("%s: error without a kind: %v", name, err)
		}
	}
}
