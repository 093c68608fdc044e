package altdata_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/altdata"
)

// now is a Thursday, 17:00 in New York.
var (
	now  = time.Date(2026, time.March, 12, 21, 0, 0, 0, time.UTC)
	both = []market.Symbol{"AAPL", "MSFT"}
)

// refused is an error as the providers make them.
type refused string

func (r refused) Error() string   { return "the provider said " + string(r) }
func (r refused) Outcome() string { return string(r) }

// sources are the SEC, with one filing of AAPL on each day, and FINRA.
type sources struct {
	asked  []string
	errs   map[string]error // by day, accession or settlement date
	listed func(day market.Date) []market.ListedFiling
}

func accession(day market.Date) string { return "0000000001-26-" + fmt.Sprintf("%06d", int(day)) }

func (s *sources) Issuers(context.Context) (map[market.Symbol]int, error) {
	return map[market.Symbol]int{"AAPL": 1, "MSFT": 2, "GOOG": 3, "GOOGL": 3}, s.errs["issuers"]
}

func (s *sources) Day(_ context.Context, day market.Date) ([]market.ListedFiling, []string, error) {
	s.asked = append(s.asked, day.String())
	return s.on(day), nil, s.errs[day.String()]
}

func (s *sources) on(day market.Date) []market.ListedFiling {
	if s.listed != nil {
		return s.listed(day)
	}
	return []market.ListedFiling{
		{Accession: accession(day), Form: "4", Filed: day, Filers: []int{1, 77}},
		{Accession: accession(day + 1000), Form: "4", Filed: day, Filers: []int{78}},
	}
}

func (s *sources) Quarter(ctx context.Context, year, quarter int) ([]market.ListedFiling, []string, error) {
	name := fmt.Sprintf("%d-Q%d", year, quarter)
	s.asked = append(s.asked, name)
	first := market.NewDate(year, time.Month(3*quarter-2), 1)
	other := &sources{listed: s.listed}
	var all []market.ListedFiling
	for d := first; d < market.NewDate(year, time.Month(3*quarter+1), 1); d++ {
		if market.TakesFilings(d) {
			listed, _, err := other.Day(ctx, d)
			all = append(all, listed...)
			if err != nil {
				return nil, nil, err
			}
		}
	}
	return all, []string{"a note"}, s.errs[name]
}

func (s *sources) Filing(_ context.Context, f market.ListedFiling) (market.InsiderFiling, error) {
	s.asked = append(s.asked, f.Accession)
	return market.InsiderFiling{Accession: f.Accession, Form: f.Form, Filed: f.Filed, IssuerCIK: f.Filers[0]}, s.errs[f.Accession]
}

func (s *sources) ShortInterest(_ context.Context, d market.Date, symbols []market.Symbol) ([]market.ShortInterest, []string, error) {
	s.asked = append(s.asked, "short "+d.String())
	var rows []market.ShortInterest
	for _, symbol := range symbols {
		rows = append(rows, market.ShortInterest{Symbol: symbol, Settlement: d, Shares: 1})
	}
	return rows, nil, s.errs["short "+d.String()]
}

// memory is the ledger.
type memory struct {
	done     map[string]map[string]bool // by kind
	pending  map[string]market.ListedFiling
	failures map[string]int
	stored   map[string]market.Symbol // of documents
	coverage map[market.Symbol]market.Coverage
	last     time.Time
	redis    time.Time
	redisErr error
	saveErr  error
}

func newMemory() *memory {
	return &memory{
		done: map[string]map[string]bool{}, pending: map[string]market.ListedFiling{}, failures: map[string]int{},
		stored: map[string]market.Symbol{}, coverage: map[market.Symbol]market.Coverage{},
	}
}

func (m *memory) mark(kind, unit string) error {
	if m.done[kind] == nil {
		m.done[kind] = map[string]bool{}
	}
	m.done[kind][unit] = true
	return m.saveErr
}

func (m *memory) SaveIndexDay(_ context.Context, kind string, day market.Date, filings []market.ListedFiling) (market.Changes, error) {
	for _, f := range filings {
		m.pending[f.Accession] = f
	}
	return market.Changes{Inserted: len(filings)}, m.mark(kind, day.String())
}

func (m *memory) SaveFiling(_ context.Context, symbol market.Symbol, f market.InsiderFiling) (market.Changes, error) {
	m.stored[f.Accession] = symbol
	return market.Changes{Inserted: 1}, m.mark(altdata.FilingsKind, f.Accession)
}

func (m *memory) SaveShortInterest(_ context.Context, kind string, d market.Date, rows []market.ShortInterest) (market.Changes, error) {
	return market.Changes{Inserted: len(rows)}, m.mark(kind, d.String())
}

func (m *memory) SaveItem(_ context.Context, kind, unit, _, _ string) error {
	return m.mark(kind, unit)
}

func (m *memory) SaveUnitAttempt(_ context.Context, _, unit, outcome, _ string) error {
	if outcome == "bad_payload" || outcome == "no_data" {
		m.failures[unit]++
	}
	return nil
}

func (m *memory) SaveLastRun(_ context.Context, until time.Time, symbols []market.Symbol) error {
	m.last = until
	for _, s := range symbols {
		m.coverage[s] = market.Coverage{Tried: until.Format(time.RFC3339)}
	}
	return m.saveErr
}

func (m *memory) SaveCovered(_ context.Context, through time.Time, symbols []market.Symbol) error {
	for _, s := range symbols {
		m.coverage[s] = market.Coverage{Tried: through.Format(time.RFC3339)}
	}
	return m.saveErr
}

func (m *memory) DoneUnits(_ context.Context, _, kind string) (units []market.Symbol, _ error) {
	for u := range m.done[kind] {
		units = append(units, market.Symbol(u))
	}
	return units, nil
}

func (m *memory) PendingFilings(_ context.Context, window market.Range) (all []market.PendingFiling, _ error) {
	for a, f := range m.pending {
		if !m.done[altdata.FilingsKind][a] && window.Contains(f.Filed) {
			all = append(all, market.PendingFiling{ListedFiling: f, Failures: m.failures[a], Outcome: "bad_payload", Message: "odd"})
		}
	}
	slices.SortFunc(all, func(a, b market.PendingFiling) int { return strings.Compare(a.Accession, b.Accession) })
	return all, nil
}

func (m *memory) Coverage(context.Context, string) (map[market.Symbol]market.Coverage, error) {
	return m.coverage, nil
}

func (m *memory) Get(context.Context) (time.Time, bool, error) {
	if m.last.IsZero() {
		return m.redis, true, m.redisErr
	}
	m.redis = m.last
	return m.last, true, m.redisErr
}

func job(s *sources, m *memory) altdata.Job {
	return altdata.Job{
		Filings: s, Shorts: s, Store: m, Library: m, LastRun: m, Calendar: market.NYSE(), Now: now,
		Sweep: sweep.Sweep{Workers: 1},
	}
}

func runJob(t *testing.T, j altdata.Job, symbols ...market.Symbol) sweep.Report {
	t.Helper()
	plan, err := j.Plan(t.Context(), symbols, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	r := j.Run(t.Context(), plan)
	if r.Symbols != r.Fetched+r.Skipped+r.Failed || len(r.Failures) != r.Failed {
		t.Errorf("the counts do not add up: %+v", r)
	}
	return r
}

func TestAFirstRun(t *testing.T) {
	t.Parallel()
	s, m := &sources{}, newMemory()
	report := runJob(t, job(s, m), both...)
	// Fourteen days back and three before them; the twelfth is not over.
	want := []string{
		"2026-02-23", "2026-02-24", "2026-02-25", "2026-02-26", "2026-02-27", "2026-03-02", "2026-03-03", "2026-03-04",
		"2026-03-05", "2026-03-06", "2026-03-09", "2026-03-10", "2026-03-11",
	}
	for _, day := range want {
		d, _ := market.ParseDate(day)
		want = append(want, accession(d))
	}
	want = append(want, "short 2026-02-13", "short 2026-02-27")
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Errorf("asked: %s", diff)
	}
	if report.Status != sweep.OK || report.Fetched != 28 || len(report.Parts) != 3 || report.Period != "2026-02-26T21:00:00Z/2026-03-12T21:00:00Z" {
		t.Errorf("report %+v", report)
	}
	if !m.last.Equal(now) || !m.redis.Equal(now) || len(m.stored) != 13 {
		t.Errorf("last run %s, in Redis %s, %d documents", m.last, m.redis, len(m.stored))
	}
	s.asked = nil
	// Of the days before the window the indexes are read again, no document.
	overlap := []string{"2026-03-09", "2026-03-10", "2026-03-11"}
	if again := runJob(t, job(s, m), both...); again.Status != sweep.OK || !slices.Equal(s.asked, overlap) {
		t.Errorf("again: asked %v, report %+v", s.asked, again)
	}
}

func TestOneBadDocumentHoldsLastRunBack(t *testing.T) {
	t.Parallel()
	bad := accession(market.NewDate(2026, time.March, 5))
	s, m := &sources{errs: map[string]error{bad: refused("bad_payload")}}, newMemory()
	report := runJob(t, job(s, m), both...)
	if report.Status != sweep.Partial || report.Failed != 1 || string(report.Failures[0].Symbol) != bad || !m.last.IsZero() || len(m.stored) != 12 {
		t.Fatalf("last run %s, %d documents, report %+v", m.last, len(m.stored), report)
	}
	s.asked = nil
	tomorrow := job(s, m)
	tomorrow.Now = now.AddDate(0, 0, 1)
	runJob(t, tomorrow, both...)
	want := []string{"2026-02-23", "2026-02-24", "2026-02-25", "2026-03-12", bad, accession(market.NewDate(2026, time.March, 12))}
	if diff := cmp.Diff(want, s.asked); diff != "" || !m.last.IsZero() {
		t.Errorf("asked: %s; last run %s", diff, m.last)
	}
	s.asked, s.errs = nil, nil
	if runJob(t, tomorrow, both...); !slices.Equal(s.asked[3:], []string{bad}) || !m.last.Equal(tomorrow.Now) {
		t.Errorf("asked %v, last run %s", s.asked, m.last)
	}
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	bad := accession(market.NewDate(2026, time.March, 5))
	s, m := &sources{errs: map[string]error{bad: refused("bad_payload")}}, newMemory()
	for range 3 {
		runJob(t, job(s, m), both...)
	}
	s.asked = nil
	report := runJob(t, job(s, m), both...)
	if len(s.asked) != 3 || report.Status != sweep.OK || !m.last.Equal(now) || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], bad) || !slices.Equal(report.Quarantined, []string{bad}) {
		t.Errorf("asked %v, last run %s, report %+v", s.asked, m.last, report)
	}
	j := job(s, m)
	j.Force, s.errs, j.Now = true, nil, now.Add(time.Minute)
	if runJob(t, j, both...); m.stored[bad] != "AAPL" {
		t.Error("--force does not ask again")
	}
}

func TestAFailedSourceDoesNotStopTheOther(t *testing.T) {
	t.Parallel()
	for name, errs := range map[string]map[string]error{
		"no list of issuers": {"issuers": refused("provider_error")},
		"a day":              {"2026-03-05": refused("provider_error")},
		"short interest":     {"short 2026-02-27": refused("not_ready")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, m := &sources{errs: errs}, newMemory()
			report := runJob(t, job(s, m), both...)
			if report.Status != sweep.Partial || !m.last.IsZero() || report.Fetched == 0 {
				t.Errorf("last run %s, report %+v", m.last, report)
			}
		})
	}
}

func TestAMissingIndex(t *testing.T) {
	t.Parallel()
	s, m := &sources{errs: map[string]error{"2026-03-11": refused("no_data"), "2026-03-04": refused("no_data")}}, newMemory()
	report := runJob(t, job(s, m), both...)
	if report.Outcomes[sweep.NotReady] != 2 || report.Failed != 2 || !m.last.IsZero() {
		t.Errorf("last run %s, report %+v", m.last, report)
	}
	// The days around the older one are known by now.
	report = runJob(t, job(s, m), both...)
	if report.Failed != 1 || report.Failures[0].Symbol != "2026-03-11" || !m.last.IsZero() {
		t.Errorf("last run %s, report %+v", m.last, report)
	}
	if len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "2026-03-04") {
		t.Errorf("warnings %v", report.Warnings)
	}
}

func TestTheWindow(t *testing.T) {
	t.Parallel()
	last := now.AddDate(0, 0, -5)
	covered := func(d time.Duration) market.Coverage {
		return market.Coverage{Tried: last.Add(d).Format(time.RFC3339)}
	}
	for name, tc := range map[string]struct {
		last, redis, since time.Time
		coverage           map[market.Symbol]market.Coverage
		want               time.Time
		moves              bool
	}{
		"first":                     {want: now.AddDate(0, 0, -14), moves: true},
		"another program's":         {redis: last, want: last, moves: true},
		"after a complete one":      {last: last, coverage: map[market.Symbol]market.Coverage{"AAPL": covered(0), "MSFT": covered(0)}, want: last, moves: true},
		"the base of the first run": {coverage: map[market.Symbol]market.Coverage{"AAPL": covered(-30 * 24 * time.Hour), "MSFT": covered(-30 * 24 * time.Hour)}, want: last.AddDate(0, 0, -30), moves: true},
		"a symbol lags behind":      {last: last, coverage: map[market.Symbol]market.Coverage{"AAPL": covered(0), "MSFT": covered(-time.Hour)}, want: last.Add(-time.Hour), moves: true},
		"a new symbol":              {last: last, coverage: map[market.Symbol]market.Coverage{"AAPL": covered(0)}, want: now.AddDate(0, 0, -14), moves: true},
		"since, earlier":            {last: last, since: last.AddDate(0, -1, 0), coverage: map[market.Symbol]market.Coverage{"AAPL": covered(0), "MSFT": covered(0)}, want: last.AddDate(0, -1, 0), moves: true},
		"since, leaving out some":   {last: last, since: last.Add(time.Hour), coverage: map[market.Symbol]market.Coverage{"AAPL": covered(0), "MSFT": covered(0)}, want: last.Add(time.Hour), moves: false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory()
			m.last, m.redis, m.coverage = tc.last, tc.redis, tc.coverage
			plan, err := job(&sources{}, m).Plan(t.Context(), both, tc.since, time.Time{})
			if err != nil || !plan.Window.Since.Equal(tc.want) || plan.Moves != tc.moves || tc.moves != (len(plan.Warnings) == 0) {
				t.Errorf("window %s, moves %v, warnings %v, %v; want since %s", plan.Window, plan.Moves, plan.Warnings, err, tc.want)
			}
		})
	}
	for name, w := range map[string][2]time.Time{
		"in the future":  {now.Add(-time.Hour), now.Add(time.Hour)},
		"the wrong way":  {now.Add(-time.Hour), now.Add(-2 * time.Hour)},
		"without length": {now.Add(-time.Hour), now.Add(-time.Hour)},
	} {
		if _, err := job(&sources{}, newMemory()).Plan(t.Context(), both, w[0], w[1]); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A window that leaves out a part, or a source, must not move last_run.
func TestLastRunPassesNothingThatIsNotStored(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*altdata.Job){
		"no filings": func(j *altdata.Job) { j.Filings = nil },
		"no shorts":  func(j *altdata.Job) { j.Shorts = nil },
	} {
		m := newMemory()
		j := job(&sources{}, m)
		change(&j)
		if report := runJob(t, j, both...); report.Status != sweep.OK || !m.last.IsZero() {
			t.Errorf("%s: last run %s, report %+v", name, m.last, report)
		}
	}
	m := newMemory()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	j := job(&sources{}, m)
	plan, err := j.Plan(t.Context(), both, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if report := j.Run(ctx, plan); report.Status != sweep.WasInterrupted || !m.last.IsZero() {
		t.Errorf("interrupted: last run %s, report %+v", m.last, report)
	}
}

func TestALongWindowReadsQuarters(t *testing.T) {
	t.Parallel()
	s, m := &sources{}, newMemory()
	plan, err := job(s, m).Plan(t.Context(), both, time.Date(2025, time.September, 20, 0, 0, 0, 0, time.UTC), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	report := job(s, m).Run(t.Context(), plan)
	indexes := slices.DeleteFunc(slices.Clone(s.asked), func(a string) bool { return !strings.HasPrefix(a, "202") })
	if len(indexes) == 0 || indexes[0] != "2025-Q4" || slices.Contains(indexes, "2025-11-03") || !slices.Contains(indexes, "2025-09-22") || !slices.Contains(indexes, "2026-01-05") {
		t.Errorf("asked %v", indexes)
	}
	if report.Status != sweep.OK || len(m.stored) != len(plan.Days) || !slices.Contains(report.Warnings, "index of 2025-Q4: a note") {
		t.Errorf("%d documents of %d days, report %+v", len(m.stored), len(plan.Days), report)
	}
}

// An item that was read for fewer symbols is read again for more; the documents
// that are stored are not.
func TestAWiderUniverseReadsTheIndexesAgain(t *testing.T) {
	t.Parallel()
	s, m := &sources{}, newMemory()
	runJob(t, job(s, m), "AAPL")
	s.asked = nil
	later := job(s, m)
	later.Now = now.Add(time.Hour)
	runJob(t, later, both...)
	if n := len(s.asked); n != 15 || slices.ContainsFunc(s.asked, func(a string) bool { return strings.HasPrefix(a, "0000") }) {
		t.Errorf("asked %v", s.asked)
	}
}

// A report in which a wanted issuer is only an owner is settled without rows,
// until its own issuer is wanted.
func TestFilingsOfOthers(t *testing.T) {
	t.Parallel()
	s, m := &sources{}, newMemory()
	s.listed = func(day market.Date) []market.ListedFiling {
		return []market.ListedFiling{{Accession: accession(day), Form: "4", Filed: day, Filers: []int{2, 1}}} // MSFT's, owned by AAPL
	}
	report := runJob(t, job(s, m), "AAPL")
	if len(m.stored) != 0 || report.Status != sweep.OK || report.Parts[1].Outcomes[sweep.Unchanged] != 13 {
		t.Errorf("stored %v, report %+v", m.stored, report)
	}
	s.asked = nil
	runJob(t, job(s, m), "AAPL")
	if len(s.asked) != 3 {
		t.Errorf("asked again: %v", s.asked)
	}
	runJob(t, job(s, m), both...)
	if len(m.stored) != 13 || m.stored[accession(market.NewDate(2026, time.March, 5))] != "MSFT" {
		t.Errorf("with its issuer: stored %v", m.stored)
	}
}

// What is not there while nothing is there is no holiday, and what nobody can
// read is no damaged document.
func TestAnOutageIsNoReason(t *testing.T) {
	t.Parallel()
	s, m := &sources{errs: map[string]error{}}, newMemory()
	for d := market.NewDate(2026, 2, 20); d <= market.NewDate(2026, 3, 12); d++ {
		s.errs[d.String()] = refused("no_data")
	}
	for range 3 {
		if report := runJob(t, job(s, m), both...); report.Parts[0].Outcomes[sweep.NotReady] != 13 || !m.last.IsZero() {
			t.Fatalf("last run %s, report %+v", m.last, report)
		}
	}
	s.errs = map[string]error{}
	for d := market.NewDate(2026, 2, 20); d <= market.NewDate(2026, 3, 12); d++ {
		s.errs[accession(d)] = refused("no_data")
	}
	s.listed = func(day market.Date) []market.ListedFiling {
		return []market.ListedFiling{{Accession: accession(day), Form: "4", Filed: day, Filers: []int{1}}}
	}
	for range 4 {
		if report := runJob(t, job(s, m), both...); report.Parts[1].Outcomes[sweep.NoData] != 13 || !m.last.IsZero() {
			t.Fatalf("last run %s, report %+v", m.last, report)
		}
	}
	s.errs = nil
	if report := runJob(t, job(s, m), both...); report.Status != sweep.OK || len(m.stored) != 13 {
		t.Errorf("%d documents, report %+v", len(m.stored), report)
	}
}

// What failed in the first window is asked for however late the next run is.
func TestTheFirstWindowStays(t *testing.T) {
	t.Parallel()
	s, m := &sources{errs: map[string]error{"short 2026-02-13": refused("provider_error")}}, newMemory()
	runJob(t, job(s, m), both...)
	s.errs, s.asked = nil, nil
	later := job(s, m)
	later.Now = now.AddDate(0, 0, 20)
	if runJob(t, later, both...); !slices.Contains(s.asked, "short 2026-02-13") || !m.last.Equal(later.Now) {
		t.Errorf("asked %v", s.asked)
	}
}

// A symbol that is missing from the SEC's list once is not covered meanwhile.
func TestAStranger(t *testing.T) {
	t.Parallel()
	s, m := &sources{}, newMemory()
	if report := runJob(t, job(s, m), "AAPL", "ZZZZ"); report.Status != sweep.OK || !m.last.Equal(now) || len(report.Warnings) != 1 {
		t.Errorf("last run %s, report %+v", m.last, report)
	}
	if _, ok := m.coverage["ZZZZ"]; ok || len(m.coverage["AAPL"].Tried) == 0 {
		t.Errorf("coverage %v", m.coverage)
	}
}

func TestAnOddLastRun(t *testing.T) {
	t.Parallel()
	for name, redis := range map[string]time.Time{"in the future": now.AddDate(1, 0, 0), "long ago": time.Unix(0, 0)} {
		m := newMemory()
		m.redis = redis
		plan, err := job(&sources{}, m).Plan(t.Context(), both, time.Time{}, time.Time{})
		if err != nil || !plan.Window.Since.Equal(now.AddDate(0, 0, -14)) || len(plan.Warnings) != 1 {
			t.Errorf("%s: window %s, warnings %v, %v", name, plan.Window, plan.Warnings, err)
		}
	}
	// Another program's counts for symbols that come later, too.
	m := newMemory()
	m.redis = now.AddDate(0, 0, -30)
	runJob(t, job(&sources{}, m), "AAPL")
	plan, err := job(&sources{}, m).Plan(t.Context(), both, time.Time{}, time.Time{})
	if err != nil || !plan.Window.Since.Equal(now.AddDate(0, 0, -30)) {
		t.Errorf("window %s, %v", plan.Window, err)
	}
}

func TestAnEndInThePast(t *testing.T) {
	t.Parallel()
	m := newMemory()
	runJob(t, job(&sources{}, m), both...)
	j := job(&sources{}, m)
	plan, err := j.Plan(t.Context(), both, time.Time{}, now.AddDate(0, 0, -5))
	if err != nil || plan.Moves {
		t.Fatalf("window %s, moves %v, %v", plan.Window, plan.Moves, err)
	}
	if j.Run(t.Context(), plan); !m.last.Equal(now) || !m.redis.Equal(now) {
		t.Errorf("last run %s, in Redis %s", m.last, m.redis)
	}
}

func TestAQuarterWithoutItsEnd(t *testing.T) {
	t.Parallel()
	s, m := &sources{}, newMemory()
	s.listed = func(day market.Date) []market.ListedFiling {
		if day > market.NewDate(2025, 11, 15) && day <= market.NewDate(2025, 12, 31) {
			return nil
		}
		return []market.ListedFiling{{Accession: accession(day), Form: "4", Filed: day, Filers: []int{1}}}
	}
	plan, err := job(s, m).Plan(t.Context(), both, time.Date(2025, time.October, 1, 0, 0, 0, 0, time.UTC), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if report := job(s, m).Run(t.Context(), plan); report.Status != sweep.Partial || !m.last.IsZero() || report.Parts[0].Outcomes[sweep.NotReady] != 1 {
		t.Errorf("last run %s, report %+v", m.last, report)
	}
}

func TestShareClassesOfOneIssuer(t *testing.T) {
	t.Parallel()
	s, m := &sources{}, newMemory()
	s.listed = func(day market.Date) []market.ListedFiling {
		return []market.ListedFiling{{Accession: accession(day), Form: "4/A", Filed: day, Filers: []int{3}}}
	}
	runJob(t, job(s, m), "GOOGL", "GOOG", "ZZZZ")
	for a, symbol := range m.stored {
		if symbol != "GOOG" {
			t.Errorf("%s is stored under %s", a, symbol)
		}
	}
	if len(m.stored) != 13 {
		t.Errorf("%d documents", len(m.stored))
	}
}

func TestAStoreThatIsGone(t *testing.T) {
	t.Parallel()
	s, m := &sources{}, newMemory()
	m.saveErr = errors.New("connection refused")
	report := runJob(t, job(s, m), both...)
	if report.Status != sweep.Failed || len(s.asked) > 3 || !m.redis.IsZero() {
		t.Errorf("asked %v, report %+v", s.asked, report)
	}
}
