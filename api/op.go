package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/pandodb/pando/internal/fault"
)

// op is one operation: the server runs it, the client calls it, and both read the
// shape of the request from the tags of In:
//
//	path:"id"     a part of the path
//	query:"name"  a parameter of the query string
//	body:"json"   the body, as JSON
//	body:"text"   the body, as it is
//	body:"bytes"  likewise, of bytes that need not be text
type op[In, Out any] struct {
	route string // "POST /schema": method, and path below Base
	class class
	run   func(*Server, context.Context, In) (Out, error)
}

// none is the input or output of an operation that has none.
type none struct{}

// operation is an op of whatever types.
type operation interface {
	mount(s *Server, rt *router)
}

func (o op[In, Out]) mount(s *Server, rt *router) {
	method, path, _ := strings.Cut(o.route, " ")
	rt.handle(method+" "+Base+path, o.class, s.admit(s.requestSlots, func(w http.ResponseWriter, r *http.Request) {
		if err := refuseTx(r); err != nil {
			s.fail(w, r, err)
			return
		}
		var in In
		if err := readInput(w, r, &in); err != nil {
			s.fail(w, r, err)
			return
		}
		out, err := o.run(s, r.Context(), in)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if _, empty := any(out).(none); empty {
			w.WriteHeader(http.StatusOK)
			return
		}
		s.answer(w, http.StatusOK, out)
	}))
}

// call runs the operation on the node that the client talks to.
func (o op[In, Out]) call(ctx context.Context, c *Client, in In) (Out, error) {
	var out Out
	req, err := o.request(ctx, c, in)
	if err != nil {
		return out, err
	}
	resp, err := c.do(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if _, empty := any(out).(none); empty {
		return out, nil
	}
	return out, c.decode(resp.Body, &out)
}

func (o op[In, Out]) request(ctx context.Context, c *Client, in In) (*http.Request, error) {
	method, path, _ := strings.Cut(o.route, " ")
	query := url.Values{}
	var body io.Reader
	v := reflect.ValueOf(in)
	for i := range v.NumField() {
		f, tag := v.Field(i), v.Type().Field(i).Tag
		if name, ok := tag.Lookup("path"); ok {
			path = strings.Replace(path, "{"+name+"}", url.PathEscape(fmt.Sprint(f.Interface())), 1)
		} else if name, ok := tag.Lookup("query"); ok && !f.IsZero() {
			query.Set(name, fmt.Sprint(f.Interface()))
		} else if form := tag.Get("body"); form == "text" {
			body = strings.NewReader(f.String())
		} else if form == "bytes" {
			body = bytes.NewReader(f.Bytes())
		} else if form == "json" {
			raw, err := json.Marshal(f.Interface())
			if err != nil {
				return nil, err
			}
			body = bytes.NewReader(raw)
		}
	}
	req, err := c.request(ctx, method, path, query, body)
	if err == nil && o.class == open { // nobody would look at a token
		req.Header.Del("Authorization")
	}
	return req, err
}

// readInput fills in, a pointer to a struct, from the request.
func readInput(w http.ResponseWriter, r *http.Request, in any) error {
	v := reflect.ValueOf(in).Elem()
	var known []string
	for i := range v.NumField() {
		if name, ok := v.Type().Field(i).Tag.Lookup("query"); ok {
			known = append(known, name)
		}
	}
	query, err := parameters(r, known...)
	if err != nil {
		return err
	}
	hasBody := false
	for i := range v.NumField() {
		f, tag := v.Field(i), v.Type().Field(i).Tag
		if name, ok := tag.Lookup("path"); ok {
			if err := setText(f, r.PathValue(name)); err != nil {
				return fault.Invalid.Errorf("path: %s %w", name, err)
			}
		} else if name, ok := tag.Lookup("query"); ok {
			if err := setText(f, query.Get(name)); err != nil {
				return fault.Invalid.Errorf("query string: %s %w", name, err)
			}
		} else if form := tag.Get("body"); form != "" {
			hasBody = true
			if err := readBody(w, r, f, form); err != nil {
				return err
			}
		}
	}
	if hasBody || r.ContentLength == 0 {
		return nil
	}
	return readNothing(w, r)
}

// readNothing reads the body of an operation that has none: clients may send an
// object without members.
func readNothing(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxNothing)
	raw, err := readAllBody(w, r)
	if kindOf(err) == fault.TooLarge {
		return fault.TooLarge.Errorf("body: it is there, and %s %s takes none", r.Method, r.URL.Path)
	}
	if err != nil || len(raw) == 0 {
		return err
	}
	return readJSON(raw, &none{})
}

// parameters reads the query string, which has the names at most, each once.
func parameters(r *http.Request, names ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.Invalid.Errorf("query string: %w", err)
	}
	for name, given := range query {
		if !slices.Contains(names, name) {
			return nil, fault.Invalid.Errorf("query string: %q is no parameter of %s %s", name, r.Method, r.URL.Path)
		}
		if len(given) > 1 {
			return nil, fault.Invalid.Errorf("query string: %q is there %d times: give it once", name, len(given))
		}
	}
	return query, nil
}

func readBody(w http.ResponseWriter, r *http.Request, f reflect.Value, form string) error {
	if form == "bytes" {
		raw, err := readRawBody(w, r)
		f.SetBytes(raw)
		return err
	}
	raw, err := readAllBody(w, r)
	if err != nil {
		return err
	}
	if form == "text" {
		f.SetString(string(raw))
		return nil
	}
	return readJSON(raw, f.Addr().Interface())
}

// readJSON reads one JSON value, all of whose members are known.
func readJSON(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return badJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fault.Invalid.Errorf("body: unexpected data after the JSON value")
	}
	return nil
}

func badJSON(err error) error {
	if errors.Is(err, io.EOF) {
		return fault.Invalid.Errorf("body: it is empty, want JSON")
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		where := "it"
		if wrong.Field != "" {
			where = strconv.Quote(memberName(wrong.Field))
		}
		return fault.Invalid.Errorf("body: %s is a JSON %s, want %s", where, wrong.Value, jsonName(wrong.Type))
	}
	return fault.Invalid.Errorf("body: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// memberName returns what a path to a member is in JSON: Go types that are embedded,
// which JSON knows nothing of, stand in it with their capitals.
func memberName(path string) string {
	for {
		first, rest, more := strings.Cut(path, ".")
		if !more || first == "" || !unicode.IsUpper(rune(first[0])) {
			return path
		}
		path = rest
	}
}

// jsonName returns what JSON calls values of a Go type.
func jsonName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a number"
}

// setText sets a string, bool, int or unsigned field; an absent text leaves it zero.
func setText(f reflect.Value, text string) error {
	if text == "" {
		return nil
	}
	switch f.Kind() {
	case reflect.String:
		f.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("is %q, want true or false", text)
		}
		f.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("is %q, want a whole number", text)
		}
		f.SetInt(n)
	case reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("is %q, want a whole number", text)
		}
		f.SetUint(n)
	default:
		return fmt.Errorf("has a type that no text can give: %s", f.Type())
	}
	return nil
}
