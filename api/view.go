package api

import (
	"context"
	"encoding/json"

	"github.com/pandodb/pando"
)

type addView struct {
	View pando.ViewSource `body:"json"`
}

type findViews struct {
	Name string `query:"name"`
}

type dropView struct {
	Name string `path:"name"`
}

var (
	opAddView  = op[addView, json.RawMessage]{"POST /view", (*Server).addView}
	opViews    = op[findViews, json.RawMessage]{"GET /view", (*Server).views}
	opDropView = op[dropView, none]{"DELETE /view/{name}", (*Server).dropView}
)

func (s *Server) addView(ctx context.Context, in addView) (json.RawMessage, error) {
	v, err := s.db.AddView(ctx, in.View)
	if err != nil {
		return nil, err
	}
	return json.Marshal([]described{{v, v.SchemaJSON()}})
}

func (s *Server) views(_ context.Context, in findViews) (json.RawMessage, error) {
	found := []described{}
	for _, v := range s.db.Views() {
		if fits(in.Name, v.Name) {
			found = append(found, described{v, v.SchemaJSON()})
		}
	}
	return json.Marshal(found)
}

func (s *Server) dropView(ctx context.Context, in dropView) (none, error) {
	return none{}, s.db.DropView(ctx, in.Name)
}

// View describes a view, as far as a client that is not generated needs it.
type View struct {
	Collection
	IsMaterialized bool
	Sources        []struct{ Query string }
	SDL            string
}

// AddView adds a view and returns it.
func (c *Client) AddView(ctx context.Context, src pando.ViewSource) (View, error) {
	vs, err := viewsOf(opAddView.call(ctx, c, addView{src}))
	if err != nil || len(vs) == 0 {
		return View{}, err
	}
	return vs[0], nil
}

// Views returns the views of the node, by name.
func (c *Client) Views(ctx context.Context) ([]View, error) {
	return viewsOf(opViews.call(ctx, c, findViews{}))
}

// DropView removes a view.
func (c *Client) DropView(ctx context.Context, name string) error {
	_, err := opDropView.call(ctx, c, dropView{name})
	return err
}

func viewsOf(raw json.RawMessage, err error) ([]View, error) {
	if err != nil {
		return nil, err
	}
	var all []struct {
		Version View `json:"version"`
	}
	err = json.Unmarshal(raw, &all)
	vs := make([]View, len(all))
	for i := range all {
		vs[i] = all[i].Version
	}
	return vs, err
}
