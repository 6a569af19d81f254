package kv

// RetryTablesAtOnce spares tests the wait after a table could not be written.
func RetryTablesAtOnce(db *DB) { db.fs.retry = 0 }

// Flush writes what is in memory to tables, for tests of tables.
func Flush(db *DB) error { return db.engine.Flush() }

// Unreplayed returns how many bytes of the log were not read.
func Unreplayed(db *DB) int64 { return db.unreplayed }

var (
	Mended     = mended
	ChecksumOf = checksumOf
)

// HeaderBytes stand before the content of an encrypted file.
const HeaderBytes = headerBytes
