package sqlite_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/sqlite"
)

// When the machine's clock is set while a run has its claim, two runs of the
// period can never both store: set forward past the lease, the next one takes
// over and the first is refused; set back, the first keeps it.
func TestClockIsSetDuringARun(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{-24 * time.Hour, -time.Hour, -10 * time.Minute, 10 * time.Minute, time.Hour, 24 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "worker.db")
			first := begin(t, migrated(t, path, sqlite.Options{}))
			stepped := open(t, path, sqlite.Options{Now: func() time.Time { return time.Now().Add(step) }})
			second, err := stepped.Begin(t.Context(), "daily_bars", "2026-03-12", "worker-2")
			_, saved := first.SaveBars(t.Context(), series(3), day)
			if step < 0 {
				if !errors.As(err, new(*store.HeldError)) || saved != nil {
					t.Errorf("set back: the second begins with %v, the first saves with %v", err, saved)
				}
				return
			}
			if err != nil || !errors.Is(saved, store.ErrFenced) {
				t.Fatalf("set forward: the second begins with %v, the first saves with %v", err, saved)
			}
			if _, err := second.SaveBars(t.Context(), series(3), day); err != nil {
				t.Error(err)
			}
			if err := second.End(t.Context(), "ok", nil); err != nil {
				t.Error(err)
			}
		})
	}
}
