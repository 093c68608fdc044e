package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// oddKey looks different in a URL, and in base64 has both letters that URLs do not.
const oddKey = "CANARY+k3y/98=76~?>"

// spellingsOf are the forms in which a secret may turn up; of base64 the part that
// is the same whatever stands around it, at each of its three offsets.
func spellingsOf(secret string) []string {
	all := []string{secret, url.QueryEscape(secret), url.PathEscape(secret), strings.ToLower(url.QueryEscape(secret))}
	for offset := range 3 {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString([]byte(strings.Repeat("\x00", offset) + secret))
			all = append(all, text[4:len(text)-3])
		}
	}
	return all
}

func noSecret(t *testing.T, where, text, secret string) {
	t.Helper()
	for _, spelling := range spellingsOf(secret) {
		if i := strings.Index(text, spelling); i >= 0 {
			t.Errorf("a secret is in %s: ...%q", where, text[max(0, i-200):i+len(spelling)])
		}
	}
}

// keptSpans still has its spans after its end.
type keptSpans struct{ *tracetest.InMemoryExporter }

func (keptSpans) Shutdown(context.Context) error { return nil }

// text is all that the spans hold.
func (k keptSpans) text() string {
	var b strings.Builder
	for _, s := range k.GetSpans() {
		fmt.Fprintln(&b, s.Name, s.Status.Code, s.Status.Description, s.Resource, s.InstrumentationScope)
		for _, a := range s.Attributes {
			fmt.Fprintln(&b, "  ", a.Key, a.Value.String())
		}
		fmt.Fprintln(&b, "  ", s.Events, s.Links)
	}
	return b.String()
}

// faultyWorld has a provider with an odd key that errs in many ways, and quotes
// the key where it can.
func faultyWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.simulate(simulator.Config{Key: oddKey, Through: sessionDate(), Premium: true})
	w.env["SA_ALPHA_VANTAGE_API_KEY"] = oddKey
	w.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
	t.Cleanup(func() { noSecret(t, "the output", strings.Join(w.said, "\n"), oddKey) })
	return w
}

// faultyRuns are whole runs with every kind of fault, and in between symbols that
// are well, since a row of failures ends a run.
func (w *world) faultyRuns() {
	w.t.Helper()
	all := market.SP500()
	var symbols []market.Symbol
	for i, name := range []string{"bad_symbol", "unknown_message", "empty_object", "redirect_elsewhere", "redirect_loop", "reset", "truncated_gzip", "html_503", "wrong_symbol", "bad_number"} {
		w.fault(all[2*i], name)
		symbols = append(symbols, all[2*i], all[2*i+1])
	}
	if report, code := w.daily("--date", session, "--symbols", list(symbols)); code != exitPartial || report.Fetched != 10 || report.Failed != 10 {
		w.t.Errorf("exit %d, report %+v", code, report)
	}
	for _, name := range []string{"premium", "bad_key", "daily_quota"} {
		w.fault(all[30], name)
		if report, code := w.daily("--date", session, "--symbols", string(all[30])); code == exitOK || report.Fetched != 0 {
			w.t.Errorf("%s: exit %d, report %+v", name, code, report)
		}
	}
}

func TestTracesHoldNoKey(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"embedded", "servers"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := faultyWorld(t)
			spans := keptSpans{tracetest.NewInMemoryExporter()}
			w.spans = spans
			wanted := []string{"run daily_bars", "visit", "GET alpha_vantage", "EVAL", "PIPELINE"}
			if name == "servers" {
				w.withServers()
				wanted = append(wanted, "BATCH SELECT", "SELECT", "BEGIN", "COMMIT")
			}
			w.faultyRuns()
			noSecret(t, "the spans", spans.text(), oddKey)
			names, roots := map[string]int{}, 0
			for _, s := range spans.GetSpans() {
				names[s.Name]++
				if !s.Parent.IsValid() {
					roots++
				}
			}
			for _, want := range wanted {
				if names[want] == 0 {
					t.Errorf("no span %q", want)
				}
			}
			if calls := len(w.sim.Calls()); names["GET alpha_vantage"] != calls || roots != 4 || names["visit"] != 23 {
				t.Errorf("%d calls, %d roots, spans %v", calls, roots, names)
			}
			if text := spans.text(); !strings.Contains(text, "[redacted]") || strings.Contains(text, "apikey=") || strings.Contains(text, "symbol=") {
				t.Errorf("no error quotes the key, or a query is there: %s", text)
			}
		})
	}
}

// collector takes spans over HTTP.
type collector struct {
	mu     sync.Mutex
	bodies bytes.Buffer
	header http.Header
}

func (r *collector) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies.Write(body)
	r.header = req.Header
}

func TestTracesOverHTTP(t *testing.T) {
	t.Parallel()
	w, r := faultyWorld(t), &collector{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	w.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.URL
	w.env["OTEL_EXPORTER_OTLP_HEADERS"] = "authorization=Bearer%20tok3n-of-the-receiver"
	w.env["OTEL_SERVICE_NAME"] = "ingest"
	w.faultyRuns()
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.bodies.String()
	noSecret(t, "what was sent", sent, oddKey)
	for _, want := range []string{"run daily_bars", "GET alpha_vantage", "service.name", "ingest", version, "[redacted]"} {
		if !strings.Contains(sent, want) {
			t.Errorf("%q was not sent in %d bytes", want, len(sent))
		}
	}
	if got := r.header.Get("Authorization"); got != "Bearer tok3n-of-the-receiver" {
		t.Errorf("header %q", got)
	}
}

func TestRunsDoNotNeedTheReceiverOfTraces(t *testing.T) {
	t.Parallel()
	const token = "tok3n-of-the-receiver"
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "who is "+r.Header.Get("Authorization"), http.StatusUnauthorized)
	}))
	t.Cleanup(refusing.Close)
	for name, endpoint := range map[string]string{"refused": refusing.URL, "away": "http://127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = endpoint
			w.env["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] = "authorization=Bearer%20" + token
			report, code := w.daily("--date", session, "--symbols", three)
			if code != exitOK || report.Fetched != 3 {
				t.Errorf("exit %d, report %+v", code, report)
			}
			said := strings.Join(w.said, "\n")
			if n := strings.Count(said, "spans are lost"); n != 1 {
				t.Errorf("told %d times: %s", n, said)
			}
			noSecret(t, "the output", said, token)
		})
	}
}

func TestTracingConfig(t *testing.T) {
	t.Parallel()
	const all, traces = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	for name, c := range map[string]struct {
		env            []string
		want, complain string
	}{
		"nothing":         {},
		"general":         {env: []string{all + "=http://otel:4318"}, want: "http://otel:4318/v1/traces"},
		"general, a path": {env: []string{all + "=https://otel/in/"}, want: "https://otel/in/v1/traces"},
		"traces":          {env: []string{all + "=http://otel:4318", traces + "=http://jaeger:4318/x"}, want: "http://jaeger:4318/x"},
		"disabled":        {env: []string{all + "=http://otel:4318", "OTEL_SDK_DISABLED=true"}},
		"none":            {env: []string{all + "=http://otel:4318", "OTEL_TRACES_EXPORTER=none"}},
		"no scheme":       {env: []string{all + "=otel:4318"}, complain: all},
		"a password":      {env: []string{traces + "=http://u:" + canary + "@otel"}, complain: traces},
		"a token":         {env: []string{traces + "=http://otel/?t=" + canary}, complain: traces},
		"gRPC":            {env: []string{all + "=http://otel:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, complain: "OTEL_EXPORTER_OTLP_PROTOCOL"},
		"no pair":         {env: []string{all + "=http://otel", "OTEL_EXPORTER_OTLP_HEADERS=a=1," + canary}, complain: "OTEL_EXPORTER_OTLP_HEADERS"},
		"a line more":     {env: []string{all + "=http://otel", "OTEL_EXPORTER_OTLP_HEADERS=a=" + canary + "%0Ab"}, complain: "OTEL_EXPORTER_OTLP_HEADERS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, err := loadConfig("", c.env)
			switch {
			case c.complain == "" && (err != nil || config.Tracing.Endpoint != c.want):
				t.Errorf("%q, %v, want %q", config.Tracing.Endpoint, err, c.want)
			case c.complain != "" && (err == nil || !strings.Contains(err.Error(), c.complain) || strings.Contains(err.Error(), canary)):
				t.Errorf("want a complaint about %s: %v", c.complain, err)
			}
			if err != nil {
				return
			}
			a := app{cfg: config}
			if err := a.startTracing(t.Context()); err != nil || (a.traces != nil) != (c.want != "") {
				t.Errorf("tracing is %v, %v", a.traces, err)
			}
			a.traces.Stop()
		})
	}
}

func TestServeTracesItsRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Now: w.now, Premium: true})
	spans := keptSpans{tracetest.NewInMemoryExporter()}
	w.spans, w.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = spans, "http://127.0.0.1:1"
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,MSFT"
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan said, 1)
	go func() { ended <- w.runContext(ctx, "serve") }()
	w.awaitPeriod(w.open(), "daily_bars", session, store.Complete)
	cancel(signalError{15})
	if one := <-ended; one.code != exitOK {
		t.Errorf("exit code %d: %s", one.code, one.err)
	}
	var runs []string
	for _, s := range spans.GetSpans() {
		if !s.Parent.IsValid() {
			runs = append(runs, s.Name)
		}
	}
	if !slices.Contains(runs, "run daily_bars") || slices.ContainsFunc(runs, func(name string) bool { return !strings.HasPrefix(name, "run ") }) {
		t.Errorf("traces of %v", runs)
	}
}
