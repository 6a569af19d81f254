package kv

import (
	"context"
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is a file system that a database can live in. The others are of
// its methods, for those who stand between a database and its files.
type (
	FS            = vfs.FS
	File          = vfs.File
	WriteCategory = vfs.DiskWriteCategory
	DiskUsage     = vfs.DiskUsage
)

// NewMemFS returns an empty file system in memory.
func NewMemFS() FS { return vfs.NewMem() }

// CrashFS is a file system in memory that knows what a power loss would leave.
type CrashFS struct {
	FS
	mem *vfs.MemFS
}

// NewCrashFS returns an empty file system whose power can be cut.
func NewCrashFS() *CrashFS {
	mem := vfs.NewCrashableMem()
	return &CrashFS{FS: mem, mem: mem}
}

// Crash returns what is left if the power fails now: everything that was
// synced, and of the rest what the seed decides, block by block. The original
// goes on unharmed, and the remains can crash again.
func (c *CrashFS) Crash(seed uint64) *CrashFS {
	rng := rand.New(rand.NewPCG(seed, seed))
	mem := c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	return &CrashFS{FS: mem, mem: mem}
}

// Disk returns the file system of the machine.
func Disk() FS { return vfs.Default }

type filesKey struct{}

// On returns a context in which a database in memory is opened on these files. It is
// how tests of whole nodes get a disk that fails, which nobody else has a use for.
func On(ctx context.Context, files FS) context.Context {
	return context.WithValue(ctx, filesKey{}, files)
}

// FilesIn returns the files that a database in memory is opened on: empty ones, unless
// the context has others.
func FilesIn(ctx context.Context) FS {
	if files, ok := ctx.Value(filesKey{}).(FS); ok {
		return files
	}
	return NewMemFS()
}
