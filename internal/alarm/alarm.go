package alarm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

const (
	// pace is the least time between two alarms of a kind, the one that says
	// that it is over apart.
	pace = time.Hour
	// The waits between tries to deliver grow from the first to the longest.
	firstRetry, longestRetry = 15 * time.Second, 15 * time.Minute
)

// States of an event.
const (
	Raised = "raised"
	Ended  = "ended"
)

// Event is what is sent: trouble of a kind has begun or changed, or is over.
type Event struct {
	// ID is the same for the same causes, on whatever replica and however
	// often it is sent. The event that ends it has the same one.
	ID       string `json:"id"`
	State    string `json:"state"`
	Kind     Kind   `json:"kind"`
	Severity string `json:"severity"`
	// At is when the sender saw this first, in UTC.
	At time.Time `json:"at"`
	// Sender names the replica.
	Sender string `json:"sender"`
	// Causes are what is wrong; when it is over, what was.
	Causes []Cause `json:"causes"`
}

// Alarms decides when to send what. It is not safe for concurrent use: one
// goroutine calls Step every now and then, which is not one that ingests.
type Alarms struct {
	// Send delivers an event; an error means that it may not have arrived.
	Send func(ctx context.Context, e Event) error
	// Sender names this replica in events.
	Sender string
	// Redact takes secrets out of reasons.
	Redact func(string) string

	seen  map[string]time.Time // since when each cause is there
	kinds map[Kind]*trouble
}

// trouble is what was told of one kind.
type trouble struct {
	told *Event // the alarm that is not over for the receiver
	// last is when the last alarm was sent.
	last time.Time
	// due is the event that could not be delivered yet.
	due   *Event
	tries int
	retry time.Time
}

// Step sends what is to be sent at now, given all causes that there are. Kinds
// that are unknown, since what tells of them could not be read, stay as they
// are. It returns when Send has returned for each kind, once at most.
func (a *Alarms) Step(ctx context.Context, now time.Time, causes []Cause, unknown ...Kind) {
	if a.kinds == nil {
		a.seen, a.kinds = map[string]time.Time{}, map[Kind]*trouble{}
	}
	for _, kind := range Kinds() {
		if slices.Contains(unknown, kind) {
			continue
		}
		lasting, young := a.lasting(now, kind, causes)
		if a.kinds[kind] == nil {
			a.kinds[kind] = &trouble{}
		}
		a.tell(ctx, now, kind, lasting, young)
	}
}

// lasting returns the causes of a kind that are there for long enough, in the
// order of their subjects, and whether there are others.
func (a *Alarms) lasting(now time.Time, kind Kind, causes []Cause) (lasting []Cause, young bool) {
	there := map[string]bool{}
	for _, c := range causes {
		if c.Kind != kind {
			continue
		}
		there[c.key()] = true
		if _, known := a.seen[c.key()]; !known {
			a.seen[c.key()] = now
		}
		if now.Sub(a.seen[c.key()]) < kind.Hold() {
			young = true
			continue
		}
		c.Reason = a.Redact(c.Reason)
		lasting = append(lasting, c)
	}
	for key := range a.seen {
		if strings.HasPrefix(key, string(kind)+"\x00") && !there[key] {
			delete(a.seen, key)
		}
	}
	slices.SortFunc(lasting, func(x, y Cause) int { return strings.Compare(x.key(), y.key()) })
	return lasting, young
}

func (a *Alarms) tell(ctx context.Context, now time.Time, kind Kind, causes []Cause, young bool) {
	t := a.kinds[kind]
	e := t.wanted(now, kind, causes, young)
	if e == nil {
		t.due, t.tries = nil, 0
		return
	}
	if t.due == nil || t.due.ID != e.ID || t.due.State != e.State {
		e.At, e.Sender = now.UTC(), a.Sender
		t.due, t.tries, t.retry = e, 0, now
	}
	if t.retry.After(now) {
		return
	}
	if err := a.Send(ctx, *t.due); err != nil {
		t.retry = now.Add(min(firstRetry<<min(t.tries, 10), longestRetry))
		t.tries++
		return
	}
	t.sent(now)
}

// wanted is the event that the receiver does not know yet; nil if there is
// none, or if it is too early for it. With a young cause nothing is over: it
// takes the place of what was told, or goes and lets it end.
func (t *trouble) wanted(now time.Time, kind Kind, causes []Cause, young bool) *Event {
	if len(causes) == 0 {
		if t.told == nil || young {
			return nil
		}
		over := *t.told
		over.State = Ended
		return &over
	}
	id := identity(causes)
	if t.told != nil && t.told.ID == id || !t.last.IsZero() && now.Sub(t.last) < pace {
		return nil
	}
	return &Event{ID: id, State: Raised, Kind: kind, Severity: kind.Severity(), Causes: causes}
}

func (t *trouble) sent(now time.Time) {
	if t.due.State == Raised {
		t.told, t.last = t.due, now
	} else {
		t.told = nil
	}
	t.due, t.tries = nil, 0
}

// identity is a hash of what the causes are about, without their words.
func identity(causes []Cause) string {
	h := sha256.New()
	for _, c := range causes {
		_, _ = h.Write([]byte(c.key() + "\x00\x00"))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
