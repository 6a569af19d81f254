//go:build ignore

// Generate turns the IANA language subtag registry into the records of the demo.
//
//	npm pack language-subtag-registry@0.4.2 && tar xzf language-subtag-registry-0.4.2.tgz
//	go run generate.go package/data/json/registry.json
//
// The same input gives the same output.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
)

// entry is one record of the registry as the package has it.
type entry struct {
	Type           string
	Subtag         string
	Tag            string
	Description    []string
	Added          string
	Deprecated     string
	Scope          string
	Macrolanguage  string
	Comments       []string
	Prefix         []string
	PreferredValue string `json:"Preferred-Value"`
	SuppressScript string `json:"Suppress-Script"`
}

// record is one line of the demo's data. A record refers only to records of
// earlier waves, so that a reader who loads wave by wave knows every docID it needs.
type record struct {
	Wave       int               `json:"wave"`
	Collection string            `json:"collection"`
	Key        string            `json:"key"`
	Fields     map[string]any    `json:"fields"`
	Refs       map[string]string `json:"refs,omitempty"` // field → the key of a record of the field's collection
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: go run generate.go REGISTRY.json")
	}
	raw, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var entries []entry
	if err := json.Unmarshal(raw, &entries); err != nil {
		log.Fatal(err)
	}
	records := convert(entries)
	if err := os.WriteFile("registry.ndjson.gz", pack(records), 0o644); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(records), "records")
}

func convert(entries []entry) []record {
	c := converter{languages: map[string]entry{}, scripts: map[string]bool{}, regions: map[string]bool{}}
	for _, e := range entries {
		switch e.Type {
		case "language":
			c.languages[e.Subtag] = e
		case "script":
			c.scripts[e.Subtag] = true
		case "region":
			c.regions[e.Subtag] = true
		}
	}
	for _, e := range entries {
		c.add(e)
	}
	slices.SortStableFunc(c.records, func(a, b record) int {
		if a.Wave != b.Wave {
			return a.Wave - b.Wave
		}
		return strings.Compare(a.Collection, b.Collection)
	})
	return c.records
}

type converter struct {
	languages map[string]entry
	scripts   map[string]bool
	regions   map[string]bool
	records   []record
}

func (c *converter) add(e entry) {
	r := record{Key: e.Subtag, Fields: described(e), Refs: map[string]string{}}
	switch e.Type {
	case "script":
		r.Collection = "Script"
	case "region":
		r.Collection = "Region"
		set(r.Fields, "preferred", e.PreferredValue)
	case "variant":
		r.Collection = "Variant"
		set(r.Fields, "preferred", e.PreferredValue)
	case "language":
		r.Collection, r.Wave = "Language", c.depth(e.Subtag)
		set(r.Fields, "scope", e.Scope)
		set(r.Refs, "script", e.SuppressScript)
		set(r.Refs, "macrolanguage", e.Macrolanguage)
		set(r.Refs, "preferred", e.PreferredValue)
	case "extlang":
		r.Collection, r.Wave = "Extension", 4
		set(r.Fields, "prefix", strings.Join(e.Prefix, ", "))
		set(r.Refs, "language", e.PreferredValue)
	case "redundant", "grandfathered":
		r.Collection, r.Wave, r.Key = "Tag", 4, e.Tag
		delete(r.Fields, "subtag")
		r.Fields["tag"], r.Fields["kind"] = e.Tag, e.Type
		set(r.Fields, "preferred", e.PreferredValue)
		c.split(e.Tag, r.Refs)
	default:
		log.Fatalf("type %q is new", e.Type)
	}
	c.records = append(c.records, r)
	if e.Type != "variant" {
		return
	}
	for _, p := range e.Prefix {
		tag := p + "-" + e.Subtag
		c.records = append(c.records, record{Wave: 4, Collection: "Prefix", Key: tag,
			Fields: map[string]any{"tag": tag},
			Refs:   map[string]string{"variant": e.Subtag, "language": strings.Split(p, "-")[0]}})
	}
}

// depth is 1 for a language that refers to no other language.
func (c *converter) depth(subtag string) int {
	e, deepest := c.languages[subtag], 0
	for _, other := range []string{e.Macrolanguage, e.PreferredValue} {
		if other != "" {
			deepest = max(deepest, c.depth(other))
		}
	}
	if deepest >= 3 {
		log.Fatalf("language %s: the waves must be spread anew", subtag)
	}
	return deepest + 1
}

// split finds the parts of a registered tag that are records of their own.
func (c *converter) split(tag string, refs map[string]string) {
	for i, part := range strings.Split(tag, "-") {
		switch {
		case i == 0 && c.languages[part].Subtag != "":
			refs["language"] = part
		case i > 0 && c.scripts[part]:
			refs["script"] = part
		case i > 0 && c.regions[part]:
			refs["region"] = part
		}
	}
}

func described(e entry) map[string]any {
	fields := map[string]any{"subtag": e.Subtag, "name": e.Description[0]}
	if len(e.Description) > 1 {
		fields["otherNames"] = e.Description[1:]
	}
	for name, day := range map[string]string{"added": e.Added, "deprecated": e.Deprecated} {
		if day != "" {
			fields[name] = day + "T00:00:00Z"
		}
	}
	if len(e.Comments) > 0 {
		fields["comments"] = strings.Join(e.Comments, " ")
	}
	return fields
}

func set[M ~map[string]V, V any](m M, name string, text string) {
	if text != "" {
		m[name] = any(text).(V)
	}
}

func pack(records []record) []byte {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		log.Fatal(err)
	}
	lines := json.NewEncoder(z) // maps are written in the order of their keys
	lines.SetEscapeHTML(false)
	for _, r := range records {
		if err := lines.Encode(r); err != nil {
			log.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		log.Fatal(err)
	}
	return packed.Bytes()
}
