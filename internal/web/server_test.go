package web_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/alpha-oracle/worker/internal/secret"
	"github.com/alpha-oracle/worker/internal/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open are the only routes that need no token.
func open() []string { return []string{"GET /livez", "GET /readyz"} }

// sample is a request that a pattern of the table matches.
func sample(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	return method, strings.NewReplacer("{$}", "", "{id}", "3", "{job}", "daily_bars").Replace(path)
}

func withWebSocket(c *web.Config) {
	c.WebSocket = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUpgradeRequired) })
}

func TestEveryRouteIsClosedUnlessItIsListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withWebSocket).listening()
	table := w.server.Routes()
	if len(table) < 13 {
		t.Fatalf("%d routes", len(table))
	}
	for pattern, isOpen := range table {
		method, path := sample(pattern)
		if isOpen != slices.Contains(open(), pattern) {
			t.Errorf("%s: open is %t", pattern, isOpen)
		}
		r := w.ask(method, path, "", anonymous)
		if closed := r.status == http.StatusUnauthorized; closed == slices.Contains(open(), pattern) {
			t.Errorf("%s without a token: %d", pattern, r.status)
		}
		if r.status == http.StatusUnauthorized {
			w.problem(r, http.StatusUnauthorized)
			if !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s: %q", pattern, r.header.Get("WWW-Authenticate"))
			}
		}
		if r := w.ask(method, path, ""); r.status == http.StatusUnauthorized || r.status == http.StatusNotFound {
			t.Errorf("%s with the token: %d", pattern, r.status)
		}
	}
	for _, path := range []string{"/nowhere", "/api/v1/", "/debug/pprof/", "/debug/vars", "//api/v1/status", "/api/v1/../v1/status", "/livez/x"} {
		w.problem(w.ask("GET", path, "", anonymous), http.StatusUnauthorized)
	}
	w.problem(w.ask("GET", "/api/v1/status", "", with("Authorization", "Basic "+token)), http.StatusUnauthorized)
	w.problem(w.ask("GET", "/api/v1/status?token="+token, "", anonymous), http.StatusUnauthorized)
}

func TestOnLoopbackNoTokenIsNeeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *web.Config) { c.Token = secret.Value{} }).listening()
	if r := w.ask("GET", "/api/v1/quotas", "", anonymous); r.status != http.StatusOK {
		t.Errorf("%d: %s", r.status, r.body)
	}
	if r := w.ask("POST", "/api/v1/jobs/daily_bars/run", "", anonymous); r.status != http.StatusAccepted {
		t.Errorf("%d: %s", r.status, r.body)
	}
	if len(w.entries) != 1 || w.entries[0].Actor != "anyone" {
		t.Errorf("audit: %+v", w.entries)
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withWebSocket).listening()
	answers := map[string]reply{
		"no route":     w.ask("GET", "/nowhere", ""),
		"wrong method": w.ask("DELETE", "/livez", ""),
		"no token":     w.ask("GET", "/", "", anonymous),
		"wrong host":   w.ask("GET", "/livez", "", with("Host", "evil.test")),
		"cross-site":   w.ask("POST", "/api/v1/jobs/altdata/run", "", with("Sec-Fetch-Site", "cross-site")),
		"redirect":     w.ask("GET", "//livez", ""),
		"panic":        w.ask("GET", "/api/v1/jobs", ""),
	}
	for pattern := range w.server.Routes() {
		method, path := sample(pattern)
		answers[pattern] = w.ask(method, path, "")
	}
	for name, r := range answers {
		for header, want := range map[string]string{
			"Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Frame-Options": "DENY",
		} {
			if got := r.header.Get(header); got != want {
				t.Errorf("%s (%d): %s is %q", name, r.status, header, got)
			}
		}
		if r.header.Get("X-Request-Id") == "" {
			t.Errorf("%s has no id", name)
		}
	}
}

func TestErrorsAreProblems(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	w.problem(w.ask("GET", "/nowhere", ""), http.StatusNotFound)
	r := w.ask("DELETE", "/api/v1/status", "")
	w.problem(r, http.StatusMethodNotAllowed)
	if allow := r.header.Get("Allow"); allow != "GET, HEAD" {
		t.Errorf("Allow: %q", allow)
	}
	w.problem(w.ask("OPTIONS", "/api/v1/status", ""), http.StatusMethodNotAllowed)
	for path, want := range map[string]int{
		"/api/v1/runs?limit=0":           http.StatusBadRequest,
		"/api/v1/runs?limit=501":         http.StatusBadRequest,
		"/api/v1/runs?limit=ten":         http.StatusBadRequest,
		"/api/v1/runs?cursor=-1":         http.StatusBadRequest,
		"/api/v1/runs?cursor=1&cursor=2": http.StatusBadRequest,
		"/api/v1/runs?page=2":            http.StatusBadRequest,
		"/api/v1/runs?%zz":               http.StatusBadRequest,
		"/api/v1/runs/latest":            http.StatusBadRequest,
		"/api/v1/runs/8":                 http.StatusNotFound,
		"/api/v1/status?verbose=1":       http.StatusBadRequest,
	} {
		w.problem(w.ask("GET", path, ""), want)
	}
	for err, want := range map[error]int{
		errors.New("SELECT secret FROM t: hunter2"):   http.StatusInternalServerError,
		fmt.Errorf("x: %w", context.DeadlineExceeded): http.StatusServiceUnavailable,
		&web.BadRequestError{Err: errors.New("no")}:   http.StatusBadRequest,
	} {
		w.dataErr = err
		p := w.problem(w.ask("GET", "/api/v1/status", ""), want)
		logged := slices.ContainsFunc(w.events, func(e web.Event) bool { return e.ID == p["request_id"] && errors.Is(e.Err, err) })
		if logged != (want >= 500) {
			t.Errorf("%v: logged is %t: %+v", err, logged, w.events)
		}
	}
}

func TestAPanicIsOneBadAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	p := w.problem(w.ask("GET", "/api/v1/jobs", ""), http.StatusInternalServerError)
	told := w.told("panic")
	if len(told) != 1 || told[0].ID != p["request_id"] || !strings.Contains(told[0].Detail, "harness_test.go") {
		t.Errorf("log: %+v", told)
	}
	if r := w.ask("GET", "/api/v1/quotas", ""); r.status != http.StatusOK {
		t.Errorf("afterwards: %d", r.status)
	}
}

func TestDocumentsShowNoSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	if r := w.ask("GET", "/api/v1/status", ""); !strings.Contains(r.body, "password [redacted]") {
		t.Errorf("%s", r.body)
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	for host, ok := range map[string]bool{
		"localhost": true, "LOCALHOST:8080": true, "127.0.0.1:1": true, "127.8.8.8": true, "[::1]:8080": true, "worker.example:80": true, "Worker.Example.": true,
		"evil.test": false, "localhost.evil.test": false, "10.1.2.3:8080": false, "worker.example.evil.test": false, "0.0.0.0": false, "[fe80::1]": false,
	} {
		want := http.StatusOK
		if !ok {
			want = http.StatusMisdirectedRequest
		}
		if r := w.ask("GET", "/livez", "", with("Host", host)); r.status != want {
			t.Errorf("Host: %s: %d, want %d", host, r.status, want)
		}
	}
}

func TestPagesOfOtherOriginsChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *web.Config) { c.Token = secret.Value{} }).listening()
	post := func(set ...func(*http.Request)) reply {
		return w.ask("POST", "/api/v1/jobs/daily_bars/run", "", set...)
	}
	w.problem(post(with("Sec-Fetch-Site", "cross-site")), http.StatusForbidden)
	w.problem(post(with("Sec-Fetch-Site", "same-site")), http.StatusForbidden)
	w.problem(post(with("Origin", "https://evil.test")), http.StatusForbidden)
	w.problem(post(with("Origin", "null")), http.StatusForbidden)
	if len(w.starts)+len(w.entries) > 0 {
		t.Errorf("%v, %v", w.starts, w.entries)
	}
	if r := post(with("Sec-Fetch-Site", "same-origin"), with("Origin", w.base)); r.status != http.StatusAccepted {
		t.Errorf("same origin: %d", r.status)
	}
}

func TestManyWrongTokensShutAnAddressOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	wrong := with("Authorization", "Bearer not-"+token)
	statuses := map[int]int{}
	for range 100 {
		statuses[w.ask("GET", "/api/v1/quotas", "", wrong).status]++
	}
	if statuses[http.StatusUnauthorized] != 10 || statuses[http.StatusTooManyRequests] != 90 {
		t.Errorf("statuses %v", statuses)
	}
	if n := len(w.told("wrong token")); n != 10 {
		t.Errorf("%d lines in the log", n)
	}
	r := w.ask("GET", "/api/v1/quotas", "")
	w.problem(r, http.StatusTooManyRequests)
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if r := w.ask("GET", "/livez", "", anonymous); r.status != http.StatusOK {
		t.Errorf("/livez: %d", r.status)
	}
	w.pass(time.Minute)
	if r := w.ask("GET", "/api/v1/quotas", ""); r.status != http.StatusOK {
		t.Errorf("after a minute: %d", r.status)
	}
}

func TestTablesAreBounded(t *testing.T) {
	t.Parallel()
	if n := web.JudgeMany(10_000, time.Now()); n != 4096 {
		t.Errorf("%d addresses are remembered", n)
	}
	if n := web.AdmitMany(3000, time.Now()); n != 1024 {
		t.Errorf("%d keys are remembered", n)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	for _, path := range []string{"/api/v1/runs?job=altdata&limit=3", "/api/v1/runs/3?limit=3"} {
		list := map[bool]string{true: "runs", false: "units"}[strings.Contains(path, "job=")]
		var ids []float64
		cursor := ""
		for range 10 {
			page := w.ask("GET", path+cursor, "").json(t)
			items, _ := page[list].([]any)
			for _, item := range items {
				ids = append(ids, item.(map[string]any)["id"].(float64))
			}
			next, more := page["next"].(string)
			if !more {
				break
			}
			cursor = "&cursor=" + next
		}
		if !slices.Equal(ids, []float64{7, 6, 5, 4, 3, 2, 1}) {
			t.Errorf("%s: %v", path, ids)
		}
	}
}

func TestCoverageIsAskedAsGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	var got []string
	r := w.ask("GET", "/api/v1/coverage?symbols=AAPL,BRK.B&since=2026-01-01", "")
	if err := json.Unmarshal([]byte(r.body), &got); err != nil || !slices.Equal(got, []string{"AAPL,BRK.B", "2026-01-01"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestSizesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	big := `{"period": "` + strings.Repeat("x", 64<<10) + `"}`
	w.problem(w.ask("POST", "/api/v1/jobs/daily_bars/run", big), http.StatusRequestEntityTooLarge)
	if r := w.ask("GET", "/livez", "", with("X-Long", strings.Repeat("x", 32<<10))); r.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a long header: %d", r.status)
	}
}

// Who holds connections without asking for anything keeps nobody out.
func TestWaitingConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	hold, held := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(c *web.Config) {
		c.MaxConns = 4
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(held)
			<-hold
			_, _ = io.WriteString(w, "up 1\n")
		})
	}).listening()
	busy := make(chan reply, 1)
	go func() { busy <- w.ask("GET", "/metrics", "") }()
	<-held
	for range 20 {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nX-Slow: ")
		onANewConnection := func(r *http.Request) { r.Close = true }
		if r := w.ask("GET", "/livez", "", onANewConnection); r.status != http.StatusOK {
			t.Fatalf("/livez: %d", r.status)
		}
	}
	close(hold)
	if r := <-busy; r.status != http.StatusOK {
		t.Errorf("the one in work: %d", r.status)
	}
}

// Nor does who begins requests and sends the rest of them never.
func TestSlowBodiesMakeRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *web.Config) { c.MaxConns, c.Token = 16, secret.Value{} }).listening()
	for range 40 {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "POST /api/v1/jobs/daily_bars/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
		if r := w.ask("GET", "/livez", "", func(r *http.Request) { r.Close = true }); r.status != http.StatusOK {
			t.Fatalf("/livez: %d", r.status)
		}
	}
	if r := w.ask("POST", "/api/v1/jobs/daily_bars/run", `{"period": "2026-03-12"}`); r.status != http.StatusAccepted {
		t.Errorf("a request that comes at once: %d", r.status)
	}
}

func TestProfilesHaveAListenerOfTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).listening()
	main := w.base
	w.base = "http://" + w.listen(w.server.StartPprof)
	if r := w.ask("GET", "/debug/pprof/goroutine?debug=1", "", anonymous); r.status != http.StatusOK || !strings.Contains(r.body, "goroutine profile") {
		t.Errorf("%d: %.100s", r.status, r.body)
	}
	w.problem(w.ask("GET", "/debug/pprof/", "", with("Host", "evil.test")), http.StatusMisdirectedRequest)
	if r := w.ask("GET", "/debug/pprof/cmdline", ""); r.status != http.StatusNotFound {
		t.Errorf("the command line: %d", r.status)
	}
	w.base = main
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/vars"} {
		w.problem(w.ask("GET", path, ""), http.StatusNotFound)
	}
}

// A stream begins with the token alone, may take the connection over, and ends
// with the server.
func TestStreamsEndWithTheServer(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	w := newWorld(t, func(c *web.Config) {
		c.WebSocket = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\nhello\n")
			<-r.Context().Done()
		})
	}).listening()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", token)
	in := bufio.NewReader(conn)
	for line := ""; line != "hello\n"; {
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	w.server.Stopping()
	<-ended
	r := w.ask("GET", "/readyz", "")
	if r.status != http.StatusServiceUnavailable || r.json(t)["status"] != "stopping" {
		t.Errorf("/readyz: %d, %s", r.status, r.body)
	}
	if r := w.ask("GET", "/livez", ""); r.status != http.StatusOK {
		t.Errorf("/livez: %d", r.status)
	}
	if r := w.ask("GET", "/api/v1/quotas", ""); r.status != http.StatusOK {
		t.Errorf("the API: %d", r.status)
	}
	w.problem(w.ask("POST", "/api/v1/jobs/daily_bars/run", ""), http.StatusServiceUnavailable)
}

// The description has all routes, and nothing else.
func TestTheDescriptionIsThatOfTheRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withWebSocket).listening()
	r := w.ask("GET", "/api/v1/openapi.json", "")
	var doc struct {
		OpenAPI string
		Info    struct{ Version string }
		Paths   map[string]map[string]struct {
			Security  []any
			Responses map[string]any
		}
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal([]byte(r.body), &doc); err != nil || doc.OpenAPI == "" || doc.Info.Version != "1.2.3" {
		t.Fatalf("%v: %.200s", err, r.body)
	}
	described := map[string]bool{}
	for path, methods := range doc.Paths {
		for method, one := range methods {
			pattern := strings.ToUpper(method) + " " + path
			if path == "/" {
				pattern += "{$}"
			}
			described[pattern] = true
			isOpen, known := w.server.Routes()[pattern]
			if !known {
				t.Errorf("%s is described and does not exist", pattern)
			}
			if isOpen != (one.Security != nil) {
				t.Errorf("%s: open is %t, its security %v", pattern, isOpen, one.Security)
			}
			_, has401 := one.Responses["401"]
			if has401 == isOpen {
				t.Errorf("%s: open is %t, its 401 described %t", pattern, isOpen, has401)
			}
		}
	}
	for pattern := range w.server.Routes() {
		if !described[pattern] {
			t.Errorf("%s is not described", pattern)
		}
	}
	for name := range doc.Components.Schemas {
		if !bytes.Contains([]byte(r.body), []byte(`"#/components/schemas/`+name+`"`)) {
			t.Errorf("schema %s is used nowhere", name)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"127.0.0.1:8080": true, "localhost:1": true, "[::1]:0": true, "127.1.2.3:80": true,
		":8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "192.168.1.2:80": false, "worker:80": false, "127.0.0.1": false, "": false,
	} {
		if got := web.IsLoopback(addr); got != want {
			t.Errorf("IsLoopback(%q) = %t", addr, got)
		}
	}
}
