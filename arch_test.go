package pando_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pandodb/pando"

// layers gives each package its place. A package imports only packages of smaller
// numbers; packages of one number do not know each other.
var layers = map[string]int{
	"internal/fault":  0,
	"internal/cbor":   1,
	"internal/kv":     1,
	"internal/pace":   1,
	"internal/radix":  1,
	"internal/ident":  2,
	"internal/value":  2,
	"lens":            9, // apart: who imports it links a WASM runtime
	"internal/crdt":   3,
	"internal/host":   3,
	"internal/token":  3,
	"internal/acp":    4,
	"internal/dag":    4,
	"internal/gossip": 5,
	"internal/schema": 5,
	"internal/veil":   5,
	"internal/room":   6,
	"internal/store":  6,
	"internal/query":  7,
	"":                8, // package pando: embedders stop here
	"p2p":             9,
	"api":             10,
	// Generated, with what generates them. They know nothing of Pando.
	"api/pandov1":                1,
	"api/pandov1/pandov1connect": 2,
	"api/pandov1/generate":       1,
	"cmd/pando":                  11,
	// For tests and the command line only.
	"internal/keyring": 3,
	"internal/script":  9,
	"internal/sim":     9,
}

// homes names the only packages that may import a dependency, and why.
var homes = []struct {
	prefix string
	in     []string
	why    string
}{
	{"github.com/cockroachdb/pebble", []string{"internal/kv"}, "the storage engine hides behind kv"},
	{"github.com/libp2p/", []string{"internal/host", "internal/gossip", "internal/room", "p2p"}, "a database is complete without a network"},
	{"github.com/libp2p/go-libp2p/p2p", []string{"internal/host"}, "what a host is made of is decided in one place"},
	{"github.com/libp2p/go-libp2p-kad-dht", []string{"internal/host"}, "how peers are found is decided in one place"},
	{"github.com/libp2p/go-libp2p-pubsub", []string{"internal/gossip"}, "how a message reaches many is decided in one place"},
	{"github.com/multiformats/go-multiaddr", []string{"internal/host", "p2p"}, "a database is complete without a network"},
	{"github.com/vektah/gqlparser", []string{"internal/schema", "internal/query"}, "GraphQL is read in one place for types, in one for requests"},
	{"go.yaml.in/yaml/v4", []string{"internal/acp"}, "policies are the only files in YAML"},
	{"filippo.io/age", []string{"internal/keyring"}, "only a keyring is encrypted with a passphrase"},
	{"github.com/zalando/go-keyring", []string{"internal/keyring"}, "where secrets are kept is decided in one place"},
	{"github.com/golang-jwt/jwt", []string{"internal/token"}, "which tokens are good is decided in one place"},
	{"github.com/spf13/cobra", []string{"cmd/pando"}, "the command line is a wrapping"},
	{"github.com/tetratelabs/wazero", []string{"lens"}, "embedders without lenses link no WASM runtime"},
	{"github.com/coder/websocket", []string{"api"}, "HTTP is one way among several to reach the operations"},
	{"connectrpc.com/connect", []string{"api", "api/pandov1/pandov1connect"}, "gRPC is one way among several to reach the operations"},
	{"google.golang.org/protobuf", []string{"api", "api/pandov1", "api/pandov1/generate", "internal/gossip"}, "what Pando itself stores and sends is CBOR"},
	{"github.com/bufbuild/protocompile", []string{"api/pandov1/generate"}, "it is no part of the program"},
	{"github.com/prometheus/client_golang", []string{"api"}, "packages count, and what is told to Prometheus is written in one place"},
	{"charm.land/", []string{"cmd/pando"}, "a screen is a matter of the command line"},
	{"net/http", []string{"api", "api/pandov1/pandov1connect", "cmd/pando"}, "HTTP is one way among several to reach the operations"},
}

func TestPackagesImportOnlyLowerLayers(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		here, ok := layers[f.pkg]
		if !ok {
			t.Errorf("package %s has no layer: give it one here, and say in ARCHITECTURE.md which decision it hides", f.pkg)
			continue
		}
		for _, path := range f.imports {
			pkg, own := strings.CutPrefix(path, module)
			if !own {
				continue
			}
			pkg = strings.TrimPrefix(pkg, "/")
			there, ok := layers[pkg]
			if ok && there >= here {
				t.Errorf("%s imports %s, which is not below it", f.path, path)
			}
		}
	}
}

func TestHeavyDependenciesHaveOneHome(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		for _, path := range f.imports {
			for _, h := range homes {
				if (path == h.prefix || strings.HasPrefix(path, strings.TrimSuffix(h.prefix, "/")+"/")) && !slices.Contains(h.in, f.pkg) {
					t.Errorf("%s imports %s: only %v may, because %s", f.path, path, h.in, h.why)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItHides(t *testing.T) {
	t.Parallel()
	said := map[string]bool{}
	for _, f := range sources(t) {
		said[f.pkg] = said[f.pkg] || f.doc
	}
	for pkg, ok := range said {
		if !ok {
			t.Errorf("package %q has no package comment", pkg)
		}
	}
}

type source struct {
	path, pkg string
	imports   []string
	doc       bool
}

// sources returns the Go files that are built, without tests.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bench") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		if tool(f) {
			return nil
		}
		pkg := filepath.ToSlash(filepath.Dir(path))
		if pkg == "." {
			pkg = ""
		}
		s := source{path: path, pkg: pkg, doc: f.Doc != nil}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, p)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d source files: the test looks in the wrong place", len(all))
	}
	return all
}

// tool reports whether a file is left out of the build, as generators are.
func tool(f *ast.File) bool {
	for _, g := range f.Comments {
		for _, c := range g.List {
			if c.Text == "//go:build ignore" && c.Pos() < f.Package {
				return true
			}
		}
	}
	return false
}
