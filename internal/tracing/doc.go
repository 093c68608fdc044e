// Package tracing sends spans of runs over OTLP/HTTP: of each run, the symbols
// that it visits, its calls to providers and its commands to Postgres and Redis.
// A trace is a run; what happens outside of one has no span.
//
// A span holds names, counts, statuses and codes, and texts that the caller has
// taken the secrets out of; never a query of a URL, a statement, a parameter, a
// key or a value. Nothing waits for the receiver of the spans: while it is away or
// slow, spans are dropped.
//
// A nil *[Tracer] makes no spans, starts no goroutine and allocates nothing.
package tracing
