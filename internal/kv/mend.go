package kv

import (
	"hash/crc32"
	"math/bits"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is how the engine finishes a CRC.
func checksum(crc uint32) uint32 { return bits.RotateLeft32(crc, 17) + 0xa282ead8 }

func checksumOf(data []byte) uint32 { return checksum(crc32.Checksum(data, castagnoli)) }

// mended reports whether data has a checksum, after turning back the one bit that is
// wrong in it, if there is one: the checksum tells which. Of worse damage one piece
// of a block's length in ten thousand is taken for a single bit.
func mended(data []byte, sum uint32) (ok, turned bool) {
	is := crc32.Checksum(data, castagnoli)
	if checksum(is) == sum {
		return true, false
	}
	if bits.OnesCount32(checksum(is)^sum) == 1 {
		return true, true // the bit is in the checksum
	}
	want := bits.RotateLeft32(sum-0xa282ead8, -17)
	// What a bit of the last byte does to the CRC, then of the byte before, and so on.
	var effect [8]uint32
	for b := range effect {
		effect[b] = castagnoli[1<<b]
	}
	for i := len(data) - 1; i >= 0; i-- {
		for b, e := range effect {
			if is^e == want {
				data[i] ^= 1 << b
				return true, true
			}
			effect[b] = castagnoli[e&0xff] ^ e>>8
		}
	}
	return false, false
}
