package crdt

import (
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/value"
)

// A computed row reads like a document that holds the same values.
func TestRow(t *testing.T) {
	t.Parallel()
	fields := []FieldID{16, 17, 18, 300}
	kinds := []Kind{KindOf(LWW, value.TypeString), KindOf(LWW, value.TypeInt), KindOf(LWW, value.TypeString), KindOf(LWW, value.TypeJSON)}
	vals := []value.Value{
		value.OfString("short"),
		{},
		value.OfString(strings.Repeat("long ", 5000)),
		value.OfMap(map[string]value.Value{"a": value.OfInt(7), "b": value.OfList([]value.Value{value.OfBool(true)})}),
	}
	d := Row([]byte("what was there before"), fields, kinds, vals)
	for _, d := range []Document{d, reopened(t, d)} {
		for i, f := range fields {
			got, ok := d.Value(f, kinds[i])
			if ok == vals[i].IsNull() || !value.Equal(got, vals[i]) {
				t.Errorf("field %d: %.60v, %v; want %.60v", f, got, ok, vals[i])
			}
		}
		if d.Deleted() || len(d.Heads()) > 0 {
			t.Errorf("a computed row is deleted: %v, has heads: %v", d.Deleted(), d.Heads())
		}
		if _, ok := d.Value(17, KindOf(LWW, value.TypeString)); ok {
			t.Error("a cell of another kind is there")
		}
	}
}

func reopened(t *testing.T, d Document) Document {
	t.Helper()
	again, err := Open(d.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return again
}
