package runner_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/store"
)

// A journal in memory keeps final states and the order of ticks, as the database
// does.
func TestMemory(t *testing.T) {
	t.Parallel()
	now := at(time.December, 7, 18, 30)
	m := runner.Memory{Now: func() time.Time { return now }}
	for i, note := range []struct {
		period, state string
		day           int
		noted         bool
	}{
		{"b", store.Running, 8, true},
		{"a", store.Missed, 7, true},
		{"c", store.Incomplete, 9, true},
		{"b", store.GaveUp, 0, true},
		{"b", store.Running, 0, false},
		{"b", store.Complete, 0, true},
		{"b", store.Missed, 0, false},
		{"a", store.Running, 0, false},
		{"a", store.Complete, 10, true},
		{"d", store.NoSession, 6, true},
		{"d", store.Complete, 0, false},
	} {
		p := store.PeriodInfo{Job: "job", Period: note.period, State: note.state}
		if note.day > 0 {
			p.Tick = at(time.December, note.day, 0, 0)
		}
		if noted, err := m.NotePeriod(t.Context(), p); noted != note.noted || err != nil {
			t.Errorf("note %d: %v, %v", i, noted, err)
		}
	}
	if _, err := m.NotePeriod(t.Context(), store.PeriodInfo{Job: "job", Period: "a", State: "odd"}); err == nil {
		t.Error("a state that there is not is accepted")
	}
	rows, err := m.Periods(t.Context(), "job", 3)
	if err != nil {
		t.Fatal(err)
	}
	want := []store.PeriodInfo{
		{Job: "job", Period: "a", State: store.Complete, Tick: at(time.December, 10, 0, 0), Noted: now},
		{Job: "job", Period: "c", State: store.Incomplete, Tick: at(time.December, 9, 0, 0), Noted: now},
		{Job: "job", Period: "b", State: store.Complete, Tick: at(time.December, 8, 0, 0), Noted: now},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error(diff)
	}
}

// Runs come with the newest first; one that never ended has no end.
func TestMemoryOfRuns(t *testing.T) {
	t.Parallel()
	now := at(time.December, 7, 18, 30)
	m := runner.Memory{Now: func() time.Time { return now }}
	m.Begin("other", "x")
	end := m.Begin("job", "a")
	m.Begin("job", "b")
	now = now.Add(time.Minute)
	end("ok", []byte("{}"))
	got, err := m.Runs(t.Context(), "job", 5)
	if err != nil {
		t.Fatal(err)
	}
	want := []store.RunInfo{
		{ID: 3, Job: "job", Period: "b", Status: "running", Started: now.Add(-time.Minute)},
		{ID: 2, Job: "job", Period: "a", Status: "ok", Started: now.Add(-time.Minute), Finished: now, Report: []byte("{}")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
