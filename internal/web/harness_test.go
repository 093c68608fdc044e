package web_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/secret"
	"github.com/alpha-oracle/worker/internal/web"
)

const token = "a-token-for-tests-0123456789"

// world is what the server of a test knows.
type world struct {
	t      *testing.T
	base   string
	server *web.Server
	client *http.Client

	mu       sync.Mutex
	clock    time.Duration
	events   []web.Event
	entries  []web.Entry
	starts   []string
	auditErr error
	startErr error
	dataErr  error
	begin    func() // called in the middle of a start
	checkErr atomic.Pointer[error]
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.clock)
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock += d
}

func (w *world) tell(e web.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// told returns the events with a text.
func (w *world) told(text string) (found []web.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Text == text {
			found = append(found, e)
		}
	}
	return found
}

func (w *world) Status(context.Context) (any, error) {
	if w.dataErr != nil {
		return nil, w.dataErr
	}
	return map[string]string{"database": "postgres at db, password hunter2-canary"}, nil
}
func (w *world) Jobs(context.Context) (any, error)   { panic("at the disco") }
func (w *world) Quotas(context.Context) (any, error) { return []int{}, w.dataErr }
func (w *world) Coverage(_ context.Context, symbols, since string) (any, error) {
	return []string{symbols, since}, nil
}

func (w *world) Page(_ context.Context, job string, before int64, limit int) ([]web.Item, error) {
	var items []web.Item
	if before == 0 {
		before = 8
	}
	for id := before - 1; id > 0 && len(items) < limit; id-- {
		items = append(items, web.Item{ID: id, Document: map[string]any{"id": id, "job": job}})
	}
	return items, nil
}

func (w *world) Run(_ context.Context, id int64) (any, error) {
	if id > 7 {
		return nil, web.ErrNotFound
	}
	return map[string]int64{"id": id}, nil
}

func (w *world) Units(_ context.Context, _, before int64, limit int) ([]web.Item, error) {
	return w.Page(context.Background(), "", before, limit)
}

func (w *world) Period(job, wanted string) (string, error) {
	switch {
	case job != "daily_bars" && job != "altdata":
		return "", web.ErrNotFound
	case wanted == "yesterday":
		return "", &web.BadRequestError{Err: io.ErrUnexpectedEOF}
	case wanted == "":
		return "2026-03-12", nil
	}
	return wanted, nil
}

func (w *world) Start(_ context.Context, job, period string) (int64, error) {
	if w.begin != nil {
		w.begin()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.starts = append(w.starts, job+" "+period)
	return int64(len(w.starts)), w.startErr
}

func (w *world) Audit(_ context.Context, e web.Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries = append(w.entries, e)
	return w.auditErr
}

func (w *world) check(context.Context) error {
	if err := w.checkErr.Load(); err != nil {
		return *err
	}
	return nil
}

// newWorld makes a server that is not started yet.
func newWorld(t *testing.T, set func(*web.Config)) *world {
	t.Helper()
	w := &world{t: t, client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	c := web.Config{
		Token: secret.New(token), Hosts: []string{"worker.example"}, Version: "1.2.3",
		Data: w, Runs: w, Jobs: w, Audit: w, Checks: []web.Check{{Name: "database", Check: w.check}},
		Redact: secret.Redactor(secret.New("hunter2-canary"), secret.New(token)), Now: w.now, Tell: w.tell,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }),
	}
	if set != nil {
		set(&c)
	}
	w.server = web.New(c)
	return w
}

// listening starts the server.
func (w *world) listening() *world {
	w.t.Helper()
	w.base = "http://" + w.listen(w.server.Start)
	w.t.Cleanup(func() {
		w.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		w.server.Stop(ctx)
	})
	return w
}

func (w *world) listen(start func(net.Listener)) (addr string) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	start(l)
	return l.Addr().String()
}

// reply is what came back, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) json(t *testing.T) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return v
}

// ask sends a request, with the token unless set changes that.
func (w *world) ask(method, path, body string, set ...func(*http.Request)) reply {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, change := range set {
		change(r)
	}
	answer, err := w.client.Do(r)
	if err != nil {
		w.t.Errorf("%s %s: %v", method, path, err)
		return reply{header: http.Header{}}
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Errorf("%s %s: %v", method, path, err)
	}
	return reply{answer.StatusCode, answer.Header, string(text)}
}

func with(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		if name == "Host" {
			r.Host = value
			return
		}
		r.Header.Set(name, value)
	}
}

func anonymous(r *http.Request) { r.Header.Del("Authorization") }

// problem checks that an answer is a problem with a status, that shows nothing
// of the inside, and returns it.
func (w *world) problem(r reply, status int) map[string]any {
	w.t.Helper()
	if r.status != status || r.header.Get("Content-Type") != "application/problem+json" {
		w.t.Fatalf("status %d, %s, want problem %d: %s", r.status, r.header.Get("Content-Type"), status, r.body)
	}
	p := r.json(w.t)
	if p["status"] != float64(status) || p["title"] != http.StatusText(status) || p["request_id"] == "" || p["request_id"] != r.header.Get("X-Request-Id") {
		w.t.Errorf("problem %s", r.body)
	}
	for _, inside := range []string{".go:", "goroutine", "SELECT", "panic", "hunter2", token} {
		if strings.Contains(r.body, inside) {
			w.t.Errorf("%s is shown: %s", inside, r.body)
		}
	}
	return p
}
