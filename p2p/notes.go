package p2p

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// notes is what the network remembers over restarts: small entries kept beside
// the documents. All of it but secrets, trust and replicators can be lost and is
// only slower then.
type notes struct{ replica *pando.Replica }

const (
	noteSecret     = "p2p/secret/"     // ‖ collection: [secret…], sorted
	notePeer       = "p2p/peer/"       // ‖ peer: [trusted, last seen, [address…]]
	noteCursor     = "p2p/cursor/"     // ‖ collection ‖ peer: [epoch, seq, resume token / null]
	noteEpoch      = "p2p/epoch"       // of this node's feed when the cursors were written
	noteWant       = "p2p/want/"       // ‖ collection ‖ docID: see wants.go
	noteReplicator = "p2p/replicator/" // ‖ peer: see replicator.go
	noteAccess     = "p2p/access/"     // ‖ peer: whether it is allowed; else it is denied
	noteHub        = "p2p/hub/"        // ‖ peer: true
)

func (n notes) put(m map[string][]byte) error {
	if len(m) == 0 {
		return nil
	}
	if err := n.replica.Put(m); err != nil {
		return fmt.Errorf("remember: %w", err)
	}
	return nil
}

// each calls fn for every note under a prefix with the rest of its key.
func (n notes) each(prefix string, fn func(key string, r *cbor.Reader) error) error {
	for e, err := range n.replica.Notes([]byte(prefix)) {
		if err != nil {
			return err
		}
		key := string(e.Key[len(prefix):])
		r := cbor.NewReader(append([]byte(nil), e.Value...))
		err := fn(key, r)
		if err == nil {
			err = r.Done()
		}
		if err != nil {
			return fault.Corrupt.Errorf("note %s%x: %w: restore the directory from a backup", prefix, key, err)
		}
	}
	return nil
}

func (n notes) secrets() (map[dag.CollectionID][]ident.Secret, error) {
	found := map[dag.CollectionID][]ident.Secret{}
	err := n.each(noteSecret, func(key string, r *cbor.Reader) error {
		if len(key) != 32 {
			return fault.Corrupt.Errorf("its key is not a collection id")
		}
		var all []ident.Secret
		for i := list(r, "secrets", maxSecrets); i > 0 && r.Err() == nil; i-- {
			var s ident.Secret
			exactly(r, "a secret", s[:])
			all = append(all, s)
		}
		if r.Err() == nil && len(all) == 0 {
			return fault.Corrupt.Errorf("it has no secret")
		}
		found[dag.CollectionID([]byte(key))] = all
		return nil
	})
	return found, err
}

func (n notes) putSecrets(secrets map[dag.CollectionID][]ident.Secret) error {
	m := map[string][]byte{}
	for id, all := range secrets {
		b := cbor.AppendArray(nil, len(all))
		for _, s := range all {
			b = cbor.AppendBytes(b, s[:])
		}
		m[noteSecret+string(id[:])] = b
	}
	return n.put(m)
}

// acquaintance is what is remembered of a peer.
type acquaintance struct {
	trusted bool // named by the operator
	seen    time.Time
	addrs   []ma.Multiaddr
}

func (n notes) peers() (map[peer.ID]acquaintance, error) {
	found := map[peer.ID]acquaintance{}
	err := n.each(notePeer, func(key string, r *cbor.Reader) error {
		tuple(r, 3)
		k := acquaintance{trusted: r.Bool(), seen: time.UnixMilli(int64(r.Uint()))}
		for i := list(r, "addresses", maxAddrs); i > 0 && r.Err() == nil; i-- {
			// An address of a transport that this version lacks is no damage.
			if a, err := ma.NewMultiaddrBytes(r.Bytes()); err == nil {
				k.addrs = append(k.addrs, a)
			}
		}
		found[peer.ID(key)] = k
		return nil
	})
	return found, err
}

func (n notes) putPeer(p peer.ID, k acquaintance) error {
	b := cbor.AppendBool(cbor.AppendArray(nil, 3), k.trusted)
	b = cbor.AppendUint(b, uint64(max(k.seen.UnixMilli(), 0)))
	addrs := k.addrs[:min(len(k.addrs), maxAddrs)]
	b = cbor.AppendArray(b, len(addrs))
	for _, a := range addrs {
		b = cbor.AppendBytes(b, a.Bytes())
	}
	return n.put(map[string][]byte{notePeer + string(p): b})
}

func (n notes) deletePeer(p peer.ID) error {
	return n.put(map[string][]byte{notePeer + string(p): nil})
}

// cursor is how far this node has come with a peer's copy of a collection.
type cursor struct {
	epoch epoch
	seq   uint64     // this node holds everything in the peer's feed up to here; 0: unknown
	token *dag.DocID // a full copy was cut after this document
}

func cursorKey(p peer.ID, id dag.CollectionID) string {
	return noteCursor + string(id[:]) + string(p)
}

func (n notes) cursors() (map[string]cursor, error) {
	found := map[string]cursor{}
	err := n.each(noteCursor, func(key string, r *cbor.Reader) error {
		var c cursor
		tuple(r, 3)
		exactly(r, "an epoch", c.epoch[:])
		c.seq = r.Uint()
		c.token = readToken(r)
		found[noteCursor+key] = c
		return nil
	})
	return found, err
}

func (c cursor) encode() []byte {
	b := cbor.AppendBytes(cbor.AppendArray(nil, 3), c.epoch[:])
	return appendToken(cbor.AppendUint(b, c.seq), c.token)
}
