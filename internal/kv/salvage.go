package kv

import (
	"cmp"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Found is one write that Salvage came upon.
type Found struct {
	Key, Value []byte
	Seq        uint64 // later writes have larger ones; old ones may have come to be 0
	Deleted    bool   // the key was removed
	Doubtful   bool   // it stands behind damage in a batch: believe it only if it proves itself
}

// Salvage yields the writes that can be read from the files of a database which Open
// refuses, in no order, some of them twice. Of what was written to a key the one with
// the largest number counts. Files that are no longer in use may be left in the
// directory, so a key may be found that was removed.
//
// It reports what is damaged, and what of it could be mended, and steps over the rest.
// It writes nothing, and keeps others from the directory meanwhile. An error ends it.
func Salvage(dir string, o Options, report func(Problem)) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		files := o.FS
		if files == nil {
			files = vfs.Default
		}
		lock, err := Lock(files.PathJoin(dir, lockName), files)
		if err != nil {
			yield(Found{}, err)
			return
		}
		defer lock.Close()
		if err := checkKey(dir, files); err != nil {
			yield(Found{}, err)
			return
		}
		s := &salvager{files: files, dir: dir, report: report}
		s.yield = func(f Found) bool { return yield(f, nil) }
		if err := s.all(); err != nil && !s.stopped {
			yield(Found{}, fmt.Errorf("salvage %q: %w", dir, classify(err)))
		}
	}
}

type salvager struct {
	files   vfs.FS
	dir     string
	report  func(Problem)
	yield   func(Found) bool
	stopped bool // by who takes what is found
}

func (s *salvager) all() error {
	names, err := s.files.List(s.dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		var err error
		switch number, kind := fileNumber(name); kind {
		case ".sst":
			err = s.table(name)
		case ".log":
			err = s.log(name, number)
		}
		if s.stopped {
			return nil
		}
		if err != nil {
			s.bad(name, -1, 0, false, err)
		}
	}
	return nil
}

func (s *salvager) bad(name string, offset, size int64, mended bool, err error) {
	s.report(Problem{File: name, Offset: offset, Size: size, Mended: mended, Err: classify(err)})
}

// fileNumber returns the number of a file and its suffix; that of a file without a
// number is "".
func fileNumber(name string) (uint64, string) {
	suffix := filepath.Ext(name)
	// A log may be in several parts: 000012-003.log.
	digits, _, _ := strings.Cut(strings.TrimSuffix(name, suffix), "-")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, ""
	}
	return n, suffix
}

// unreplayed returns how many bytes of the newest log the engine will not read, and
// its name. They were not all written before a power loss, or are damaged.
func unreplayed(dir string, files vfs.FS, names []string) (name string, bytes int64, err error) {
	var logs []string
	for _, n := range names {
		if _, kind := fileNumber(n); kind == ".log" {
			logs = append(logs, n)
		}
	}
	if len(logs) == 0 {
		return "", 0, nil
	}
	name = slices.MaxFunc(logs, func(a, b string) int {
		x, _ := fileNumber(a)
		y, _ := fileNumber(b)
		return cmp.Compare(x, y)
	})
	f, err := files.Open(files.PathJoin(dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return name, 0, err
	}
	defer f.Close()
	number, _ := fileNumber(name)
	first, last := int64(-1), int64(0)
	r := logReader{number: uint32(number)}
	r.damage = func(offset, size int64, _ bool) {
		if first < 0 {
			first = offset
		}
	}
	r.seen = func(end int64) { last = end }
	if err := r.read(f); err != nil || first < 0 {
		return name, 0, err
	}
	return name, last - first, nil
}
