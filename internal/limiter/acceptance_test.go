//go:build chaos

package limiter_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// accepted is a limit of a provider, and how it is put to the test.
type accepted struct {
	name   string
	config simulator.Config
	// windows are the limiter's, of which the last is the provider's limit.
	windows []limiter.Window
	// pace is how many times faster the simulator's clock goes, so that
	// its minutes and days are as long as the window.
	pace int
	// window is the simulator's, on its own clock.
	window time.Duration
	// least is the part of the limit that must be used while nothing
	// disturbs; 0: it is not measured.
	least float64

	*fleet
	sim   *simulator.Server
	began time.Time
	// reported is the number of calls of the phases that are over.
	reported int
}

// acceptance returns the limits. Short of an hour, a day has to be shorter: it
// is an exact window, since the limiter's calendar days cannot be hurried.
func acceptance(long bool) []*accepted {
	minute, day := 3*time.Second, 6*time.Second
	if long {
		minute, day = time.Minute, time.Minute
	}
	least := func(share float64) float64 {
		if long {
			return share
		}
		return 0
	}
	return []*accepted{
		{
			name: "1 per second", config: simulator.Config{PerSecond: 1}, pace: 1, window: time.Second,
			windows: []limiter.Window{{Name: "second", Limit: 1, Length: time.Second}},
		},
		{
			name: "5 per minute", config: simulator.Config{PerMinute: 5}, pace: int(time.Minute / minute), window: time.Minute,
			windows: []limiter.Window{{Name: "five", Limit: 5, Length: minute}}, least: least(0.97),
		},
		{
			name: "75 per minute", config: simulator.Config{PerMinute: 75}, pace: int(time.Minute / minute), window: time.Minute,
			windows: []limiter.Window{{Name: "premium", Limit: 75, Length: minute}}, least: least(0.98),
		},
		{
			name: "25 per day", config: simulator.Config{PerDay: 25}, pace: int(24 * time.Hour / day), window: 24 * time.Hour,
			windows: []limiter.Window{
				{Name: "free", Limit: 75, Length: 3 * time.Second},
				{Name: "free.day", Limit: 25, Length: day, Exact: true},
			},
		},
	}
}

// TestChaosLimiter has five processes call the simulator, each limit with a
// simulator of its own: at first undisturbed, then while processes are killed
// and replaced, Redis loses its keys and is restarted, and the provider sends
// a 429 and a note. The simulator must not see one call too many.
//
// The windows are 20 times shorter than they are called, those of the day more.
// LIMITER_LONG=1 runs minutes as minutes and also measures how much of a limit
// is used. CHAOS_SEED replays the moments of a run.
//
//nolint:paralleltest // it takes the whole machine
func TestChaosLimiter(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	long := os.Getenv("LIMITER_LONG") == "1"
	calm, disturbed := 10*time.Second, 18*time.Second
	if long {
		calm, disturbed = 200*time.Second, 200*time.Second
	}
	fmt.Printf("chaos: replay with CHAOS_SEED=%d\n", seed)

	server := testenv.RedisServer(t)
	all := acceptance(long)
	for _, a := range all {
		a.open(t, server.URL())
	}
	pass(t.Context(), calm)
	for _, a := range all {
		a.report("undisturbed", a.least)
	}
	disturb(t, server, all, rand.New(rand.NewPCG(seed, 0)), disturbed)
	for _, a := range all {
		a.stop()
		a.report("disturbed", 0)
		if v := a.sim.Violations(); len(v) > 0 {
			t.Errorf("%s: %d calls too many: %v", a.name, len(v), v)
		}
	}
}

// open starts the simulator and the processes.
func (a *accepted) open(t *testing.T, url string) {
	t.Helper()
	a.began = time.Now()
	a.config.Key, a.config.Now = "key", a.now
	a.sim = simulator.New(a.config)
	provider := httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(provider.Close)
	a.fleet = newFleet(t, url, 5, order{Windows: a.windows, Waiters: 4, Provider: provider.URL, Ledger: len(a.windows) > 1})
}

// now is the simulator's clock.
func (a *accepted) now() time.Time {
	return a.began.Add(time.Duration(a.pace) * time.Since(a.began))
}

// serve is the simulator, and the ledger of the calls that it has had.
func (a *accepted) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/used" {
		a.sim.ServeHTTP(w, r)
		return
	}
	since, err := strconv.ParseInt(r.FormValue("since"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	from := a.began.Add(time.Duration(a.pace) * time.Unix(since, 0).Sub(a.began))
	n := 0
	for _, c := range a.sim.Calls() {
		if !c.At.Before(from) {
			n++
		}
	}
	_, _ = io.WriteString(w, strconv.Itoa(n))
}

// report prints how much of the limit was used since the last report, between
// the first and the last call. Of an exact window, whose calls come all at
// once, that says little.
func (a *accepted) report(phase string, least float64) {
	a.t.Helper()
	calls := a.sim.Calls()[a.reported:]
	a.reported += len(calls)
	limit, refused := a.windows[len(a.windows)-1].Limit, 0
	for _, c := range calls {
		if strings.HasPrefix(c.Outcome, "fault:") {
			refused++
		}
	}
	if len(calls) < 2 {
		a.t.Errorf("%s, %s: %d calls", a.name, phase, len(calls))
		return
	}
	took := calls[len(calls)-1].At.Sub(calls[0].At)
	used := float64(len(calls)-1) / (float64(limit) * took.Seconds() / a.window.Seconds())
	fmt.Printf("chaos: %-13s %-11s %4d calls (%d refused), %.3f of the limit used, at most %d of %d in a window, %d too many\n",
		a.name, phase, len(calls), refused, used, a.sim.MaxInWindow(a.window), limit, len(a.sim.Violations()))
	if used < least {
		a.t.Errorf("%s, %s: %.3f of the limit was used, want %.2f", a.name, phase, used, least)
	}
}

// disturb does everything that may go wrong, at random moments.
func disturb(t *testing.T, server *testenv.Server, all []*accepted, r *rand.Rand, during time.Duration) {
	t.Helper()
	rdb := all[0].rdb
	each := during / 12
	for i := range 12 {
		pass(t.Context(), between(r, each/2, each))
		a := all[r.IntN(len(all))]
		switch i {
		case 2:
			if err := rdb.FlushAll(t.Context()).Err(); err != nil {
				t.Error(err)
			}
		case 4:
			server.Stop()
			pass(t.Context(), between(r, 0, each/2))
			server.Start()
		case 6:
			refuse(all, simulator.TooManyRequests)
		case 8:
			refuse(all, simulator.MinuteNote)
		default:
			a.kill(r.IntN(len(a.members)))
			a.start()
		}
	}
	pass(t.Context(), during/4)
}

func refuse(all []*accepted, f simulator.Fault) {
	for _, a := range all {
		a.sim.Fault("", f, 1)
	}
}
