package kv

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
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
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Unavailable.Errorf("the disk is full; free some space: %w", plain(err))
	case errors.Is(err, pebble.ErrClosed):
		return fault.Closed.Errorf("the database is closed")
	case errors.Is(err, pebble.ErrReadOnly):
		return fault.Denied.Errorf("the database is open for reading only")
	case errors.Is(err, fs.ErrPermission):
		return fault.Unavailable.Errorf("no right to use the files; run as their owner: %w", plain(err))
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fault.Unavailable.Errorf("the disk does not work: %w", plain(err))
	}
	return plain(err)
}

// mend is what to do about damage.
const mend = "run 'pando fsck --rebuild', then sync with a peer"

// opening is classify for what goes wrong while a database is opened: a file
// that does not exist then should.
func opening(err error) error {
	if errors.Is(err, fs.ErrNotExist) && fault.Of(err) == nil {
		if name := fileIn(err); name != "" {
			return fault.Corrupt.Errorf("file %s is missing; %s", name, mend)
		}
		return fault.Corrupt.Errorf("a file is missing; %s: %w", mend, plain(err))
	}
	err = classify(err)
	if number := syscall.Errno(0); fault.Of(err) == nil && !errors.As(err, &number) {
		return fault.Corrupt.Errorf("%w; %s", err, mend) // nothing that the system said
	}
	return err
}

// corrupt says which file is damaged, and which keys are in it, when known.
func corrupt(err error) error {
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return fault.Corrupt.Errorf("file %s is damaged (it holds keys %x to %x): %w; %s",
			filepath.Base(info.Path), info.Bounds.Start, info.Bounds.End.Key, plain(err), mend)
	}
	if name := fileIn(err); strings.HasPrefix(name, "MANIFEST") {
		return fault.Corrupt.Errorf("file %s is damaged; %s", name, mend)
	}
	return fault.Corrupt.Errorf("the files are damaged: %w; %s", plain(err), mend)
}

// plain is an error of the engine as a line that a person reads.
func plain(err error) error { return line{err} }

type line struct{ error }

// words are what only the makers of the engine know.
var words = regexp.MustCompile(`pebble(/[a-z]+)?: |<[a-z ]+>| for DB "[^"]*"| unknown to the objstorage provider`)

func (l line) Error() string {
	return strings.Join(strings.Fields(words.ReplaceAllString(l.error.Error(), "")), " ")
}

func (l line) Unwrap() error { return l.error }

var fileNames = regexp.MustCompile(`file (\d{6,}) \(type sstable\)|"(MANIFEST-\d+)"`)

// fileIn returns the name of the file that an error of the engine is about, or "".
func fileIn(err error) string {
	switch m := fileNames.FindStringSubmatch(err.Error()); {
	case m == nil:
		return ""
	case m[1] != "":
		return m[1] + ".sst"
	default:
		return m[2]
	}
}
