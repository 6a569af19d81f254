package store

import (
	"errors"
	"strings"
	"sync"
	"syscall"

	"github.com/pandodb/pando/internal/kv"
)

// slowFS can hold back the syncs of the log.
type slowFS struct {
	kv.FS
	mu    sync.Mutex // guards what follows
	stuck chan struct{}
	open  chan struct{} // nil: nothing is held
	full  bool
	worn  bool // no log can be begun
}

func newSlowFS(fs kv.FS) *slowFS { return &slowFS{FS: fs} }

// hold keeps syncs from returning until release. The channel closes when one waits.
func (s *slowFS) hold() (stuck <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck, s.open = make(chan struct{}), make(chan struct{})
	return s.stuck
}

func (s *slowFS) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.open)
	s.open = nil
}

// fill makes the disk full, or empties it.
func (s *slowFS) fill(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = full
}

// wear lets the disk fail as soon as a log is begun.
func (s *slowFS) wear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worn = true
}

func (s *slowFS) begin(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.worn && strings.HasSuffix(name, ".log") {
		return syscall.EIO
	}
	return nil
}

func (s *slowFS) wait() {
	s.mu.Lock()
	open := s.open
	if s.stuck != nil {
		close(s.stuck)
		s.stuck = nil
	}
	s.mu.Unlock()
	if open != nil {
		<-open
	}
}

func (s *slowFS) room() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return syscall.ENOSPC
	}
	return nil
}

func (s *slowFS) Create(name string, c kv.WriteCategory) (kv.File, error) {
	if err := errors.Join(s.room(), s.begin(name)); err != nil {
		return nil, err
	}
	f, err := s.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return &slowFile{f, s, strings.HasSuffix(name, ".log")}, nil
}

func (s *slowFS) ReuseForWrite(from, to string, c kv.WriteCategory) (kv.File, error) {
	if err := s.begin(to); err != nil {
		return nil, err
	}
	f, err := s.FS.ReuseForWrite(from, to, c)
	if err != nil {
		return nil, err
	}
	return &slowFile{f, s, strings.HasSuffix(to, ".log")}, nil
}

type slowFile struct {
	kv.File
	fs  *slowFS
	log bool
}

func (f *slowFile) Write(p []byte) (int, error) {
	if err := f.fs.room(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *slowFile) Sync() error {
	if f.log {
		f.fs.wait()
	}
	return f.File.Sync()
}

func (f *slowFile) SyncData() error {
	if f.log {
		f.fs.wait()
	}
	return f.File.SyncData()
}

func (f *slowFile) SyncTo(n int64) (bool, error) {
	if f.log {
		f.fs.wait()
	}
	return f.File.SyncTo(n)
}
