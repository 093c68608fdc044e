package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
)

// Payload is a message of one of the channels.
type Payload interface {
	// Channel is the channel that it is sent on.
	Channel() string
	// Check says what is wrong with it; nil if it may be sent.
	Check() error
}

// Channels returns all channels, in the order of the contract.
func Channels() []string {
	var names []string
	for _, e := range rediskey.All() {
		if e.Type == rediskey.TypeChannel {
			names = append(names, e.Pattern)
		}
	}
	return names
}

// Time is a moment as messages have it: RFC 3339 in UTC. Reading also takes
// what Python's isoformat leaves without a zone, as UTC, and Unix seconds.
type Time struct{ time.Time }

// At is t in UTC.
func At(t time.Time) Time { return Time{t.UTC()} }

// MarshalJSON implements [json.Marshaler].
func (t Time) MarshalJSON() ([]byte, error) { return t.UTC().MarshalJSON() }

// UnmarshalJSON implements [json.Unmarshaler].
func (t *Time) UnmarshalJSON(text []byte) error {
	var seconds float64
	if json.Unmarshal(text, &seconds) == nil && string(text) != "null" {
		t.Time = time.UnixMicro(int64(seconds * 1e6)).UTC()
		return nil
	}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("timestamp %.40s: want RFC 3339 or Unix seconds", text)
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999"} {
		if at, err := time.Parse(layout, s); err == nil {
			t.Time = at.UTC()
			return nil
		}
	}
	return fmt.Errorf("timestamp %.40q: want RFC 3339, such as 2026-03-12T10:00:00Z", s)
}

// FeedDisconnected says that the source of bars is lost.
type FeedDisconnected struct {
	Timestamp Time   `json:"timestamp"`
	Reason    string `json:"reason"`
}

// Channel implements [Payload].
func (FeedDisconnected) Channel() string { return rediskey.FeedDisconnected }

// Check implements [Payload].
func (p FeedDisconnected) Check() error { return check(p.Timestamp, "reason", p.Reason) }

// FeedReconnected says that the source of bars is back, for so many symbols.
type FeedReconnected struct {
	Timestamp   Time `json:"timestamp"`
	SymbolCount int  `json:"symbol_count"`
}

// Channel implements [Payload].
func (FeedReconnected) Channel() string { return rediskey.FeedReconnected }

// Check implements [Payload].
func (p FeedReconnected) Check() error {
	if p.SymbolCount < 0 {
		return fmt.Errorf("symbol_count %d: want 0 or more", p.SymbolCount)
	}
	return check(p.Timestamp)
}

// StaleData is the breaker of this program.
const StaleData = "stale_data"

// Actions of a breaker and of the kill switch.
const (
	Activated   = "activated"
	Deactivated = "deactivated"
	Activate    = "activate"
	Deactivate  = "deactivate"
)

// CircuitBreaker says that a breaker opened or closed.
type CircuitBreaker struct {
	// Breaker is [StaleData], or vix_spike and others of alpha-oracle.
	Breaker string `json:"breaker"`
	// Action is [Activated] or [Deactivated].
	Action    string `json:"action"`
	Reason    string `json:"reason"`
	Timestamp Time   `json:"timestamp"`
}

// Channel implements [Payload].
func (CircuitBreaker) Channel() string { return rediskey.CircuitBreaker }

// Check implements [Payload].
func (p CircuitBreaker) Check() error {
	return errors.Join(oneOf("action", p.Action, Activated, Deactivated), check(p.Timestamp, "breaker", p.Breaker, "reason", p.Reason))
}

// Severities of an alert.
const (
	Info     = "info"
	Warning  = "warning"
	Critical = "critical"
)

// Alert is an alarm about the quality of data.
type Alert struct {
	// Type is the rule, see docs/events.md.
	Type string `json:"type"`
	// Severity is [Info], [Warning] or [Critical].
	Severity string `json:"severity"`
	Reason   string `json:"reason"`
	// Symbols may be none; it is never null.
	Symbols   []market.Symbol `json:"symbols"`
	Timestamp Time            `json:"timestamp"`
}

// Channel implements [Payload].
func (Alert) Channel() string { return rediskey.RiskAlert }

// Check implements [Payload].
func (p Alert) Check() error {
	return errors.Join(oneOf("severity", p.Severity, Info, Warning, Critical), check(p.Timestamp, "type", p.Type, "reason", p.Reason))
}

// MarshalJSON implements [json.Marshaler].
func (p Alert) MarshalJSON() ([]byte, error) {
	type plain Alert
	if p.Symbols == nil {
		p.Symbols = []market.Symbol{}
	}
	return json.Marshal(plain(p))
}

// KillSwitch says that the kill switch changed.
type KillSwitch struct {
	// Action is [Activate] or [Deactivate].
	Action string `json:"action"`
	Reason string `json:"reason"`
	// Operator is human or system.
	Operator  string `json:"operator"`
	Timestamp Time   `json:"timestamp"`
}

// Channel implements [Payload].
func (KillSwitch) Channel() string { return rediskey.KillSwitchChanged }

// Check implements [Payload].
func (p KillSwitch) Check() error {
	return errors.Join(oneOf("action", p.Action, Activate, Deactivate), oneOf("operator", p.Operator, "human", "system"), check(p.Timestamp))
}

// Fields are the members of a message that this program only relays. The
// contract names none of them, so they stay as they were sent.
type Fields map[string]json.RawMessage

// Text returns a member that is a string; ok is false of any other.
func (f Fields) Text(name string) (text string, ok bool) {
	raw := f[name]
	return text, len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &text) == nil
}

// Number returns a member that is a number; ok is false of any other.
func (f Fields) Number(name string) (number float64, ok bool) {
	raw := f[name]
	return number, len(raw) > 0 && raw[0] != 'n' && json.Unmarshal(raw, &number) == nil
}

// Check implements [Payload]: what is relayed is not judged.
func (f Fields) Check() error { return nil }

// The messages of alpha-oracle that are relayed.
type (
	// PortfolioUpdate says that the portfolio changed.
	PortfolioUpdate struct{ Fields }
	// TradeExecuted says that a trade was executed.
	TradeExecuted struct{ Fields }
	// TradePendingApproval says that a trade waits for approval.
	TradePendingApproval struct{ Fields }
	// OrderStatus says that an order changed its state.
	OrderStatus struct{ Fields }
	// SignalGenerated says that a strategy gave a signal.
	SignalGenerated struct{ Fields }
)

// Channel implements [Payload].
func (PortfolioUpdate) Channel() string { return rediskey.PortfolioUpdate }

// Channel implements [Payload].
func (TradeExecuted) Channel() string { return rediskey.TradeExecuted }

// Channel implements [Payload].
func (TradePendingApproval) Channel() string { return rediskey.TradePendingApproval }

// Channel implements [Payload].
func (OrderStatus) Channel() string { return rediskey.OrderStatus }

// Channel implements [Payload].
func (SignalGenerated) Channel() string { return rediskey.SignalGenerated }

// Decode reads a message of a channel. Members that its type does not have are
// dropped, those that it has and the message has not are zero; [Payload.Check]
// tells. The error is of an unknown channel, and of a payload that is no JSON
// object or has a member of another type.
func Decode(channel, payload string) (Payload, error) {
	read := func(into any) error {
		if !strings.HasPrefix(strings.TrimLeft(payload, " \t\r\n"), "{") {
			return fmt.Errorf("decode a message of %s: want a JSON object, not %.40q", channel, payload)
		}
		if err := json.Unmarshal([]byte(payload), into); err != nil {
			return fmt.Errorf("decode a message of %s: %w", channel, err)
		}
		return nil
	}
	switch channel {
	case rediskey.FeedDisconnected:
		return as[FeedDisconnected](read)
	case rediskey.FeedReconnected:
		return as[FeedReconnected](read)
	case rediskey.CircuitBreaker:
		return as[CircuitBreaker](read)
	case rediskey.RiskAlert:
		return as[Alert](read)
	case rediskey.KillSwitchChanged:
		return as[KillSwitch](read)
	}
	var f Fields
	wrap, ok := map[string]func() Payload{
		rediskey.PortfolioUpdate:      func() Payload { return PortfolioUpdate{f} },
		rediskey.TradeExecuted:        func() Payload { return TradeExecuted{f} },
		rediskey.TradePendingApproval: func() Payload { return TradePendingApproval{f} },
		rediskey.OrderStatus:          func() Payload { return OrderStatus{f} },
		rediskey.SignalGenerated:      func() Payload { return SignalGenerated{f} },
	}[channel]
	if !ok {
		return nil, fmt.Errorf("channel %q: the contract has none of this name", channel)
	}
	if err := read(&f); err != nil {
		return nil, err
	}
	return wrap(), nil
}

func as[P Payload](read func(any) error) (Payload, error) {
	var p P
	if err := read(&p); err != nil {
		return nil, err
	}
	return p, nil
}

// MarshalJSON gives the members as they were sent, for all types that hold them.
func (f Fields) MarshalJSON() ([]byte, error) { return json.Marshal(map[string]json.RawMessage(f)) }

func check(at Time, namesAndTexts ...string) error {
	if at.IsZero() {
		return errors.New("timestamp: it is missing")
	}
	for pair := range slices.Chunk(namesAndTexts, 2) {
		if pair[1] == "" {
			return fmt.Errorf("%s: it is missing", pair[0])
		}
	}
	return nil
}

func oneOf(name, value string, allowed ...string) error {
	if !slices.Contains(allowed, value) {
		return fmt.Errorf("%s %q: want %s", name, value, strings.Join(allowed, " or "))
	}
	return nil
}
