package schedule_test

import (
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/schedule"
)

func TestFollowUp(t *testing.T) {
	t.Parallel()
	ended := time.Date(2026, 3, 12, 22, 40, 0, 0, time.UTC)
	reset := time.Date(2026, 3, 13, 4, 0, 0, 0, time.UTC)
	const never = time.Duration(-1)
	for name, c := range map[string]struct {
		attempt schedule.Attempt
		in      time.Duration // from ended; never
		why     string
	}{
		"complete":             {schedule.Attempt{Status: "ok"}, never, "complete"},
		"not ready":            {schedule.Attempt{Status: "partial", Outcomes: map[string]int{"not_ready": 3, "stored": 500}}, 15 * time.Minute, "does not have all of it yet"},
		"not ready, 2nd":       {schedule.Attempt{Status: "partial", Number: 2, Outcomes: map[string]int{"not_ready": 3}}, 30 * time.Minute, ""},
		"not ready, 4th":       {schedule.Attempt{Status: "partial", Number: 4, Outcomes: map[string]int{"not_ready": 3}}, 2 * time.Hour, ""},
		"not ready, 99th":      {schedule.Attempt{Status: "partial", Number: 99, Outcomes: map[string]int{"not_ready": 3}}, 2 * time.Hour, ""},
		"quota":                {schedule.Attempt{Status: "quota", Reset: reset}, 5*time.Hour + 21*time.Minute, "quota is spent"},
		"quota in outcomes":    {schedule.Attempt{Status: "partial", Reset: reset, Outcomes: map[string]int{"quota": 9, "not_ready": 1}}, 5*time.Hour + 21*time.Minute, "quota is spent"},
		"quota, no reset":      {schedule.Attempt{Status: "quota", Number: 7}, time.Hour, "until when is not known"},
		"quota, reset is over": {schedule.Attempt{Status: "quota", Reset: ended.Add(-time.Hour)}, time.Hour, "until when is not known"},
		"failed":               {schedule.Attempt{Status: "failed"}, 5 * time.Minute, "the provider failed"},
		"provider error, 3rd":  {schedule.Attempt{Status: "partial", Number: 3, Outcomes: map[string]int{"provider_error": 1, "no_data": 3}}, 20 * time.Minute, "the provider failed"},
		"limit note, 5th":      {schedule.Attempt{Status: "partial", Number: 5, Outcomes: map[string]int{"limit_note": 1}}, time.Hour, "the provider failed"},
		"not ready and errors": {schedule.Attempt{Status: "partial", Outcomes: map[string]int{"provider_error": 9, "not_ready": 1}}, 15 * time.Minute, "yet"},
		"bad payload":          {schedule.Attempt{Status: "partial", Number: 9, Outcomes: map[string]int{"bad_payload": 1, "unknown_symbol": 1}}, time.Hour, "some of it"},
		"partial":              {schedule.Attempt{Status: "partial"}, time.Hour, "some of it"},
		"interrupted":          {schedule.Attempt{Status: "interrupted", Number: 9, Outcomes: map[string]int{"interrupted": 3}}, 0, "interrupted"},
		"known for good":       {schedule.Attempt{Status: "partial", Outcomes: map[string]int{"unknown_symbol": 2, "premium_only": 1, "stored": 5, "not_ready": 0}}, never, "asking again brings nothing: premium_only 1, unknown_symbol 2"},
		"nothing can be had":   {schedule.Attempt{Status: "partial", Outcomes: map[string]int{"premium_only": 9, "stored": 0}}, never, "nothing of it can be had: premium_only 9"},
		"the rest cannot":      {schedule.Attempt{Status: "partial", Skipped: 5, Outcomes: map[string]int{"premium_only": 9}}, never, "asking again brings nothing: premium_only 9"},
		"zeros":                {schedule.Attempt{Status: "partial", Outcomes: map[string]int{"unknown_symbol": 0}}, time.Hour, "some of it"},
	} {
		c.attempt.Ended = ended
		at, ok, why := schedule.FollowUp(c.attempt)
		if ok != (c.in != never) || (ok && !at.Equal(ended.Add(c.in))) || (!ok && !at.IsZero()) || !strings.Contains(why, c.why) || why == "" {
			t.Errorf("%s: %v, %v, %q; want in %v, %q", name, at, ok, why, c.in, c.why)
		}
	}
}
