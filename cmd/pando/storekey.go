package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

const makeStoreKey = "make one with: (umask 077; openssl rand -hex 32 >FILE), and keep a copy elsewhere"

// storeFlags say which key a store is encrypted with, for commands that open one.
type storeFlags struct {
	name string // in the keyring
	file string
}

func (s *storeFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.name, "store-key", "", "the key that the store is encrypted with, by its name in your keyring")
	f.StringVar(&s.file, "store-key-file", "", "file with the key that the store is encrypted with: 64 hexadecimal digits, readable by you only")
	settings(f, "store-key", "store-key-file")
}

// key returns the key, nil if the store is not to be encrypted.
func (s *storeFlags) key(ctx context.Context, c *command) ([]byte, error) {
	switch {
	case s.name != "" && s.file != "":
		return nil, fault.Invalid.Errorf("--store-key %s and --store-key-file %s name two keys: want one", s.name, s.file)
	case s.name != "":
		key, err := c.storeKey(ctx, s.name)
		if errors.Is(err, fault.NotFound) {
			err = fault.NotFound.Errorf("%w; for a new store make one with: pando keyring new-store-key NAME", err)
		}
		if err != nil {
			return nil, fmt.Errorf("--store-key: %w", err)
		}
		return key, nil
	case s.file == "":
		return nil, nil
	}
	raw, err := readSecret(s.file)
	if errors.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("--store-key-file: %w: %s", err, makeStoreKey)
	}
	if errors.Is(err, fault.Denied) {
		return nil, fmt.Errorf("--store-key-file: %w", err)
	}
	if err == nil {
		if key, err := parseStoreKey(string(raw)); err == nil {
			return key.Bytes(), nil
		}
	}
	return nil, fault.Invalid.Errorf("--store-key-file: %s holds no key, which is 64 hexadecimal digits: %s", s.file, makeStoreKey)
}
