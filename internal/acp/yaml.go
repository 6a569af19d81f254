package acp

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/pandodb/pando/internal/fault"
)

// ParsePolicy reads a policy in YAML or JSON, as DefraDB's files have it. Errors
// name the line.
func ParsePolicy(text []byte) (*Policy, error) {
	if len(text) > MaxPolicy {
		return nil, fault.Invalid.Errorf("policy of %d bytes, want at most %d", len(text), MaxPolicy)
	}
	if !utf8.Valid(text) {
		return nil, fault.Invalid.Errorf("policy is not in UTF-8")
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := d.Decode(&doc); err != nil {
		return nil, fault.Invalid.Errorf("policy is neither YAML nor JSON: %w", err)
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fault.Invalid.Errorf("policy: want one document in the file, found more")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, fault.Invalid.Errorf("policy is empty")
	}
	p := &Policy{Actor: "actor", resources: map[string]*resource{}}
	f := policyFile{p}
	if err := f.read(doc.Content[0]); err != nil {
		return nil, fault.Invalid.Errorf("policy: %w", err)
	}
	if err := p.seal(); err != nil {
		return nil, fault.Invalid.Errorf("policy: %w", err)
	}
	return p, nil
}

// policyFile reads the tree that a file is parsed to, without following aliases.
type policyFile struct{ *Policy }

func at(n *yaml.Node, format string, args ...any) error {
	return fault.Invalid.Errorf("line %d: %w", n.Line, fault.Invalid.Errorf(format, args...))
}

func (f policyFile) read(n *yaml.Node) error {
	var resources *yaml.Node
	err := each(n, "a policy", func(key string, v *yaml.Node) (err error) {
		switch key {
		case "name":
			f.Name, err = scalar(v, key)
		case "description", "doc":
			f.Description, err = scalar(v, key)
		case "actor":
			err = f.readActor(v)
		case "resources":
			resources = v
		default:
			err = at(v, "%q is not known: want name, description, actor, resources", key)
		}
		return err
	})
	if err != nil {
		return err
	}
	if resources == nil {
		return at(n, "resources are missing")
	}
	return named(resources, "resources", func(name string, v *yaml.Node) error {
		s, err := f.readResource(v)
		if err != nil {
			return err
		}
		f.resources[name] = s
		return nil
	})
}

func (f policyFile) readActor(n *yaml.Node) error {
	return each(n, "actor", func(key string, v *yaml.Node) (err error) {
		switch key {
		case "name":
			if f.Actor, err = scalar(v, key); err == nil && f.Actor == "" {
				err = at(v, "name of the actor is empty")
			}
		case "description", "doc":
			_, err = scalar(v, key)
		default:
			err = at(v, "%q of actor is not known: want name", key)
		}
		return err
	})
}

func (f policyFile) readResource(n *yaml.Node) (*resource, error) {
	s := &resource{permissions: map[string][]string{}, relations: map[string][]string{}}
	return s, each(n, "a resource", func(key string, v *yaml.Node) (err error) {
		switch key {
		case "permissions":
			return named(v, key, func(name string, v *yaml.Node) (err error) {
				s.permissions[name], err = readPermission(v, slices.Contains(required, name))
				return err
			})
		case "relations":
			return named(v, key, func(name string, v *yaml.Node) (err error) {
				s.relations[name], err = f.readRelation(v)
				return err
			})
		case "description", "doc", "name":
			_, err = scalar(v, key)
			return err
		}
		return at(v, "%q of a resource is not known: want permissions, relations", key)
	})
}

func readPermission(n *yaml.Node, owned bool) (relations []string, err error) {
	expr := n
	err = each(n, "a permission", func(key string, v *yaml.Node) (err error) {
		switch key {
		case "expr":
			expr = v
			relations, err = readExpr(v)
		case "description", "doc", "name":
			_, err = scalar(v, key)
		default:
			err = at(v, "%q of a permission is not known: want expr", key)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(relations) == 0 {
		return nil, at(n, "expr is missing: want relations, such as owner + reader")
	}
	if owned && relations[0] != ownerName {
		return nil, at(expr, "expr must begin with owner, such as owner + reader")
	}
	slices.Sort(relations)
	return slices.Compact(relations), nil
}

// readExpr returns the relations of a union, in their order.
func readExpr(n *yaml.Node) ([]string, error) {
	text, err := scalar(n, "expr")
	if err != nil {
		return nil, err
	}
	if i := strings.IndexAny(text, "&-("); i >= 0 && (text[i] != '-' || strings.Contains(text, " - ")) {
		return nil, at(n, "expr %q: only unions are possible: join relations by +", text)
	}
	var relations []string
	for part := range strings.SplitSeq(strings.ReplaceAll(text, "|", "+"), "+") {
		rel := strings.TrimSpace(part)
		if err := checkName("relation", rel); err != nil {
			return nil, at(n, "expr %q: %w: join relations by +, such as owner + reader", text, err)
		}
		relations = append(relations, rel)
	}
	return relations, nil
}

func (f policyFile) readRelation(n *yaml.Node) (manages []string, err error) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil, nil // types: [actor] goes without saying
	}
	err = each(n, "a relation", func(key string, v *yaml.Node) (err error) {
		switch key {
		case "manages":
			manages, err = list(v, key)
		case "types":
			var types []string
			types, err = list(v, key)
			for _, typ := range types {
				if typ != f.Actor && err == nil {
					err = at(v, "type %q: want [%s]; groups are subjects of a grant, and need no type", typ, f.Actor)
				}
			}
		case "description", "doc", "name":
			_, err = scalar(v, key)
		default:
			err = at(v, "%q of a relation is not known: want types, manages", key)
		}
		return err
	})
	slices.Sort(manages)
	return slices.Compact(manages), err
}

// each calls do for the entries of a mapping.
func each(n *yaml.Node, what string, do func(key string, v *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return at(n, "%s: want a mapping", what)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, err := scalar(n.Content[i], "key")
		if err != nil {
			return err
		}
		if seen[key] {
			return at(n.Content[i], "%s: %q stands there twice", what, key)
		}
		seen[key] = true
		if err := do(key, n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// named calls do for entries that have names: those of a mapping, or of a list of
// mappings with a name each.
func named(n *yaml.Node, what string, do func(name string, v *yaml.Node) error) error {
	if n.Kind != yaml.SequenceNode {
		return each(n, what, do)
	}
	seen := map[string]bool{}
	for _, v := range n.Content {
		name := ""
		err := each(v, what, func(key string, v *yaml.Node) (err error) {
			if key == "name" {
				name, err = scalar(v, key)
			}
			return err
		})
		if err != nil {
			return err
		}
		if name == "" || seen[name] {
			return at(v, "%s: want a name of its own for each, found %q", what, name)
		}
		seen[name] = true
		if err := do(name, v); err != nil {
			return err
		}
	}
	return nil
}

func scalar(n *yaml.Node, what string) (string, error) {
	if n.Kind != yaml.ScalarNode {
		return "", at(n, "%s: want a text", what)
	}
	return n.Value, nil
}

func list(n *yaml.Node, what string) (all []string, err error) {
	if n.Kind != yaml.SequenceNode {
		return nil, at(n, "%s: want a list", what)
	}
	for _, v := range n.Content {
		s, err := scalar(v, what)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}
