package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/pandodb/pando/internal/fault"
)

// recordReader reads JSON objects from a stream, be they one per line, one after
// the other, or elements of one array, and knows the line that each begins on.
// It holds at most one record of maxRecord bytes, however long the stream is.
type recordReader struct {
	dec   *json.Decoder
	src   *lineSource
	array bool
	begun bool
	done  bool
}

func newRecordReader(r io.Reader) *recordReader {
	src := &lineSource{r: r, line: 1}
	return &recordReader{dec: json.NewDecoder(src), src: src}
}

// next returns the next record and the line that it begins on, or io.EOF.
func (r *recordReader) next() (json.RawMessage, int, error) {
	if err := r.begin(); err != nil {
		return nil, r.line(), err
	}
	if r.done {
		return nil, 0, io.EOF
	}
	if !r.dec.More() {
		return nil, r.line(), r.end()
	}
	var raw json.RawMessage
	if err := r.dec.Decode(&raw); err != nil {
		return nil, r.line(), r.explain(err)
	}
	line := r.src.lineAt(r.dec.InputOffset() - int64(len(raw)))
	r.src.release(r.dec.InputOffset())
	if raw[0] != '{' {
		return nil, line, fault.Invalid.Errorf("a record must be a JSON object, such as {\"name\": \"Ada\"}, not %s", shorten(raw))
	}
	return raw, line, nil
}

// begin finds out whether the records are elements of an array.
func (r *recordReader) begin() error {
	if r.begun {
		return nil
	}
	r.begun = true
	first, err := r.src.first()
	if errors.Is(err, io.EOF) {
		r.done = true
		return nil
	}
	if err != nil {
		return err
	}
	if first != '[' {
		return nil
	}
	r.array = true
	_, err = r.dec.Token()
	return err
}

// end checks that nothing but the end of the array, or of the stream, is left.
func (r *recordReader) end() error {
	tok, err := r.dec.Token()
	if r.array && err == nil && tok == json.Delim(']') {
		r.array = false
		tok, err = r.dec.Token()
	} else if r.array && errors.Is(err, io.EOF) {
		return fault.Invalid.Errorf("the array of records has no end: ']' is missing")
	}
	if errors.Is(err, io.EOF) {
		r.done = true
		return io.EOF
	}
	if err != nil {
		return r.explain(err)
	}
	return fault.Invalid.Errorf("unexpected %v after the last record", tok)
}

func (r *recordReader) line() int { return r.src.lineAt(r.src.content(r.dec.InputOffset())) }

func (r *recordReader) explain(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.Invalid.Errorf("the record has no end: the file was cut off, or a bracket is missing")
	case errors.As(err, &syntax):
		return fault.Invalid.Errorf("malformed JSON: %w", err)
	}
	return err
}

// lineSource passes a stream on and keeps what was passed since the last release,
// to answer which line a position is on.
type lineSource struct {
	r      io.Reader
	window []byte
	start  int64 // position of the window in the stream
	line   int   // of start
	lead   []byte
}

func (s *lineSource) Read(p []byte) (int, error) {
	if len(s.lead) > 0 {
		n := copy(p, s.lead)
		s.lead = s.lead[n:]
		return n, nil
	}
	if len(s.window) > maxRecord {
		return 0, fault.TooLarge.Errorf("the record is larger than %d KiB: split it into several documents", maxRecord>>10)
	}
	n, err := s.r.Read(p)
	s.window = append(s.window, p[:n]...)
	return n, err
}

// first returns the first byte that is not white space, without consuming it.
func (s *lineSource) first() (byte, error) {
	var chunk [512]byte
	for {
		n, err := s.r.Read(chunk[:])
		s.window = append(s.window, chunk[:n]...)
		s.lead = s.window
		if rest := bytes.TrimLeft(s.window, " \t\r\n"); len(rest) > 0 {
			return rest[0], nil
		}
		if err != nil {
			return 0, err
		}
		if len(s.window) > maxRecord {
			return 0, fault.TooLarge.Errorf("the file begins with more than %d KiB of white space", maxRecord>>10)
		}
	}
}

// content returns the first position at or after pos that holds no white space or comma.
func (s *lineSource) content(pos int64) int64 {
	rest := s.window[min(max(pos-s.start, 0), int64(len(s.window))):]
	return pos + int64(len(rest)-len(bytes.TrimLeft(rest, " \t\r\n,")))
}

// lineAt returns the line of a position that has not been released.
func (s *lineSource) lineAt(pos int64) int {
	n := min(max(pos-s.start, 0), int64(len(s.window)))
	return s.line + bytes.Count(s.window[:n], []byte{'\n'})
}

// release forgets everything before pos.
func (s *lineSource) release(pos int64) {
	s.line = s.lineAt(pos)
	n := min(pos-s.start, int64(len(s.window)))
	s.window = append(s.window[:0], s.window[n:]...)
	s.start += n
}

func shorten(raw []byte) string {
	const enough = 40
	if len(raw) <= enough {
		return string(raw)
	}
	return string(bytes.ToValidUTF8(raw[:enough], nil)) + "…"
}
