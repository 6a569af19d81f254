// Package lens runs the WASM modules that change documents on their way: the
// transforms of views, and the migrations that no declared rule can express.
//
// It hides the sandbox. A module sees the documents it is given and nothing else:
// no files, no network, no environment, a clock that stands still and the same
// random numbers every time, so that nodes with the same documents and modules
// see the same results. Memory and time of a module are bounded. A program that
// does not import this package links no WASM runtime.
//
// The interface of a module is that of the Lens family (version 0): it imports
// lens.next, which gives the next document, and exports memory, alloc,
// transform, and if it can go back inverse, and if it takes arguments set_param.
// docs/lenses.md describes it byte by byte.
package lens

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// Step is one module of a pipeline, and how it is used.
type Step = pando.LensStep

// Options bound what modules may use. The zero value is right for most.
type Options struct {
	Memory   uint32        // bytes of memory of one instance, rounded up to 64 KiB; 0: 64 MiB
	Deadline time.Duration // for one call of Transform or Each; 0: 10 s
}

const (
	defaultMemory   = 64 << 20
	defaultDeadline = 10 * time.Second
	pageSize        = 64 << 10

	// MaxModule bounds a module in bytes: a Go program is some 3 MB.
	MaxModule = 16 << 20
	// MaxSteps bounds a pipeline.
	MaxSteps = 16
)

// Runtime compiles and runs modules. It is safe for concurrent use; its goroutines
// are those of its callers. It takes no memory before the first module.
type Runtime struct {
	memory   uint64
	deadline time.Duration

	mu       sync.Mutex // guards the rest
	wasm     wazero.Runtime
	closed   bool
	compiled map[[sha256.Size]byte]wazero.CompiledModule
}

// New returns a runtime, to be closed after use.
func New(o Options) *Runtime {
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if o.Deadline == 0 {
		o.Deadline = defaultDeadline
	}
	return &Runtime{memory: uint64(o.Memory), deadline: o.Deadline, compiled: map[[sha256.Size]byte]wazero.CompiledModule{}}
}

// start makes the engine, once. r.mu is held.
func (r *Runtime) start(ctx context.Context) error {
	switch {
	case r.closed:
		return fault.Closed.Errorf("the WASM runtime is closed")
	case r.wasm != nil:
		return nil
	}
	pages := (r.memory + pageSize - 1) / pageSize
	r.wasm = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithMemoryLimitPages(uint32(pages)).
		WithCloseOnContextDone(true))
	if err := r.hosts(ctx); err != nil {
		err = errors.Join(fmt.Errorf("start the WASM runtime: %w", err), r.wasm.Close(ctx))
		r.wasm = nil
		return err
	}
	return nil
}

// hosts makes what modules may import.
func (r *Runtime) hosts(ctx context.Context) error {
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r.wasm); err != nil {
		return err
	}
	_, err := r.wasm.NewHostModuleBuilder("lens").NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(next), nil, []api.ValueType{api.ValueTypeI32}).
		Export("next").Instantiate(ctx)
	return err
}

// Close frees all modules. Pipelines of the runtime must not be in use.
func (r *Runtime) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.wasm == nil {
		return nil
	}
	return r.wasm.Close(context.Background())
}

// compile checks a module and makes it ready to be instantiated, once.
func (r *Runtime) compile(ctx context.Context, binary []byte) (wazero.CompiledModule, error) {
	if len(binary) > MaxModule {
		return nil, fault.TooLarge.Errorf("the module has %d bytes, at most %d are allowed: strip it", len(binary), MaxModule)
	}
	key := sha256.Sum256(binary)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.start(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	if m, ok := r.compiled[key]; ok {
		return m, nil
	}
	bounded, err := bound(binary)
	if err != nil {
		return nil, fault.Invalid.Errorf("it is no WASM module that can be run: %w", err)
	}
	m, err := r.wasm.CompileModule(ctx, bounded)
	if err != nil {
		return nil, fault.Invalid.Errorf("it is no WASM module that can be run: %w", err)
	}
	if err := check(m); err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	r.compiled[key] = m
	return m, nil
}

// check refuses a module that lacks what the interface asks for, or wants more than
// it is given.
func check(m wazero.CompiledModule) error {
	for _, f := range m.ImportedFunctions() {
		from, name, _ := f.Import()
		if from == "lens" && name == "next" || from == wasi_snapshot_preview1.ModuleName {
			continue
		}
		return fault.Invalid.Errorf("the module imports %s.%s: a lens is given lens.next, and nothing that reaches out", from, name)
	}
	if len(m.ImportedMemories()) > 0 {
		return fault.Invalid.Errorf("the module imports its memory: export it under the name memory")
	}
	if _, ok := m.ExportedMemories()["memory"]; !ok {
		return fault.Invalid.Errorf("the module exports no memory under the name memory")
	}
	for name, params := range exports {
		f, ok := m.ExportedFunctions()[name]
		if !ok && (name == "alloc" || name == "transform") {
			return fault.Invalid.Errorf("the module exports no function %s", name)
		}
		if ok && (len(f.ParamTypes()) != params || len(f.ResultTypes()) != 1 || f.ResultTypes()[0] != api.ValueTypeI32 ||
			params == 1 && f.ParamTypes()[0] != api.ValueTypeI32) {
			return fault.Invalid.Errorf("function %s of the module does not take %d and return one 32-bit integer", name, params)
		}
	}
	return nil
}

// exports says how many parameters the functions of a module take.
var exports = map[string]int{"alloc": 1, "set_param": 1, "transform": 0, "inverse": 0}
