package schema

import (
	"encoding/hex"
	"time"

	"github.com/pandodb/pando/internal/value"
)

// castable reports whether values of one type show as another, and back. What a
// value cannot be shown as is null: the other cell keeps it.
func castable(from, to value.Type) bool {
	if from == to || from.IsList() || to.IsList() || from == value.TypeRef || to == value.TypeRef {
		return false
	}
	return fromText(from) && fromText(to) || from == value.TypeJSON || to == value.TypeJSON
}

// fromText reports whether values of the type have a text that leads back to them.
func fromText(t value.Type) bool { return t >= value.TypeID && t <= value.TypeBlob }

// cast returns v as a value of type t: by way of its text, unless numbers or
// Booleans and numbers meet, which need none.
func cast(v value.Value, t value.Type) value.Value {
	switch {
	case v.IsNull(), v.Kind() == value.Bool && t == value.TypeBoolean:
		return v
	case t == value.TypeJSON && plain(v), v.IsNumeric() && t.IsNumeric():
		return coerced(v, t)
	case v.Kind() == value.Bool && t.IsNumeric():
		n := int64(0)
		if v.Bool() {
			n = 1
		}
		return coerced(value.OfInt(n), t)
	case t == value.TypeBoolean && v.IsNumeric():
		if f := v.Float(); f == 0 || f == 1 {
			return value.OfBool(f == 1)
		}
		return value.Value{}
	}
	return parsed(text(v), t)
}

// plain reports whether JSON has the value as it is.
func plain(v value.Value) bool {
	switch v.Kind() {
	case value.Bool, value.Int, value.Float32, value.Float64, value.String, value.List, value.Map:
		return true
	}
	return false
}

// text is how people write the value.
func text(v value.Value) string {
	switch v.Kind() {
	case value.String:
		return v.Text()
	case value.Time:
		return v.Time().Format(time.RFC3339Nano)
	case value.Bytes:
		return hex.EncodeToString(v.Bytes())
	}
	return v.String()
}

// parsed returns what the text says in the type, null if nothing.
func parsed(s string, t value.Type) value.Value {
	switch {
	case t == value.TypeBoolean:
		if s == "true" || s == "false" {
			return value.OfBool(s == "true")
		}
		return value.Value{}
	case t.IsNumeric():
		if s == "" || s[0] != '-' && (s[0] < '0' || s[0] > '9') {
			return value.Value{}
		}
		n, err := value.ParseJSON([]byte(s))
		if err != nil {
			return value.Value{}
		}
		return coerced(n, t)
	}
	return coerced(value.OfString(s), t)
}

func coerced(v value.Value, t value.Type) value.Value {
	w, err := value.Coerce(t, v)
	if err != nil {
		return value.Value{}
	}
	return w
}
