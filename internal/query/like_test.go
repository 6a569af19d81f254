package query

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What the signs of a pattern mean.
func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, matches, not string
	}{
		{"", "|", "a"},
		{"%", "|a|äö", ""},
		{"_", "a|ä|%|_", "|ab"},
		{"__", "ab|äö", "a|abc"},
		{"a_c", "abc|aäc|a_c", "ac|abbc"},
		{"a%c", "ac|abbc", "a|acd"},
		{"%a%b", "ab|xaxb|abab", "aba|b"},
		{"a%a", "aa|aba", "a"},
		{"_%_", "ab|abc|äö", "|a|ä"},
		{"%_a_%", "xay|äaö|xxayy", "ay|xa|a"},
		{`100\%`, "100%", "100|1000"},
		{`a\_%`, "a_|a_b", "ab"},
		{`\\`, `\`, `\\`},
		{`C:\dir%`, `C:\dir|C:\dir2`, `C:dir`},
		{`end\`, `end\`, "end"},
		{`%\%`, `%|50%`, "50"},
	} {
		p := newPattern(c.pattern, false)
		for _, s := range strings.Split(c.matches, "|") {
			if !p.matches(s) {
				t.Errorf("%q does not match %q", c.pattern, s)
			}
		}
		if c.pattern == "%" {
			continue
		}
		for _, s := range strings.Split(c.not, "|") {
			if s == "" && c.pattern == "" {
				continue
			}
			if p.matches(s) {
				t.Errorf("%q matches %q", c.pattern, s)
			}
		}
	}
}

// Matching piece by piece finds what trying all ways finds.
func TestPatternsEqualTheOracle(t *testing.T) {
	letters := rapid.SampledFrom([]string{"a", "b", "A", "ä", "%", "_", `\`})
	rapid.Check(t, func(t *rapid.T) {
		s := strings.Join(rapid.SliceOfN(letters, 0, 8).Draw(t, "text"), "")
		p := strings.Join(rapid.SliceOfN(letters, 0, 6).Draw(t, "pattern"), "")
		if got, want := newPattern(p, false).matches(s), likeOracle(s, p); got != want {
			t.Fatalf("%q like %q: got %v, want %v", s, p, got, want)
		}
		if got, want := newPattern(p, true).matches(s), likeOracle(strings.ToLower(s), strings.ToLower(p)); got != want {
			t.Fatalf("%q ilike %q: got %v, want %v", s, p, got, want)
		}
	})
}
