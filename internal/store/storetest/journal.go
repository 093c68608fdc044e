package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/store"
)

func states() []string {
	return []string{store.Running, store.Incomplete, store.Complete, store.NoSession, store.Missed, store.GaveUp}
}

func tick(n int) time.Time {
	return time.Date(2026, time.March, 12, 22, 30, 0, 123456000, time.UTC).AddDate(0, 0, n)
}

func note(t testing.TB, db store.DB, p store.PeriodInfo) bool {
	t.Helper()
	noted, err := db.NotePeriod(t.Context(), p)
	check(t, err)
	return noted
}

// periods returns the journal without the times at which it was written, which it
// compares with the clock.
func periods(t testing.TB, db store.DB, job string, limit int) []store.PeriodInfo {
	t.Helper()
	all, err := db.Periods(t.Context(), job, limit)
	check(t, err)
	for i := range all {
		if time.Since(all[i].Noted).Abs() > time.Hour || all[i].Noted.Location() != time.UTC || all[i].Tick.Location() != time.UTC {
			t.Errorf("noted at %v, due at %v", all[i].Noted, all[i].Tick)
		}
		all[i].Noted = time.Time{}
	}
	return all
}

func journal(t *testing.T, d Database) {
	db, other := open(t, d), d.Open(t)
	equal(t, "at first", []store.PeriodInfo{}, periods(t, db, "", 10))
	newYork := time.FixedZone("", -4*60*60)
	second := store.PeriodInfo{Job: job, Period: "2026-03-13", State: store.Missed, Reason: "down from 12 to 14 March", Tick: tick(1)}
	local := second
	local.Tick = second.Tick.In(newYork)
	first := store.PeriodInfo{Job: job, Period: period, State: store.Incomplete, Reason: "3 of 5 symbols", Tick: tick(0), RunID: 7}
	weekly := store.PeriodInfo{Job: "weekly_fundamentals", Period: "2026-W11", State: store.NoSession, Tick: tick(2)}
	manual := store.PeriodInfo{Job: job, Period: "2026-03-20", State: store.Complete}
	for _, p := range []store.PeriodInfo{local, manual, weekly, first} {
		if !note(t, db, p) {
			t.Errorf("%+v was not noted", p)
		}
	}
	equal(t, "all", []store.PeriodInfo{weekly, second, first, manual}, periods(t, other, "", 10))
	equal(t, "of a job", []store.PeriodInfo{second, first, manual}, periods(t, other, job, 10))
	equal(t, "the newest", []store.PeriodInfo{weekly, second}, periods(t, other, "", 2))
	equal(t, "of an unknown job", []store.PeriodInfo{}, periods(t, other, "backfill", 10))

	first.State = store.Running
	again := first
	again.Tick, again.RunID, again.Reason = time.Time{}, 0, ""
	note(t, db, again)
	equal(t, "tick, run and reason stay", []store.PeriodInfo{second, first, manual}, periods(t, other, job, 10))
	first.Tick, first.RunID = tick(5), 8
	note(t, db, first)
	equal(t, "the newest tick first", []store.PeriodInfo{first, second, manual}, periods(t, other, job, 10))

	hostile := "line one\n'two'; \x1b[31m " + strings.Repeat("x", 5000)
	first.Reason = hostile + "zero \x00 and \xff"
	note(t, db, first)
	equal(t, "reason", hostile+"zero \uFFFD and \uFFFD", periods(t, other, job, 1)[0].Reason)
}

// allowed says whether to may follow from; "" is a period that nothing is known
// of.
func allowed(from, to string) bool {
	switch from {
	case "", store.Running, store.Incomplete:
		return true
	case store.Missed, store.GaveUp:
		return to == store.Complete
	}
	return false
}

// journalStates tries every state after every other.
func journalStates(t *testing.T, d Database) {
	db := open(t, d)
	for i, from := range states() {
		for j, to := range states() {
			name := fmt.Sprintf("%s to %s", from, to)
			want := store.PeriodInfo{Job: name, Period: period, State: from, Reason: "first", Tick: tick(i)}
			if !note(t, db, want) {
				t.Errorf("%s: the first was not noted", name)
			}
			next := store.PeriodInfo{Job: name, Period: period, State: to, Reason: "second", Tick: tick(j), RunID: 5}
			if allowed(from, to) {
				want = next
			}
			if noted := note(t, db, next); noted != allowed(from, to) {
				t.Errorf("%s: noted: %t", name, noted)
			}
			equal(t, name, []store.PeriodInfo{want}, periods(t, db, name, 10))
		}
	}
}

func journalOfAnOwner(t *testing.T, d Database) {
	db, other := open(t, d), d.Open(t)
	stale := begin(t, db, job, period)
	want := store.PeriodInfo{Job: job, Period: period, State: store.Running, Tick: tick(0), RunID: stale.ID()}
	noted, err := stale.NotePeriod(t.Context(), store.PeriodInfo{State: store.Running, Tick: tick(0), RunID: 999})
	check(t, err)
	equal(t, "noted", true, noted)
	equal(t, "its own period", []store.PeriodInfo{want}, periods(t, other, "", 10))
	check(t, stale.Release())

	owner := begin(t, other, job, period)
	for _, p := range []store.PeriodInfo{{State: store.Complete}, {Job: job, Period: "2026-03-11", State: store.GaveUp}} {
		noted, err := stale.NotePeriod(t.Context(), p)
		fenced(t, "NotePeriod", err)
		equal(t, "noted by a stale run", false, noted)
	}
	equal(t, "after the notes of a stale run", []store.PeriodInfo{want}, periods(t, other, "", 10))

	missed := store.PeriodInfo{Job: job, Period: "2026-03-11", State: store.Complete, Tick: tick(-1), RunID: owner.ID()}
	want.State, want.RunID = store.Complete, owner.ID()
	for _, p := range []store.PeriodInfo{{State: store.Complete}, missed} {
		for _, first := range []bool{true, false} {
			noted, err := owner.NotePeriod(t.Context(), p)
			check(t, err)
			equal(t, "noted by the owner", first, noted)
		}
	}
	equal(t, "after the notes of the owner", []store.PeriodInfo{want, missed}, periods(t, other, "", 10))
	check(t, owner.End(t.Context(), "ok", nil))
	_, err = owner.NotePeriod(t.Context(), store.PeriodInfo{Job: "other", Period: "x", State: store.Complete})
	fenced(t, "NotePeriod after End", err)
}

// journalOfMany lets many note the end of the same periods: of each one does.
func journalOfMany(t *testing.T, d Database) {
	handles := []store.DB{open(t, d), d.Open(t)}
	ends := []string{store.NoSession, store.Missed, store.GaveUp}
	var noted [10]atomic.Int32
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for n := range noted {
				ok, err := handles[i%2].NotePeriod(t.Context(), store.PeriodInfo{Job: job, Period: fmt.Sprint(n), State: ends[i%3], Tick: tick(n)})
				if err != nil {
					t.Error(err)
				}
				if ok {
					noted[n].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for n := range noted {
		equal(t, fmt.Sprintf("notes of %d", n), int32(1), noted[n].Load())
	}
	equal(t, "rows", len(noted), len(periods(t, handles[0], job, 100)))
}

func journalBadInput(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	good := store.PeriodInfo{Job: job, Period: period, State: store.Complete, Tick: tick(0)}
	for name, spoil := range map[string]func(*store.PeriodInfo){
		"no job":             func(p *store.PeriodInfo) { p.Job = "" },
		"no period":          func(p *store.PeriodInfo) { p.Period = "" },
		"a job of no text":   func(p *store.PeriodInfo) { p.Job = "a\x00b" },
		"a period of \xff":   func(p *store.PeriodInfo) { p.Period = "\xff" },
		"no state":           func(p *store.PeriodInfo) { p.State = "" },
		"an unknown state":   func(p *store.PeriodInfo) { p.State = "done" },
		"a tick in 10000":    func(p *store.PeriodInfo) { p.Tick = tick(0).AddDate(8000, 0, 0) },
		"a tick before year": func(p *store.PeriodInfo) { p.Tick = tick(0).AddDate(-3000, 0, 0) },
	} {
		bad := good
		spoil(&bad)
		for who, noter := range map[string]interface {
			NotePeriod(ctx context.Context, p store.PeriodInfo) (bool, error)
		}{"db": db, "run": run} {
			if noted, err := noter.NotePeriod(t.Context(), bad); err == nil || noted {
				t.Errorf("%s, %s: noted: %t", who, name, noted)
			}
		}
	}
	bad := good
	bad.RunID = -1
	if _, err := db.NotePeriod(t.Context(), bad); err == nil {
		t.Error("run -1 was noted")
	}
	equal(t, "noted", []store.PeriodInfo{}, periods(t, db, "", 10))
}

// journalModel compares random notes with a map.
func journalModel(t *testing.T, d Database) {
	db := open(t, d)
	var jobs atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		name := fmt.Sprintf("job-%d", jobs.Add(1))
		known := map[string]store.PeriodInfo{}
		for range rapid.IntRange(1, 8).Draw(rt, "notes") {
			p := store.PeriodInfo{
				Job: name, Period: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "period"),
				State: rapid.SampledFrom(states()).Draw(rt, "state"), Reason: rapid.SampledFrom([]string{"", "x"}).Draw(rt, "reason"),
				RunID: int64(rapid.IntRange(0, 2).Draw(rt, "run")),
			}
			if rapid.Bool().Draw(rt, "due") {
				p.Tick = tick(rapid.IntRange(0, 3).Draw(rt, "tick"))
			}
			old := known[p.Period]
			noted, err := db.NotePeriod(t.Context(), p)
			if err != nil || noted != allowed(old.State, p.State) {
				rt.Fatalf("%+v after %+v: %t, %v", p, old, noted, err)
			}
			if !noted {
				continue
			}
			if p.Tick.IsZero() {
				p.Tick = old.Tick
			}
			if p.RunID == 0 {
				p.RunID = old.RunID
			}
			if p.State == store.Running && p.Reason == "" {
				p.Reason = old.Reason
			}
			known[p.Period] = p
		}
		got := periods(t, db, name, 10)
		for i, p := range got {
			if known[p.Period] != p || i > 0 && got[i-1].Tick.Before(p.Tick) {
				rt.Fatalf("the journal is %+v, want %+v", got, known)
			}
		}
		if len(got) != len(known) || slices.ContainsFunc(got, func(p store.PeriodInfo) bool { return p.Job != name }) {
			rt.Fatalf("the journal is %+v, want %+v", got, known)
		}
	})
}
