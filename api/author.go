package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Author writes through a client as the owner of a key that the node never sees: the node
// prepares commits, the author looks at what they say, signs, and submits them. The client
// has to prove to the node that it is the same: over libp2p by that key, else by a token.
//
// Create, Update and Delete sign nothing but what they were told to write. What a node
// that lies can still do is described in docs/design/0012-signing-elsewhere.md.
type Author struct {
	c   *Client
	key pando.Identity

	mu     sync.Mutex // guards what follows
	known  map[string]*pando.Collection
	pinned map[string]bool // by Pin
	stale  map[string]bool // the node uses another version by now
}

// Author returns who writes through the client with a key.
func (c *Client) Author(key pando.Identity) *Author {
	return &Author{c: c, key: key, known: map[string]*pando.Collection{}, pinned: map[string]bool{}, stale: map[string]bool{}}
}

// SignWith makes the client sign by itself what GrantDocument, RevokeDocument, TransferDocument
// and AcceptCommits write. It must be called before the first request.
func (c *Client) SignWith(key pando.Identity) { c.author = c.Author(key) }

const (
	// maxSkew is how far the clocks of a node and of an author may be apart: an author does not
	// sign that something was written at another time.
	maxSkew = 5 * time.Minute
	// overtaken is how often a mutation is prepared anew because others were quicker.
	overtaken = 5
)

// Pin makes the author write to this version of a collection alone, from its definition as
// it is known from elsewhere. Without it the author takes the first definition that the
// node gives, and stays with that.
func (a *Author) Pin(definition []byte) (*pando.Collection, error) {
	c, err := pando.OpenCollection(definition)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[c.Name], a.pinned[c.Name] = c, true
	return c, nil
}

// Collection returns the definition that the author goes by.
func (a *Author) Collection(ctx context.Context, name string) (*pando.Collection, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.known[name]
	if was != nil && !a.stale[name] {
		return was, nil
	}
	d, err := opDefinition.call(ctx, a.c, definitionRequest{name})
	if err != nil {
		return nil, err
	}
	c, err := pando.OpenCollection(d.Definition)
	if err != nil {
		return nil, err
	}
	if c.Name != name || was != nil && c.ID != was.ID {
		return nil, fault.Denied.Errorf("the node says that %s is %s %s now: that is another collection", name, c.Name, c.ID)
	}
	a.known[name], a.stale[name] = c, false
	return c, nil
}

// Create makes a document, of fields as Documents.Create takes them, and returns its docID.
func (a *Author) Create(ctx context.Context, collection string, fields any) (pando.DocID, error) {
	var doc pando.DocID
	err := a.write(ctx, collection, "create", "input: $in", fields, func(c *pando.Collection, p pando.Proposal) error {
		doc = p.Doc
		return p.Creates(c, fields)
	})
	return doc, err
}

// Update changes fields of a document; those that are not mentioned stay. To a counter
// the value is added.
func (a *Author) Update(ctx context.Context, collection string, doc pando.DocID, fields any) error {
	return a.write(ctx, collection, "update", fmt.Sprintf("docID: %q, input: $in", doc), fields, func(c *pando.Collection, p pando.Proposal) error {
		return p.Updates(c, doc, fields)
	})
}

// Delete marks a document deleted.
func (a *Author) Delete(ctx context.Context, collection string, doc pando.DocID) error {
	return a.write(ctx, collection, "delete", fmt.Sprintf("docID: %q", doc), nil, func(c *pando.Collection, p pando.Proposal) error {
		return p.DeletesOnly(c, doc)
	})
}

// write runs one mutation that takes one commit at most.
func (a *Author) write(ctx context.Context, name, verb, args string, fields any, check func(*pando.Collection, pando.Proposal) error) error {
	c, err := a.Collection(ctx, name)
	if err != nil {
		return err
	}
	in := Request{Query: fmt.Sprintf("mutation { %s_%s(%s) { _docID } }", verb, c.Name, args)}
	if fields != nil {
		kind := c.Name + "MutationInputArg!"
		if verb == "create" { // takes several
			kind, fields = "["+kind+"]!", []any{fields}
		}
		raw, err := json.Marshal(map[string]any{"in": fields})
		if err != nil {
			return fault.Invalid.Errorf("fields: %w", err)
		}
		in.Query = fmt.Sprintf("mutation($in: %s) { %s_%s(%s) { _docID } }", kind, verb, c.Name, args)
		in.Variables = raw
	}
	resp, err := a.Query(ctx, in, func(all []pando.Proposal) error {
		if len(all) > 1 || len(all) == 0 && verb != "update" {
			return fault.Denied.Errorf("the node wants %d commits signed to %s one document", len(all), verb)
		}
		for _, p := range all {
			if err := check(c, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(resp.Errors) > 0 {
		err = resp.Errors[0].Err()
	}
	if err == nil && verb != "create" {
		var data map[string][]json.RawMessage
		if json.Unmarshal(resp.Data, &data) == nil && len(data[verb+"_"+c.Name]) == 0 {
			err = fault.NotFound.Errorf("there is no such document in collection %s", c.Name)
		}
	}
	return err
}

// Query runs any GraphQL request. What a mutation writes is signed when look, which may be nil, agrees
// with it; in any case only what fits the text: documents of collections that it
// names, begun, changed or deleted only as it says. When others were quicker it is prepared anew; but
// what begins a document or adds to a counter is signed once, and counts beside what they wrote.
func (a *Author) Query(ctx context.Context, in Request, look func([]pando.Proposal) error) (*Response, error) {
	for n := 1; ; n++ {
		resp, once, err := a.try(ctx, in, look)
		if !errors.Is(err, fault.Conflict) || n == overtaken || once {
			return resp, err
		}
	}
}

// try runs a request once. once is set if something was signed that is not to be signed again.
func (a *Author) try(ctx context.Context, in Request, look func([]pando.Proposal) error) (answer *Response, once bool, err error) {
	prepared, err := opPrepare.call(ctx, a.c, prepareRequest{in})
	if err != nil {
		return nil, false, err
	}
	var resp Response
	if err := json.Unmarshal(prepared.Answer, &resp); err != nil {
		return nil, false, fault.Unavailable.Errorf("answer of %s: %w: is it a pando node of this version?", a.c.base, err)
	}
	var all []pando.Proposal
	for _, d := range prepared.Commits {
		p, err := a.open(ctx, in.Query, d)
		if err != nil {
			return nil, false, notSigned(err)
		}
		all = append(all, p)
	}
	switch {
	case len(resp.Errors) > 0 && len(all) > 0: // nobody has looked at these
		return nil, false, notSigned(fault.Denied.Errorf("it says that the request failed, and wants commits signed none the less"))
	case len(resp.Errors) == 0 && look != nil:
		if err := look(all); err != nil {
			return nil, false, notSigned(err)
		}
	}
	if len(all) == 0 {
		return &resp, false, nil
	}
	if once, err = a.submit(ctx, all); err != nil {
		return nil, once, err
	}
	return &resp, once, nil
}

// submit signs and submits what its author has looked at. Whatever adds up is signed once:
// a node that says that others were quicker, and submits all that was signed, would have it
// count as often. It is submitted again as it is, to count beside what they wrote.
func (a *Author) submit(ctx context.Context, all []pando.Proposal) (once bool, err error) {
	var out submitRequest
	for _, p := range all {
		signed, err := p.Sign(a.key)
		if err != nil {
			return false, err
		}
		once = once || p.AddsUp()
		out.Body.Commits = append(out.Body.Commits, SignedCommit{signed.Collection.String(), signed.Envelope})
	}
	_, err = opSubmit.call(ctx, a.c, out)
	if once && errors.Is(err, fault.Conflict) {
		out.Body.Concurrent = true
		if _, err = opSubmit.call(ctx, a.c, out); err != nil {
			err = fmt.Errorf("%w (it is signed, and may come to count later)", err)
		}
	}
	return once, err
}

func notSigned(err error) error {
	return fault.Denied.Errorf("not signed, for the node prepared something else than it was asked for: %w", err)
}

// open decodes a draft, and refuses what cannot come of the text of a request.
func (a *Author) open(ctx context.Context, text string, d DraftCommit) (pando.Proposal, error) {
	id, err := dag.ParseCollectionID(d.Collection)
	if err != nil {
		return pando.Proposal{}, err
	}
	p, err := pando.Draft{Collection: id, Header: d.Header, Payload: d.Payload}.Open()
	if err != nil {
		return p, err
	}
	if p.Author != a.key.DID() {
		return p, fault.Denied.Errorf("it is in the name of %s", p.Author)
	}
	if off := time.Since(p.Time).Abs(); off > maxSkew {
		return p, fault.Denied.Errorf("it says that it was written at %s, %v from now: look at the clocks", p.Time, off.Round(time.Second))
	}
	does := "update"
	if p.Begins {
		does = "create"
	} else if p.Deletes {
		does = "delete"
	}
	for _, m := range mutationsIn(text) {
		verb, name := m[1], m[2]
		if verb != does && (verb != "upsert" || does == "delete") {
			continue
		}
		c, err := a.Collection(ctx, name)
		if errors.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return p, err
		}
		if c.ID == p.Collection && (c.Version == p.Version || a.renewed(name)) {
			return p, nil
		}
	}
	return p, fault.Denied.Errorf("the request has no %s_… that is about document %s of collection %s", does, p.Doc, p.Collection)
}

// mutationsIn returns the fields of a request that write, with their verbs and collections. What
// stands in quotes or in a comment is no field; an alias may look like one, and then what may be
// written is more than the request says.
func mutationsIn(text string) [][]string {
	text = spoken.ReplaceAllString(text, " ")
	if strings.Contains(text, `"`) || !mutation.MatchString(text) { // a quote that does not end
		return nil
	}
	return mutations.FindAllStringSubmatch(text, -1)
}

var (
	spoken    = regexp.MustCompile(`(?s)"""(?:\\"""|.)*?"""|"(?:\\.|[^"\\\r\n])*"|#[^\r\n]*`)
	mutation  = regexp.MustCompile(`\bmutation\b`)
	mutations = regexp.MustCompile(`\b(create|update|upsert|delete)_(\w+)\b`)
)

// renewed makes the author look again at a collection that is not pinned: the node may use another
// version by now. The collection stays the same.
func (a *Author) renewed(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pinned[name] {
		return false
	}
	a.stale[name] = true
	return true
}
