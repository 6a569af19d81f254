package schema_test

import (
	"errors"
	"testing"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

func TestCollectionsOfDifferentPeersMayNotShareGeneratedNames(t *testing.T) {
	t.Parallel()
	parse := func(sdl string) *schema.Collection {
		cs, err := schema.Parse(sdl, nil)
		if err != nil {
			t.Fatal(err)
		}
		return cs[0]
	}
	form, field, other := parse(`type Form { a: Int }`), parse(`type FormField { a: Int }`), parse(`type Other { a: Int }`)
	if err := schema.CheckTogether([]string{form.Name, other.Name}); err != nil {
		t.Errorf("Form and Other: %v", err)
	}
	for _, cs := range [][]string{{form.Name, field.Name}, {field.Name, other.Name, form.Name}, {form.Name, form.Name}} {
		if err := schema.CheckTogether(cs); !errors.Is(err, fault.Exists) {
			t.Errorf("Form and FormField: %v, want Exists", err)
		}
	}
}
