package risk_test

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/risk"
	"github.com/alpha-oracle/worker/internal/store"
)

func TestActivateAndDeactivate(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		ctx, t := w.t.Context(), w.t
		changed, err := w.k.Activate(ctx, w.order("feed is wrong"))
		if err != nil || !changed {
			t.Fatalf("changed %t, %v", changed, err)
		}
		w.agree(true)
		if ttl := w.rdb.TTL(ctx, rediskey.KillSwitch).Val(); ttl != -1 {
			t.Errorf("it expires in %s", ttl)
		}
		said := w.messages()
		var m map[string]string
		if len(said) != 1 || json.Unmarshal([]byte(said[0]), &m) != nil {
			t.Fatalf("published %q", said)
		}
		at, err := time.Parse("2006-01-02T15:04:05Z", m["timestamp"])
		if err != nil || time.Since(at).Abs() > time.Hour || len(m) != 4 || m["action"] != "activate" || m["operator"] != "human" || !strings.HasSuffix(m["reason"], ": feed is wrong") {
			t.Errorf("published %v, %v", m, err)
		}

		first := w.row()
		if changed, err := w.k.Activate(ctx, w.order("me too")); err != nil || changed {
			t.Errorf("again: changed %t, %v", changed, err)
		}
		if again := w.row(); !again.Activated.Equal(first.Activated) || again.Reason != first.Reason {
			t.Errorf("was %+v, is %+v", first, again)
		}
		if said := w.messages(); len(said) != 0 {
			t.Errorf("published although nothing changed: %q", said)
		}

		var early *store.CooldownError
		if _, err := w.k.Deactivate(ctx, w.order("too early"), risk.DefaultCooldown); !errors.As(err, &early) || !early.Until.Equal(first.Activated.Add(time.Hour)) {
			t.Errorf("within the cooldown: %v", err)
		}
		w.agree(true)
		if changed, err := w.k.Deactivate(ctx, w.order("it was a false alarm"), 0); err != nil || !changed {
			t.Errorf("changed %t, %v", changed, err)
		}
		w.agree(false)
		if said := w.messages(); len(said) != 1 || !strings.Contains(said[0], `"action":"deactivate"`) || !strings.Contains(said[0], "false alarm") {
			t.Errorf("published %q", said)
		}
		entries, err := w.table.Audit(ctx, "", 10)
		if err != nil || len(entries) != 3 {
			t.Errorf("audit %+v, %v", entries, err)
		}
		for _, o := range []risk.Order{{Actor: "alice"}, {Reason: "why"}} {
			if _, err := w.k.Activate(ctx, o); err == nil {
				t.Errorf("%+v was carried out", o)
			}
			if _, err := w.k.Deactivate(ctx, o, 0); err == nil {
				t.Errorf("%+v was carried out", o)
			}
		}
	})
}

// A process that ends between two steps leaves what the failpoint leaves: all
// steps before it, and none after.
func TestWhatWasCutOffIsHealed(t *testing.T) {
	t.Parallel()
	cuts := map[string]func(w *world){
		"before the copy is read":       func(w *world) { w.redisFail.at("get") },
		"between the table and Redis":   func(w *world) { w.redisFail.at("eval") },
		"before the listeners are told": func(w *world) { w.redisFail.at("publish") },
		"after the listeners are told":  func(w *world) { w.table.at("copied") },
	}
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothStores(t, func(w *world) {
				ctx, t := w.t.Context(), w.t
				want := 1
				if strings.HasPrefix(name, "after") {
					want = 2 // the second time by the healing
				}
				cut(w)
				if _, err := w.k.Activate(ctx, w.order("feed is wrong")); !errors.Is(err, risk.ErrCopy) || !errors.Is(err, errBroken) {
					t.Fatalf("activate: %v", err)
				}
				if !w.row().Active {
					t.Fatal("the table is not first")
				}
				w.redisFail.at("")
				if s := w.k.Read(ctx); !s.Active {
					t.Errorf("before it is healed: %+v", s)
				}
				w.table.at("")
				w.reconcile()
				w.agree(true)
				if said := w.messages(); len(said) != want {
					t.Errorf("published %q", said)
				}
				if done := w.reconcile(); len(done) != 0 {
					t.Errorf("healed twice: %v", done)
				}

				if name == "before the copy is read" {
					return // a deactivation reads it before it writes anything
				}
				cut(w)
				if _, err := w.k.Deactivate(ctx, w.order("all is well"), 0); !errors.Is(err, risk.ErrCopy) {
					t.Fatalf("deactivate: %v", err)
				}
				w.redisFail.at("")
				w.table.at("")
				w.reconcile()
				w.agree(false)
				if said := w.messages(); len(said) != want {
					t.Errorf("published %q", said)
				}
			})
		})
	}
}

// The same order again does what was left over, as the healing does.
func TestTheSameOrderAgainFinishesIt(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		ctx, t := w.t.Context(), w.t
		w.redisFail.at("eval")
		if _, err := w.k.Activate(ctx, w.order("feed is wrong")); !errors.Is(err, risk.ErrCopy) {
			t.Fatal(err)
		}
		w.redisFail.at("")
		if changed, err := w.k.Activate(ctx, w.order("once more")); changed || err != nil {
			t.Errorf("changed %t, %v", changed, err)
		}
		w.agree(true)
		if said := w.messages(); len(said) != 1 || !strings.Contains(said[0], "feed is wrong") {
			t.Errorf("published %q", said)
		}
	})
}

func TestAnActivationNeedsNoTable(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		ctx, t := w.t.Context(), w.t
		w.table.at("all")
		if changed, err := w.k.Activate(ctx, w.order("feed is wrong")); !changed || !errors.Is(err, risk.ErrTable) || !errors.Is(err, errBroken) {
			t.Errorf("changed %t, %v", changed, err)
		}
		if said := w.messages(); w.copy() != "active" || len(said) != 1 || !strings.Contains(said[0], `"action":"activate"`) {
			t.Errorf("Redis says %q, published %q", w.copy(), said)
		}
		if s := w.k.Read(ctx); !s.Active || s.Table != risk.Unreadable {
			t.Errorf("read %+v", s)
		}
		if _, err := w.k.Deactivate(ctx, w.order("off"), 0); err == nil || w.copy() != "active" {
			t.Errorf("deactivated without a table: %v", err)
		}
		w.redisFail.at("*")
		if changed, err := w.k.Activate(ctx, w.order("nobody there")); changed || !errors.Is(err, risk.ErrTable) || !strings.Contains(err.Error(), rediskey.KillSwitch) {
			t.Errorf("changed %t, %v", changed, err)
		}
		w.redisFail.at("")
		const theirs = `{"active": true, "reason": "drawdown"}`
		w.set(theirs)
		if changed, err := w.k.Activate(ctx, w.order("me too")); !changed || !errors.Is(err, risk.ErrTable) || w.copy() != theirs {
			t.Errorf("changed %t, %v; Redis says %s", changed, err, w.copy())
		}
		w.table.at("")
		w.reconcile()
		if row := w.row(); !row.Active || row.Reason != "drawdown" {
			t.Errorf("the first reason is lost: %+v", row)
		}
	})
}

func TestForms(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		ctx, t := w.t.Context(), w.t
		w.later(2 * time.Minute)
		for value, want := range map[string]string{
			"active": risk.Active, "inactive": risk.Inactive,
			`{"active":true}`: risk.Active, `{"active": false}`: risk.Inactive,
			` {"reason": {"deep": [1]}, "active": true, "activated_at": 7}`: risk.Active,
			"ACTIVE": risk.Active, "active\n": risk.Active, `"active"`: risk.Active, `" Active"`: risk.Active,
			"inactive\r\n": risk.Inactive, `"inactive"`: risk.Inactive,
			`{"active": true, "vix": NaN, "high": Infinity, "low": -Infinity}`: risk.Active,
			`{"active": false, "vix": NaN, "reason": "NaN \" Infinity"}`:       risk.Inactive,
			`{"active": true, "reason": "a lone \ud800"}`:                      risk.Active,
			"{\"active\": true, \"reason\": \"\xff\"}":                         risk.Active,
			`{"reason": "a", "active": true, "reason": "b"}`:                   risk.Active,
			`{"active":false,"active":true}`:                                   risk.Active, `{"active":true,"active":false}`: risk.Active,
			`{"active":false,"active":false}`: risk.Inactive, `{"active":false,"active":null}`: risk.Unclear,
			"": risk.Unclear, "true": risk.Unclear, "{": risk.Unclear, `"active`: risk.Unclear, "inactive?": risk.Unclear,
			`{"active":"false"}`: risk.Unclear, `{"active":0}`: risk.Unclear, `{"active":NaN}`: risk.Unclear, `{"Active":false}`: risk.Unclear, `{}`: risk.Unclear, `null`: risk.Unclear,
			`{"active":false} x`: risk.Unclear, `{"active":false`: risk.Unclear, `[{"active":false}]`: risk.Unclear, `{"state":{"active":false}}`: risk.Unclear, "\xff\x00": risk.Unclear,
		} {
			w.set(value)
			s := w.k.Read(ctx)
			if s.Copy != want || s.Active != (want != risk.Inactive) || s.Table != risk.Inactive {
				t.Errorf("%q: %+v", value, s)
			}
			if want == risk.Unclear && (len(s.Notes) == 0 || s.Reason == "") {
				t.Errorf("%q counts as active without a word: %+v", value, s)
			}
			w.reconcile()
			if want == risk.Inactive {
				if row := w.row(); row.Active {
					t.Errorf("%q: table %+v", value, row)
				}
				continue
			}
			if row := w.row(); !row.Active || want == risk.Unclear && !strings.Contains(row.Reason, strconv.Quote(value)) {
				t.Errorf("%q halts, and later: table %+v", value, row)
			}
			if again := w.k.Read(ctx); !again.Active || again.Copy != risk.Active || len(again.Notes) != 0 {
				t.Errorf("%q halts, and later: %+v", value, again)
			}
			w.check(w.end())
		}
		w.check(w.rdb.Del(ctx, rediskey.KillSwitch).Err())
		if s := w.k.Read(ctx); s.Active || s.Copy != risk.Missing || len(s.Notes) != 0 {
			t.Errorf("without a key: %+v", s)
		}
		w.check(w.rdb.HSet(ctx, rediskey.KillSwitch, "active", "true").Err())
		if s := w.k.Read(ctx); !s.Active || s.Copy != risk.Unclear {
			t.Errorf("a hash: %+v", s)
		}
		w.reconcile()
		w.agree(true)
		if row := w.row(); !strings.Contains(row.Reason, "no string") {
			t.Errorf("a hash: table %+v", row)
		}
	})
}

// A deactivation ends what an unclear copy began; one that was cut off before it
// reached the copy does too, unless that was long ago.
func TestAnUnclearCopyEnds(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		ctx, t := w.t.Context(), w.t
		w.set("halt?")
		if _, err := w.k.Deactivate(ctx, w.order("at once"), risk.DefaultCooldown); !errors.As(err, new(*store.CooldownError)) {
			t.Errorf("nobody knows since when: %v", err)
		}
		w.set("halt?")
		w.redisFail.at("eval")
		if _, err := w.k.Deactivate(ctx, w.order("over"), 0); !errors.Is(err, risk.ErrCopy) {
			t.Fatal(err)
		}
		w.redisFail.at("")
		w.reconcile()
		w.agree(false)
	})
}

// What is pending for long excuses nothing: an active copy is somebody's.
func TestAHaltBesideAChangeThatIsPendingForLong(t *testing.T) {
	t.Parallel()
	for _, copied := range []string{"active", "halt?"} {
		t.Run(copied, func(t *testing.T) {
			t.Parallel()
			bothStores(t, func(w *world) {
				ctx, t := w.t.Context(), w.t
				if _, err := w.k.Activate(ctx, w.order("feed is wrong")); err != nil {
					t.Fatal(err)
				}
				w.table.at("copied")
				if _, err := w.k.Deactivate(ctx, w.order("over"), 0); !errors.Is(err, risk.ErrCopy) {
					t.Fatal(err)
				}
				w.later(10 * time.Minute)
				w.set(copied)
				_, _ = w.k.Reconcile(ctx)
				if row := w.row(); !row.Active {
					t.Errorf("the halt is lost: table %+v, Redis %s", row, w.copy())
				}
				w.table.at("")
				w.reconcile()
				w.agree(true)
			})
		})
	}
}

func TestWhoCannotReadTakesItForActive(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		ctx, t := w.t.Context(), w.t
		w.redisFail.at("*")
		if s := w.k.Read(ctx); s.Active || s.Copy != risk.Unreadable || len(s.Notes) != 1 {
			t.Errorf("the table alone: %+v", s)
		}
		w.table.at("all")
		if s := w.k.Read(ctx); !s.Active || !strings.Contains(s.Reason, errBroken.Error()) || len(s.Notes) != 2 {
			t.Errorf("neither: %+v", s)
		}
		w.redisFail.at("")
		if s := w.k.Read(ctx); !s.Active || s.Reason == "" {
			t.Errorf("no key and no table: %+v", s)
		}
		w.set("inactive")
		if s := w.k.Read(ctx); s.Active || s.Table != risk.Unreadable {
			t.Errorf("Redis alone: %+v", s)
		}
		for _, where := range []string{"*", ""} {
			w.redisFail.at(where)
			if _, err := w.k.Reconcile(ctx); !errors.Is(err, errBroken) {
				t.Errorf("reconcile: %v", err)
			}
		}
	})
}

func TestSomebodyElsesActivationStays(t *testing.T) {
	t.Parallel()
	const since = "2026-03-12T10:00:00.123456+00:00"
	bothStores(t, func(w *world) {
		ctx, t := w.t.Context(), w.t
		w.set(`{"active": true, "reason": "` + t.Name() + `: drawdown", "activated_at": "` + since + `"}`)
		if s := w.k.Read(ctx); !s.Active || !strings.HasSuffix(s.Reason, "drawdown") || len(s.Notes) != 1 {
			t.Errorf("read %+v", s)
		}
		w.reconcile()
		row, s := w.row(), w.k.Read(ctx)
		if !row.Active || !strings.HasSuffix(row.Reason, "drawdown") || row.Activated.Format("2006-01-02T15:04:05.000000-07:00") != since || !s.Active || len(s.Notes) != 0 {
			t.Errorf("table %+v, read %+v", row, s)
		}
		if said := w.messages(); len(said) != 1 || !strings.Contains(said[0], `"operator":"system"`) {
			t.Errorf("published %q", said)
		}
		w.check(w.rdb.Del(ctx, rediskey.KillSwitch).Err()) // Redis may be emptied at any time
		w.reconcile()
		w.agree(true)
		if changed, err := w.k.Deactivate(ctx, w.order("over"), risk.DefaultCooldown); !changed || err != nil {
			t.Errorf("long after: changed %t, %v", changed, err)
		}
		w.agree(false)

		// Without a time the cooldown begins when the worker first hears of it.
		w.set("active")
		if _, err := w.k.Deactivate(ctx, w.order("at once"), risk.DefaultCooldown); !errors.As(err, new(*store.CooldownError)) {
			t.Errorf("nobody knows since when: %v", err)
		}
		w.reconcile()
		w.agree(true)
		if changed, err := w.k.Deactivate(ctx, w.order("forced"), 0); !changed || err != nil {
			t.Errorf("changed %t, %v", changed, err)
		}
		w.agree(false)
	})
}

// Another program writes its two one after the other, the table first.
func TestAnotherProgramsDeactivationIsNotUndone(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		ctx, t := w.t.Context(), w.t
		if _, err := w.k.Activate(ctx, w.order("feed is wrong")); err != nil {
			t.Fatal(err)
		}
		// As alpha-oracle does it: nothing of ours is pending.
		row, _, err := w.table.DB.ChangeKillSwitch(ctx, store.KillSwitchChange{Actor: "python", Reason: "over"})
		w.check(err)
		w.check(w.table.DB.KillSwitchCopied(ctx, row.Pending.ID))
		if done := w.reconcile(); len(done) != 0 || w.row().Active || w.copy() != "active" {
			t.Errorf("between its two steps: %v, table %+v, Redis %s", done, w.row(), w.copy())
		}
		if s := w.k.Read(ctx); !s.Active {
			t.Errorf("between its two steps: %+v", s)
		}
		w.set("inactive")
		w.reconcile()
		w.agree(false)
		w.set("active")
		w.later(2 * time.Minute)
		w.reconcile()
		w.agree(true)
	})
}

// Of a copy that is newer than a deactivation that was cut off, the newer one
// counts.
func TestAnActivationAfterADeactivationThatWasCutOff(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		ctx, t := w.t.Context(), w.t
		if _, err := w.k.Activate(ctx, w.order("feed is wrong")); err != nil {
			t.Fatal(err)
		}
		w.redisFail.at("eval")
		if _, err := w.k.Deactivate(ctx, w.order("over"), 0); !errors.Is(err, risk.ErrCopy) {
			t.Fatal(err)
		}
		w.redisFail.at("")
		w.later(time.Minute)
		w.set(`{"active":true,"activated_at":"` + w.now().UTC().Format(time.RFC3339) + `"}`)
		w.later(time.Minute)
		w.reconcile()
		if row := w.row(); !row.Active || !strings.HasPrefix(w.copy(), `{"active":true`) {
			t.Errorf("table %+v, Redis %s", row, w.copy())
		}
	})
}

// A clock ahead of the table's, or a time without its zone, must not make an
// activation that nobody can end.
func TestAnActivationFromTheFutureEnds(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		t := w.t
		w.set(`{"active": true, "reason": "drawdown", "activated_at": "` + w.now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05") + `"}`)
		w.check(w.end())
		w.agree(false)
		w.later(2 * time.Minute)
		if done := w.reconcile(); len(done) != 0 {
			t.Errorf("healed: %v", done)
		}
	})
}

// Between a look and a write anything may happen to both.
func TestADeactivationWhileItIsHealed(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		ctx := w.t.Context()
		if _, err := w.k.Activate(ctx, w.order("feed is wrong")); err != nil {
			w.t.Fatal(err)
		}
		w.set("inactive") // a copy of long ago
		w.redisFail.before = map[string]func(){"eval": func() {
			row, _, err := w.table.DB.ChangeKillSwitch(ctx, store.KillSwitchChange{Actor: "python", Reason: "over"})
			w.check(err)
			w.check(w.table.DB.KillSwitchCopied(ctx, row.Pending.ID))
			w.set("inactive")
		}}
		w.reconcile()
		w.agree(false)

		w.check(w.rdb.Del(ctx, rediskey.KillSwitch).Err())
		w.redisFail.before = map[string]func(){"eval": func() { w.set(`{"active":true}`) }}
		w.later(2 * time.Minute)
		w.reconcile()
		if row := w.row(); !row.Active || w.copy() != `{"active":true}` {
			w.t.Errorf("somebody's activation was overwritten: table %+v, Redis %s", row, w.copy())
		}
	})
}

// Whoever follows the channel ends with the state: what is told late of an older
// change is not told after a newer one.
func TestTheLastWordIsTheState(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		ctx, t := w.t.Context(), w.t
		other := &risk.KillSwitch{Redis: w.rdb, Table: w.table, Now: w.now}
		change := func(k *risk.KillSwitch, active bool) {
			t.Helper()
			do := k.Activate
			if !active {
				do = func(ctx context.Context, o risk.Order) (bool, error) { return k.Deactivate(ctx, o, 0) }
			}
			if changed, err := do(ctx, w.order("a change")); !changed || err != nil {
				t.Errorf("changed %t, %v", changed, err)
			}
		}
		change(w.k, true)
		for _, last := range []bool{true, false} {
			w.messages()
			w.redisFail.before = map[string]func(){"publish": func() { change(other, last) }}
			change(w.k, !last)
			w.agree(last)
			said := w.messages()
			if len(said) == 0 || !strings.Contains(said[len(said)-1], map[bool]string{true: `"activate"`, false: `"deactivate"`}[last]) {
				t.Errorf("the switch is active: %t, and they were told %q", last, said)
			}
			if s := w.row(); s.Pending != nil {
				t.Errorf("pending: %+v", s.Pending)
			}
			if last {
				change(w.k, false)
			}
		}
	})
}

func TestTwoOperatorsAtOnce(t *testing.T) {
	t.Parallel()
	bothStores(t, func(w *world) {
		ctx, t := w.t.Context(), w.t
		for range 5 {
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					if _, err := w.k.Activate(ctx, w.order("on")); err != nil {
						t.Error(err)
					}
				})
				both.Go(func() {
					// Whoever comes second sees what the first has left.
					if _, err := w.k.Deactivate(ctx, w.order("off"), 0); err != nil && !errors.Is(err, risk.ErrCopy) {
						t.Error(err)
					}
				})
			}
			both.Wait()
			w.later(2 * time.Minute)
			w.reconcile()
			w.agree(w.row().Active)
		}
	})
}
