package runner

import (
	"context"
	"fmt"
	"time"

	"github.com/alpha-oracle/worker/internal/store"
)

// Memory is a [Journal] that keeps periods and runs as the database does, for
// a rehearsal or a test. It is not safe for concurrent use.
type Memory struct {
	// Now is the clock that rows are stamped with.
	Now func() time.Time

	jobs map[string]*memoryJob
	last int64 // the newest run's id
}

// memoryJob is what is known of one job.
type memoryJob struct {
	periods []store.PeriodInfo // in the order of their ticks
	at      map[string]int     // where a period is
	runs    []store.RunInfo    // the newest last
}

func (m *Memory) job(name string) *memoryJob {
	if m.jobs == nil {
		m.jobs = map[string]*memoryJob{}
	}
	if m.jobs[name] == nil {
		m.jobs[name] = &memoryJob{at: map[string]int{}}
	}
	return m.jobs[name]
}

// Periods returns the newest periods of a job, at most limit of them, the newest
// tick first.
func (m *Memory) Periods(_ context.Context, job string, limit int) ([]store.PeriodInfo, error) {
	return tail(m.job(job).periods, limit), nil
}

// Runs returns the newest runs of a job, at most limit of them, the newest
// first.
func (m *Memory) Runs(_ context.Context, job string, limit int) ([]store.RunInfo, error) {
	return tail(m.job(job).runs, limit), nil
}

func tail[T any](rows []T, limit int) []T {
	n := min(limit, len(rows))
	out := make([]T, n)
	for i := range out {
		out[i] = rows[len(rows)-1-i]
	}
	return out
}

// NotePeriod writes a period down as [store.DB] does: a final state stays,
// unless a missed period or one that was given up is complete after all. A zero
// Tick leaves the stored one.
func (m *Memory) NotePeriod(_ context.Context, p store.PeriodInfo) (noted bool, err error) {
	if err := store.CheckPeriod(p); err != nil {
		return false, fmt.Errorf("note period: %w", err)
	}
	j := m.job(p.Job)
	p.Noted = m.Now()
	i, known := j.at[p.Period]
	switch {
	case !known:
		i = len(j.periods)
		j.periods = append(j.periods, p)
	case final(j.periods[i].State) && !mends(j.periods[i].State, p.State):
		return false, nil
	default:
		if p.Tick.IsZero() {
			p.Tick = j.periods[i].Tick
		}
		if p.State == store.Running && p.Reason == "" {
			p.Reason = j.periods[i].Reason
		}
		j.periods[i] = p
	}
	j.settle(i)
	return true, nil
}

func final(state string) bool { return state != store.Running && state != store.Incomplete }

// mends reports whether a state may take the place of a final one.
func mends(old, state string) bool {
	return state == store.Complete && (old == store.Missed || old == store.GaveUp)
}

// settle moves the period at i to where its tick belongs.
func (j *memoryJob) settle(i int) {
	for ; i+1 < len(j.periods) && j.periods[i+1].Tick.Before(j.periods[i].Tick); i++ {
		j.swap(i, i+1)
	}
	for ; i > 0 && j.periods[i].Tick.Before(j.periods[i-1].Tick); i-- {
		j.swap(i, i-1)
	}
	j.at[j.periods[i].Period] = i
}

func (j *memoryJob) swap(a, b int) {
	j.periods[a], j.periods[b] = j.periods[b], j.periods[a]
	j.at[j.periods[a].Period], j.at[j.periods[b].Period] = a, b
}

// Begin writes down that a run of a period has begun, and returns the function
// that writes down its end, with its status and its report in JSON. A run that is
// never ended is one whose process was killed.
func (m *Memory) Begin(job, period string) (end func(status string, report []byte)) {
	m.last++
	j := m.job(job)
	i := len(j.runs)
	j.runs = append(j.runs, store.RunInfo{ID: m.last, Job: job, Period: period, Status: "running", Started: m.Now()})
	return func(status string, report []byte) {
		j.runs[i].Status, j.runs[i].Report, j.runs[i].Finished = status, report, m.Now()
	}
}
