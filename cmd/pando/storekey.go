package main

import (
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

const (
	storeKeyBytes = 32

	// maxStoreKeyFile is twice what a key in hexadecimal takes: whatever is longer is
	// another file.
	maxStoreKeyFile = 4 * storeKeyBytes

	makeStoreKey = "make one with: (umask 077; openssl rand -hex 32 >FILE), and keep a copy elsewhere"
)

// storeFlags say which key a store is encrypted with, for commands that open one.
type storeFlags struct {
	file string
}

func (s *storeFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.file, "store-key-file", "", "file with the key that the store is encrypted with: 64 hexadecimal digits, readable by you only")
	settings(f, "store-key-file")
}

// key returns the key, nil if the store is not to be encrypted.
func (s *storeFlags) key() ([]byte, error) {
	if s.file == "" {
		return nil, nil
	}
	f, err := os.Open(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NotFound.Errorf("--store-key-file: there is no file %s: %s", s.file, makeStoreKey)
	}
	if err != nil {
		return nil, fileFault(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fileFault(err)
	}
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fault.Denied.Errorf("--store-key-file: %s is open to others (mode %04o): run chmod 600 on it", s.file, mode.Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxStoreKeyFile))
	if err != nil {
		return nil, fileFault(err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(key) != storeKeyBytes {
		return nil, fault.Invalid.Errorf("--store-key-file: %s holds no key, which is %d hexadecimal digits: %s", s.file, 2*storeKeyBytes, makeStoreKey)
	}
	return key, nil
}
