package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// BackupOptions say what a backup file holds.
type BackupOptions struct {
	// FilePath is a file on the node, below the directory that its operator chose.
	// Without one the backup is the answer.
	FilePath    string   `json:"filepath,omitempty"`
	Format      string   `json:"format,omitempty"` // json, or nothing
	Pretty      bool     `json:"pretty,omitempty"`
	Collections []string `json:"collections,omitempty"` // none: all
}

// BackupImported says what the import of a backup file has done.
type BackupImported struct {
	Documents int `json:"documents"`
	Skipped   int `json:"skipped,omitempty"` // existed already
}

// exportBackup answers with a backup file, or writes it on the node.
func (s *Server) exportBackup(w http.ResponseWriter, r *http.Request) {
	var o backupRequest
	err := plain(r)
	if err == nil {
		err = readOptions(w, r, &o)
	}
	if err == nil {
		err = o.check()
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := s.work(r, admin)
	defer cancel()
	export := func(out io.Writer) error {
		return s.as(ctx).Export(ctx, out, pando.ExportOptions{Collections: o.Collections, Pretty: o.Pretty})
	}
	if o.FilePath == nil {
		s.sendFile(w, r, "application/json", export)
		return
	}
	if err := s.writeBackup(*o.FilePath, export); err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// backupRequest is what a body asks for, with or without a file on the node.
type backupRequest struct {
	FilePath    *string  `json:"filepath"`
	Format      string   `json:"format"`
	Pretty      bool     `json:"pretty"`
	Collections []string `json:"collections"`
}

func (o backupRequest) check() error {
	if o.FilePath != nil && *o.FilePath == "" {
		return fault.Invalid.Errorf("filepath is empty: name a file below the backup directory of the node, or leave it out")
	}
	if o.Format != "" && o.Format != "json" {
		return fault.Invalid.Errorf("format %q: only json exists", o.Format)
	}
	return nil
}

// readOptions reads a body that may be left out.
func readOptions(w http.ResponseWriter, r *http.Request, o *backupRequest) error {
	raw, err := readAllBody(w, r)
	if err != nil || len(raw) == 0 {
		return err
	}
	return readJSON(raw, o)
}

// saveArchive answers with an archive of the whole database.
func (s *Server) saveArchive(w http.ResponseWriter, r *http.Request) {
	if err := plain(r); err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := s.work(r, owner)
	defer cancel()
	s.sendFile(w, r, "application/octet-stream", func(out io.Writer) error { _, err := s.db.Save(ctx, out); return err })
}

// sendFile answers with what write writes. A failure before anything was sent is an
// ordinary answer; a later one cuts the answer off.
func (s *Server) sendFile(w http.ResponseWriter, r *http.Request, contentType string, write func(io.Writer) error) {
	out := bufio.NewWriterSize(&patientWriter{w, http.NewResponseController(w), contentType}, 64<<10)
	err := write(out)
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		return
	}
	if hasBegun(w) {
		s.log.Warn("an answer broke off", "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
	s.fail(w, r, err)
}

// writeBackup makes a file below the directory for backups, whole or not at all.
func (s *Server) writeBackup(name string, write func(io.Writer) error) (err error) {
	dir, err := s.backupRoot()
	if err != nil {
		return err
	}
	defer dir.Close()
	name = filepath.FromSlash(name)
	if old, err := dir.Lstat(name); err == nil && old.Mode()&fs.ModeSymlink == 0 {
		if err := isFile(name, old); err != nil {
			return err
		}
	}
	fresh := name + "." + rand.Text() + ".part" // of its own, whoever else writes the same backup
	f, err := dir.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fault.Invalid.Errorf("failed to create file: %w: name one below the backup directory of the node", err)
	}
	defer func() {
		if err != nil {
			_ = dir.Remove(fresh)
		}
	}()
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return dir.Rename(fresh, name)
}

// isFile refuses what has no contents of its own: reading a pipe may take for ever.
func isFile(name string, what fs.FileInfo) error {
	if what.Mode().IsRegular() {
		return nil
	}
	return fault.Invalid.Errorf("filepath %q is a directory, a pipe or a device: name a file below the backup directory of the node", name)
}

func (s *Server) backupRoot() (*os.Root, error) {
	if s.backups == "" {
		return nil, fault.Denied.Errorf("filepath: this node writes and reads no files for its clients: leave it out and take the backup as the answer, or start the node with --backup-dir")
	}
	dir, err := os.OpenRoot(s.backups)
	if err != nil {
		return nil, fault.Unavailable.Errorf("backup directory: %w", err)
	}
	return dir, nil
}

// importBackup creates the documents of a backup file: the body, or a file of the
// node that it names.
func (s *Server) importBackup(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := s.work(r, admin)
	defer cancel()
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/2 and recorders are full duplex, or need not be
	body := bufio.NewReaderSize(&patientBody{Reader: r.Body, control: control}, 64<<10)
	done, err := s.takeBackup(ctx, r, body)
	if err != nil {
		s.fail(w, r, err)
		_ = control.Flush() // the client has gone; there is nobody to tell
		drain(r.Body, control)
		return
	}
	s.answer(w, http.StatusOK, BackupImported{done.Documents, done.Skipped})
}

func (s *Server) takeBackup(ctx context.Context, r *http.Request, body *bufio.Reader) (done pando.Imported, err error) {
	if err := refuseTx(r); err != nil {
		return done, err
	}
	skip, err := existingPolicy(r)
	if err != nil {
		return done, err
	}
	in := io.Reader(body)
	name, named, err := filePath(body)
	if err != nil {
		return done, err
	}
	if named {
		f, err := s.openBackup(name)
		if err != nil {
			return done, err
		}
		defer f.Close()
		in = f
	}
	return s.as(ctx).Import(ctx, in, pando.ImportOptions{SkipExisting: skip})
}

// openBackup opens a file below the directory for backups.
func (s *Server) openBackup(name string) (*os.File, error) {
	dir, err := s.backupRoot()
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	what, err := dir.Stat(name)
	if err == nil {
		err = isFile(name, what) // before it is opened, which may take for ever, too
	}
	var f *os.File
	if err == nil {
		f, err = dir.Open(name)
	}
	if err != nil && fault.Of(err) == nil {
		err = fault.NotFound.Errorf("failed to open file: %w: name one below the backup directory of the node", err)
	}
	return f, err
}

// filePath reads a body such as {"filepath": "x.json"}. Any other is a backup, for
// collections are arrays.
func filePath(body *bufio.Reader) (name string, ok bool, err error) {
	start, err := body.Peek(4 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false, err
	}
	var named struct {
		FilePath *string `json:"filepath"`
	}
	if json.Unmarshal(start, &named) != nil || named.FilePath == nil {
		return "", false, nil
	}
	var o backupRequest // whole, as clients of DefraDB send it
	if err := readJSON(start, &o); err != nil {
		return "", false, err
	}
	if len(o.Collections) > 0 {
		return "", false, fault.Invalid.Errorf("collections: an import takes all that is in the file: leave it out")
	}
	return filepath.FromSlash(*o.FilePath), true, o.check()
}

// ExportBackup writes a backup file, with everything or some collections, to w.
func (c *Client) ExportBackup(ctx context.Context, o BackupOptions, w io.Writer) error {
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	req, err := c.request(ctx, http.MethodPost, "/backup/export", nil, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	return c.download(req, w)
}

// SaveArchive writes an archive of the whole database to w.
func (c *Client) SaveArchive(ctx context.Context, w io.Writer) error {
	req, err := c.request(ctx, http.MethodGet, "/backup/archive", nil, nil)
	if err != nil {
		return err
	}
	return c.download(req, w)
}

func (c *Client) download(req *http.Request, w io.Writer) error {
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fault.Unavailable.Errorf("the answer broke off: %w: what was written is not whole", err)
	}
	return nil
}

// ImportBackup creates the documents of a backup file.
func (c *Client) ImportBackup(ctx context.Context, file io.Reader, o ImportOptions) (BackupImported, error) {
	query := url.Values{}
	if o.SkipExisting {
		query.Set("existing", "skip")
	}
	var done BackupImported
	// The type hides Close: net/http would close what the caller still owns.
	req, err := c.request(ctx, http.MethodPost, "/backup/import", query, struct{ io.Reader }{file})
	if err != nil {
		return done, err
	}
	resp, err := c.do(req)
	if err != nil {
		return done, err
	}
	defer resp.Body.Close()
	return done, c.decode(resp.Body, &done)
}
