package alarm_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/alarm"
)

// receiver is where alarms go to.
type receiver struct {
	alarm.Alarms
	got  []alarm.Event
	when []time.Time // each was delivered
	down bool
	now  time.Time
}

func newReceiver(name string) *receiver {
	r := &receiver{now: time.Date(2026, 3, 12, 12, 0, 0, 0, time.UTC)}
	r.Alarms = alarm.Alarms{
		Sender: name,
		Redact: func(s string) string { return strings.ReplaceAll(s, canary, "[redacted]") },
		Send: func(_ context.Context, e alarm.Event) error {
			if r.down {
				return errors.New("down")
			}
			r.got, r.when = append(r.got, e), append(r.when, r.now)
			return nil
		},
	}
	return r
}

// pass lets time pass with the same causes all the while.
func (r *receiver) pass(t *testing.T, d time.Duration, causes ...alarm.Cause) {
	t.Helper()
	for end := r.now.Add(d); r.now.Before(end); r.now = r.now.Add(alarm.Every) {
		r.Step(t.Context(), r.now, causes)
	}
}

func (r *receiver) want(t *testing.T, want ...string) {
	t.Helper()
	got := []string{}
	for _, e := range r.got {
		subjects := ""
		for _, c := range e.Causes {
			subjects += " " + c.Subject
		}
		got = append(got, e.State+" "+string(e.Kind)+subjects)
	}
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func refused(provider string) alarm.Cause {
	return alarm.Cause{Kind: alarm.KeyRefused, Subject: provider, Since: "2026-03-12", Reason: "says no to " + canary}
}

const canary = "CANARYk3y9876"

func TestOneAlarmAndItsEnd(t *testing.T) {
	t.Parallel()
	r := newReceiver("a")
	r.pass(t, 3*time.Hour, refused("acme"))
	r.want(t, "raised key_refused acme")
	r.pass(t, 3*time.Hour)
	r.want(t, "raised key_refused acme", "ended key_refused acme")
	if r.got[0].ID != r.got[1].ID || r.got[0].ID == "" {
		t.Errorf("ids %q and %q", r.got[0].ID, r.got[1].ID)
	}
	if r.got[0].Severity != "critical" || r.got[0].Sender != "a" {
		t.Errorf("event %+v", r.got[0])
	}
	if text := fmt.Sprintf("%+v", r.got); strings.Contains(text, canary) {
		t.Errorf("the key is in an event: %s", text)
	}
}

// A fault that comes and goes gives one alarm an hour at most, of each kind.
func TestFlappingIsBounded(t *testing.T) {
	t.Parallel()
	r := newReceiver("a")
	quota := alarm.Cause{Kind: alarm.QuotaTooSmall, Subject: "daily_bars", Since: "500 of 25"}
	for range 5 * 60 {
		r.pass(t, 30*time.Second, refused("acme"), quota)
		r.pass(t, 30*time.Second)
	}
	raised := map[alarm.Kind]int{}
	for _, e := range r.got {
		if e.State == alarm.Raised {
			raised[e.Kind]++
		}
	}
	if raised[alarm.KeyRefused] != 5 || raised[alarm.QuotaTooSmall] != 5 {
		t.Errorf("%v alarms in five hours, want 5 of each kind", raised)
	}
}

func TestMoreTroubleOfAKindIsToldAfterAnHour(t *testing.T) {
	t.Parallel()
	r := newReceiver("a")
	r.pass(t, time.Minute, refused("acme"))
	r.pass(t, 58*time.Minute, refused("beta"), refused("acme"))
	r.want(t, "raised key_refused acme")
	r.pass(t, 2*time.Minute, refused("beta"), refused("acme"))
	r.want(t, "raised key_refused acme", "raised key_refused acme beta")
}

// A server that restarts is no alarm, one that is gone for five minutes is.
func TestShortFaultsAreNotTold(t *testing.T) {
	t.Parallel()
	lost := alarm.Cause{Kind: alarm.ServerLost, Subject: "redis", Since: "a"}
	r := newReceiver("a")
	for range 5 {
		r.pass(t, 4*time.Minute, lost)
		r.pass(t, time.Minute)
	}
	r.want(t)
	r.pass(t, 5*time.Minute+alarm.Every, lost)
	r.want(t, "raised server_lost redis")
}

// The next session's bars are late too: that takes the place of the alarm before,
// which was never over.
func TestTroubleThatMovesOnIsNotOver(t *testing.T) {
	t.Parallel()
	r := newReceiver("a")
	r.pass(t, 24*time.Hour, alarm.Cause{Kind: alarm.StaleBars, Subject: "2026-03-11"})
	next := alarm.Cause{Kind: alarm.StaleBars, Subject: "2026-03-12"}
	r.pass(t, 10*time.Minute, next)
	r.want(t, "raised stale_bars 2026-03-11")
	r.pass(t, time.Hour, next)
	r.want(t, "raised stale_bars 2026-03-11", "raised stale_bars 2026-03-12")
	r.pass(t, time.Minute)
	r.want(t, "raised stale_bars 2026-03-11", "raised stale_bars 2026-03-12", "ended stale_bars 2026-03-12")
}

// What begins while another is open and is gone before it is told lets the other
// end.
func TestTroubleThatIsNotToldEndsWithTheOther(t *testing.T) {
	t.Parallel()
	r := newReceiver("a")
	r.pass(t, 10*time.Minute, alarm.Cause{Kind: alarm.ServerLost, Subject: "redis"})
	r.pass(t, 4*time.Minute, alarm.Cause{Kind: alarm.ServerLost, Subject: "database"})
	r.want(t, "raised server_lost redis")
	r.pass(t, time.Minute)
	r.want(t, "raised server_lost redis", "ended server_lost redis")
}

// What cannot be read is neither there nor over.
func TestUnknownIsNotOver(t *testing.T) {
	t.Parallel()
	r := newReceiver("a")
	stale := alarm.Cause{Kind: alarm.StaleBars, Subject: "2026-03-12"}
	r.pass(t, time.Hour, stale)
	for range 100 {
		r.Step(t.Context(), r.now, nil, alarm.StaleBars)
		r.now = r.now.Add(time.Minute)
	}
	r.want(t, "raised stale_bars 2026-03-12")
	r.Step(t.Context(), r.now, nil)
	r.want(t, "raised stale_bars 2026-03-12", "ended stale_bars 2026-03-12")
}

// An alarm that cannot be delivered is tried again, less and less often, until it
// is delivered or over.
func TestDeliveryIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newReceiver("a")
	tries := 0
	send := r.Send
	r.Send = func(ctx context.Context, e alarm.Event) error { tries++; return send(ctx, e) }
	r.down = true
	r.pass(t, 2*time.Hour, refused("acme"))
	if tries < 8 || tries > 20 {
		t.Errorf("%d tries in two hours", tries)
	}
	began := r.now.Add(-2 * time.Hour)
	r.down = false
	r.pass(t, 20*time.Minute, refused("acme"))
	r.want(t, "raised key_refused acme")
	if !r.got[0].At.Equal(began) {
		t.Errorf("the event is of %s, want when it was seen first, %s", r.got[0].At, began)
	}
	r.down = true
	r.pass(t, time.Hour)
	r.down = false
	r.pass(t, time.Hour, refused("beta"))
	r.pass(t, time.Hour)
	r.want(t, "raised key_refused acme", "raised key_refused beta", "ended key_refused beta")
}

// Two replicas that see the same say the same, whatever the order and the words,
// and other trouble has another id.
func TestReplicasAgreeOnTheID(t *testing.T) {
	t.Parallel()
	a, b := newReceiver("a"), newReceiver("b")
	b.now = b.now.Add(7 * time.Second)
	one, two := refused("acme"), refused("beta")
	a.pass(t, time.Minute, one, two)
	two.Reason = "other words"
	b.pass(t, time.Minute, two, one)
	if len(a.got) != 1 || len(b.got) != 1 || a.got[0].ID != b.got[0].ID {
		t.Errorf("%+v\n%+v", a.got, b.got)
	}
	c := newReceiver("c")
	one.Since = "2026-03-13"
	c.pass(t, time.Minute, one, two)
	if c.got[0].ID == a.got[0].ID {
		t.Error("trouble of another day has the same id")
	}
}

// Whatever comes and goes: no kind is raised twice within an hour, nothing ends
// that was not raised, and when all is quiet nothing is left open.
func TestAlarmsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := newReceiver("a")
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			var causes []alarm.Cause
			for _, kind := range alarm.Kinds() {
				if rapid.Bool().Draw(rt, "there") {
					causes = append(causes, alarm.Cause{Kind: kind, Subject: rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "subject")})
				}
			}
			r.down = rapid.Bool().Draw(rt, "down")
			r.pass(t, time.Duration(rapid.IntRange(1, 90).Draw(rt, "minutes"))*time.Minute, causes...)
		}
		r.down = false
		r.pass(t, 2*time.Hour)
		open := map[alarm.Kind]string{}
		last := map[alarm.Kind]time.Time{}
		for i, e := range r.got {
			switch {
			case e.State == alarm.Raised:
				if at, ok := last[e.Kind]; ok && r.when[i].Sub(at) < time.Hour {
					rt.Fatalf("%s is raised again after %s", e.Kind, r.when[i].Sub(at))
				}
				open[e.Kind], last[e.Kind] = e.ID, r.when[i]
			case open[e.Kind] != e.ID:
				rt.Fatalf("%s ends as %q, open is %q", e.Kind, e.ID, open[e.Kind])
			default:
				delete(open, e.Kind)
			}
		}
		if len(open) > 0 {
			rt.Fatalf("never ended: %v", open)
		}
	})
}

func TestPulse(t *testing.T) {
	t.Parallel()
	var p alarm.Pulse
	now := time.Unix(1e9, 0)
	var at []time.Duration
	down := func(i int) error {
		if i < 3 {
			return errors.New("down")
		}
		return nil
	}
	for d := time.Duration(0); len(at) < 6; d += time.Second {
		if p.Due(now.Add(d)) {
			p.Pinged(now.Add(d), down(len(at)))
			at = append(at, d)
		}
	}
	want := []time.Duration{0, 15 * time.Second, 45 * time.Second, 105 * time.Second, 105*time.Second + alarm.Beat, 105*time.Second + 2*alarm.Beat}
	if !slices.Equal(at, want) {
		t.Errorf("pinged after %v, want %v", at, want)
	}
}
