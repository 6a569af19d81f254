package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// notesFile is a policy as DefraDB's users have it.
const notesFile = `name: notes
description: A Valid Defra Policy Interface
actor:
  name: actor
resources:
  note:
    permissions:
      read:
        expr: owner + reader
      update:
        expr: owner
      delete:
        expr: owner
    relations:
      owner:
        types:
          - actor
      reader:
        types:
          - actor
`

// The routes of DefraDB do what its users know, and those beside them the rest.
func TestPoliciesAndRelationshipsOverHTTP(t *testing.T) {
	t.Parallel()
	n := start(t)
	post := func(path, body string) string {
		t.Helper()
		status, answer := ask(t, n, "POST", path, body)
		if status != 200 {
			t.Fatalf("POST %s: %d %s", path, status, answer)
		}
		return answer
	}
	var added struct{ PolicyID string }
	if err := json.Unmarshal([]byte(post("/acp/document/policy", notesFile)), &added); err != nil || !strings.HasPrefix(added.PolicyID, "bafkrei") {
		t.Fatalf("the policy is %q, %v", added.PolicyID, err)
	}
	post("/schema", fmt.Sprintf("type Note @policy(id: %q, resource: \"note\") { text: String } type Open { text: String }", added.PolicyID))
	docID := func(answer string) string {
		t.Helper()
		_, rest, _ := strings.Cut(answer, `"_docID":"`)
		id, _, ok := strings.Cut(rest, `"`)
		if !ok {
			t.Fatalf("no docID in %s", answer)
		}
		return id
	}
	note := docID(post("/graphql", `{"query": "mutation { create_Note(input: {text: \"plan\"}) { _docID } }"}`))
	open := docID(post("/graphql", `{"query": "mutation { create_Open(input: {text: \"all\"}) { _docID } }"}`))
	const bob = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
	relationship := fmt.Sprintf(`{"CollectionName": "Note", "DocID": %q, "Relation": "reader", "TargetActor": %q}`, note, bob)
	asked := "?collection=Note&docID=" + note
	for _, step := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/acp/document/policy", "", 200, fmt.Sprintf(`[{"PolicyID":%q,"Name":"notes","Description":"A Valid Defra Policy Interface","Resources":["note"]}]`, added.PolicyID)},
		{"GET", "/acp/document/policy/" + added.PolicyID, "", 200, `{"name":"notes","description":"A Valid Defra Policy Interface","actor":{"name":"actor"},"resources":[{"name":"note",`},
		{"GET", "/acp/document/policy/notes", "", 400, "want 59 characters"},
		{"POST", "/acp/document/policy", "name: x", 400, "resources are missing"},
		{"POST", "/acp/document/policy", "", 400, "neither YAML nor JSON"},
		{"GET", "/collections?name=Note", "", 200, fmt.Sprintf(`"Policy":{"ID":%q,"ResourceName":"note"}`, added.PolicyID)},

		{"POST", "/acp/document/relationship", relationship, 200, `{"ExistedAlready":false}`},
		{"POST", "/acp/document/relationship", relationship, 200, `{"ExistedAlready":true}`},
		{"GET", "/acp/document/relationship" + asked, "", 200, fmt.Sprintf(`"Relationships":[{"Relation":"reader","TargetActor":%q}],"Pending":[]}`, bob)},
		{"GET", "/acp/document/relationship?docID=" + note, "", 200, `"Permissions":["delete","read","update"]`},
		{"GET", "/acp/document/allowed" + asked + "&permission=read&actor=" + bob, "", 200, `{"Allowed":true}`},
		{"GET", "/acp/document/allowed" + asked + "&permission=update&actor=" + bob, "", 200, `{"Allowed":false}`},
		{"GET", "/acp/document/allowed" + asked + "&permission=update", "", 200, `{"Allowed":true}`},
		{"GET", "/acp/document/allowed" + asked + "&permission=print&actor=" + bob, "", 400, "it has delete, read, update"},
		{"DELETE", "/acp/document/relationship", relationship, 200, `{"RecordFound":true}`},
		{"DELETE", "/acp/document/relationship", relationship, 200, `{"RecordFound":false}`},
		{"POST", "/acp/document/relationship", strings.Replace(relationship, bob, "*", 1), 200, `{"ExistedAlready":false}`},
		{"POST", "/acp/document/relationship", strings.Replace(relationship, bob, note+"#reader", 1), 200, `{"ExistedAlready":false}`},

		{"POST", "/acp/document/relationship", strings.Replace(relationship, "reader", "friend", 1), 400, "it has owner, reader"},
		{"POST", "/acp/document/relationship", strings.Replace(relationship, "reader", "owner", 1), 400, "transfer it"},
		{"POST", "/acp/document/relationship", strings.Replace(relationship, bob, "bob", 1), 400, "want a DID"},
		{"POST", "/acp/document/relationship", strings.Replace(relationship, note, "x", 1), 400, ""},
		{"POST", "/acp/document/relationship", `{"CollectionName": "Note", "Relation": "reader"}`, 400, "docID is missing"},
		{"POST", "/acp/document/relationship", strings.Replace(relationship, "Note", "Nothing", 1), 404, ""},
		{"POST", "/acp/document/relationship", strings.NewReplacer("Note", "Open", note, open).Replace(relationship), 400, "has no policy"},
		{"GET", "/acp/document/relationship?docID=" + open, "", 400, "has no policy"},
		{"GET", "/acp/document/relationship", "", 400, "docID is missing"},
		{"POST", "/acp/document/relationship", strings.Replace(relationship, "Relation\"", "Role\"", 1), 400, "Role"},

		{"POST", "/acp/document/accept", fmt.Sprintf(`{"DocID": %q}`, note), 200, `{"Accepted":0}`},
		{"POST", "/acp/document/accept", fmt.Sprintf(`{"DocID": %q, "Commits": ["bafyreicvmpvxv7ozfpbwdt66leygye4qtjop7advbywi3es73so6bepvq4"]}`, note), 404, "none of document"},
		{"POST", "/acp/document/accept", fmt.Sprintf(`{"DocID": %q, "Commits": ["x"]}`, note), 400, ""},
		{"POST", "/acp/document/transfer", fmt.Sprintf(`{"DocID": %q, "TargetActor": "*"}`, note), 400, ""},
		{"POST", "/acp/document/transfer", fmt.Sprintf(`{"DocID": %q, "TargetActor": %q}`, note, bob), 200, ""},
		{"GET", "/acp/document/relationship?docID=" + note, "", 200, fmt.Sprintf(`{"Owner":%q,"Permissions":["read"],`, bob)},
		{"POST", "/acp/document/transfer", fmt.Sprintf(`{"DocID": %q, "TargetActor": %q}`, note, bob), 403, "may not transfer"},
		{"DELETE", "/acp/document/relationship", strings.Replace(relationship, bob, "*", 1), 403, "may not revoke"},
	} {
		status, answer := ask(t, n, step.method, step.path, step.body)
		if status != step.status || !strings.Contains(answer, step.says) {
			t.Errorf("%s %s %s: %d %s, want %d with %s", step.method, step.path, step.body, status, answer, step.status, step.says)
		}
	}
}
