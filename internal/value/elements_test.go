package value

import (
	"testing"

	"pgregory.net/rapid"
)

// Elements that are decoded one after the other are those of the list, and nothing
// but a whole list has any.
func TestElementsAreThoseOfTheList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawAny.Draw(t, "value")
		b := v.AppendBinary(nil)
		list, ok := DecodeElements([]Value{OfInt(7)}, b)
		if ok != (v.Kind() == List) {
			t.Fatalf("%v: taken for a list: %v", v, ok)
		}
		if ok && Compare(OfList(list[1:]), v) != 0 {
			t.Fatalf("got %v, want %v", list[1:], v)
		}
		if _, ok := DecodeElements(nil, append(b, 0)); ok {
			t.Fatalf("%v with a byte after it is taken for a list", v)
		}
		if _, ok := DecodeElements(nil, b[:len(b)-1]); ok {
			t.Fatalf("%v without its last byte is taken for a list", v)
		}
	})
}
