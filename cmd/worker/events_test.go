package main

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/events"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// withOwnRedis gives the program a Redis whose channels no other test uses.
func (w *world) withOwnRedis() *world {
	w.withServers()
	w.env["SA_REDIS__URL"] = testenv.RedisServer(w.t).URL()
	return w
}

// hears returns what is said on all channels from now on.
func (w *world) hears() <-chan *redis.Message {
	w.t.Helper()
	sub := w.redis().Subscribe(w.t.Context(), events.Channels()...)
	w.t.Cleanup(func() { _ = sub.Close() })
	for range events.Channels() {
		if _, err := sub.Receive(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	return sub.Channel()
}

// expect checks the next message; with want "" that there is none.
func expect(t *testing.T, heard <-chan *redis.Message, channel, want string) {
	t.Helper()
	if want == "" {
		select {
		case m := <-heard:
			t.Errorf("there is more: %+v", m)
		default:
		}
		return
	}
	select {
	case m := <-heard:
		if m.Channel != channel || !strings.Contains(m.Payload, want) {
			t.Errorf("%s %s; want %s with %s", m.Channel, m.Payload, channel, want)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("nothing came; want %s with %s", channel, want)
	}
}

// The feed is lost with a run that reaches nobody, told once, and back with one
// that does.
func TestFeedFollowsTheRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withOwnRedis().atNight()
	heard, good := w.hears(), w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"]
	if err := w.redis().Set(t.Context(), "system:status", `{"broker": "connected"}`, 0).Err(); err != nil {
		t.Fatal(err)
	}
	w.daily("--date", session, "--symbols", "AAPL")
	expect(t, heard, "", "")
	w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"] = "http://127.0.0.1:1"
	for i := range 2 {
		if r, code := w.daily("--date", session, "--symbols", "MSFT"); code == exitOK || r.Outcomes[sweep.ProviderError] != 1 {
			t.Fatalf("%+v, exit code %d", r, code)
		}
		if i == 0 {
			expect(t, heard, "system:feed:disconnected", `"reason":"`)
		}
	}
	if status := w.redis().Get(t.Context(), "system:status").Val(); status != `{"broker": "connected","feed":"disconnected"}` {
		t.Errorf("status %s", status)
	}
	w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"] = good
	w.daily("--date", session, "--symbols", "AAPL,MSFT")
	expect(t, heard, "system:feed:reconnected", `"symbol_count":2`)
	expect(t, heard, "", "")
}

// Where system:status cannot be used, the process remembers what it has told.
func TestTheFeedWithoutAStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withOwnRedis()
	heard := w.hears()
	if err := w.redis().Set(t.Context(), "system:status", `{"broker": "connected", "latency": NaN}`, 0).Err(); err != nil {
		t.Fatal(err)
	}
	a, s := &app{log: newTestLog(), redact: func(text string) string { return text }}, w.open()
	lost := sweep.Report{Outcomes: map[sweep.Outcome]int{sweep.ProviderError: 1}, Failures: []sweep.Failure{{Class: sweep.ProviderError, Message: "nobody answers"}}}
	for range 2 {
		a.tellFeed(t.Context(), s, lost)
	}
	a.tellFeed(t.Context(), s, sweep.Report{Symbols: 1, Outcomes: map[sweep.Outcome]int{sweep.Stored: 1}})
	expect(t, heard, "system:feed:disconnected", "nobody answers")
	expect(t, heard, "system:feed:reconnected", `"symbol_count":1`)
	expect(t, heard, "", "")
}

func TestReached(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		classes  []sweep.Outcome
		answered bool
		lost     bool
	}{
		{nil, false, false},
		{[]sweep.Outcome{sweep.ProviderError}, false, true},
		{[]sweep.Outcome{sweep.ProviderError, sweep.Interrupted}, false, true},
		{[]sweep.Outcome{sweep.Interrupted}, false, false},
		{[]sweep.Outcome{sweep.ProviderError, sweep.Stored}, true, false},
		{[]sweep.Outcome{sweep.ProviderError, sweep.NotReady}, true, false},
		{[]sweep.Outcome{sweep.UnknownSymbol}, true, false},
		{[]sweep.Outcome{sweep.Quota}, true, false},
	} {
		r := sweep.Report{Outcomes: map[sweep.Outcome]int{}}
		for _, class := range c.classes {
			r.Outcomes[class]++
			r.Failures = append(r.Failures, sweep.Failure{Class: class})
		}
		if answered, why := reached(r); answered != c.answered || (why != "") != c.lost {
			t.Errorf("%v: %v, %q", c.classes, answered, why)
		}
	}
}

// Bars that are late open the breaker once for all replicas, and close it when
// they are in.
func TestStaleData(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withOwnRedis()
	w.simulate(simulator.Config{Key: canary, Premium: true})
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,MSFT"
	heard := w.hears()
	v := w.watched() // on Friday at 10:00, when Thursday's bars have to be in
	look := func(later time.Duration) {
		t.Helper()
		v.ahead.Add(int64(later))
		for range 2 { // replicas, or restarts
			b := events.NewBreaker(events.StaleData, events.NewPublisher(v.s.rdb), barsJournal{v.s.db}, v.now)
			if err := v.lookAtBars(t.Context(), b); err != nil {
				t.Error(err)
			}
		}
	}
	load := func(symbols ...market.Symbol) {
		t.Helper()
		day := sessionDate()
		run, err := v.s.db.Begin(t.Context(), "daily_bars", day.String(), "test")
		if err != nil {
			t.Fatal(err)
		}
		for _, symbol := range symbols {
			bar := market.Bar{Date: day, Open: 1, High: 1, Low: 1, Close: 1, Volume: 1}
			if _, err := run.SaveBars(t.Context(), market.Series{Symbol: symbol, Source: "test", Bars: []market.Bar{bar}}, day); err != nil {
				t.Fatal(err)
			}
		}
		if err := run.End(t.Context(), store.Complete, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	look(0)
	expect(t, heard, "risk:circuit_breaker", `"action":"activated","reason":"bars of 2026-03-12: 0 of 2 symbols are in, 2 are missing"`)
	load("AAPL")
	look(2 * barsAge)
	look(2 * barsAge)
	expect(t, heard, "", "")
	load("MSFT")
	look(2 * barsAge)
	expect(t, heard, "risk:circuit_breaker", `"action":"deactivated","reason":"bars of 2026-03-12: 2 of 2 symbols are in"`)
	look(2 * barsAge)
	expect(t, heard, "", "")
	look(3 * 24 * time.Hour) // Monday, when Friday's have to be
	expect(t, heard, "risk:circuit_breaker", `"action":"activated","reason":"bars of 2026-03-13: 0 of 2`)
	expect(t, heard, "", "")
}

// failing is a report in which n of 100 symbols ended in a class.
func failing(class sweep.Outcome, n int) sweep.Report {
	r := sweep.Report{Job: "daily_bars", Period: session, Symbols: 100}
	for range n {
		r.Failures = append(r.Failures, sweep.Failure{Symbol: "AAPL", Class: class})
	}
	return r
}

// Each rule of docs/events.md, at its border.
func TestAlarmRules(t *testing.T) {
	t.Parallel()
	check := func(compared, differ int) sweep.Report {
		return sweep.Report{Period: session, CrossCheck: &sweep.CrossCheck{Compared: compared, Disagreements: make([]sweep.Disagreement, differ)}}
	}
	for _, c := range []struct {
		kind   string
		report sweep.Report
		want   bool
	}{
		{"cross_check", sweep.Report{}, false},
		{"cross_check", check(20, 2), false},
		{"cross_check", check(20, 3), true},
		{"cross_check", check(0, 0), false},
		{"bad_payload", failing(sweep.BadPayload, 5), false},
		{"bad_payload", failing(sweep.BadPayload, 6), true},
		{"bad_payload", failing(sweep.ProviderError, 50), false},
		{"bad_payload", sweep.Report{Symbols: 4, Failures: failing(sweep.BadPayload, 2).Failures}, false},
		{"unknown_symbol", failing(sweep.UnknownSymbol, 1), true},
		{"unknown_symbol", failing(sweep.NoData, 9), false},
		{"quarantine", sweep.Report{Quarantined: []string{"0000320193-26-000001"}}, true},
		{"quarantine", sweep.Report{Warnings: []string{"x"}}, false},
	} {
		all := append(append(crossCheckAlarm(c.report), failureAlarms(c.report)...), quarantineAlarms(c.report)...)
		if c.want != (len(all) == 1 && all[0].kind == c.kind && all[0].once != "" && all[0].reason != "") || !c.want && len(all) > 0 {
			t.Errorf("%s: %+v", c.kind, all)
		}
	}
	if r := (sweep.Report{Symbols: 40}); many(2, r) || !many(3, r) || many(3, sweep.Report{Symbols: 60}) {
		t.Error("what is many has changed")
	}
}

// An alarm is told once, however often its run is repeated.
func TestAlertsAreToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withOwnRedis().atNight()
	w.fault("MSFT", "bad_symbol")
	heard := w.hears()
	for range 2 {
		if r, _ := w.daily("--date", session, "--symbols", "AAPL,MSFT"); r.Outcomes[sweep.UnknownSymbol] != 1 {
			t.Fatalf("%+v", r)
		}
	}
	expect(t, heard, "risk:alert", `"type":"unknown_symbol","severity":"info","reason":"daily_bars 2026-03-12: 1 of 2 symbols are unknown to their source","symbols":["MSFT"],"timestamp":"2026-03-13T`)
	expect(t, heard, "", "")
}

// Values that a source has changed of many symbols are an alarm.
func TestCorrectionsAlert(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withOwnRedis().atNight()
	symbols := list(market.SP500()[:4])
	w.daily("--date", session, "--symbols", symbols)
	w.exec(`UPDATE ohlcv SET high = high + 0.01 WHERE timestamp = '2026-03-12T00:00:00Z'`)
	heard := w.hears()
	if r, code := w.daily("--date", session, "--symbols", symbols, "--force"); code != exitOK {
		t.Fatalf("%+v", r)
	}
	expect(t, heard, "risk:alert", `"type":"corrections","severity":"warning","reason":"daily_bars 2026-03-12: stored values of 4 of 4 symbols`)
}

// A list of the index that cannot be used is an alarm, once a day.
func TestUniverseAlert(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withOwnRedis()
	s, heard := w.open(), w.hears()
	if err := s.ready(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := s.rdb.Set(t.Context(), "cache:universe:sp500", `["AAPL"]`, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	a, _ := sp500App(t, "")
	for range 2 {
		a.universe(t.Context(), s, false)
		a.universe(t.Context(), s, true)
	}
	expect(t, heard, "risk:alert", `"type":"universe_refused"`)
	expect(t, heard, "", "")
}

func TestEventsTail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if s := w.run("events", "tail"); s.code != exitUsage || !strings.Contains(s.err, "never leave") {
		t.Errorf("without Redis: %+v", s)
	}
	w.withOwnRedis()
	if s := w.run("events", "tail", "--channel", "risk:alerts"); s.code != exitUsage || !strings.Contains(s.err, "risk:alert ") {
		t.Errorf("an unknown channel: %+v", s)
	}
	for _, arguments := range [][]string{{"events", "tail"}, {"events", "tail", "--json", "--channel", "order:status,risk:alert"}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var printed, logged syncBuffer
		ended := make(chan int, 1)
		go func() {
			ended <- run(ctx, arguments, process{Environ: environOf(w.env), Stdin: strings.NewReader(""), Stdout: &printed, Stderr: &logged})
		}()
		say := func(channel, payload string) string {
			out, err := exec.CommandContext(t.Context(), "redis-cli", "-u", w.env["SA_REDIS__URL"], "PUBLISH", channel, payload).CombinedOutput()
			if err != nil {
				t.Fatalf("redis-cli: %v, %s", err, out)
			}
			return strings.TrimSpace(string(out))
		}
		for range 3000 {
			if say("order:status", `{"id":7,"note":"`+canary+`"}`) == "1" {
				break
			}
		}
		say("portfolio:update", "{}")
		say("risk:alert", "plain \x1b[31mtext")
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for deadline := time.Now().Add(30 * time.Second); !strings.Contains(printed.String(), "text"); <-ticker.C {
			if time.Now().After(deadline) {
				t.Fatalf("%v printed %q, logged %s", arguments, printed.String(), logged.String())
			}
		}
		cancel(signalError{syscall.SIGINT})
		s := said{<-ended, printed.String(), logged.String()}
		w.noCanary("the output", s.out+s.err)
		isJSON := len(arguments) > 2
		if s.code != 130 || strings.Contains(s.out, "portfolio:update") == isJSON || !strings.Contains(s.out, "order:status") {
			t.Errorf("%v: %+v", arguments, s)
		}
		if strings.Contains(s.out, "\x1b") {
			t.Errorf("%v: control characters: %q", arguments, s.out)
		}
		if !isJSON {
			continue
		}
		dec := json.NewDecoder(strings.NewReader(s.out))
		var all []map[string]any
		for dec.More() {
			var one map[string]any
			if err := dec.Decode(&one); err != nil {
				t.Fatalf("%v: %s", err, s.out)
			}
			all = append(all, one)
		}
		if n := len(all); n < 2 || all[n-1]["channel"] != "risk:alert" || all[n-1]["at"] == nil {
			t.Errorf("%v", all)
		}
	}
}
