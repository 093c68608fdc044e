package risk

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
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

//go:embed tell.lua
var tellSource string

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

// doubt says what is unclear about it.
func (h held) doubt() string {
	if h.kind != "string" {
		return rediskey.KillSwitch + " in Redis is no string"
	}
	return fmt.Sprintf("%s in Redis is unclear: %.200q", rediskey.KillSwitch, h.raw)
}

// parse reads the forms that alpha-oracle and the worker write: active,
// inactive, and a JSON object with a boolean active. It takes what Python's
// json.dumps makes of them, and is strict about what says inactive only.
func parse(raw string) held {
	h := held{says: word(raw), kind: "string", raw: raw}
	fields, ok := members(raw)
	if !ok {
		return h
	}
	h.says = verdict(fields["active"])
	// The rest is for people, in whatever form it is.
	for _, v := range fields["reason"] {
		_ = json.Unmarshal(v, &h.reason, jsontext.AllowInvalidUTF8(true))
	}
	for _, v := range slices.Concat(fields["activated_at"], fields["timestamp"]) {
		var text string
		if json.Unmarshal(v, &text) == nil && h.since.IsZero() {
			h.since = parseTime(text)
		}
	}
	return h
}

// word reads one of the two words, in any case, in quotes, among blanks.
func word(raw string) string {
	var quoted string
	if json.Unmarshal([]byte(raw), &quoted) == nil {
		raw = quoted
	}
	for _, w := range []string{Active, Inactive} {
		if strings.EqualFold(strings.TrimSpace(raw), w) {
			return w
		}
	}
	return Unclear
}

// verdict is what the members named active say: if they differ, one true is
// enough to halt, and inactive is what all of them say.
func verdict(values []jsontext.Value) string {
	says := Unclear
	for i, v := range values {
		switch {
		case v.Kind() == 't':
			return Active
		case v.Kind() == 'f' && (i == 0 || says == Inactive):
			says = Inactive
		default:
			says = Unclear
		}
	}
	return says
}

// members reads a JSON object as Python's json.dumps writes it: with NaN and
// Infinity, which are null here, and with escapes of half a character. A name may
// stand there more than once.
func members(raw string) (fields map[string][]jsontext.Value, ok bool) {
	numbers := regexp.MustCompile(`"(?s:[^"\\]|\\.)*"|\bNaN\b|-?\bInfinity\b`)
	raw = numbers.ReplaceAllStringFunc(raw, func(s string) string {
		if s[0] == '"' {
			return s
		}
		return "null"
	})
	d := jsontext.NewDecoder(strings.NewReader(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if start, err := d.ReadToken(); err != nil || start.Kind() != '{' {
		return nil, false
	}
	fields = map[string][]jsontext.Value{}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, false
		}
		key := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil, false
		}
		fields[key] = append(fields[key], value.Clone())
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, false
	}
	_, err := d.ReadToken()
	return fields, errors.Is(err, io.EOF)
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
	Timestamp string `json:"timestamp"` // ISO-8601 UTC, to the microsecond
}

// publish tells the listeners of c while the copy still is raw, and reports
// whether it was.
func (k *KillSwitch) publish(ctx context.Context, raw string, c change) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, k.patience())
	defer cancel()
	payload, err := json.Marshal(c)
	var done bool
	if err == nil {
		done, err = k.Redis.Eval(ctx, tellSource, []string{rediskey.KillSwitch}, raw, rediskey.KillSwitchChanged, payload).Bool()
	}
	if err != nil {
		return false, fmt.Errorf("publish on %s: %w", rediskey.KillSwitchChanged, err)
	}
	return done, nil
}
