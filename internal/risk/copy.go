package risk

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/rediskey"
)

// What the copy in Redis says, or the table.
const (
	Active   = "active"
	Inactive = "inactive"
	// Missing is a key that is not there.
	Missing = "missing"
	// Unclear is a value that nobody has agreed on. It counts as active.
	Unclear = "unclear"
	// Unreadable is what cannot be asked for.
	Unreadable = "unreadable"
)

//go:embed swap.lua
var swapSource string

// held is what the key risk:kill_switch holds.
type held struct {
	says string // Active, Inactive, Missing or Unclear
	// reason and since are those of the JSON form, if it has them.
	reason string
	since  time.Time
	// kind is the Redis type that swap expects, raw the string.
	kind, raw string
}

// halts reports whether it stops trading.
func (h held) halts() bool { return h.says == Active || h.says == Unclear }

// parse reads the forms that alpha-oracle and the worker write: active,
// inactive, and a JSON object with a boolean active.
func parse(raw string) held {
	h := held{says: Unclear, kind: "string", raw: raw}
	if raw == Active || raw == Inactive {
		h.says = raw
		return h
	}
	// A name that stands there twice is refused by the decoder: the two could
	// differ.
	var fields map[string]jsontext.Value
	if !strings.HasPrefix(strings.TrimSpace(raw), "{") || json.Unmarshal([]byte(raw), &fields) != nil {
		return h
	}
	switch string(fields["active"]) {
	case "true":
		h.says = Active
	case "false":
		h.says = Inactive
	}
	// The rest is for people, in whatever form it is.
	_ = json.Unmarshal(fields["reason"], &h.reason)
	for _, name := range []string{"activated_at", "timestamp"} {
		var text string
		if json.Unmarshal(fields[name], &text) == nil && h.since.IsZero() {
			h.since = parseTime(text)
		}
	}
	return h
}

// parseTime reads a time as Python's isoformat writes it; one without a zone is
// in UTC. It is zero if text is none.
func parseTime(text string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// look reads the copy.
func (k *KillSwitch) look(ctx context.Context) (held, error) {
	ctx, cancel := context.WithTimeout(ctx, k.patience())
	defer cancel()
	raw, err := k.Redis.Get(ctx, rediskey.KillSwitch).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return held{says: Missing, kind: "none"}, nil
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return held{says: Unclear, kind: "other"}, nil
	case err != nil:
		return held{}, fmt.Errorf("read %s in Redis: %w", rediskey.KillSwitch, err)
	}
	return parse(raw), nil
}

// swap writes the copy if it still holds what h says, and reports whether it did.
func (k *KillSwitch) swap(ctx context.Context, h held, to string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, k.patience())
	defer cancel()
	done, err := k.Redis.Eval(ctx, swapSource, []string{rediskey.KillSwitch}, h.kind, h.raw, to).Bool()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("write %s in Redis: %w", rediskey.KillSwitch, err)
	}
	return done, nil
}

// change is what the channel risk:kill_switch carries.
type change struct {
	Action    string `json:"action"` // activate or deactivate
	Reason    string `json:"reason"`
	Operator  string `json:"operator"`  // human or system
	Timestamp string `json:"timestamp"` // ISO-8601 UTC
}

func (k *KillSwitch) publish(ctx context.Context, c change) error {
	ctx, cancel := context.WithTimeout(ctx, k.patience())
	defer cancel()
	payload, err := json.Marshal(c)
	if err == nil {
		err = k.Redis.Publish(ctx, rediskey.KillSwitchChanged, payload).Err()
	}
	if err != nil {
		return fmt.Errorf("publish on %s: %w", rediskey.KillSwitchChanged, err)
	}
	return nil
}
