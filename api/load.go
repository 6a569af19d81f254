package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// Imported says how far an import has come. What it counts is durable.
type Imported struct {
	Documents int `json:"documents"`
	Skipped   int `json:"skipped,omitempty"` // existed already
	Line      int `json:"line"`              // of the last record
}

// ImportOptions change what an import does.
type ImportOptions struct {
	SkipExisting bool // pass over documents that exist, instead of failing
}

// importRecords creates documents from a stream of JSON objects, in batches of one
// transaction each. It reports every batch when it is durable; a failure names the
// line and leaves its batch undone.
func (s *Server) importRecords(w http.ResponseWriter, r *http.Request) {
	out := &reporter[Imported, Imported]{s: s, w: w, r: r}
	control := http.NewResponseController(w)
	// HTTP/2 and recorders are full duplex, or need not be.
	_ = control.EnableFullDuplex()
	ctx, cancel := s.work(r, data)
	defer cancel()
	l := &loader{db: s.as(ctx), ctx: ctx, collection: r.PathValue("collection")}
	err := refuseTx(r)
	if err == nil {
		err = l.db.Signs()
	}
	if err == nil {
		l.skip, err = existingPolicy(r)
	}
	if err == nil {
		err = l.run(&patientBody{Reader: r.Body, control: control}, out.progress)
	}
	out.finish(l.done, err)
	drain(r.Body, control)
}

// drain reads what a failed import has left unread, so that the client, which may
// still be sending, gets to read why it failed. net/http leaves that to a handler
// that answers while it reads.
func drain(body io.Reader, control *http.ResponseController) {
	_ = control.SetReadDeadline(time.Now().Add(drainTimeout)) // a recorder of a test has none
	if _, err := io.Copy(io.Discard, body); err != nil {
		panic(http.ErrAbortHandler) // the client has gone, or never ends: so does the connection
	}
	_ = control.SetReadDeadline(time.Time{})
}

func existingPolicy(r *http.Request) (skip bool, err error) {
	q, err := parameters(r, "existing")
	if err != nil {
		return false, err
	}
	switch existing := q.Get("existing"); existing {
	case "", "fail":
		return false, nil
	case "skip":
		return true, nil
	default:
		return false, fault.Invalid.Errorf("query string: existing is %q, want fail or skip", existing)
	}
}

// patientBody lets every progressBytes take stallTimeout, however long the whole
// body takes.
type patientBody struct {
	io.Reader
	control *http.ResponseController
	left    int // bytes until the time begins anew
}

func (b *patientBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.left = progressBytes
		_ = b.control.SetReadDeadline(time.Now().Add(stallTimeout)) // a recorder of a test has none
	}
	n, err := b.Reader.Read(p)
	b.left -= n
	return n, err
}

// loader carries out one import.
type loader struct {
	db         *pando.DB
	ctx        context.Context
	collection string
	skip       bool
	done       Imported
}

// record is one document to create.
type record struct {
	line int
	raw  json.RawMessage
}

func (l *loader) run(body io.Reader, progress func(Imported)) error {
	if _, err := l.db.Collection(l.collection); err != nil {
		return err
	}
	in := newRecordReader(body)
	for {
		batch, err := readBatch(in)
		if err != nil {
			return err // nothing of this batch was created
		}
		if len(batch) == 0 {
			return nil
		}
		if err := l.create(batch); err != nil {
			return err
		}
		progress(l.done)
	}
}

// readBatch reads the next batch; it is empty at the end.
func readBatch(in *recordReader) ([]record, error) {
	var batch []record
	for bytes := 0; len(batch) < importBatch && bytes < importBatchBytes; {
		raw, line, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		batch = append(batch, record{line, raw})
		bytes += len(raw)
	}
	return batch, nil
}

// create creates the documents of a batch in one transaction.
func (l *loader) create(batch []record) error {
	var created, skipped int
	err := l.db.Update(l.ctx, func(tx *pando.Tx) error {
		created, skipped = 0, 0 // the function may run again
		c, err := tx.Collection(l.collection)
		if err != nil {
			return err
		}
		for _, r := range batch {
			err := createRecord(c, r.raw)
			if l.skip && errors.Is(err, fault.Exists) {
				skipped++
				continue
			}
			if errors.Is(err, fault.Exists) {
				return fmt.Errorf("line %d: %w: nothing of this batch was created; repeat with existing=skip to pass over such documents", r.line, err)
			}
			if err != nil {
				return fmt.Errorf("line %d: %w", r.line, err)
			}
			created++
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.done = Imported{l.done.Documents + created, l.done.Skipped + skipped, batch[len(batch)-1].line}
	return nil
}

// createRecord creates one document. A record that came from an export names its
// docID, which follows from the contents or is made anew.
func createRecord(c *pando.Documents, raw json.RawMessage) error {
	if bytes.Contains(raw, []byte(`"_docID"`)) {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(raw, &fields); err != nil {
			return fault.Invalid.Errorf("malformed JSON: %w", err)
		}
		delete(fields, "_docID")
		var err error
		if raw, err = json.Marshal(fields); err != nil {
			return err
		}
	}
	_, err := c.Create(raw)
	return err
}

// exportRecords writes the documents of a collection, one JSON object per line.
func (s *Server) exportRecords(w http.ResponseWriter, r *http.Request) {
	if err := plain(r); err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := s.work(r, data)
	defer cancel()
	out := bufio.NewWriterSize(&patientWriter{w, http.NewResponseController(w), "application/x-ndjson"}, 64<<10)
	err := s.export(ctx, r.PathValue("collection"), out)
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		return
	}
	if hasBegun(w) {
		// The answer has begun: cutting it off is the only way left to say that it is not whole.
		s.log.Warn("export broke off", "collection", r.PathValue("collection"), "error", err)
		panic(http.ErrAbortHandler)
	}
	s.fail(w, r, err)
}

// export writes page by page. Nothing of the store is held while the client reads,
// so each document is as it was when its page was read.
func (s *Server) export(ctx context.Context, collection string, out *bufio.Writer) error {
	var after pando.DocID
	for {
		page, last, err := s.exportPage(ctx, collection, after)
		if err != nil {
			return err
		}
		if _, err := out.Write(page); err != nil || last == after {
			return err
		}
		after = last
	}
}

// exportPage returns the documents behind one docID, and the docID of the last of
// them; it is the same one if there are none.
func (s *Server) exportPage(ctx context.Context, collection string, after pando.DocID) (page []byte, last pando.DocID, err error) {
	last = after
	err = s.as(ctx).View(ctx, func(tx *pando.Tx) error {
		docs, err := tx.Collection(collection)
		if err != nil {
			return err
		}
		for d, err := range docs.After(after) {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				return err
			}
			page, last = append(d.AppendJSON(page), '\n'), d.ID
			if len(page) >= exportPage {
				return nil
			}
		}
		return nil
	})
	return page, last, err
}

// patientWriter lets each write take stallTimeout, however long the whole answer takes.
type patientWriter struct {
	w           http.ResponseWriter
	control     *http.ResponseController
	contentType string
}

func (p *patientWriter) Write(b []byte) (int, error) {
	p.w.Header().Set("Content-Type", p.contentType)
	_ = p.control.SetWriteDeadline(time.Now().Add(stallTimeout)) // a recorder of a test has none
	return p.w.Write(b)
}

// streamContext ends when the client goes, the node closes, or the access to a class is taken
// away from who calls.
func (s *Server) streamContext(r *http.Request, who requester, c class) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(s.streams, func() { cancel(fault.Closed.Errorf("the node is closing")) })
	ctx, end := s.whileAllowed(ctx, who, c)
	return ctx, func() { end(); stop(); cancel(nil) }
}

// work is streamContext for what takes as long as there is something to do: it goes on beyond
// the token that it began with.
func (s *Server) work(r *http.Request, c class) (context.Context, context.CancelFunc) {
	who := requesterOf(r.Context())
	who.until = time.Time{}
	return s.streamContext(r, who, c)
}

// Import creates documents of a collection from JSON objects, one after the other or
// in one array. progress, which may be nil, hears of every batch that is durable.
func (c *Client) Import(ctx context.Context, collection string, records io.Reader, o ImportOptions, progress func(Imported)) (Imported, error) {
	query := url.Values{}
	if o.SkipExisting {
		query.Set("existing", "skip")
	}
	// The type hides Close: net/http would close what the caller still owns.
	req, err := c.request(ctx, http.MethodPost, "/import/"+url.PathEscape(collection), query, struct{ io.Reader }{records})
	if err != nil {
		return Imported{}, err
	}
	resp, err := c.do(req)
	if err != nil {
		return Imported{}, err
	}
	defer resp.Body.Close()
	return follow[Imported, Imported](c, resp.Body, progress)
}

// Export writes the documents of a collection, one JSON object per line.
func (c *Client) Export(ctx context.Context, collection string, w io.Writer) error {
	req, err := c.request(ctx, http.MethodGet, "/export/"+url.PathEscape(collection), nil, nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fault.Unavailable.Errorf("export of %s broke off: %w: what was written is not whole", collection, err)
	}
	return nil
}
