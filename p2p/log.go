package p2p

import (
	"context"
	"log/slog"
)

// asides logs what a library says by the way, at info, at debug: it is about the
// library's own inner life.
type asides struct{ slog.Handler }

func lowered(l slog.Level) slog.Level {
	if l == slog.LevelInfo {
		return slog.LevelDebug
	}
	return l
}

func (a asides) Enabled(ctx context.Context, l slog.Level) bool {
	return a.Handler.Enabled(ctx, lowered(l))
}

func (a asides) Handle(ctx context.Context, r slog.Record) error {
	r.Level = lowered(r.Level)
	return a.Handler.Handle(ctx, r)
}

func (a asides) WithAttrs(attrs []slog.Attr) slog.Handler { return asides{a.Handler.WithAttrs(attrs)} }

func (a asides) WithGroup(name string) slog.Handler { return asides{a.Handler.WithGroup(name)} }
