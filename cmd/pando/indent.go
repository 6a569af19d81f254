package main

import (
	"bytes"
	"io"
)

// indenter writes JSON, which comes in pieces of any size, as json.Indent would with
// two spaces, and keeps none of it.
type indenter struct {
	to      io.Writer
	out     bytes.Buffer
	begun   bool
	depth   int
	text    bool // within a string
	escaped bool // after a backslash
	opened  bool // after { or [, of which it is not known whether it is empty
}

func (in *indenter) Write(p []byte) (int, error) {
	in.out.Reset()
	in.begun = in.begun || len(p) > 0
	for _, c := range p {
		in.byte(c)
	}
	if _, err := in.to.Write(in.out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (in *indenter) byte(c byte) {
	switch {
	case in.text:
		in.out.WriteByte(c)
		in.text = c != '"' || in.escaped
		in.escaped = c == '\\' && !in.escaped
		return
	case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		return
	case c == '}' || c == ']':
		in.depth--
		if !in.opened {
			in.line()
		}
		in.opened = false
		in.out.WriteByte(c)
		return
	}
	if in.opened {
		in.opened = false
		in.line()
	}
	in.out.WriteByte(c)
	switch c {
	case '"':
		in.text = true
	case '{', '[':
		in.depth++
		in.opened = true
	case ',':
		in.line()
	case ':':
		in.out.WriteByte(' ')
	}
}

func (in *indenter) line() {
	in.out.WriteByte('\n')
	for range in.depth {
		in.out.WriteString("  ")
	}
}
