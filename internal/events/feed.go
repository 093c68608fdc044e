package events

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/rediskey"
)

//go:embed status.lua
var statusSource string

const (
	feedMember   = "feed"
	connected    = "connected"
	disconnected = "disconnected"

	// statusTries bounds how often a status that others write at the same
	// moment is read again.
	statusTries = 20
)

// ErrStatus is wrapped by the error about a system:status that is no JSON object.
// It is left as it is.
var ErrStatus = errors.New("it holds no JSON object and is left as it is: delete it, or find out who wrote it")

// Feed is whether the source of bars can be reached: the member feed of
// system:status, which all replicas share. A change of it and its message are
// one step in Redis, so that however many replicas see the same, one message is
// sent. All other members keep their bytes.
//
// It is safe for concurrent use.
type Feed struct {
	pub    *Publisher
	rdb    redis.UniversalClient
	now    func() time.Time
	script *redis.Script

	mu sync.Mutex
	// last is what this process has said, for a status that cannot be used.
	last string
}

// NewFeed returns the feed in rdb.
func NewFeed(rdb redis.UniversalClient, now func() time.Time) *Feed {
	return &Feed{pub: NewPublisher(rdb), rdb: rdb, now: now, script: redis.NewScript(statusSource)}
}

// Lost notes that the source is lost and tells, unless it was lost before.
// changed reports whether it told. With [ErrStatus] the message is sent all the
// same, once for each process.
func (f *Feed) Lost(ctx context.Context, reason string) (changed bool, err error) {
	return f.set(ctx, disconnected, FeedDisconnected{At(f.now()), reason})
}

// Back notes that the source answers for so many symbols and tells, if it was
// lost before. Where nothing was known nothing is told. Errors are as of Lost.
func (f *Feed) Back(ctx context.Context, symbols int) (changed bool, err error) {
	return f.set(ctx, connected, FeedReconnected{At(f.now()), symbols})
}

func (f *Feed) set(ctx context.Context, state string, message Payload) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := encode(message)
	if err != nil {
		return false, err
	}
	for range statusTries {
		told, swapped, err := f.try(ctx, state, message.Channel(), text)
		if errors.Is(err, ErrStatus) {
			return f.withoutStatus(ctx, state, message, err)
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", rediskey.SystemStatus, err)
		}
		if swapped {
			f.last = state
			return told, nil
		}
	}
	return false, fmt.Errorf("%s: others wrote it %d times meanwhile", rediskey.SystemStatus, statusTries)
}

// try is one attempt: read, change, and replace what has not changed since.
func (f *Feed) try(ctx context.Context, state, channel string, message []byte) (told, swapped bool, err error) {
	old, err := f.rdb.Get(ctx, rediskey.SystemStatus).Bytes()
	there := "1"
	switch {
	case errors.Is(err, redis.Nil):
		old, there = []byte("{}"), "0"
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return false, false, ErrStatus
	case err != nil:
		return false, false, err
	}
	status, before, err := withMember(old, feedMember, state)
	if err != nil {
		return false, false, err
	}
	if before == state && there == "1" {
		return false, true, nil
	}
	if before == "" && state == connected {
		channel = ""
	}
	if there == "0" {
		old = nil
	}
	n, err := f.script.Run(ctx, f.rdb, []string{rediskey.SystemStatus}, there, old, status, channel, message).Int()
	return n == 1 && channel != "", n == 1, err
}

func (f *Feed) withoutStatus(ctx context.Context, state string, message Payload, cause error) (bool, error) {
	cause = fmt.Errorf("%s: %w", rediskey.SystemStatus, cause)
	if f.last == state || f.last == "" && state == connected {
		f.last = state
		return false, cause
	}
	if err := f.pub.Publish(ctx, message); err != nil {
		return false, errors.Join(cause, err)
	}
	f.last = state
	return true, cause
}

// withMember returns a JSON object whose member name is the string value, with
// every other byte as it was, and what the member was: "" if it was no string.
func withMember(object []byte, name, value string) (changed []byte, before string, err error) {
	quoted, err := json.Marshal(value)
	if err != nil {
		return nil, "", err
	}
	if trimmed := bytes.TrimSpace(object); !json.Valid(object) || trimmed[0] != '{' {
		return nil, "", ErrStatus
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	_, err = dec.Token()
	rest, found, last := 0, false, 0
	for err == nil && dec.More() {
		var key json.Token
		if key, err = dec.Token(); err != nil {
			break
		}
		var raw json.RawMessage
		if err = dec.Decode(&raw); err != nil {
			break
		}
		last = int(dec.InputOffset())
		if key == name {
			found, before = true, ""
			_ = json.Unmarshal(raw, &before)
			changed = append(append(changed, object[rest:last-len(raw)]...), quoted...)
			rest = last
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w (%w)", ErrStatus, err)
	}
	if !found {
		changed = insertMember(object, last, name, quoted)
		return changed, "", nil
	}
	return append(changed, object[rest:]...), before, nil
}

// insertMember adds a member behind the last one, which ends at last; 0 if there
// is none.
func insertMember(object []byte, last int, name string, value []byte) []byte {
	member := append([]byte(`"`+name+`":`), value...)
	if last == 0 {
		last = bytes.IndexByte(object, '{') + 1
	} else {
		member = append([]byte(","), member...)
	}
	return bytes.Join([][]byte{object[:last], member, object[last:]}, nil)
}
