package web

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

const (
	// checkEvery and checkTime let /readyz follow a loss, and its end, within
	// checkEvery + checkTime + checkGrace.
	checkEvery = 2 * time.Second
	checkTime  = 2 * time.Second
	// checkGrace is for a check to say by itself that its time is over.
	checkGrace = 250 * time.Millisecond
	// checkLife is how long a result counts: a check that comes no more is no
	// good sign.
	checkLife = 3 * (checkEvery + checkTime)
)

// Check is something without which the worker is not ready.
type Check struct {
	Name string
	// Check returns nil if it is there. It has two seconds.
	Check func(ctx context.Context) error
}

var (
	errNotChecked = errors.New("not checked yet")
	errNoAnswer   = errors.New("no answer in 2s")
	errStale      = errors.New("not checked for too long")
)

// monitor runs the checks in the background, so that whoever asks waits for none
// of them and no number of askers is a load.
type monitor struct {
	now  func() time.Time
	tell func(Event)

	mu      sync.Mutex
	results []result
}

// result is what came of a check.
type result struct {
	check     Check
	err       error
	at, since time.Time
}

func newMonitor(c Config) *monitor {
	m := &monitor{now: c.Now, tell: c.Tell}
	for _, check := range c.Checks {
		m.results = append(m.results, result{check: check, err: errNotChecked, since: c.Now()})
	}
	return m
}

// run checks until ctx ends.
func (m *monitor) run(ctx context.Context) {
	var all sync.WaitGroup
	for i := range m.results {
		all.Go(func() { m.watch(ctx, i) })
	}
	all.Wait()
}

func (m *monitor) watch(ctx context.Context, i int) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	check := m.results[i].check.Check
	// One that does not heed its context is asked again when it has answered.
	answered := make(chan error, 1)
	for asked := false; ; {
		if !asked {
			go func() {
				ctx, cancel := context.WithTimeout(ctx, checkTime)
				defer cancel()
				answered <- check(ctx)
			}()
		}
		err := await(ctx, answered)
		if ctx.Err() != nil {
			return
		}
		asked = errors.Is(err, errNoAnswer)
		m.note(i, err)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// await is the answer of a check, or errNoAnswer in its place.
func await(ctx context.Context, answered <-chan error) error {
	timer := time.NewTimer(checkTime + checkGrace)
	defer timer.Stop()
	select {
	case err := <-answered:
		return err
	case <-timer.C:
		return errNoAnswer
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *monitor) note(i int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, now := &m.results[i], m.now()
	was := r.err
	if (was == nil) != (err == nil) || errors.Is(was, errNotChecked) {
		r.since = now
		m.say(r.check.Name, err, was)
	}
	r.err, r.at = err, now
}

func (m *monitor) say(name string, err, was error) {
	switch {
	case err != nil:
		m.tell(Event{Text: "not ready", Detail: name, Err: err})
	case !errors.Is(was, errNotChecked):
		m.tell(Event{Text: "ready again", Detail: name})
	}
}

// health is what /readyz answers. It names no servers and shows no errors,
// since anybody may ask.
type health struct {
	Status string        `json:"status"`
	Checks []checkStatus `json:"checks"`
}

type checkStatus struct {
	Name  string    `json:"name"`
	OK    bool      `json:"ok"`
	Since time.Time `json:"since"`
}

func (m *monitor) health() (h health, ready bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ready = health{Status: "ready", Checks: []checkStatus{}}, true
	for _, r := range m.results {
		err := r.err
		if err == nil && m.now().Sub(r.at) > checkLife {
			err = errStale
		}
		ready = ready && err == nil
		h.Checks = append(h.Checks, checkStatus{r.check.Name, err == nil, r.since.UTC()})
	}
	if !ready {
		h.Status = "not ready"
	}
	return h, ready
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	s.encode(w, "application/json", http.StatusOK, map[string]string{"status": "alive"})
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	h, ready := s.monitor.health()
	if s.stopping.Err() != nil {
		h.Status, ready = "stopping", false
	}
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	s.encode(w, "application/json", status, h)
}
