package lens

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/fault"
)

func runtime(t testing.TB, o Options) *Runtime {
	t.Helper()
	r := New(o)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func pipeline(t testing.TB, r *Runtime, steps ...Step) *Pipeline {
	t.Helper()
	p, err := r.Pipeline(t.Context(), steps)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var lensNext = [][2]string{{"lens", "next"}}

// identity gives back what it is given: to it, the end is an item like another.
var identity = guest{imports: lensNext, transform: callNext, inverse: callNext}

func documents(texts ...string) (docs [][]byte) {
	for _, s := range texts {
		docs = append(docs, []byte(s))
	}
	return docs
}

func joined(docs [][]byte) string {
	var parts []string
	for _, d := range docs {
		parts = append(parts, string(d))
	}
	return strings.Join(parts, " ")
}

func TestDocumentsPassThroughEveryModuleInTurn(t *testing.T) {
	t.Parallel()
	p := pipeline(t, runtime(t, Options{}), Step{Module: identity.binary()}, Step{Module: identity.binary()})
	for range 3 { // instances are used again
		out, err := p.Transform(t.Context(), documents(`{"a":1}`, `{"b":"ä"}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := joined(out); got != `{"a":1} {"b":"ä"}` {
			t.Errorf("got %s", got)
		}
	}
	if out, err := p.Transform(t.Context(), nil); err != nil || len(out) != 0 {
		t.Errorf("of no documents: %s, %v", joined(out), err)
	}
}

func TestALensWrittenInGoGoesThereAndBack(t *testing.T) {
	t.Parallel()
	r := runtime(t, Options{})
	p := pipeline(t, r, Step{Module: fullname(t), Arguments: json.RawMessage(`{"separator":"-"}`)})
	docs := documents(`{"age":7,"first":"Ann","last":"Lee"}`, `{"first":"Bo"}`)
	out, err := p.Each(t.Context(), docs)
	if err != nil {
		t.Fatal(err)
	}
	if got := joined(out); got != `{"age":7,"name":"Ann-Lee"} {"name":"Bo-"}` {
		t.Errorf("there: %s", got)
	}
	back, err := p.Inverse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out, err = back.Each(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	if got := joined(out); got != `{"age":7,"first":"Ann","last":"Lee"} {"first":"Bo","last":""}` {
		t.Errorf("and back: %s", got)
	}
	if _, err := r.Pipeline(t.Context(), []Step{{Module: fullname(t), Arguments: json.RawMessage(`[1]`)}}); !errors.Is(err, fault.Invalid) {
		t.Errorf("arguments that the module refuses: %v", err)
	}
}

func TestManyCallersShareAPipeline(t *testing.T) {
	t.Parallel()
	p := pipeline(t, runtime(t, Options{}), Step{Module: identity.binary()})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				out, err := p.Transform(context.Background(), documents(`{"a":1}`, `{}`))
				if err != nil || joined(out) != `{"a":1} {}` {
					t.Errorf("%s, %v", joined(out), err)
				}
			}
		})
	}
	wg.Wait()
}

func TestInstancesThatFreeNothingAreReplaced(t *testing.T) {
	t.Parallel()
	// The module has 128 KiB and never frees: unless it is replaced, or grows, it
	// soon cannot hold another document, and says so.
	p := pipeline(t, runtime(t, Options{}), Step{Module: identity.binary()})
	doc := `{"a":"` + strings.Repeat("x", 50<<10) + `"}`
	failed := 0
	for range 10 {
		if _, err := p.Transform(t.Context(), documents(doc)); err != nil {
			failed++
		}
	}
	if failed == 0 || failed > 4 {
		t.Errorf("%d of 10 failed: each failure should make room", failed)
	}
}

func TestModulesThatCannotRunAreRefused(t *testing.T) {
	t.Parallel()
	r := runtime(t, Options{})
	with := func(change func(g *guest)) []byte {
		g := identity
		change(&g)
		return g.binary()
	}
	for _, c := range []struct {
		name string
		step Step
		want string
	}{
		{"text", Step{Module: []byte("(module)")}, "no WASM module"},
		{"nothing", Step{}, "no WASM module"},
		{"half a module", Step{Module: identity.binary()[:40]}, "no WASM module"},
		{"reaches out", Step{Module: with(func(g *guest) { g.imports = append(g.imports, [2]string{"env", "open"}) })}, "imports env.open"},
		{"without memory", Step{Module: with(func(g *guest) { g.noMemory = true })}, "exports no memory"},
		{"without alloc", Step{Module: with(func(g *guest) { g.noAlloc = true })}, "no function alloc"},
		{"without transform", Step{Module: with(func(g *guest) { g.transform = nil })}, "no function transform"},
		{"one way", Step{Module: with(func(g *guest) { g.inverse = nil }), Inverse: true}, "cannot go back"},
		{"arguments", Step{Module: identity.binary(), Arguments: json.RawMessage(`{}`)}, "takes no arguments"},
		{"too large", Step{Module: make([]byte, MaxModule+1)}, "at most"},
	} {
		if _, err := r.Pipeline(t.Context(), []Step{c.step}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := r.Pipeline(t.Context(), nil); !errors.Is(err, fault.Invalid) {
		t.Errorf("no modules: %v", err)
	}
	if _, err := r.Pipeline(t.Context(), make([]Step, MaxSteps+1)); !errors.Is(err, fault.Invalid) {
		t.Errorf("too many modules: %v", err)
	}
}

func TestAModuleThatMisbehavesIsStopped(t *testing.T) {
	t.Parallel()
	r := runtime(t, Options{Deadline: 200 * time.Millisecond})
	for _, c := range []struct {
		name string
		guest
		want string
	}{
		{"runs for ever", guest{transform: forever}, "ran longer"},
		{"never ends", guest{transform: constant(dataAt), data: itemOf(itemJSON, "{}")}, "does it ever say that it has ended"},
		{"gives an error", guest{transform: constant(dataAt), data: itemOf(itemError, "no such field")}, "the module says: no such field"},
		{"gives what is no object", guest{transform: constant(dataAt), data: itemOf(itemJSON, "[1]")}, "want a JSON object"},
		{"gives an unknown item", guest{transform: constant(dataAt), data: itemOf(9, "")}, "unknown type 9"},
		{"points outside", guest{transform: constant(1 << 30)}, "outside of its memory"},
		{"points below zero", guest{transform: constant(-1)}, "outside of its memory"},
		{"lies about a length", guest{transform: constant(dataAt), data: []byte{itemJSON, 0, 0, 0x80, 0}}, "outside of its memory"},
		{"claims a huge length", guest{transform: constant(dataAt), data: []byte{itemJSON, 0xff, 0xff, 0xff, 0xff}}, "at most"},
		{"traps", guest{transform: []byte{0x00, 0x41, 0}}, "the module failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := pipeline(t, r, Step{Module: c.binary()})
			for range 2 {
				_, err := p.Transform(t.Context(), documents(`{}`))
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("%v, want %q", err, c.want)
				}
			}
		})
	}
}

func TestACancelledCallEnds(t *testing.T) {
	t.Parallel()
	p := pipeline(t, runtime(t, Options{Deadline: time.Hour}), Step{Module: guest{transform: forever}.binary()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := p.Transform(ctx, documents(`{}`))
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context canceled", err)
	}
}

// fullname builds the lens that testdata has as Go.
var fullname = func() func(t testing.TB) []byte {
	build := sync.OnceValues(func() ([]byte, error) {
		dir, err := os.MkdirTemp("", "lens")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "fullname.wasm")
		cmd := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s", "-o", file, "./testdata/fullname")
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, errors.New(string(out))
		}
		return os.ReadFile(file)
	})
	return func(t testing.TB) []byte {
		t.Helper()
		b, err := build()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}()

func BenchmarkEach(b *testing.B) {
	for _, c := range []struct {
		name string
		step Step
	}{{"by hand", Step{Module: identity.binary()}}, {"in Go", Step{Module: fullname(b)}}} {
		b.Run(c.name, func(b *testing.B) {
			p := pipeline(b, runtime(b, Options{}), c.step)
			docs := documents(`{"age":7,"first":"Ann","last":"Lee"}`)
			for b.Loop() {
				if _, err := p.Each(b.Context(), docs); err != nil && c.name == "in Go" {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzPipelineTakesAnyModule(f *testing.F) {
	r := runtime(f, Options{Deadline: 50 * time.Millisecond, Memory: 1 << 20})
	f.Add(identity.binary())
	f.Add(guest{transform: forever}.binary())
	f.Add(guest{transform: constant(dataAt), data: itemOf(itemJSON, "{}")}.binary())
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x01\n\x02`\x00\x01\x7f`\xdb\xdb\xdb\xdb\x03\x04\x03")) // a type of a billion parameters
	f.Fuzz(func(t *testing.T, module []byte) {
		p, err := r.Pipeline(t.Context(), []Step{{Module: module}})
		if err != nil {
			return
		}
		out, err := p.Transform(t.Context(), documents(`{"a":1}`))
		for _, d := range out {
			if err == nil && !isObject(d) {
				t.Errorf("%q is no object", d)
			}
		}
	})
}
