package acp

import (
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"
)

// The form of a policy for people and programs. ParsePolicy reads it as the same
// policy.
type (
	policyText struct {
		Name        string         `json:"name"`
		Description string         `json:"description,omitempty"`
		Actor       nameText       `json:"actor"`
		Resources   []resourceText `json:"resources"`
	}
	nameText struct {
		Name string `json:"name"`
	}
	resourceText struct {
		Name        string           `json:"name"`
		Permissions []permissionText `json:"permissions"`
		Relations   []relationText   `json:"relations"`
	}
	permissionText struct {
		Name string `json:"name"`
		Expr string `json:"expr"`
	}
	relationText struct {
		Name    string   `json:"name"`
		Types   []string `json:"types"`
		Manages []string `json:"manages,omitempty"`
	}
)

// Permissions returns the names of the permissions, sorted.
func (r *Rules) Permissions() []string { return slices.Sorted(maps.Keys(r.others)) }

// MarshalJSON returns the policy as a file that ParsePolicy reads.
func (p *Policy) MarshalJSON() ([]byte, error) {
	t := policyText{Name: p.Name, Description: p.Description, Actor: nameText{p.Actor}, Resources: []resourceText{}}
	for _, name := range p.Resources() {
		t.Resources = append(t.Resources, p.resources[name].text(name, p.Actor))
	}
	return json.Marshal(t)
}

func (s *resource) text(name, actor string) resourceText {
	t := resourceText{Name: name, Permissions: []permissionText{}, Relations: []relationText{}}
	for perm, relations := range sorted(s.permissions) {
		t.Permissions = append(t.Permissions, permissionText{perm, expression(relations)})
	}
	for rel, manages := range sorted(s.relations) {
		t.Relations = append(t.Relations, relationText{rel, []string{actor}, manages})
	}
	return t
}

// expression joins relations, the owner first.
func expression(relations []string) string {
	if i := slices.Index(relations, ownerName); i > 0 {
		relations = append([]string{ownerName}, slices.Delete(slices.Clone(relations), i, i+1)...)
	}
	return strings.Join(relations, " + ")
}

// sorted yields lists in the order of their names.
func sorted(lists map[string][]string) iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		for _, name := range slices.Sorted(maps.Keys(lists)) {
			if !yield(name, lists[name]) {
				return
			}
		}
	}
}
