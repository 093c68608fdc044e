package tracing

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Redis returns what makes a span for each command and pipeline within a run, with
// the command's name and, if it fails, the first word of the error where that is a
// code such as OOM. On a nil Tracer it is nil, which no client takes.
func (t *Tracer) Redis() redis.Hook {
	if t == nil {
		return nil
	}
	return commands{t}
}

type commands struct{ *Tracer }

// DialHook implements [redis.Hook].
func (c commands) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (c commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !inRun(ctx) || greets(cmd) {
			return next(ctx, cmd)
		}
		ctx = c.begin(ctx, letters(cmd.Name()))
		err := next(ctx, cmd)
		c.end(ctx, err)
		return err
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (c commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, all []redis.Cmder) error {
		if !inRun(ctx) || len(all) > 0 && greets(all[0]) {
			return next(ctx, all)
		}
		ctx = c.begin(ctx, "PIPELINE", attribute.Int("db.operation.batch.size", len(all)))
		err := next(ctx, all)
		c.end(ctx, err)
		return err
	}
}

// greets reports whether a command is one of those with which the library begins
// a connection, not all of which every server has to know.
func greets(cmd redis.Cmder) bool {
	switch cmd.Name() {
	case "hello", "auth", "select", "client":
		return true
	}
	return false
}

func (c commands) begin(ctx context.Context, name string, more ...attribute.KeyValue) context.Context {
	return c.child(ctx, name, trace.SpanKindClient, append(more,
		attribute.String("db.system.name", "redis"), attribute.String("db.operation.name", name))...)
}

func (c commands) end(ctx context.Context, err error) {
	span := trace.SpanFromContext(ctx)
	// An absent key is an answer, and so is a script that has to be sent whole.
	if err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "NOSCRIPT") {
		fail(span, cmp.Or(code(err), kindOf(err)), "")
	}
	span.End()
}

// code is the one that an error of the server begins with; "" if it has none.
func code(err error) string {
	answer, ok := errors.AsType[redis.Error](err)
	if !ok {
		return ""
	}
	word := letters(answer.Error())
	if !strings.HasPrefix(answer.Error(), word+" ") {
		return ""
	}
	return word
}
