package value

import (
	"errors"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/fault"
)

func TestATextHoldsABoundedNumberOfValues(t *testing.T) {
	t.Parallel()
	text := "[" + strings.Repeat("[],", MaxValues-1) + "[]]"
	if _, err := ParseJSON([]byte(text)); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "more than 1048576 values") {
		t.Errorf("one more than the limit: %v", err)
	}
	if v, err := ParseJSON([]byte("[" + strings.Repeat("1,", MaxValues-2) + "1]")); err != nil || v.Len() != MaxValues-1 {
		t.Errorf("as many as the limit: %d, %v", v.Len(), err)
	}
}
