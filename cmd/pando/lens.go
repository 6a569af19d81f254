package main

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

// lensFlags adds the flag that names modules.
func lensFlags(cmd *cobra.Command) *[]string {
	return cmd.Flags().StringArray("lens", nil, "a WASM module that documents pass through: FILE, or FILE:ARGUMENTS with arguments in JSON; may be repeated")
}

// readLenses reads the modules that --lens names: they travel with the request.
func readLenses(flags []string) (*pando.Transform, error) {
	if len(flags) == 0 {
		return nil, nil
	}
	t := &pando.Transform{}
	for _, f := range flags {
		file, arguments, given := strings.Cut(f, ":{")
		module, err := os.ReadFile(file)
		if err != nil {
			return nil, fault.Invalid.Errorf("--lens: %w", err)
		}
		l := pando.Lens{Path: pando.LensPath(module)}
		if given {
			if l.Arguments = json.RawMessage("{" + arguments); !json.Valid(l.Arguments) {
				return nil, fault.Invalid.Errorf("--lens: the arguments of %s are no JSON: write --lens '%s:{\"name\": \"value\"}'", file, file)
			}
		}
		t.Lenses = append(t.Lenses, l)
	}
	return t, nil
}
