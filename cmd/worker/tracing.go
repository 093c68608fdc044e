package main

import (
	"cmp"
	"context"
	"net/url"
	"strings"

	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/secret"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/internal/tracing"
	"github.com/alpha-oracle/worker/providers/transport"
)

const (
	tracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	allEndpoint    = "OTEL_EXPORTER_OTLP_ENDPOINT"
	// tracesPath is where the general endpoint takes spans, see
	// https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
	tracesPath = "v1/traces"
	// longestLoss bounds what a receiver's answer adds to the log.
	longestLoss = 300
)

// tracingConfig is where spans go, from the standard names of OpenTelemetry in the
// environment; with no endpoint there are none.
type tracingConfig struct {
	Endpoint, Service string
	Headers           map[string]secret.Value
}

// tracing reads the environment; these names are in no file.
func (l *loader) tracing() tracingConfig {
	c := tracingConfig{Service: cmp.Or(l.env["OTEL_SERVICE_NAME"], "worker")}
	name, path := tracesEndpoint, ""
	if l.env[name] == "" {
		name, path = allEndpoint, tracesPath
	}
	if l.env[name] == "" || strings.EqualFold(l.env["OTEL_SDK_DISABLED"], "true") || l.env["OTEL_TRACES_EXPORTER"] == "none" {
		return c
	}
	u, err := url.Parse(l.env[name])
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || u.RawQuery != "" {
		l.problem("%s: want http://host:4318 or https://..., without user and parameters: what is secret goes into OTEL_EXPORTER_OTLP_HEADERS", name)
		return c
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if protocol := l.env[name]; protocol != "" && protocol != "http/protobuf" {
			l.problem("%s is %q: only http/protobuf is spoken, whose usual port is 4318", name, protocol)
		}
	}
	c.Endpoint = u.JoinPath(path).String()
	c.Headers = l.headers(l.firstSet("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"))
	return c
}

// firstSet returns the first of some names that is set, and "" if none is.
func (l *loader) firstSet(names ...string) string {
	for _, name := range names {
		if l.env[name] != "" {
			return name
		}
	}
	return ""
}

// headers reads name=value pairs with commas between them and percent-encoded
// values. Its problems show no value.
func (l *loader) headers(env string) map[string]secret.Value {
	headers := map[string]secret.Value{}
	for pair := range strings.SplitSeq(l.env[env], ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		text, err := url.PathUnescape(strings.TrimSpace(value))
		name = strings.TrimSpace(name)
		if !found || err != nil || name == "" || strings.ContainsFunc(name+text, func(r rune) bool { return r < ' ' || r > '~' }) {
			l.problem("%s: want name=value pairs with commas between them, values percent-encoded", env)
			return nil
		}
		headers[name] = secret.New(text)
	}
	return headers
}

// secrets are what of it no output may hold: a header may be a word and a token.
func (c tracingConfig) secrets() []secret.Value {
	var all []secret.Value
	for _, value := range c.Headers {
		all = append(all, value)
		for word := range strings.FieldsSeq(value.Reveal()) {
			all = append(all, secret.New(word))
		}
	}
	return all
}

// startTracing begins to send spans, if the environment names a receiver.
func (a *app) startTracing(ctx context.Context) (err error) {
	c := a.cfg.Tracing
	if c.Endpoint == "" {
		return nil
	}
	headers := make(map[string]string, len(c.Headers))
	for name, value := range c.Headers {
		headers[name] = value.Reveal()
	}
	a.traces, err = tracing.New(ctx, tracing.Options{
		Endpoint: c.Endpoint, Headers: headers, Exporter: a.Spans,
		Service: c.Service, Version: version, Instance: newOwner(), Tell: a.tellLost,
	})
	return err
}

// tellLost says that spans did not arrive. Nothing else suffers from it.
func (a *app) tellLost(err error, batches int) {
	text := a.redact(err.Error())
	if len(text) > longestLoss {
		text = strings.ToValidUTF8(text[:longestLoss], "") + "..."
	}
	a.log.Warn("spans are lost: the receiver of traces does not take them", zap.Int("batches", batches), zap.String("error", text))
}

// traceCall makes a span of a call. What the transport tells of it holds no key.
func (a *app) traceCall(ctx context.Context, provider string, t transport.Attempt) {
	if a.traces == nil {
		return
	}
	call := tracing.Call{
		Provider: provider, Method: t.Method, Host: t.Host, Path: t.Path,
		Status: t.Status, Try: t.Try, Waited: t.Waited, Took: t.Took, Err: t.Err,
	}
	if t.Err != nil {
		call.Kind = string(sweep.Classify(ctx, t.Err).Outcome)
	}
	a.traces.Called(ctx, call)
}
