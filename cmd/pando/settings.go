package main

import (
	"strings"

	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/pflag"
)

// envKey annotates a flag that an environment variable may set as well.
const envKey = "pando_env"

// settings marks flags as settings: --log-level is also PANDO_LOG_LEVEL.
func settings(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f := flags.Lookup(name)
		env := "PANDO_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		f.Annotations = map[string][]string{envKey: {env}}
		f.Usage += " [" + env + "]"
	}
}

// applyEnv sets the settings that no flag has set from the environment.
func applyEnv(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		env := f.Annotations[envKey]
		if len(env) == 0 || f.Changed || failed != nil {
			return
		}
		text, ok := lookup(env[0])
		if !ok || text == "" {
			return
		}
		if err := flags.Set(f.Name, text); err != nil {
			failed = fault.Invalid.Errorf("environment variable %s: %w", env[0], err)
		}
	})
	return failed
}
