package lens

import "testing"

// FullName returns the lens of testdata/fullname.
func FullName(t testing.TB) []byte { return fullname(t) }

// Hanging returns a module that never ends.
func Hanging() []byte {
	return guest{imports: lensNext, transform: forever, setParam: constant(dataAt), data: []byte{itemNil}}.binary()
}
