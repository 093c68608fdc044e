package events_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/events"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	testenv.Main(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// moment is the time of the tests' messages.
func moment() time.Time { return time.Date(2026, 3, 12, 10, 0, 0, 0, time.UTC) }

func client(t testing.TB, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries = -1
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// publish sends a message as any other program would.
func publish(t testing.TB, url, channel, payload string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "redis-cli", "-u", url, "PUBLISH", channel, payload).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) == "0" {
		t.Fatalf("redis-cli PUBLISH: %v, received by %s", err, out)
	}
}

// heard collects what a subscription brings.
type heard struct {
	messages chan events.Message
	gaps     chan events.Gap
	lost     chan error
}

// listen subscribes to all channels on a server of the test's own, since
// channels belong to a server and not to a database, and returns when the
// subscription stands.
func listen(t testing.TB, url string, channels ...string) *heard {
	t.Helper()
	if len(channels) == 0 {
		channels = events.Channels()
	}
	h := &heard{make(chan events.Message, 1000), make(chan events.Gap, 10), make(chan error, 100)}
	s := events.Subscriber{
		Redis: client(t, url), Channels: channels, Now: time.Now,
		Message: func(m events.Message) { h.messages <- m },
		Ready:   func(g events.Gap) { h.gaps <- g },
		Lost:    func(err error) { h.lost <- err },
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	if g := await(t, h.gaps); !g.From.IsZero() {
		t.Errorf("a gap before the first subscription: %+v", g)
	}
	return h
}

func await[T any](t testing.TB, c <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-c:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came")
	}
	return got
}

func quietly[T any](t testing.TB, c <-chan T) {
	t.Helper()
	select {
	case got := <-c:
		t.Errorf("there is more: %+v", got)
	default:
	}
}

func samples() map[events.Payload]string {
	at := events.At(moment())
	return map[events.Payload]string{
		&events.FeedDisconnected{Timestamp: at, Reason: "no answer"}:                                               `{"timestamp":"2026-03-12T10:00:00Z","reason":"no answer"}`,
		&events.FeedReconnected{Timestamp: at, SymbolCount: 500}:                                                   `{"timestamp":"2026-03-12T10:00:00Z","symbol_count":500}`,
		&events.CircuitBreaker{Breaker: events.StaleData, Action: events.Activated, Reason: "late", Timestamp: at}: `{"breaker":"stale_data","action":"activated","reason":"late","timestamp":"2026-03-12T10:00:00Z"}`,
		&events.Alert{Type: "corrections", Severity: events.Warning, Reason: "many", Timestamp: at}:                `{"type":"corrections","severity":"warning","reason":"many","symbols":[],"timestamp":"2026-03-12T10:00:00Z"}`,
		&events.KillSwitch{Action: events.Activate, Reason: "x", Operator: "human", Timestamp: at}:                 `{"action":"activate","reason":"x","operator":"human","timestamp":"2026-03-12T10:00:00Z"}`,
		&events.OrderStatus{Fields: events.Fields{"qty": json.RawMessage("1.50")}}:                                 `{"qty":1.50}`,
		&events.TradeExecuted{Fields: events.Fields{"a": json.RawMessage(`"b"`)}}:                                  `{"a":"b"}`,
		&events.TradePendingApproval{Fields: events.Fields{}}:                                                      `{}`,
		&events.PortfolioUpdate{Fields: events.Fields{"x": json.RawMessage("null")}}:                               `{"x":null}`,
		&events.SignalGenerated{Fields: events.Fields{"n": json.RawMessage("12345678901234567890")}}:               `{"n":12345678901234567890}`,
	}
}

// Every channel of the contract has a type, which is sent as the contract has it
// and read back as it was sent.
func TestPayloads(t *testing.T) {
	t.Parallel()
	url := testenv.RedisServer(t).URL()
	h, pub, seen := listen(t, url), events.NewPublisher(client(t, url)), map[string]bool{}
	for payload, want := range samples() {
		if err := pub.Publish(t.Context(), payload); err != nil {
			t.Error(err)
			continue
		}
		m := await(t, h.messages)
		if m.Channel != payload.Channel() || m.Payload != want {
			t.Errorf("sent %s on %s", m.Payload, m.Channel)
		}
		back, err := events.Decode(m.Channel, m.Payload)
		again, encodeErr := json.Marshal(back)
		if err != nil || encodeErr != nil || string(again) != want || back.Channel() != m.Channel {
			t.Errorf("%s read as %#v (%s), %v, %v", want, back, again, err, encodeErr)
		}
		seen[m.Channel] = true
	}
	for _, channel := range events.Channels() {
		if !seen[channel] {
			t.Errorf("%s has no type", channel)
		}
	}
	if len(seen) != len(events.Channels()) {
		t.Errorf("%d channels have types: %v", len(seen), seen)
	}
}

func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	pub, at := events.NewPublisher(nil), events.At(moment())
	for want, payload := range map[string]events.Payload{
		"reason: it is missing":       events.FeedDisconnected{Timestamp: at},
		"timestamp: it is missing":    events.FeedDisconnected{Reason: "x"},
		"symbol_count -1":             events.FeedReconnected{Timestamp: at, SymbolCount: -1},
		`action "on"`:                 events.CircuitBreaker{Breaker: "x", Action: "on", Reason: "x", Timestamp: at},
		`severity "high"`:             events.Alert{Type: "x", Severity: "high", Reason: "x", Timestamp: at},
		`operator "me"`:               events.KillSwitch{Action: "activate", Operator: "me", Timestamp: at},
		"type: it is missing":         events.Alert{Severity: "info", Reason: "x", Timestamp: at},
		"breaker: it is missing":      events.CircuitBreaker{Action: "activated", Reason: "x", Timestamp: at},
		"risk:kill_switch: action \"": events.KillSwitch{Operator: "human", Timestamp: at},
	} {
		if err := pub.Publish(t.Context(), payload); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestDecodeForeignTimes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		`"2026-03-12T10:00:00Z"`:             moment(),
		`"2026-03-12T10:00:00.250000"`:       moment().Add(250 * time.Millisecond),
		`"2026-03-12T12:00:00+02:00"`:        moment(),
		`"2026-03-12 10:00:00"`:              moment(),
		`"2026-03-12 10:00:00.500000+00:00"`: moment().Add(time.Second / 2),
		`1773309600.5`:                       moment().Add(time.Second / 2),
	} {
		p, err := events.Decode("risk:kill_switch", `{"action":"activate","more":[1],"timestamp":`+text+`}`)
		if k, ok := p.(events.KillSwitch); err != nil || !ok || !k.Timestamp.Equal(want) || k.Timestamp.Location() != time.UTC {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
	}
	for channel, payloads := range map[string][]string{
		"risk:kill_switch":  {`{"timestamp":"yesterday"}`, `{"timestamp":{}}`, `{"action":5}`, "{", "", "null", "[]", "5"},
		"portfolio:update":  {"null", "[1]", `{"a":}`},
		"portfolio:updates": {"{}"},
	} {
		for _, payload := range payloads {
			if p, err := events.Decode(channel, payload); err == nil || !strings.Contains(err.Error(), channel) {
				t.Errorf("%s %s: %+v, %v", channel, payload, p, err)
			}
		}
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	p, err := events.Decode("order:status", `{"symbol":"AAPL","qty":10,"limit":null}`)
	o, ok := p.(events.OrderStatus)
	if err != nil || !ok {
		t.Fatalf("%+v, %v", p, err)
	}
	symbol, isText := o.Text("symbol")
	quantity, isNumber := o.Number("qty")
	if symbol != "AAPL" || !isText || quantity != 10 || !isNumber {
		t.Errorf("%q %v, %v %v", symbol, isText, quantity, isNumber)
	}
	for _, name := range []string{"limit", "absent"} {
		_, isText := o.Text(name)
		if _, isNumber := o.Number(name); isText || isNumber {
			t.Errorf("%s has a value", name)
		}
	}
	if _, isText := o.Text("qty"); isText {
		t.Error("a number is a text")
	}
	if _, isNumber := o.Number("symbol"); isNumber {
		t.Error("a text is a number")
	}
	if diff := cmp.Diff([]market.Symbol(nil), events.Alert{}.Symbols); diff != "" {
		t.Error(diff)
	}
}

// A subscription comes back after its server was away, as often as it goes, and
// says what it may have missed.
func TestSubscriberSurvivesRestarts(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	h := listen(t, server.URL(), "order:status")
	for _, end := range []func(){server.Stop, server.Kill} {
		publish(t, server.URL(), "order:status", "before")
		if m := await(t, h.messages); m.Payload != "before" {
			t.Errorf("%+v", m)
		}
		known := time.Now()
		end()
		if err := await(t, h.lost); err == nil {
			t.Error("lost without an error")
		}
		server.Start()
		g := await(t, h.gaps)
		if g.From.IsZero() || g.From.After(known) || !g.To.After(known) {
			t.Errorf("the gap is %s to %s, the last message came before %s", g.From, g.To, known)
		}
		publish(t, server.URL(), "order:status", "after")
		if m := await(t, h.messages); m.Payload != "after" {
			t.Errorf("%+v", m)
		}
		quietly(t, h.lost)
	}
}

// A server that hangs is found out too, and so is a connection that is gone
// without a word.
func TestSubscriberFindsASilentServer(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	h := listen(t, server.URL())
	server.Pause()
	if err := await(t, h.lost); err == nil || !strings.Contains(err.Error(), "no sign of life") {
		t.Errorf("lost: %v", err)
	}
	server.Continue()
	if g := await(t, h.gaps); g.From.IsZero() || !g.From.Before(g.To) {
		t.Errorf("%+v", g)
	}
}

// A server that cuts its clients off leaves a gap, not silence.
func TestSubscriberNoticesACut(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	h := listen(t, server.URL())
	if err := client(t, server.URL()).Do(t.Context(), "client", "kill", "type", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	if g := await(t, h.gaps); g.From.IsZero() {
		t.Errorf("%+v", g)
	}
	publish(t, server.URL(), "trade:executed", "{}")
	if m := await(t, h.messages); m.Channel != "trade:executed" {
		t.Errorf("%+v", m)
	}
}
