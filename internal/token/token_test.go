package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func someone(t testing.TB, alg ident.Algorithm) ident.Key {
	t.Helper()
	k, err := ident.Generate(alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// quarter are claims that hold for a quarter of an hour from noon on.
func quarter(node ident.DID) Claims {
	return Claims{Audience: node, NotBefore: noon, Expiry: noon.Add(DefaultLifetime)}
}

func signed(t testing.TB, k ident.Key, c Claims) string {
	t.Helper()
	text, err := Sign(k, c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// jws signs any header and any claims: what a token may be that Sign does not make.
func jws(t testing.TB, header, payload any, sign func(text string) []byte) string {
	t.Helper()
	var parts []string
	for _, part := range []any{header, payload} {
		raw, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(raw))
	}
	text := strings.Join(parts, ".")
	return text + "." + base64.RawURLEncoding.EncodeToString(sign(text))
}

func by(t testing.TB, k ident.Key) func(string) []byte {
	return func(text string) []byte {
		sig, err := k.Sign([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
}

func wantReason(t *testing.T, what string, err error, want Reason) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Reason != want || !errors.Is(err, fault.Denied) {
		t.Errorf("%s: %v, want it denied with the reason %s", what, err, want)
	}
}

func TestATokenSaysWhoShowsIt(t *testing.T) {
	node := someone(t, ident.EdDSA).DID()
	for _, alg := range []ident.Algorithm{ident.EdDSA, ident.ES256K, ident.ES256} {
		ada := someone(t, alg)
		says := quarter(node)
		says.Delegation = []byte("a delegation")
		got, err := Verify(signed(t, ada, says), node, noon)
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		if got.Issuer != ada.DID() || got.Audience != node || !got.NotBefore.Equal(noon) || !got.Expiry.Equal(says.Expiry) || string(got.Delegation) != "a delegation" {
			t.Errorf("%s: %+v, want %+v of %s", alg, got, says, ada.DID())
		}
	}
}

func TestATokenHoldsForItsTime(t *testing.T) {
	ada, node := someone(t, ident.EdDSA), someone(t, ident.EdDSA).DID()
	text := signed(t, ada, quarter(node))
	for _, c := range []struct {
		at   time.Time
		want Reason
	}{
		{noon.Add(-Leeway - time.Second), Early},
		{noon.Add(-Leeway), ""},
		{noon.Add(DefaultLifetime + Leeway - time.Second), ""},
		{noon.Add(DefaultLifetime + Leeway), Expired},
	} {
		v := NewVerifier(node)
		if _, err := v.Verify(text, noon.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		_, first := Verify(text, node, c.at)
		_, cached := v.Verify(text, c.at)
		for how, err := range map[string]error{"first": first, "cached": cached} {
			if c.want != "" {
				wantReason(t, how+" at "+c.at.String(), err, c.want)
			} else if err != nil {
				t.Errorf("%s at %s: %v", how, c.at, err)
			}
		}
	}
}

// What somebody sends who has not the key of whom he says he is, or shows a token
// where it is not meant.
func TestTokensThatProveNothing(t *testing.T) {
	ada, eve := someone(t, ident.EdDSA), someone(t, ident.EdDSA)
	p256, secp := someone(t, ident.ES256), someone(t, ident.ES256K)
	node, other := someone(t, ident.EdDSA).DID(), someone(t, ident.EdDSA).DID()
	says := func(who ident.DID, change ...any) map[string]any {
		m := map[string]any{"iss": who, "aud": node, "nbf": noon.Unix(), "exp": noon.Add(time.Hour).Unix()}
		for i := 0; i < len(change); i += 2 {
			if change[i+1] == nil {
				delete(m, change[i].(string))
			} else {
				m[change[i].(string)] = change[i+1]
			}
		}
		return m
	}
	head := func(alg string, more ...string) map[string]any {
		h := map[string]any{"alg": alg, "typ": "JWT"}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	unsigned := func(string) []byte { return nil }
	hmac := func(text string) []byte { // the public key as a shared secret
		sig, _ := jwt.SigningMethodHS256.Sign(text, []byte(ada.Public()))
		return sig
	}
	good := signed(t, ada, quarter(node))
	parts := strings.Split(good, ".")
	sig, _ := base64.RawURLEncoding.DecodeString(parts[2])
	sig[10] ^= 1
	for name, c := range map[string]struct {
		text string
		want Reason
	}{
		"nothing":                              {"", Malformed},
		"no token":                             {"let me in", Malformed},
		"two parts":                            {parts[0] + "." + parts[1], Malformed},
		"four parts":                           {good + ".x", Malformed},
		"too long":                             {good + strings.Repeat("A", MaxSize), Malformed},
		"no JSON":                              {"e30.bm8.AA", Malformed},
		"padding":                              {parts[0] + "=." + parts[1] + "." + parts[2], Malformed},
		"a line end in the signature":          {good[:len(good)-4] + "\r\n" + good[len(good)-4:], Malformed},
		"the header is null":                   {jws(t, nil, says(ada.DID()), by(t, ada)), BadAlg},
		"an extension":                         {jws(t, head("EdDSA", "crit", "exp"), says(ada.DID()), by(t, ada)), Malformed},
		"another type":                         {jws(t, head("EdDSA", "typ", "dpop+jwt"), says(ada.DID()), by(t, ada)), Malformed},
		"unsigned":                             {jws(t, head("none"), says(ada.DID()), unsigned), BadAlg},
		"unsigned, in capitals":                {jws(t, head("NONE"), says(ada.DID()), unsigned), BadAlg},
		"no algorithm":                         {jws(t, map[string]any{"typ": "JWT"}, says(ada.DID()), by(t, ada)), BadAlg},
		"a public key as shared secret":        {jws(t, head("HS256"), says(ada.DID()), hmac), BadAlg},
		"another algorithm than the key's":     {jws(t, head("ES256"), says(ada.DID()), by(t, ada)), BadAlg},
		"an algorithm of the same curve type":  {jws(t, head("ES256K"), says(p256.DID()), by(t, p256)), BadAlg},
		"and the other way round":              {jws(t, head("ES256"), says(secp.DID()), by(t, secp)), BadAlg},
		"signed by somebody else":              {jws(t, head("EdDSA"), says(ada.DID()), by(t, eve)), Forged},
		"no signature":                         {parts[0] + "." + parts[1] + ".", Forged},
		"another signature":                    {parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(sig), Forged},
		"an empty signature, ES256":            {jws(t, head("ES256"), says(p256.DID()), func(string) []byte { return make([]byte, 64) }), Forged},
		"no signature, ES256":                  {jws(t, head("ES256"), says(p256.DID()), unsigned), Forged},
		"half a signature, ES256K":             {jws(t, head("ES256K"), says(secp.DID()), func(string) []byte { return make([]byte, 32) }), Forged},
		"a long signature, ES256":              {jws(t, head("ES256"), says(p256.DID()), func(s string) []byte { return append(by(t, p256)(s), 0) }), Forged},
		"another key in the header":            {jws(t, head("EdDSA", "jwk", "{}", "kid", string(eve.DID())), says(ada.DID()), by(t, eve)), Forged},
		"no issuer":                            {jws(t, head("EdDSA"), says(ada.DID(), "iss", nil), by(t, ada)), Malformed},
		"an issuer without key":                {jws(t, head("EdDSA"), says("did:web:example.org"), by(t, ada)), Malformed},
		"for nobody":                           {jws(t, head("EdDSA"), says(ada.DID(), "aud", nil), by(t, ada)), Malformed},
		"for another node":                     {jws(t, head("EdDSA"), says(ada.DID(), "aud", other), by(t, ada)), Audience},
		"for two nodes":                        {jws(t, head("EdDSA"), says(ada.DID(), "aud", []any{node, other}), by(t, ada)), Malformed},
		"for ever":                             {jws(t, head("EdDSA"), says(ada.DID(), "exp", nil), by(t, ada)), Malformed},
		"from ever":                            {jws(t, head("EdDSA"), says(ada.DID(), "nbf", nil), by(t, ada)), Malformed},
		"for a year":                           {jws(t, head("EdDSA"), says(ada.DID(), "exp", noon.AddDate(1, 0, 0).Unix()), by(t, ada)), TooLong},
		"ends before it begins":                {jws(t, head("EdDSA"), says(ada.DID(), "exp", noon.Unix()-1), by(t, ada)), Malformed},
		"an end beyond all clocks":             {jws(t, head("EdDSA"), says(ada.DID(), "exp", 1e300), by(t, ada)), Malformed},
		"a beginning before all clocks":        {jws(t, head("EdDSA"), says(ada.DID(), "nbf", -1, "exp", 60), by(t, ada)), Malformed},
		"an end that no time can tell":         {jws(t, head("EdDSA"), says(ada.DID(), "nbf", 1<<40-60, "exp", 1<<40), by(t, ada)), Malformed},
		"an end that is a text":                {jws(t, head("EdDSA"), says(ada.DID(), "exp", "9999999999"), by(t, ada)), Malformed},
		"expired":                              {jws(t, head("EdDSA"), says(ada.DID(), "nbf", noon.Unix()-900, "exp", noon.Unix()-300), by(t, ada)), Expired},
		"not yet valid":                        {jws(t, head("EdDSA"), says(ada.DID(), "nbf", noon.Unix()+300), by(t, ada)), Early},
		"a delegation that is none":            {jws(t, head("EdDSA"), says(ada.DID(), "delegation", "!"), by(t, ada)), Malformed},
		"a delegation that is a number":        {jws(t, head("EdDSA"), says(ada.DID(), "delegation", 7), by(t, ada)), Malformed},
		"an empty delegation":                  {jws(t, head("EdDSA"), says(ada.DID(), "delegation", ""), by(t, ada)), Malformed},
		"a delegation of more than one may be": {jws(t, head("EdDSA"), says(ada.DID(), "delegation", strings.Repeat("A", 5600)), by(t, ada)), Malformed},
	} {
		for how, verify := range map[string]func() (*Claims, error){
			"verified":              func() (*Claims, error) { return Verify(c.text, node, noon) },
			"verified with a cache": func() (*Claims, error) { return NewVerifier(node).Verify(c.text, noon) },
		} {
			_, err := verify()
			wantReason(t, name+", "+how, err, c.want)
			if err != nil && len(parts) > 2 && (strings.Contains(err.Error(), parts[1]) || strings.Contains(err.Error(), parts[2])) {
				t.Errorf("%s: the error quotes the token: %v", name, err)
			}
		}
	}
	if _, err := Sign(ada, Claims{Issuer: eve.DID(), Audience: node, NotBefore: noon, Expiry: noon}); !errors.Is(err, fault.Denied) {
		t.Errorf("a token in another's name: %v, want denied", err)
	}
}

// Other libraries make tokens: with other claims beside, one audience in a list, parts
// of seconds, and the higher s.
func TestTokensOfOtherLibraries(t *testing.T) {
	node := someone(t, ident.EdDSA).DID()
	seed := make([]byte, ed25519.SeedSize)
	public := ident.PublicKey("\xed\x01" + string(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)))
	says := jwt.MapClaims{"iss": string(public.DID()), "sub": "ada", "jti": "1", "iat": noon.Unix(), "aud": []string{string(node)},
		"nbf": float64(noon.Unix()) + 0.5, "exp": float64(noon.Unix()) + 600.25}
	text, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, says).SignedString(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(text, node, noon)
	if err != nil || !got.Expiry.Equal(noon.Add(600*time.Second+250*time.Millisecond)) {
		t.Errorf("a token of another library: %+v, %v", got, err)
	}

	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := priv.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	public = ident.PublicKey("\x80\x24" + string([]byte{2 + point[64]&1}) + string(point[1:33]))
	says["iss"] = string(public.DID())
	order := elliptic.P256().Params().N
	for _, higher := range []bool{false, true} {
		text := jws(t, map[string]any{"alg": "ES256"}, says, func(text string) []byte {
			sum := sha256.Sum256([]byte(text))
			r, s, err := ecdsa.Sign(rand.Reader, priv, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			if higher != (s.Cmp(new(big.Int).Rsh(order, 1)) > 0) {
				s.Sub(order, s)
			}
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		})
		if _, err := Verify(text, node, noon.Add(time.Second)); err != nil {
			t.Errorf("ES256, with the higher s: %v: %v", higher, err)
		}
	}
}

// The token of the documentation is one.
func TestTheTokenOfTheDocumentation(t *testing.T) {
	key := func(b byte) ident.Key {
		k, err := ident.ParseKey(append([]byte("\x80\x26"), bytes.Repeat([]byte{b}, 32)...))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	text := signed(t, key(1), Claims{Audience: key(2).DID(), NotBefore: from, Expiry: from.Add(15 * time.Minute)})
	page, err := os.ReadFile("../../docs/authentication.md")
	if err != nil || !strings.Contains(string(page), "```text vector\n"+text+"\n```") {
		t.Errorf("docs/authentication.md (%v) has not the token %s", err, text)
	}
}

// Whatever leads to it, a method signs and verifies with keys of its own algorithm only.
func TestAMethodTakesKeysOfItsAlgorithm(t *testing.T) {
	for _, alg := range []ident.Algorithm{ident.EdDSA, ident.ES256K, ident.ES256} {
		k := someone(t, alg)
		sig := by(t, k)("text")
		for _, m := range []method{method(ident.EdDSA), method(ident.ES256K), method(ident.ES256)} {
			_, signs := m.Sign("text", k)
			verifies := m.Verify("text", sig, k.Public())
			if own := m == method(alg); own != (signs == nil) || own != (verifies == nil) {
				t.Errorf("%s with a key of %s: signs %v, verifies %v", m.Alg(), alg, signs, verifies)
			}
		}
	}
	largest := quarter(someone(t, ident.ES256).DID())
	largest.Delegation = make([]byte, ident.MaxDelegationSize)
	if text := signed(t, someone(t, ident.ES256), largest); len(text) > MaxSize {
		t.Errorf("the largest token has %d bytes, more than %d", len(text), MaxSize)
	}
}

// No byte of a token can be changed.
func TestAlteredTokensProveNothing(t *testing.T) {
	keys := []ident.Key{someone(t, ident.EdDSA), someone(t, ident.ES256), someone(t, ident.ES256K)}
	node := someone(t, ident.EdDSA).DID()
	v := NewVerifier(node)
	var texts []string
	for _, k := range keys {
		text := signed(t, k, quarter(node))
		texts = append(texts, text)
		if _, err := v.Verify(text, noon); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom(texts).Draw(t, "token")
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		b := []byte(text)
		b[at] = rapid.ByteRange(1, 127).Draw(t, "byte")
		if c, err := v.Verify(string(b), noon); err == nil && string(b) != text {
			t.Fatalf("byte %d of %q became %q, and it still proves %s", at, text, b[at], c.Issuer)
		}
	})
}

func TestVerifiedTokensAreBounded(t *testing.T) {
	ada, node := someone(t, ident.EdDSA), someone(t, ident.EdDSA).DID()
	v := NewVerifier(node)
	verify := func(from time.Time, n int) {
		for i := range n {
			c := quarter(node)
			c.NotBefore = from.Add(-time.Duration(i) * time.Second / 4)
			c.Delegation = []byte{byte(i >> 8), byte(i)}
			if _, err := v.Verify(signed(t, ada, c), from); err != nil {
				t.Fatal(err)
			}
		}
	}
	verify(noon, maxKept+10)
	if len(v.good) != maxKept {
		t.Errorf("%d tokens are kept, want %d", len(v.good), maxKept)
	}
	v.keep([32]byte{}, &Claims{NotBefore: noon, Expiry: noon.Add(2 * time.Hour)}, noon.Add(time.Hour))
	if len(v.good) != 1 {
		t.Errorf("%d tokens are kept when all but one have expired, want 1", len(v.good))
	}
}

func FuzzVerify(f *testing.F) {
	node := someone(f, ident.EdDSA).DID()
	for _, alg := range []ident.Algorithm{ident.EdDSA, ident.ES256K, ident.ES256} {
		f.Add(signed(f, someone(f, alg), quarter(node)))
	}
	for _, seed := range []string{"", "..", "e30.e30.", "bnVsbA.bnVsbA.", "eyJhbGciOiJub25lIn0.e30."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v := NewVerifier(node)
		c, err := v.Verify(text, noon)
		if err != nil {
			if !errors.Is(err, fault.Denied) {
				t.Errorf("%q: %v, want denied", text, err)
			}
			return
		}
		again, err := v.Verify(text, noon)
		if err != nil || again.Issuer != c.Issuer || !slices.Equal(again.Delegation, c.Delegation) {
			t.Errorf("%q: %+v at first, then %+v, %v", text, c, again, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	node := someone(b, ident.EdDSA).DID()
	for _, alg := range []ident.Algorithm{ident.EdDSA, ident.ES256K, ident.ES256} {
		c := quarter(node)
		c.Delegation = make([]byte, 200)
		text := signed(b, someone(b, alg), c)
		b.Run(string(alg)+"/first", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Verify(text, node, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(string(alg)+"/cached", func(b *testing.B) {
			b.ReportAllocs()
			v := NewVerifier(node)
			for b.Loop() {
				if _, err := v.Verify(text, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
