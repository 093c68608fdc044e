package alarm

import "time"

const (
	// Every is how often it is looked whether there is cause for an alarm.
	Every = 30 * time.Second
	// Beat is how often the heartbeat URL is asked for while all is well.
	Beat = 5 * time.Minute
)

// Pulse says when to ping. The zero Pulse pings at once.
type Pulse struct {
	next  time.Time
	tries int
}

// Due reports whether it is time for a ping at now.
func (p *Pulse) Due(now time.Time) bool { return !p.next.After(now) }

// Pinged notes how a ping at now ended: after a failed one it is tried again
// sooner, then less and less often.
func (p *Pulse) Pinged(now time.Time, err error) {
	if err == nil {
		p.next, p.tries = now.Add(Beat), 0
		return
	}
	p.next = now.Add(min(firstRetry<<min(p.tries, 10), Beat))
	p.tries++
}
