package value

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/fault"
)

// Damaged bytes, and second spellings of a value, which would make equal states
// of a document differ.
func TestDamagedStorageIsCorrupt(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("0a01", MaxNesting+1) + "00"
	for in, want := range map[string]string{
		"":                                "cut short",
		"0c":                              "unknown kind",
		"03":                              "a damaged number",
		"0380":                            "a damaged number",
		"037e":                            "a small integer in the long form", // 63
		"03808100":                        "a damaged number",
		"03ffffffffffffffffff02":          "a damaged number",
		"04cdcccc":                        "cut short",
		"040000c07f":                      "not finite",
		"0400000080":                      "negative zero",
		"05000000000000f07f":              "not finite",
		"060161":                          "a short string in the long form",
		"068001":                          "cut short",
		"06ffffffffffffffffff01":          "cut short",
		"8261":                            "cut short",
		"07008094ebdc0300":                "a time out of range", // 1000000000 ns
		"070000c016":                      "a time out of range", // 24:00
		"070000bf16":                      "a time out of range", // -24:00
		"0802ff":                          "cut short",
		"09" + strings.Repeat("00", 31):   "cut short",
		"0affffffffffffffffff01":          "cut short",
		"0a0200":                          "cut short",
		"0b018161":                        "cut short",
		"0b02 016200 016100":              "out of order",
		"0b02 016100 016100":              "out of order",
		deep:                              "nested too deeply",
		strings.Repeat("0a01", 1_000_000): "nested too deeply",
	} {
		raw, err := hex.DecodeString(strings.ReplaceAll(in, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		v, _, err := DecodeBinary(raw)
		if err == nil || !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), want) {
			t.Errorf("DecodeBinary(%.60s): got %v, error %v, want fault.Corrupt with %q", in, v, err, want)
		}
		structural := want == "cut short" || want == "unknown kind" || want == "a damaged number" || want == "nested too deeply"
		if _, err := SkipBinary(raw); structural && err == nil {
			t.Errorf("SkipBinary(%.60s): got no error", in)
		}
	}
}

func TestDamagedKeysAreCorrupt(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                              "cut short",
		"00":                            "unknown kind",
		"0c":                            "unknown kind",
		"05c0":                          "cut short",
		"05fff8000000000000":            "not finite",
		"05fff0000000000000":            "not finite",
		"057fffffffffffffff":            "negative zero",
		"05c340000000000000":            "cut short",
		"05c340000000000000 0002":       "a number out of range", // 2^53 + 2 is a float of its own
		"05c3dfffffffffffff 0400":       "a number out of range", // 2^63
		"0661":                          "cut short",
		"066100":                        "cut short",
		"06610002":                      "a damaged text",
		"078000000000000000 3b9aca00":   "a time out of range",
		"0901":                          "cut short",
		"0a02":                          "cut short",
		"0a01":                          "unknown kind",
		"0b02":                          "an object without a key",
		"0b01610001":                    "cut short",
		"0b01620001020161000102":        "out of order",
		"0b01610001020161000102":        "out of order",
		strings.Repeat("0a", 1_000_000): "nested too deeply",
	} {
		key, err := hex.DecodeString(strings.ReplaceAll(in, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		v, _, err := DecodeKey(key)
		if err == nil || !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), want) {
			t.Errorf("DecodeKey(%.60s): got %v, error %v, want fault.Corrupt with %q", in, v, err, want)
		}
	}
}

// Whatever stands after the damage, no prefix of a value is a value.
func TestCutValuesAreCorrupt(t *testing.T) {
	t.Parallel()
	for _, v := range examples() {
		raw, key := v.AppendBinary(nil), v.AppendKey(nil)
		for n := range len(raw) {
			if got, _, err := DecodeBinary(bytes.Clone(raw[:n])); err == nil {
				t.Errorf("%d of the %d bytes of %v: got %v", n, len(raw), v, got)
			}
			if _, err := SkipBinary(raw[:n]); err == nil {
				t.Errorf("%d of the %d bytes of %v can be skipped", n, len(raw), v)
			}
		}
		for n := range len(key) {
			if got, _, err := DecodeKey(key[:n]); err == nil {
				t.Errorf("%d of the %d bytes of the key of %v: got %v", n, len(key), v, got)
			}
		}
	}
}
