package limiter

import (
	"slices"
	"time"
)

// passes is how often in a row a class may go before a lower one that waits.
const passes = 9

// waiter is a caller that waits for its slot.
type waiter struct {
	Request
	entered  time.Time
	deadline time.Time // zero: none
	// done gets the one answer, nil for a slot.
	done chan error
	// slot is the one that it was given.
	slot slot
}

// slot is a time from which one call may start. It belongs to the process, not
// to the caller for whom it was asked.
type slot struct {
	at   time.Time
	cost int
	// class is that for which it was asked. With a reserve, callers of a
	// lower class cannot use it.
	class Class
	// aged slots were asked for a class that had waited too long.
	aged bool
	// local slots are of this process's own share, while Redis is away.
	local bool
}

// queue holds the waiters, each class in the order in which they came.
type queue struct {
	waiting [classes][]*waiter
	// passed counts the slots for which a lower class was passed over, since
	// one of a lower class went.
	passed int
	// served has, for each class, the number of the last slot it got.
	served [classes]int
	slots  int
}

func (q *queue) len() int {
	n := 0
	for _, ws := range q.waiting {
		n += len(ws)
	}
	return n
}

func (q *queue) push(w *waiter) { q.waiting[w.Class] = append(q.waiting[w.Class], w) }

// remove takes a waiter out and reports whether it was there.
func (q *queue) remove(w *waiter) bool {
	ws := q.waiting[w.Class]
	i := slices.Index(ws, w)
	switch {
	case i < 0:
		return false
	case i == 0: // almost always
		ws[0] = nil
		q.waiting[w.Class] = ws[1:]
	default:
		q.waiting[w.Class] = slices.Delete(ws, i, i+1)
	}
	return true
}

// next takes out the waiter that gets the slot, nil if none can use it.
func (q *queue) next(s slot, usable func(*waiter, slot) bool) *waiter {
	var chosen, lower *waiter
	passedOver := false
	for c, ws := range q.waiting {
		passedOver = passedOver || chosen != nil && len(ws) > 0
		i := slices.IndexFunc(ws, func(w *waiter) bool { return usable(w, s) })
		switch {
		case i < 0:
		case chosen == nil:
			chosen = ws[i]
		case lower == nil || q.served[c] < q.served[lower.Class]:
			lower = ws[i]
		}
	}
	if chosen == nil {
		return nil
	}
	if lower != nil && q.passed >= passes {
		chosen, passedOver = lower, false
	}
	if passedOver {
		q.passed++
	} else {
		q.passed = 0
	}
	q.slots++
	q.served[chosen.Class] = q.slots
	q.remove(chosen)
	return chosen
}

// run returns how many of a class, from the oldest on, want the same cost.
func (q *queue) run(c Class) (n, cost int) {
	for _, w := range q.waiting[c] {
		if n > 0 && w.Cost != cost {
			break
		}
		n, cost = n+1, w.Cost
	}
	return n, cost
}

// fail answers all waiters for which why returns an error with it.
func (q *queue) fail(why func(*waiter) error) (n int64) {
	for c := range q.waiting {
		q.waiting[c] = slices.DeleteFunc(q.waiting[c], func(w *waiter) bool {
			err := why(w)
			if err != nil {
				w.done <- err
				n++
			}
			return err != nil
		})
	}
	return n
}
