package runner_test

import (
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
)

func (w *world) outlook() runner.Outlook {
	w.t.Helper()
	r := runner.Runner{Journal: w, Now: func() time.Time { return w.now }}
	o, err := r.Outlook(w.t.Context(), &w.tasks()[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// At each moment of a period an outlook says what will come of it, and when.
func TestOutlook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 7, 18, 0))
	w.answer = func(job, period string, n int) (sweep.Report, time.Duration, error) {
		if period == "2026-12-07" && n == 1 {
			return report(job, period, sweep.Stored, sweep.NotReady), time.Minute, nil
		}
		return report(job, period, sweep.Stored), time.Minute, nil
	}
	w.until(w.now)
	if o := w.outlook(); o.Due != "" || o.Open != nil || !o.Next.Equal(at(time.December, 7, 18, 30)) {
		t.Errorf("before the tick: %+v", o)
	}
	w.now = at(time.December, 7, 18, 40)
	if o := w.outlook(); o.Due != "2026-12-07" || !o.Since.Equal(at(time.December, 7, 18, 30)) || !o.Next.Equal(at(time.December, 8, 18, 30)) {
		t.Errorf("nobody has begun it: %+v", o)
	}
	w.until(w.now.Add(time.Minute))
	if o := w.outlook(); o.Open == nil || o.Open.Period != "2026-12-07" || !o.Again.Equal(at(time.December, 7, 18, 56)) || o.Why == "" {
		t.Errorf("not ready: %+v", o)
	}
	w.until(at(time.December, 7, 20, 0))
	if o := w.outlook(); o.Open != nil || o.Due != "" || len(o.Newest) == 0 || o.Newest[0].State != store.Complete {
		t.Errorf("complete: %+v", o)
	}
}

// A run that another process has at work is no matter of waiting.
func TestOutlookOfARunAtWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 7, 19, 0))
	w.ran("daily_bars", "2026-12-07", store.Running)
	if o := w.outlook(); o.Open == nil || !o.Again.IsZero() {
		t.Errorf("%+v", o)
	}
}

// What could be asked for again only when another period is due is given up then,
// and nothing says that it waits for a worker.
func TestOutlookOfAPeriodThatIsTooLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 7, 18, 30))
	w.answer = func(job, period string, _ int) (sweep.Report, time.Duration, error) {
		took := time.Minute
		if job == "daily_bars" {
			took = 6 * time.Hour // until after midnight: the day of the next session is spent too
		}
		return report(job, period, sweep.Stored, sweep.Quota), took, nil
	}
	w.until(at(time.December, 8, 0, 40))
	o := w.outlook()
	if o.Open == nil || o.Open.Period != "2026-12-07" || !o.Again.IsZero() || !o.Until.Equal(at(time.December, 8, 18, 30)) || o.Why == "" {
		t.Errorf("%+v", o)
	}
}
