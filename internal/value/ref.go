package value

import (
	"encoding/base32"
	"strings"

	"github.com/pandodb/pando/internal/fault"
)

// A document is named in text by a CID: version 1, "raw", sha2-256, then the
// docID, in multibase base32.
const refPrefix = "\x01\x55\x12\x20"

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// RefText returns the text of a docID: "bafkrei" and 52 more letters and digits.
func RefText(id [32]byte) string { return string(AppendRefText(nil, id)) }

// AppendRefText appends the text of a docID.
func AppendRefText(b []byte, id [32]byte) []byte {
	var cid [len(refPrefix) + refSize]byte
	copy(cid[:], refPrefix)
	copy(cid[len(refPrefix):], id[:])
	return base32Lower.AppendEncode(append(b, 'b'), cid[:])
}

// ParseRef reads the text of a docID. A docID has one text only: any other
// spelling of the same CID is refused.
func ParseRef(s string) (id [32]byte, err error) {
	text, ok := strings.CutPrefix(s, "b")
	cid, err := base32Lower.DecodeString(text)
	if !ok || err != nil || len(cid) != len(refPrefix)+refSize || string(cid[:len(refPrefix)]) != refPrefix {
		return id, fault.Invalid.Errorf("%s is no docID: it has 59 letters and digits and begins with bafkrei", quote(s))
	}
	copy(id[:], cid[len(refPrefix):])
	if RefText(id) != s {
		return [32]byte{}, fault.Invalid.Errorf("%s is no docID: its last letter is wrong", quote(s))
	}
	return id, nil
}
