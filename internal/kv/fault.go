package kv

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"github.com/pandodb/pando/internal/fault"
)

// classify gives an error of the engine its kind, and says what to do.
func classify(err error) error {
	switch {
	case err == nil || fault.Of(err) != nil:
		return err
	case pebble.IsCorruptionError(err):
		return corrupt(err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Unavailable.Errorf("the disk is full; free some space: %w", err)
	case errors.Is(err, pebble.ErrClosed):
		return fault.Closed.Errorf("the database is closed")
	case errors.Is(err, fs.ErrPermission):
		return fault.Unavailable.Errorf("no right to use the files; run as their owner: %w", err)
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fault.Unavailable.Errorf("the disk does not work: %w", err)
	}
	return err
}

// opening is classify for what goes wrong while a database is opened: a file
// that does not exist then should.
func opening(err error) error {
	if errors.Is(err, fs.ErrNotExist) && fault.Of(err) == nil {
		return fault.Corrupt.Errorf("a file is missing; restore a backup: %w", err)
	}
	return classify(err)
}

// corrupt says which file is damaged, and which keys are in it, when known.
func corrupt(err error) error {
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return fault.Corrupt.Errorf("file %s is damaged (it holds keys %x to %x): %w",
			filepath.Base(info.Path), info.Bounds.Start, info.Bounds.End.Key, err)
	}
	return fault.Corrupt.Errorf("the files are damaged: %w", err)
}
