package web_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/web"
)

const runBars = "/api/v1/jobs/daily_bars/run"

func TestAThousandStartsAreOneRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	var all sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 1000 {
		all.Go(func() {
			r := w.ask("POST", runBars, "")
			mu.Lock()
			defer mu.Unlock()
			statuses[r.status]++
		})
	}
	all.Wait()
	if statuses[http.StatusAccepted] != 1 || statuses[http.StatusTooManyRequests] != 999 {
		t.Errorf("statuses %v", statuses)
	}
	if !slices.Equal(w.starts, []string{"daily_bars 2026-03-12"}) || len(w.entries) != 1 {
		t.Errorf("starts %v, audit %+v", w.starts, w.entries)
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	r := w.ask("POST", runBars, `{"period": "2026-03-11"}`)
	if r.status != http.StatusAccepted || r.header.Get("Location") != "/api/v1/runs/1" {
		t.Errorf("%d, %v: %s", r.status, r.header, r.body)
	}
	if got := r.json(t); got["job"] != "daily_bars" || got["period"] != "2026-03-11" || got["run"] != 1.0 {
		t.Errorf("%s", r.body)
	}
	e := w.entries[0]
	if e.Actor != "token" || e.Action != "run" || e.Detail != "daily_bars 2026-03-11" || e.Origin != "127.0.0.1" || e.At.IsZero() {
		t.Errorf("audit %+v", e)
	}
	r = w.ask("POST", runBars, "")
	w.problem(r, http.StatusTooManyRequests)
	if wait := r.header.Get("Retry-After"); wait != "60" {
		t.Errorf("Retry-After: %s", wait)
	}
	if r := w.ask("POST", "/api/v1/jobs/altdata/run", ""); r.status != http.StatusAccepted {
		t.Errorf("another job: %d", r.status)
	}
	w.pass(time.Minute)
	if r := w.ask("POST", runBars, ""); r.status != http.StatusAccepted {
		t.Errorf("a minute later: %d", r.status)
	}
}

func TestARepeatWithTheSameKeyGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	begun, goOn := make(chan struct{}), make(chan struct{})
	w.begin = func() { close(begun); <-goOn }
	w.listening()
	key := with("Idempotency-Key", "3f1c")
	answers := make(chan reply, 6)
	go func() { answers <- w.ask("POST", runBars, "", key) }()
	<-begun
	for range 5 {
		go func() { answers <- w.ask("POST", runBars, "", key) }()
	}
	close(goOn)
	replayed := 0
	for range 6 {
		r := <-answers
		if r.status != http.StatusAccepted || r.header.Get("Location") != "/api/v1/runs/1" {
			t.Errorf("%d: %s", r.status, r.body)
		}
		if r.header.Get("Idempotency-Replayed") != "" {
			replayed++
		}
	}
	if replayed != 5 || len(w.starts) != 1 {
		t.Errorf("%d repeats, starts %v", replayed, w.starts)
	}
	w.problem(w.ask("POST", runBars, `{"period": "2026-03-10"}`, key), http.StatusUnprocessableEntity)
	w.problem(w.ask("POST", runBars, "", with("Idempotency-Key", "another")), http.StatusTooManyRequests)
}

func TestAHeldPeriodNamesItsOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.startErr = &web.HeldError{Owner: "host-7 pid 12", Since: time.Date(2026, 3, 12, 22, 30, 0, 0, time.UTC)}
	w.listening()
	key := with("Idempotency-Key", "k")
	p := w.problem(w.ask("POST", runBars, "", key), http.StatusConflict)
	if p["owner"] != "host-7 pid 12" || p["since"] != "2026-03-12T22:30:00Z" {
		t.Errorf("%v", p)
	}
	// It is no answer to keep: the run of the other one ends.
	w.startErr = nil
	w.pass(time.Minute)
	if r := w.ask("POST", runBars, "", key); r.status != http.StatusAccepted {
		t.Errorf("afterwards: %d", r.status)
	}
}

func TestNoRunWithoutItsAuditRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.auditErr = errors.New("the table is away")
	w.listening()
	w.problem(w.ask("POST", runBars, ""), http.StatusInternalServerError)
	if len(w.starts) > 0 {
		t.Errorf("starts %v", w.starts)
	}
}

func TestAPanicInAStartLeavesNobodyWaiting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.begin = func() { panic("at the start") }
	w.listening()
	key := with("Idempotency-Key", "k")
	w.problem(w.ask("POST", runBars, "", key), http.StatusInternalServerError)
	w.problem(w.ask("POST", runBars, "", key), http.StatusTooManyRequests)
}

func TestBadStarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	for body, want := range map[string]int{
		`{"period": 3}`:                  http.StatusBadRequest,
		`{"period": "2026-03-11"} {}`:    http.StatusBadRequest,
		`{"period": "x", "force": "y"}`:  http.StatusBadRequest,
		`{"date": "2026-03-11"}`:         http.StatusBadRequest,
		`[]`:                             http.StatusBadRequest,
		`{"period": "yesterday"}`:        http.StatusBadRequest,
		strings.Repeat(" ", 64<<10) + "": http.StatusBadRequest,
	} {
		w.problem(w.ask("POST", runBars, body), want)
	}
	w.problem(w.ask("POST", runBars, `{}`, with("Content-Type", "text/plain")), http.StatusBadRequest)
	w.problem(w.ask("POST", runBars+"?force=1", ""), http.StatusBadRequest)
	w.problem(w.ask("POST", runBars, "", with("Idempotency-Key", strings.Repeat("k", 129))), http.StatusBadRequest)
	w.problem(w.ask("POST", "/api/v1/jobs/backfill/run", ""), http.StatusNotFound)
	w.problem(w.ask("GET", runBars, ""), http.StatusMethodNotAllowed)
	if len(w.starts)+len(w.entries) > 0 {
		t.Errorf("starts %v, audit %v", w.starts, w.entries)
	}
	if r := w.ask("POST", runBars, ""); r.status != http.StatusAccepted {
		t.Errorf("what was refused counts: %d", r.status)
	}
}
