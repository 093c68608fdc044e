package tracing

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// SQL returns what makes a span for each statement, batch of statements and copy
// within a run, with the statement's first word as its name and, if it fails, the
// SQLSTATE. On a nil Tracer it is nil.
func (t *Tracer) SQL() pgx.QueryTracer {
	if t == nil {
		return nil
	}
	return statements{t}
}

type statements struct{ *Tracer }

var (
	_ pgx.BatchTracer    = statements{}
	_ pgx.CopyFromTracer = statements{}
)

func (s statements) begin(ctx context.Context, prefix, operation string, more ...attribute.KeyValue) context.Context {
	operation = cmp.Or(operation, "statement")
	return s.child(ctx, prefix+operation, trace.SpanKindClient, append(more,
		attribute.String("db.system.name", "postgresql"), attribute.String("db.operation.name", prefix+operation))...)
}

func (s statements) end(ctx context.Context, err error) {
	span := trace.SpanFromContext(ctx)
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		fail(span, answer.Code, "")
	} else if err != nil {
		fail(span, kindOf(err), "")
	}
	span.End()
}

// TraceQueryStart implements [pgx.QueryTracer].
func (s statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if !inRun(ctx) {
		return ctx
	}
	return s.begin(ctx, "", letters(data.SQL))
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (s statements) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	s.end(ctx, data.Err)
}

// TraceBatchStart implements [pgx.BatchTracer].
func (s statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	if !inRun(ctx) {
		return ctx
	}
	queued, operation := data.Batch.QueuedQueries, ""
	if len(queued) > 0 {
		operation = letters(queued[0].SQL)
	}
	return s.begin(ctx, "BATCH ", operation, attribute.Int("db.operation.batch.size", len(queued)))
}

// TraceBatchQuery implements [pgx.BatchTracer].
func (s statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements [pgx.BatchTracer].
func (s statements) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	s.end(ctx, data.Err)
}

// TraceCopyFromStart implements [pgx.CopyFromTracer].
func (s statements) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return s.begin(ctx, "", "COPY")
}

// TraceCopyFromEnd implements [pgx.CopyFromTracer].
func (s statements) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceCopyFromEndData) {
	s.end(ctx, data.Err)
}
