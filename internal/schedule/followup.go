package schedule

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Attempt is the last attempt at a period, as its report has it.
type Attempt struct {
	// Status is ok, partial, quota, failed or interrupted.
	Status string
	// Outcomes counts the units of the attempt by their outcome class.
	Outcomes map[string]int
	// Skipped counts the units that were done before.
	Skipped int
	// Ended is when the attempt ended.
	Ended time.Time
	// Number is how many attempts in a row, this one included, have ended
	// for the same reason; below 1 counts as 1.
	Number int
	// Reset is when the provider's quota is full again; zero if that is not
	// known.
	Reset time.Time
}

// The waits between two attempts at a period.
const (
	notReadyFirst, notReadyLongest = 15 * time.Minute, 2 * time.Hour
	failureFirst, failureLongest   = 5 * time.Minute, time.Hour

	otherWait  = time.Hour
	afterReset = time.Minute
)

// FollowUp says when a period is asked for again, and why:
//
//   - interrupted: at once;
//   - the quota is spent: a minute after its reset, or after an hour if that is
//     not known or has passed;
//   - symbols are not ready: after 15 minutes, doubling to 2 hours;
//   - the provider failed: after 5 minutes, doubling to 1 hour;
//   - anything else that is not done: after 1 hour.
//
// The first of these that fits counts, since an attempt asks for all that is
// not done. ok is false if there is no further attempt: all is done, or what is
// left is known for good (no_data, unknown_symbol, premium_only, no_session).
// why is for the journal in both cases.
func FollowUp(a Attempt) (at time.Time, ok bool, why string) {
	if a.Status == "ok" {
		return time.Time{}, false, "complete"
	}
	if left, final := a.final(); final {
		if a.Skipped+a.Outcomes["stored"]+a.Outcomes["unchanged"] == 0 {
			return time.Time{}, false, "nothing of it can be had: " + left
		}
		return time.Time{}, false, settled + left
	}
	at, why = a.next()
	return at, true, why
}

const settled = "asking again brings nothing: "

// Settled reports whether the why of [FollowUp], as the journal keeps it, says that
// a period has all that can be had of it, and something.
func Settled(why string) bool { return strings.HasPrefix(why, settled) }

// final reports whether all that is not done has an answer that will not
// change before the next period, and names those answers.
func (a Attempt) final() (left string, final bool) {
	var lasting []string
	for class, n := range a.Outcomes {
		switch class {
		case "stored", "unchanged":
		case "no_data", "unknown_symbol", "premium_only", "no_session":
			if n > 0 {
				lasting = append(lasting, fmt.Sprintf("%s %d", class, n))
			}
		default:
			if n > 0 {
				return "", false
			}
		}
	}
	slices.Sort(lasting)
	return strings.Join(lasting, ", "), a.Status == "partial" && len(lasting) > 0
}

func (a Attempt) next() (at time.Time, why string) {
	switch has := func(class string) bool { return a.Outcomes[class] > 0 }; {
	case a.Status == "interrupted":
		return a.Ended, "interrupted"
	case a.Status == "quota" || has("quota"):
		if at := a.Reset.Add(afterReset); at.After(a.Ended) {
			return at, "the provider's quota is spent"
		}
		return a.Ended.Add(otherWait), "the provider's quota is spent, until when is not known"
	case has("not_ready"):
		return a.Ended.Add(a.doubled(notReadyFirst, notReadyLongest)), "the provider does not have all of it yet"
	case a.Status == "failed" || has("provider_error") || has("limit_note"):
		return a.Ended.Add(a.doubled(failureFirst, failureLongest)), "the provider failed"
	}
	return a.Ended.Add(otherWait), "some of it is not done"
}

// doubled returns wait, doubled for each attempt after the first, up to longest.
func (a Attempt) doubled(wait, longest time.Duration) time.Duration {
	for n := 1; n < a.Number && wait < longest; n++ {
		wait *= 2
	}
	return min(wait, longest)
}
