package lens

import (
	"encoding/binary"

	"github.com/pandodb/pando/internal/fault"
)

const (
	// maxEntries bounds each list and each table of a module: types, functions,
	// exports… A large Go program has some 20,000 functions.
	maxEntries = 1 << 17
	// maxLocals bounds the local variables of a function, as browsers do.
	maxLocals = 50_000
)

// The sections of a module that bound knows by number.
const (
	sectionCustom = iota
	sectionType
	sectionImport
	sectionFunction
	sectionTable
	sectionMemory
	sectionGlobal
	sectionExport
	sectionStart
	sectionElement
	sectionCode
	sectionData
)

// bound returns the module without what is not needed to run it, or an error if it
// asks for more than its bytes can stand for. The engine makes room for as many
// entries as a list says it has before it reads the first: eight bytes that lie
// would take gigabytes, and end the program. What bound lets pass need not be valid;
// the engine judges that.
//
// Format: WebAssembly Core Specification 2.0, section 5.5, Modules.
func bound(module []byte) ([]byte, error) {
	const header = 8
	if len(module) < header {
		return nil, fault.Invalid.Errorf("it has %d bytes", len(module))
	}
	out := append(make([]byte, 0, len(module)+64), module[:header]...)
	r := &wasmReader{rest: module[header:]}
	for len(r.rest) > 0 && r.err == nil {
		id := r.byte()
		body := r.take(r.u32())
		if r.err != nil || id == sectionCustom {
			continue // names and the like
		}
		s := &wasmReader{rest: body}
		if id == sectionTable {
			body = s.tables()
		} else {
			s.section(id)
		}
		if s.err != nil {
			return nil, fault.Invalid.Errorf("its section %d: %w", id, s.err)
		}
		out = append(out, id)
		out = binary.AppendUvarint(out, uint64(len(body)))
		out = append(out, body...)
	}
	return out, r.err
}

// wasmReader reads a module or a section. The first error stays, and all that is
// read after it is zero.
type wasmReader struct {
	rest []byte
	err  error
}

func (r *wasmReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fault.Invalid.Errorf(format, args...)
	}
	r.rest = nil
}

func (r *wasmReader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.rest)) {
		r.fail("it is cut off: %d bytes are said to follow, %d do", n, len(r.rest))
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *wasmReader) byte() byte {
	if b := r.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// leb reads an integer of at most ten bytes, signed or not.
func (r *wasmReader) leb() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail("it is cut off in a number")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *wasmReader) u32() uint32 {
	v := r.leb()
	if v > 1<<32-1 {
		r.fail("%d is no 32-bit number", v)
		return 0
	}
	return uint32(v)
}

// each reads a list. Every entry takes at least a byte, so the list ends.
func (r *wasmReader) each(what string, entry func()) {
	n := r.count(what)
	for ; n > 0 && r.err == nil; n-- {
		entry()
	}
}

func (r *wasmReader) count(what string) uint32 {
	n := r.u32()
	if n > maxEntries {
		r.fail("%d %s, at most %d are allowed", n, what, maxEntries)
		return 0
	}
	if int(n) > len(r.rest) {
		r.fail("%d %s in %d bytes", n, what, len(r.rest))
		return 0
	}
	return n
}

func (r *wasmReader) bytes() { r.take(r.u32()) }

// section follows a section as far as lists reach.
func (r *wasmReader) section(id byte) {
	switch id {
	case sectionType:
		r.each("types", r.functionType)
	case sectionImport:
		r.each("imports", func() { r.bytes(); r.bytes(); r.importDescription() })
	case sectionFunction:
		r.each("functions", func() { r.u32() })
	case sectionMemory:
		r.each("memories", r.limits)
	case sectionGlobal:
		r.each("globals", func() { r.valueType(); r.byte(); r.expression() })
	case sectionExport:
		r.each("exports", func() { r.bytes(); r.byte(); r.u32() })
	case sectionElement:
		r.each("elements", r.element)
	case sectionCode:
		r.each("functions", func() { r.code(r.take(r.u32())) })
	case sectionData:
		r.each("data segments", r.data)
	}
}

func (r *wasmReader) functionType() {
	const function = 0x60
	if form := r.byte(); form != function && r.err == nil {
		r.fail("a type of the form 0x%x: only functions are supported", form)
	}
	r.each("parameters", r.valueType)
	r.each("results", r.valueType)
}

func (r *wasmReader) valueType() {
	if b := r.byte(); b == 0x63 || b == 0x64 { // a reference to a type that follows
		r.leb()
	}
}

// limits reads how small and how large a table or a memory may be.
func (r *wasmReader) limits() {
	flag := r.byte()
	r.leb()
	if flag&1 == 1 {
		r.leb()
	}
}

func (r *wasmReader) importDescription() {
	switch kind := r.byte(); kind {
	case 0: // a function of a type
		r.u32()
	case 2: // a memory
		r.limits()
	case 3: // a global variable
		r.valueType()
		r.byte()
	default:
		r.fail("it imports something of the kind %d: a lens is given functions only", kind)
	}
}

// tables returns the section with an upper limit for each table: without one a
// module that runs may let it grow until there is no memory left.
func (r *wasmReader) tables() []byte {
	n := r.count("tables")
	out := binary.AppendUvarint(nil, uint64(n))
	for ; n > 0 && r.err == nil; n-- {
		start := r.rest
		r.valueType()
		out = append(out, start[:len(start)-len(r.rest)]...)
		flag, least, most := r.byte(), r.u32(), uint32(maxEntries)
		switch {
		case flag == 1:
			most = min(r.u32(), most)
		case flag != 0:
			r.fail("a table of the kind 0x%x", flag)
		}
		if least > most {
			r.fail("a table of %d entries, at most %d are allowed", least, most)
		}
		out = binary.AppendUvarint(append(out, 1), uint64(least))
		out = binary.AppendUvarint(out, uint64(most))
	}
	return out
}

// expression reads a constant expression.
func (r *wasmReader) expression() {
	for r.err == nil {
		switch op := r.byte(); op {
		case 0x0b: // end
			return
		case 0x41, 0x42, 0x23, 0xd0, 0xd2: // i32.const, i64.const, global.get, ref.null, ref.func
			r.leb()
		case 0x43: // f32.const
			r.take(4)
		case 0x44: // f64.const
			r.take(8)
		case 0xfd: // v128.const
			r.leb()
			r.take(16)
		default:
			r.fail("0x%x is no operation of a constant expression", op)
		}
	}
}

// element reads a segment of a table. The bits of its kind say what it has.
func (r *wasmReader) element() {
	const (
		passive     = 1
		explicit    = 2 // names its table, or is declarative
		expressions = 4
	)
	kind := r.u32()
	if kind > passive|explicit|expressions {
		r.fail("an element of the kind %d", kind)
		return
	}
	if kind&passive == 0 {
		if kind&explicit != 0 {
			r.u32()
		}
		r.expression()
	}
	if kind&(passive|explicit) != 0 {
		r.valueType() // or the kind of what is listed, a byte, too
	}
	if kind&expressions != 0 {
		r.each("entries", r.expression)
	} else {
		r.each("entries", func() { r.u32() })
	}
}

// code reads how many variables a function has.
func (r *wasmReader) code(body []byte) {
	f := &wasmReader{rest: body}
	locals := uint64(0)
	f.each("groups of variables", func() {
		locals += uint64(f.u32())
		f.valueType()
	})
	if f.err != nil {
		r.fail("%w", f.err)
	}
	if locals > maxLocals {
		r.fail("a function with %d variables, at most %d are allowed", locals, maxLocals)
	}
}

func (r *wasmReader) data() {
	switch kind := r.u32(); kind {
	case 0: // at a place in memory
		r.expression()
	case 1: // copied by an instruction
	case 2:
		r.u32()
		r.expression()
	default:
		r.fail("a data segment of the kind %d", kind)
	}
	r.bytes()
}
