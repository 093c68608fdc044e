package tracing_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/internal/tracing"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// canary is a value that no span may hold.
const canary = "CANARYv4lue"

// kept is an exporter that still has its spans after its end.
type kept struct{ *tracetest.InMemoryExporter }

func (kept) Shutdown(context.Context) error { return nil }

func newTracer(t *testing.T, o tracing.Options) *tracing.Tracer {
	t.Helper()
	o.Service, o.Version, o.Instance = "worker", "v1", "here"
	tracer, err := tracing.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

// inRun calls do within a run and returns the spans by their names, after a look
// for the canary.
func inRun(t *testing.T, do func(context.Context, *tracing.Tracer)) (run tracetest.SpanStub, rest []tracetest.SpanStub) {
	t.Helper()
	spans := kept{tracetest.NewInMemoryExporter()}
	tracer := newTracer(t, tracing.Options{Exporter: spans})
	do(t.Context(), tracer) // leaves nothing, since it is outside of a run
	ctx, end := tracer.Run(t.Context(), "daily_bars", "2026-03-12", 7)
	do(ctx, tracer)
	end(sweep.Report{Status: sweep.Partial, Symbols: 3, Fetched: 2, Failed: 1})
	tracer.Stop()
	all := spans.GetSpans()
	if text := fmt.Sprintf("%+v", all); len(all) == 0 || strings.Contains(text, canary) {
		t.Fatalf("%d spans, or a value in them: %s", len(all), text)
	}
	run = all[len(all)-1]
	for _, s := range all[:len(all)-1] {
		if s.SpanContext.TraceID() != run.SpanContext.TraceID() {
			t.Errorf("span %s is outside of the run", s.Name)
		}
	}
	return run, all[:len(all)-1]
}

func attributes(s tracetest.SpanStub) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

// wantSpans compares spans with lines of name and attributes.
func wantSpans(t *testing.T, spans []tracetest.SpanStub, want ...string) {
	t.Helper()
	var got []string
	for _, s := range spans {
		var parts []string
		for key, value := range attributes(s) {
			if !strings.HasPrefix(key, "db.system") && key != "db.operation.name" {
				parts = append(parts, key+"="+value)
			}
		}
		slices.Sort(parts)
		got = append(got, strings.Join(append([]string{s.Name}, parts...), " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("spans:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRunUnitsAndCalls(t *testing.T) {
	t.Parallel()
	run, rest := inRun(t, func(ctx context.Context, tracer *tracing.Tracer) {
		pass := sweep.Sweep{Begin: tracer.Units(), Workers: 1, Visit: func(ctx context.Context, unit market.Symbol) (sweep.Result, error) {
			if unit == "MSFT" {
				tracer.Called(ctx, tracing.Call{
					Provider: "alpha_vantage", Method: "GET", Host: "127.0.0.1:80", Path: "/query", Status: 503, Try: 2,
					Waited: time.Minute, Took: time.Second, Err: errors.New("status 503"), Kind: "provider_error",
				})
				return sweep.Result{Outcome: sweep.ProviderError, Message: "status 503"}, nil
			}
			tracer.Called(ctx, tracing.Call{Provider: "edgar", Method: "GET", Host: "data.sec.gov", Path: "/x", Status: 200, Try: 1})
			return sweep.Result{Outcome: sweep.Stored, Rows: 100}, nil
		}}
		pass.Run(ctx, []market.Symbol{"AAPL", "MSFT"})
	})
	wantSpans(t, rest,
		"GET edgar http.request.method=GET http.response.status_code=200 server.address=data.sec.gov url.path=/x worker.provider=edgar",
		"visit worker.outcome=stored worker.rows=100 worker.symbol=AAPL",
		"wait alpha_vantage",
		"GET alpha_vantage error.type=provider_error http.request.method=GET http.request.resend_count=1 http.response.status_code=503 server.address=127.0.0.1 server.port=80 url.path=/query worker.provider=alpha_vantage",
		"visit error.type=provider_error worker.outcome=provider_error worker.rows=0 worker.symbol=MSFT")
	wait, call, visit := rest[2], rest[3], rest[4]
	if call.Parent.SpanID() != visit.SpanContext.SpanID() || visit.Parent.SpanID() != run.SpanContext.SpanID() || run.Parent.IsValid() {
		t.Error("the spans are not below each other")
	}
	if !wait.EndTime.Equal(call.StartTime) || wait.EndTime.Sub(wait.StartTime) != time.Minute || call.EndTime.Sub(call.StartTime) != time.Second {
		t.Errorf("waited from %s to %s, called from %s to %s", wait.StartTime, wait.EndTime, call.StartTime, call.EndTime)
	}
	if call.Status.Description != "status 503" || visit.Status.Description != "status 503" {
		t.Errorf("failures say %q and %q", call.Status.Description, visit.Status.Description)
	}
	if a := attributes(run); run.Name != "run daily_bars" || a["worker.period"] != "2026-03-12" || a["worker.run"] != "7" || a["worker.status"] != "partial" || a["worker.failed"] != "1" {
		t.Errorf("the run is %s, %v", run.Name, a)
	}
	if text := run.Resource.String(); text != "service.instance.id=here,service.name=worker,service.version=v1" {
		t.Errorf("the resource is %s", text)
	}
}

func TestStatements(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	_, rest := inRun(t, func(ctx context.Context, tracer *tracing.Tracer) {
		config, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		config.Tracer = tracer.SQL()
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(ctx) }()
		var text string
		if err := conn.QueryRow(ctx, "\n\tselect $1::text", canary).Scan(&text); err != nil || text != canary {
			t.Errorf("%q, %v", text, err)
		}
		_, err = conn.Exec(ctx, "SELECT '"+canary+"'::integer")
		if err == nil || !strings.Contains(err.Error(), canary) {
			t.Errorf("the server does not quote the value: %v", err)
		}
		if _, err := conn.Exec(ctx, "CREATE TEMPORARY TABLE t (a text)"); err != nil {
			t.Error(err)
		}
		batch := &pgx.Batch{}
		batch.Queue("INSERT INTO t VALUES ($1)", canary)
		batch.Queue("DELETE FROM t WHERE a = $1", canary)
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			t.Error(err)
		}
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"a"}, pgx.CopyFromRows([][]any{{canary}})); err != nil {
			t.Error(err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := conn.Exec(ended, "-- "+canary); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	wantSpans(t, rest, "SELECT", "SELECT error.type=22P02", "CREATE", "BATCH INSERT db.operation.batch.size=2", "COPY", "statement error.type=canceled")
}

func TestCommands(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	_, rest := inRun(t, func(ctx context.Context, tracer *tracing.Tracer) {
		o, err := redis.ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		rdb := redis.NewClient(o)
		defer func() { _ = rdb.Close() }()
		rdb.AddHook(tracer.Redis())
		rdb.Set(ctx, canary, canary, 0)
		rdb.Get(ctx, "absent")
		rdb.LPush(ctx, canary, canary)
		rdb.EvalSha(ctx, "0000", nil, canary)
		if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Get(ctx, canary)
			p.Del(ctx, canary)
			return nil
		}); err != nil {
			t.Error(err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		rdb.Get(ended, canary)
	})
	wantSpans(t, rest, "SET", "GET", "LPUSH error.type=WRONGTYPE", "EVALSHA", "PIPELINE db.operation.batch.size=2", "GET error.type=canceled")
}

// What is off costs nothing.
//
//nolint:paralleltest // allocations are those of the whole process
func TestOff(t *testing.T) {
	var off *tracing.Tracer
	if off.SQL() != nil || off.Redis() != nil || off.Units() != nil {
		t.Error("a nil Tracer has hooks")
	}
	ctx, call, report := t.Context(), tracing.Call{Provider: "edgar", Method: "GET", Waited: time.Second}, sweep.Report{}
	if n := testing.AllocsPerRun(100, func() {
		in, end := off.Run(ctx, "daily_bars", "2026-03-12", 1)
		off.Called(in, call)
		end(report)
		off.Stop()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// hangs is a receiver that never answers.
type hangs struct {
	once sync.Once
	end  chan struct{}
}

func (h *hangs) ExportSpans(ctx context.Context, _ []sdktrace.ReadOnlySpan) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-h.end:
		return errors.New("ended")
	}
}

func (h *hangs) Shutdown(context.Context) error {
	h.once.Do(func() { close(h.end) })
	return nil
}

// In the bubble a span that waited for the receiver would be seen by the clock, and
// a goroutine that is left behind by the end of the test.
func TestNothingWaitsForAReceiverThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tracer := newTracer(t, tracing.Options{Exporter: &hangs{end: make(chan struct{})}})
		started := time.Now()
		ctx, end := tracer.Run(t.Context(), "daily_bars", "2026-03-12", 1)
		for range 3 * tracing.Queue {
			tracer.Called(ctx, tracing.Call{Provider: "edgar"})
		}
		end(sweep.Report{})
		if waited := time.Since(started); waited != 0 {
			t.Errorf("spans waited %s", waited)
		}
		tracer.Stop()
		if waited := time.Since(started); waited != tracing.StopTime {
			t.Errorf("the end waited %s, want %s", waited, tracing.StopTime)
		}
	})
}

// broken is a receiver that refuses everything.
type broken struct{}

func (broken) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	return errors.New("refused")
}

func (broken) Shutdown(context.Context) error { return nil }

func TestLossesAreToldNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []time.Duration
		lost, started := 0, time.Now()
		tracer := newTracer(t, tracing.Options{Exporter: broken{}, Tell: func(err error, batches int) {
			if err.Error() != "refused" {
				t.Error(err)
			}
			told, lost = append(told, time.Since(started)), lost+batches
		}})
		for range 60 {
			_, end := tracer.Run(t.Context(), "daily_bars", "2026-03-12", 1)
			end(sweep.Report{})
			time.Sleep(time.Minute)
		}
		tracer.Stop()
		if len(told) != 4 || told[0] > time.Minute || told[1]-told[0] < tracing.QuietTime || lost != 46 {
			t.Errorf("told after %v of %d batches", told, lost)
		}
	})
}

func TestOverHTTP(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("followed a redirect, with the headers")
	}))
	defer elsewhere.Close()
	var bodies [][]byte
	var paths []string
	status := http.StatusOK
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("X-Token") != "secret" {
			t.Errorf("%v, header %v", err, r.Header)
		}
		bodies, paths = append(bodies, body), append(paths, r.URL.Path)
		w.Header().Set("Location", elsewhere.URL)
		w.WriteHeader(status)
	}))
	defer receiver.Close()
	lost := 0
	for _, status = range []int{http.StatusOK, http.StatusTemporaryRedirect} {
		tracer := newTracer(t, tracing.Options{
			Endpoint: receiver.URL + "/v1/traces", Headers: map[string]string{"X-Token": "secret"}, Tell: func(error, int) { lost++ },
		})
		_, end := tracer.Run(t.Context(), "daily_bars", "2026-03-12", 1)
		end(sweep.Report{})
		tracer.Stop()
	}
	if len(bodies) != 2 || paths[0] != "/v1/traces" || !bytes.Contains(bodies[0], []byte("run daily_bars")) || lost != 1 {
		t.Errorf("%d requests to %v, %d lost: %q", len(bodies), paths, lost, bodies)
	}
}
