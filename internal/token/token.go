// Package token hides how somebody proves by a text who they are: bearer tokens, which
// are JSON Web Tokens signed by the key of a DID and made for one node.
//
// docs/authentication.md has the format, for whoever makes tokens elsewhere.
package token

import (
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"math"
	"math/big"
	"strings"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Limits of a token. They are part of the format.
const (
	// MaxSize bounds the text: a delegation of the largest size fits, with room to spare,
	// and a header of HTTP holds it.
	MaxSize = 8 << 10
	// MaxLifetime bounds how long somebody can do harm with a token that leaked.
	MaxLifetime = 24 * time.Hour
	// DefaultLifetime is that of tokens of which nobody says more.
	DefaultLifetime = 15 * time.Minute
	// Leeway is how far clocks may differ: a token holds so much earlier and longer than it
	// says.
	Leeway = time.Minute
)

// Claims are what a token says.
type Claims struct {
	Issuer            ident.DID // who shows the token; on signing, "" is the key's own
	Audience          ident.DID // the node that it is for: it proves nothing to others
	NotBefore, Expiry time.Time // in whole seconds, at most MaxLifetime apart
	// Delegation is an ident.Delegation, sealed, by which the node may sign what the issuer
	// writes; nil: it may not. Whether it is good is not looked at here.
	Delegation []byte

	key ident.PublicKey // of the issuer, of a token that was verified
}

// Key returns the key of the issuer of a token that was verified.
func (c *Claims) Key() ident.PublicKey { return c.key }

// Holds returns why a token does not hold at a time, or nil.
func (c *Claims) Holds(now time.Time) error {
	switch {
	case now.Before(c.NotBefore.Add(-Leeway)):
		return refuse(Early, "the token is not valid before %s, and it is %s here: set the clocks right", stamp(c.NotBefore), stamp(now))
	case !now.Before(c.Ends()):
		return refuse(Expired, "the token expired at %s, and it is %s here: make a new one", stamp(c.Expiry), stamp(now))
	}
	return nil
}

// Ends returns from when on a token does not hold any more.
func (c *Claims) Ends() time.Time { return c.Expiry.Add(Leeway) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Reason says for which kind of cause a token is refused. It is part of the API.
type Reason string

const (
	Malformed Reason = "token-malformed" // no token, or one that says too little or too much
	BadAlg    Reason = "token-algorithm" // not the algorithm of the issuer's key
	Forged    Reason = "token-signature" // not signed by the issuer's key
	Audience  Reason = "token-audience"  // made for another node
	TooLong   Reason = "token-lifetime"  // holds longer than MaxLifetime
	Expired   Reason = "token-expired"
	Early     Reason = "token-not-yet-valid"
)

// Refusal is an error that says why a token proves nothing. Its text has nothing of the
// token but what may be told: whom it is by, whom it is for, and when.
type Refusal struct {
	Reason Reason
	error
}

func (r *Refusal) Unwrap() error { return r.error }

func refuse(why Reason, format string, args ...any) error {
	return &Refusal{why, fault.Denied.Errorf(format, args...)}
}

// method is how tokens are signed with the keys of an algorithm: as commits are, but
// that of the two values of s that ECDSA has, either will do.
type method ident.Algorithm

func (m method) Alg() string { return string(m) }

func (m method) Sign(text string, key any) ([]byte, error) {
	k, ok := key.(ident.Key)
	if !ok || k.Algorithm() != ident.Algorithm(m) {
		return nil, jwt.ErrInvalidKeyType
	}
	return k.Sign([]byte(text))
}

func (m method) Verify(text string, sig []byte, key any) error {
	k, ok := key.(ident.PublicKey)
	if !ok || k.Algorithm() != ident.Algorithm(m) {
		return jwt.ErrInvalidKeyType
	}
	if !k.Verify([]byte(text), m.lower(sig)) {
		return jwt.ErrSignatureInvalid
	}
	return nil
}

// lower returns an ECDSA signature with the lower s: the other is as good, and is what
// half of the signatures have that other libraries make.
func (m method) lower(sig []byte) []byte {
	var order *big.Int
	switch ident.Algorithm(m) {
	case ident.ES256:
		order = elliptic.P256().Params().N
	case ident.ES256K:
		order = secp256k1.Params().N
	}
	if order == nil || len(sig) != ident.SignatureSize {
		return sig
	}
	s := new(big.Int).SetBytes(sig[32:])
	if s.Cmp(new(big.Int).Rsh(order, 1)) <= 0 || s.Cmp(order) >= 0 {
		return sig
	}
	out := append(make([]byte, 0, len(sig)), sig[:32]...)
	return append(out, s.Sub(order, s).FillBytes(make([]byte, 32))...)
}

func init() { // the library knows the others
	jwt.RegisterSigningMethod(string(ident.ES256K), func() jwt.SigningMethod { return method(ident.ES256K) })
}

// Sign returns a token, signed by its issuer.
func Sign(key ident.Key, c Claims) (string, error) {
	if c.Issuer == "" {
		c.Issuer = key.DID()
	}
	if c.Issuer != key.DID() || c.Issuer == "" {
		return "", fault.Denied.Errorf("sign token: the key is %s, want that of the issuer %s", key, c.Issuer)
	}
	if err := c.check(); err != nil {
		return "", err
	}
	says := jwt.MapClaims{"iss": string(c.Issuer), "aud": string(c.Audience), "nbf": c.NotBefore.Unix(), "exp": c.Expiry.Unix()}
	if c.Delegation != nil {
		says["delegation"] = base64.RawURLEncoding.EncodeToString(c.Delegation)
	}
	text, err := jwt.NewWithClaims(method(key.Algorithm()), says).SignedString(key)
	if err != nil {
		return "", fault.Denied.Errorf("sign token: %w", err)
	}
	return text, nil // of less than MaxSize, for the delegation is bounded
}

// check looks at what does not depend on who asks, and when.
func (c *Claims) check() error {
	if _, err := ident.ParseDID(string(c.Audience)); err != nil {
		return refuse(Malformed, "the token is for nobody: aud must be the DID of a node")
	}
	if len(c.Delegation) > ident.MaxDelegationSize {
		return refuse(Malformed, "the token has a delegation of %d bytes, want at most %d", len(c.Delegation), ident.MaxDelegationSize)
	}
	if c.Expiry.Before(c.NotBefore) {
		return refuse(Malformed, "the token ends at %s, before it begins at %s", stamp(c.Expiry), stamp(c.NotBefore))
	}
	if c.Expiry.Sub(c.NotBefore) > MaxLifetime {
		return refuse(TooLong, "the token holds from %s to %s: make one that holds %v at most", stamp(c.NotBefore), stamp(c.Expiry), MaxLifetime)
	}
	return nil
}

// Verify returns what a token says to a node, at a time. It gives Denied, a Refusal, for
// all but a token that its issuer signed for that node, and that holds.
func Verify(text string, audience ident.DID, now time.Time) (*Claims, error) {
	c, err := open(text)
	if err != nil {
		return nil, err
	}
	if c.Audience != audience {
		return nil, refuse(Audience, "the token is for the node %s, and this one is %s: make one for this node, if it is the one that you mean", c.Audience, audience)
	}
	if err := c.Holds(now); err != nil {
		return nil, err
	}
	return c, nil
}

// open decodes a token and verifies its signature.
func open(text string) (*Claims, error) {
	if len(text) > MaxSize {
		return nil, refuse(Malformed, "the token has %d bytes, want at most %d", len(text), MaxSize)
	}
	if strings.ContainsAny(text, "\r\n") { // which base64 skips: the same token would have many texts
		return nil, refuse(Malformed, "the token has line ends in it: write it on one line")
	}
	says := jwt.MapClaims{}
	t, parts, err := jwt.NewParser(jwt.WithStrictDecoding()).ParseUnverified(text, says)
	if errors.Is(err, jwt.ErrTokenUnverifiable) { // without its text, which may quote the token
		return nil, refuse(BadAlg, "the token is signed by no algorithm that is known here: want %s, %s or %s", ident.EdDSA, ident.ES256K, ident.ES256)
	}
	if err != nil {
		return nil, refuse(Malformed, "the token is no JSON Web Token")
	}
	if err := checkHeader(t.Header); err != nil {
		return nil, err
	}
	c, err := claims(says)
	if err != nil {
		return nil, err
	}
	key, err := c.Issuer.PublicKey()
	if err != nil {
		return nil, refuse(Malformed, "the issuer of the token is no did:key of a kind that is known here")
	}
	// The key says which algorithm it is for. What the token says of itself only has to agree.
	if m := method(key.Algorithm()); t.Method.Alg() != m.Alg() {
		return nil, refuse(BadAlg, "the token says that it is signed by another algorithm than %s, that of its issuer's key", m.Alg())
	} else if m.Verify(strings.Join(parts[:2], "."), t.Signature, key) != nil {
		return nil, refuse(Forged, "the token is not signed by its issuer %s", c.Issuer)
	}
	c.key = key
	return c, nil
}

// checkHeader refuses what changes the meaning of a token in ways that are unknown here.
func checkHeader(h map[string]any) error {
	if typ, there := h["typ"]; there {
		if s, ok := typ.(string); !ok || !strings.EqualFold(s, "JWT") {
			return refuse(Malformed, "the token is of another type than JWT")
		}
	}
	if _, there := h["crit"]; there {
		return refuse(Malformed, "the token asks for extensions (crit), of which none is known here")
	}
	return nil
}

// claims reads those that count; others are ignored.
func claims(says jwt.MapClaims) (*Claims, error) {
	iss, _ := says["iss"].(string)
	aud, _ := says["aud"].(string)
	if list, ok := says["aud"].([]any); ok {
		if len(list) != 1 { // each could show it to the others
			return nil, refuse(Malformed, "the token is for %d nodes: make one for each", len(list))
		}
		aud, _ = list[0].(string)
	}
	c := &Claims{Issuer: ident.DID(iss), Audience: ident.DID(aud)}
	var from, to bool
	c.NotBefore, from = instant(says["nbf"])
	c.Expiry, to = instant(says["exp"])
	if !from || !to {
		return nil, refuse(Malformed, "the token does not say from when to when it holds: it needs nbf and exp, in seconds")
	}
	if d, there := says["delegation"]; there {
		text, ok := d.(string)
		raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if !ok || err != nil || len(raw) == 0 {
			return nil, refuse(Malformed, "the delegation in the token is no base64url without padding")
		}
		c.Delegation = raw
	}
	return c, c.check()
}

// instant reads seconds since 1970, of which a token may tell parts.
func instant(v any) (time.Time, bool) {
	f, ok := v.(float64)
	if !ok || !(f >= 0 && f < 1<<40) { // some 35,000 years, which time can tell
		return time.Time{}, false
	}
	whole, part := math.Modf(f)
	return time.Unix(int64(whole), int64(part*1e9)), true
}
