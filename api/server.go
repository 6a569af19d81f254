package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/token"
	"github.com/pandodb/pando/p2p"
)

// Config says what a Server serves.
type Config struct {
	DB     *pando.DB
	Node   *p2p.Node    // nil: networking is off
	Logger *slog.Logger // nil: silent
	// AllowedHosts are the names by which requests may call this node, besides
	// localhost and IP addresses. If there are none, a listener that is not on
	// loopback answers to any name.
	AllowedHosts []string
	// BackupDir is where clients may have backup files written and read, below which
	// they name them; "" is nowhere.
	BackupDir string
	// Audit hears of what is denied; nil: an audit of its own, which tells Logger.
	Audit *Audit
	// Access says whose the node is, and who may do what with it; nil: nobody owns it,
	// which is kept in memory.
	Access *NodeAccess
	// AllowUnclaimed lets callers from other machines do everything while nobody owns the
	// node.
	AllowUnclaimed bool
}

// Server answers the operations of one node over HTTP. Its goroutines are those
// of net/http, one per connection, the timers of explicit transactions, one per
// stream, which ends it with the access of whose it is (see whileAllowed), one per call
// over gRPC that streams, which sends what the operation writes, one per join, which
// tells how far it is, and those of WebSockets (see socket); Shutdown ends all.
type Server struct {
	db      *pando.DB
	node    *p2p.Node
	log     *slog.Logger
	hosts   []string // lower case
	backups string   // directory
	audit   *Audit
	rights  *NodeAccess
	key     pando.Identity // of the node: tokens and delegations are made for it
	tokens  *token.Verifier
	// allowUnclaimed: other machines may call a node that nobody owns
	allowUnclaimed bool
	txs            *transactions
	http           *http.Server
	requestSlots   chan struct{} // one token per running request
	strangerSlots  chan struct{} // one per request of somebody who was not let in
	largeSlots     chan struct{} // one per running request with a large body
	streamSlots    chan struct{} // one per stream
	eventSlots     chan struct{} // one per connection that follows events
	followed       atomic.Int64  // subscriptions and live queries over WebSockets
	strangers      atomic.Int64  // WebSockets of whom it is not known yet who they are
	sockets        sockets
	rpc            *rpc
	closing        atomic.Bool
	// requests ends when the grace of a shutdown is over, streams when it begins:
	// a client follows a stream for as long as it likes, so nobody waits for one.
	requests, streams       context.Context
	endRequests, endStreams context.CancelFunc
}

// NewServer returns a server that listens nowhere yet.
func NewServer(c Config) *Server {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{db: c.DB, node: c.Node, log: c.Logger, backups: c.BackupDir, requestSlots: make(chan struct{}, maxInFlight), strangerSlots: make(chan struct{}, maxStrangers), largeSlots: make(chan struct{}, maxLarge), streamSlots: make(chan struct{}, maxStreams),
		eventSlots: make(chan struct{}, maxEventStreams)}
	if s.audit = c.Audit; s.audit == nil {
		s.audit = NewAudit(s.log)
	}
	if s.node != nil {
		s.node.OnDenied(func(d p2p.Denial) {
			who, _ := p2p.DIDOf(d.Peer) // of a peer whose key does not say it, the peer is told
			about := ""
			if d.Collection != (pando.CollectionID{}) {
				about = d.Collection.String()
			}
			s.audit.Deny(Denial{Kind: d.Kind, Who: string(who), What: d.What, From: d.Peer, Collection: about})
		})
	}
	if s.rights, s.allowUnclaimed = c.Access, c.AllowUnclaimed; s.rights == nil {
		s.rights, _ = OpenNodeAccess("") // in memory, which cannot fail
	}
	if s.db != nil {
		s.key = s.db.NodeIdentity()
	}
	s.tokens = token.NewVerifier(s.key.DID())
	for _, h := range c.AllowedHosts {
		s.hosts = append(s.hosts, hostOf(strings.ToLower(h)))
	}
	s.requests, s.endRequests = context.WithCancel(context.Background())
	s.streams, s.endStreams = context.WithCancel(s.requests)
	s.txs = newTransactions(s.log)
	s.http = &http.Server{
		Handler:           s.Handler(),
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreamsHTTP2, MaxReceiveBufferPerStream: streamBuffer, MaxReceiveBufferPerConnection: maxStreamsHTTP2 * streamBuffer},
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       s.baseContext,
		ConnContext:       ofLine,
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetUnencryptedHTTP2(true) // which gRPC needs
	return s
}

// Handler returns the HTTP surface, guarded.
func (s *Server) Handler() http.Handler {
	return s.guard(s.routes().mux)
}

// routes are all that is served, each with its class.
func (s *Server) routes() *router {
	rt := &router{s, http.NewServeMux(), map[string]class{}}
	for _, o := range operations {
		o.mount(s, rt)
	}
	rt.handle("POST "+Base+"/graphql", data, s.admitStream(s.requestSlots, s.postGraphQL))
	rt.door("GET "+Base+"/graphql", data, s.socketOr(s.admitStream(s.requestSlots, s.getGraphQL)))
	rt.handle("POST "+Base+"/import/{collection}", data, s.admit(s.streamSlots, s.importRecords))
	rt.handle("GET "+Base+"/export/{collection}", data, s.admit(s.streamSlots, s.exportRecords))
	rt.handle("POST "+Base+"/backup/export", admin, s.admit(s.streamSlots, s.exportBackup))
	rt.handle("POST "+Base+"/backup/import", admin, s.admit(s.streamSlots, s.importBackup))
	rt.handle("GET "+Base+"/backup/archive", owner, s.admit(s.streamSlots, s.saveArchive))
	rt.handle("GET "+Base+"/topics/{collection}/{room}", data, s.admit(s.eventSlots, s.listen))
	rt.handle("POST "+Base+"/p2p/join", admin, s.admit(s.streamSlots, s.join))
	rt.handle("GET /health", open, s.health)
	rt.handle("GET /health-check", open, s.health)
	rt.handle("GET /ready", open, s.ready)
	rt.handle("GET /metrics", observe, s.handleMetrics())
	rt.handle("/", open, s.unknown(rt.mux))
	s.rpc = newRPC(s, rt.mux)
	rt.handle("POST "+rpcPath, identified, s.rpc.serve)
	return rt
}

// Serve answers requests until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown refuses new requests, lets those that run end until ctx is done, ends
// streams at once and discards open transactions.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closing.Store(true)
	s.endStreams()
	err := s.http.Shutdown(ctx)
	s.sockets.close(ctx)
	s.endRequests()
	if err != nil { // ctx is done, one way or the other: those that still run are cut
		err = s.http.Close()
	}
	s.txs.close()
	return err
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, http.StatusOK, "Healthy")
}

// ready says whether requests will be answered: a node that closes is not.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.closing.Load() {
		s.fail(w, r, fault.Closed.Errorf("the node is closing"))
		return
	}
	s.answer(w, http.StatusOK, "Ready")
}

// unknown answers what no route matches: a wrong path, or a wrong method.
func (s *Server) unknown(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
			if _, pattern := mux.Handler(probe); pattern != "/" {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			s.fail(w, r, fault.NotFound.Errorf("%s is no path of this node: operations are below %s", r.URL.Path, Base))
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.answer(w, http.StatusMethodNotAllowed, problemOf(fault.Invalid.Errorf(
			"method %s on %s: use %s", r.Method, r.URL.Path, strings.Join(allowed, " or "))))
	}
}

// answer writes v as JSON.
func (s *Server) answer(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		s.log.Error("an answer cannot be written as JSON", "error", err)
		status, body = http.StatusInternalServerError, *bytes.NewBufferString(`{"error":"the node failed unexpectedly","code":"INTERNAL"}`)
	}
	writeJSON(w, status, body.Bytes())
}

// writeJSON answers at once and whole: with its length known, a client that is
// still sending can read it to the end.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	// A recorder of a test has no deadline.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience(len(body))))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone; there is nobody to tell
}

// fail reports err with the status of its kind. What nobody foresaw is logged too:
// the client can do nothing about it.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.deny(r, err, DeniedOperation)
	status := StatusCode(err)
	if status == http.StatusInternalServerError {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if isRPC(r) && s.rpc.errors.IsSupported(r) {
		_ = s.rpc.errors.Write(w, r, rpcError(err, "")) // the client has gone; there is nobody to tell
		return
	}
	s.answer(w, status, problemOf(err))
}
