package gateway

import (
	"fmt"
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// The bounds whose breach is a violation (IB's TWS API documentation, historical
// data limitations, which names them for small bars, and message rates).
const (
	maxMessages   = 50
	maxOpen       = 50
	identicalGap  = 15 * time.Second
	contractGap   = 2 * time.Second
	contractCalls = 6
	// crossing is how long a request may be on its way while the word goes out
	// that the link is lost.
	crossing = 200 * time.Millisecond
)

// Call is one request for history.
type Call struct {
	At time.Time
	// Client is the connection's client id, Connection counts from 1.
	Client, Connection int
	// ID is the request's own.
	ID int
	// Symbol is what was asked, as it is ours; "" if it is none.
	Symbol market.Symbol
	// End and Duration are as on the wire.
	End, Duration string
	// Outcome is "bars", a code such as "200", or the name of a fault.
	Outcome string
}

// Report sums up what clients did.
type Report struct {
	Connections, Requests, Cancels int
	// MaxOpen is the greatest number of requests that waited at one time,
	// MaxPerSecond that of messages in any second.
	MaxOpen, MaxPerSecond int
	// Open is how many requests wait now, Connected how many clients are there.
	Open, Connected int
	BySymbol        map[market.Symbol]int
	// Violations name what a client must not do.
	Violations []string
}

// book keeps what happened. The server's lock guards it.
type book struct {
	scale      time.Duration
	calls      []Call
	messages   []time.Time
	open       int
	offences   int
	report     Report
	violations []string
}

// Calls returns all requests, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.book.calls)
}

// Report returns the sums since the start.
func (s *Server) Report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.book.report
	r.Requests, r.Open = len(s.book.calls), s.book.open
	r.Connected = len(s.conns)
	r.BySymbol = map[market.Symbol]int{}
	for _, c := range s.book.calls {
		r.BySymbol[c.Symbol]++
	}
	r.Violations = slices.Clone(s.book.violations)
	return r
}

func (b *book) blame(format string, args ...any) {
	b.violations = append(b.violations, fmt.Sprintf(format, args...))
}

// message counts a message and reports whether it is one too many.
func (b *book) message(now time.Time) bool {
	b.messages = append(b.messages, now)
	recent := 0
	for i := len(b.messages) - 1; i >= 0 && now.Sub(b.messages[i]) < time.Second; i-- {
		recent++
	}
	b.report.MaxPerSecond = max(b.report.MaxPerSecond, recent)
	if recent <= maxMessages {
		return false
	}
	b.blame("%d messages within a second, at most %d are allowed", recent, maxMessages)
	return true
}

// pace returns the fault that a call earns by coming too soon; "" for none.
func (b *book) pace(c Call) Fault {
	near, identical := contractGap/b.scale, identicalGap/b.scale
	same := 0
	for _, earlier := range b.calls {
		age := c.At.Sub(earlier.At)
		if earlier.Symbol != c.Symbol {
			continue
		}
		if age < near {
			same++
		}
		if earlier.End == c.End && earlier.Duration == c.Duration && age < identical {
			b.blame("%s: identical requests %s apart, at least %s are wanted", c.Symbol, age, identical)
			return Pacing
		}
	}
	if same+1 >= contractCalls {
		b.blame("%s: %d requests within %s, fewer than %d are allowed", c.Symbol, same+1, near, contractCalls)
		return Pacing
	}
	if b.open > maxOpen {
		b.blame("%d open requests, at most %d are allowed", b.open, maxOpen)
		return TooManyOpen
	}
	return ""
}
