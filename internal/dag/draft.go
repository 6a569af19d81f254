package dag

import (
	"github.com/pandodb/pando/internal/ident"
)

// OpenDraft decodes a commit that was prepared and is not signed, of its header and the
// parts of its payload. It is as strict as Open: what it returns holds all that a signature
// would stand for. Sign makes a commit of it.
func OpenDraft(header []byte, payload [][]byte) (*Commit, error) {
	if len(payload) == 0 {
		return nil, invalid("a draft without its payload: nobody should sign what he has not seen")
	}
	c := &Commit{header: header, Sig: make([]byte, ident.SignatureSize), Payload: payload}
	if n := c.envelopeSize(); n > MaxEnvelope {
		return nil, invalid("%d bytes, want at most %d", n, MaxEnvelope)
	}
	c.envelope = c.appendEnvelope(make([]byte, 0, c.envelopeSize()))
	if err := c.open(); err != nil {
		return nil, err
	}
	c.Sig, c.envelope = nil, nil
	return c, nil
}
