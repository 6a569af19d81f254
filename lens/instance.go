package lens

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/pandodb/pando/internal/fault"
)

// instance is a module with its memory, used by one caller at a time.
type instance struct {
	module api.Module
	alloc  api.Function
	step   api.Function // transform or inverse

	in   [][]byte // documents that the module has not asked for yet
	fed  int      // bytes handed over in its life
	fail error    // of the host, while the module was asking
}

// An item is how a document crosses the border: a signed byte that says what it
// is, and for documents and errors the length, 4 bytes little-endian, and the text.
const (
	itemError    = -1
	itemNil      = 0
	itemJSON     = 1
	itemEnd      = 127
	itemHead     = 1 + 4
	maxItem      = 16 << 20 // bytes of one document
	maxOutput    = 64 << 20 // bytes that one call may give back
	maxMultiply  = 64       // documents out per document in, beyond the first thousand
	freeMultiply = 1000
	// wornAt is how many bytes an instance is fed before another takes its place:
	// modules that free nothing would run out of memory.
	wornAt = 8 << 20
)

// instantiate makes an instance and hands it its arguments.
func (r *Runtime) instantiate(ctx context.Context, st *stage) (*instance, error) {
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize")
	m, err := r.wasm.InstantiateModule(ctx, st.module, config)
	if err != nil {
		return nil, r.explain(ctx, fault.Invalid.Errorf("the module does not start: %w", err))
	}
	in := &instance{module: m, alloc: m.ExportedFunction("alloc"), step: m.ExportedFunction("transform")}
	if st.step.Inverse {
		in.step = m.ExportedFunction("inverse")
	}
	if len(st.step.Arguments) == 0 {
		return in, nil
	}
	if err := in.setParam(ctx, st.step.Arguments); err != nil {
		return nil, r.explain(ctx, err)
	}
	return in, nil
}

func (in *instance) setParam(ctx context.Context, arguments []byte) error {
	ptr, err := in.push(ctx, itemJSON, arguments)
	if err != nil {
		return err
	}
	result, err := in.module.ExportedFunction("set_param").Call(ctx, uint64(ptr))
	if err != nil {
		return fault.Invalid.Errorf("the module failed on its arguments: %w", err)
	}
	_, _, err = in.item(uint32(result[0]))
	return err
}

func (in *instance) close() error { return in.module.Close(context.Background()) }

// worn reports whether the instance should not be used again.
func (in *instance) worn() bool { return in.fed > wornAt }

type caller struct{}

// run lets the module work until it says that there is no more.
func (in *instance) run(ctx context.Context, docs [][]byte) (out [][]byte, err error) {
	ctx = context.WithValue(ctx, caller{}, in)
	in.in, in.fail = docs, nil
	size, most := 0, freeMultiply+maxMultiply*len(docs)
	for {
		result, err := in.step.Call(ctx)
		switch {
		case in.fail != nil:
			return nil, in.fail
		case err != nil:
			return nil, fault.Invalid.Errorf("the module failed: %w", err)
		}
		kind, text, err := in.item(uint32(result[0]))
		switch {
		case err != nil:
			return nil, err
		case kind == itemEnd:
			return out, nil
		case kind == itemNil:
			continue
		}
		if out = append(out, text); len(out) > most {
			return nil, fault.TooLarge.Errorf("the module made more than %d documents of %d: does it ever say that it has ended?", most, len(docs))
		}
		if size += len(text); size > maxOutput {
			return nil, fault.TooLarge.Errorf("the module made more than %d MiB of documents at once", maxOutput>>20)
		}
	}
}

// next is what modules import: it hands the next document to the instance that asks.
func next(ctx context.Context, _ api.Module, stack []uint64) {
	in, ok := ctx.Value(caller{}).(*instance)
	if !ok {
		stack[0] = 0 // asked while it started: there is nothing yet
		return
	}
	kind, text := int8(itemEnd), []byte(nil)
	if len(in.in) > 0 {
		kind, text = itemJSON, in.in[0]
		in.in = in.in[1:]
	}
	ptr, err := in.push(ctx, kind, text)
	if err != nil && in.fail == nil {
		in.fail = err
	}
	stack[0] = api.EncodeU32(ptr)
}

// push writes an item into the memory of the module.
func (in *instance) push(ctx context.Context, kind int8, text []byte) (uint32, error) {
	b := []byte{byte(kind)}
	if kind == itemJSON || kind == itemError {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	in.fed += len(b)
	result, err := in.alloc.Call(ctx, uint64(len(b)))
	if err != nil {
		return 0, fault.Invalid.Errorf("alloc of the module failed: %w", err)
	}
	ptr := uint32(result[0])
	if !in.module.Memory().Write(ptr, b) {
		return 0, fault.Invalid.Errorf("alloc of the module gave %d bytes at %d, which is outside of its memory", len(b), ptr)
	}
	return ptr, nil
}

// item reads an item out of the memory of the module. An error of the module is an
// error here.
func (in *instance) item(ptr uint32) (kind int8, text []byte, err error) {
	mem := in.module.Memory()
	b, ok := mem.ReadByte(ptr)
	if !ok {
		return 0, nil, fault.Invalid.Errorf("the module gave an item at %d, outside of its memory", ptr)
	}
	kind = int8(b)
	switch kind {
	case itemNil, itemEnd:
		return kind, nil, nil
	case itemJSON, itemError:
	default:
		return 0, nil, fault.Invalid.Errorf("the module gave an item of the unknown type %d", kind)
	}
	head, ok := mem.Read(ptr, itemHead)
	if !ok {
		return 0, nil, fault.Invalid.Errorf("the module gave an item at %d, outside of its memory", ptr)
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n > maxItem {
		return 0, nil, fault.TooLarge.Errorf("the module gave a document of %d bytes, at most %d are allowed", n, maxItem)
	}
	body, ok := mem.Read(ptr+itemHead, n)
	if !ok {
		return 0, nil, fault.Invalid.Errorf("the module gave an item of %d bytes at %d, outside of its memory", n, ptr)
	}
	if kind == itemError {
		const most = 1000 // bytes of a message
		return kind, nil, fault.Invalid.Errorf("the module says: %s", bytes.ToValidUTF8(body[:min(len(body), most)], nil))
	}
	text = bytes.Clone(body)
	if !isObject(text) {
		return 0, nil, fault.Invalid.Errorf("the module gave %s: want a JSON object", fmt.Sprintf("%.80q", text))
	}
	return kind, text, nil
}

func isObject(text []byte) bool {
	t := bytes.TrimLeft(text, " \t\r\n")
	return len(t) > 0 && t[0] == '{' && json.Valid(text)
}
