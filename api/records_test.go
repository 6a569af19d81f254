package api

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pandodb/pando/internal/fault"
)

func TestRecordsKnowTheirLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		lines    []int
		bad      int // line of the error, 0 for none
		kind     *fault.Kind
	}{
		{"nothing", "", nil, 0, nil},
		{"only white space", " \n\n", nil, 0, nil},
		{"one per line", "{\"a\":1}\n{\"a\":2}\n{\"a\":3}", []int{1, 2, 3}, 0, nil},
		{"empty lines between", "\n{\"a\":1}\n\n\n{\"a\":2}\n", []int{2, 5}, 0, nil},
		{"spread over lines", "{\n\"a\":1\n}\n{\n\"a\":2}", []int{1, 4}, 0, nil},
		{"an array", "[\n{\"a\":1},\n{\"a\":2}\n]\n", []int{2, 3}, 0, nil},
		{"an empty array", "[]", nil, 0, nil},
		{"broken", "{\"a\":1}\n{\"a\":2}\n{\"a\":}\n", []int{1, 2}, 3, fault.Invalid},
		{"broken in an array", "[{\"a\":1},\n{\"a\":2},\n{\"a\" 3}]", []int{1, 2}, 3, fault.Invalid},
		{"cut off", "{\"a\":1}\n{\"a\":", []int{1}, 2, fault.Invalid},
		{"array without end", "[{\"a\":1}\n", []int{1}, 2, fault.Invalid},
		{"rubbish after the array", "[{\"a\":1}] 7", []int{1}, 1, fault.Invalid},
		{"not an object", "{\"a\":1}\n7", []int{1}, 2, fault.Invalid},
		{"too large", "{\"a\":1}\n{\"a\":\"" + strings.Repeat("x", 2*maxRecord) + "\"}", []int{1}, 2, fault.TooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, in := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				lines, bad, err := readAll(in)
				if !equalLines(lines, c.lines) || bad != c.bad {
					t.Errorf("records on lines %v, error on %d (%v); want %v and %d", lines, bad, err, c.lines, c.bad)
				}
				if c.kind != nil && !errors.Is(err, c.kind) {
					t.Errorf("error %v, want kind %v", err, c.kind)
				}
			}
		})
	}
}

func readAll(in io.Reader) (lines []int, bad int, err error) {
	r := newRecordReader(in)
	for {
		_, line, err := r.next()
		if errors.Is(err, io.EOF) {
			return lines, 0, nil
		}
		if err != nil {
			return lines, line, err
		}
		lines = append(lines, line)
	}
}

func equalLines(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte("{\"a\":1}\n[{}]"))
	f.Add([]byte("[{},\n{}]"))
	f.Fuzz(func(t *testing.T, in []byte) {
		lines, bad, err := readAll(strings.NewReader(string(in)))
		if err != nil && bad < 1 {
			t.Fatalf("error %v has no line", err)
		}
		newlines := strings.Count(string(in), "\n")
		for _, l := range lines {
			if l < 1 || l > newlines+1 {
				t.Fatalf("record on line %d of %d", l, newlines+1)
			}
		}
	})
}
