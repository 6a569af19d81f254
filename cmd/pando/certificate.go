package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/p2p"
)

const (
	// A certificate cannot be taken back, so it is short: a node that was stolen reads as
	// its user no longer than this. And long enough that a node which could not renew it
	// when it was due still has it after a holiday.
	certifiedFor = 30 * 24 * time.Hour
	renewBefore  = 20 * 24 * time.Hour
	// clockSlack is how far behind the clock of a peer may be.
	clockSlack = time.Hour
	// renewTick is how often it is looked whether a certificate is due. A timer for the
	// day itself would stand still while the machine sleeps.
	renewTick = time.Hour
)

// certificateFile is where the certificate is kept in the directory of a node.
const certificateFile = "certificate"

// actFor lets a node act for its user towards peers, until stop: it is given what he may
// read.
func actFor(who pando.Identity, db *pando.DB, node *p2p.Node, dir string, log *slog.Logger) (stop func(), err error) {
	if who.IsZero() || who.Public() == db.NodeIdentity().Public() {
		return func() {}, nil // for itself
	}
	c := &certifier{owner: who, peer: db.NodeIdentity(), log: log, now: time.Now}
	if dir != "" {
		c.file = filepath.Join(dir, certificateFile)
	}
	return c.start(node.Act)
}

// certifier makes the certificate that lets a node act for its user, and renews it.
type certifier struct {
	owner, peer ident.Key
	file        string // where it is kept; "" is nowhere
	log         *slog.Logger
	now         func() time.Time
}

// start shows the certificate, and goes on to do so whenever it is renewed, until stop.
func (c *certifier) start(act func(certificates ...[]byte) error) (stop func(), err error) {
	shown, err := c.show(act)
	if err != nil {
		return nil, err
	}
	c.log.Info("the node acts for its user", "user", c.owner.DID(), "until", shown.NotAfter)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(renewTick)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if c.good(shown) {
				continue
			}
			if renewed, err := c.show(act); err != nil {
				c.log.Warn("the certificate of the node cannot be renewed", "error", err)
			} else {
				shown = renewed
			}
		}
	}()
	return func() { cancel(); <-done }, nil
}

func (c *certifier) show(act func(...[]byte) error) (ident.Certificate, error) {
	raw, err := c.certificate()
	if err != nil {
		return ident.Certificate{}, err
	}
	if err := act(raw); err != nil {
		return ident.Certificate{}, err
	}
	return ident.OpenCertificate(raw)
}

// certificate returns the one that is kept, or a new one if that is not good any more.
func (c *certifier) certificate() ([]byte, error) {
	if raw, err := c.read(); err == nil {
		if kept, err := ident.OpenCertificate(raw); err == nil && c.good(kept) {
			return raw, nil
		}
	}
	now := c.now()
	raw, err := ident.Certificate{Owner: c.owner.Public(), Peer: c.peer.Public(),
		NotBefore: now.Add(-clockSlack), NotAfter: now.Add(certifiedFor)}.Seal(c.owner, c.peer)
	if err != nil {
		return nil, err
	}
	if err := c.write(raw); err != nil {
		c.log.Warn("the certificate of the node cannot be kept: the next start makes another", "error", err)
	}
	return raw, nil
}

// good reports that a certificate is that of this node for this user, and not due.
func (c *certifier) good(kept ident.Certificate) bool {
	now := c.now()
	return kept.Owner == c.owner.Public() && kept.Valid(c.peer.Public(), now) == nil &&
		kept.NotAfter.Sub(now) > renewBefore && kept.NotAfter.Sub(now) <= certifiedFor
}

func (c *certifier) read() ([]byte, error) {
	if c.file == "" {
		return nil, fault.NotFound.Errorf("no file")
	}
	f, err := os.Open(c.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, ident.MaxCertificateSize+1))
}

// write replaces the file. A half of one, after a crash, is none that opens.
func (c *certifier) write(raw []byte) error {
	if c.file == "" {
		return nil
	}
	next := c.file + ".new"
	err := os.WriteFile(next, raw, 0o600)
	if err == nil {
		err = os.Rename(next, c.file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(next))
	}
	return err
}
