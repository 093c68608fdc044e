package main

import (
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// altDay is the day on which the tests of alternative data begin, at noon.
var altDay = market.NewDate(2026, time.March, 12)

func altSymbols() []market.Symbol { return market.SP500()[:40] }

// newAltWorld is a world whose SEC has forms insider reports a day, all of them
// of altSymbols.
func newAltWorld(t testing.TB, forms int) *world {
	t.Helper()
	w := newWeekWorld(t, altDay)
	w.simulate(simulator.Config{Key: canary, Now: w.now, EDGAR: simulator.EDGARConfig{Symbols: altSymbols(), Forms: forms, Foreign: 50}})
	w.env["SA_DATA__FINRA__RATE_LIMIT_PER_MINUTE"] = "60000"
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = list(altSymbols())
	return w
}

func (w *world) altdata(args ...string) (sweep.Report, int) {
	w.t.Helper()
	return w.job("altdata", args...)
}

// documents returns what was fetched of the SEC since the last call of it.
func (w *world) documents() (indexes, documents []string) {
	for _, c := range w.sim.EDGARCalls() {
		switch {
		case c.Accession != "":
			documents = append(documents, c.Accession)
		case !c.Day.IsZero():
			indexes = append(indexes, c.Day.String())
		}
	}
	w.sim.Reset()
	return indexes, documents
}

// wantForms are the filings of the days of a window.
func wantForms(c simulator.EDGARConfig, from, to market.Date) (all []market.InsiderFiling) {
	for d := from; d <= to; d++ {
		all = append(all, simulator.Forms(c, d)...)
	}
	return all
}

func TestAltdataAsksOnceForEachDocument(t *testing.T) {
	t.Parallel()
	w := newAltWorld(t, 20).withServers()
	config := simulator.EDGARConfig{Symbols: altSymbols(), Forms: 20, Foreign: 50}
	// The window begins on 26 February, three days of filings before it on the
	// 23rd; the last complete day is the 11th.
	forms := wantForms(config, market.NewDate(2026, 2, 23), altDay-1)
	report, code := w.altdata()
	if code != exitOK || report.Failed != 0 {
		t.Fatalf("exit %d, report %+v", code, report)
	}
	shorts := len(w.sim.FINRACalls())
	indexes, documents := w.documents()
	slices.Sort(documents)
	if len(indexes) != 13 || len(documents) != len(forms) || len(slices.Compact(documents)) != len(forms) {
		t.Errorf("%d indexes, %d documents, %d filings", len(indexes), len(documents), len(forms))
	}
	if report.ProviderCalls != 1+len(indexes)+len(forms)+shorts {
		t.Errorf("%d calls, want 1 + %d + %d + %d", report.ProviderCalls, len(indexes), len(forms), shorts)
	}
	last := w.redis().Get(t.Context(), "jobs:altdata:last_run").Val()
	until := strings.Split(report.Period, "/")[1]
	if last != until || w.redis().TTL(t.Context(), "jobs:altdata:last_run").Val() > 0 {
		t.Errorf("last_run %s, the window ends at %s", last, until)
	}
	s := w.open()
	for _, symbol := range altSymbols() {
		stored, err := s.db.InsiderFilings(t.Context(), symbol)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range stored {
			want, ok := simulator.Form(config, f.Accession)
			if !ok || f.Form != want.Form || len(f.Lines) != len(want.Lines) || simulator.CIK(symbol) != f.IssuerCIK {
				t.Errorf("%s: stored %s with %d lines", symbol, f.Accession, len(f.Lines))
			}
		}
	}
	if n := w.query("select count(*)::text from insider_filings"); n != w.query("select count(*)::text from ingest_filings") {
		t.Errorf("%s filings stored", n)
	}

	before := w.dump()
	again, code := w.altdata()
	// Of the three days before the window the indexes are read again.
	if indexes, documents = w.documents(); code != exitOK || len(indexes) != 3 || len(documents) != 0 {
		t.Errorf("again: exit %d, %d indexes, %d documents: %+v", code, len(indexes), len(documents), again)
	}
	if touched := rowsTouched(before, w.dump()); strings.Contains(touched, "insider") || strings.Contains(touched, "short_interest") {
		t.Errorf("again: rows were touched: %s", touched)
	}
}

func TestOneBadDocument(t *testing.T) {
	t.Parallel()
	w := newAltWorld(t, 16).withServers()
	bad := simulator.Forms(simulator.EDGARConfig{Symbols: altSymbols(), Forms: 16, Foreign: 50}, market.NewDate(2026, 3, 4))[5].Accession
	w.sim.FaultFiling(bad, simulator.TruncatedClose, -1)
	report, code := w.altdata()
	if code != exitPartial || report.Failed != 1 || string(report.Failures[0].Symbol) != bad || report.Failures[0].Message == "" {
		t.Fatalf("exit %d, report %+v", code, report)
	}
	if stored := w.query("select count(*)::text from insider_filings"); stored != "207" {
		t.Errorf("%s filings stored, want 207 of 208", stored)
	}
	const key = "jobs:altdata:last_run"
	if n := w.redis().Exists(t.Context(), key).Val(); n != 0 {
		t.Error("last_run is set")
	}
	w.documents()
	report, code = w.altdata()
	if indexes, documents := w.documents(); code != exitOK || len(indexes) != 3 || !slices.Equal(documents, []string{bad}) {
		t.Errorf("after it was mended: exit %d, indexes %v, documents %v", code, indexes, documents)
	}
	if last := w.redis().Get(t.Context(), key).Val(); last != strings.Split(report.Period, "/")[1] {
		t.Errorf("last_run %s, report %+v", last, report)
	}
	// Redis may lose it: the ledger has it.
	w.redis().FlushDB(t.Context())
	if dry := w.run("run", "altdata", "--dry-run"); dry.code != exitOK {
		t.Errorf("dry run: exit %d, %s", dry.code, dry.err)
	}
	if n := w.redis().Exists(t.Context(), key).Val(); n != 1 {
		t.Error("last_run is lost with Redis")
	}
}

func TestFaultsOfShortInterest(t *testing.T) {
	t.Parallel()
	settlement := market.NewDate(2026, time.February, 27)
	for _, name := range simulator.FINRAFaults() {
		if strings.Contains(name, "slow") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newAltWorld(t, -1)
			w.sim.FaultFINRA(settlement, simulator.Fault(name), -1)
			report, code := w.altdata("--only", "finra", "--since", "2026-03-05")
			short := report.Parts[0]
			rows, err := w.open().db.ShortInterest(t.Context(), altSymbols()[0])
			if err != nil {
				t.Fatal(err)
			}
			has := slices.ContainsFunc(rows, func(r market.ShortInterest) bool { return r.Settlement == settlement })
			failed := slices.ContainsFunc(short.Failures, func(f sweep.Failure) bool { return f.Symbol == "2026-02-27" && f.Message != "" })
			if has == failed || (code == exitOK) == failed {
				t.Errorf("exit %d, stored %v, report %+v", code, has, short)
			}
		})
	}
}

func TestAltdataFlags(t *testing.T) {
	t.Parallel()
	w := newAltWorld(t, -1)
	for _, args := range [][]string{
		{"--since", "soon"},
		{"--since", "2027-01-01"},
		{"--until", "2026-03-13T00:00:00Z"},
		{"--only", "sec"},
		{"--since", "2026-03-05", "--until", "2026-03-01"},
		{"--symbols", "A A"},
	} {
		if s := w.run(append([]string{"run", "altdata"}, args...)...); s.code != exitUsage || !strings.Contains(s.err, args[0]) {
			t.Errorf("%v: exit %d, %s", args, s.code, s.err)
		}
	}
	delete(w.env, "SA_DATA__EDGAR__USER_AGENT")
	if s := w.run("run", "altdata", "--only", "edgar"); s.code != exitUsage || !strings.Contains(s.err, "SA_DATA__EDGAR__USER_AGENT") {
		t.Errorf("edgar without a user agent: exit %d, %s", s.code, s.err)
	}
	report, code := w.altdata()
	if code != exitOK || len(report.Parts) != 1 || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "last_run stays") {
		t.Errorf("without a user agent: exit %d, report %+v", code, report)
	}
	dry := w.run("run", "altdata", "--dry-run", "--since", "2026-03-01")
	if dry.code != exitOK || !strings.Contains(dry.out, "2026-03-01T05:00:00Z/2026-03-12T") {
		t.Errorf("dry run: exit %d, %s%s", dry.code, dry.out, dry.err)
	}
}

// TestTheQueriesOfTheDocs runs every query of the pages about data on both
// stores; each finds something in simulated data.
func TestTheQueriesOfTheDocs(t *testing.T) {
	t.Parallel()
	queries := map[string][]string{}
	for _, page := range []string{"altdata.md", "fundamentals.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			queries[page] = append(queries[page], block[1])
		}
	}
	if len(queries["altdata.md"]) != 3 || len(queries["fundamentals.md"]) != 2 {
		t.Fatalf("queries %v", queries)
	}
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		w := newAltWorld(t, 60).withServers()
		w.t = t
		w.load()
		conn, err := pgx.Connect(t.Context(), w.env["SA_DATABASE__URL"])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(t.Context()) })
		for _, query := range slices.Concat(queries["altdata.md"], queries["fundamentals.md"]) {
			rows, err := conn.Query(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			found, err := pgx.CollectRows(rows, pgx.RowToMap)
			if err != nil || len(found) == 0 {
				t.Errorf("%d rows, %v: %s", len(found), err, query)
			}
		}
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		w := newAltWorld(t, 60)
		w.t = t
		w.load()
		db, err := sql.Open("sqlite", filepath.Join(w.env["SA_DATA_DIR"], databaseFile))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		for _, query := range queries["altdata.md"] {
			var n int
			err := db.QueryRowContext(t.Context(), "select count(*) from ("+strings.TrimSuffix(strings.TrimSpace(query), ";")+")").Scan(&n)
			if err != nil || n == 0 {
				t.Errorf("%d rows, %v: %s", n, err, query)
			}
		}
	})
}

// load stores what the queries of the docs look at.
func (w *world) load() {
	w.t.Helper()
	if report, code := w.altdata("--since", "2026-02-01"); code != exitOK {
		w.t.Fatalf("exit %d, report %+v", code, report)
	}
	names := "AAPL,MSFT"
	w.simulate(simulator.Config{Key: canary, Now: w.now})
	if report, code := w.week("--symbols", names); code != exitOK {
		w.t.Fatalf("exit %d, report %+v", code, report)
	}
}
