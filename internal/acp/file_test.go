package acp_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/acp"
)

// Files that people have. All of them say of users: the owner does everything,
// readers read, writers read and update, admins manage readers.
var usersFiles = map[string]string{
	"as DefraDB's documentation has it": `
name: users
description: A Valid Defra Policy Interface

actor:
  name: actor

resources:
  users:
    permissions:
      read:
        expr: owner + reader + writer
      update:
        expr: owner + writer
      delete:
        expr: owner
      nothing:
        expr: dummy

    relations:
      owner:
        types:
          - actor
      reader:
        types:
          - actor
      writer:
        types:
          - actor
      admin:
        manages:
          - reader
        types:
          - actor
      dummy:
        types:
          - actor
`,
	"as JSON": `{
  "name": "users",
  "description": "A Valid Defra Policy Interface",
  "actor": {"name": "actor"},
  "resources": {
    "users": {
      "permissions": {
        "read": {"expr": "owner + reader + writer"},
        "update": {"expr": "owner+writer"},
        "delete": {"expr": "owner"},
        "nothing": {"expr": "dummy"}
      },
      "relations": {
        "owner": {"types": ["actor"]},
        "reader": {"types": ["actor"]},
        "writer": {"types": ["actor"]},
        "admin": {"manages": ["reader"], "types": ["actor"]},
        "dummy": {"types": ["actor"]}
      }
    }
  }
}`,
	"with lists, in another order, on one line where that goes": `
description: A Valid Defra Policy Interface
resources:
- name: users
  relations:
  - {name: dummy}
  - {name: admin, manages: [reader]}
  - {name: writer, doc: who writes}
  - {name: reader}
  - {name: owner}
  permissions:
  - {name: nothing, expr: dummy}
  - {name: delete, expr: owner}
  - {name: update, expr: owner | writer}
  - {name: read, expr: "owner + writer + reader + reader"}
name: users
`,
	"with Windows line ends and comments": strings.ReplaceAll(`# policy
name: users
description: "A Valid Defra Policy Interface"
actor:
  name: actor
resources:
  users:
    permissions: # all four
      delete:  {expr: owner}
      nothing: {expr: dummy}
      read:    {expr: owner + reader + writer}
      update:  {expr: owner + writer}
    relations:
      owner:
      reader:
      writer: {types: []}
      admin: {manages: [reader, reader]}
      dummy:
`, "\n", "\r\n"),
}

// Spelling, order and form of a file are no part of what a policy is named by.
func TestOnePolicyInManyFiles(t *testing.T) {
	t.Parallel()
	var first *acp.Policy
	for name, text := range usersFiles {
		p, err := acp.ParsePolicy([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if first == nil {
			first = p
		}
		if p.Sum() != first.Sum() {
			shown, _ := json.MarshalIndent(p, "", " ")
			t.Errorf("%s, it is another policy: %s", name, shown)
		}
		if _, err := p.Rules("users"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is shown of a policy can be added on another node.
func TestAPolicyIsShownAsAFile(t *testing.T) {
	t.Parallel()
	for _, text := range []string{notes, shared, usersFiles["as JSON"]} {
		p, err := acp.ParsePolicy([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		shown, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := acp.ParsePolicy(shown)
		if err != nil || again.Sum() != p.Sum() {
			t.Fatalf("%s is read as another policy, %v", shown, err)
		}
	}
}

func TestFilesThatAreNoPolicies(t *testing.T) {
	t.Parallel()
	const whole = "name: n\nresources:\n  r:\n    permissions:\n      read: {expr: owner}\n      update: {expr: owner}\n      delete: {expr: owner}\n    relations:\n      owner: {types: [actor]}\n"
	if _, err := acp.ParsePolicy([]byte(whole)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":                    {"", "neither YAML nor JSON"},
		"a comment":                  {"# nothing\n", "neither YAML nor JSON"},
		"a text":                     {"policy", "want a mapping"},
		"a list":                     {"- name: n\n", "want a mapping"},
		"broken YAML":                {"name: [n\n", "neither YAML nor JSON"},
		"broken JSON":                {`{"name": "n", "resources": {`, "neither YAML nor JSON"},
		"binary":                     {"name: \xff\n", "UTF-8"},
		"two documents":              {whole + "---\n" + whole, "found more"},
		"no resources":               {"name: n\n", "resources are missing"},
		"empty resources":            {"name: n\nresources: {}\n", "name at least one"},
		"a resource without content": {"name: n\nresources:\n  r:\n", "want a mapping"},
		"an old permission":          {strings.Replace(whole, "update: ", "write: ", 1), `no permission "update"`},
		"no expression":              {strings.Replace(whole, "read: {expr: owner}", "read: {}", 1), "expr is missing"},
		"an empty expression":        {strings.Replace(whole, "read: {expr: owner}", `read: {expr: ""}`, 1), "join relations by +"},
		"owner not first":            {strings.Replace(whole, "read: {expr: owner}", "read: {expr: reader + owner}", 1), "line 5: expr must begin with owner"},
		"owner missing":              {strings.Replace(whole, "read: {expr: owner}", "read: {expr: reader}", 1), "line 5: expr must begin with owner"},
		"an intersection":            {strings.Replace(whole, "read: {expr: owner}", `read: {expr: "owner & reader"}`, 1), "only unions"},
		"an exclusion":               {strings.Replace(whole, "read: {expr: owner}", "read: {expr: owner - reader}", 1), "only unions"},
		"a relation over a resource": {strings.Replace(whole, "read: {expr: owner}", "read: {expr: owner + parent->owner}", 1), "join relations by +"},
		"a hanging plus":             {strings.Replace(whole, "read: {expr: owner}", "read: {expr: owner + }", 1), "join relations by +"},
		"a list as expression":       {strings.Replace(whole, "read: {expr: owner}", "read: {expr: [owner]}", 1), "want a text"},
		"types as text":              {strings.Replace(whole, "types: [actor]", "types: actor", 1), "want a list"},
		"another type":               {strings.Replace(whole, "types: [actor]", "types: [group]", 1), "groups are subjects of a grant"},
		"manages itself unknown":     {whole + "      admin: {manages: [reader]}\n", "no relation here"},
		"tabs":                       {strings.Replace(whole, "  r:", "\tr:", 1), "neither YAML nor JSON"},
		"an alias bomb":              {"name: n\na: &a [x, x]\nb: &b [*a, *a]\nresources: *b\n", ""},
		"a name that is no name":     {strings.Replace(whole, "  r:", "  \"r s\":", 1), "letters, digits"},
		"a number of names too many": {strings.Replace(whole, "name: n", "name: n\nversion: 1", 1), `"version" is not known`},
		"more than fits":             {whole + "# " + strings.Repeat("x", acp.MaxPolicy), "want at most"},
	} {
		p, err := acp.ParsePolicy([]byte(c.text))
		if err == nil {
			_, err = p.Rules("r")
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Older files of DefraDB have a description and no name.
func TestAPolicyNeedsNoName(t *testing.T) {
	t.Parallel()
	p, err := acp.ParsePolicy([]byte(strings.Replace(notes, "name: notes\n", "", 1)))
	if err != nil {
		t.Fatal(err)
	}
	again, err := acp.DecodePolicy(p.Encode())
	if err != nil || again.Name != "" || again.Sum() != p.Sum() {
		t.Errorf("it comes back as %v, %v", again, err)
	}
}
