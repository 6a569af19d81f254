package api

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pandodb/pando/internal/fault"
)

// guard wraps every request: panics, hostile web pages, the log.
func (s *Server) guard(next http.Handler) http.Handler {
	// A page of another origin must not make a browser write here.
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, denied(reasonOrigin, "cross-origin request from %q: send it from a page of the node itself, or not from a browser", r.Header.Get("Origin")))
	}))
	next = crossOrigin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		defer s.record(rec, r, begun)
		if !s.hostAllowed(r) {
			s.fail(rec, r, denied(reasonHost, "host %q is not known to be this node: call it localhost or by its IP address, or start it with --allowed-hosts", r.Host))
			return
		}
		next.ServeHTTP(rec, r)
	})
}

// requestsOf are the places for the requests of somebody: those who were not let in have some of
// their own.
func (s *Server) requestsOf(who requester) chan struct{} {
	if who.trusted < catalog && !s.rights.allows(who.did, catalog) {
		return s.strangerSlots
	}
	return s.requestSlots
}

// admit runs a handler when there is a place for it.
func (s *Server) admit(slots chan struct{}, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		slots := slots
		if slots == s.requestSlots {
			slots = s.requestsOf(requesterOf(r.Context()))
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "1")
			s.fail(w, r, busy("%d requests of this sort are running: retry in a moment", cap(slots)))
			return
		}
		if slots == s.requestSlots && (r.ContentLength > largeBody || r.ContentLength < 0) && !holdsLarge(r.Context()) {
			select { // in turn, for who sends much can wait
			case s.largeSlots <- struct{}{}:
				defer func() { <-s.largeSlots }()
			case <-r.Context().Done():
				return
			}
		}
		next(w, r)
	}
}

// admitStream is admit for requests of which some are answered by a stream: what next
// returns runs when the place is free again.
func (s *Server) admitStream(slots chan struct{}, next func(http.ResponseWriter, *http.Request) (stream func())) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var stream func()
		s.admit(slots, func(w http.ResponseWriter, r *http.Request) { stream = next(w, r) })(w, r)
		if stream != nil {
			stream()
		}
	}
}

// foreign refuses what a page of another origin makes a browser ask for, whatever the
// method: the guard lets its GETs pass, because it cannot read the answers, but a
// WebSocket it could read, and streams take places.
func foreign(r *http.Request) error {
	as := *r
	as.Method = http.MethodPost
	if http.NewCrossOriginProtection().Check(&as) != nil {
		return denied(reasonOrigin, "cross-origin request from %q: send it from a page of the node itself, or not from a browser", r.Header.Get("Origin"))
	}
	return nil
}

// record logs the request, and turns a panic into an answer.
func (s *Server) record(w *recorder, r *http.Request, begun time.Time) {
	if p := recover(); p != nil {
		if p == http.ErrAbortHandler {
			panic(p)
		}
		s.log.Error("request failed unexpectedly", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		if !w.wrote {
			s.answer(w, http.StatusInternalServerError, problem{Error: "the node failed unexpectedly; its log says more", Code: codeInternal})
		}
	}
	s.log.LogAttrs(r.Context(), slog.LevelDebug, "request", slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", w.status), slog.Duration("took", time.Since(begun)))
}

// hostAllowed stops DNS rebinding: a web page whose name was made to resolve to
// the node's address is of the same origin as the node to a browser, but its
// requests carry the page's name. Nobody can rebind an IP address. A listener that
// is not on loopback is meant to be reached by names, which only its operator knows:
// while none is given it answers to all, unless whoever comes from there may do everything.
func (s *Server) hostAllowed(r *http.Request) bool {
	host := strings.ToLower(hostOf(r.Host))
	if host == "localhost" || net.ParseIP(trimBrackets(host)) != nil || slices.Contains(s.hosts, host) {
		return true
	}
	if r.Context().Value(peerKey{}) != nil {
		return true // no browser comes over libp2p
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	free := s.allowUnclaimed && !s.rights.Claimed()
	return len(s.hosts) == 0 && (!ok || !local.IP.IsLoopback()) && !free
}

// hostOf takes the port off an address.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

func trimBrackets(host string) string {
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (r *recorder) WriteHeader(status int) {
	if !r.wrote {
		r.status, r.wrote = status, true
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(b)
}

func (r *recorder) begun() bool { return r.wrote }

// hasBegun reports whether an answer has begun, whichever wire takes it: what fails then can only
// break it off.
func hasBegun(w http.ResponseWriter) bool {
	answer, ok := w.(interface{ begun() bool })
	return ok && answer.begun()
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// readAllBody reads a body that is used whole.
func readAllBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	raw, err := readRawBody(w, r)
	if err == nil && !utf8.Valid(raw) { // the JSON reader would put something else in its place
		return nil, fault.Invalid.Errorf("body: it is not valid UTF-8")
	}
	return raw, err
}

// readRawBody reads a body that may hold any bytes.
func readRawBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBody { // nobody has to wait for what is refused
		return nil, bodyError(&http.MaxBytesError{Limit: maxBody})
	}
	// A writer that is no connection, in tests, has no deadlines.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	defer http.NewResponseController(w).SetReadDeadline(time.Time{})
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, bodyError(err)
	}
	return raw, nil
}

func bodyError(err error) error {
	if kindOf(err) == fault.TooLarge {
		return fault.TooLarge.Errorf("body: larger than %d MiB: send it in parts, or use the import operation", maxBody>>20)
	}
	return fault.Invalid.Errorf("body: %w", err)
}
