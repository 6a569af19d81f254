package lens

import (
	"encoding/binary"
	"errors"
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/fault"
)

// A list of a module says first how many entries it has. Modules travel between
// nodes, so one that lies must not cost its reader the memory for them.
func TestAModuleThatLiesAboutItsSizeIsRefused(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<32-1)
	list := func(entries ...byte) []byte { return append(huge, entries...) }
	types := section(1, vector([]byte{0x60, 0, 0}))
	one := section(3, vector([]byte{0}))
	function := func(code ...byte) []byte { return append(append(types, one...), section(10, vector(bytesOf(code)))...) }
	for name, sections := range map[string][]byte{
		"types":             section(1, list(0x60, 0, 0)),
		"parameters":        section(1, append([]byte{1, 0x60}, huge...)),
		"imports":           section(2, list(1, 'a')),
		"functions":         section(3, list(0)),
		"tables":            section(4, list(0x70)),
		"a table":           section(4, append([]byte{1, 0x70, 0}, huge...)),
		"memories":          section(5, list(0)),
		"globals":           section(6, list(0x7f)),
		"exports":           section(7, list(1)),
		"a name":            section(7, append([]byte{1}, huge...)),
		"elements":          section(9, list(0)),
		"entries":           section(9, append([]byte{1, 1, 0}, huge...)),
		"expressions":       section(9, append([]byte{1, 5, 0x70}, huge...)),
		"bodies":            section(10, list(2)),
		"a body":            section(10, append([]byte{1}, huge...)),
		"variables":         function(append(append([]byte{1}, huge...), 0x7f, 0x0b)...),
		"many of variables": function(2, 0xd0, 0x86, 3, 0x7f, 1, 0x7f, 0x0b),
		"data segments":     section(11, list(0)),
		"data":              section(11, append([]byte{1, 1}, huge...)),
		"a section":         append([]byte{1}, huge...),
		"entries that are":  section(3, append(binary.AppendUvarint(nil, maxEntries+1), make([]byte, maxEntries+1)...)),
		"a cut number":      section(1, []byte{0xff}),
	} {
		t.Run(name, func(t *testing.T) {
			r := runtime(t, Options{})
			before := allocated()
			_, err := r.Pipeline(t.Context(), []Step{{Module: append([]byte("\x00asm\x01\x00\x00\x00"), sections...)}})
			if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "section") && name != "a section" {
				t.Errorf("%v, want it refused where the lie stands", err)
			}
			if n := allocated() - before; n > 64<<20 {
				t.Errorf("%d MiB were made room for", n>>20)
			}
		})
	}
}

// allocated returns how many bytes this process has ever asked for.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

func TestATableGrowsToItsLimitOnly(t *testing.T) {
	grow := []byte{0xd0, 0x70, 0x41, 0x80, 0x80, 0x40, 0xfc, 0x0f, 0} // (table.grow (ref.null func) (i32.const 1<<20))
	module := guest{transform: grow}.binary()
	table := section(4, vector([]byte{0x70, 0, 1}))
	at := len("\x00asm\x01\x00\x00\x00")
	for range 3 { // after types, imports, functions
		at += 2 + int(module[at+1])
	}
	module = append(module[:at:at], append(table, module[at:]...)...)
	p := pipeline(t, runtime(t, Options{}), Step{Module: module})
	// What grow answers, -1, is taken for the address of an item.
	if _, err := p.Transform(t.Context(), documents(`{}`)); err == nil || !strings.Contains(err.Error(), "at 4294967295, outside") {
		t.Errorf("%v, want that it could not grow", err)
	}
}

func TestNamesAreLeftOutOfAModule(t *testing.T) {
	module := guest{transform: callNext, imports: [][2]string{{"lens", "next"}}}.binary()
	named := append(append(module[:8:8], section(0, append(bytesOf([]byte("name")), 0xff, 0xff))...), module[8:]...)
	if out, err := bound(named); err != nil || string(out) != string(module) {
		t.Errorf("%q, %v, want %q", out, err, module)
	}
}

func FuzzBound(f *testing.F) {
	f.Add(identity.binary())
	f.Add(fullname(f)[:64<<10])
	f.Fuzz(func(t *testing.T, module []byte) {
		out, err := bound(module)
		if err != nil {
			return
		}
		if again, err := bound(out); err != nil || string(again) != string(out) {
			t.Errorf("what passed does not pass as it is: %v", err)
		}
	})
}
