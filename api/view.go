package api

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
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

type refreshViews struct {
	Name         string `query:"name"`
	VersionID    string `query:"version_id"`
	CollectionID string `query:"collection_id"`
	Inactive     bool   `query:"get_inactive"`
}

var (
	opRefreshViews = op[refreshViews, []pando.Refreshed]{"POST /view/refresh", admin, (*Server).refreshViews}
	opAddView      = op[addView, json.RawMessage]{"POST /view", admin, (*Server).addView}
	opViews        = op[findViews, json.RawMessage]{"GET /view", catalog, (*Server).views}
	opDropView     = op[dropView, none]{"DELETE /view/{name}", admin, (*Server).dropView}
)

func (s *Server) addView(ctx context.Context, in addView) (json.RawMessage, error) {
	v, err := s.db.AddView(ctx, in.View)
	if err != nil {
		return nil, err
	}
	return json.Marshal([]describedView{{described{v, v.SchemaJSON()}, pando.ViewState{}}})
}

// describedView is how the node sends a view.
type describedView struct {
	described
	State pando.ViewState `json:"state"`
}

func (s *Server) views(ctx context.Context, in findViews) (json.RawMessage, error) {
	found := []describedView{}
	for _, v := range s.db.Views() {
		if !fits(in.Name, v.Name) {
			continue
		}
		st, err := s.db.ViewState(ctx, v.Name)
		if errors.Is(err, fault.NotFound) { // dropped just now
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, describedView{described{v, v.SchemaJSON()}, st})
	}
	return json.Marshal(found)
}

func (s *Server) dropView(ctx context.Context, in dropView) (none, error) {
	return none{}, s.db.DropView(ctx, in.Name)
}

// refreshViews refreshes the materialized views that the parameters name. A view has
// one version, and it is active.
func (s *Server) refreshViews(ctx context.Context, in refreshViews) ([]pando.Refreshed, error) {
	if in == (refreshViews{Inactive: in.Inactive}) {
		all, err := s.db.RefreshView(ctx)
		return append([]pando.Refreshed{}, all...), err // [] of none
	}
	var names []string
	for _, v := range s.db.Views() {
		if fits(in.Name, v.Name) && fits(in.CollectionID, v.ID.String()) && fits(in.VersionID, v.Version.String()) && (in.Name != "" || v.View.Materialized) {
			names = append(names, v.Name)
		}
	}
	if len(names) == 0 {
		return nil, fault.NotFound.Errorf("there is no such view: pando view list, or GET %s/view, lists them", Base)
	}
	return s.db.RefreshView(ctx, names...)
}

// View describes a view, as far as a client that is not generated needs it.
type View struct {
	Collection
	IsMaterialized bool
	Sources        []struct{ Query string }
	SDL            string
	State          pando.ViewState `json:"-"`
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

// RefreshViews refreshes a materialized view, or all of them.
func (c *Client) RefreshViews(ctx context.Context, name string) ([]pando.Refreshed, error) {
	return opRefreshViews.call(ctx, c, refreshViews{Name: name})
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
		Version View            `json:"version"`
		State   pando.ViewState `json:"state"`
	}
	err = json.Unmarshal(raw, &all)
	vs := make([]View, len(all))
	for i := range all {
		vs[i] = all[i].Version
		vs[i].State = all[i].State
	}
	return vs, err
}
