package store_test

import (
	"testing"

	"github.com/pandodb/pando/internal/script"
)

// The stories of testdata, told in the words of script.Commands. To write what they
// print into them: go test ./internal/store -run TestScripts -rewrite
func TestScripts(t *testing.T) {
	t.Parallel()
	script.RunDir(t, "testdata/script")
}
