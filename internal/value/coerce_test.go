package value

import (
	"errors"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/fault"
)

func TestWhatPeopleWriteBecomesAValueOfTheType(t *testing.T) {
	t.Parallel()
	docID := OfRef([32]byte{7})
	for _, c := range []struct {
		typ, in string
		want    Value
	}{
		{"ID", `"x"`, OfString("x")},
		{"String", `""`, OfString("")},
		{"Boolean", `false`, OfBool(false)},
		{"Int", `-9223372036854775808`, OfInt(math.MinInt64)},
		{"Int", `1.0`, OfInt(1)},
		{"Float", `1`, OfFloat(1)},
		{"Float", `9007199254740993`, OfFloat(twoTo53)}, // the nearest
		{"Float", `1e300`, OfFloat(1e300)},
		{"Float32", `0.1`, OfFloat32(0.1)},
		{"Float32", `16777217`, OfFloat32(16777216)},
		{"Float32", `1152921573326323713`, OfFloat32(1152921642045800448)}, // twice rounded it would be another
		{"Float32", `-1e-60`, OfFloat32(0)},
		{"Blob", `""`, OfBytes(nil)},
		{"Blob", `"00fFAb"`, OfBytes([]byte{0, 0xff, 0xab})},
		{"JSON", `{"a":[1.0,null]}`, OfMap(map[string]Value{"a": OfList([]Value{OfInt(1), {}})})},
		{"JSON", `"x"`, OfString("x")},
		{"[Int!]", `[]`, OfList(nil)},
		{"[Int!]", `[1,2.0]`, OfList([]Value{OfInt(1), OfInt(2)})},
		{"[Float]", `[1,null]`, OfList([]Value{OfFloat(1), {}})},
		{"[DateTime!]", `["2024-01-01T00:00:00Z"]`, OfList([]Value{OfTime(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))})},
		{"[ID]", `["a"]`, OfList([]Value{OfString("a")})},
		{"[Blob!]", `["aa"]`, OfList([]Value{OfBytes([]byte{0xaa})})},
		{"[Int!]", `null`, Value{}},
		{"reference", docID.String(), docID},
	} {
		typ, in := parseBoth(t, c.typ, c.in)
		if got, err := Coerce(typ, in); err != nil || !same(got, c.want) {
			t.Errorf("Coerce(%s, %s): got %s %v, %v, want %s %v", c.typ, c.in, got.Kind(), got, err, c.want.Kind(), c.want)
		}
	}
}

func TestWhatIsRefusedAndWhy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ typ, in, want string }{
		{"ID", `5`, `expected ID, got Int 5`},
		{"String", `5`, `expected String, got Int 5`},
		{"String", `true`, `expected String, got Boolean true`},
		{"String", `["x"]`, `expected String, got list`},
		{"Boolean", `1`, `expected Boolean, got Int 1`},
		{"Boolean", `"true"`, `expected Boolean, got String "true"`},
		{"Int", `"5"`, `expected Int, got String "5"`},
		{"Int", `true`, `expected Int, got Boolean true`},
		{"Int", `1.5`, `expected Int, got Float64 1.5: only whole numbers`},
		{"Int", `9223372036854775808`, `only whole numbers from -9223372036854775808 to 9223372036854775807 fit`},
		{"Float", `"1"`, `expected Float64, got String "1"`},
		{"Float32", `1e39`, `expected Float32, got Float64 1e+39: only numbers up to`},
		{"Float32", `{}`, `expected Float32, got object`},
		{"DateTime", `5`, `expected DateTime, got Int 5: write RFC 3339`},
		{"Blob", `"0x00"`, `expected Blob, got String "0x00": write bytes as`},
		{"Blob", `"abc"`, `an even number of hexadecimal digits`},
		{"Blob", `"zz"`, `an even number of hexadecimal digits`},
		{"[Int!]", `1`, `expected [Int!], got Int 1`},
		{"[Int!]", `[1,null]`, `element 1: expected Int, got null: leave it out`},
		{"[Int]", `[null,"x"]`, `element 1: expected Int, got String "x"`},
		{"[Int]", `[[1]]`, `element 0: expected Int, got list`},
		{"reference", `"bae-1234"`, `"bae-1234" is no docID`},
		{"reference", `1`, `expected reference, got Int 1: write the docID`},
	} {
		typ, in := parseBoth(t, c.typ, c.in)
		got, err := Coerce(typ, in)
		if err == nil || !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Coerce(%s, %s): got %v, error %v, want fault.Invalid with %q", c.typ, c.in, got, err, c.want)
		}
	}
}

func parseBoth(t *testing.T, typ, in string) (Type, Value) {
	t.Helper()
	v, err := ParseJSON([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if typ == TypeRef.String() {
		return TypeRef, v
	}
	parsed, err := ParseType(typ)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, v
}

// What a Go program hands in has not been through a parser.
func TestValuesFromAProgram(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		t       Type
		in      Value
		want    Value
		problem string
	}{
		{t: TypeDateTime, in: OfTime(at), want: OfTime(at)},
		{t: TypeDateTime, in: OfTime(at.AddDate(8000, 0, 0)), problem: "a year of four digits"},
		{t: TypeDateTime, in: OfTime(time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)), problem: "a year of four digits"},
		{t: TypeDateTime, in: OfTime(time.Unix(math.MaxInt64, 0)), problem: "a year of four digits"},
		{t: TypeBlob, in: OfBytes([]byte{1}), want: OfBytes([]byte{1})},
		{t: TypeRef, in: OfRef([32]byte{1}), want: OfRef([32]byte{1})},
		{t: TypeString, in: OfString("\xff"), problem: "valid UTF-8"},
		{t: TypeFloat64, in: OfFloat32(0.5), want: OfFloat(0.5)},
		{t: TypeJSON, in: OfString("\xff"), problem: "valid UTF-8"},
		{t: TypeJSON, in: OfMap(map[string]Value{"\xff": {}}), problem: "valid UTF-8"},
		{t: TypeJSON, in: OfList([]Value{OfTime(at), OfBytes([]byte{1}), OfFloat(2), OfFloat32(0.5)}),
			want: OfList([]Value{OfString("2024-02-29T12:00:00Z"), OfString("01"), OfInt(2), OfFloat(0.5)})},
		{t: TypeJSON, in: nested(MaxNesting, OfInt(1)), want: nested(MaxNesting, OfInt(1))},
		{t: TypeJSON, in: nested(MaxNesting+1, OfInt(1)), problem: "nested more than 15 deep"},
		{t: TypeJSON | ListOf, in: nested(MaxNesting+1, OfInt(1)), problem: "nested more than 15 deep"},
		{t: TypeNone, in: OfInt(1), problem: "unknown to this version"},
		{t: 0xff, in: OfInt(1), problem: "unknown to this version"},
	} {
		got, err := Coerce(c.t, c.in)
		if c.problem == "" && (err != nil || !same(got, c.want)) {
			t.Errorf("Coerce(%s, %v): got %v, %v, want %v", c.t, c.in, got, err, c.want)
		}
		if c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("Coerce(%s, %v): got %v, error %v, want %q", c.t, c.in, got, err, c.problem)
		}
	}
}

// Writing what is stored, as it is shown, stores the same again.
func TestWhatIsShownCanBeWritten(t *testing.T) {
	check(t, func(t *rapid.T) {
		typ, want := drawTyped(t)
		in, err := ParseJSON(want.AppendJSON(nil))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Coerce(typ, in); err != nil || !same(got, want) {
			t.Fatalf("Coerce(%s, %v): got %v, %v", typ, want, got, err)
		}
	})
}

func TestTimesAreReadStrictly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"2024-02-29T23:59:59Z", "2024-02-29T23:59:59Z"},
		{"2024-01-01T00:00:00.120000+02:00", "2024-01-01T00:00:00.12+02:00"},
		{"2024-01-01T00:00:00.000Z", "2024-01-01T00:00:00Z"},
		{"2024-01-01T00:00:00-00:00", "2024-01-01T00:00:00Z"},
		{"2024-01-01T00:00:00.123456789-23:59", "2024-01-01T00:00:00.123456789-23:59"},
		{"0000-01-01T00:00:00+23:59", "0000-01-01T00:00:00+23:59"},
		{"9999-12-31T23:59:59.999999999-23:59", "9999-12-31T23:59:59.999999999-23:59"},
	} {
		v, err := Coerce(TypeDateTime, OfString(c.in))
		if got := string(v.AppendJSON(nil)); err != nil || got != `"`+c.want+`"` {
			t.Errorf("%s: got %s, %v, want %s", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{"", "2020-01-01", "2020-01-01T00:00:00", "2020-01-01T00:00:00+0200", "2020-01-01T00:00:00+02",
		"2020-01-01t00:00:00Z", "2020-01-01T00:00:00z", "2020-01-01T24:00:00Z", "2020-01-01T00:60:00Z", "2020-01-01T00:00:60Z",
		"2020-02-30T00:00:00Z", "2021-02-29T00:00:00Z", "2020-00-01T00:00:00Z", "2020-13-01T00:00:00Z", "2020-01-00T00:00:00Z",
		"2020-01-01T00:00Z", "2020-01-01 00:00:00Z", "2020-01-01T00:00:00.Z", "2020-01-01T00:00:00,5Z", "2020-01-01T00:00:00.1234567890Z",
		"2020-01-01T00:00:00.5", "2020-01-01T00:00:00+24:00", "2020-01-01T00:00:00+00:60", "2020-01-01T00:00:00ZZ", "2020-01-01T00:00:00 Z",
		"20200-01-01T00:00:00Z", "-020-01-01T00:00:00Z", "+020-01-01T00:00:00Z", "2020-1-01T00:00:000Z", "2020-01-01T0:00:000Z"} {
		if v, err := Coerce(TypeDateTime, OfString(in)); err == nil {
			t.Errorf("%q: got %v, want an error", in, v)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	f.Add("2024-02-29T23:59:59.5+01:00")
	f.Add("0000-01-01T00:00:00Z")
	strict := regexp.MustCompile(`^\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)
	f.Fuzz(func(t *testing.T, in string) {
		v, ok := parseTime(in)
		want, err := time.Parse(time.RFC3339Nano, in)
		if ok != (err == nil && strict.MatchString(in)) {
			t.Fatalf("parseTime(%q): got %v, time.Parse says %v", in, ok, err)
		}
		if !ok {
			return
		}
		if !v.Time().Equal(want) || !v.yearFits() {
			t.Fatalf("parseTime(%q): got %v, want %v", in, v.Time(), want)
		}
		if got := string(v.appendTime(nil)); got != v.Time().Format(time.RFC3339Nano) {
			t.Fatalf("%q is written %s, want %s", in, got, v.Time().Format(time.RFC3339Nano))
		}
	})
}
