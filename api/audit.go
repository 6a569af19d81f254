package api

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// Audit counts what was denied, by kind, and tells the log of it: of each kind as much as
// a log bears. It keeps and tells neither contents nor tokens. It is safe for concurrent use.
type Audit struct {
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex // guards kinds
	kinds map[string]*deniedKind
}

// Denial is an attempt that was denied.
type Denial struct {
	// Kind is why: a reason of the API, or one of the words below.
	Kind string
	Who  string // the DID that was proved; WhoNode; "": nobody
	What string // the route or operation
	// Collection that it was about, as far as that is known. It may be what an attacker
	// wrote, and is cut short.
	Collection string
	From       string // where it came from: an address, a peer
}

// WhoNode is who calls as the node itself: by its socket, or while nobody owns it.
const WhoNode = "node"

// The kinds of denials that are no refusals of a caller as such.
const (
	DeniedDocument  = "document"  // not what who calls may do with a document
	DeniedOperation = "operation" // not what may be done this way, or on this node
)

const (
	// deniedBurst and deniedEvery bound the lines of one kind: an attack is seen at once,
	// and does not fill the disk. How many were left out is in the next line.
	deniedBurst = 10
	deniedEvery = 10 * time.Second
	// maxKinds bounds the kinds that are told apart; there are some twenty.
	maxKinds = 64
	// maxDeniedText bounds each text of a denial in the log.
	maxDeniedText = 128
)

type deniedKind struct {
	count uint64
	quiet uint64    // of them, since the last line
	lines float64   // that may be written now
	at    time.Time // when lines was right
}

// NewAudit returns an audit that tells a log.
func NewAudit(log *slog.Logger) *Audit {
	return &Audit{log: log, now: time.Now, kinds: map[string]*deniedKind{}}
}

// Deny notes an attempt that was denied.
func (a *Audit) Deny(d Denial) {
	left, tell := a.count(d.Kind)
	if !tell {
		return
	}
	args := []any{"kind", d.Kind, "who", d.Who, "what", cutTo(d.What), "from", cutTo(d.From)}
	if d.Collection != "" {
		args = append(args, "collection", cutTo(d.Collection))
	}
	if left > 0 {
		args = append(args, "untold", left)
	}
	a.log.Warn("denied", args...)
}

// count counts one, and returns whether the log is to be told of it, and how many of its
// kind it was not told of before.
func (a *Audit) count(kind string) (left uint64, tell bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, now := a.kinds[kind], a.now()
	if k == nil {
		if len(a.kinds) >= maxKinds {
			return 0, false
		}
		k = &deniedKind{lines: deniedBurst, at: now}
		a.kinds[kind] = k
	}
	k.count++
	k.lines = min(deniedBurst, k.lines+now.Sub(k.at).Seconds()/deniedEvery.Seconds())
	k.at = now
	if k.lines < 1 {
		k.quiet++
		return 0, false
	}
	k.lines--
	left, k.quiet = k.quiet, 0
	return left, true
}

// Counts returns how many attempts were denied since the start, by kind.
func (a *Audit) Counts() map[string]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[string]uint64, len(a.kinds))
	for kind, k := range a.kinds {
		all[kind] = k.count
	}
	return all
}

// denial is one of a request over HTTP.
func denial(r *http.Request, kind string) Denial {
	d := Denial{Kind: kind, Who: requesterOf(r.Context()).told(), What: r.Pattern, From: r.RemoteAddr, Collection: r.PathValue("collection")}
	if d.What == "" { // no route has it yet
		d.What = r.Method
	}
	if d.Collection == "" {
		d.Collection = r.PathValue("name")
	}
	if host, _, err := net.SplitHostPort(d.From); err == nil {
		d.From = host
	}
	if placeOf(r) == inside {
		d.From = "socket"
	}
	return d
}

// deny notes err, if it denies something to who makes a request.
func (s *Server) deny(r *http.Request, err error, kind string) {
	if err == nil || kindOf(err) != fault.Denied {
		return
	}
	if why := Reason(err); why != "" {
		kind = why
	}
	s.audit.Deny(denial(r, kind))
}

// denyResult notes the first denial in what a GraphQL request came to.
func (s *Server) denyResult(r *http.Request, result *pando.Result) {
	for _, e := range result.Errors {
		if errors.Is(e, fault.Denied) {
			s.deny(r, e, DeniedDocument)
			return
		}
	}
}

func cutTo(text string) string { return text[:min(len(text), maxDeniedText)] }
