package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

func auditTests() map[string]func(*testing.T, Database) {
	return map[string]func(*testing.T, Database){
		"audit":                             audit,
		"kill switch":                       killSwitch,
		"kill switch, cooldown":             killSwitchCooldown,
		"kill switch of many":               killSwitchOfMany,
		"kill switch, audit or nothing":     killSwitchAudited,
		"kill switch that others have left": killSwitchOfOthers,
		"forget what is done":               forgetDone,
	}
}

func entries(t testing.TB, db store.DB, action string, limit int) []store.AuditEntry {
	t.Helper()
	all, err := db.Audit(t.Context(), action, limit)
	check(t, err)
	for i := range all {
		if time.Since(all[i].At).Abs() > time.Hour || all[i].At.Location() != time.UTC {
			t.Errorf("written at %v", all[i].At)
		}
		all[i].At, all[i].ID = time.Time{}, 0
	}
	return all
}

func audit(t *testing.T, d Database) {
	db, other := open(t, d), d.Open(t)
	equal(t, "at first", []store.AuditEntry{}, entries(t, db, "", 10))
	run := store.AuditEntry{Actor: "alice", Action: "run", Detail: "line one\n'two'; zero \x00", Origin: "10.0.0.1"}
	clearing := store.AuditEntry{Actor: "bob", Action: "keys.clear"}
	for _, e := range []store.AuditEntry{run, clearing, run} {
		check(t, db.SaveAudit(t.Context(), e))
	}
	run.Detail = "line one\n'two'; zero \uFFFD"
	equal(t, "all", []store.AuditEntry{run, clearing, run}, entries(t, other, "", 10))
	equal(t, "the newest", []store.AuditEntry{run, clearing}, entries(t, other, "", 2))
	equal(t, "of an action", []store.AuditEntry{clearing}, entries(t, other, "keys.clear", 10))
	for _, e := range []store.AuditEntry{{Action: "run"}, {Actor: "alice"}} {
		if err := db.SaveAudit(t.Context(), e); err == nil {
			t.Errorf("%+v was saved", e)
		}
	}
	if n := len(entries(t, other, "", 10)); n != 3 {
		t.Errorf("%d rows", n)
	}
}

func on(actor, reason string) store.KillSwitchChange {
	return store.KillSwitchChange{Active: true, Actor: actor, Reason: reason, Origin: "a test"}
}

func off(actor, reason string, cooldown time.Duration) store.KillSwitchChange {
	return store.KillSwitchChange{Actor: actor, Reason: reason, Cooldown: cooldown}
}

func change(t testing.TB, db store.DB, c store.KillSwitchChange) (store.KillSwitch, bool) {
	t.Helper()
	state, changed, err := db.ChangeKillSwitch(t.Context(), c)
	check(t, err)
	return state, changed
}

func killSwitchOf(t testing.TB, db store.DB) store.KillSwitch {
	t.Helper()
	state, err := db.KillSwitch(t.Context())
	check(t, err)
	return state
}

func killSwitch(t *testing.T, d Database) {
	db, other := open(t, d), d.Open(t)
	equal(t, "at first", store.KillSwitch{}, killSwitchOf(t, db))
	if _, changed := change(t, db, off("alice", "nothing to do", 0)); changed {
		t.Error("an inactive switch was made inactive")
	}
	first, changed := change(t, db, on("alice", "feed is wrong"))
	if !changed || !first.Active || first.Reason != "feed is wrong" || time.Since(first.Activated).Abs() > time.Hour || !first.Deactivated.IsZero() {
		t.Errorf("changed %t: %+v", changed, first)
	}
	if p := first.Pending; p == nil || p.Actor != "alice" || p.Action != store.ActivateKillSwitch || p.Detail != "feed is wrong" || p.Origin != "a test" || p.ID == 0 {
		t.Errorf("pending %+v", p)
	}
	equal(t, "of another handle", first, killSwitchOf(t, other))

	second, changed := change(t, other, on("bob", "me too"))
	if changed {
		t.Error("an active switch was made active")
	}
	equal(t, "first time and reason stay", first, second)
	check(t, db.KillSwitchCopied(t.Context(), first.Pending.ID-1))
	equal(t, "an older one was copied", first, killSwitchOf(t, db))
	check(t, db.KillSwitchCopied(t.Context(), first.Pending.ID))
	if p := killSwitchOf(t, other).Pending; p != nil {
		t.Errorf("pending although it is copied: %+v", p)
	}

	ended, changed := change(t, db, off("bob", "all is well", 0))
	if !changed || ended.Active || !ended.Activated.Equal(first.Activated) || ended.Deactivated.Before(first.Activated) || ended.Reason != first.Reason {
		t.Errorf("changed %t: %+v", changed, ended)
	}
	if p := ended.Pending; p == nil || p.Actor != "bob" || p.Action != store.DeactivateKillSwitch || p.Detail != "all is well" {
		t.Errorf("pending %+v", p)
	}
	since := time.Date(2026, time.March, 12, 14, 30, 0, 123456000, time.FixedZone("", -4*60*60))
	again := on("system", "found in Redis")
	again.Since = since
	if state, _ := change(t, db, again); !state.Activated.Equal(since) || state.Reason != "found in Redis" || !state.Deactivated.IsZero() {
		t.Errorf("activated before: %+v", state)
	}
	equal(t, "audit", []string{"system", "bob", "bob", "alice", "alice"}, actorsOf(entries(t, db, "", 10)))
	if n := d.Other(t, `SELECT count(*) FROM kill_switch`); n != "1" {
		t.Errorf("%s rows", n)
	}
	for _, bad := range []store.KillSwitchChange{on("", "why"), on("alice", ""), off("alice", "", 0)} {
		if _, _, err := db.ChangeKillSwitch(t.Context(), bad); err == nil {
			t.Errorf("%+v was carried out", bad)
		}
	}
}

func actorsOf(all []store.AuditEntry) []string {
	actors := make([]string, len(all))
	for i, e := range all {
		actors[i] = e.Actor
	}
	return actors
}

func killSwitchCooldown(t *testing.T, d Database) {
	db := open(t, d)
	state, _ := change(t, db, on("alice", "feed is wrong"))
	refused := func(what string, until time.Time) {
		t.Helper()
		_, changed, err := db.ChangeKillSwitch(t.Context(), off("bob", "too early", time.Hour))
		var early *store.CooldownError
		if !errors.As(err, &early) || changed || !early.Until.Equal(until) {
			t.Errorf("%s: changed %t, %v; want it refused until %v", what, changed, err, until)
		}
		if now := killSwitchOf(t, db); !now.Active {
			t.Errorf("%s: %+v", what, now)
		}
	}
	refused("just activated", state.Activated.Add(time.Hour))
	d.Other(t, `UPDATE kill_switch SET activated_at = NULL`)
	refused("activated nobody knows when", time.Time{})
	equal(t, "audit", []string{"alice"}, actorsOf(entries(t, db, "", 10)))
	if _, changed := change(t, db, off("bob", "without a cooldown", 0)); !changed {
		t.Error("not deactivated")
	}
	before := on("alice", "an hour ago")
	before.Since = time.Now().Add(-time.Hour - time.Second)
	change(t, db, before)
	if _, changed := change(t, db, off("bob", "it is over", time.Hour)); !changed {
		t.Error("not deactivated after the cooldown")
	}
}

// killSwitchOfMany lets many operators ask for the same at once: one of them
// changes it, and all are in the audit.
func killSwitchOfMany(t *testing.T, d Database) {
	handles := []store.DB{open(t, d), d.Open(t)}
	for _, c := range []store.KillSwitchChange{on("many", "on"), off("many", "off", 0), on("many", "on again")} {
		var all sync.WaitGroup
		var changes atomic.Int64
		for i := range 8 {
			all.Go(func() {
				_, changed, err := handles[i%2].ChangeKillSwitch(t.Context(), c)
				if err != nil {
					t.Error(err)
				}
				if changed {
					changes.Add(1)
				}
			})
		}
		all.Wait()
		if n := changes.Load(); n != 1 {
			t.Errorf("%s: changed %d times", c.Reason, n)
		}
	}
	if n, rows := len(entries(t, handles[0], "", 100)), d.Other(t, `SELECT count(*) FROM kill_switch`); n != 24 || rows != "1" {
		t.Errorf("%d rows of the audit, %s of the switch", n, rows)
	}
}

func killSwitchAudited(t *testing.T, d Database) {
	db := open(t, d)
	d.Other(t, `ALTER TABLE ingest_audit RENAME COLUMN detail TO broken`)
	if _, _, err := db.ChangeKillSwitch(t.Context(), on("alice", "why")); err == nil {
		t.Error("changed without an audit")
	}
	if n := d.Other(t, `SELECT count(*) FROM kill_switch`); n != "0" {
		t.Errorf("%s rows are stored", n)
	}
	d.Other(t, `ALTER TABLE ingest_audit RENAME COLUMN broken TO detail`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := db.ChangeKillSwitch(ctx, on("alice", "why")); err == nil {
		t.Error("changed although it was cancelled")
	}
	equal(t, "afterwards", store.KillSwitch{}, killSwitchOf(t, db))
}

func killSwitchOfOthers(t *testing.T, d Database) {
	db := open(t, d)
	d.Other(t, `INSERT INTO kill_switch (id, active) VALUES (3, true), (7, false)`)
	if s := killSwitchOf(t, db); !s.Active || s.Reason != "" || !s.Activated.IsZero() {
		t.Errorf("one of two rows is active: %+v", s)
	}
	change(t, db, off("alice", "both of them", 0))
	if n := d.Other(t, `SELECT count(*) FROM kill_switch WHERE active`); n != "0" {
		t.Errorf("%s rows are active still", n)
	}
	if s, changed := change(t, db, on("alice", "again")); !changed || !s.Active || s.Reason != "again" {
		t.Errorf("changed %t: %+v", changed, s)
	}
	if id := d.Other(t, `SELECT id FROM kill_switch WHERE active`); id != "7" {
		t.Errorf("row %s is active", id)
	}
}

func forgetDone(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	save(t, run, seriesOf(aapl, 3), day)
	history := begin(t, db, store.BackfillJob, "history")
	_, err := history.SaveHistory(t.Context(), seriesOf("MSFT", 3), market.Range{From: day - 9, To: day}, true)
	check(t, err)
	alt := begin(t, db, store.AltDataJob, "window")
	check(t, alt.SaveLastRun(t.Context(), tick(0), []market.Symbol{aapl}))
	before := ledgerOf(t, db, aapl)

	check(t, db.ForgetDone(t.Context()))
	after := ledgerOf(t, db, aapl)
	equal(t, "done", []market.Symbol{}, after.Done)
	equal(t, "bars", before.Bars, after.Bars)
	equal(t, "attempts", before.Attempts, after.Attempts)
	equal(t, "whose turn it is", before.Coverage, after.Coverage)
	done, err := db.DoneUnits(t.Context(), store.BackfillJob, store.HistoryKind)
	check(t, err)
	equal(t, "history", []market.Symbol{}, done)
	known, err := db.BarCoverage(t.Context(), 0)
	check(t, err)
	for symbol, c := range known {
		if c.Stored.Len() != 3 || len(c.Answered) != 0 {
			t.Errorf("%s: %d days are stored, answered are those of %d sources", symbol, c.Stored.Len(), len(c.Answered))
		}
	}
	last, err := db.LastRun(t.Context(), store.AltDataJob)
	check(t, err)
	covered, err := db.Coverage(t.Context(), store.AltDataJob)
	check(t, err)
	if !last.IsZero() || len(covered) != 0 || len(known) != 2 {
		t.Errorf("last run %v, covered %v, %d symbols are known", last, covered, len(known))
	}
	if strings.TrimSpace(d.Other(t, `SELECT count(*) FROM ingest_runs`)) != "3" {
		t.Error("runs are gone")
	}
}
