package limiter

import "time"

// Stats counts what a Limiter has done since it was made.
type Stats struct {
	Waits  int64 // callers
	Grants int64 // calls that may go
	Tokens int64 // what they cost
	Waited time.Duration
	Pauses int64 // by this process

	// RoundTrips are the requests to Redis, of all kinds.
	RoundTrips int64
	// Lost are the windows whose level Redis had lost when it was asked.
	Lost int64
	// Unused are the tokens of slots that nobody used: their callers gave
	// up, or a pause came.
	Unused int64
	// Local are the tokens used without Redis.
	Local int64

	// Callers that were refused: the window is spent, their deadline is too
	// early, nobody could be asked; and those that gave up.
	Spent, Late, Unavailable, Cancelled int64

	// Waiting is the number of callers that wait now.
	Waiting int
}

// Stats returns the counters as they are now.
func (l *Limiter) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Waiting = l.queue.len()
	return s
}

func (l *Limiter) roundTrip() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.RoundTrips++
}
