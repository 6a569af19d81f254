package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/pandodb/pando/internal/fault"
)

func TestKindSurvivesWrapping(t *testing.T) {
	inner := fault.NotFound.Errorf("document %q: %w", "x", io.EOF)
	err := fmt.Errorf("get: %w", inner)
	if !errors.Is(err, fault.NotFound) || errors.Is(err, fault.Invalid) {
		t.Fatalf("kinds of %v are wrong", err)
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal("the cause is lost")
	}
	if got, want := err.Error(), `get: document "x": EOF`; got != want {
		t.Fatalf("text is %q, want %q", got, want)
	}
}

func TestOutermostKindWins(t *testing.T) {
	err := fault.Invalid.Errorf("import: %w", fault.NotFound.Errorf("collection"))
	if got := fault.Of(err); got != fault.Invalid {
		t.Fatalf("kind of %v is %v, want Invalid", err, got)
	}
	if fault.Of(io.EOF) != nil {
		t.Fatal("a plain error has no kind")
	}
}

func TestNamesRoundTrip(t *testing.T) {
	for _, k := range []*fault.Kind{fault.Invalid, fault.TooLarge, fault.Closed} {
		if fault.Named(k.Name()) != k {
			t.Errorf("Named(%q) does not give the kind back", k.Name())
		}
	}
	if fault.Named("WHATEVER") != nil {
		t.Error("an unknown name has no kind")
	}
}
