package query

import (
	"bytes"
	"io"
	"iter"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// writer collects the JSON of a response and passes it on in large pieces.
type writer struct {
	to  io.Writer
	buf []byte
}

// flushAt is how many bytes are collected before they are passed on.
const flushAt = 32 << 10

func (w *writer) text(s string)   { w.buf = append(w.buf, s...) }
func (w *writer) byte(c byte)     { w.buf = append(w.buf, c) }
func (w *writer) string(s string) { w.buf = appendString(w.buf, s) }

// pass hands on what has been collected, once it is much.
func (w *writer) pass() error {
	if len(w.buf) < flushAt {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() error {
	_, err := w.to.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// capped collects what is held until it is complete.
type capped struct {
	*bytes.Buffer
	most int64
}

func (c capped) Write(p []byte) (int, error) {
	if int64(c.Len()+len(p)) > c.most {
		return 0, fault.TooLarge.Errorf("more than %d bytes have to be held at once: select less, or add a limit", c.most)
	}
	return c.Buffer.Write(p)
}

// column writes one member of an object.
type column struct {
	key   string // response key
	label []byte // the key as JSON, with a colon
	write func(x *run, r *row) error
	node  node // what is below it, for people; may be nil

	read    reader      // its value, if it has one; conditions and orders name it by key
	of      *field      // the field it shows, if any
	args    bool        // the selection has arguments
	follows []*relation // relations that it follows
}

func newColumn(key string, write func(x *run, r *row) error) column {
	return column{key: key, label: append(appendString(nil, key), ':'), write: write}
}

// object writes a document.
type object []column

func (o object) write(x *run, r *row) error {
	w := x.out
	w.byte('{')
	for i := range o {
		if i > 0 {
			w.byte(',')
		}
		w.buf = append(w.buf, o[i].label...)
		if err := o[i].write(x, r); err != nil {
			return under(o[i].key, err)
		}
	}
	w.byte('}')
	return nil
}

// list writes the documents that an operator yields.
type list struct {
	from    operator
	object  object
	follows []*relation // that the object follows
}

func (l *list) write(x *run, parent *row) error {
	w := x.out
	w.byte('[')
	n := 0
	for r, err := range l.rows(x, parent) {
		if err == nil {
			if n > 0 {
				w.byte(',')
			}
			err = l.object.write(x, r)
		}
		if err == nil {
			err = w.pass()
		}
		if err == nil { // relations that lead back and forth multiply
			err = x.step()
		}
		if err != nil {
			return under(n, err)
		}
		n++
	}
	w.byte(']')
	return nil
}

// rows yields the rows to write. Those of a root field come with all at hand that
// relations lead to from them; below it this has been seen to.
func (l *list) rows(x *run, parent *row) iter.Seq2[*row, error] {
	rows := x.rows(l.from, parent)
	if parent == nil && len(l.follows) > 0 {
		return x.gathered(rows, l.follows)
	}
	return rows
}

func (w *writer) value(v value.Value) { w.buf = v.AppendJSON(w.buf) }

func (w *writer) stringOrNull(s string) {
	if s == "" {
		w.text("null")
		return
	}
	w.string(s)
}
