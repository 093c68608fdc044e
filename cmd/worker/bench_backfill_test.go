//go:build bench

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// universeOf returns n made-up symbols.
func universeOf(n int) []market.Symbol {
	symbols := make([]market.Symbol, n)
	for i := range symbols {
		symbols[i] = market.Symbol(fmt.Sprintf("S%05d", i))
	}
	return symbols
}

// deep is a world without limits whose provider has all of the history, and the
// program in a process of its own.
func deep(t *testing.T) (w *world, binary string) {
	t.Helper()
	w = newWorld(t)
	w.simulate(simulator.Config{Key: canary, Premium: true})
	w.env["SA_REDIS__URL"] = testenv.Redis(t)
	w.env["SA_DATABASE__URL"] = testenv.PostgresServer(t).URL()
	w.env["SA_LOG__LEVEL"] = "warn"
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = "1000000"
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	binary = filepath.Join(t.TempDir(), "worker")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return w, binary
}

func (w *world) command(binary string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), environOf(w.env)...)
	return cmd
}

// TestFigureBackfill measures twenty years of five hundred symbols, over HTTP
// from a simulator on the same two cores, against psql's \copy of the rows.
//
//nolint:paralleltest // it measures the machine
func TestFigureBackfill(t *testing.T) {
	w, binary := deep(t)
	symbols := universeOf(bench.Pick(500, 10))
	years := strconv.Itoa(bench.Pick(20, 2))
	load := func(symbols []market.Symbol) (took time.Duration, peak float64) {
		w.exec("truncate ohlcv, ingest_items, ingest_watermarks, ingest_attempts, ingest_corrections, ingest_calls, ingest_runs, ingest_coverage")
		started := time.Now()
		peak = peakRSS(t, w.command(binary, "backfill", "--years", years, "--symbols", list(symbols)))
		return time.Since(started), peak
	}
	if out, err := w.command(binary, "migrate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, few := load(symbols[:len(symbols)/10])
	took, peak := load(symbols)
	rows, err := strconv.ParseFloat(w.query("select count(*)::text from ohlcv"), 64)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bars")
	w.psql(`\copy (select * from ohlcv order by symbol, timestamp) to '` + file + `'`)
	w.psql(`create table copied (like ohlcv including all)`)
	copied := bench.Median(rounds(), func() time.Duration {
		w.psql(`truncate copied`)
		return w.psql(`\copy copied from '` + file + `'`)
	})
	bench.Note(t, "backfill: rows", rows, "")
	bench.Note(t, "backfill: rate, start-up included", rows/took.Seconds(), "rows/s")
	bench.Note(t, `psql \copy: rate`, rows/copied.Seconds(), "rows/s")
	bench.AtLeast(t, `backfill / psql \copy`, copied.Seconds()/took.Seconds(), 0.4, "x")
	bench.AtMost(t, fmt.Sprintf("backfill: peak RSS, %d symbols", len(symbols)), peak, 128, "MiB")
	bench.Note(t, fmt.Sprintf("backfill: peak RSS, %d symbols", len(symbols)/10), few, "MiB")
}

// psql runs one command and returns its time by psql's own clock.
func (w *world) psql(command string) time.Duration {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "psql", "-X", "-v", "ON_ERROR_STOP=1", w.env["SA_DATABASE__URL"], "-c", `\timing on`, "-c", command)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	times := regexp.MustCompile(`Time: ([0-9.]+) ms`).FindAllSubmatch(out, -1)
	if len(times) == 0 {
		w.t.Fatalf("%s: no time in %s", command, out)
	}
	ms, err := strconv.ParseFloat(string(times[len(times)-1][1]), 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return time.Duration(ms * float64(time.Millisecond))
}

// TestFigureResume measures a backfill of many symbols that is almost done, and
// the plan of all jobs for them.
//
//nolint:paralleltest // it measures the machine
func TestFigureResume(t *testing.T) {
	w, binary := deep(t)
	symbols := universeOf(bench.Pick(10_000, 200))
	if out, err := w.command(binary, "migrate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	done := len(symbols) * 99 / 100
	w.exec(fmt.Sprintf(`insert into ingest_coverage select 'S' || lpad(s::text, 5, '0'), kind, case kind when 'answered' then 'alpha_vantage' else '' end, year, -1, -1, -1, -1, -1, -1
		from generate_series(0, %d) s, unnest(array['answered', 'stored']) kind, generate_series(2024, 2026) year`, done-1))
	w.exec(fmt.Sprintf(`insert into ingest_items (job, period, unit, run_id, outcome, rows, source)
		select 'backfill', 'history', 'S' || lpad(s::text, 5, '0'), 1, 'stored', 500, 'alpha_vantage' from generate_series(0, %d) s`, done-1))
	w.exec("analyze")
	file := filepath.Join(t.TempDir(), "symbols.txt")
	var text []byte
	for _, s := range symbols {
		text = append(text, string(s)+"\n"...)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	plan := bench.Median(bench.Pick(5, 1), func() time.Duration {
		started := time.Now()
		if out, err := w.command(binary, "plan", "--symbols", "@"+file, "--json").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return time.Since(started)
	})
	bench.AtMost(t, fmt.Sprintf("worker plan, all jobs, %d symbols, the whole process", len(symbols)), plan.Seconds()*1000, 500, "ms")
	started := time.Now()
	cmd := w.command(binary, "backfill", "--symbols", "@"+file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	calls := w.sim.Calls()
	if len(calls) != len(symbols)-done {
		t.Fatalf("%d calls, want %d", len(calls), len(symbols)-done)
	}
	bench.AtMost(t, "resume of a backfill that is 99 % done: first call after the start", calls[0].At.Sub(started).Seconds(), 2, "s")
}
