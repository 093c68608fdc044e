package tracing

import (
	"context"
	"net"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// leastWait is the shortest wait for a limit that has a span.
const leastWait = time.Millisecond

// Run begins the trace of a run, in the returned context. The returned function
// ends it; the texts of the report must hold no secret.
func (t *Tracer) Run(ctx context.Context, job, period string, id int64) (context.Context, func(sweep.Report)) {
	if t == nil {
		return ctx, func(sweep.Report) {}
	}
	ctx, span := t.tracer.Start(ctx, "run "+job, trace.WithAttributes(
		attribute.String("worker.job", job), attribute.String("worker.period", period), attribute.Int64("worker.run", id)))
	return ctx, func(r sweep.Report) {
		span.SetAttributes(
			attribute.String("worker.status", string(r.Status)), attribute.Int("worker.symbols", r.Symbols),
			attribute.Int("worker.fetched", r.Fetched), attribute.Int("worker.skipped", r.Skipped), attribute.Int("worker.failed", r.Failed),
			attribute.Int("worker.rows", r.Rows), attribute.Int("worker.provider_calls", r.ProviderCalls))
		if r.Status == sweep.Failed {
			span.SetStatus(codes.Error, r.Stopped)
		}
		span.End()
	}
}

// Units is for the Begin of a [sweep.Sweep]: a span for each unit, with its
// outcome. The messages must hold no secret. On a nil Tracer it is nil.
func (t *Tracer) Units() func(context.Context, market.Symbol) (context.Context, func(sweep.Result)) {
	if t == nil {
		return nil
	}
	return func(ctx context.Context, unit market.Symbol) (context.Context, func(sweep.Result)) {
		if !inRun(ctx) {
			return ctx, func(sweep.Result) {}
		}
		ctx = t.child(ctx, "visit", trace.SpanKindInternal, attribute.String("worker.symbol", string(unit)))
		return ctx, func(r sweep.Result) {
			span := trace.SpanFromContext(ctx)
			span.SetAttributes(attribute.String("worker.outcome", string(r.Outcome)), attribute.Int("worker.rows", r.Rows))
			if !r.Outcome.Done() {
				fail(span, string(r.Outcome), r.Message)
			}
			span.End()
		}
	}
}

// Call is one try of one call to a provider that has just ended.
type Call struct {
	// Provider is the vendor's name.
	Provider string
	// Method, Host (with a port if the URL has one) and Path are the request's;
	// the path must hold no secret.
	Method, Host, Path string
	// Status is 0 when there was no answer.
	Status int
	// Try counts from 1 within one request.
	Try int
	// Waited is how long it waited for its limit, Took the time from there to
	// the beginning of the answer.
	Waited, Took time.Duration
	// Err is nil when the answer was accepted; its text must hold no secret. Kind
	// is its class.
	Err  error
	Kind string
}

// Called makes the spans of a call in the run of ctx: one for the wait for its
// limit, if it had to, and one for the call itself.
func (t *Tracer) Called(ctx context.Context, c Call) {
	if t == nil || !inRun(ctx) {
		return
	}
	ended := t.now()
	sent := ended.Add(-c.Took)
	if c.Waited >= leastWait {
		_, wait := t.tracer.Start(ctx, "wait "+c.Provider, trace.WithTimestamp(sent.Add(-c.Waited)))
		wait.End(trace.WithTimestamp(sent))
	}
	_, span := t.tracer.Start(ctx, c.Method+" "+c.Provider, trace.WithTimestamp(sent), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", c.Method), attribute.String("url.path", c.Path), attribute.String("worker.provider", c.Provider)))
	span.SetAttributes(address(c.Host)...)
	defer span.End(trace.WithTimestamp(ended))
	if c.Status > 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", c.Status))
	}
	if c.Try > 1 {
		span.SetAttributes(attribute.Int("http.request.resend_count", c.Try-1))
	}
	if c.Err != nil {
		fail(span, c.Kind, c.Err.Error())
	}
}

// address describes host or host:port.
func address(host string) []attribute.KeyValue {
	name, port, err := net.SplitHostPort(host)
	number, wrong := strconv.Atoi(port)
	if err != nil || wrong != nil {
		return []attribute.KeyValue{attribute.String("server.address", host)}
	}
	return []attribute.KeyValue{attribute.String("server.address", name), attribute.Int("server.port", number)}
}
