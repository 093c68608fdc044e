package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// between is the least time between two runs of a job that are started here.
	between = time.Minute
	// mostKeys bounds the table of idempotency keys, the oldest of which go.
	mostKeys = 1024
	// longestKey is that of a key.
	longestKey = 128
	// startTime bounds how long a claim is waited for, below answerTime.
	startTime = 20 * time.Second
)

// started is the answer to a run that was begun. Run is absent if its claim was
// not made in time: the list of runs shows it then.
type started struct {
	Job    string `json:"job"`
	Period string `json:"period"`
	Run    int64  `json:"run,omitempty"`
}

// trigger serves POST /api/v1/jobs/{job}/run.
func (s *Server) trigger(w http.ResponseWriter, r *http.Request) {
	job, key := r.PathValue("job"), r.Header.Get("Idempotency-Key")
	wanted, err := readPeriod(r)
	if err == nil {
		err = checkKey(key)
	}
	if err == nil {
		err = checkQuery(r.URL.RawQuery, nil)
	}
	if err == nil && s.stopping.Err() != nil {
		err = ErrStopping
	}
	var period string
	if err == nil {
		period, err = s.Jobs.Period(job, wanted)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	first, mine, wait := s.admits.admit(job, key, wanted, s.Now())
	switch {
	case wait > 0:
		s.write(w, problem{
			Status: http.StatusTooManyRequests, retry: wait,
			Detail: fmt.Sprintf("a run of %s was started less than %s ago", job, between),
		})
		return
	case mine:
		// The run is begun, and its answer kept, also for a client that has gone.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), startTime)
		defer cancel()
		s.start(ctx, r, first, job, key, period)
	case first.wanted != wanted:
		s.refuse(w, http.StatusUnprocessableEntity, "this Idempotency-Key came with another period: take a new one")
		return
	}
	s.answerStart(w, r, first, mine)
}

// start begins a run, once it is in the audit, and keeps the answer.
func (s *Server) start(ctx context.Context, r *http.Request, a *admission, job, key, period string) {
	a.err = errors.New("the start was cut off by a panic")
	defer func() {
		if a.err != nil {
			s.admits.forget(job, key)
		}
		close(a.done)
	}()
	actor := "anyone"
	if s.Token.IsSet() {
		actor = "token"
	}
	err := s.Audit.Audit(ctx, Entry{At: s.Now(), Actor: actor, Action: "run", Detail: job + " " + period, Origin: origin(r)})
	var run int64
	if err == nil {
		run, err = s.Jobs.Start(ctx, job, period)
	}
	a.document, a.err = started{Job: job, Period: period, Run: run}, err
}

func (s *Server) answerStart(w http.ResponseWriter, r *http.Request, a *admission, mine bool) {
	select {
	case <-a.done:
	case <-r.Context().Done():
		s.fail(w, r, r.Context().Err())
		return
	}
	if !mine {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	if a.err == nil {
		location := "/api/v1/runs?job=" + a.document.Job
		if a.document.Run > 0 {
			location = fmt.Sprintf("/api/v1/runs/%d", a.document.Run)
		}
		w.Header().Set("Location", location)
	}
	s.answer(w, r, http.StatusAccepted, a.document, a.err)
}

// readPeriod reads {"period": "..."}, or nothing, from the body.
func readPeriod(r *http.Request) (string, error) {
	arrived := receive(r.Context())
	text, err := io.ReadAll(r.Body)
	arrived()
	if err != nil {
		return "", badRequest("the body cannot be read: %w", err)
	}
	if len(text) == 0 {
		return "", nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return "", badRequest("the body is of type %q: want application/json", r.Header.Get("Content-Type"))
	}
	var body map[string]string
	if err := json.Unmarshal(text, &body); err != nil {
		return "", badRequest(`the body is no {"period": "..."}: %w`, err)
	}
	period, ok := body["period"]
	if len(body) > 1 || len(body) == 1 && !ok {
		return "", badRequest(`the body has more than {"period": "..."}`)
	}
	return period, nil
}

func checkKey(key string) error {
	if len(key) > longestKey {
		return badRequest("Idempotency-Key has %d characters: want at most %d", len(key), longestKey)
	}
	return nil
}

// admissions lets one start of each job through at a time.
type admissions struct {
	mu   sync.Mutex
	last map[string]time.Time
	keys map[[2]string]*admission // by job and key
	// order are the keys, the oldest first.
	order [][2]string
}

// admission is a start that was let through. What is below done is set when
// done is closed.
type admission struct {
	wanted string
	done   chan struct{}

	document started
	err      error
}

// admit returns the first start with the key, and whether it is the caller's to
// make; or after what time a start of the job is let through again.
func (a *admissions) admit(job, key, wanted string, now time.Time) (first *admission, mine bool, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if first := a.keys[[2]string{job, key}]; first != nil && key != "" {
		return first, false, 0
	}
	if last, ok := a.last[job]; ok && now.Sub(last) < between {
		return nil, false, between - now.Sub(last)
	}
	if a.last == nil {
		a.last, a.keys = map[string]time.Time{}, map[[2]string]*admission{}
	}
	first = &admission{wanted: wanted, done: make(chan struct{})}
	a.last[job] = now
	if key != "" {
		a.remember([2]string{job, key}, first)
	}
	return first, true, 0
}

func (a *admissions) remember(key [2]string, first *admission) {
	if len(a.order) == mostKeys {
		delete(a.keys, a.order[0])
		a.order = a.order[1:]
	}
	a.keys[key] = first
	a.order = append(a.order, key)
}

// forget lets a start that has failed be made again with its key, though no
// sooner than any other.
func (a *admissions) forget(job, key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	gone := [2]string{job, key}
	delete(a.keys, gone)
	a.order = slices.DeleteFunc(a.order, func(k [2]string) bool { return k == gone })
}
