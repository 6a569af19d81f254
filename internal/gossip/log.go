package gossip

import (
	"context"
	"log/slog"
)

// asides logs what a library says by the way, at info, at debug: it is about the
// library's own inner life. So it does with one warning, of bookkeeping that lags
// behind under load: it costs a peer a little of what its connection is worth.
type asides struct{ slog.Handler }

const lagging = "error bumping delivery tag"

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
	if r.Level = lowered(r.Level); r.Message == lagging {
		if r.Level = slog.LevelDebug; !a.Handler.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return a.Handler.Handle(ctx, r)
}

func (a asides) WithAttrs(attrs []slog.Attr) slog.Handler { return asides{a.Handler.WithAttrs(attrs)} }

func (a asides) WithGroup(name string) slog.Handler { return asides{a.Handler.WithGroup(name)} }
