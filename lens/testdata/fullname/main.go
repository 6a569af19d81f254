//go:build wasip1

// Command fullname is a lens: it makes name of first and last, and back.
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags=-s -o fullname.wasm .
package main

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"unsafe"
)

func main() {}

//go:wasmimport lens next
func next() unsafe.Pointer

// The types of items.
const (
	itemError = -1
	itemJSON  = 1
	itemEnd   = 127
)

var (
	held      = map[uintptr][]byte{} // what the host has a pointer to
	separator = " "
)

//go:wasmexport alloc
func alloc(size uint32) unsafe.Pointer {
	b := make([]byte, size)
	p := unsafe.Pointer(unsafe.SliceData(b))
	held[uintptr(p)] = b
	return p
}

// take returns the type and the text of an item, and frees it.
func take(p unsafe.Pointer) (kind int8, text []byte) {
	b := held[uintptr(p)]
	delete(held, uintptr(p))
	if len(b) < 5 {
		return int8(b[0]), nil
	}
	return int8(b[0]), b[5:]
}

var last []byte // what was given out stays until the next call

func give(kind int8, text []byte) unsafe.Pointer {
	last = append([]byte{byte(kind)}, binary.LittleEndian.AppendUint32(nil, uint32(len(text)))...)
	last = append(last, text...)
	return unsafe.Pointer(unsafe.SliceData(last))
}

//go:wasmexport set_param
func setParam(p unsafe.Pointer) unsafe.Pointer {
	_, text := take(p)
	var arguments struct{ Separator string }
	if err := json.Unmarshal(text, &arguments); err != nil {
		return give(itemError, []byte(err.Error()))
	}
	separator = arguments.Separator
	return give(0, nil)
}

//go:wasmexport transform
func transform() unsafe.Pointer {
	return change(func(doc map[string]any) {
		first, _ := doc["first"].(string)
		last, _ := doc["last"].(string)
		doc["name"] = first + separator + last
		delete(doc, "first")
		delete(doc, "last")
	})
}

//go:wasmexport inverse
func inverse() unsafe.Pointer {
	return change(func(doc map[string]any) {
		name, _ := doc["name"].(string)
		doc["first"], doc["last"], _ = strings.Cut(name, separator)
		delete(doc, "name")
	})
}

func change(f func(doc map[string]any)) unsafe.Pointer {
	kind, text := take(next())
	if kind != itemJSON {
		return give(itemEnd, nil)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		return give(itemError, []byte(err.Error()))
	}
	f(doc)
	out, err := json.Marshal(doc)
	if err != nil {
		return give(itemError, []byte(err.Error()))
	}
	return give(itemJSON, out)
}
