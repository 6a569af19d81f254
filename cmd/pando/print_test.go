package main

import (
	"testing"
	"time"
)

func TestFiguresReadWell(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{grouped(0), "0"}, {grouped(999), "999"}, {grouped(12904), "12 904"}, {grouped(1234567), "1 234 567"}, {grouped(-1234), "-1 234"}, {grouped(-123), "-123"},
		{size(0), "0 B"}, {size(999), "999 B"}, {size(1000), "1.0 kB"}, {size(3_100_000), "3.1 MB"}, {size(31_000_000), "31 MB"}, {size(999_900), "1.0 MB"},
		{took(1400 * time.Millisecond), "1.4 s"}, {took(35 * time.Microsecond), "35 us"}, {took(12345 * time.Microsecond), "12.3 ms"}, {took(90 * time.Second), "1m30s"},
		{plural(1, "document"), "1 document"}, {plural(1200, "document"), "1 200 documents"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
