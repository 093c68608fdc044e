package tracing

import (
	"context"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// quiet keeps failures to send from the library, and tells of them now and then.
type quiet struct {
	Exporter
	tell func(error, int)
	now  func() time.Time

	mu     sync.Mutex
	told   time.Time
	failed int
}

// ExportSpans implements [Exporter].
func (q *quiet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := q.Exporter.ExportSpans(ctx, spans)
	if err == nil || q.tell == nil {
		return nil
	}
	q.mu.Lock()
	q.failed++
	failed, now := q.failed, q.now()
	again := q.told.IsZero() || now.Sub(q.told).Abs() >= QuietTime
	if again {
		q.told, q.failed = now, 0
	}
	q.mu.Unlock()
	if again {
		q.tell(err, failed)
	}
	return nil
}
