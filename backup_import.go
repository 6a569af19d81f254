package pando

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

const (
	// maxBackup bounds a backup file: who refers to whom is known at its end only, so
	// it is held. What is larger goes by archive, or collection by collection.
	maxBackup = 256 << 20
	// wholeImport is how many documents are imported in one transaction; more are in
	// several, of so many each: what a transaction writes is held in memory.
	wholeImport = 10_000
)

// ImportOptions change what an import does.
type ImportOptions struct {
	SkipExisting bool // pass over documents that exist, instead of failing
}

// Imported says what an import did.
type Imported struct {
	Documents int // created
	Skipped   int // existed
}

// Import creates the documents of a backup file, which may come from DefraDB. They get
// the docIDs that follow from their contents, and relations follow them: those that
// lead in circles are set when all documents are there. Documents are created in the
// order in which they refer to each other.
//
// Up to 10,000 documents are imported in one transaction. Larger files take several:
// after an error, Imported says how many documents stayed, and SkipExisting lets the
// import be repeated.
func (db *DB) Import(ctx context.Context, r io.Reader, o ImportOptions) (Imported, error) {
	in := &imports{db: db, skip: o.SkipExisting, byNew: map[string]int{}, byOld: map[string]int{}}
	if err := in.read(r); err != nil {
		return Imported{}, err
	}
	if err := in.resolve(); err != nil {
		return Imported{}, err
	}
	in.arrange()
	for len(in.order) > 0 {
		if err := in.batch(ctx); err != nil {
			return in.done, err
		}
	}
	return in.done, nil
}

// imports is one run of Import.
type imports struct {
	db           *DB
	skip         bool
	records      []*record
	byNew, byOld map[string]int // names of records in the file, to records
	order        []step
	done         Imported
}

// record is one document of the file.
type record struct {
	coll    *Collection
	n       int // place in its list, from 1
	old     string
	raw     json.RawMessage
	links   []link // to records of the file
	id      DocID
	placed  bool
	skipped bool
}

// link is a relation of a record to another.
type link struct {
	field *schema.Field
	to    *record
	later bool // set when both are there
}

// step creates a document, or sets the links of one that had to wait.
type step struct {
	*record
	late bool
}

func (r *record) errorf(err error) error {
	return fmt.Errorf("%s, document %d: %w", r.coll.Name, r.n, err)
}

// read reads the file.
func (in *imports) read(r io.Reader) error {
	dec := json.NewDecoder(&limitedReader{r: r, left: maxBackup})
	if err := expect(dec, '{', "the file must be a JSON object: names of collections, each with an array of documents"); err != nil {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return backupSyntax(err)
		}
		c, err := in.db.Collection(name.(string))
		if err != nil {
			return err
		}
		if err := expect(dec, '[', fmt.Sprintf("collection %s must be a JSON array of documents", c.Name)); err != nil {
			return err
		}
		for n := 1; dec.More(); n++ {
			rec := &record{coll: c, n: n}
			if err := dec.Decode(&rec.raw); err != nil {
				return rec.errorf(backupSyntax(err))
			}
			if err := in.enter(rec); err != nil {
				return rec.errorf(err)
			}
		}
		if _, err := dec.Token(); err != nil {
			return backupSyntax(err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return backupSyntax(err)
	}
	if tok, err := dec.Token(); !errors.Is(err, io.EOF) {
		if err != nil {
			return backupSyntax(err)
		}
		return fault.Invalid.Errorf("unexpected %v after the end of the backup", tok)
	}
	return nil
}

func expect(dec *json.Decoder, want json.Delim, otherwise string) error {
	tok, err := dec.Token()
	if err != nil {
		return backupSyntax(err)
	}
	if tok != want {
		return fault.Invalid.Errorf("expected JSON %s: %s", map[json.Delim]string{'{': "object", '[': "array"}[want], otherwise)
	}
	return nil
}

func backupSyntax(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fault.Invalid.Errorf("the backup has no end: the file was cut off")
	case errors.As(err, &syntax):
		return fault.Invalid.Errorf("malformed JSON at byte %d: %w", syntax.Offset, err)
	}
	return err
}

// limitedReader refuses a file that is too large, where io.LimitReader would cut it.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fault.TooLarge.Errorf("the backup is larger than %d MiB: export the collections one by one, or save and restore an archive", maxBackup>>20)
	}
	return n, err
}

// enter notes the names of a record.
func (in *imports) enter(rec *record) error {
	var names struct {
		Old *string `json:"_docID"`
		New *string `json:"_docIDNew"`
	}
	if rec.raw[0] != '{' {
		return fault.Invalid.Errorf("it must be a JSON object, such as {\"name\": \"Ada\"}")
	}
	if err := json.Unmarshal(rec.raw, &names); err != nil {
		return fault.Invalid.Errorf("_docID and _docIDNew must be strings")
	}
	i := len(in.records)
	if names.Old != nil {
		rec.old = *names.Old
		if _, twice := in.byOld[rec.old]; twice {
			return fault.Invalid.Errorf("another document of the file has its _docID: a relation to it would be to either")
		}
		in.byOld[rec.old] = i
	}
	if names.New != nil {
		in.byNew[*names.New] = i
	}
	in.records = append(in.records, rec)
	return nil
}

// members returns the members of a record by the names of its fields, without those
// that name the document.
func (r *record) members() (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(r.raw, &m); err != nil {
		return nil, fault.Invalid.Errorf("malformed JSON: %w", err)
	}
	delete(m, memberOld)
	delete(m, memberNew)
	for i := range r.coll.Fields {
		f := &r.coll.Fields[i]
		if !f.IsRelation() || f.IsVirtual() {
			continue
		}
		for _, name := range []string{f.IDName(), "_" + f.Name + "ID"} { // of both dialects
			if v, ok := m[name]; ok {
				delete(m, name)
				m[f.Name] = v
			}
		}
	}
	return m, nil
}

// resolve finds the records that relations lead to.
func (in *imports) resolve() error {
	for _, rec := range in.records {
		if !slices.ContainsFunc(rec.coll.Fields, func(f schema.Field) bool { return f.IsRelation() && !f.IsVirtual() }) {
			continue
		}
		m, err := rec.members()
		if err != nil {
			return rec.errorf(err)
		}
		for i := range rec.coll.Fields {
			f := &rec.coll.Fields[i]
			raw, ok := m[f.Name]
			if !ok || !f.IsRelation() || f.IsVirtual() || bytes.Equal(raw, []byte("null")) {
				continue
			}
			to, err := in.target(raw)
			if err != nil {
				return rec.errorf(fmt.Errorf("%s: %w", f.IDName(), err))
			}
			if to != nil {
				rec.links = append(rec.links, link{field: f, to: to})
			}
		}
	}
	return nil
}

// target returns the record that a relation names, or nil if it is a docID of a
// document that the file does not hold.
func (in *imports) target(raw json.RawMessage) (*record, error) {
	var name string
	if err := json.Unmarshal(raw, &name); err != nil {
		return nil, fault.Invalid.Errorf("%s is no docID", raw)
	}
	if i, ok := in.byNew[name]; ok {
		return in.records[i], nil
	}
	if i, ok := in.byOld[name]; ok {
		return in.records[i], nil
	}
	if _, err := value.ParseRef(name); err != nil {
		return nil, fault.Invalid.Errorf("%q is neither a document of this file nor a docID", name)
	}
	return nil, nil
}

// arrange puts the records into an order in which each comes after those that it
// refers to. A circle is cut at the record that comes first by collection and docID,
// as in an export, which foresaw the docIDs.
func (in *imports) arrange() {
	waiting := map[*record][]*record{}
	for _, rec := range in.records {
		in.place(rec, waiting)
	}
	if len(in.order) < len(in.records) {
		var left []*record
		for _, rec := range in.records {
			if !rec.placed {
				left = append(left, rec)
			}
		}
		slices.SortStableFunc(left, func(a, b *record) int {
			return cmp.Or(cmp.Compare(a.coll.Name, b.coll.Name), cmp.Compare(a.old, b.old))
		})
		for _, must := range []bool{false, true} { // at last, also where creating it must fail
			for _, rec := range left {
				if !rec.placed && rec.cut(must) {
					in.place(rec, waiting)
				}
			}
		}
	}
	for _, rec := range in.records {
		if slices.ContainsFunc(rec.links, func(l link) bool { return l.later }) {
			in.order = append(in.order, step{rec, true})
		}
	}
}

// cut leaves the links to records that are not placed for later. Unless it must, it
// does so only if the document can be made without them, and reports that.
func (r *record) cut(must bool) bool {
	keys := r.coll.KeyFields()
	for _, l := range r.links {
		if !must && !l.to.placed && (l.field.NonNull || slices.Contains(keys, l.field)) {
			return false
		}
	}
	for i := range r.links {
		r.links[i].later = !r.links[i].to.placed
	}
	return true
}

// place puts a record in its place, if it need not wait, and then those that waited
// for it.
func (in *imports) place(rec *record, waiting map[*record][]*record) {
	for todo := []*record{rec}; len(todo) > 0; {
		rec, todo = todo[len(todo)-1], todo[:len(todo)-1]
		if rec.placed {
			continue
		}
		i := slices.IndexFunc(rec.links, func(l link) bool { return !l.to.placed && !l.later })
		if i >= 0 {
			to := rec.links[i].to
			waiting[to] = append(waiting[to], rec)
			continue
		}
		rec.placed = true
		in.order = append(in.order, step{record: rec})
		todo = append(todo, waiting[rec]...)
		delete(waiting, rec)
	}
}

// batch carries out the next steps in one transaction.
func (in *imports) batch(ctx context.Context) error {
	steps := in.order[:min(len(in.order), 2*wholeImport)] // each document has two at most
	if len(in.records) > wholeImport {
		steps = in.order[:min(len(in.order), wholeImport)]
	}
	var done Imported
	err := in.db.store.Update(ctx, in.db.who, func(tx *store.Tx) error {
		done = in.done // the function may run again
		for _, s := range steps {
			err := context.Cause(ctx)
			if err == nil && s.late {
				err = s.complete(tx)
			} else if err == nil {
				err = in.create(tx, s.record, &done)
			}
			if err != nil {
				return s.errorf(err)
			}
		}
		return nil
	})
	if err != nil {
		return in.whatStayed(err)
	}
	in.done, in.order = done, in.order[len(steps):]
	return nil
}

// whatStayed adds to an error what the import has done, and how to go on.
func (in *imports) whatStayed(err error) error {
	if errors.Is(err, fault.Exists) && !in.skip {
		err = fmt.Errorf("%w: import with existing=skip to pass over such documents", err)
	}
	if in.done.Documents == 0 {
		return fmt.Errorf("%w: nothing was imported", err)
	}
	return fmt.Errorf("%w: %d documents were imported and stay; repeat with existing=skip", err, in.done.Documents)
}

// create creates the document of a record.
func (in *imports) create(tx *store.Tx, rec *record, done *Imported) error {
	fields, err := rec.inputs()
	if err != nil {
		return err
	}
	deltas, err := rec.coll.Create(fields)
	if err != nil {
		return err
	}
	if in.skip {
		id, ok, err := tx.DocIDOf(rec.coll, deltas)
		if err != nil {
			return err
		}
		if ok {
			if _, err = tx.Get(rec.coll, id); err == nil {
				rec.id, rec.skipped = id, true
				done.Skipped++
				return nil
			} else if !errors.Is(err, fault.NotFound) {
				return err
			}
		}
	}
	d, err := tx.Create(rec.coll, deltas)
	if err != nil {
		return err
	}
	rec.id, rec.skipped = d.ID, false
	done.Documents++
	return nil
}

// inputs returns the fields of a record, its links as they are called now.
func (r *record) inputs() ([]schema.Input, error) {
	m, err := r.members()
	if err != nil {
		return nil, err
	}
	for _, l := range r.links {
		if l.later {
			delete(m, l.field.Name)
			continue
		}
		m[l.field.Name] = value.OfRef(l.to.id).AppendJSON(nil)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return inputs(json.RawMessage(raw))
}

// complete sets the links that had to wait. Of a document that existed, what
// somebody has set since stays.
func (r *record) complete(tx *store.Tx) error {
	d, err := tx.Get(r.coll, r.id)
	if err != nil || d.Deleted() {
		return err
	}
	var fields []schema.Input
	for _, l := range r.links {
		if l.later && (!r.skipped || d.Value(l.field).IsNull()) {
			fields = append(fields, schema.Input{Name: l.field.Name, Val: value.OfRef(l.to.id)})
		}
	}
	deltas, err := r.coll.Update(d.State, fields)
	if err != nil {
		return err
	}
	_, err = tx.Write(r.coll, r.id, deltas)
	return err
}
