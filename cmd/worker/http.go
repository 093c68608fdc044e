package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/events"
	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/schedule"
	"github.com/alpha-oracle/worker/internal/secret"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/internal/web"
	"github.com/alpha-oracle/worker/jobs/altdata"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
)

const (
	// drainTime is how long answers in work may go on when all runs have ended.
	drainTime = 5 * time.Second
	// shortestToken is that of a token that cannot be guessed in a lifetime.
	shortestToken = 16
	// shownPeriods is how many of a job's newest periods the API lists.
	shownPeriods = 10
	// successRows is how many runs of a job are looked through for a good one.
	successRows = 200
)

// httpConfig is where and to whom worker serve answers.
type httpConfig struct {
	Addr      string
	Token     secret.Value
	Hosts     []string
	PprofAddr string
}

func (l *loader) http() httpConfig {
	c := httpConfig{Addr: l.address("SA_HTTP__ADDR"), Token: l.apiKey("SA_HTTP__TOKEN"), PprofAddr: l.address("SA_HTTP__PPROF_ADDR")}
	if c.Token.IsSet() && len(c.Token.Reveal()) < shortestToken {
		l.problem("SA_HTTP__TOKEN has less than %d characters: take a random one, such as openssl rand -hex 32 gives", shortestToken)
	}
	if c.PprofAddr != "" && !web.IsLoopback(c.PprofAddr) {
		l.problem("SA_HTTP__PPROF_ADDR is %q: want an address of loopback, such as 127.0.0.1:6060: profiles show the memory", c.PprofAddr)
	}
	for _, name := range strings.FieldsFunc(l.text("SA_HTTP__HOSTS"), func(r rune) bool { return r == ',' || r == ' ' }) {
		if strings.ContainsAny(name, ":/*") {
			l.problem("SA_HTTP__HOSTS names %q: want names alone, without scheme, port or wildcard", name)
		}
		c.Hosts = append(c.Hosts, strings.ToLower(name))
	}
	return c
}

// address reads "host:port", or nothing.
func (l *loader) address(env string) string {
	text := l.text(env)
	if text == "" {
		return ""
	}
	_, port, err := net.SplitHostPort(text)
	if n, bad := strconv.Atoi(port); err != nil || bad != nil || n < 0 || n > 65535 {
		l.problem("%s is %q: want address:port, such as 127.0.0.1:8080", env, text)
	}
	return text
}

// check refuses to answer others than this machine without asking who they are.
func (c httpConfig) check() error {
	if c.Token.IsSet() || web.IsLoopback(c.Addr) {
		return nil
	}
	return usagef("SA_HTTP__ADDR is %s, which other machines reach, and SA_HTTP__TOKEN is not set: set it (openssl rand -hex 32), or listen on 127.0.0.1", c.Addr)
}

// httpSide is what the HTTP server knows and starts.
type httpSide struct {
	s      *services
	server *web.Server
	unset  func()

	mu  sync.Mutex
	now generation
	// runs are those that were started here.
	runs sync.WaitGroup
	// relays is what hands on the channels.
	relays sync.WaitGroup
}

// generation is the program from one reload of its configuration to the next.
type generation struct {
	*app
	runner *runner.Runner
	ctx    context.Context //nolint:containedctx // that of its runs, which outlive the requests
}

// startHTTP listens, and answers in the background until [httpSide.stop].
func (a *app) startHTTP(ctx context.Context, s *services) (*httpSide, error) {
	h := &httpSide{s: s, now: generation{a, a.newRunner(s), ctx}}
	l, err := a.listen(ctx, "SA_HTTP__ADDR", a.cfg.HTTP.Addr)
	if err != nil {
		return nil, err
	}
	h.server = web.New(web.Config{
		Token: a.cfg.HTTP.Token, Hosts: a.cfg.HTTP.Hosts, Version: version,
		Data: h, Runs: h, Jobs: h, Audit: h, Checks: h.checks(), Metrics: a.watch.handler(), WebSocket: h.relay(ctx, a, l.Addr()),
		Redact: func(text string) string { return h.current().redact(text) }, Now: a.now, Tell: h.logEvent,
	})
	if a.cfg.HTTP.PprofAddr != "" {
		profiles, err := a.listen(ctx, "SA_HTTP__PPROF_ADDR", a.cfg.HTTP.PprofAddr)
		if err != nil {
			_ = l.Close()
			return nil, err
		}
		h.server.StartPprof(profiles)
	}
	h.server.Start(l)
	n := a.newNotifier()
	n.send("READY=1")
	stopWatchdog := n.watch(ctx, func() []string { return h.current().runner.Stalled() })
	stopAfter := context.AfterFunc(ctx, func() {
		h.server.Stopping()
		n.send("STOPPING=1")
	})
	h.unset = func() { stopAfter(); stopWatchdog() }
	return h, nil
}

// relay hands the channels on to WebSocket clients. A browser may connect from a
// page of this server only.
func (h *httpSide) relay(ctx context.Context, a *app, addr net.Addr) http.Handler {
	hub := events.NewHub(events.HubConfig{
		Redis: h.s.rdb, Now: a.now, Origins: origins(addr, a.cfg.HTTP.Hosts),
		Token: a.cfg.HTTP.Token.Reveal,
		Lost:  func(err error) { a.log.Warn("the channels are not heard", zap.String("error", a.redact(err.Error()))) },
	})
	h.relays.Go(func() { _ = hub.Run(ctx) })
	return hub
}

// origins are the addresses of pages that this server serves, as a browser names
// them: of this machine, and, behind a proxy or not, of the hosts that it may be
// asked as.
func origins(addr net.Addr, hosts []string) []string {
	_, port, _ := net.SplitHostPort(addr.String())
	var all []string
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]"} {
		all = append(all, "http://"+net.JoinHostPort(strings.Trim(host, "[]"), port))
	}
	for _, host := range hosts {
		all = append(all, "https://"+host, "http://"+host, "http://"+net.JoinHostPort(host, port))
	}
	return all
}

// use lets requests see, and start runs of, a new generation.
func (h *httpSide) use(ctx context.Context, a *app, r *runner.Runner) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = generation{a, r, ctx}
}

func (h *httpSide) current() generation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// idle returns when the runs that were started here have ended, as those of the
// schedules do with the context of their generation. It has ended by then, so
// that none begins.
func (h *httpSide) idle() {
	h.current() // who is just starting one has done so
	h.runs.Wait()
}

func (a *app) listen(ctx context.Context, env, addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: another process listens there: set %s to a free address, such as 127.0.0.1:0", addr, env)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s (%s): %w", addr, env, err)
	}
	a.log.Info("listening", zap.String("setting", env), zap.Stringer("addr", l.Addr()))
	return l, nil
}

// stop ends the server, once the last generation is idle.
func (h *httpSide) stop() {
	h.server.Stopping()
	h.idle()
	h.unset()
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	h.server.Stop(ctx)
	h.relays.Wait()
}

func (h *httpSide) checks() []web.Check {
	return []web.Check{
		{Name: "database", Check: h.s.db.Ping},
		{Name: "redis", Check: func(ctx context.Context) error { return h.s.rdb.Ping(ctx).Err() }},
		{Name: "schema", Check: func(ctx context.Context) error { return h.s.ready(ctx, false) }},
	}
}

func (h *httpSide) logEvent(e web.Event) {
	fields := []zap.Field{zap.String("what", e.Text)}
	for _, f := range [][2]string{{"request", e.ID}, {"remote", e.Remote}, {"method", e.Method}, {"path", e.Path}, {"detail", e.Detail}} {
		if f[1] != "" {
			fields = append(fields, zap.String(f[0], f[1]))
		}
	}
	a := h.current()
	if e.Err != nil {
		a.log.Warn("http", append(fields, zap.String("error", a.redact(e.Err.Error())))...)
		return
	}
	a.log.Info("http", fields...)
}

// Audit implements [web.Audit].
func (h *httpSide) Audit(ctx context.Context, e web.Entry) error {
	entry := store.AuditEntry{Actor: e.Actor, Action: e.Action, Detail: e.Detail, Origin: e.Origin}
	if err := h.s.db.SaveAudit(ctx, entry); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	h.current().log.Info("audit", zap.String("actor", e.Actor), zap.String("action", e.Action), zap.String("detail", e.Detail), zap.String("origin", e.Origin))
	return nil
}

// Status implements [web.Data].
func (h *httpSide) Status(ctx context.Context) (any, error) { return h.current().readStatus(ctx, h.s) }

// Quotas implements [web.Data].
func (h *httpSide) Quotas(ctx context.Context) (any, error) { return h.current().quotas(ctx, h.s) }

// Coverage implements [web.Data].
func (h *httpSide) Coverage(ctx context.Context, symbols, since string) (any, error) {
	if strings.Contains(symbols, "@") {
		return nil, &web.BadRequestError{Err: errors.New("symbols: want sp500 or a comma list: no file is read for a request")}
	}
	a := h.current()
	req, err := a.gapRequest(gapFlags{since: given(since)})
	if err != nil {
		return nil, asked(err)
	}
	if req.symbols, err = a.givenSymbols(given(symbols)); err != nil {
		return nil, asked(err)
	}
	if req.symbols == nil {
		req.symbols = a.universe(ctx, h.s, false).Symbols
	}
	return a.readGaps(ctx, h.s, req)
}

// given is a flag as a request gives it.
func given(value string) once { return once{value: value, set: value != ""} }

// asked makes an error that is about a flag one that is about the request.
func asked(err error) error {
	if usage, ok := errors.AsType[usageError](err); ok {
		return &web.BadRequestError{Err: errors.New(strings.TrimPrefix(usage.Error(), "--"))}
	}
	return err
}

// jobList is what /api/v1/jobs answers.
type jobList struct {
	Jobs []jobState `json:"jobs"`
}

// jobState is when a scheduled job is due, and what has become of its periods.
type jobState struct {
	Job      string    `json:"job"`
	Schedule string    `json:"schedule"`
	NextTick time.Time `json:"next_tick"`
	// LastSuccess is when a run of it has last ended well, among the newest;
	// absent if none has.
	LastSuccess  *time.Time    `json:"last_success,omitempty"`
	SinceSuccess *int64        `json:"seconds_since_last_success,omitempty"`
	Last         *runStatus    `json:"last_run,omitempty"`
	Periods      []periodState `json:"periods"`
}

type periodState struct {
	Period string     `json:"period"`
	State  string     `json:"state"`
	Reason string     `json:"reason,omitempty"`
	Tick   *time.Time `json:"tick,omitempty"`
	Noted  time.Time  `json:"noted_at"`
}

// Jobs implements [web.Data].
func (h *httpSide) Jobs(ctx context.Context) (any, error) {
	list := jobList{Jobs: []jobState{}}
	a := h.current()
	for _, t := range a.runner.Tasks {
		state, err := h.jobState(ctx, t, a.now())
		if err != nil {
			return nil, err
		}
		list.Jobs = append(list.Jobs, state)
	}
	return list, nil
}

func (h *httpSide) jobState(ctx context.Context, t runner.Task, now time.Time) (jobState, error) {
	state := jobState{Job: t.Name, Schedule: t.Schedule.String(), NextTick: t.Schedule.Next(now).UTC(), Periods: []periodState{}}
	runs, err := h.s.db.Runs(ctx, t.Name, successRows)
	if err != nil {
		return state, err
	}
	if len(runs) > 0 {
		state.Last = new(newRunStatus(runs[0]))
		state.Last.Report = nil // it stands with the run
	}
	if i := slices.IndexFunc(runs, func(r store.RunInfo) bool { return r.Status == string(sweep.OK) }); i >= 0 {
		state.LastSuccess = &runs[i].Finished
		state.SinceSuccess = new(int64(max(0, now.Sub(runs[i].Finished)) / time.Second))
	}
	periods, err := h.s.db.Periods(ctx, t.Name, shownPeriods)
	for _, p := range periods {
		one := periodState{Period: p.Period, State: p.State, Reason: p.Reason, Noted: p.Noted.UTC()}
		if !p.Tick.IsZero() {
			one.Tick = new(p.Tick.UTC())
		}
		state.Periods = append(state.Periods, one)
	}
	return state, err
}

// Page implements [web.Runs].
func (h *httpSide) Page(ctx context.Context, job string, before int64, limit int) ([]web.Item, error) {
	runs, err := h.s.db.RunsBefore(ctx, job, before, limit)
	items := make([]web.Item, len(runs))
	for i, r := range runs {
		items[i] = web.Item{ID: r.ID, Document: newRunStatus(r)}
	}
	return items, err
}

// Run implements [web.Runs].
func (h *httpSide) Run(ctx context.Context, id int64) (any, error) {
	runs, err := h.s.db.RunsBefore(ctx, "", id+1, 1)
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 || runs[0].ID != id {
		return nil, fmt.Errorf("run %d: %w", id, web.ErrNotFound)
	}
	return newRunStatus(runs[0]), nil
}

// unitState is what came of one unit of a run.
type unitState struct {
	ID      int64     `json:"id"`
	Period  string    `json:"period"`
	Unit    string    `json:"unit"`
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"`
	Message string    `json:"message,omitempty"`
	Rows    int       `json:"rows"`
}

// Units implements [web.Runs].
func (h *httpSide) Units(ctx context.Context, run, before int64, limit int) ([]web.Item, error) {
	attempts, err := h.s.db.RunAttempts(ctx, run, before, limit)
	items := make([]web.Item, len(attempts))
	for i, t := range attempts {
		items[i] = web.Item{ID: t.ID, Document: unitState{
			ID: t.ID, Period: t.Period, Unit: string(t.Symbol), At: t.At.UTC(), Outcome: t.Outcome, Message: t.Message, Rows: t.Rows,
		}}
	}
	return items, err
}

// Period implements [web.Jobs].
func (h *httpSide) Period(job, wanted string) (string, error) {
	a := h.current()
	i := slices.IndexFunc(a.runner.Tasks, func(t runner.Task) bool { return t.Name == job })
	if i < 0 {
		return "", fmt.Errorf("job %q: %w: /api/v1/jobs lists those that can be run", job, web.ErrNotFound)
	}
	switch job {
	case dailybars.Name:
		session, _, err := a.session(given(wanted))
		return session.String(), asked(err)
	case fundamentals.Name:
		w, err := week(given(wanted), a.today())
		return w.String(), asked(err)
	case altdata.Name:
		t := a.runner.Tasks[i]
		current, err := schedule.Biweekly(t.Schedule.Last(a.now()))
		if err == nil && wanted != "" && wanted != current.Name {
			err = &web.BadRequestError{Err: fmt.Errorf("period is %q: a run of %s is for the time since the last complete one, %s: leave it out", wanted, job, current.Name)}
		}
		return current.Name, err
	}
	return "", fmt.Errorf("job %q: %w: it has no periods", job, web.ErrNotFound)
}

// claimedKey is for who waits for a run to be claimed.
type claimedKey struct{}

// tellClaimed tells who started the run that it is claimed.
func tellClaimed(ctx context.Context, run int64) {
	if tell, ok := ctx.Value(claimedKey{}).(func(int64)); ok {
		tell(run)
	}
}

// Start implements [web.Jobs].
func (h *httpSide) Start(ctx context.Context, job, period string) (int64, error) {
	claimed, ended := make(chan int64, 1), make(chan error, 1)
	if !h.goOn(func(a generation) { //nolint:contextcheck // the run outlives the request
		running := context.WithValue(a.ctx, claimedKey{}, func(run int64) {
			select {
			case claimed <- run:
			default: // a second try
			}
		})
		_, err := a.runner.Trigger(running, job, period)
		if err != nil && !isHeld(err) {
			a.log.Error("run", zap.String("job", job), zap.String("period", period), zap.String("error", a.redact(err.Error())))
		}
		ended <- err
	}) {
		return 0, web.ErrStopping
	}
	select {
	case run := <-claimed:
		return run, nil
	case err := <-ended:
		select {
		case run := <-claimed:
			return run, nil // it was quick
		default:
		}
		if held, ok := errors.AsType[*store.HeldError](err); ok {
			return 0, &web.HeldError{Owner: held.Owner, Since: held.Since.UTC()}
		}
		return 0, err
	case <-ctx.Done():
		return 0, nil
	}
}

// goOn lets do run on its own, unless the end of its generation has begun.
func (h *httpSide) goOn(do func(generation)) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.now
	if a.ctx.Err() != nil {
		return false
	}
	h.runs.Go(func() { do(a) })
	return true
}
