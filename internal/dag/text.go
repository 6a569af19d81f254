package dag

import (
	"bytes"
	"encoding/base32"

	"github.com/pandodb/pando/internal/fault"
)

// What stands before the hash in a binary CIDv1: version 1, the codec, and a
// multihash head for 32 bytes of sha2-256.
const (
	cidPrefix = "\x01\x71\x12\x20" // dag-cbor
	rawPrefix = "\x01\x55\x12\x20" // raw
)

const (
	prefixSize = len(cidPrefix)
	binarySize = prefixSize + 32
	textSize   = 1 + (binarySize*8+4)/5 // multibase letter, then 5 bits a character
)

// base32Lower is RFC 4648 in lower case without padding, multibase letter b.
var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func appendText(b []byte, prefix string, id [32]byte) []byte {
	var raw [binarySize]byte
	copy(raw[:], prefix)
	copy(raw[prefixSize:], id[:])
	return base32Lower.AppendEncode(append(b, 'b'), raw[:])
}

func text(prefix string, id [32]byte) string {
	var buf [textSize]byte
	return string(appendText(buf[:0], prefix, id))
}

// parseText accepts the one form that text writes: base32 has spare bits at its
// end, and an ID with two spellings would be two keys in somebody's map.
func parseText(what, prefix, s string) (id [32]byte, err error) {
	if len(s) != textSize || s[0] != 'b' {
		return id, fault.Invalid.Errorf("%s %.80q: want %d characters of lower-case base32 that begin with %s…", what, s, textSize, text(prefix, [32]byte{})[:7])
	}
	var raw [binarySize + 1]byte
	n, err := base32Lower.Decode(raw[:], []byte(s[1:]))
	if err != nil || n != binarySize {
		return id, fault.Invalid.Errorf("%s %.80q: not lower-case base32: copy it again", what, s)
	}
	if string(raw[:prefixSize]) != prefix {
		return id, fault.Invalid.Errorf("%s %.80q: names something else: want an ID that begins with %s…", what, s, text(prefix, [32]byte{})[:7])
	}
	id = [32]byte(raw[prefixSize:])
	if text(prefix, id) != s {
		return [32]byte{}, fault.Invalid.Errorf("%s %.80q: not in canonical form: the last character should be %q", what, s, text(prefix, id)[textSize-1])
	}
	return id, nil
}

// ParseCID reads the text form of a CID.
func ParseCID(s string) (CID, error) {
	id, err := parseText("cid", cidPrefix, s)
	return id, err
}

// String returns the text form, such as "bafyrei…".
func (c CID) String() string { return text(cidPrefix, c) }

// Compare orders by bytes.
func (c CID) Compare(o CID) int { return bytes.Compare(c[:], o[:]) }

// IsZero reports whether c names nothing.
func (c CID) IsZero() bool { return c == CID{} }

// AppendText, MarshalText and UnmarshalText use the form of String.
func (c CID) AppendText(b []byte) ([]byte, error) { return appendText(b, cidPrefix, c), nil }

func (c CID) MarshalText() ([]byte, error) { return appendText(nil, cidPrefix, c), nil }

func (c *CID) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCID(string(b))
	return err
}

// ParseDocID reads the text form of a docID.
func ParseDocID(s string) (DocID, error) {
	id, err := parseText("docID", rawPrefix, s)
	return id, err
}

// String returns the text form, such as "bafkrei…".
func (d DocID) String() string { return text(rawPrefix, d) }

// Compare orders by bytes.
func (d DocID) Compare(o DocID) int { return bytes.Compare(d[:], o[:]) }

// IsZero reports whether d names nothing.
func (d DocID) IsZero() bool { return d == DocID{} }

// AppendText, MarshalText and UnmarshalText use the form of String.
func (d DocID) AppendText(b []byte) ([]byte, error) { return appendText(b, rawPrefix, d), nil }

func (d DocID) MarshalText() ([]byte, error) { return appendText(nil, rawPrefix, d), nil }

func (d *DocID) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDocID(string(b))
	return err
}

// ParseCollectionID reads the text form of a collection's ID.
func ParseCollectionID(s string) (CollectionID, error) {
	id, err := parseText("collection id", rawPrefix, s)
	return id, err
}

// String returns the text form, such as "bafkrei…".
func (c CollectionID) String() string { return text(rawPrefix, c) }

// Compare orders by bytes.
func (c CollectionID) Compare(o CollectionID) int { return bytes.Compare(c[:], o[:]) }

// IsZero reports whether c names nothing.
func (c CollectionID) IsZero() bool { return c == CollectionID{} }

// AppendText, MarshalText and UnmarshalText use the form of String.
func (c CollectionID) AppendText(b []byte) ([]byte, error) { return appendText(b, rawPrefix, c), nil }

func (c CollectionID) MarshalText() ([]byte, error) { return appendText(nil, rawPrefix, c), nil }

func (c *CollectionID) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCollectionID(string(b))
	return err
}

// ParseDigest reads the text form of a schema version's digest.
func ParseDigest(s string) (Digest, error) {
	id, err := parseText("schema version", rawPrefix, s)
	return id, err
}

// String returns the text form, such as "bafkrei…".
func (d Digest) String() string { return text(rawPrefix, d) }

// Compare orders by bytes.
func (d Digest) Compare(o Digest) int { return bytes.Compare(d[:], o[:]) }

// IsZero reports whether d names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// AppendText, MarshalText and UnmarshalText use the form of String.
func (d Digest) AppendText(b []byte) ([]byte, error) { return appendText(b, rawPrefix, d), nil }

func (d Digest) MarshalText() ([]byte, error) { return appendText(nil, rawPrefix, d), nil }

func (d *Digest) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDigest(string(b))
	return err
}
