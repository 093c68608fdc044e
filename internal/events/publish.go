package events

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Publisher sends messages.
type Publisher struct{ rdb redis.Cmdable }

// NewPublisher returns the publisher of a Redis.
func NewPublisher(rdb redis.Cmdable) *Publisher { return &Publisher{rdb} }

// Publish sends a message to whoever listens. The error names the channel; after
// one of Redis the message may have been sent all the same.
func (p *Publisher) Publish(ctx context.Context, payload Payload) error {
	text, err := encode(payload)
	if err != nil {
		return err
	}
	if err := p.rdb.Publish(ctx, payload.Channel(), text).Err(); err != nil {
		return fmt.Errorf("publish on %s: %w", payload.Channel(), err)
	}
	return nil
}

func encode(payload Payload) ([]byte, error) {
	err := payload.Check()
	var text []byte
	if err == nil {
		text, err = json.Marshal(payload)
	}
	if err != nil {
		return nil, fmt.Errorf("publish on %s: %w", payload.Channel(), err)
	}
	return text, nil
}

// Ping reports whether Redis answers.
func (p *Publisher) Ping(ctx context.Context) error {
	if err := p.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("no answer from Redis: %w", err)
	}
	return nil
}
