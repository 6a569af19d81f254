package kv

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/pandodb/pando/internal/fault"
)

// manifestHeader is checksum 4, length 2, type 1 of a chunk in the list of tables.
const manifestHeader = 7

// checkManifest tells damage of the list of tables from a last entry that a power loss
// cut short. The engine takes both for the end of the list, and would then remove the
// tables that it does not find there.
func checkManifest(dir string, files vfs.FS, names []string) (short bool, err error) {
	const marker = "marker.manifest."
	var markers []string
	for _, name := range names {
		if strings.HasPrefix(name, marker) {
			markers = append(markers, name)
		}
	}
	_, name, _ := strings.Cut(strings.TrimPrefix(slices.Max(markers), marker), ".") // the newest
	f, err := files.Open(files.PathJoin(dir, name))
	if err != nil {
		return false, err
	}
	defer f.Close()
	raw, err := io.ReadAll(f)
	if err != nil {
		return false, err
	}
	for at := 0; at < len(raw); {
		rest := raw[at:min(len(raw), (at/logBlock+1)*logBlock)] // of the block
		if len(rest) < manifestHeader {
			at += len(rest)
			continue
		}
		size := manifestHeader + int(binary.LittleEndian.Uint16(rest[4:]))
		if size <= len(rest) && checksumOf(rest[6:size]) == binary.LittleEndian.Uint32(rest) {
			at += size
			continue
		}
		if cutShort(raw, at, min(size, len(raw)-at)) && (size > len(raw)-at || zero(raw[at+size:])) {
			return true, nil
		}
		return false, fault.Corrupt.Errorf("file %s is damaged; %s", name, mend)
	}
	return false, nil
}

// cutShort reports whether a power loss can have kept a part of an entry from the disk:
// then the file ends early, or a page of it is zero.
func cutShort(raw []byte, at, size int) bool {
	const page = 4 << 10
	if at+size == len(raw) && size < manifestHeader {
		return true
	}
	if claimed := manifestHeader + int(binary.LittleEndian.Uint16(raw[at+4:])); at+claimed > len(raw) {
		return true
	}
	for from := at; from < at+size; {
		to := min(at+size, (from/page+1)*page)
		if zero(raw[from:to]) {
			return true
		}
		from = to
	}
	return false
}

// checkUnlisted refuses a list of tables that is cut short, if a table is not in it
// that was made from a log which is gone: more than the last entry is missing then.
// The engine would remove the table.
func (db *DB) checkUnlisted(o *pebble.Options) error {
	look := *o
	look.ReadOnly = true
	engine, err := openEngine(db.dir, &look)
	if err != nil {
		return err
	}
	seen := DB{dir: db.dir, fs: db.fs, engine: engine}
	unlisted, err := seen.unlisted()
	names, e := db.fs.List(db.dir)
	if err = errors.Join(err, e, engine.Close()); err != nil {
		return err
	}
	oldest := uint64(math.MaxUint64)
	for _, name := range names {
		if n, kind := fileNumber(name); kind == ".log" {
			oldest = min(oldest, n)
		}
	}
	for _, name := range unlisted {
		if n, _ := fileNumber(name); n < oldest {
			return fault.Corrupt.Errorf("the list of tables is cut short, table %s is not in it; %s", name, mend)
		}
	}
	return nil
}

// holdsContent tells files with content from those that are their name only.
func holdsContent(name string) bool {
	_, kind := fileNumber(name)
	return kind == ".sst" || kind == ".log" || strings.HasPrefix(name, "MANIFEST-") || strings.HasPrefix(name, "OPTIONS-")
}
