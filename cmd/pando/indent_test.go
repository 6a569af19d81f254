package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

// However JSON is cut into pieces, it comes out as it would in one.
func FuzzIndent(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":"\"x\\"},[],{}, 1.5e3 ,null],"c":{"d":""}}`), uint8(3))
	f.Add([]byte(`[ ]`), uint8(1))
	f.Add([]byte(`"\\\""`), uint8(2))
	f.Fuzz(func(t *testing.T, raw []byte, piece uint8) {
		var want bytes.Buffer
		if json.Indent(&want, raw, "", "  ") != nil {
			return
		}
		var got bytes.Buffer
		in := &indenter{to: &got}
		for rest := raw; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			if _, err := in.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if !bytes.Equal(got.Bytes(), bytes.TrimRight(want.Bytes(), " \t\r\n")) {
			t.Errorf("%s in pieces of %d:\ngot  %s\nwant %s", raw, int(piece)+1, got.Bytes(), want.Bytes())
		}
	})
}
