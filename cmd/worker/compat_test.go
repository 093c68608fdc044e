package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/events"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/risk"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// compatibility is a row of docs/compatibility.md.
type compatibility struct {
	// name is that of the subtest.
	name string
	// pattern is that of the contract's entry, whose channel it is or key.
	pattern string
	channel bool
	// theirs is what alpha-oracle does with it, ours what the worker does.
	theirs, ours string
	// prove has both do it and returns alpha-oracle's side.
	prove func(t *testing.T) *python
}

func compatibilities() []compatibility {
	return append(compatibleKeys(), compatibleChannels()...)
}

func compatibleKeys() []compatibility {
	return []compatibility{
		{
			"daily-bars-done", "jobs:daily_bars:{YYYY-MM-DD}:done", false, "may read who is done; what it adds or removes lasts until the next run",
			"adds each symbol after its row is committed and skips the members; one without a row is fetched, and taken out if that fails", proveDailyBarsDone,
		},
		{
			"fundamentals-done", "jobs:weekly_fundamentals:{YYYY-Www}:done", false, "the same, under its own `isocalendar()` of the day",
			"the same, for the ISO week", proveFundamentalsDone,
		},
		{
			"last-run", "jobs:altdata:last_run", false, "reads it with `fromisoformat`; its own last value counts until the worker's first complete run",
			"begins there, with `Z` or an offset; a time without a zone is warned of and does not count", proveLastRun,
		},
		{
			"lease", "jobs:{job}:{period}:lease", false, "may see who runs; nothing that it writes there stops or frees a run",
			"shows the owner of a live run as JSON; the claim itself is in the database", proveLease,
		},
		{
			"backfill-completed", "backfill:completed", false, "may read whose history is stored; the bars that it has stored itself count",
			"as the done-sets, without an end; asks for the sessions that have no row", proveBackfillCompleted,
		},
		{
			"tokens", "rate_limit:{name}:tokens", false, "refills by time and takes one of at least 1.0, under WATCH or in a script, with a capacity of 1; writes `str(float)`",
			"takes from the same bucket; below zero is promised, which alpha-oracle waits for", proveTokens,
		},
		{
			"last-refill", "rate_limit:{name}:last_refill", false, "`str(time.time())`",
			"reads it as it is; writes Redis' own time, to the microsecond", proveLastRefill,
		},
		{
			"limiter-extensions", "rate_limit_ext:{name}:*", false, "does not look at them; `rate_limit:*` finds none",
			"keeps what two keys cannot hold; a pause that the provider asks for is also a debt in `tokens`, so alpha-oracle keeps it too", proveExtensions,
		},
		{
			"cache", "cache:{domain}:{identifier}", false, "`json.loads(cache:fundamentals:AAPL)` is a row of the table; writes `cache:universe:sp500` with `json.dumps`",
			"writes fundamentals for an hour; uses a list that is there, dashes and all, and leaves it byte for byte", proveCache,
		},
		{
			"system-status", "system:status", false, "`json.dumps` of all parts, and rewrites it at any time",
			"changes the member `feed` and not a byte beside it", proveSystemStatus,
		},
		{
			"kill-switch", "risk:kill_switch", false, "writes `active`, `inactive` or JSON with `active`; reads the two words",
			"reads all three, keeps an activation that it finds with its reason and time, writes the two words; the table counts", proveKillSwitch,
		},
		{
			"day-trades", "risk:pdt:trades", false, "`zadd` of `json.dumps` by `toordinal()`, `zcount` from the first of five sessions on",
			"counts the same; records an order once, whoever was first; takes out nothing that counts", proveDayTrades,
		},
	}
}

func compatibleChannels() []compatibility {
	const shows = "hands each message to WebSocket clients and `worker events tail` as it was sent"
	relays := func(name, channel string, message dict) compatibility {
		return compatibility{name, channel, true, "publishes", shows, func(t *testing.T) *python {
			t.Helper()
			return proveRelay(t, channel, message)
		}}
	}
	return []compatibility{
		{"feed-disconnected", rediskey.FeedDisconnected, true, "listens", "publishes once when no source of bars answers", proveFeed},
		{"feed-reconnected", rediskey.FeedReconnected, true, "listens", "publishes once when one does again", proveFeed},
		{"circuit-breaker", rediskey.CircuitBreaker, true, "listens; publishes breakers of its own", "publishes `stale_data` and its end; " + shows, proveBreaker},
		{"alert", rediskey.RiskAlert, true, "listens", "publishes each alarm about data once", proveAlert},
		{"kill-switch-changed", rediskey.KillSwitchChanged, true, "listens; publishes its own changes", "publishes each change after it is stored; " + shows, proveKillSwitchChanged},
		relays("portfolio", rediskey.PortfolioUpdate, dict{"total_value", 100000.0, "positions", []any{dict{"symbol", "AAPL", "qty", 10}}}),
		relays("trade", rediskey.TradeExecuted, dict{"symbol", "BRK.B", "side", "buy", "price", 481.2, "fees", nil}),
		relays("approval", rediskey.TradePendingApproval, dict{"symbol", "AAPL", "note", "größer als üblich"}),
		relays("order", rediskey.OrderStatus, dict{"order_id", 4711, "status", "filled", "filled_at", "2026-03-12T14:30:00.123456+00:00"}),
		relays("signal", rediskey.SignalGenerated, dict{"strategy", "momentum", "strength", 0.30000000000000004, "live", true}),
	}
}

// TestCompatibility has alpha-oracle's side and the worker do with each key and
// each channel what docs/compatibility.md says, on a real Redis and a real
// Postgres.
func TestCompatibility(t *testing.T) {
	t.Parallel()
	for _, c := range compatibilities() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := c.prove(t)
			p.mu.Lock()
			defer p.mu.Unlock()
			for name := range p.used {
				channel, isChannel := strings.CutPrefix(name, "channel ")
				if entry, _ := rediskey.Match(name); entry.Pattern == c.pattern && !c.channel || isChannel && c.channel && channel == c.pattern {
					return
				}
			}
			t.Errorf("alpha-oracle's side has not used %s: %v", c.pattern, p.used)
		})
	}
}

// Each entry of the contract has its row, and the page shows them.
func TestCompatibilityIsComplete(t *testing.T) {
	t.Parallel()
	const path = "../../docs/compatibility.md"
	var want, got []string
	for _, e := range rediskey.All() {
		want = append(want, fmt.Sprintf("%s channel=%t", e.Pattern, e.Type == rediskey.TypeChannel))
	}
	var table strings.Builder
	table.WriteString("| key or channel | alpha-oracle | the worker | `TestCompatibility/` |\n|---|---|---|---|\n")
	for _, c := range compatibilities() {
		got = append(got, fmt.Sprintf("%s channel=%t", c.pattern, c.channel))
		what := "`" + c.pattern + "`"
		if c.channel {
			what += " (channel)"
		}
		fmt.Fprintf(&table, "| %s | %s | %s | `%s` |\n", what, c.theirs, c.ours, c.name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries of the contract without a proof (-), proofs without an entry (+): %s", diff)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := replaceBetween(t, string(text), "compatibility", table.String())
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if page != string(text) {
		t.Error("the page's table is not that of the test: go test ./cmd/worker -run TestCompatibilityIsComplete -update")
	}
}

func proveDailyBarsDone(t *testing.T) *python {
	t.Helper()
	w := newWorld(t).withServers().atNight()
	p := w.python()
	key := "jobs:daily_bars:" + sessionDate().String() + ":done"
	p.rdb.SAdd(t.Context(), key, "AAPL", "TSLA") // of which the worker has stored nothing
	w.fault("TSLA", "bad_symbol")
	if r, code := w.daily("--date", session, "--symbols", "AAPL,MSFT,TSLA"); code != exitPartial || r.Fetched != 2 || r.Outcomes[sweep.UnknownSymbol] != 1 {
		t.Errorf("exit code %d, %+v", code, r)
	}
	if got := p.smembers(key, 25*time.Hour); !slices.Equal(got, []string{"AAPL", "MSFT"}) {
		t.Errorf("done: %v", got)
	}
	p.rdb.SRem(t.Context(), key, "AAPL")
	if r, code := w.daily("--date", session, "--symbols", "AAPL,MSFT"); code != exitOK || r.Skipped != 2 || r.ProviderCalls != 0 {
		t.Errorf("again: exit code %d, %+v", code, r)
	}
	if got := p.smembers(key, 25*time.Hour); !slices.Equal(got, []string{"AAPL", "MSFT"}) {
		t.Errorf("done after that: %v", got)
	}
	return p
}

func proveFundamentalsDone(t *testing.T) *python {
	t.Helper()
	// isocalendar() of each day of ten years is the week that the worker means.
	week := func(d market.Date) string {
		year, number := d.Time().ISOWeek()
		return fmt.Sprintf("jobs:weekly_fundamentals:%d-W%02d:done", year, number)
	}
	for d := market.NewDate(2020, 1, 1); d < market.NewDate(2030, 1, 1); d++ {
		if got := rediskey.FundamentalsDone(market.WeekOf(d)); got != week(d) {
			t.Errorf("%s: %s, Python says %s", d, got, week(d))
		}
	}
	saturday := market.NewDate(2027, time.January, 2)
	w := newWeekWorld(t, saturday).withServers()
	p, key := w.python(), week(saturday)
	p.rdb.SAdd(t.Context(), key, "AAPL")
	if r, code := w.week("--symbols", "AAPL,MSFT"); code != exitOK || r.Fetched != 2 {
		t.Errorf("exit code %d, %+v", code, r)
	}
	if got := p.smembers(key, 8*24*time.Hour); !slices.Equal(got, []string{"AAPL", "MSFT"}) {
		t.Errorf("done: %v", got)
	}
	if r, _ := w.week("--symbols", "AAPL,MSFT"); r.Skipped != 2 || r.ProviderCalls != 0 {
		t.Errorf("again: %+v", r)
	}
	return p
}

func proveLastRun(t *testing.T) *python {
	t.Helper()
	const key = rediskey.AltDataLastRun
	w := newAltWorld(t, 1).withServers()
	p := w.python()
	planned := func() (since time.Time) {
		t.Helper()
		var plan altdataPlan
		if code := w.decode(&plan, "run", "altdata", "--dry-run"); code != exitOK {
			t.Fatalf("plan: exit code %d", code)
		}
		return plan.Since
	}
	w.run("migrate")
	unknown := planned()
	at := time.Date(2026, 3, 10, 10, 0, 0, 123456000, time.UTC)
	newYork := at.In(market.NewYork())
	for _, c := range []struct {
		text string
		want time.Time
	}{
		{isoformat(at), at},
		{isoformat(newYork), at},
		{isoformat(at.Truncate(time.Second)), at.Truncate(time.Second)},
		{"2026-03-10T10:00:00Z", at.Truncate(time.Second)},
		{"2026-03-10T10:00:00.123456Z", at},
		{"2026-03-10T10:00:00.123456", unknown}, // datetime.utcnow().isoformat()
	} {
		p.set(key, c.text)
		if got := planned(); !got.Equal(c.want) && got.Sub(c.want).Abs() > time.Minute {
			t.Errorf("%s: the next run begins at %s, want %s", c.text, got, c.want)
		}
	}
	p.set(key, isoformat(at))
	r, code := w.altdata()
	if code != exitOK || !strings.HasPrefix(r.Period, "2026-03-10T10:00:00") {
		t.Errorf("exit code %d, %+v", code, r)
	}
	if got := p.aware(p.get(key)); got.Format(time.RFC3339) != strings.Split(r.Period, "/")[1] {
		t.Errorf("last run %s of %s", got, r.Period)
	}
	return p
}

func proveLease(t *testing.T) *python {
	t.Helper()
	w := newWorld(t).withServers()
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Premium: true})
	w.fault("AAPL", "slow_headers")
	p := w.python()
	key := "jobs:daily_bars:" + sessionDate().String() + ":lease"
	p.rdb.Set(t.Context(), key, jsonDumps(dict{"owner", "somebody else"}), time.Hour)
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan said, 1)
	go func() { ended <- w.runContext(ctx, "run", "daily-bars", "--date", session, "--symbols", "AAPL") }()
	w.awaitCalls(1)
	// It is shown beside the run, which does not wait for that.
	lease := p.loads(p.until(key, func(text string) bool { return strings.Contains(text, `"run"`) }))
	p.wantKeys(lease, "run", "owner", "since")
	p.aware(lease["since"])
	if ttl := p.rdb.TTL(t.Context(), key).Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("the lease expires in %s", ttl)
	}
	cancel(signalError{15})
	<-ended
	if n := p.rdb.Exists(t.Context(), key).Val(); n != 0 {
		t.Error("the lease outlives its run")
	}
	return p
}

func proveBackfillCompleted(t *testing.T) *python {
	t.Helper()
	w := newWorld(t).withServers().atNight()
	p := w.python()
	const key = rediskey.BackfillCompleted
	p.rdb.SAdd(t.Context(), key, "AAPL") // of which the worker has stored nothing
	if r, code := w.report("backfill", "--years", "1", "--symbols", "AAPL,MSFT"); code != exitOK || r.Fetched != 2 {
		t.Errorf("exit code %d, %+v", code, r)
	}
	p.rdb.Del(t.Context(), key)
	if r, code := w.report("backfill", "--years", "1", "--symbols", "AAPL,MSFT"); code != exitOK || r.Skipped != 2 || r.ProviderCalls != 0 {
		t.Errorf("again: exit code %d, %+v", code, r)
	}
	if got := p.smembers(key, 0); !slices.Equal(got, []string{"AAPL", "MSFT"}) {
		t.Errorf("completed: %v", got)
	}
	// A history that alpha-oracle has stored is not fetched again.
	w.exec(`INSERT INTO ohlcv (symbol, timestamp, open, high, low, close, volume, source) SELECT 'NVDA', d AT TIME ZONE 'UTC', 1, 1, 1, 1, 1, 'ibkr'
		FROM generate_series('2025-03-01'::timestamp, '2026-03-12', '1 day') d WHERE extract(isodow FROM d) <= 5`)
	p.rdb.SAdd(t.Context(), key, "NVDA")
	if r, code := w.report("backfill", "--years", "1", "--symbols", "NVDA"); code != exitOK || r.Skipped != 1 || r.ProviderCalls != 0 {
		t.Errorf("stored by alpha-oracle: exit code %d, %+v", code, r)
	}
	if got := p.smembers(key, 0); !slices.Contains(got, "NVDA") {
		t.Errorf("completed: %v", got)
	}
	return p
}

// plainBucket is the rate limit of a name as alpha-oracle takes from it: refill
// by the time that has passed, cap, need one, take one.
type plainBucket struct {
	*python
	tokens, refill string
	perSecond      float64
}

func (p *python) bucket(name string, perSecond float64) plainBucket {
	return plainBucket{p, "rate_limit:" + name + ":tokens", "rate_limit:" + name + ":last_refill", perSecond}
}

func (b plainBucket) write(c redis.Cmdable, tokens, now float64) {
	c.Set(b.t.Context(), b.tokens, str(tokens), 0)
	c.Set(b.t.Context(), b.refill, str(now), 0)
}

// take takes a token if there is one and nobody else was quicker.
func (b plainBucket) take() (took bool, err error) {
	ctx := b.t.Context()
	err = b.rdb.Watch(ctx, func(tx *redis.Tx) error {
		tokens, err := tx.Get(ctx, b.tokens).Float64()
		if err != nil {
			return err
		}
		last, err := tx.Get(ctx, b.refill).Float64()
		now := b.now()
		tokens = min(1, tokens+(now-last)*b.perSecond)
		if err != nil || tokens < 1 {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			b.write(pipe, tokens-1, now)
			return nil
		})
		took = err == nil
		return err
	}, b.tokens, b.refill)
	if errors.Is(err, redis.TxFailedErr) {
		return false, nil
	}
	return took, err
}

func proveTokens(t *testing.T) *python {
	t.Helper()
	const perSecond = 8.0
	w := newAltWorld(t, 2).withServers()
	w.env["SA_DATA__EDGAR__RATE_LIMIT_PER_SECOND"] = "8"
	w.run("migrate")
	p := w.python()
	b := p.bucket("edgar", perSecond)
	b.write(p.rdb, 1, p.now())
	began := w.now()
	var taken []time.Time
	take := func() {
		took, err := b.take()
		if err != nil {
			t.Error(err)
		} else if took {
			taken = append(taken, w.now())
		}
	}
	take()
	ctx, stop := context.WithCancel(t.Context())
	var greedy sync.WaitGroup
	greedy.Go(func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			take()
			<-ticker.C
		}
	})
	r, code := w.altdata("--only", "edgar", "--since", "2026-03-10")
	stop()
	greedy.Wait()
	if code != exitOK {
		t.Fatalf("exit code %d, %+v", code, r)
	}
	all := slices.Clone(taken)
	for _, c := range w.sim.EDGARCalls() {
		all = append(all, c.At)
	}
	slices.SortFunc(all, time.Time.Compare)
	for i, at := range all {
		// The first was there already. A call that comes late is no fault.
		if earliest := began.Add(time.Duration(float64(i) / perSecond * float64(time.Second))).Add(-time.Millisecond); at.Before(earliest) {
			t.Fatalf("call %d of both came at %s after the first, the limit allows it after %s", i+1, at.Sub(began), earliest.Sub(began))
		}
	}
	if len(taken) == 0 || len(all)-len(taken) < 8 {
		t.Errorf("alpha-oracle took %d of %d", len(taken), len(all))
	}
	return p
}

func proveLastRefill(t *testing.T) *python {
	t.Helper()
	const perSecond = 8.0
	w := newAltWorld(t, 1).withServers()
	w.env["SA_DATA__EDGAR__RATE_LIMIT_PER_SECOND"] = "8"
	w.run("migrate")
	p := w.python()
	b := p.bucket("edgar", perSecond)
	left := func() int {
		t.Helper()
		var s status
		if code := w.decode(&s, "status"); code != exitOK {
			t.Fatalf("status: exit code %d", code)
		}
		i := slices.IndexFunc(s.Quotas, func(q quotaStatus) bool { return q.Name == "edgar" })
		if i < 0 || s.Quotas[i].Left == nil {
			return -1
		}
		return *s.Quotas[i].Left
	}
	for _, c := range []struct {
		tokens, at float64
		want       int
	}{
		{0, p.now() - 60, 1},
		{1e-05, p.now() - 60, 1},
		{-400, p.now(), 0},
		{0.30000000000000004, 1773320400, 1},
	} {
		if b.write(p.rdb, c.tokens, c.at); left() != c.want {
			t.Errorf("%s tokens at %s: %d may go, want %d", str(c.tokens), str(c.at), left(), c.want)
		}
	}
	// What alpha-oracle has promised ahead is waited for.
	began, now := w.now(), p.now()
	b.write(p.rdb, -8, now)
	if r, code := w.altdata("--only", "edgar", "--since", "2026-03-11"); code != exitOK {
		t.Fatalf("exit code %d, %+v", code, r)
	}
	calls := w.sim.EDGARCalls()
	if len(calls) == 0 || calls[0].At.Before(began.Add(time.Second)) {
		t.Errorf("%d calls, the first %+v, %s is too early", len(calls), calls[0], began)
	}
	if at := p.float(b.refill); at <= now || at > p.now()+1 || p.float(b.tokens) > 1 {
		t.Errorf("last refill %v, tokens %v", at, p.float(b.tokens))
	}
	return p
}

func proveExtensions(t *testing.T) *python {
	t.Helper()
	w := newWorld(t).withServers().atNight()
	w.sim.Fault("AAPL", simulator.TooManyRequests, 1)
	p := w.python()
	if r, code := w.daily("--date", session, "--symbols", "AAPL,MSFT"); code != exitOK {
		t.Fatalf("exit code %d, %+v", code, r)
	}
	if keys := p.rdb.Keys(t.Context(), "rate_limit:*").Val(); !slices.Equal(slices.Sorted(slices.Values(keys)), []string{"rate_limit:alpha_vantage:last_refill", "rate_limit:alpha_vantage:tokens"}) {
		t.Errorf("alpha-oracle finds %v", keys)
	}
	if n := p.rdb.Exists(t.Context(), "rate_limit_ext:alpha_vantage:share").Val(); n != 1 {
		t.Error("the worker has not slowed down")
	}
	return p
}

func proveCache(t *testing.T) *python {
	t.Helper()
	w := newWeekWorld(t, sessionDate()).withServers()
	p := w.python()
	if r, code := w.week("--symbols", "AAPL"); code != exitOK || r.Fetched != 1 {
		t.Fatalf("exit code %d, %+v", code, r)
	}
	row := p.loads(p.rdb.Get(t.Context(), "cache:fundamentals:AAPL").Val())
	columns := strings.Split("symbol timestamp pe_ratio pb_ratio ps_ratio ev_ebitda debt_to_equity current_ratio roe revenue_growth earnings_growth dividend_yield market_cap sector industry", " ")
	p.wantKeys(row, slices.Clone(columns)...)
	p.aware(row["timestamp"])
	if stored := p.loads(w.query(`SELECT row_to_json(f)::text FROM (SELECT ` + strings.Join(columns[2:], ", ") + ` FROM fundamentals WHERE symbol = 'AAPL') f`)); stored["pe_ratio"] == nil {
		t.Errorf("stored %v", stored)
	} else {
		for column, value := range stored {
			if row[column] != value {
				t.Errorf("%s: cached %v, stored %v", column, row[column], value)
			}
		}
	}
	if ttl := p.rdb.TTL(t.Context(), "cache:fundamentals:AAPL").Val(); ttl <= 0 || ttl > time.Hour {
		t.Errorf("it expires in %s", ttl)
	}

	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = sp500
	symbols := []any{"ZZZZ"}
	for _, s := range market.SP500()[4:] {
		symbols = append(symbols, strings.ReplaceAll(string(s), ".", "-"))
	}
	text := jsonDumps(symbols)
	p.rdb.Set(t.Context(), rediskey.CacheSP500, text, time.Hour)
	var plans []jobPlan
	if code := w.decode(&plans, "plan", "fundamentals"); code != exitOK || len(plans) != 1 || plans[0].Symbols != len(symbols) {
		t.Errorf("exit code %d, %+v; want %d symbols", code, plans, len(symbols))
	}
	if got := p.rdb.Get(t.Context(), rediskey.CacheSP500).Val(); got != text {
		t.Errorf("the list is now %.60s...", got)
	}
	return p
}

func proveSystemStatus(t *testing.T) *python {
	t.Helper()
	w := newWorld(t).withServers().atNight()
	p, good := w.python(), w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"]
	status := func(broker, feed string) string {
		return jsonDumps(dict{"broker", broker, "feed", feed, "latency_ms", 12.5, "note", "café", "parts", []any{dict{"feed", "not this one"}}})
	}
	p.set(rediskey.SystemStatus, status("connected", "connected"))
	w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"] = "http://127.0.0.1:1"
	w.daily("--date", session, "--symbols", "AAPL")
	if got := p.get(rediskey.SystemStatus); got != status("connected", "disconnected") {
		t.Errorf("lost: %s", got)
	}
	p.set(rediskey.SystemStatus, status("disconnected", "disconnected"))
	w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"] = good
	w.daily("--date", session, "--symbols", "AAPL")
	if got := p.get(rediskey.SystemStatus); got != status("disconnected", "connected") {
		t.Errorf("back: %s", got)
	}
	return p
}

func proveKillSwitch(t *testing.T) *python {
	t.Helper()
	const key = rediskey.KillSwitch
	w := newWorld(t).withServers()
	w.run("migrate")
	p := w.python()
	since := time.Now().UTC().Add(-2 * time.Hour).Truncate(time.Microsecond)
	p.set(key, jsonDumps(dict{"active", true, "reason", "drawdown größer 5 %", "activated_at", isoformat(since), "operator", "system"}))
	s, code := w.switched("status")
	if code != exitOK || !s.Active || s.Reason != "drawdown größer 5 %" || s.Activated == nil || !s.Activated.Equal(since) || s.Table != risk.Inactive {
		t.Errorf("exit code %d, %+v", code, s)
	}
	row := func() string { return w.query(`SELECT active::text || ' ' || coalesce(reason, '') FROM kill_switch`) }
	// alpha-oracle's activation is older than the cooldown.
	if s, code := w.switched("deactivate", "--reason", "looked at it"); code != exitOK || s.Active || p.get(key) != "inactive" || !strings.HasPrefix(row(), "false ") {
		t.Errorf("exit code %d, %+v, Redis %s, table %s", code, s, p.get(key), row())
	}
	if _, code := w.switched("activate", "--reason", "prices off"); code != exitOK || p.get(key) != "active" || row() != "true prices off" {
		t.Errorf("exit code %d, Redis %s, table %s", code, p.get(key), row())
	}
	for _, text := range []string{jsonDumps(dict{"active", false, "reason", nil}), "inactive"} {
		p.set(key, text)
		if s, code := w.switched("status"); code != exitOK || !s.Active || s.Redis != risk.Inactive || len(s.Notes) != 1 {
			t.Errorf("%s beside an active table: exit code %d, %+v", text, code, s)
		}
	}
	return p
}

// The windows are those of a calendar of holidays that is not the worker's.
func proveDayTrades(t *testing.T) *python {
	t.Helper()
	const key = rediskey.PDTTrades
	w := newWorld(t).withServers()
	p := w.python()
	windows := []struct {
		day, from string
		ordinal   int
	}{
		{"2024-02-29", "2024-02-23", 738939},
		{"2024-12-31", "2024-12-24", 739244},
		{"2025-01-01", "2024-12-24", 739244},
		{"2025-01-09", "2025-01-02", 739253}, // a day of mourning
		{"2025-01-10", "2025-01-03", 739254},
		{"2025-01-15", "2025-01-08", 739259},
		{"2025-04-21", "2025-04-14", 739355},
		{"2025-07-04", "2025-06-27", 739429},
		{"2025-11-28", "2025-11-21", 739576},
		{"2025-12-25", "2025-12-18", 739603},
		{"2025-12-31", "2025-12-24", 739609},
		{"2026-01-01", "2025-12-24", 739609},
		{"2026-01-05", "2025-12-29", 739614},
		{"2026-01-20", "2026-01-13", 739629},
		{"2026-03-08", "2026-03-02", 739677}, // the night of the clock change
		{"2026-03-12", "2026-03-06", 739681},
		{"2026-04-06", "2026-03-30", 739705},
		{"2026-06-21", "2026-06-12", 739779},
		{"2026-07-06", "2026-06-29", 739796},
		{"2027-01-02", "2026-12-24", 739974},
	}
	var count struct {
		Count int64
		From  string
	}
	for _, c := range windows {
		day, err := market.ParseDate(c.day)
		if err != nil {
			t.Fatal(err)
		}
		for d := day - 20; d <= day+2; d++ {
			p.zadd(d, "p-"+d.String())
		}
		w.now = func() time.Time { return day.In(market.NewYork(), 12, 0) }
		want, err := p.rdb.ZCount(t.Context(), key, fmt.Sprint(c.ordinal), "+inf").Result()
		if code := w.decode(&count, "pdt", "count"); err != nil || code != exitOK || count.Count != want || count.From != c.from {
			t.Errorf("%s: exit code %d, %+v; Python counts %d from %s on (%v)", c.day, code, count, want, c.from, err)
		}
	}

	w.now = func() time.Time { return sessionDate().In(market.NewYork(), 12, 0) }
	before := p.rdb.ZRangeArgs(t.Context(), redis.ZRangeArgs{Key: key, ByScore: true, Start: toordinal(sessionDate()) - 8, Stop: "+inf"}).Val()
	for order, args := range map[string][]string{"4711": {"--symbol", "BRK.B"}, "p-2026-03-11": {"--symbol", "AAPL", "--date", "2026-03-11"}} {
		known := order != "4711"
		if s := w.run(append([]string{"pdt", "record", "--order-id", order}, args...)...); s.code != exitOK || strings.Contains(s.out, "already") != known {
			t.Errorf("%s: exit code %d: %s%s", order, s.code, s.out, s.err)
		}
	}
	after := p.rdb.ZRangeWithScores(t.Context(), key, 0, -1).Val()
	if len(after) != len(before)+1 {
		t.Errorf("%d trades that are kept and a new one have become %d", len(before), len(after))
	}
	i := slices.IndexFunc(after, func(z redis.Z) bool { return !slices.Contains(before, fmt.Sprint(z.Member)) })
	member := p.loads(fmt.Sprint(after[i].Member))
	p.wantKeys(member, "symbol", "date", "recorded_at", "order_id")
	p.aware(member["recorded_at"])
	if after[i].Score != 739687 || member["symbol"] != "BRK.B" || member["date"] != session || member["order_id"] != "4711" {
		t.Errorf("%+v", after[i])
	}
	return p
}

// zadd records a day trade as alpha-oracle does.
func (p *python) zadd(d market.Date, order string) {
	p.t.Helper()
	member := jsonDumps(dict{"symbol", "AAPL", "date", d.String(), "recorded_at", isoformat(d.In(time.UTC, 15, 0)), "order_id", order})
	if err := p.rdb.ZAdd(p.t.Context(), rediskey.PDTTrades, redis.Z{Score: float64(toordinal(d)), Member: member}).Err(); err != nil {
		p.t.Fatal(err)
	}
}

func proveFeed(t *testing.T) *python {
	t.Helper()
	w := newWorld(t).withOwnRedis().atNight()
	p, good := w.python(), w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"]
	lost, back := p.subscribe(rediskey.FeedDisconnected), p.subscribe(rediskey.FeedReconnected)
	w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"] = "http://127.0.0.1:1"
	w.daily("--date", session, "--symbols", "AAPL")
	message := lost("reason", "")
	p.wantKeys(message, "timestamp", "reason")
	p.aware(message["timestamp"])
	if message["reason"] == "" {
		t.Error("no reason is given")
	}
	w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"] = good
	w.daily("--date", session, "--symbols", "AAPL,MSFT")
	message = back("timestamp", "")
	p.wantKeys(message, "timestamp", "symbol_count")
	p.aware(message["timestamp"])
	if message["symbol_count"] != 2.0 {
		t.Errorf("%v", message)
	}
	return p
}

func proveBreaker(t *testing.T) *python {
	t.Helper()
	w := newWorld(t).withOwnRedis()
	w.simulate(simulator.Config{Key: canary, Premium: true})
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL"
	p, v := w.python(), w.watched()
	look := func() {
		t.Helper()
		v.ahead.Add(int64(2 * barsAge))
		b := events.NewBreaker(events.StaleData, events.NewPublisher(v.s.rdb), barsJournal{v.s.db}, v.now)
		if err := v.lookAtBars(t.Context(), b); err != nil {
			t.Error(err)
		}
	}
	next := p.subscribe(rediskey.CircuitBreaker)
	look()
	opened := next("reason", session)
	run, err := v.s.db.Begin(t.Context(), "daily_bars", session, "test")
	if err != nil {
		t.Fatal(err)
	}
	bar := market.Bar{Date: sessionDate(), Open: 1, High: 1, Low: 1, Close: 1, Volume: 1}
	if _, err := run.SaveBars(t.Context(), market.Series{Symbol: "AAPL", Source: "test", Bars: []market.Bar{bar}}, sessionDate()); err != nil {
		t.Fatal(err)
	}
	if err := run.End(t.Context(), store.Complete, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	look()
	closed := next("reason", session)
	for action, message := range map[string]map[string]any{"activated": opened, "deactivated": closed} {
		p.wantKeys(message, "breaker", "action", "reason", "timestamp")
		p.aware(message["timestamp"])
		if message["breaker"] != "stale_data" || message["action"] != action {
			t.Errorf("%s: %v", action, message)
		}
	}
	p.relayed(rediskey.CircuitBreaker, dict{"breaker", "vix_spike", "action", "activated", "reason", "VIX 45.2 > 40", "timestamp", isoformat(time.Now().UTC())})
	return p
}

func proveAlert(t *testing.T) *python {
	t.Helper()
	w := newWorld(t).withOwnRedis().atNight()
	w.fault("TSLA", "bad_symbol")
	p := w.python()
	next := p.subscribe(rediskey.RiskAlert)
	w.daily("--date", session, "--symbols", "AAPL,TSLA")
	message := next("type", "unknown_symbol")
	p.wantKeys(message, "type", "severity", "reason", "symbols", "timestamp")
	p.aware(message["timestamp"])
	if diff := cmp.Diff([]any{"TSLA"}, message["symbols"]); diff != "" || message["severity"] != "info" {
		t.Errorf("%v", message)
	}
	return p
}

func proveKillSwitchChanged(t *testing.T) *python {
	t.Helper()
	w := newWorld(t).withServers()
	w.run("migrate")
	p := w.python()
	next := p.subscribe(rediskey.KillSwitchChanged)
	for _, action := range []string{"activate", "deactivate"} {
		args := []string{action, "--reason", action + " in " + t.Name()}
		if action == "deactivate" {
			args = append(args, "--force")
		}
		if s, code := w.switched(args...); code != exitOK {
			t.Errorf("exit code %d, %+v", code, s)
		}
		message := next("reason", args[2])
		p.wantKeys(message, "action", "reason", "operator", "timestamp")
		p.aware(message["timestamp"])
		if message["action"] != action || message["operator"] != "human" {
			t.Errorf("%v", message)
		}
	}
	p.relayed(rediskey.KillSwitchChanged, dict{"action", "activate", "reason", "drawdown", "operator", "system", "timestamp", isoformat(time.Now().UTC())})
	return p
}

func proveRelay(t *testing.T, channel string, message dict) *python {
	t.Helper()
	p := newWorld(t).withServers().python()
	p.relayed(channel, message)
	return p
}

// relayed publishes a message and checks that a WebSocket client gets it byte for
// byte, and that Go programs can read it.
func (p *python) relayed(channel string, message dict) {
	p.t.Helper()
	payload := jsonDumps(append(slices.Clone(message), "sent_by", p.t.Name()))
	ready := make(chan struct{}, 1)
	hub := events.NewHub(events.HubConfig{Redis: p.world.redis(), Now: time.Now, Ready: func(events.Gap) { ready <- struct{}{} }})
	ctx, stop := context.WithCancel(context.WithoutCancel(p.t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	server := httptest.NewServer(hub)
	p.t.Cleanup(func() {
		stop()
		running.Wait()
		server.Close()
	})
	<-ready
	tailing, end := context.WithCancelCause(p.t.Context())
	var printed, logged syncBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(tailing, []string{"events", "tail", "--json", "--channel", channel}, process{Environ: environOf(p.env), Stdin: strings.NewReader(""), Stdout: &printed, Stderr: &logged})
	}()
	defer func() {
		end(signalError{2})
		<-ended
	}()
	p.await(func() bool { return strings.Contains(logged.String(), "listening") }, "events tail listens")
	conn, _, err := websocket.Dial(p.t.Context(), server.URL, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	p.publish(channel, payload)
	patience, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	for want := `{"channel":"` + channel + `","data":` + payload + `}`; ; {
		_, text, err := conn.Read(patience)
		if err != nil {
			p.t.Fatalf("no %s: %v", want, err)
		}
		if string(text) == want {
			break // others speak on the channels of a shared server too
		}
	}
	p.await(func() bool { return strings.Contains(printed.String(), p.t.Name()) }, "events tail prints the message")
	decoded, err := events.Decode(channel, payload)
	if err != nil || decoded.Channel() != channel || decoded.Check() != nil {
		p.t.Errorf("%+v, %v", decoded, err)
	}
}
