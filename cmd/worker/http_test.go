package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/secret"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const webToken = "CANARYt0ken-0123456789abcdef"

// listening is a worker serve that runs.
type listening struct {
	w    *world
	base string
	stop func()
	errs *syncBuffer
	code chan int
}

// listen starts worker serve and returns when it listens. It ends with the test.
func (w *world) listen() *listening {
	w.t.Helper()
	ctx, cancel := context.WithCancelCause(w.t.Context())
	v := &listening{w: w, errs: &syncBuffer{}, code: make(chan int, 1), stop: func() { cancel(signalError{15}) }}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.code <- run(ctx, []string{"serve"}, process{Environ: environOf(w.env), Stdin: strings.NewReader(""), Stdout: v.errs, Stderr: v.errs, Now: w.now})
	}()
	w.t.Cleanup(func() {
		v.stop()
		<-ended
		w.mu.Lock()
		defer w.mu.Unlock()
		w.said = append(w.said, v.errs.String())
	})
	heard := regexp.MustCompile(`"setting":"SA_HTTP__ADDR","addr":"([^"]+)"`)
	w.await("it listens", func() bool {
		found := heard.FindStringSubmatch(v.errs.String())
		if found != nil {
			v.base = "http://" + found[1]
		}
		select {
		case <-ended:
			w.t.Fatalf("it has ended: %s", v.errs.String())
		default:
		}
		return found != nil
	})
	return v
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (v *listening) ask(method, path, body string) answer {
	v.w.t.Helper()
	r, err := http.NewRequestWithContext(v.w.t.Context(), method, v.base+path, strings.NewReader(body))
	if err != nil {
		v.w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token := v.w.env["SA_HTTP__TOKEN"]; token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	got, err := client.Do(r)
	if err != nil {
		v.w.t.Errorf("%s %s: %v", method, path, err)
		return answer{}
	}
	defer func() { _ = got.Body.Close() }()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		v.w.t.Errorf("%s %s: %v", method, path, err)
	}
	return answer{got.StatusCode, got.Header, string(text)}
}

func (v *listening) get(to any, path string) {
	v.w.t.Helper()
	a := v.ask("GET", path, "")
	if err := json.Unmarshal([]byte(a.body), to); err != nil || a.status != http.StatusOK {
		v.w.t.Fatalf("%s: %d, %v: %s", path, a.status, err, a.body)
	}
}

// inTheEvening sets the clock to after the session, and the world up for it.
func (w *world) inTheEvening() *world {
	base, start := sessionDate().In(market.NewYork(), 20, 0), time.Now()
	w.now = func() time.Time { return base.Add(time.Since(start)) }
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Now: w.now, Premium: true})
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,MSFT,BRK.B"
	return w
}

// A run by hand is claimed, journaled and seen as a scheduled one.
func TestRunByHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers().inTheEvening()
	v := w.listen()
	s := w.open()
	w.awaitPeriod(s, "daily_bars", session, store.Complete)
	calls := len(w.sim.Calls())
	a := v.ask("POST", "/api/v1/jobs/daily_bars/run", `{"period": "2026-03-10"}`)
	location := a.header.Get("Location")
	if a.status != http.StatusAccepted || !strings.HasPrefix(location, "/api/v1/runs/") {
		t.Fatalf("%d %s: %s", a.status, location, a.body)
	}
	w.awaitPeriod(s, "daily_bars", "2026-03-10", store.Complete)
	var detail struct {
		Run   runStatus
		Units []unitState
	}
	v.get(&detail, location)
	if detail.Run.Status != "ok" || detail.Run.Period != "2026-03-10" || len(detail.Units) != 3 || len(w.sim.Calls()) != calls+3 {
		t.Errorf("%+v, %d calls", detail, len(w.sim.Calls())-calls)
	}
	if again := v.ask("POST", "/api/v1/jobs/daily_bars/run", ""); again.status != http.StatusTooManyRequests {
		t.Errorf("at once again: %d %s", again.status, again.body)
	}
	var jobs jobList
	v.get(&jobs, "/api/v1/jobs")
	if len(jobs.Jobs) != 3 || jobs.Jobs[0].LastSuccess == nil || jobs.Jobs[0].Last.Period != "2026-03-10" || !jobs.Jobs[0].NextTick.After(w.now()) {
		t.Errorf("%+v", jobs)
	}
	if !strings.Contains(v.errs.String(), `"msg":"audit","actor":"anyone","action":"run","detail":"daily_bars 2026-03-10","origin":"127.0.0.1"`) {
		t.Error("the audit has no such line")
	}
	v.stop()
	if code := <-v.code; code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// What is done already is a run that makes no call.
func TestRunByHTTPOfACompletePeriod(t *testing.T) {
	t.Parallel()
	w := newWorld(t).inTheEvening()
	v := w.listen()
	s := w.open()
	w.awaitPeriod(s, "daily_bars", session, store.Complete)
	calls := len(w.sim.Calls())
	a := v.ask("POST", "/api/v1/jobs/daily_bars/run", "")
	if a.status != http.StatusAccepted || !strings.Contains(a.body, session) {
		t.Fatalf("%d: %s", a.status, a.body)
	}
	w.await("the run has ended", func() bool {
		runs, err := s.db.Runs(t.Context(), "daily_bars", 5)
		return err == nil && len(runs) == 2 && runs[0].Status == "ok"
	})
	if n := len(w.sim.Calls()) - calls; n != 0 {
		t.Errorf("%d calls", n)
	}
}

func TestRunByHTTPOfAHeldPeriod(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers().inTheEvening()
	v := w.listen()
	s := w.open()
	held, err := s.db.Begin(t.Context(), "daily_bars", "2026-03-09", "elsewhere pid 7")
	if err != nil {
		t.Fatal(err)
	}
	a := v.ask("POST", "/api/v1/jobs/daily_bars/run", `{"period": "2026-03-09"}`)
	if a.status != http.StatusConflict || !strings.Contains(a.body, `"owner": "elsewhere pid 7"`) {
		t.Errorf("%d: %s", a.status, a.body)
	}
	if err := held.Release(); err != nil {
		t.Error(err)
	}
	for job, period := range map[string]string{
		"daily_bars":          "2026-03-14",
		"weekly_fundamentals": "2026-W60",
		"altdata":             "2026-03-09",
	} {
		a := v.ask("POST", "/api/v1/jobs/"+job+"/run", `{"period": "`+period+`"}`)
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, period) {
			t.Errorf("%s %s: %d: %s", job, period, a.status, a.body)
		}
	}
	if a := v.ask("POST", "/api/v1/jobs/backfill/run", ""); a.status != http.StatusNotFound {
		t.Errorf("backfill: %d", a.status)
	}
	for query, want := range map[string]string{"symbols=@/etc/passwd": "file", "symbols=A%20B": "symbols", "since=March": "since"} {
		if a := v.ask("GET", "/api/v1/coverage?"+query, ""); a.status != http.StatusBadRequest || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d: %s", query, a.status, a.body)
		}
	}
}

// No route shows a secret, though the ledger is full of them; and each document
// is as it is described.
func TestCrawl(t *testing.T) {
	t.Parallel()
	w := newWorld(t).inTheEvening()
	server := testenv.RedisServer(t)
	const redisPassword = "CANARYr3dis+/=pw"
	w.env["SA_DATABASE__URL"] = testenv.Postgres(t)
	w.env["SA_REDIS__URL"] = server.URL()
	if err := w.redis().Do(t.Context(), "ACL", "SETUSER", "crawler", "on", ">"+redisPassword, "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword("crawler", redisPassword)
	w.env["SA_REDIS__URL"] = at.String()
	w.env["SA_HTTP__TOKEN"] = webToken
	w.env["SA_MASSIVE_API_KEY"], w.env["SA_TIINGO_API_KEY"] = "CANARYmassive+/=1", "CANARYtiingo&?%2"
	w.env["SA_DATA__BARS__SOURCES"] = "alpha_vantage"
	v := w.listen()
	s := w.open()
	w.awaitPeriod(s, "daily_bars", session, store.Complete)

	secrets := []string{canary, webToken, redisPassword, w.env["SA_MASSIVE_API_KEY"], w.env["SA_TIINGO_API_KEY"]}
	for _, password := range secret.URLPasswords(w.env["SA_DATABASE__URL"]) {
		secrets = append(secrets, password.Reveal())
	}
	var forms []string
	for _, text := range secrets {
		forms = append(forms, text, url.QueryEscape(text), url.PathEscape(text), base64.RawStdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)))
	}
	planted := strings.ReplaceAll(strings.Join(forms, " "), "'", "''")
	w.exec(`UPDATE ingest_attempts SET message = '` + planted + `'`)
	w.exec(`UPDATE ingest_runs SET owner = '` + planted + `', report = jsonb_build_object('stopped', '` + planted + `')`)
	w.exec(`UPDATE ingest_periods SET reason = '` + planted + `'`)

	var doc description
	v.get(&doc, "/api/v1/openapi.json")
	redacted := 0
	for path, methods := range doc.Paths {
		for method, one := range methods {
			path := strings.NewReplacer("{id}", "1", "{job}", "daily_bars").Replace(path)
			a := v.ask(strings.ToUpper(method), path, "")
			redacted += strings.Count(a.body, secret.Redacted)
			v.showsNone(forms, method+" "+path, a)
			schema, described := one.Responses[fmt.Sprint(a.status)]
			if !described && a.status != http.StatusNotFound {
				t.Errorf("%s %s: status %d is not described: %s", method, path, a.status, a.body)
			}
			if content, ok := schema.Content["application/json"]; ok {
				var document any
				if err := json.Unmarshal([]byte(a.body), &document); err != nil {
					t.Errorf("%s: %v", path, err)
				}
				doc.check(t, path, content.Schema, document)
			}
		}
	}
	if redacted < 4*len(secrets) {
		t.Errorf("%d secrets were redacted: they were not planted where the routes look", redacted)
	}
	for _, path := range []string{"/nowhere/" + url.PathEscape(canary), "/api/v1/runs/" + canary, "/api/v1/runs?limit=" + canary, "/api/v1/coverage?symbols=" + canary} {
		v.showsNone(forms, path, v.ask("GET", path, ""))
	}
	v.stop()
	if code := <-v.code; code != exitOK {
		t.Errorf("exit code %d", code)
	}
	v.showsNone(forms, "the log", answer{body: v.errs.String()})
}

func (v *listening) showsNone(forms []string, where string, a answer) {
	v.w.t.Helper()
	text := fmt.Sprint(a.header) + a.body
	for _, form := range forms {
		if i := strings.Index(text, form); i >= 0 {
			v.w.t.Errorf("%s shows %s: ...%s", where, form, text[max(0, i-100):i+len(form)])
		}
	}
}

// description is the API's own, as far as a test looks at it.
type description struct {
	Paths map[string]map[string]struct {
		Responses map[string]struct {
			Content map[string]struct{ Schema schema }
		}
	}
	Components struct{ Schemas map[string]schema }
}

type schema struct {
	Type       any
	Ref        string `json:"$ref"`
	Properties map[string]schema
	Items      *schema
}

// check holds a document to its schema: it has no field that is not described.
func (d description) check(t *testing.T, where string, s schema, document any) {
	t.Helper()
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		s, ok = d.Components.Schemas[name]
		if !ok {
			t.Errorf("%s: no schema %s", where, name)
		}
	}
	switch v := document.(type) {
	case map[string]any:
		for key, value := range v {
			property, ok := s.Properties[key]
			switch {
			case ok:
				d.check(t, where+"."+key, property, value)
			case s.Properties != nil || s.Type != "object" && s.Type != nil:
				t.Errorf("%s.%s is not described", where, key)
			}
		}
	case []any:
		for _, item := range v {
			if s.Items == nil {
				t.Errorf("%s: a list is not described", where)
				return
			}
			d.check(t, where+"[]", *s.Items, item)
		}
	}
}

// /readyz follows the servers, and /livez does not care.
func TestReadyFollowsTheServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t).inTheEvening()
	redisServer, database := testenv.RedisServer(t), testenv.PostgresServer(t)
	w.env["SA_REDIS__URL"], w.env["SA_DATABASE__URL"] = redisServer.URL(), database.URL()
	v := w.listen()
	status := func(want int, names ...string) func() bool {
		return func() bool {
			if alive := v.ask("GET", "/livez", ""); alive.status != http.StatusOK {
				t.Errorf("/livez: %d", alive.status)
			}
			a := v.ask("GET", "/readyz", "")
			var h struct {
				Checks []struct {
					Name string
					OK   bool
				}
			}
			_ = json.Unmarshal([]byte(a.body), &h)
			var red []string
			for _, c := range h.Checks {
				if !c.OK {
					red = append(red, c.Name)
				}
			}
			return a.status == want && slices.Equal(red, names)
		}
	}
	w.await("ready", status(http.StatusOK))
	for name, fault := range map[string]struct {
		begin, end func()
		red        []string
	}{
		"redis killed":    {redisServer.Kill, redisServer.Start, []string{"redis"}},
		"redis hangs":     {redisServer.Pause, redisServer.Continue, []string{"redis"}},
		"database killed": {database.Kill, database.Start, []string{"database", "schema"}},
		"database hangs":  {database.Pause, database.Continue, []string{"database", "schema"}},
	} {
		fault.begin()
		w.await("not ready: "+name, status(http.StatusServiceUnavailable, fault.red...))
		fault.end()
		w.await("ready after: "+name, status(http.StatusOK))
	}
	w.env["SA_DATABASE__URL"] = database.URL()
	w.exec(`DELETE FROM ingest_schema WHERE version_id = (SELECT max(version_id) FROM ingest_schema)`)
	w.await("not ready: the schema is old", status(http.StatusServiceUnavailable, "schema"))
}

func TestServeRefusesToAnswerEverybody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"all interfaces":    {map[string]string{"SA_HTTP__ADDR": ":0"}, "SA_HTTP__TOKEN"},
		"all, spelled out":  {map[string]string{"SA_HTTP__ADDR": "0.0.0.0:0"}, "SA_HTTP__TOKEN"},
		"a name":            {map[string]string{"SA_HTTP__ADDR": "worker.example:0"}, "SA_HTTP__TOKEN"},
		"no port":           {map[string]string{"SA_HTTP__ADDR": "127.0.0.1"}, "SA_HTTP__ADDR"},
		"a port too high":   {map[string]string{"SA_HTTP__ADDR": "127.0.0.1:65536"}, "SA_HTTP__ADDR"},
		"a short token":     {map[string]string{"SA_HTTP__TOKEN": "123456789012345"}, "SA_HTTP__TOKEN"},
		"open profiles":     {map[string]string{"SA_HTTP__PPROF_ADDR": ":6060"}, "SA_HTTP__PPROF_ADDR"},
		"a host with port":  {map[string]string{"SA_HTTP__HOSTS": "worker:8080"}, "SA_HTTP__HOSTS"},
		"a token not there": {map[string]string{"SA_HTTP__TOKEN_FILE": filepath.Join(t.TempDir(), "none")}, "SA_HTTP__TOKEN_FILE"},
	} {
		w := newWorld(t)
		for env, value := range c.env {
			w.env[env] = value
		}
		if s := w.run("serve"); s.code != exitUsage || !strings.Contains(s.err, c.want) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestServeOnATakenPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	w := newWorld(t)
	w.env["SA_HTTP__ADDR"] = l.Addr().String()
	if s := w.run("serve"); s.code != exitFailed || !strings.Contains(s.err, l.Addr().String()) || !strings.Contains(s.err, "SA_HTTP__ADDR") {
		t.Errorf("%+v", s)
	}
}

// systemd hears that it is ready, lives and stops, in this order.
func TestServeTellsSystemd(t *testing.T) {
	t.Parallel()
	w := newWorld(t).inTheEvening()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	w.env["NOTIFY_SOCKET"], w.env["WATCHDOG_USEC"] = path, "200000"
	v := w.listen()
	_ = socket.SetReadDeadline(time.Now().Add(time.Minute))
	hear := func() string {
		text := make([]byte, 100)
		n, err := socket.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[:n])
	}
	if got := hear(); got != "READY=1" {
		t.Errorf("first %s", got)
	}
	for range 3 {
		if got := hear(); got != "WATCHDOG=1" {
			t.Errorf("then %s", got)
		}
	}
	v.stop()
	for got := hear(); got != "STOPPING=1"; got = hear() {
		if got != "WATCHDOG=1" {
			t.Fatalf("at the end %s", got)
		}
	}
	if code := <-v.code; code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// A schedule that hangs gives no sign of life.
func TestNoSignOfLifeFromASchedulerThatHangs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	a := &app{process: process{Environ: []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=2000"}}, log: newTestLog()}
	n := a.newNotifier()
	asked := make(chan struct{})
	stop := n.watch(t.Context(), func() []string {
		select {
		case asked <- struct{}{}:
		default:
		}
		return []string{"daily_bars"}
	})
	for range 5 {
		<-asked
	}
	stop()
	n.send("STOPPING=1")
	text := make([]byte, 100)
	if size, err := socket.Read(text); err != nil || string(text[:size]) != "STOPPING=1" {
		t.Errorf("heard %s, %v", text[:size], err)
	}
	for _, env := range []string{"WATCHDOG_PID=1", "WATCHDOG_USEC=0", "WATCHDOG_USEC=soon"} {
		a.Environ = []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=2000", env}
		if n := a.newNotifier(); n.watchdog != 0 {
			t.Errorf("%s: it watches", env)
		}
	}
}

// A client of /ws hears what any program says on a channel; one without the
// token, or a page of another origin, does not get in.
func TestServeRelaysTheChannels(t *testing.T) {
	t.Parallel()
	const token = "WSTOKENCANARY0123456789"
	w := newWorld(t).withOwnRedis().inTheEvening()
	w.env["SA_HTTP__TOKEN"] = token
	v := w.listen()
	dial := func(origin string, protocols ...string) (*websocket.Conn, error) {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		c, _, err := websocket.Dial(t.Context(), v.base+"/ws", &websocket.DialOptions{HTTPHeader: header, Subprotocols: protocols})
		return c, err
	}
	var c *websocket.Conn
	w.await("the relay", func() (ok bool) { // it listens to Redis from a moment after the start
		var err error
		c, err = dial(v.base, "alpha-oracle.events", "bearer."+token)
		return err == nil
	})
	defer func() { _ = c.CloseNow() }()
	for name, connect := range map[string]func() (*websocket.Conn, error){
		"no token":      func() (*websocket.Conn, error) { return dial(v.base, "alpha-oracle.events") },
		"a wrong token": func() (*websocket.Conn, error) { return dial(v.base, "alpha-oracle.events", "bearer."+token+"x") },
		"another origin": func() (*websocket.Conn, error) {
			return dial("http://evil.example", "alpha-oracle.events", "bearer."+token)
		},
	} {
		if c, err := connect(); err == nil {
			_ = c.CloseNow()
			t.Errorf("%s: connected", name)
		}
	}
	if err := w.redis().Publish(t.Context(), "portfolio:update", `{"value":1}`).Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		_, message, err := c.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(message), "portfolio:update") { // runs tell of themselves too
			if string(message) != `{"channel":"portfolio:update","data":{"value":1}}` {
				t.Errorf("%s", message)
			}
			return
		}
	}
}
