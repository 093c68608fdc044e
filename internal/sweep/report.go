package sweep

import (
	"slices"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// Tally counts the units of one sweep by their outcomes.
type Tally struct {
	Outcomes map[Outcome]int
	Failures []Failure
	// Fetched is the number of units that became done, Failed of those
	// that did not.
	Fetched, Failed int
	// Rows is the number of rows written.
	Rows int
	// Dropped counts the bars that were not stored, by why.
	Dropped map[string]int
	// Sources are the units that became done, by who has answered.
	Sources map[string][]market.Symbol
	// Stopped says why the sweep ended early; "" if it did not.
	Stopped string
}

// Failure is a unit that is not done.
type Failure struct {
	Symbol  market.Symbol `json:"symbol"`
	Class   Outcome       `json:"class"`
	Message string        `json:"message"`
}

func (t *Tally) add(u Unit) {
	if t.Outcomes == nil {
		t.Outcomes = make(map[Outcome]int)
	}
	t.Outcomes[u.Outcome]++
	t.Rows += u.Rows
	for why, n := range u.Dropped {
		if t.Dropped == nil {
			t.Dropped = make(map[string]int)
		}
		t.Dropped[why] += n
	}
	if u.Outcome.Done() {
		t.Fetched++
		if u.Source != "" {
			if t.Sources == nil {
				t.Sources = make(map[string][]market.Symbol)
			}
			t.Sources[u.Source] = append(t.Sources[u.Source], u.Symbol)
		}
		return
	}
	t.Failed++
	t.Failures = append(t.Failures, Failure{Symbol: u.Symbol, Class: u.Outcome, Message: u.Message})
}

// Status is how a run ended as a whole.
type Status string

// The statuses of a run that has ended.
const (
	// OK: every symbol of the run is done.
	OK Status = "ok"
	// Partial: some symbols are not done; the next run asks for them.
	Partial Status = "partial"
	// OutOfQuota: the provider's day ended the run.
	OutOfQuota Status = "quota"
	// Failed: the run could not do its work at all.
	Failed Status = "failed"
	// WasInterrupted: the run was stopped from outside; progress is kept.
	WasInterrupted Status = "interrupted"
)

// Report is what a run has to say for itself. Its JSON form is part of the
// outside contract: Symbols = Fetched + Skipped + Failed always holds, and
// Failed counts every symbol of the run that is not done at its end.
type Report struct {
	Job           string          `json:"job"`
	Period        string          `json:"period"`
	StartedAt     time.Time       `json:"started_at"`
	FinishedAt    time.Time       `json:"finished_at"`
	Status        Status          `json:"status"`
	Symbols       int             `json:"symbols"`
	Fetched       int             `json:"fetched"`
	Skipped       int             `json:"skipped"`
	Failed        int             `json:"failed"`
	Rows          int             `json:"rows"`
	ProviderCalls int             `json:"provider_calls"`
	Outcomes      map[Outcome]int `json:"outcomes"`
	Failures      []Failure       `json:"failures"`
	// Calls are the provider calls by provider; absent if there is one only.
	Calls map[string]int `json:"calls,omitempty"`
	// Sources are the symbols that became done, by the source of their bars;
	// absent where that is not told.
	Sources map[string][]market.Symbol `json:"sources,omitempty"`
	// CrossCheck is what second sources said of some of the bars; absent if
	// none was asked.
	CrossCheck *CrossCheck `json:"cross_check,omitempty"`
	// Dropped counts the bars of the answers that were not stored, by why;
	// absent if all were.
	Dropped map[string]int `json:"dropped_bars,omitempty"`
	// Stopped says why the run ended early; absent if it did not.
	Stopped string `json:"stopped,omitempty"`
	// CompleteAt is when the symbols that are left will be done under the
	// limits, if the runs go on; absent when none is left or nobody knows.
	CompleteAt *time.Time `json:"complete_at,omitempty"`
	// Quarantined are the documents that keep failing and were not asked for;
	// absent if there are none.
	Quarantined []string `json:"quarantined,omitempty"`
	// Parts are the runs that this one held; absent if it held none.
	Parts []Report `json:"parts,omitempty"`
	// Restricted says that the run was for less than its job is for, as with
	// --symbols: it says nothing of the rest.
	Restricted bool `json:"restricted,omitempty"`
	// Warnings are about the run as a whole; absent if there are none.
	Warnings []string `json:"warnings,omitempty"`
}

// CrossCheck counts the bars that a second source was asked for too.
type CrossCheck struct {
	// Compared had an answer, Failed had none.
	Compared int `json:"compared"`
	Failed   int `json:"failed"`
	// Disagreements are those of the compared that differ.
	Disagreements []Disagreement `json:"disagreements"`
}

// Disagreement is a bar on which two sources do not agree.
type Disagreement struct {
	Symbol market.Symbol `json:"symbol"`
	// Stored is the source of the stored bar, Other that of the other one.
	Stored string              `json:"stored_from"`
	Other  string              `json:"other_from"`
	Fields []market.Difference `json:"fields"`
}

// NewReport makes the report of a run in which skipped symbols were done
// before and tally says how the others ended. interrupted tells whether the
// run was stopped from outside.
func NewReport(job, period string, skipped int, tally Tally, interrupted bool) Report {
	r := Report{
		Job: job, Period: period,
		Symbols: skipped + tally.Fetched + tally.Failed,
		Fetched: tally.Fetched, Skipped: skipped, Failed: tally.Failed,
		Rows: tally.Rows, Outcomes: tally.Outcomes, Failures: tally.Failures,
		Sources: tally.Sources, Dropped: tally.Dropped, Stopped: tally.Stopped,
	}
	for _, symbols := range r.Sources {
		slices.Sort(symbols)
	}
	if r.Outcomes == nil {
		r.Outcomes = map[Outcome]int{}
	}
	if r.Failures == nil {
		r.Failures = []Failure{}
	}
	slices.SortStableFunc(r.Failures, func(a, b Failure) int {
		return strings.Compare(string(a.Symbol), string(b.Symbol))
	})
	r.Status = status(r, interrupted)
	return r
}

func status(r Report, interrupted bool) Status {
	switch {
	case r.Failed == 0:
		return OK
	case interrupted:
		return WasInterrupted
	case r.Outcomes[Quota] > 0:
		return OutOfQuota
	case r.Stopped != "" && r.Fetched+r.Skipped == 0:
		return Failed
	default:
		return Partial
	}
}

// Combine makes one report of the parts of a run: its counts are the sums of
// theirs.
func Combine(job, period string, parts []Report) Report {
	r := Report{Job: job, Period: period, Status: OK, Outcomes: map[Outcome]int{}, Failures: []Failure{}, Parts: parts}
	rank := []Status{OK, Partial, Failed, OutOfQuota, WasInterrupted}
	failed := 0
	for _, part := range parts {
		r.Symbols, r.Fetched, r.Skipped, r.Failed = r.Symbols+part.Symbols, r.Fetched+part.Fetched, r.Skipped+part.Skipped, r.Failed+part.Failed
		r.Rows, r.ProviderCalls = r.Rows+part.Rows, r.ProviderCalls+part.ProviderCalls
		for outcome, n := range part.Outcomes {
			r.Outcomes[outcome] += n
		}
		r.Failures = append(r.Failures, part.Failures...)
		if slices.Index(rank, part.Status) > slices.Index(rank, r.Status) {
			r.Status = part.Status
		}
		if part.Status == Failed {
			failed++
		}
		if r.Stopped == "" {
			r.Stopped = part.Stopped
		}
	}
	// What one part could do is kept, so the whole did not fail.
	if r.Status == Failed && failed < len(parts) && r.Fetched+r.Skipped > 0 {
		r.Status = Partial
	}
	return r
}
