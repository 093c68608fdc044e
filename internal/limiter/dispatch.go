package limiter

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"
)

const (
	// maxBatch bounds the slots of one request.
	maxBatch = 256
	// agedShare is the part of the rate that a class gets in any case.
	agedShare = 0.1
)

// horizons are the parts of the horizon that the classes may take slots ahead.
// The further ahead a process may ask, the earlier it does, so the order of the
// classes holds between processes too.
func horizons() [classes]float64 { return [classes]float64{1, 0.6, 0.2} }

// lane is the time plan of a class. Each class has one more, for when it has
// waited so long that it asks as a scheduled call does.
type lane struct {
	askAt    time.Time // no use in asking before
	earliest time.Time // nothing is granted before
	since    time.Time // the last grant, or when the first of those waiting came
}

// unused counts the tokens of slots that nobody took.
type unused struct {
	cost int
	last time.Time // of the newest slot
}

// question is a request for slots.
type question struct {
	class   Class
	lane    int
	n, cost int
	// owed is the debt to take from the buckets, settles what of ours that
	// is done with then.
	owed, settles int
	// quick leaves the ledger unasked: the one who asks is a caller, who
	// must see when its context ends.
	quick bool
}

// enter puts a caller in the queue and asks for it, if nobody else is doing
// that.
func (l *Limiter) enter(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Waits++
	if err := l.late(w); err != nil {
		l.stats.Late++
		w.done <- err
		return
	}
	if len(l.queue.waiting[w.Class]) == 0 {
		l.lanes[w.Class].since = w.entered
	}
	l.queue.push(w)
	if l.dispatching {
		if !l.asking {
			l.signal()
		}
		return
	}
	// A lone caller is served without a goroutine between it and Redis, unless
	// Redis may let it wait for longer than it wants to.
	if l.outage.since.IsZero() {
		if q, _ := l.step(w.entered); q != nil {
			q.quick = true
			l.askUnlocked(*q)
		}
	}
	l.start()
}

// leave takes a caller out that gave up. If it has been given a slot in the
// same moment, the next caller gets that.
func (l *Limiter) leave(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.queue.remove(w) {
		if err := <-w.done; err != nil {
			return
		}
		l.stats.Grants--
		l.stats.Tokens -= int64(w.slot.cost)
		l.slots = slices.Insert(l.slots, 0, w.slot)
		l.dropSlots(l.paused)
	}
	if w.Cost > 1 { // others may go earlier than it could
		l.lanes[w.Class].askAt, l.lanes[w.Class].earliest = time.Time{}, time.Time{}
	}
	l.stats.Cancelled++
	l.start()
	l.signal()
}

// start makes sure that somebody looks after the queue.
func (l *Limiter) start() {
	if !l.dispatching && l.busy() {
		l.dispatching = true
		go l.dispatch()
	}
}

func (l *Limiter) busy() bool {
	return l.queue.len() > 0 || len(l.slots) > 0 || l.unused.cost > 0
}

func (l *Limiter) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// dispatch hands out slots as their times come, and asks for as many as there
// are callers. It ends when there is nothing left to do.
func (l *Limiter) dispatch() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		q, next := l.step(l.o.Now())
		switch {
		case q != nil && len(l.slots) == 0 && l.outage.since.IsZero():
			l.askUnlocked(*q)
			l.yield()
			continue
		case q != nil:
			// The slots there are must not wait for the answer.
			l.asking = true
			go l.askAside(*q)
		case !l.busy():
			l.dispatching = false
			return
		}
		l.sleep(timer, next)
	}
}

// sleep waits, unlocked, until a time or a signal.
func (l *Limiter) sleep(timer *time.Timer, until time.Time) {
	timer.Reset(until.Sub(l.o.Now()))
	l.mu.Unlock()
	defer l.mu.Lock()
	select {
	case <-timer.C:
	case <-l.wake:
	}
}

// yield lets the callers that have just been served run: those that come back at
// once for their next call are in the next request, and not in the one after.
func (l *Limiter) yield() {
	l.mu.Unlock()
	defer l.mu.Lock()
	runtime.Gosched()
}

func (l *Limiter) askAside(q question) {
	a := l.ask(q)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finish(q, a)
	l.start()
}

// askUnlocked asks while others may enter and leave.
func (l *Limiter) askUnlocked(q question) {
	l.asking = true
	l.mu.Unlock()
	a := l.ask(q)
	l.mu.Lock()
	l.finish(q, a)
}

// step does what is due and returns the question to ask now, if any, and
// otherwise when to come back.
func (l *Limiter) step(now time.Time) (*question, time.Time) {
	l.release(now)
	l.giveUp(now)
	l.refund()
	next := now.Add(time.Hour)
	soonest := func(t time.Time) {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	for _, s := range l.slots {
		soonest(s.at)
		soonest(s.at.Add(l.stale + 1))
	}
	soonest(l.lastPatience())
	if l.queue.len() == 0 || l.asking {
		return nil, next
	}
	if hold := l.hold(); hold.After(now) {
		soonest(hold)
		return nil, next
	}
	q := l.question(now, soonest)
	return q, next
}

// hold returns the time before which nothing is asked.
func (l *Limiter) hold() time.Time {
	if l.isLocal() {
		return l.paused
	}
	return later(l.paused, l.outage.retryAt)
}

// question finds the most urgent class that has more callers than slots, and
// whose time to ask has come.
func (l *Limiter) question(now time.Time, soonest func(time.Time)) *question {
	if l.isLocal() {
		return l.localQuestion(now, soonest)
	}
	if q := l.passedOver(now); q != nil {
		return q
	}
	higher := 0
	for c := range Class(classes) {
		n, cost := l.queue.run(c)
		n -= l.covered(c, cost)
		if n > 0 {
			q := question{class: c, lane: int(c), n: min(n, maxBatch), cost: cost, owed: l.owed, settles: l.owed}
			due := l.lanes[c].askAt
			if c != Scheduled && higher == 0 && due.After(now) {
				l.age(now, &q, &due)
			}
			if !due.After(now) {
				return &q
			}
			soonest(due)
		}
		higher += len(l.queue.waiting[c])
	}
	return nil
}

// passedOver asks for the class whose turn has come after the others went
// before it, if a reserve keeps it from the slots that they got.
func (l *Limiter) passedOver(now time.Time) *question {
	if !l.reserves() || l.queue.passed < passes {
		return nil
	}
	for c := Backfill; c > Scheduled; c-- {
		n, cost := l.queue.run(c)
		if n > l.covered(c, cost) && !l.lanes[classes+c].askAt.After(now) {
			return &question{class: c, lane: classes + int(c), n: 1, cost: cost, owed: l.owed, settles: l.owed}
		}
	}
	return nil
}

// age lets a class that went without for long ask as a scheduled call does, for
// a tenth of what the limit gave out meanwhile.
func (l *Limiter) age(now time.Time, q *question, due *time.Time) {
	each := time.Duration(float64(q.cost) / (agedShare * l.Rate()) * float64(time.Second))
	since := l.lanes[q.class].since
	aged := classes + int(q.class)
	if at := later(since.Add(each), l.lanes[aged].askAt); at.Before(*due) {
		*due = at
		q.lane = aged
		q.n = max(1, min(q.n, int(now.Sub(since)/max(1, each))))
	}
}

// covered returns how many callers of a class and cost have a slot, if the
// slots are given to the most urgent first.
func (l *Limiter) covered(c Class, cost int) (n int) {
	if len(l.slots) == 0 {
		return 0
	}
	var left [classes]int
	for k, ws := range l.queue.waiting {
		for _, w := range ws {
			if w.Cost == cost {
				left[k]++
			}
		}
	}
	for _, s := range l.slots {
		for k := range Class(classes) {
			if left[k] > 0 && l.usable(&waiter{Request: Request{k, cost}}, s) {
				left[k]--
				if k == c {
					n++
				}
				break
			}
		}
	}
	return n
}

// usable reports whether a waiter can use a slot. One that was asked for a
// higher class may come out of a reserve; one that a class got because it had
// waited for so long is for that class.
func (l *Limiter) usable(w *waiter, s slot) bool {
	return w.Cost == s.cost && (w.Class == s.class || !s.aged && (w.Class < s.class || !l.reserves()))
}

func (l *Limiter) reserves() bool {
	return slices.ContainsFunc(l.windows, func(w window) bool { return w.Reserve > 0 })
}

// release gives the slots that are due to those who are first in line.
func (l *Limiter) release(now time.Time) {
	for i := 0; i < len(l.slots) && !l.slots[i].at.After(now); {
		s := l.slots[i]
		var w *waiter
		if now.Sub(s.at) <= l.stale {
			if w = l.queue.next(s, l.usable); w == nil {
				i++
				continue
			}
		}
		if i == 0 {
			l.slots = l.slots[1:]
		} else {
			l.slots = slices.Delete(l.slots, i, i+1)
		}
		if w == nil {
			l.discard(s)
			continue
		}
		l.stats.Grants++
		l.stats.Tokens += int64(s.cost)
		l.stats.Waited += now.Sub(w.entered)
		if s.local {
			l.stats.Local += int64(s.cost)
		}
		l.lanes[w.Class].since = now
		w.slot = s
		w.done <- nil
	}
}

func (l *Limiter) discard(s slot) {
	l.stats.Unused += int64(s.cost)
	l.unused.cost += s.cost
	l.unused.last = s.at
}

// dropSlots gives up the slots before a time.
func (l *Limiter) dropSlots(before time.Time) {
	l.slots = slices.DeleteFunc(l.slots, func(s slot) bool {
		if s.at.Before(before) {
			l.discard(s)
			return true
		}
		return false
	})
}

// refund gives the tokens of unused slots back to the days. If that fails they
// count as used.
func (l *Limiter) refund() {
	back := l.unused
	l.unused = unused{}
	if days := daysOf(l.windows); back.cost > 0 && len(days) > 0 {
		go func() {
			_ = l.run(context.Background(), l.scripts.refund, days, nil, back.cost, back.last.Unix()).Err()
		}()
	}
}

// late returns the error of a caller whose time will be over before it can go.
func (l *Limiter) late(w *waiter) error {
	if w.deadline.IsZero() {
		return nil
	}
	earliest := l.lanes[w.Class].earliest
	if len(l.slots) > 0 {
		earliest = l.slots[0].at
	}
	earliest = later(earliest, l.paused)
	if !w.deadline.Before(earliest) {
		return nil
	}
	return fmt.Errorf("the call may go in %s, after its deadline: %w",
		earliest.Sub(l.o.Now()).Round(time.Millisecond), context.DeadlineExceeded)
}

// finish takes the answer to a question in.
func (l *Limiter) finish(q question, a answer) {
	l.asking = false
	if l.dispatching {
		defer l.signal()
	}
	if a.err != nil {
		l.failed(a)
		return
	}
	l.recovered(q)
	l.stats.Lost += a.lost
	plan := &l.lanes[q.lane]
	switch a.status {
	case taken:
		l.add(q, a)
		l.lanes[q.class].since = a.arrived
		plan.askAt = a.arrived.Add(a.ask)
		plan.earliest = plan.askAt
	case spent:
		l.spent(q, a)
	case unknown:
		// A quick question: the next one goes to the ledger.
	case notYet:
		plan.askAt = a.arrived.Add(a.ask)
		plan.earliest = a.arrived.Add(a.next)
	}
	l.release(l.o.Now())
	if a.status == notYet || len(l.slots) > 0 {
		l.stats.Late += l.queue.fail(l.late)
	}
}

func (l *Limiter) add(q question, a answer) {
	for _, d := range a.delays {
		l.slots = append(l.slots, slot{at: a.arrived.Add(d), cost: q.cost, class: q.class, aged: q.lane >= classes})
	}
	slices.SortStableFunc(l.slots, func(a, b slot) int { return a.at.Compare(b.at) })
	l.dropSlots(l.paused)
}

// spent answers those whom a spent window concerns: the class that asked and
// the lower ones, but for as many as there are slots for.
func (l *Limiter) spent(q question, a answer) {
	w := l.windows[a.window]
	err := &QuotaError{Name: w.Name, Limit: w.Limit, Reset: time.Unix(a.reset, 0)}
	if w.Daily != nil {
		err.Reset = err.Reset.In(w.Daily)
	}
	if q.class == Backfill {
		err.Reserve = w.Reserve
	}
	left := l.covered(q.class, q.cost)
	l.stats.Spent += l.queue.fail(func(w *waiter) error {
		if w.Class < q.class || w.Cost < q.cost {
			return nil
		}
		if left > 0 {
			left--
			return nil
		}
		return err
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
