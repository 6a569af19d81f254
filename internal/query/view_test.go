package query

import (
	"context"
	"strings"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// addView adds a view: its query, a line with "as", and its SDL.
func (d *dbase) addView(text string) error {
	query, sdl, _ := strings.Cut("\n"+text, "\nas\n")
	return d.store.Update(context.Background(), d.key, func(tx *store.Tx) error {
		_, err := d.schemas.AddView(context.Background(), tx, schema.ViewSource{Query: query, SDL: sdl})
		return err
	})
}

func (d *dbase) dropView(name string) error {
	return d.store.Update(context.Background(), d.key, func(tx *store.Tx) error { return d.schemas.DropView(tx, name) })
}
