package api_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
)

func TestBackupTravelsToTheClientAndBack(t *testing.T) {
	t.Parallel()
	from, to := withUsers(t), withUsers(t)
	query(t, from.Client, `mutation { create_User(input: [{name: "Ada", age: 36}, {name: "Bo"}]) { name } }`)
	var file bytes.Buffer
	if err := from.ExportBackup(t.Context(), api.BackupOptions{Collections: []string{"User"}}, &file); err != nil {
		t.Fatal(err)
	}
	if done, err := to.ImportBackup(t.Context(), bytes.NewReader(file.Bytes()), api.ImportOptions{}); err != nil || done.Documents != 2 {
		t.Fatalf("import: %+v %v", done, err)
	}
	const all = `{ User(order: {name: ASC}) { _docID name age } }`
	if got, want := query(t, to.Client, all), query(t, from.Client, all); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := to.ImportBackup(t.Context(), bytes.NewReader(file.Bytes()), api.ImportOptions{}); !errors.Is(err, fault.Exists) {
		t.Errorf("once more: got %v, want exists", err)
	}
	var archive bytes.Buffer
	if err := from.SaveArchive(t.Context(), &archive); err != nil || !strings.HasPrefix(archive.String(), "pando archive 1\n") {
		t.Errorf("archive: %v, %.20q", err, archive.Bytes())
	}
}

// A client names files of the node only where the operator lets it, and never above.
func TestBackupOnTheNode(t *testing.T) {
	t.Parallel()
	closed := withUsers(t)
	for _, path := range []string{"/backup/export", "/backup/import"} {
		if status, body := closed.send(t, "POST", api.Base+path, `{"filepath": "x.json"}`); status != 403 || !strings.Contains(body, "--backup-dir") {
			t.Errorf("%s without a directory: %d %s", path, status, body)
		}
	}
	dir := t.TempDir()
	n := startWith(t, api.Config{BackupDir: filepath.Join(dir, "backups")})
	if err := os.MkdirAll(filepath.Join(dir, "backups", "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "backups", "pipe"), 0o600); err != nil { // nobody writes to it
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret.json"), []byte(`{"User": [{"name": "secret"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.AddSchema(t.Context(), `type User { name: String }`); err != nil {
		t.Fatal(err)
	}
	query(t, n.Client, `mutation { create_User(input: {name: "Ada"}) { name } }`)
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/backup/export", `{"filepath": "x.json", "format": "json", "pretty": true, "collections": ["User"]}`, 200},
		{"/backup/export", `{"filepath": "../x.json"}`, 400},
		{"/backup/export", `{"filepath": "` + dir + `/x.json"}`, 400},
		{"/backup/export", `{"filepath": "x.json", "collections": ["Pet"]}`, 404},
		{"/backup/export", `{"format": "cbor"}`, 400},
		{"/backup/export", `{"filepath": ""}`, 400},
		{"/backup/export", `{"filepath": "."}`, 400},
		{"/backup/export", `{"filepath": "sub"}`, 400},
		{"/backup/export", `{"filepath": "sub/"}`, 400},
		{"/backup/export", `{"filepath": "pipe"}`, 400},
		{"/backup/export", `{"filepath": "none/x.json"}`, 400},
		{"/backup/export", `{"filepath": "x.json"} {}`, 400},
		{"/backup/import", `{"filepath": ""}`, 400},
		{"/backup/import", `{"filepath": "."}`, 400},
		{"/backup/import", `{"filepath": "sub"}`, 400},
		{"/backup/import", `{"filepath": "pipe"}`, 400},
		{"/backup/import", `{"filepath": "x.json", "foo": 1}`, 400},
		{"/backup/import", `{"filepath": "x.json", "format": "cbor"}`, 400},
		{"/backup/import", `{"filepath": "x.json", "collections": ["User"]}`, 400},
		{"/backup/import?existing=skip", `{"filepath": "x.json", "format": "json", "pretty": false, "collections": null}`, 200},
		{"/backup/import", `{"filepath": "../secret.json"}`, 404},
		{"/backup/import", `{"filepath": "none.json"}`, 404},
		{"/backup/import", `{"filepath": "x.json"}`, 409},
		{"/backup/import?existing=skip", `{"filepath": "x.json"}`, 200},
		{"/backup/import", `{"User": [{"name": "Bo"}]}`, 200},
		{"/backup/import", `{"User": [{"name": `, 400},
		{"/backup/import", `{"User": "x"}`, 400},
	} {
		if status, body := n.send(t, "POST", api.Base+c.path, c.body); status != c.status {
			t.Errorf("%s %s: %d %s, want %d", c.path, c.body, status, body, c.status)
		}
	}
	if got, want := query(t, n.Client, `{ User(order: {name: ASC}) { name } }`), `{"User":[{"name":"Ada"},{"name":"Bo"}]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	left, err := filepath.Glob(filepath.Join(dir, "backups", "*"))
	if err != nil || len(left) != 3 { // the directory, the pipe, and x.json
		t.Errorf("files: %v %v", left, err)
	}
	if made, err := os.Stat(filepath.Join(dir, "backups", "x.json")); err != nil || made.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v (%v), want it closed to others: documents are in it", made.Mode(), err)
	}
	if inside, err := os.ReadDir(filepath.Join(dir, "backups", "sub")); err != nil || len(inside) != 0 {
		t.Errorf("files of the directory: %v %v", inside, err)
	}
}
