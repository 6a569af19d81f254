package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
)

func TestRebuildSaysWhatItKnows(t *testing.T) {
	t.Parallel()
	const ends = "; start the node: a peer that has what is missing gives it back"
	for _, c := range []struct {
		r    pando.Rebuilt
		want string
	}{
		{pando.Rebuilt{Documents: 1, Commits: 2}, "rebuilt 1 document from 2 commits"},
		{pando.Rebuilt{Documents: 1, Commits: 2, Lost: 1}, "rebuilt 1 document from 2 commits; left out 1 damaged commit" + ends},
		{pando.Rebuilt{Documents: 1, Commits: 2, Unreadable: 2}, "rebuilt 1 document from 2 commits; stepped over 2 unreadable places, and nobody knows how much was there" + ends},
		{pando.Rebuilt{Lost: 3, Unreadable: 1}, "rebuilt 0 documents from 0 commits; left out 3 damaged commits; stepped over 1 unreadable place, and nobody knows how much was there" + ends},
	} {
		if got := rebuiltText(c.r); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.r, got, c.want)
		}
	}
}

func TestTicketIsDrawnOnlyWhole(t *testing.T) {
	t.Parallel()
	ticket := "pando" + strings.Repeat("a", 220)
	for _, c := range []struct {
		width, height int
		drawn         bool
	}{{80, 24, false}, {120, 40, true}, {200, 20, false}, {40, 200, false}, {0, 0, false}} {
		got := ticketCode(ticket, c.width, c.height)
		lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
		if drawn := len(lines) > 1; drawn != c.drawn {
			t.Errorf("%d x %d: drawn is %v, want %v:\n%s", c.width, c.height, drawn, c.drawn, got)
		}
		if !c.drawn && !strings.Contains(got, "lines)") {
			t.Errorf("%d x %d: %q does not say how large the window has to be", c.width, c.height, got)
		}
	}
}

func TestLineIsFoundInWhatWasSent(t *testing.T) {
	t.Parallel()
	m := &lineMeter{r: iotest.OneByteReader(strings.NewReader("a\nbb\n\nccc\nd"))}
	if got := m.offset(1); got != 0 {
		t.Errorf("before anything is sent line 1 is at %d", got)
	}
	if _, err := io.Copy(io.Discard, m); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line int
		want int64
	}{{1, 1}, {2, 4}, {4, 9}, {5, 11}} { // where the line ends, before its newline
		if got := m.offset(c.line); got != c.want {
			t.Errorf("line %d: got offset %d, want %d", c.line, got, c.want)
		}
	}
}

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

// What others say is shown, and does nothing to the terminal; an error keeps its lines.
func TestWhatOthersSayMovesNoCursor(t *testing.T) {
	t.Parallel()
	if got, want := printableLines("denied: \x1b[2Jno\u009b1m\n  try \u202eagain\xff"), "denied: \uFFFD[2Jno\uFFFD1m\n  try \uFFFDagain\uFFFD"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What waits for the owner of a document that nobody owns waits for nobody.
func TestNothingWaitsForTheOwnerOfAContestedDocument(t *testing.T) {
	t.Parallel()
	ada := freshKey(t).DID()
	for _, c := range []struct {
		owner      pando.DID
		want, none string
	}{
		{ada, "unless the owner accepts", "nobody"},
		{"", "nobody can accept them: nobody owns the document", "unless the owner accepts"},
	} {
		var out bytes.Buffer
		if err := showVerification(&out, &pando.Verification{Owner: c.owner, Pending: 2, Sound: true, Stored: true}); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.Contains(got, "2 commits do not count") || !strings.Contains(got, c.want) || strings.Contains(got, c.none) {
			t.Errorf("verify of a document owned by %q: %s, want %q", c.owner, got, c.want)
		}
		out.Reset()
		one := api.DocumentAccess{Owner: c.owner, Pending: []pando.PendingCommit{{Author: ada}}}
		if err := (&command{out: &out}).printRights(one); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); strings.Contains(got, "pending") != (c.owner != "") || strings.Contains(got, "void") != (c.owner == "") {
			t.Errorf("acl show of a document owned by %q: %s", c.owner, got)
		}
	}
}

// A document that waits for a group says for which one, and what to do about it.
func TestStatusNamesTheGroupThatIsWaitedFor(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := showStatus(&out, api.Status{Wanted: api.Wanted{Documents: 2, Oldest: []api.Want{
		{Collection: "Note", DocID: "bafkreinote", Commits: 1, Groups: []string{"bafkreiteam"}}, {Collection: "Note", DocID: "bafkreiother", Commits: 1}}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "\nbafkreinote waits for group bafkreiteam, which cannot be read here"; !strings.Contains(got, want) || strings.Contains(got, "bafkreiother waits") {
		t.Errorf("got\n%s\nwant %q", got, want)
	}
}
