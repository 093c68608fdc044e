package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const three = "AAPL,MSFT,BRK.B"

func TestDailyBarsOnTheEmbeddedDefault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	report, code := w.daily("--date", session, "--symbols", three)
	if code != exitOK || report.Fetched != 3 || report.ProviderCalls != 3 || report.Rows != 300 {
		t.Fatalf("exit %d, report %+v", code, report)
	}
	s := w.open()
	for _, symbol := range []market.Symbol{"AAPL", "MSFT", "BRK.B"} {
		checkBars(t, s.db, symbol, sessionDate())
	}
	again, code := w.daily("--date", session, "--symbols", three)
	if code != exitOK || again.Skipped != 3 || again.ProviderCalls != 0 || len(w.sim.Calls()) != 3 {
		t.Errorf("again: exit %d, %d calls, report %+v", code, len(w.sim.Calls()), again)
	}
	if words := w.run("run", "daily-bars", "--date", session, "--symbols", three); !strings.Contains(words.out, "nothing to fetch") {
		t.Errorf("the third run does not say why it fetches nothing: %s", words.out)
	}
}

func TestDailyBarsOnServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	rdb, ctx := w.redis(), t.Context()
	load := func(wantCalls int) {
		t.Helper()
		before := len(w.sim.Calls())
		report, code := w.daily("--date", session, "--symbols", three)
		if code != exitOK || report.ProviderCalls != wantCalls || len(w.sim.Calls())-before != wantCalls {
			t.Fatalf("exit %d, %d calls, want %d: %+v", code, len(w.sim.Calls())-before, wantCalls, report)
		}
		members := rdb.SMembers(ctx, "jobs:daily_bars:2026-03-12:done").Val()
		slices.Sort(members)
		if diff := cmp.Diff([]string{"AAPL", "BRK.B", "MSFT"}, members); diff != "" {
			t.Errorf("done-set: %s", diff)
		}
		if ttl := rdb.TTL(ctx, "jobs:daily_bars:2026-03-12:done").Val(); ttl <= 0 || ttl > 90000*time.Second {
			t.Errorf("TTL of the done-set: %s", ttl)
		}
	}
	load(3)
	for _, key := range []string{"rate_limit:alpha_vantage:tokens", "rate_limit:alpha_vantage:last_refill"} {
		text := rdb.Get(ctx, key).Val()
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			t.Errorf("%s holds %q", key, text)
		}
		if ttl := rdb.TTL(ctx, key).Val(); ttl >= 0 {
			t.Errorf("%s expires in %s", key, ttl)
		}
	}
	load(0)
	if err := rdb.FlushDB(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	load(0)
	w.exec("delete from ohlcv where symbol = 'MSFT'")
	w.exec("delete from ingest_items where unit = 'MSFT'")
	load(1)
	s := w.open()
	for _, symbol := range []market.Symbol{"AAPL", "MSFT", "BRK.B"} {
		checkBars(t, s.db, symbol, sessionDate())
	}
	w.noCanary("Redis", w.dumpRedis())
	w.noCanary("the database", w.dump())
}

func (w *world) exec(sql string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.env["SA_DATABASE__URL"])
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(w.t.Context())) }()
	if _, err := conn.Exec(w.t.Context(), sql); err != nil {
		w.t.Fatal(err)
	}
}

// dumpRedis is all keys with their values.
func (w *world) dumpRedis() string {
	w.t.Helper()
	ctx, rdb := w.t.Context(), w.redis()
	var text strings.Builder
	scan := rdb.Scan(ctx, 0, "*", 100).Iterator()
	for scan.Next(ctx) {
		info := keyInfo{Key: scan.Val(), Type: rdb.Type(ctx, scan.Val()).Val()}
		if err := info.read(ctx, rdb); err != nil {
			w.t.Fatal(err)
		}
		fmt.Fprintln(&text, info.Key, info.Value)
	}
	if err := scan.Err(); err != nil {
		w.t.Fatal(err)
	}
	return text.String()
}

// query returns the one value that a query gives, as text.
func (w *world) query(sql string) (text string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.env["SA_DATABASE__URL"])
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(w.t.Context())) }()
	if err := conn.QueryRow(w.t.Context(), sql).Scan(&text); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return text
}

// dump is all text of the ledger and of the fundamentals, a row a line, with
// the transaction that wrote it.
func (w *world) dump() string {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.env["SA_DATABASE__URL"])
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(w.t.Context())) }()
	var text strings.Builder
	for _, table := range []string{
		"ingest_runs", "ingest_items", "ingest_attempts", "ingest_calls", "ingest_watermarks", "fundamentals", "fundamental_facts",
		"insider_transactions", "insider_filings", "insider_owners", "ingest_filings", "short_interest",
	} {
		rows, err := conn.Query(w.t.Context(), "select '"+table+" ' || t.xmin || ' ' || t::text || E'\\n' from "+table+" t order by 1")
		if err != nil {
			w.t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			w.t.Fatal(err)
		}
		text.WriteString(strings.Join(lines, ""))
	}
	return text.String()
}

func TestABadAnswerNeverBecomesData(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]sweep.Outcome{
		"empty_object":    sweep.NoData,
		"empty_body":      sweep.BadPayload,
		"empty_series":    sweep.NoData,
		"html":            sweep.BadPayload,
		"truncated_close": sweep.BadPayload,
		"truncated_gzip":  sweep.ProviderError,
		"wrong_symbol":    sweep.BadPayload,
		"high_below_low":  sweep.BadPayload,
		"bad_number":      sweep.BadPayload,
		"unknown_message": sweep.BadPayload,
		"burst":           sweep.LimitNote,
		"bad_symbol":      sweep.UnknownSymbol,
		"stale":           sweep.NoData,
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).withServers()
			w.fault("MSFT", fault)
			report, code := w.daily("--date", session, "--symbols", three)
			if code != exitPartial || report.Fetched != 2 || len(report.Failures) != 1 {
				t.Fatalf("exit %d, report %+v", code, report)
			}
			if f := report.Failures[0]; f.Symbol != "MSFT" || f.Class != want || f.Message == "" {
				t.Errorf("failure %+v, want class %s", f, want)
			}
			members := w.redis().SMembers(t.Context(), "jobs:daily_bars:2026-03-12:done").Val()
			if slices.Contains(members, "MSFT") || len(members) != 2 {
				t.Errorf("done-set %v", members)
			}
			w.sim.Reset()
			healed, code := w.daily("--date", session, "--symbols", three)
			if code != exitOK || healed.Fetched != 1 || healed.Skipped != 2 {
				t.Errorf("after the fault: exit %d, report %+v", code, healed)
			}
			checkBars(t, w.open().db, "MSFT", sessionDate())
			w.noCanary("the database", w.dump())
			w.noCanary("Redis", w.dumpRedis())
		})
	}
}

func (w *world) fault(symbol market.Symbol, name string) {
	w.t.Helper()
	f, err := simulator.ParseFault(name)
	if err != nil {
		w.t.Fatal(err)
	}
	w.sim.Fault(symbol, f, -1)
}

func TestASpentDayEndsTheRun(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, perDay, fault string }{
		{"by our own count", "2", ""},
		{"by the provider's word", "100", "daily_quota"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).withServers()
			w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = test.perDay
			if test.fault != "" {
				w.fault("BRK.B", test.fault)
			}
			report, code := w.daily("--date", session, "--symbols", three+",NVDA,META,XOM,JPM,KO,PEP,IBM,GE,F,GM,T")
			if code != exitQuota || report.Status != sweep.OutOfQuota || report.Outcomes[sweep.Quota] != report.Failed {
				t.Fatalf("exit %d, report %+v", code, report)
			}
			calls := len(w.sim.Calls())
			if calls > 6 {
				t.Errorf("%d calls although the day was spent", calls)
			}
			// Neither our own count nor the provider's word is lost with Redis.
			w.redis().FlushDB(t.Context())
			if _, code := w.daily("--date", session, "--symbols", "UPS,FDX,CAT"); code != exitQuota || len(w.sim.Calls()) != calls {
				t.Errorf("after Redis lost the count: exit %d, %d more calls", code, len(w.sim.Calls())-calls)
			}
		})
	}
}

func TestAWrongKeyStopsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["SA_ALPHA_VANTAGE_API_KEY"] = "CANARYwrong1"
	report, code := w.daily("--date", session, "--symbols", three+",NVDA,META,XOM,JPM,KO,PEP")
	if code != exitFailed || report.Status != sweep.Failed || len(w.sim.Calls()) > workers {
		t.Errorf("exit %d, %d calls, report %+v", code, len(w.sim.Calls()), report)
	}
	if strings.Contains(strings.Join(w.said, ""), "CANARYwrong1") {
		t.Error("the wrong key was printed")
	}
}

// A free key cannot reach back beyond 100 sessions: one call finds that out,
// not one a symbol.
func TestASessionBeyondTheKeysReach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	report, code := w.daily("--date", "2024-03-12", "--symbols", three+",NVDA,META,XOM,JPM,KO,PEP")
	if code != exitFailed || report.Outcomes[sweep.PremiumOnly] != 9 || len(w.sim.Calls()) > workers {
		t.Errorf("exit %d, %d calls, report %+v", code, len(w.sim.Calls()), report)
	}
	if !strings.Contains(report.Stopped, "premium key") {
		t.Errorf("stopped: %q", report.Stopped)
	}
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	w.fault("", "premium_full")
	// The plan is not what the configuration says: one more call finds out.
	if report, code = w.daily("--date", session, "--symbols", "AAPL"); code != exitFailed || report.ProviderCalls != 2 {
		t.Errorf("with a key that is not premium: exit %d, report %+v", code, report)
	}
	w.sim.Reset()
	report, code = w.daily("--date", "2024-03-12", "--symbols", "AAPL")
	if code != exitOK || report.Rows != 100 || w.sim.Calls()[len(w.sim.Calls())-1].OutputSize != "full" {
		t.Errorf("with a premium key: exit %d, report %+v", code, report)
	}
}

func TestTwoRunsOfOnePeriod(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	holder := w.open()
	if err := holder.db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	held, err := holder.db.Begin(t.Context(), "daily_bars", session, "elsewhere pid 7")
	if err != nil {
		t.Fatal(err)
	}
	refused := w.run("run", "daily-bars", "--date", session, "--symbols", three)
	if refused.code != exitFailed || !strings.Contains(refused.err, "elsewhere pid 7") || !strings.Contains(refused.err, "--wait") {
		t.Errorf("exit %d: %s", refused.code, refused.err)
	}
	if len(w.sim.Calls()) != 0 {
		t.Errorf("%d calls by the refused run", len(w.sim.Calls()))
	}
	done := make(chan said, 1)
	go func() { done <- w.run("run", "daily-bars", "--date", session, "--symbols", three, "--wait") }()
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if s := <-done; s.code != exitOK {
		t.Errorf("after the wait: exit %d: %s", s.code, s.err)
	}
}

func TestInterruptKeepsProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = "600"
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		w.awaitCalls(3)
		cancel(signalError{15})
	}()
	s := w.runContext(ctx, "run", "daily-bars", "--date", session, "--symbols", "sp500", "--json")
	if s.code != 143 || !strings.Contains(s.out, `"status": "interrupted"`) {
		t.Fatalf("exit %d: %s %s", s.code, s.out[:min(400, len(s.out))], s.err)
	}
	stored, err := w.open().db.DoneUnits(t.Context(), "daily_bars", session)
	if err != nil || len(stored) < 1 {
		t.Fatalf("%d symbols kept, %v", len(stored), err)
	}
	// A call that was sent is finished and kept.
	if calls := len(w.sim.Calls()); calls != len(stored) {
		t.Errorf("%d calls for %d stored symbols", calls, len(stored))
	}
	var names []string
	for _, u := range stored {
		names = append(names, string(u))
	}
	report, code := w.daily("--date", session, "--symbols", strings.Join(names, ","))
	if code != exitOK || report.ProviderCalls != 0 {
		t.Errorf("resumed: exit %d, %+v", code, report)
	}
}

// The embedded default must not take a reply without the session for done.
func TestAMissingSessionIsAskedForAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fault("MSFT", "missing_last")
	first, code := w.daily("--date", session, "--symbols", three)
	if code != exitPartial || first.Outcomes[sweep.NoData] != 1 || first.Rows != 299 {
		t.Fatalf("exit %d, report %+v", code, first)
	}
	w.sim.Reset()
	second, code := w.daily("--date", session, "--symbols", three)
	if code != exitOK || second.ProviderCalls != 1 || second.Rows != 1 {
		t.Errorf("again: exit %d, report %+v", code, second)
	}
	checkBars(t, w.open().db, "MSFT", sessionDate())
}

// A provider that answers rubbish is not asked once a symbol.
func TestAProviderThatAnswersRubbish(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fault("", "html")
	report, code := w.daily("--date", session, "--symbols", "sp500")
	if calls := len(w.sim.Calls()); code != exitFailed || calls > 5+workers || report.Outcomes[sweep.BadPayload] != report.Symbols {
		t.Errorf("exit %d, %d calls, outcomes %v, stopped %q", code, calls, report.Outcomes, report.Stopped)
	}
}

// A database that hangs does not keep a process that is told to stop.
func TestStoppingWhileTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := testenv.PostgresServer(t)
	w.env["SA_REDIS__URL"], w.env["SA_DATABASE__URL"] = testenv.Redis(t), server.URL()
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = "600"
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan said, 1)
	go func() {
		done <- w.runContext(ctx, "run", "daily-bars", "--date", session, "--symbols", "sp500", "--json")
	}()
	w.awaitCalls(3)
	server.Pause()
	cancel(signalError{15})
	select {
	case s := <-done:
		if s.code != 143 {
			t.Errorf("exit %d: %s", s.code, s.err)
		}
	case <-time.After(20 * time.Second):
		t.Error("still running 20 s after the signal")
	}
	server.Continue()
}

func TestServersThatAreNotThere(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, env, url, want string }{
		{"Redis", "SA_REDIS__URL", "redis://:CANARYk3y9876@127.0.0.1:1/0", "127.0.0.1:1"},
		{"Postgres", "SA_DATABASE__URL", "postgres://user:CANARYk3y9876@127.0.0.1:1/db", "127.0.0.1:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.env[test.env] = test.url
			started := time.Now()
			s := w.run("run", "daily-bars", "--date", session, "--symbols", three)
			if s.code != exitFailed || !strings.Contains(s.err, test.want) {
				t.Errorf("exit %d: %s", s.code, s.err)
			}
			if took := time.Since(started); took > 10*time.Second {
				t.Errorf("gave up after %s", took)
			}
			if len(w.sim.Calls()) != 0 {
				t.Error("a call was made")
			}
		})
	}
}

// The servers go away in mid-run: nothing is done that is not stored, and the
// report says so. What was stored is found again when they are back.
func TestServersThatGoAwayInMidRun(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		stop func(*world) (stop, start func())
	}{
		{"Redis", func(w *world) (func(), func()) {
			server := testenv.RedisServer(w.t)
			w.env["SA_REDIS__URL"], w.env["SA_DATABASE__URL"] = server.URL(), testenv.Postgres(w.t)
			return server.Stop, server.Start
		}},
		{"Postgres", func(w *world) (func(), func()) {
			server := testenv.PostgresServer(w.t)
			w.env["SA_REDIS__URL"], w.env["SA_DATABASE__URL"] = testenv.Redis(w.t), server.URL()
			return server.Stop, server.Start
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			stop, start := test.stop(w)
			w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = "1200"
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				w.awaitCalls(5)
				stop()
			}()
			report, code := w.daily("--date", session, "--symbols", "sp500")
			<-stopped
			if code != exitPartial && code != exitFailed || report.Failed == 0 || report.Stopped == "" {
				t.Errorf("exit %d, report %+v", code, report.Outcomes)
			}
			start()
			s := w.open()
			stored, err := s.db.DoneUnits(t.Context(), "daily_bars", session)
			// A commit whose answer was lost with the server may be there.
			if err != nil || len(stored) < report.Fetched || len(stored) > report.Fetched+workers {
				t.Errorf("%d symbols done in the ledger, the report says %d (%v)", len(stored), report.Fetched, err)
			}
			for _, symbol := range stored {
				checkBars(t, s.db, symbol, sessionDate())
			}
		})
	}
}
