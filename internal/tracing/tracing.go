package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	scope = "github.com/alpha-oracle/worker"

	// Queue is the number of ended spans that wait to be sent at most; what ends
	// while it is full is lost.
	Queue = 4096
	// StopTime bounds how long [Tracer.Stop] waits for the last spans to be sent.
	StopTime = 2 * time.Second
	// QuietTime is how long a failure to send is not told again.
	QuietTime = 15 * time.Minute

	// longestWord is longer than the names of commands and codes of errors.
	longestWord = 16

	batch     = 512
	sendEvery = 5 * time.Second
	// sendTime bounds one request to the receiver, and tryTime one batch with
	// all its tries.
	sendTime, tryTime = 10 * time.Second, 30 * time.Second
)

// Exporter takes ended spans in batches.
type Exporter = sdktrace.SpanExporter

// Options say where spans go.
type Options struct {
	// Endpoint is the URL for spans, such as http://127.0.0.1:4318/v1/traces,
	// without user and query.
	Endpoint string
	// Headers are sent with each request.
	Headers map[string]string
	// Exporter is used instead of the endpoint, unless it is nil.
	Exporter Exporter
	// Service, Version and Instance are the attributes service.name,
	// service.version and service.instance.id of all spans.
	Service, Version, Instance string
	// Tell is told of batches that are lost: of the first one at once, then at
	// most every [QuietTime], with their number since; nil: nobody is. The text of
	// the error may quote the receiver.
	Tell func(err error, batches int)
	// Now is the clock of [Tracer.Called] and Tell; nil means time.Now.
	Now func() time.Time
}

// Tracer makes spans. It is safe for concurrent use; a nil one makes none.
type Tracer struct {
	provider *sdktrace.TracerProvider
	exporter Exporter
	client   *http.Client
	tracer   trace.Tracer
	now      func() time.Time
}

// New returns a Tracer, which is to be stopped.
func New(ctx context.Context, o Options) (*Tracer, error) {
	t := &Tracer{exporter: o.Exporter, client: newClient(), now: o.Now}
	if t.now == nil {
		t.now = time.Now
	}
	if t.exporter == nil {
		var err error
		if t.exporter, err = otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(o.Endpoint),
			otlptracehttp.WithHeaders(o.Headers), otlptracehttp.WithHTTPClient(t.client),
			otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
				Enabled: true, InitialInterval: time.Second, MaxInterval: sendEvery, MaxElapsedTime: tryTime,
			})); err != nil {
			return nil, fmt.Errorf("start tracing: %w", err)
		}
	}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", o.Service), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Instance))),
		sdktrace.WithBatcher(&quiet{Exporter: t.exporter, tell: o.Tell, now: t.now},
			sdktrace.WithMaxQueueSize(Queue), sdktrace.WithMaxExportBatchSize(batch),
			sdktrace.WithBatchTimeout(sendEvery), sdktrace.WithExportTimeout(tryTime)))
	t.tracer = t.provider.Tracer(scope, trace.WithInstrumentationVersion(o.Version))
	return t, nil
}

// newClient follows no redirect, since that would hand the headers to another
// host.
func newClient() *http.Client {
	return &http.Client{
		Timeout:       sendTime,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: sendTime, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Stop sends what has ended, for at most [StopTime]; what is left then is lost.
func (t *Tracer) Stop() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), StopTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		_ = t.exporter.Shutdown(ctx) // it ends the request that is under way
	}
	t.client.CloseIdleConnections()
}

// Silence keeps the library's own log, which can quote headers, off standard
// error. It is for the whole process.
func Silence() {
	otel.SetLogger(logr.Discard())
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
}

// child begins a span if ctx is that of a run, and otherwise returns ctx. The span
// is the one of the returned context.
func (t *Tracer) child(ctx context.Context, name string, kind trace.SpanKind, attributes ...attribute.KeyValue) context.Context {
	if !inRun(ctx) {
		return ctx
	}
	ctx, _ = t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
	return ctx
}

func inRun(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// fail marks a span as failed; text must hold no secret.
func fail(span trace.Span, kind, text string) {
	span.SetStatus(codes.Error, text)
	span.SetAttributes(attribute.String("error.type", kind))
}

// kindOf names errors that say nothing more of themselves here.
func kindOf(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "_OTHER"
}

// letters returns the leading letters of a text in capitals; of more than a
// command or code has, "".
func letters(text string) string {
	text = strings.TrimSpace(text)
	end := strings.IndexFunc(text, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
	if end < 0 {
		end = len(text)
	}
	if end > longestWord {
		return ""
	}
	return strings.ToUpper(text[:end])
}
