package schema

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// LensStep is one module of a pipeline, with its bytes, and how it is used.
type LensStep struct {
	Module    []byte          // WASM in binary form
	Inverse   bool            // go back: run inverse in place of transform
	Arguments json.RawMessage // handed to the module when it starts; may be empty
}

// Lenses makes pipelines of modules. Package lens does; a program that does without
// it links no WASM runtime.
type Lenses interface {
	Open(ctx context.Context, steps []LensStep) (Pipeline, error)
}

// Pipeline is a sequence of modules that are ready to run, safe for concurrent use.
type Pipeline interface {
	// Transform runs documents, JSON objects, through all modules, which may drop,
	// add and change them.
	Transform(ctx context.Context, docs [][]byte) ([][]byte, error)
	// Each runs documents through one by one: out[i] is what became of docs[i], nil
	// if it was dropped.
	Each(ctx context.Context, docs [][]byte) (out [][]byte, err error)
	Close() error
}

// ErrNoLenses says that a program runs no modules.
var ErrNoLenses = fault.Unavailable.Errorf("this program runs no WASM modules: open the database with Options.Lenses, see package lens")

// A path of a lens says where its module is: in the request, or in the database.
const (
	inRequest  = "data:application/wasm;base64,"
	inDatabase = "sha256:"
)

// Stored returns the digest of a module that is in the database, and the path that
// names it from then on.
func (l Lens) Stored() (dag.Digest, bool) {
	text, ok := strings.CutPrefix(l.Path, inDatabase)
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != sha256.Size {
		return dag.Digest{}, false
	}
	return dag.Digest(raw), true
}

// Given returns the module that a request carries.
func (l Lens) Given() ([]byte, error) {
	text, ok := strings.CutPrefix(l.Path, inRequest)
	if !ok {
		// Reading files or URLs for whoever asks would show them what only the node can reach.
		return nil, fault.Invalid.Errorf("lens with path %.80q: a node opens no files and no URLs for requests: send the module itself, %s…; pando view add and pando schema patch do that for files", l.Path, inRequest)
	}
	binary, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fault.Invalid.Errorf("lens: the module is no base64: %w", err)
	}
	return binary, nil
}

// GivenPath returns the path of a lens whose module goes with the request.
func GivenPath(module []byte) string {
	return inRequest + base64.StdEncoding.EncodeToString(module)
}

// StoredPath returns the path of a lens whose module is in the database.
func StoredPath(d dag.Digest) string { return inDatabase + hex.EncodeToString(d[:]) }
