package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/providers/chain"
)

// shownRuns is how many of the newest runs a status lists.
const shownRuns = 10

// status is what worker status prints.
type status struct {
	Database string        `json:"database"`
	Redis    string        `json:"redis"`
	Session  market.Date   `json:"newest_final_session"`
	Bars     barStatus     `json:"bars"`
	Datasets []dataset     `json:"datasets"`
	Schedule []jobOutlook  `json:"schedule"`
	Quotas   []quotaStatus `json:"quotas"`
	Runs     []runStatus   `json:"runs"`
}

type barStatus struct {
	Symbols int64       `json:"symbols"`
	Bars    int64       `json:"bars"`
	Oldest  market.Date `json:"oldest"`
	Newest  market.Date `json:"newest"`
	// Sources are the bars by source; "" are those of other programs.
	Sources map[string]int64 `json:"sources,omitempty"`
}

type quotaStatus struct {
	Name string `json:"name"`
	// Left is the number of calls that may be made now: in a sliding
	// window the burst that has filled up, in a day what is left of it.
	// It is nil for a sliding window that Redis knows nothing of: that one
	// begins empty and fills up while a run waits.
	Left  *int `json:"left"`
	Limit int  `json:"limit"`
	// Share is the part of the rate that is in use: less than 1 for some
	// time after the provider asked for a pause. 0 for a day.
	Share float64 `json:"share,omitempty"`
	// Reset is when a day window starts anew; absent for a sliding one.
	Reset *time.Time `json:"reset,omitempty"`
}

type runStatus struct {
	ID         int64           `json:"id"`
	Job        string          `json:"job"`
	Period     string          `json:"period"`
	Status     string          `json:"status"`
	Owner      string          `json:"owner"`
	StartedAt  time.Time       `json:"started_at"`
	FinishedAt *time.Time      `json:"finished_at,omitempty"`
	Report     json.RawMessage `json:"report,omitempty"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "What is stored, what ran last and runs next, and what is left of the quotas",
		Example: "  worker status\n  worker status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withServices(cmd.Context(), a.showStatus)
		},
	}
}

// withServices opens the services for a command that only reads.
func (a *app) withServices(ctx context.Context, do func(context.Context, *services) error) error {
	s, err := a.openServices(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.ready(ctx, s.embeddedDB); err != nil {
		return err
	}
	return do(ctx, s)
}

func (a *app) showStatus(ctx context.Context, s *services) error {
	st, err := a.readStatus(ctx, s)
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.printJSON(st)
	}
	a.printf("database  %s\nredis     %s\n", st.Database, st.Redis)
	a.printf("bars      %d of %d symbols, %s to %s (newest final session: %s)\n\n",
		st.Bars.Bars, st.Bars.Symbols, orNone(st.Bars.Oldest), orNone(st.Bars.Newest), st.Session)
	if len(st.Bars.Sources) > 1 {
		a.printf("bars by source: %s\n\n", bySource(st.Bars.Sources))
	}
	datasets := a.newTable("job", "period", "done", "last run", "next period")
	for _, d := range st.Datasets {
		datasets.AppendRow(table.Row{d.Job, d.Period, d.done(), d.lastRun(), d.nextPeriod()})
	}
	a.printf("%s\n", datasets.Render())
	a.printOutlooks(st.Schedule)
	quotas := a.newTable("quota", "may go now", "limit", "pace", "starts anew")
	for _, q := range st.Quotas {
		reset, pace := "sliding", fmt.Sprintf("%.0f %%", 100*q.Share)
		if q.Reset != nil {
			reset, pace = q.Reset.Format(time.RFC3339), ""
		}
		var left any = "fills up at the next run"
		if q.Left != nil {
			left = *q.Left
		}
		quotas.AppendRow(table.Row{q.Name, left, q.Limit, pace, reset})
	}
	a.printf("%s\n", quotas.Render())
	a.printRuns(st.Runs)
	return nil
}

// bySource is "alpha_vantage 50000, ibkr 120".
func bySource(sources map[string]int64) string {
	texts := make([]string, 0, len(sources))
	for name, n := range sources {
		texts = append(texts, fmt.Sprintf("%s %d", cmp.Or(name, "other programs"), n))
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

func orNone(d market.Date) string {
	if d.IsZero() {
		return "none"
	}
	return d.String()
}

func (a *app) printRuns(runs []runStatus) {
	if len(runs) == 0 {
		a.printf("no run yet: worker run daily-bars\n")
		return
	}
	t := a.newTable("run", "job", "period", "status", "started", "owner")
	for _, r := range runs {
		t.AppendRow(table.Row{r.ID, r.Job, r.Period, r.Status, r.StartedAt.Format(time.RFC3339), r.Owner})
	}
	a.printf("%s\n", t.Render())
}

func (a *app) readStatus(ctx context.Context, s *services) (status, error) {
	st := status{Database: s.db.Where(), Redis: "inside this process", Quotas: []quotaStatus{}, Runs: []runStatus{}}
	if !s.embeddedRedis {
		st.Redis = s.rdb.Options().Addr
	}
	var err error
	if st.Session, err = market.NYSE().LastClosed(a.now(), settleTime); err != nil {
		return status{}, err
	}
	summary, err := s.db.Summary(ctx)
	if err != nil {
		return status{}, fmt.Errorf("read what is stored: %w", err)
	}
	st.Bars = barStatus(summary)
	runs, err := s.db.Runs(ctx, "", shownRuns)
	if err != nil {
		return status{}, fmt.Errorf("read runs: %w", err)
	}
	for _, r := range runs {
		st.Runs = append(st.Runs, newRunStatus(r))
	}
	if st.Datasets, err = a.datasets(ctx, s, st.Session); err != nil {
		return status{}, err
	}
	if st.Schedule, err = a.outlooks(ctx, s); err != nil {
		return status{}, err
	}
	st.Quotas, err = a.quotas(ctx, s)
	return st, err
}

func newRunStatus(r store.RunInfo) runStatus {
	out := runStatus{
		ID: r.ID, Job: r.Job, Period: r.Period, Status: r.Status, Owner: r.Owner,
		StartedAt: r.Started.UTC(), Report: r.Report,
	}
	if !r.Finished.IsZero() {
		finished := r.Finished.UTC()
		out.FinishedAt = &finished
	}
	return out
}

// quotas reads what is left of each window. Where Redis does not know the day
// yet, the ledger does.
func (a *app) quotas(ctx context.Context, s *services) ([]quotaStatus, error) {
	var levels []limiter.Level
	for _, q := range append(a.barQuotas(), a.edgarQuota(), a.finraQuota()) {
		limits, err := a.limitsOf(s, q)
		if err != nil {
			return nil, err
		}
		more, err := limits.Levels(ctx)
		if err != nil {
			return nil, fmt.Errorf("read quotas: %w", err)
		}
		levels = append(levels, more...)
	}
	quotas := make([]quotaStatus, 0, len(levels))
	for _, l := range levels {
		q := newQuotaStatus(l)
		if !l.Known && q.Reset != nil {
			used, err := a.usedToday(ctx, s, strings.TrimSuffix(l.Name, dayWindow), l.Limit, lastMidnight(a.now()))
			if err != nil {
				return nil, fmt.Errorf("count the calls of the day: %w", err)
			}
			q.Left = new(max(0, l.Limit-used))
		}
		quotas = append(quotas, q)
	}
	return quotas, nil
}

func newQuotaStatus(l limiter.Level) quotaStatus {
	q := quotaStatus{Name: l.Name, Limit: l.Limit}
	if l.Known {
		q.Left = new(max(0, int(l.Tokens)))
	}
	if l.Reset.IsZero() {
		q.Share = l.Share
		return q
	}
	reset := l.Reset.UTC()
	q.Reset = &reset
	return q
}

// pace is what the limits of a provider allow from now on.
func (a *app) pace(ctx context.Context, s *services, q quota, limits *limiter.Limiter) chain.Pace {
	p := chain.Pace{PerMinute: limits.Rate() * 60, PerDay: q.perDay}
	if p.PerDay == 0 {
		return p
	}
	used, err := a.usedToday(ctx, s, q.provider, q.perDay, lastMidnight(a.now()))
	p.LeftToday = max(0, p.PerDay-used)
	if err != nil {
		p.LeftToday = p.PerDay
	}
	return p
}
