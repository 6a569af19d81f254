package ident

import (
	"time"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
)

// statement is a text and who signed it: [text, signature, …].
type statement struct {
	text []byte
	sigs [][]byte
}

// seal signs a text with each of the keys. The domain says what the text is, so
// that a signature made for one purpose can stand for no other.
func seal(domain string, text []byte, keys ...Key) ([]byte, error) {
	b := cbor.AppendArray(nil, 1+len(keys))
	b = cbor.AppendBytes(b, text)
	for _, k := range keys {
		sig, err := k.Sign(signedText(domain, text))
		if err != nil {
			return nil, err
		}
		b = cbor.AppendBytes(b, sig)
	}
	return b, nil
}

// readStatement splits what seal made. The statement is part of b, not a copy.
func readStatement(what string, b []byte, signers int) (s statement, err error) {
	r := cbor.NewReader(b)
	if n := r.Array(); r.Err() == nil && n != 1+signers {
		r.Fail(fault.Invalid.Errorf("%d parts, want %d", n, 1+signers))
	}
	s.text = r.Bytes()
	for range signers {
		sig := r.Bytes()
		if r.Err() == nil && len(sig) != SignatureSize {
			r.Fail(fault.Invalid.Errorf("signature of %d bytes, want %d", len(sig), SignatureSize))
		}
		s.sigs = append(s.sigs, sig)
	}
	if err := r.Done(); err != nil {
		return statement{}, fault.Invalid.Errorf("%s: %w", what, err)
	}
	return s, nil
}

// signed reports that exactly these signed the statement, in that order.
func (s statement) signed(domain string, by ...PublicKey) bool {
	msg := signedText(domain, s.text)
	for i, k := range by {
		if !k.Verify(msg, s.sigs[i]) {
			return false
		}
	}
	return len(by) == len(s.sigs)
}

func signedText(domain string, text []byte) []byte {
	return append(append(make([]byte, 0, len(domain)+len(text)), domain...), text...)
}

// checkSpan returns why two instants are no span of time that every node reads alike.
func checkSpan(what string, from, to time.Time) error {
	for _, t := range []time.Time{from, to} {
		if ms := t.UnixMilli(); ms < 0 || ms > maxInstant {
			return fault.Invalid.Errorf("%s: %s is out of range: want an instant from 1970 on", what, stamp(t))
		}
	}
	if to.UnixMilli() < from.UnixMilli() {
		return fault.Invalid.Errorf("%s: it ends at %s, before it begins at %s", what, stamp(to), stamp(from))
	}
	return nil
}

// readInstant reads an instant, which checkSpan looks at: one that is too large to be told
// comes before 1970.
func readInstant(r *cbor.Reader) time.Time { return time.UnixMilli(int64(r.Uint())).UTC() }

// stamp writes an instant for people.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z") }
