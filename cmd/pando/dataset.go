package main

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
)

// The language subtag registry: demo/README.md says where it comes from.
var (
	//go:embed demo/schema.graphql
	registrySchema string
	//go:embed demo/registry.ndjson.gz
	registryPacked []byte
)

// registryRecord is one line of the data set. A record refers only to records of
// earlier waves.
type registryRecord struct {
	Wave       int               `json:"wave"`
	Collection string            `json:"collection"`
	Key        string            `json:"key"`
	Fields     map[string]any    `json:"fields"`
	Refs       map[string]string `json:"refs"`
}

// registryTargets says which collection a field refers to, where the name does not.
var registryTargets = map[string]string{
	"script": "Script", "region": "Region", "variant": "Variant",
	"language": "Language", "macrolanguage": "Language", "preferred": "Language",
}

// registryKeys names the key of the collections that others refer to.
var registryKeys = map[string]string{"Script": "subtag", "Region": "subtag", "Variant": "subtag", "Language": "subtag"}

// registry unpacks the data set.
func registry() ([]registryRecord, error) {
	z, err := gzip.NewReader(bytes.NewReader(registryPacked))
	if err != nil {
		return nil, err
	}
	var records []registryRecord
	for dec := json.NewDecoder(z); ; {
		var r registryRecord
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return records, nil
		} else if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
}

// loadRegistry adds the collections of the data set to a node and imports the
// records wave by wave, since a reference needs the docID of its target.
// It returns how many documents there are, and how many bytes of JSON they took.
func loadRegistry(ctx context.Context, node *api.Client, progress func(documents int)) (documents, size int, err error) {
	if _, err := node.AddSchema(ctx, registrySchema); err != nil {
		return 0, 0, err
	}
	records, err := registry()
	if err != nil {
		return 0, 0, err
	}
	ids := map[string]map[string]string{} // collection → key → docID
	for len(records) > 0 {
		first := records[0]
		n := slices.IndexFunc(records, func(r registryRecord) bool { return r.Wave != first.Wave || r.Collection != first.Collection })
		if n < 0 {
			n = len(records)
		}
		lines, err := resolved(records[:n], ids)
		if err != nil {
			return 0, 0, err
		}
		size += len(lines)
		done, err := node.Import(ctx, first.Collection, bytes.NewReader(lines), api.ImportOptions{}, func(at api.Imported) {
			progress(documents + at.Documents)
		})
		if err != nil {
			return 0, 0, fmt.Errorf("import %s: %w", first.Collection, err)
		}
		documents += done.Documents
		if key, ok := registryKeys[first.Collection]; ok {
			if ids[first.Collection], err = docIDs(ctx, node, first.Collection, key); err != nil {
				return 0, 0, err
			}
		}
		records = records[n:]
	}
	return documents, size, nil
}

// resolved writes records as an import reads them, with docIDs for references.
func resolved(records []registryRecord, ids map[string]map[string]string) ([]byte, error) {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for _, r := range records {
		for field, key := range r.Refs {
			id, ok := ids[registryTargets[field]][key]
			if !ok {
				return nil, fault.Corrupt.Errorf("data set: %s %s refers to %s %s, which has not come before", r.Collection, r.Key, field, key)
			}
			r.Fields[field] = id
		}
		if err := enc.Encode(r.Fields); err != nil {
			return nil, err
		}
	}
	return lines.Bytes(), nil
}

// docIDs returns the docID of every document of a collection by its key.
func docIDs(ctx context.Context, node *api.Client, collection, key string) (map[string]string, error) {
	var data map[string][]map[string]string
	if err := ask(ctx, node, fmt.Sprintf("{ %s { _docID %s } }", collection, key), &data); err != nil {
		return nil, err
	}
	ids := make(map[string]string, len(data[collection]))
	for _, row := range data[collection] {
		ids[row[key]] = row["_docID"]
	}
	return ids, nil
}

// ask runs a request and reads its data into v.
func ask(ctx context.Context, node *api.Client, query string, v any) error {
	resp, err := node.Query(ctx, api.Request{Query: query})
	if err != nil {
		return err
	}
	if len(resp.Errors) > 0 {
		return resp.Errors[0].Err()
	}
	return json.Unmarshal(resp.Data, v)
}
