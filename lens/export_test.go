package lens

import "testing"

// FullName returns the lens of testdata/fullname.
func FullName(t testing.TB) []byte { return fullname(t) }
