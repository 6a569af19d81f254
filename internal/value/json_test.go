package value

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/fault"
)

func TestValuesAsJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 2, 29, 12, 0, 0, 120_000_000, time.FixedZone("", 2*3600))
	for _, c := range []struct {
		v    Value
		want string
	}{
		{Value{}, `null`}, {OfBool(true), `true`}, {OfInt(math.MinInt64), `-9223372036854775808`},
		{OfFloat(3), `3`}, {OfFloat(0.1), `0.1`}, {OfFloat(math.Copysign(0, -1)), `0`}, {OfFloat(1e20), `100000000000000000000`},
		{OfFloat(1e21), `1e+21`}, {OfFloat(1e-7), `1e-7`}, {OfFloat(1e-10), `1e-10`}, {OfFloat(5e-324), `5e-324`}, {OfFloat(-2.5), `-2.5`},
		{OfFloat32(0.1), `0.1`}, {OfFloat32(16777216), `16777216`}, {OfFloat32(math.MaxFloat32), `3.4028235e+38`},
		{OfString("a\"\\/\n\r\t\x00\x1f\x7fé😀\u2028"), `"a\"\\/\n\r\t\u0000\u001f` + "\x7fé😀\u2028" + `"`},
		{OfString("\xffa\xc3"), "\"\ufffda\ufffd\""},
		{OfTime(at), `"2024-02-29T12:00:00.12+02:00"`}, {OfTime(at.UTC()), `"2024-02-29T10:00:00.12Z"`},
		{OfTime(time.Date(1, 1, 1, 0, 0, 0, 1, time.FixedZone("", -330*60))), `"0001-01-01T00:00:00.000000001-05:30"`},
		{OfBytes([]byte{0, 0xAB}), `"00ab"`},
		{OfRef([32]byte{}), `"bafkreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`},
		{OfList(nil), `[]`}, {OfMap(nil), `{}`},
		{OfMap(map[string]Value{"b": OfList([]Value{{}, OfInt(1)}), "a\n": {}}), `{"a\n":null,"b":[null,1]}`},
	} {
		if got := c.v.String(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.v.Kind(), got, c.want)
		}
	}
}

func TestJSONNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want Value
	}{
		{"0", OfInt(0)}, {"-0", OfInt(0)}, {"-0.0", OfInt(0)}, {"0e9", OfInt(0)}, {"1.0", OfInt(1)}, {"1e3", OfInt(1000)},
		{"1.50e1", OfInt(15)}, {"1500E-2", OfInt(15)}, {"1.5", OfFloat(1.5)}, {"1e-1", OfFloat(0.1)},
		{"9223372036854775807", OfInt(math.MaxInt64)}, {"-9223372036854775808", OfInt(math.MinInt64)},
		{"9223372036854775808", OfFloat(twoTo63)}, {"-9223372036854775808.5", OfFloat(-twoTo63)},
		{"9007199254740993.0", OfInt(twoTo53 + 1)}, {"9.007199254740993e15", OfInt(twoTo53 + 1)},
		{"922337203685477580700e-2", OfInt(math.MaxInt64)}, {"1e18", OfInt(1e18)}, {"1e19", OfFloat(1e19)}, {"1e308", OfFloat(1e308)},
		{"1e-999", OfFloat(0)}, {"0.000", OfInt(0)}, {"-12.25e0", OfFloat(-12.25)},
		{"18446744073709551616", OfFloat(2 * twoTo63)}, {"123456789012345680000", OfFloat(123456789012345680000)}, {"18446744073709551615.0", OfFloat(2 * twoTo63)},
		{"100000000000000000000000e-22", OfInt(10)}, {"0e99999999999999999999", OfInt(0)}, {"1e-99999999999999999999", OfFloat(0)},
	} {
		got, err := ParseJSON([]byte(c.in))
		if err != nil || !same(got, c.want) {
			t.Errorf("ParseJSON(%s): got %s %v, %v, want %s %v", c.in, got.Kind(), got, err, c.want.Kind(), c.want)
		}
	}
}

func TestJSONThatIsRefused(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                               "1:1: unexpected end of input where a value",
		" ":                              "1:2: unexpected end of input where a value",
		"nul":                            "1:1: unexpected 'n'",
		"nulll":                          "1:5: unexpected 'l' after the end",
		"1 2":                            "1:3: unexpected '2' after the end",
		"\ufeff1":                        "1:1: unexpected '\\ufeff'",
		"[1,\n 2,,]":                     "2:4: [2]: unexpected ',' where a value",
		"[1,]":                           "unexpected ']' where a value",
		"[1":                             "unexpected end of input where a comma or ']'",
		"[":                              "unexpected end of input where a value",
		"{":                              "unexpected end of input where a key in quotes",
		`{"a"`:                           "unexpected end of input where a colon",
		`{"a":1`:                         "unexpected end of input where a comma or '}'",
		`{"a":1,}`:                       "unexpected '}' where a key in quotes",
		"{a:1}":                          "unexpected 'a' where a key in quotes",
		`{"a":1,"b":2,"a":3}`:            `key "a" occurs twice`,
		`{"a":1,"\u0061":3}`:             `key "a" occurs twice`,
		`"a`:                             "not closed",
		`"a\`:                            "incomplete",
		`"a\n`:                           "not closed",
		"\"a\nb\"":                       "write it as \\u000a",
		"\"\\n\x01\"":                    "write it as \\u0001",
		`"\x"`:                           "unknown escape 'x'",
		`"\u12g4"`:                       "four hexadecimal digits",
		"\"\\u00\x114\"":                 "four hexadecimal digits",
		`"\u12"`:                         "incomplete",
		`"\ud800"`:                       "incomplete",
		`"\ud800\u0041"`:                 "half of a surrogate pair",
		`"\udc00\ud800"`:                 "half of a surrogate pair",
		"\"\xff\"":                       "not valid UTF-8",
		"01":                             "must not begin with 0",
		"-":                              "where a digit",
		"-a":                             "where a digit",
		"+1":                             "unexpected '+'",
		".5":                             "unexpected '.'",
		"1.":                             "where a digit",
		"1e":                             "where a digit",
		"1e+":                            "where a digit",
		"0x10":                           "unexpected 'x' after",
		"NaN":                            "unexpected 'N'",
		"-9223372036854775809":           `the integer "-9223372036854775809" fits neither`,
		"[18446744073709551615]":         "JSON 1:22: [0]: the integer \"18446744073709551615\" fits neither 64 bits nor a float without loss: write it as a string",
		`{"in":[1,{"a":{"b c":1e309}}]}`: `JSON 1:27: in[1].a."b c": the number "1e309" is beyond`,
		"1e999":                          "beyond the range of floats",
		"1e99999999999999999999":         "beyond the range of floats",
		strings.Repeat("[", 1000000):     "nested more than 15 deep",
		strings.Repeat(`{"a":`, 16):      "nested more than 15 deep",
		"'a'":                            `unexpected '\''`,
		"[1] // comment":                 "unexpected '/'",
	} {
		v, err := ParseJSON([]byte(in))
		if err == nil || !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseJSON(%.40q): got %v, error %v, want fault.Invalid with %q", in, v, err, want)
		}
	}
}

func TestJSONRoundTrips(t *testing.T) {
	check(t, func(t *rapid.T) {
		want := drawJSON.Draw(t, "value")
		text := want.AppendJSON(nil)
		if got, err := ParseJSON(text); err != nil || !same(got, want) {
			t.Fatalf("ParseJSON(%s): got %v, %v", text, got, err)
		}
		spaced, err := json.MarshalIndent(json.RawMessage(text), " ", "\t")
		if err != nil {
			t.Fatalf("encoding/json refuses %s: %v", text, err)
		}
		if got, err := ParseJSON(spaced); err != nil || !same(got, want) {
			t.Fatalf("ParseJSON(%s): got %v, %v", spaced, got, err)
		}
	})
}

// FuzzParseJSON holds the parser against encoding/json: it must accept nothing
// that the standard library refuses, read the same, and refuse more only for the
// reasons that ParseJSON names.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`null`, `[true,false]`, `{"a":1.5e3,"b":[{}]}`, `"\ud83d\ude00\n"`, `-0.0`, `1e400`, `{"a":1,"a":2}`, ` [ 1 , 2 ] `} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := ParseJSON(in)
		if err != nil {
			if json.Valid(in) && !stricter(err) {
				t.Fatalf("ParseJSON(%s) refuses valid JSON: %v", in, err)
			}
			return
		}
		d := json.NewDecoder(bytes.NewReader(in))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatalf("ParseJSON(%s) = %v, encoding/json refuses: %v", in, v, err)
		}
		if _, err := d.Token(); err != io.EOF {
			t.Fatalf("ParseJSON(%s) = %v, encoding/json finds more: %v", in, v, err)
		}
		if !agrees(v, want) {
			t.Fatalf("ParseJSON(%s) = %v, encoding/json reads %v", in, v, want)
		}
		text := v.AppendJSON(nil)
		if again, err := ParseJSON(text); err != nil || !Equal(again, v) {
			t.Fatalf("%s is printed as %s, which reads as %v, %v", in, text, again, err)
		}
	})
}

func stricter(err error) bool {
	for _, reason := range []string{"UTF-8", "surrogate", "incomplete", "beyond the range", "without loss", "occurs twice", "nested"} {
		if strings.Contains(err.Error(), reason) {
			return true
		}
	}
	return false
}

func agrees(v Value, want any) bool {
	switch want := want.(type) {
	case nil:
		return v.IsNull()
	case bool:
		return v.Kind() == Bool && v.Bool() == want
	case string:
		return v.Kind() == String && v.Text() == want
	case json.Number:
		if v.Kind() == Int && len(want) < 100 {
			if exact, ok := new(big.Rat).SetString(string(want)); ok && exact.IsInt() {
				return exact.Num().IsInt64() && exact.Num().Int64() == v.Int()
			}
		}
		f, err := want.Float64()
		return err == nil && v.IsNumeric() && v.Float() == f
	case []any:
		if v.Kind() != List || v.Len() != len(want) {
			return false
		}
		for i, e := range v.List() {
			if !agrees(e, want[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		if v.Kind() != Map || v.Len() != len(want) {
			return false
		}
		for k, e := range v.Members() {
			if other, ok := want[k]; !ok || !agrees(e, other) {
				return false
			}
		}
		return true
	}
	return false
}
