package api

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/pandodb/pando/internal/fault"
)

// guard wraps every request: panics, hostile web pages, overload, the log.
func (s *Server) guard(next http.Handler) http.Handler {
	// A page of another origin must not make a browser write here.
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, fault.Denied.Errorf("cross-origin request from %q: send it from a page of the node itself, or not from a browser", r.Header.Get("Origin")))
	}))
	next = crossOrigin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		defer s.record(rec, r, begun)
		if !s.hostAllowed(r) {
			s.fail(rec, r, fault.Denied.Errorf("host %q is not this machine: talk to the node as localhost or by its loopback address", r.Host))
			return
		}
		select {
		case s.inFlight <- struct{}{}:
			defer func() { <-s.inFlight }()
		default:
			rec.Header().Set("Retry-After", "1")
			s.fail(rec, r, busy("%d requests are running: retry in a moment", maxInFlight))
			return
		}
		next.ServeHTTP(rec, r)
	})
}

// record logs the request, and turns a panic into an answer.
func (s *Server) record(w *recorder, r *http.Request, begun time.Time) {
	if p := recover(); p != nil {
		if p == http.ErrAbortHandler {
			panic(p)
		}
		s.log.Error("request failed unexpectedly", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		if !w.wrote {
			s.answer(w, http.StatusInternalServerError, problem{"the node failed unexpectedly; its log says more", codeInternal})
		}
	}
	s.log.LogAttrs(r.Context(), slog.LevelDebug, "request", slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", w.status), slog.Duration("took", time.Since(begun)))
}

// hostAllowed stops DNS rebinding: a web page whose name was made to resolve to
// 127.0.0.1 is of the same origin as the node to a browser, but its requests
// carry the page's name. Only a loopback listener is guarded: what listens on
// other addresses is meant to be reached by names that are not known here.
func (s *Server) hostAllowed(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	tcp, ok := local.(*net.TCPAddr)
	if !ok || !tcp.IP.IsLoopback() {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(trimBrackets(host))
	return ip != nil
}

func trimBrackets(host string) string {
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
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

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// readAllBody reads a body that is used whole.
func readAllBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
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
