package simulator

import (
	"fmt"
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	// maxCalls bounds the log: the oldest half is dropped at this length.
	maxCalls = 1 << 20
	// maxViolations bounds the list of violations.
	maxViolations = 1000
)

// Call is one call to /query, in the order of arrival. It does not hold the
// key.
type Call struct {
	At time.Time `json:"at"`
	// Symbol is the canonical symbol, "" if what was asked for is none.
	Symbol     market.Symbol `json:"symbol"`
	Asked      string        `json:"asked"`
	Function   string        `json:"function"`
	OutputSize string        `json:"output_size"`
	DataType   string        `json:"data_type"`
	// Outcome is "bars" or the function in small letters, "fault:" and the
	// planned fault's name, or the name of the fault that the call earned
	// by itself, such as burst, and empty_object for a fund's reports.
	Outcome string `json:"outcome"`
}

// callLog remembers the calls. Its times ascend, since a call's time is taken
// under the server's lock.
type callLog struct {
	calls      []Call
	violations []string
	day        market.Date
	today      int
}

func (l *callLog) add(q *question, outcome string) {
	if len(l.calls) == maxCalls {
		l.calls = slices.Delete(l.calls, 0, maxCalls/2)
	}
	c := Call{
		At: q.now, Symbol: q.symbol, Asked: q.asked, Function: q.function,
		OutputSize: "compact", DataType: "json", Outcome: outcome,
	}
	if q.full {
		c.OutputSize = "full"
	}
	if q.csv {
		c.DataType = "csv"
	}
	l.calls = append(l.calls, c)
}

// over counts a call that arrives at now and returns the limit that it
// breaks, "" for none.
func (l *callLog) over(c Config, now time.Time) Fault {
	if day := market.DateOf(now.In(market.NewYork())); day != l.day {
		l.day, l.today = day, 0
	}
	l.today++
	second, minute := l.since(now, time.Second)+1, l.since(now, time.Minute)+1
	switch {
	case c.PerDay > 0 && l.today > c.PerDay:
		return l.violate(DailyQuota, now, l.today, c.PerDay, "a day")
	case c.PerSecond > 0 && second > c.PerSecond:
		return l.violate(Burst, now, second, c.PerSecond, "a second")
	case c.PerMinute > 0 && minute > c.PerMinute:
		return l.violate(MinuteNote, now, minute, c.PerMinute, "a minute")
	}
	return ""
}

func (l *callLog) violate(f Fault, now time.Time, calls, limit int, window string) Fault {
	if len(l.violations) < maxViolations {
		l.violations = append(l.violations, fmt.Sprintf("%s: %d calls within %s, limit %d",
			now.UTC().Format(time.RFC3339Nano), calls, window, limit))
	}
	return f
}

// since counts the logged calls less than d before now.
func (l *callLog) since(now time.Time, d time.Duration) int {
	n := 0
	for i := len(l.calls) - 1; i >= 0 && now.Sub(l.calls[i].At) < d; i-- {
		n++
	}
	return n
}

// most returns the greatest number of calls in any window of length d, its
// end not included.
func (l *callLog) most(d time.Duration) int {
	most, first := 0, 0
	for i := range l.calls {
		for l.calls[i].At.Sub(l.calls[first].At) >= d {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// Calls returns the calls so far, at most the newest million.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log.calls)
}

// MaxInWindow returns the greatest number of calls in any window of length d,
// over all keys and outcomes.
func (s *Server) MaxInWindow(d time.Duration) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.most(d)
}

// Violations says for each call above a limit when it came and which limit it
// broke; at most the first thousand.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log.violations)
}

// Reset forgets calls, violations, planned faults, lacks and splits.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = callLog{}
	s.edgar.calls = nil
	s.finra.calls = nil
	s.massive.calls, s.tiingo.calls = nil, nil
	clear(s.faults)
	clear(s.books)
}
