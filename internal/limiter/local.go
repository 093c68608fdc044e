package limiter

import (
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
)

const (
	// localAfter is the number of failed requests after which a process goes
	// on without Redis, if it may.
	localAfter = 3
	// localShare is what replicas use of the rate while they cannot see each
	// other.
	localShare = 0.9
	// probeEvery is how often Redis is tried meanwhile, at most twice as
	// often.
	probeEvery = time.Second
	// maxOwed is more than one process tells Redis that it has used.
	maxOwed = 100000
)

func (l *Limiter) isLocal() bool { return l.local != nil }

// goLocal starts the process's own limit, empty, once Redis has failed often
// enough, and plans the next try.
func (l *Limiter) goLocal() {
	if l.o.Replicas <= 0 || l.outage.failures < localAfter {
		return
	}
	l.outage.retryAt = l.o.Now().Add(probeEvery/2 + rand.N(probeEvery/2))
	if l.isLocal() {
		return
	}
	l.forgetTimes()
	l.local = rate.NewLimiter(rate.Limit(l.localRate()), 1)
	l.local.AllowN(l.o.Now(), 1)
}

// localRate is this process's share of the rate, in tokens per second. In no
// window has it more than its part of the limit's whole calls.
func (l *Limiter) localRate() float64 {
	slowest := l.Rate() * localShare / float64(l.o.Replicas)
	for _, w := range l.windows {
		slowest = min(slowest, float64(w.Limit/l.o.Replicas)/(w.Length+w.Margin).Seconds())
	}
	return slowest
}

// debt is what Redis is to be told of the tokens used without it: those that
// can still lie in a window.
func (l *Limiter) debt() int {
	var longest time.Duration
	for _, w := range l.windows {
		longest = max(longest, w.Length+w.Margin)
	}
	return min(l.owed-l.booked(), int(math.Ceil(l.localRate()*longest.Seconds()-1e-6)))
}

// forgetTimes drops what was said about when to ask.
func (l *Limiter) forgetTimes() {
	for i := range l.lanes {
		l.lanes[i].askAt, l.lanes[i].earliest = time.Time{}, time.Time{}
	}
}

// localQuestion takes the next slot of the process's own share, one at a time,
// and tries Redis when it is time to.
func (l *Limiter) localQuestion(now time.Time, soonest func(time.Time)) *question {
	probe := !l.outage.retryAt.After(now)
	soonest(l.outage.retryAt)
	for c := range Class(classes) {
		n, cost := l.queue.run(c)
		switch {
		case n == 0:
		case probe:
			return &question{class: c, lane: int(c), n: min(n, maxBatch), cost: cost, owed: l.debt(), settles: l.owed - l.booked()}
		case len(l.slots) == 0:
			l.bookLocal(now, c, cost)
			soonest(l.slots[0].at)
			return nil
		}
	}
	return nil
}

// bookLocal takes a slot, however far away: no other process builds on it.
func (l *Limiter) bookLocal(now time.Time, c Class, cost int) {
	var delay time.Duration
	for range cost {
		delay = l.local.ReserveN(now, 1).DelayFrom(now)
	}
	l.owed += cost
	l.slots = append(l.slots, slot{at: now.Add(max(delay, 1)), cost: cost, class: c, local: true})
}

// booked returns the cost of the slots that are not used yet.
func (l *Limiter) booked() (n int) {
	for _, s := range l.slots {
		n += s.cost
	}
	return n
}
