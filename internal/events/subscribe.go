package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// quiet is how long a subscription may be silent before it is asked for a
	// sign of life, and how long that may take.
	quiet = 5 * time.Second
	// The waits between two attempts at a new subscription.
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
)

// Message is what came on a channel, as it was sent.
type Message struct {
	Channel, Payload string
}

// Gap is a time in which nothing was received: messages of it may be missed.
// From is the last sign of life of the old subscription, To when the new one
// stood.
type Gap struct{ From, To time.Time }

// Subscriber listens to channels.
type Subscriber struct {
	Redis *redis.Client
	// Channels are the channels; at least one.
	Channels []string
	Now      func() time.Time
	// Message is called for each message in the order of their coming. It
	// must not wait: what comes meanwhile piles up in Redis.
	Message func(Message)
	// Ready is called when a subscription stands, with the gap before it; of
	// the first one From is zero. Lost is called once when one ends, or the
	// first cannot be had. Both may be nil.
	Ready func(Gap)
	Lost  func(error)
}

// Run listens until ctx ends, whose error it returns. A subscription that breaks
// is replaced by another, as often as it takes.
func (s *Subscriber) Run(ctx context.Context) error {
	wait := firstWait
	var alive time.Time
	told := false
	for ctx.Err() == nil {
		ready := func() {
			wait, told = firstWait, false
			now := s.Now()
			if s.Ready != nil {
				s.Ready(Gap{From: alive, To: now})
			}
			alive = now
		}
		err := s.listen(ctx, ready, func() { alive = s.Now() })
		if ctx.Err() != nil {
			break
		}
		if !told && s.Lost != nil {
			s.Lost(fmt.Errorf("subscribe to %d channels: %w", len(s.Channels), err))
		}
		told = true
		pause(ctx, wait)
		wait = min(2*wait, longestWait)
	}
	return ctx.Err()
}

// listen is one subscription, from its beginning to its error.
func (s *Subscriber) listen(ctx context.Context, ready, sign func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ps := s.Redis.Subscribe(ctx, s.Channels...)
	// Its reads end with the connection, not with ctx.
	stop := context.AfterFunc(ctx, func() { _ = ps.Close() })
	defer func() {
		if stop() {
			_ = ps.Close()
		}
	}()
	var heard atomic.Bool
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	watch.Go(func() { cancel(watchOver(ctx, ps, &heard)) })
	for missing := len(s.Channels); ; {
		got, err := ps.Receive(ctx)
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		heard.Store(true)
		switch m := got.(type) {
		case *redis.Message:
			s.Message(Message{m.Channel, m.Payload})
		case *redis.Subscription:
			missing--
		}
		switch {
		case missing < 0:
			// The library has replaced the connection without a word.
			return errors.New("the connection was replaced")
		case missing > 0:
		default:
			if _, ok := got.(*redis.Subscription); ok {
				ready()
			}
			sign()
		}
	}
}

// watchOver asks a subscription that is silent for a sign of life and returns
// when none comes.
func watchOver(ctx context.Context, ps *redis.PubSub, heard *atomic.Bool) error {
	ticker := time.NewTicker(quiet)
	defer ticker.Stop()
	for asked := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		switch {
		case heard.Swap(false):
			asked = false
		case asked:
			return fmt.Errorf("no sign of life of Redis for %s", 2*quiet)
		default:
			asked = true
			// What goes wrong here ends the read as well.
			_ = ps.Ping(ctx)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
