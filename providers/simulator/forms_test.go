package simulator_test

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// formDay is a Thursday, whose index is there on the day after.
func formDay() market.Date { return market.NewDate(2026, 3, 12) }

func formConfig() simulator.EDGARConfig {
	return simulator.EDGARConfig{Symbols: []market.Symbol{"AAPL", "BRK.A", "BRK.B", "IBM", "KO", "MSFT"}, Forms: 60, Foreign: 50}
}

func formServer(now func() time.Time) *simulator.Server {
	return simulator.New(simulator.Config{Now: now, EDGAR: formConfig()})
}

func morningAfter() time.Time { return (formDay() + 1).In(market.NewYork(), 8, 0) }

func indexPath(day market.Date) string {
	year, month, number := day.Time().Date()
	return fmt.Sprintf("/Archives/edgar/daily-index/%d/QTR%d/master.%d%02d%02d.idx", year, (month+2)/3, year, month, number)
}

func filingPath(f market.InsiderFiling) string {
	return fmt.Sprintf("/Archives/edgar/data/%d/%s.txt", f.IssuerCIK, f.Accession)
}

// The reports hold what makes real ones hard to read.
func TestFormsOfTheSimulator(t *testing.T) {
	t.Parallel()
	c := formConfig()
	var all []market.InsiderFiling
	seen := map[string]bool{}
	for day := formDay() - 27; day <= formDay(); day++ {
		forms := simulator.Forms(c, day)
		if diff := cmp.Diff(forms, simulator.Forms(c, day)); diff != "" {
			t.Fatalf("no function of the day: %s", diff)
		}
		if (len(forms) == 0) == market.TakesFilings(day) {
			t.Fatalf("%d reports on %v", len(forms), day)
		}
		for _, f := range forms {
			again, ok := simulator.Form(c, f.Accession)
			if diff := cmp.Diff(f, again); !ok || diff != "" || seen[f.Accession] || f.Filed != day || market.DateOf(f.Accepted.In(market.NewYork())) != day {
				t.Fatalf("%+v: %s", f, diff)
			}
			seen[f.Accession] = true
		}
		all = append(all, forms...)
	}
	got := map[string]int{}
	lines := 0
	for _, f := range all {
		got[f.Form]++
		got[fmt.Sprintf("%d owners", len(f.Owners))]++
		got["plan "+f.Plan.String()]++
		if !f.IsAmendment() {
			lines += len(f.Lines)
		}
		for _, l := range f.Lines {
			for _, name := range l.Flags.Names() {
				got[name]++
			}
		}
	}
	for _, name := range []string{"3", "4", "4/A", "5", "1 owners", "3 owners", "plan yes", "plan no", "plan unknown", "shares_contradict"} {
		if got[name] == 0 {
			t.Errorf("none of %s: %v", name, got)
		}
	}
	// The first days amend what is not in all.
	early := map[string]bool{}
	for _, f := range all {
		if f.IsAmendment() && f.OriginalFiled < formDay()-27 {
			early[f.Accession] = true
			lines += len(f.Lines)
		}
	}
	gone := market.Supersede(all)
	counted := 0
	for _, f := range all {
		for _, l := range f.Lines {
			if _, superseded := gone[market.InsiderLineID{Accession: f.Accession, Line: l.Line}]; !superseded {
				counted++
			}
		}
	}
	for old := range gone {
		if early[old.Accession] {
			lines-- // two of them amend the same original
		}
	}
	if counted != lines || len(gone) == 0 {
		t.Errorf("%d lines are counted, want %d: no amendment here adds one", counted, lines)
	}
}

func TestIndexesOfTheSimulator(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := formServer(c.Now)
	for c.now = formDay().In(market.NewYork(), 21, 59); ; c.add(time.Minute) {
		w := askEDGAR(t, s, indexPath(formDay()))
		if c.now.Equal(market.FilingsComplete(formDay())) {
			rows := strings.Count(w.Body.String(), "|edgar/data/")
			if w.Code != 200 || rows < 50+2*60 || !strings.Contains(w.Body.String(), "CIK|Company Name|Form Type|Date Filed|File Name\n-----") {
				t.Errorf("%d, %d rows", w.Code, rows)
			}
			break
		}
		if w.Code != 403 || !strings.Contains(w.Body.String(), "<Code>AccessDenied</Code>") {
			t.Fatalf("%v: %d %s", c.now, w.Code, w.Body)
		}
	}
	for path, want := range map[string]int{
		indexPath(formDay() - 1): 200, indexPath(formDay() + 1): 403, indexPath(formDay() - 4): 403, // Sunday
		indexPath(market.NewDate(2026, 1, 19)):                      403,
		"/Archives/edgar/daily-index/2026/QTR2/master.20260312.idx": 404, "/Archives/edgar/daily-index/2026/QTR1/form.20260312.idx": 404,
		"/Archives/edgar/full-index/2026/QTR1/master.idx": 200, "/Archives/edgar/full-index/2026/QTR2/master.idx": 403,
		"/Archives/edgar/full-index/2026/QTR5/master.idx": 404, "/Archives/edgar/": 404,
	} {
		if w := askEDGAR(t, s, path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	quarter := askEDGAR(t, s, "/Archives/edgar/full-index/2026/QTR1/master.idx").Body.String()
	if !strings.Contains(quarter, "|2026-01-02|") || !strings.Contains(quarter, "|2026-03-12|") || strings.Contains(quarter, "|2026-03-13|") {
		t.Error("the quarterly index holds other days than those so far")
	}
}

func TestFilingsOfTheSimulator(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := formServer(c.Now)
	f := simulator.Forms(formConfig(), formDay())[0]
	for at, want := range map[time.Time]int{f.Accepted.Add(-time.Second): 404, f.Accepted: 200} {
		c.now = at
		if w := askEDGAR(t, s, filingPath(f)); w.Code != want {
			t.Errorf("at %v, accepted at %v: %d, want %d", at, f.Accepted, w.Code, want)
		}
	}
	c.now = morningAfter()
	byOwner, stranger, unknown := f, f, f
	byOwner.IssuerCIK, stranger.IssuerCIK, unknown.Accession = f.Owners[0].CIK, 7, "0000900000-26-071999"
	for want, f := range map[int][]market.InsiderFiling{200: {f, byOwner}, 404: {stranger, unknown}} {
		for _, f := range f {
			if w := askEDGAR(t, s, filingPath(f)); w.Code != want {
				t.Errorf("%s: %d, want %d", filingPath(f), w.Code, want)
			}
		}
	}
	calls := s.EDGARCalls()
	if last := calls[len(calls)-1]; last.Accession == "" || last.CIK == 0 || last.Day != 0 {
		t.Errorf("%+v", last)
	}
}

func TestFormFaultsDiffer(t *testing.T) {
	t.Parallel()
	f := simulator.Forms(formConfig(), formDay())[0]
	path := map[string]string{"index": indexPath(formDay()), "filing": filingPath(f)}
	names := map[string][]string{"index": simulator.IndexFaults(), "filing": simulator.FilingFaults()}
	for what := range path {
		good := askEDGAR(t, formServer(morningAfter), path[what])
		for _, name := range names[what] {
			if name == string(simulator.SlowHeaders) || name == string(simulator.Reset) || strings.HasPrefix(name, "truncated") {
				continue // seen by a client alone
			}
			t.Run(what+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := formServer(morningAfter)
				s.FaultIndex(formDay(), simulator.Fault(name), 1)
				s.FaultFiling(f.Accession, simulator.Fault(name), 1)
				w := askEDGAR(t, s, path[what])
				style := []string{"namespaced", "zoned_dates", "latin1"} // of a form that may have it already
				if w.Code == good.Code && w.Body.String() == good.Body.String() && !slices.Contains(style, name) {
					t.Error("the fault does nothing")
				}
				if calls := s.EDGARCalls(); len(calls) != 1 || calls[0].Outcome != "fault:"+name {
					t.Errorf("calls = %+v", calls)
				}
				if w := askEDGAR(t, s, path[what]); w.Body.String() != good.Body.String() {
					t.Error("the fault did not end")
				}
			})
		}
	}
}

func TestFormFaultsArePlanned(t *testing.T) {
	t.Parallel()
	s := formServer(morningAfter)
	forms := simulator.Forms(formConfig(), formDay())
	admin := func(query string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/_simulator/edgar/faults?"+query, nil))
		return w
	}
	for bad, says := range map[string]string{
		"day=x&fault=html&times=1": "cut_index", "day=&fault=two_forms&times=1": "cut_index", "accession=x&fault=cut_index&times=1": "two_forms",
		"accession=x&fault=html&times=0": "two_forms",
	} {
		if w := admin(bad); w.Code != 400 || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
	for _, good := range []string{
		"day=2026-03-12&fault=empty_object&times=1", "day=&fault=access_denied&times=1", "accession=" + forms[1].Accession + "&fault=empty_object&times=1",
		"accession=&fault=not_found_page&times=1", "cik=0&fault=maintenance&times=1",
	} {
		if w := admin(good); w.Code != 204 {
			t.Errorf("%q: %d %s", good, w.Code, w.Body)
		}
	}
	list := httptest.NewRecorder()
	s.ServeHTTP(list, httptest.NewRequestWithContext(t.Context(), "GET", "/_simulator/edgar/faults", nil))
	for _, name := range []string{"wrong_cik", "cut_index", "two_forms"} {
		if !strings.Contains(list.Body.String(), `"`+name+`"`) {
			t.Errorf("the list of faults lacks %s: %s", name, list.Body)
		}
	}
	s.FaultEDGAR(0, simulator.WrongCIK, 1)
	for i, step := range []struct {
		path string
		want string
	}{
		{indexPath(formDay()), "fault:empty_object"},
		{indexPath(formDay() - 1), "fault:access_denied"},
		{filingPath(forms[1]), "fault:empty_object"},
		{filingPath(forms[2]), "fault:not_found_page"},
		{filingPath(forms[2]), "fault:maintenance"},
		{filingPath(forms[2]), "filing"}, // wrong_cik is no fault of a filing
		{indexPath(formDay()), "index"},
		{factsPath(simulator.CIK("IBM")), "fault:wrong_cik"},
	} {
		askEDGAR(t, s, step.path)
		if got := s.EDGARCalls()[i].Outcome; got != step.want {
			t.Errorf("call %d, %s: %s, want %s", i, step.path, got, step.want)
		}
	}
}
