package dag

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rewrite makes the golden files that do not exist. Those that exist are what
// databases and peers hold: no flag changes them.
var rewrite = flag.Bool("rewrite", false, "write the golden files that are missing")

const goldenDir = "../../testdata/format/v1"

// The bytes of version 1 of the format stay as they are for ever: what is made
// today equals what was made then, and what was made then is still understood.
func TestGoldenCommits(t *testing.T) {
	for _, s := range specimens(t) {
		t.Run(s.name, func(t *testing.T) {
			path := filepath.Join(goldenDir, "commit-"+s.name+".txt")
			got := describe(s)
			want, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) && *rewrite {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%s is made as\n%s\nwant\n%s", s.name, got, want)
			}
			env := goldenEnvelope(t, want)
			c, err := Open(env)
			if err != nil {
				t.Fatal(err)
			}
			if back := describe(specimen{s.name, s.note, c}); !bytes.Equal(back, want) {
				t.Errorf("%s is read as\n%s\nwant\n%s", s.name, back, want)
			}
			if bad := Verify([]*Commit{c}); bad != nil {
				t.Error("its signature is refused")
			}
		})
	}
}

func goldenEnvelope(t *testing.T, file []byte) []byte {
	t.Helper()
	_, rest, _ := strings.Cut(string(file), "\nenvelope ")
	text, _, _ := strings.Cut(rest, "\n")
	env, err := hex.DecodeString(text)
	if err != nil || len(env) == 0 {
		t.Fatalf("golden file without envelope: %v", err)
	}
	return env
}

// describe writes a commit for people and for other implementations.
func describe(s specimen) []byte {
	var b bytes.Buffer
	c := s.Commit
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# %s: %s", s.name, s.note)
	p("envelope %x", c.Envelope())
	p("header %x", c.Header())
	p("cid %s", c.CID)
	p("kind %d", c.Kind)
	p("doc %s", c.Doc)
	if r := c.Root; r != nil {
		p("root mode %d namespace %q collection %s seed %x", r.Mode, r.Namespace, r.Collection, r.Seed)
	}
	for _, id := range c.Parents {
		p("parent %s", id)
	}
	p("height %d", c.Height)
	p("hlc %d", c.HLC)
	p("author %s", c.Author.Key.DID())
	if c.Delegated() {
		p("gateway %s proof %x", c.Author.Via.DID(), c.Author.Proof)
	}
	if c.Txn != nil {
		p("txn %x of %d", c.Txn.ID, c.Txn.Count)
	}
	p("schema %s", c.Schema)
	for _, id := range c.Auth {
		p("auth %s", id)
	}
	for i, seg := range c.Segs {
		p("segment group %d epoch %d len %d hash %x", seg.Group, seg.Epoch, seg.Len, seg.Hash)
		if !c.HeaderOnly() {
			p("payload %x", c.Payload[i])
		}
	}
	for i, d := range c.Deltas {
		p("op %d field %d kind %#04x void %t value %s over %d", i, d.Field, uint16(d.Kind), d.Void, d.Val, len(d.Over))
	}
	p("signature %x", c.Sig)
	if c.Proof != nil {
		p("proof %x", c.Proof)
	}
	return b.Bytes()
}
