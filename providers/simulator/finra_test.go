package simulator_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const (
	finraData       = "/data/group/otcMarket/name/consolidatedShortInterest"
	finraPartitions = "/partitions/group/otcMarket/name/consolidatedShortInterest"
)

func askFINRA(t *testing.T, s http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// onDay asks for all symbols of a settlement date.
func onDay(d, more string) string {
	return fmt.Sprintf(`{"compareFilters":[{"fieldName":"settlementDate","compareType":"EQUAL","fieldValue":%q}]%s}`, d, more)
}

func shortRows(t *testing.T, w *httptest.ResponseRecorder) []map[string]any {
	t.Helper()
	var rows []map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &rows); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s %v: %.300s", w.Code, w.Header().Get("Content-Type"), err, w.Body)
	}
	return rows
}

// The rows hold what makes real ones hard to read.
func TestShortInterestOfTheSimulator(t *testing.T) {
	t.Parallel()
	dates, err := market.NYSE().Settlements(simulator.FirstSettlement(), market.NewDate(2026, 2, 27))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, symbol := range market.SP500()[:60] {
		for i, d := range dates {
			s := simulator.ShortInterest(symbol, d)
			if err := s.Validate(); err != nil || s != simulator.ShortInterest(symbol, d) || s != s.Normal() || s.Settlement != d || s.Symbol != symbol {
				t.Fatalf("%+v: %v", s, err)
			}
			if i == 0 {
				continue
			}
			before, revised := simulator.Revision(symbol, dates[i-1])
			old := simulator.ShortInterest(symbol, dates[i-1])
			if shares, ok := s.Correction(); ok != (revised && s.SplitFlag == "") || ok && shares != before || (before != old.Shares) != revised {
				t.Fatalf("%+v after %+v, revised to %d %v", s, old, before, revised)
			}
			if (s.Previous.Value != before) != (s.SplitFlag == "S" && before != 0) {
				t.Fatalf("%+v after %d", s, before)
			}
			for name, is := range map[string]bool{
				"revised": revised, "split": s.SplitFlag == "S", "no volume": s.AvgDailyVolume.Value == 0, "from zero": s.Previous.Value == 0 && s.ChangePct.Raw == 100,
				"above the greatest": s.AvgDailyVolume.Value > 0 && s.DaysToCover.Raw == 999.99, "at least one": s.DaysToCover.Value == 1, "fewer": s.ChangePct.Value < 0,
			} {
				if is {
					seen[name]++
				}
			}
		}
	}
	if len(seen) != 7 {
		t.Errorf("seen %v, want 7 kinds", seen)
	}
}

func TestFINRAOnTheWire(t *testing.T) {
	t.Parallel()
	symbols := []market.Symbol{"AAPL", "BRK.B", "CMS.PRB", "KO", "MSFT", "IBM", "PG"}
	s := simulator.New(simulator.Config{Now: newClock().Now, FINRA: simulator.FINRAConfig{Symbols: symbols}})
	w := askFINRA(t, s, "POST", strings.ToUpper(finraData), onDay("2026-02-27", ""))
	rows := shortRows(t, w)
	for name, want := range map[string]string{"Record-Total": "7", "Record-Offset": "0", "Record-Limit": "1000", "Record-Max-Limit": "5000"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	var codes []string
	orders := map[string]bool{}
	for _, row := range rows {
		codes = append(codes, row["symbolCode"].(string))
		if len(row) != 14 || row["settlementDate"] != "2026-02-27" || row["accountingYearMonthNumber"] != 20260227.0 {
			t.Errorf("row %v", row)
		}
	}
	for row := range strings.SplitSeq(w.Body.String(), "},{") {
		name, _, _ := strings.Cut(strings.TrimLeft(row, "[{"), ":")
		orders[name] = true
	}
	if slices.IsSorted(codes) || !slices.Contains(codes, "BRKB") || !slices.Contains(codes, "CMSPRB") || len(orders) < 2 {
		t.Errorf("%v, first names %v: want all, spelled FINRA's way, in no order", codes, orders)
	}
	lines, err := csv.NewReader(askFINRA(t, s, "POST", finraData, onDay("2026-02-27", ""), "Accept", "*/*").Body).ReadAll()
	if err != nil || len(lines) != 8 || len(lines[0]) != 14 {
		t.Errorf("%d lines, %v: want text for those who do not ask for JSON", len(lines), err)
	}
}

func TestFINRAFilters(t *testing.T) {
	t.Parallel()
	symbols := []market.Symbol{"AAPL", "BRK.B", "KO", "MSFT"}
	s := simulator.New(simulator.Config{Now: newClock().Now, FINRA: simulator.FINRAConfig{Symbols: symbols, PageRows: 3}})
	for name, tc := range map[string]struct {
		body        string
		rows, total int
	}{
		"limit":       {onDay("2026-02-27", `,"limit":2`), 2, 4},
		"short page":  {onDay("2026-02-27", `,"limit":5000`), 3, 4},
		"next page":   {onDay("2026-02-27", `,"limit":5000,"offset":3`), 1, 4},
		"past":        {onDay("2026-02-27", `,"offset":9`), 0, 4},
		"two symbols": {onDay("2026-02-27", `,"domainFilters":[{"fieldName":"symbolCode","values":["BRKB","KO","BRK.B"]}]`), 2, 2},
		"range": {`{"dateRangeFilters":[{"fieldName":"settlementDate","startDate":"2026-01-15","endDate":"2026-02-13"}],` +
			`"compareFilters":[{"fieldName":"symbolCode","compareType":"EQUAL","fieldValue":"KO"}]}`, 3, 3},
		"after":       {`{"compareFilters":[{"fieldName":"settlementDate","compareType":"GTE","fieldValue":"2026-02-13"}],"sortFields":["-settlementDate"]}`, 3, 8},
		"not settled": {onDay("2026-02-26", ""), 0, 0},
		"not yet":     {onDay("2026-03-13", ""), 0, 0},
		"too early":   {onDay("2017-12-15", ""), 0, 0},
		"first":       {onDay("2017-12-29", ""), 3, 4},
	} {
		w := askFINRA(t, s, "POST", finraData, tc.body)
		if rows := shortRows(t, w); len(rows) != tc.rows || w.Header().Get("Record-Total") != fmt.Sprint(tc.total) {
			t.Errorf("%s: %d rows of %s, want %d of %d", name, len(rows), w.Header().Get("Record-Total"), tc.rows, tc.total)
		}
	}
	rows := shortRows(t, askFINRA(t, s, "POST", finraData, onDay("2026-02-27", `,"fields":["symbolCode","changePercent"]`)))
	if len(rows[0]) != 2 || rows[0]["symbolCode"] == nil {
		t.Errorf("%v: want two fields", rows[0])
	}
}

func TestFINRASaysNo(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Now: newClock().Now})
	for name, tc := range map[string]struct {
		method, path, body string
		header             []string
		status             int
		says               string
	}{
		"method":      {"GET", finraData, "", nil, 405, "not simulated"},
		"partitions":  {"POST", finraPartitions, "{}", nil, 405, "not simulated"},
		"type":        {"POST", finraData, "{}", []string{"Content-Type", "text/plain"}, 415, "content type"},
		"no JSON":     {"POST", finraData, "{", nil, 400, "cannot be read"},
		"unknown":     {"POST", finraData, `{"filters":[]}`, nil, 400, "filters"},
		"limit":       {"POST", finraData, `{"limit":5001}`, nil, 400, "limit must be"},
		"no limit":    {"POST", finraData, `{"limit":0}`, nil, 400, "limit must be"},
		"offset":      {"POST", finraData, `{"offset":500001}`, nil, 400, "offset must be"},
		"async":       {"POST", finraData, `{"async":true}`, nil, 400, "async"},
		"field":       {"POST", finraData, `{"fields":["symbol"]}`, nil, 400, "no field"},
		"date":        {"POST", finraData, onDay("27.02.2026", ""), nil, 400, "invalid date"},
		"filter":      {"POST", finraData, `{"compareFilters":[{"fieldName":"issueName","compareType":"EQUAL","fieldValue":"A"}]}`, nil, 400, "no filter"},
		"domain":      {"POST", finraData, `{"domainFilters":[{"fieldName":"symbolCode","values":[]}]}`, nil, 400, "no filter"},
		"range":       {"POST", finraData, `{"dateRangeFilters":[{"fieldName":"symbolCode","startDate":"2026-01-01","endDate":"2026-02-01"}]}`, nil, 400, "invalid date range"},
		"other group": {"POST", "/data/group/other/name/consolidatedShortInterest", "{}", nil, 404, "not found"},
	} {
		w := askFINRA(t, s, tc.method, tc.path, tc.body, tc.header...)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.says) || tc.status != 404 && !strings.HasPrefix(w.Body.String(), fmt.Sprintf(`{"statusCode":%d,`, tc.status)) {
			t.Errorf("%s: %d %s, want %d %s", name, w.Code, w.Body, tc.status, tc.says)
		}
	}
}

func partitions(t *testing.T, s http.Handler) []string {
	t.Helper()
	var doc struct {
		AvailablePartitions []struct{ Partitions []string }
	}
	w := askFINRA(t, s, "GET", finraPartitions, "")
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	var all []string
	for _, p := range doc.AvailablePartitions {
		all = append(all, p.Partitions...)
	}
	return all
}

func TestFINRAPublishes(t *testing.T) {
	t.Parallel()
	out := time.Date(2026, 3, 10, 20, 0, 0, 0, time.UTC) // 16:00 in New York
	for _, late := range []time.Duration{0, 50 * time.Hour} {
		c := newClock()
		c.now = out.Add(late - time.Second)
		s := simulator.New(simulator.Config{Now: c.Now, FINRA: simulator.FINRAConfig{Late: late, Symbols: []market.Symbol{"KO"}}})
		if got := partitions(t, s); got[0] != "2026-02-13" || got[len(got)-1] != "2017-12-29" || len(shortRows(t, askFINRA(t, s, "POST", finraData, onDay("2026-02-27", "")))) != 0 {
			t.Errorf("late by %s: %v to %v, a second before", late, got[0], got[len(got)-1])
		}
		c.add(time.Second)
		if got := partitions(t, s); got[0] != "2026-02-27" || len(shortRows(t, askFINRA(t, s, "POST", finraData, onDay("2026-02-27", "")))) != 1 {
			t.Errorf("late by %s: %v when it is out", late, got[0])
		}
	}
}

func TestFINRALimits(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := simulator.New(simulator.Config{Now: c.Now, FINRA: simulator.FINRAConfig{PerSecond: 2, PerMinute: 3, Symbols: []market.Symbol{"KO"}}})
	for i, step := range []struct {
		wait   time.Duration
		status int
	}{{0, 200}, {0, 200}, {999 * time.Millisecond, 429}, {time.Second, 429}, {time.Minute, 200}} {
		c.add(step.wait)
		if w := askFINRA(t, s, "GET", finraPartitions, ""); w.Code != step.status {
			t.Errorf("call %d: %d %s, want %d", i, w.Code, w.Body, step.status)
		}
	}
	got := s.Violations()
	if len(got) != 2 || !strings.Contains(got[0], "3 calls within a second, to FINRA, limit 2") || !strings.Contains(got[1], "4 calls within a minute, to FINRA, limit 3") {
		t.Errorf("violations %q", got)
	}
	if n := s.FINRAMaxInWindow(time.Second); n != 3 || len(s.FINRACalls()) != 5 || len(s.Calls()) != 0 {
		t.Errorf("%d calls a second, %d calls, %d to another provider", n, len(s.FINRACalls()), len(s.Calls()))
	}
}

func TestFINRAFaultsDiffer(t *testing.T) {
	t.Parallel()
	body := onDay("2026-02-27", "")
	ask := func(s http.Handler) *httptest.ResponseRecorder { return askFINRA(t, s, "POST", finraData, body) }
	good := ask(simulator.New(simulator.Config{Now: newClock().Now}))
	for _, name := range simulator.FINRAFaults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == string(simulator.SlowHeaders) || name == string(simulator.Reset) || strings.HasPrefix(name, "truncated") {
				return // seen by a client alone
			}
			s := simulator.New(simulator.Config{Now: newClock().Now})
			s.FaultFINRA(market.NewDate(2026, 2, 27), simulator.Fault(name), 1)
			w := ask(s)
			if name != string(simulator.UnstableOrder) && // seen from the second page on
				w.Code == good.Code && w.Body.String() == good.Body.String() && fmt.Sprint(w.Header()) == fmt.Sprint(good.Header()) {
				t.Error("the fault does nothing")
			}
			if calls := s.FINRACalls(); len(calls) != 1 || calls[0].Outcome != "fault:"+name || calls[0].Settlement != market.NewDate(2026, 2, 27) {
				t.Errorf("calls = %+v", calls)
			}
			if w := ask(s); w.Body.String() != good.Body.String() {
				t.Error("the fault did not end")
			}
		})
	}
}

func TestFINRAFaultsArePlanned(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Now: newClock().Now, FINRA: simulator.FINRAConfig{Symbols: []market.Symbol{"KO"}}})
	admin := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return w
	}
	for _, bad := range []string{"", "settlement=x&fault=html&times=1", "settlement=&fault=stale&times=1", "settlement=2026-02-27&fault=html&times=0"} {
		if w := admin("POST", "/_simulator/finra/faults?"+bad); w.Code != 400 || !strings.Contains(w.Body.String(), "total_changes") {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
	if w := admin("POST", "/_simulator/finra/faults?settlement=2026-02-27&fault=empty_object&times=1"); w.Code != 204 {
		t.Fatalf("plan: %d %s", w.Code, w.Body)
	}
	if w := admin("POST", "/_simulator/finra/faults?settlement=&fault=no_content&times=-1"); w.Code != 204 {
		t.Fatalf("plan: %d %s", w.Code, w.Body)
	}
	s.FaultFINRA(0, simulator.Stale, 1)
	s.FaultFINRA(0, simulator.HTML, 0)
	for i, want := range []int{200, 204, 204} {
		if w := askFINRA(t, s, "POST", finraData, onDay("2026-02-27", "")); w.Code != want {
			t.Errorf("call %d: %d, want %d", i, w.Code, want)
		}
	}
	if w := askFINRA(t, s, "GET", finraPartitions, ""); w.Code != 204 {
		t.Errorf("partitions: %d, want 204", w.Code)
	}
	if got := ask(t, s, aapl).Body.String(); !strings.Contains(got, "Meta Data") {
		t.Errorf("another provider has the fault too: %.80q", got)
	}
	var calls []simulator.FINRACall
	if err := json.Unmarshal(admin("GET", "/_simulator/finra/calls").Body.Bytes(), &calls); err != nil || len(calls) != 4 || calls[0].Outcome != "fault:empty_object" {
		t.Errorf("calls = %+v, %v", calls, err)
	}
	if !strings.Contains(admin("GET", "/_simulator/finra/faults").Body.String(), `"shared_code"`) {
		t.Error("the list of faults lacks shared_code")
	}
	s.Reset()
	if got := partitions(t, s); len(got) == 0 || len(s.FINRACalls()) != 1 {
		t.Errorf("after the reset: %v, %d calls", got, len(s.FINRACalls()))
	}
}
