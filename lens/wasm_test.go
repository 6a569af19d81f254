package lens

import "encoding/binary"

// guest is a module written by hand, for what no compiler makes.
type guest struct {
	imports   [][2]string // functions without parameters that return an integer
	transform []byte      // instructions that leave an integer
	inverse   []byte
	setParam  []byte
	noMemory  bool
	noAlloc   bool
	data      []byte // at dataAt
}

const (
	dataAt = 512
	heapAt = 4096
)

var (
	callNext = []byte{0x10, 0} // call 0
	forever  = []byte{0x03, 0x40, 0x0c, 0, 0x0b, 0x41, 0}
)

// constant leaves n.
func constant(n int32) []byte { return append([]byte{0x41}, signed(n)...) }

func signed(n int32) (b []byte) {
	for {
		c := byte(n & 0x7f)
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func vector(items ...[]byte) []byte {
	b := binary.AppendUvarint(nil, uint64(len(items)))
	for _, i := range items {
		b = append(b, i...)
	}
	return b
}

func bytesOf(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }

func section(id byte, body []byte) []byte { return append([]byte{id}, bytesOf(body)...) }

func function(code []byte) []byte {
	return bytesOf(append(append([]byte{0}, code...), 0x0b))
}

// binary returns the module.
func (g guest) binary() []byte {
	const integer = 0x7f
	var imports, types, codes, exports [][]byte
	for _, i := range g.imports {
		imports = append(imports, append(append(bytesOf([]byte(i[0])), bytesOf([]byte(i[1]))...), 0, 0))
	}
	define := func(name string, kind byte, code []byte) {
		if code == nil {
			return
		}
		exports = append(exports, append(bytesOf([]byte(name)), 0, byte(len(imports)+len(types))))
		types, codes = append(types, []byte{kind}), append(codes, function(code))
	}
	if !g.noAlloc { // the old top of the heap, which then moves
		define("alloc", 1, []byte{0x23, 0, 0x23, 0, 0x20, 0, 0x6a, 0x24, 0})
	}
	define("transform", 0, g.transform)
	define("inverse", 0, g.inverse)
	define("set_param", 1, g.setParam)
	if !g.noMemory {
		exports = append(exports, append(bytesOf([]byte("memory")), 2, 0))
	}
	m := []byte("\x00asm\x01\x00\x00\x00")
	m = append(m, section(1, vector([]byte{0x60, 0, 1, integer}, []byte{0x60, 1, integer, 1, integer}))...)
	m = append(m, section(2, vector(imports...))...)
	m = append(m, section(3, vector(types...))...)
	m = append(m, section(5, vector([]byte{0, 2}))...) // two pages, no limit of its own
	m = append(m, section(6, vector(append(append([]byte{integer, 1}, constant(heapAt)...), 0x0b)))...)
	m = append(m, section(7, vector(exports...))...)
	m = append(m, section(10, vector(codes...))...)
	if len(g.data) > 0 {
		at := append(append([]byte{0}, constant(dataAt)...), 0x0b)
		m = append(m, section(11, vector(append(at, bytesOf(g.data)...)))...)
	}
	return m
}

// itemOf is an item as it lies in memory.
func itemOf(kind int8, text string) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{byte(kind)}, uint32(len(text)))
	return append(b, text...)
}
