package simulator_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// statements are the functions whose answers are reports.
func statements() []string { return []string{"OVERVIEW", "EARNINGS", "BALANCE_SHEET"} }

func asking(function string, symbol market.Symbol) string {
	return "function=" + function + "&symbol=" + string(symbol) + "&apikey=k1"
}

func reportDay() market.Date { return market.NewDate(2026, 3, 12) }

func TestReportsOnTheWire(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: reportDay()})
	for function, begins := range map[string]string{
		"OVERVIEW":      "{\n    \"Symbol\": \"abnb\",\n    \"AssetType\": \"Common Stock\",\n    \"Name\": \"ABNB Corporation\",\n",
		"EARNINGS":      "{\n    \"symbol\": \"abnb\",\n    \"annualEarnings\": [\n        {\n            \"fiscalDateEnding\": \"20",
		"BALANCE_SHEET": "{\n    \"symbol\": \"abnb\",\n    \"annualReports\": [\n        {\n            \"fiscalDateEnding\": \"20",
	} {
		// These functions know no other format.
		w := ask(t, s, asking(function, "abnb")+"&datatype=csv")
		if got := w.Header().Get("Content-Type"); w.Code != 200 || got != "application/json" || !strings.HasPrefix(w.Body.String(), begins) {
			t.Errorf("%s: %d, %s, %.300s", function, w.Code, got, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) || !strings.HasSuffix(w.Body.String(), "\n}") {
			t.Errorf("%s is no JSON document: %s", function, w.Body)
		}
		if calls := s.Calls(); calls[len(calls)-1].Outcome != strings.ToLower(function) || calls[len(calls)-1].Function != function {
			t.Errorf("%s: call %+v", function, calls[len(calls)-1])
		}
	}
}

// All that stands on the wire is a text, and every way to write null occurs.
func TestNullsOnTheWire(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: reportDay()})
	nulls := map[string]int{}
	for _, symbol := range market.SP500()[:100] {
		var doc map[string]string
		if err := json.Unmarshal(ask(t, s, asking("OVERVIEW", symbol)).Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		for _, text := range doc {
			if text == "None" || text == "NONE" || text == "-" || text == "" || text == "0" || text == "0000-00-00" {
				nulls[text]++
			}
		}
	}
	if len(nulls) != 6 {
		t.Errorf("nulls %v, want all six ways", nulls)
	}
}

func TestReportsDependOnSymbolAndDate(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(simulator.Overview("AAPL", reportDay()), simulator.Overview("AAPL", reportDay())); diff != "" {
		t.Error(diff)
	}
	for _, other := range []market.Fundamentals{simulator.Overview("AAPL", reportDay()-7), simulator.Overview("MSFT", reportDay())} {
		if other.Figures == simulator.Overview("AAPL", reportDay()).Figures {
			t.Errorf("%s has the same figures", other.Symbol)
		}
	}
	january := reportDay() - 60 // when some have reported the year and others have not
	for _, s := range market.SP500() {
		all := simulator.Earnings(s, january)
		if len(all.Annual) < 10 || len(all.Quarterly) < 50 {
			t.Errorf("%s has %d years, %d quarters", s, len(all.Annual), len(all.Quarterly))
		}
		for i, q := range all.Quarterly {
			upcoming := i == 0 && !q.EPS.Known && q.FiscalEnd <= january
			if q.Reported > january && !upcoming || q.Reported <= q.FiscalEnd || i > 0 && q.FiscalEnd >= all.Quarterly[i-1].FiscalEnd {
				t.Errorf("%s: quarter %d is %+v", s, i, q)
			}
		}
		if _, quarterly := simulator.Balances(s, january); len(quarterly) < 50 || quarterly[0].FiscalEnd > all.Quarterly[0].FiscalEnd {
			t.Errorf("%s has %d balance sheets", s, len(quarterly))
		}
	}
	if row := simulator.Overview("AAPL", market.NewDate(2005, 1, 3)); !row.Empty() {
		t.Errorf("figures before the first report: %+v", row)
	}
}

// The data show what a reader must cope with.
func TestReportsHoldTheTraps(t *testing.T) {
	t.Parallel()
	var running, upcoming, deficit, noTotal, noGrowth, loss, noYield int
	count := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	for _, s := range market.SP500() {
		all, overview := simulator.Earnings(s, reportDay()), simulator.Overview(s, reportDay())
		_, balances := simulator.Balances(s, reportDay())
		computed := simulator.Computed(s, reportDay())
		count(&running, all.Running.FiscalEnd != 0)
		count(&upcoming, !simulator.Earnings(s, reportDay()-60).Quarterly[0].EPS.Known)
		count(&deficit, balances[0].Equity.Value < 0 && !computed.Figures[market.DebtToEquity].Known)
		count(&noTotal, !balances[0].TotalDebt.Known && computed.Figures[market.DebtToEquity].Known)
		count(&noGrowth, !computed.Figures[market.EarningsGrowth].Known)
		count(&loss, overview.Figures[market.PERatio].Value < 0)
		yield := overview.Figures[market.DividendYield]
		count(&noYield, yield.Known && yield.Value == 0)
	}
	for name, n := range map[string]int{
		"running years": running, "quarters not reported yet": upcoming, "negative equities": deficit, "debts in parts": noTotal,
		"unknown growths": noGrowth, "negative P/E": loss, "yields of 0": noYield,
	} {
		if n == 0 || n > 400 {
			t.Errorf("%d %s", n, name)
		}
	}
}

func TestFundsAndUnknownSymbols(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: reportDay(), Funds: []market.Symbol{"ARKK"}})
	for _, function := range statements() {
		for _, symbol := range []market.Symbol{"SPY", "QQQ", "IVV", "VOO", "ARKK", "", "A%20B"} {
			if got := ask(t, s, asking(function, symbol)).Body.String(); got != "{}" {
				t.Errorf("%s of %q: %.100s, want {}", function, symbol, got)
			}
		}
	}
	for _, call := range s.Calls() {
		if call.Outcome != "empty_object" {
			t.Errorf("call %+v", call)
		}
	}
	if got := ask(t, s, asking("TIME_SERIES_DAILY", "SPY")).Body.String(); !strings.Contains(got, "Meta Data") {
		t.Errorf("bars of a fund: %.100s", got)
	}
}

func TestReportsCountAgainstTheLimits(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Key: "k1", PerMinute: 3, Now: newClock().Now})
	for _, function := range append(statements(), "OVERVIEW", "TIME_SERIES_DAILY") {
		ask(t, s, asking(function, "AAPL"))
	}
	if got := s.Violations(); len(got) != 2 {
		t.Errorf("violations %q, want 2", got)
	}
	if got := ask(t, simulator.New(simulator.Config{Key: "k2"}), asking("OVERVIEW", "SPY")).Body.String(); !strings.Contains(got, "apikey is invalid") {
		t.Errorf("wrong key: %s", got)
	}
}

// A fault of one function waits for it; one that is shared hits the first call.
func TestFaultsWaitForTheirFunction(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: reportDay()})
	for _, fault := range []simulator.Fault{simulator.RunningYear, simulator.Capitals, simulator.HighBelowLow, simulator.EmptyObject} {
		s.Fault("AAPL", fault, 1)
	}
	functions := []string{"BALANCE_SHEET", "BALANCE_SHEET", "OVERVIEW", "TIME_SERIES_DAILY", "EARNINGS", "EARNINGS", "OVERVIEW", "TIME_SERIES_DAILY"}
	var got []string
	for _, function := range functions {
		ask(t, s, asking(function, "AAPL"))
	}
	for _, call := range s.Calls() {
		got = append(got, call.Outcome)
	}
	want := []string{
		"fault:empty_object", "balance_sheet", "fault:capitals", "fault:high_below_low",
		"fault:running_year", "earnings", "overview", "bars",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFaultOfReportsAnswers(t *testing.T) {
	t.Parallel()
	for _, function := range statements() {
		names := simulator.FaultsOf(function)
		if len(names) < 40 {
			t.Errorf("%s has the faults %v", function, names)
		}
		for _, name := range names {
			t.Run(function+" "+name, func(t *testing.T) {
				t.Parallel()
				if f, err := simulator.ParseFault(name); err != nil || string(f) != name {
					t.Errorf("%q, %v", f, err)
				}
				s := simulator.New(simulator.Config{Through: reportDay()})
				sound := ask(t, s, asking(function, "AAPL")).Body.String()
				s.Fault("AAPL", simulator.Fault(name), -1)
				server := httptest.NewServer(s)
				defer server.Close()
				patience := 30 * time.Second
				if strings.HasPrefix(name, "slow_") {
					patience = time.Second
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if get(ctx, server.URL+"/query?"+asking(function, "AAPL")) == "200 application/json "+sound {
					t.Error("the fault does nothing")
				}
			})
		}
	}
}

// Where there is nothing to be wrong about, a fault leaves the answer as it is.
func TestFaultsOfHollowReports(t *testing.T) {
	t.Parallel()
	for _, function := range statements() {
		for _, name := range []simulator.Fault{simulator.NaN, simulator.AllNull, simulator.RepeatedRows, simulator.RunningYear, simulator.Capitals, simulator.RepeatedField} {
			s := simulator.New(simulator.Config{Through: market.NewDate(2005, 3, 10)})
			s.Fault("AAPL", name, -1)
			if w := ask(t, s, asking(function, "AAPL")); w.Code != 200 || !json.Valid(w.Body.Bytes()) || strings.Contains(w.Body.String(), "20") {
				t.Errorf("%s with %s: %d %s", function, name, w.Code, w.Body)
			}
			s = simulator.New(simulator.Config{Through: reportDay()})
			s.Fault("SPY", name, -1)
			if got := ask(t, s, asking(function, "SPY")).Body.String(); got != "{}" {
				t.Errorf("%s of a fund with %s: %.100s", function, name, got)
			}
		}
	}
}
