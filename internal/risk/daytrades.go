package risk

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
)

const (
	// CountedSessions is how many sessions FINRA Rule 4210 looks at: four day
	// trades within five business days make a pattern day trader.
	CountedSessions = 5
	// AllowedTrades is how many day trades there may be within them in an account
	// below 25,000 USD.
	AllowedTrades = 3
	// keptDays is how old a day trade is at most when another one is recorded.
	keptDays = 8

	longestOrderID = 128
)

//go:embed record.lua
var recordSource string

// DayTrades is the record of day trades in Redis. It is safe for concurrent use.
type DayTrades struct {
	Redis    redis.UniversalClient
	Calendar *market.Calendar
	Now      func() time.Time
}

// DayTrade is a member of risk:pdt:trades.
type DayTrade struct {
	Symbol string
	// Date is the New York trading date, zero if the member has none.
	Date market.Date
	// RecordedAt and OrderID are as they are written there.
	RecordedAt, OrderID string
	// Score is what counts: the ordinal of the date.
	Score float64
	// Counts says that it is within the last sessions.
	Counts bool
	// Member is the whole member as it is.
	Member string
	// Note says what is wrong with the member; it counts by its score all the
	// same.
	Note string
}

// DayTradeCount is how many day trades there are within the last sessions.
type DayTradeCount struct {
	// Window is from the first of the sessions to the present New York date.
	Window market.Range
	Trades int64
	// Remaining is how many more there may be below 25,000 USD; never negative.
	Remaining int64
}

// InputError refuses a day trade that cannot be meant.
type InputError struct{ problem string }

// Error says what is wrong with it.
func (e *InputError) Error() string { return "record day trade: " + e.problem }

func refuse(format string, args ...any) error { return &InputError{fmt.Sprintf(format, args...)} }

// today is the New York date of t.
func today(t time.Time) market.Date { return market.DateOf(t.In(market.NewYork())) }

// Window returns the last five sessions as a range of dates: up to day, which
// itself is the last of them if it is a session.
func (d DayTrades) Window(day market.Date) (market.Range, error) {
	from, err := d.Calendar.Back(day+1, CountedSessions)
	if err != nil {
		return market.Range{}, fmt.Errorf("last %d sessions: %w", CountedSessions, err)
	}
	return market.Range{From: from, To: day}, nil
}

// Count counts the day trades of the last five sessions. What is dated in the
// future counts too.
func (d DayTrades) Count(ctx context.Context) (DayTradeCount, error) {
	window, err := d.Window(today(d.Now()))
	if err != nil {
		return DayTradeCount{}, err
	}
	n, err := d.Redis.ZCount(ctx, rediskey.PDTTrades, strconv.Itoa(int(window.From)), "+inf").Result()
	if err != nil {
		return DayTradeCount{}, failed("count day trades", err)
	}
	return DayTradeCount{window, n, max(0, AllowedTrades-n)}, nil
}

// List returns all members in the order of their scores. One that cannot be read
// is among them, with a Note.
func (d DayTrades) List(ctx context.Context) ([]DayTrade, error) {
	window, err := d.Window(today(d.Now()))
	if err != nil {
		return nil, err
	}
	members, err := d.Redis.ZRangeWithScores(ctx, rediskey.PDTTrades, 0, -1).Result()
	if err != nil {
		return nil, failed("list day trades", err)
	}
	trades := make([]DayTrade, len(members))
	for i, m := range members {
		trades[i] = ParseDayTrade(fmt.Sprint(m.Member), m.Score)
		trades[i].Counts = m.Score >= float64(window.From)
	}
	return trades, nil
}

// ParseDayTrade reads a member, in whatever order its fields are and with
// whatever others there are beside them.
func ParseDayTrade(member string, score float64) DayTrade {
	t := DayTrade{Score: score, Member: member}
	var fields map[string]jsontext.Value
	if err := json.Unmarshal([]byte(member), &fields); err != nil || fields == nil {
		t.Note = "it is no JSON object"
		return t
	}
	t.Symbol, t.RecordedAt, t.OrderID = text(fields["symbol"]), text(fields["recorded_at"]), text(fields["order_id"])
	date, err := market.ParseDate(text(fields["date"]))
	switch {
	case err != nil:
		t.Note = "it has no date such as 2026-03-12"
	case float64(date) != score:
		t.Note = fmt.Sprintf("its score is not %d, the ordinal of its date", date)
	}
	t.Date = date
	return t
}

// text is a JSON string, or another value as it is written; null is "".
func text(v jsontext.Value) string {
	var s string
	if v == nil || v.Kind() == 'n' || json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(v)
}

// Recorded is what has become of a record.
type Recorded struct {
	Trade DayTrade
	// Known says that the order had been recorded before, as Trade: nothing was
	// added.
	Known bool
	// Trimmed is how many old members were taken out.
	Trimmed int64
}

// entry is a member as the worker writes it.
type entry struct {
	Symbol     market.Symbol `json:"symbol"`
	Date       market.Date   `json:"date"`
	RecordedAt string        `json:"recorded_at"`
	OrderID    string        `json:"order_id,omitempty"`
	// RecordID keeps two trades of one moment apart, and a request that is sent
	// twice together.
	RecordID string `json:"record_id,omitempty"`
}

// Record adds a day trade of a session, which must not be in the future and not
// be too old to be kept; the zero Date is the present one in New York. An order
// is recorded once, whoever did it; without an id each call is another trade.
//
// Any other trade is refused by an [*InputError], and so is an order that is
// recorded for another symbol or date.
//
// It takes out what is older than eight days and before the last five sessions,
// by the clock of the caller or that of Redis, whichever is behind.
func (d DayTrades) Record(ctx context.Context, symbol market.Symbol, date market.Date, orderID string) (Recorded, error) {
	now := d.Now()
	if date.IsZero() {
		date = today(now)
	}
	if !isOrderID(orderID) {
		return Recorded{}, refuse("order id %q: want at most %d printable characters of ASCII", orderID, longestOrderID)
	}
	kept, err := d.kept(ctx, now)
	if err != nil {
		return Recorded{}, err
	}
	if err := d.check(date, kept.From, today(now)); err != nil {
		return Recorded{}, err
	}
	e := entry{Symbol: symbol, Date: date, RecordedAt: now.UTC().Format("2006-01-02T15:04:05.000000-07:00"), OrderID: orderID}
	if orderID == "" {
		e.RecordID = rand.Text()
	}
	member, err := json.Marshal(e)
	if err != nil {
		return Recorded{}, fmt.Errorf("record day trade: %w", err)
	}
	r, err := d.add(ctx, string(member), date, orderID, kept.From)
	if err == nil && r.Known && !r.Trade.is(e) {
		err = refuse("order id %s is that of %s of %s already, not of %s of %s: give this order an id of its own, such as %s:%s",
			orderID, r.Trade.Date, r.Trade.Symbol, date, symbol, date, orderID)
	}
	return r, err
}

// is reports whether a member says nothing else than e about what was traded and
// when.
func (t DayTrade) is(e entry) bool {
	return (t.Symbol == "" || t.Symbol == string(e.Symbol)) && (t.Date.IsZero() || t.Date == e.Date)
}

// isOrderID reports whether every writer of JSON writes it as the same text.
func isOrderID(id string) bool {
	return len(id) <= longestOrderID && !strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' })
}

func (d DayTrades) check(date, from, today market.Date) error {
	switch open, err := d.Calendar.IsSession(date); {
	case err != nil:
		return refuse("%s", err)
	case !open:
		return refuse("%s is no session of the exchange: %s", date, d.Calendar.Why(date))
	case date > today:
		return refuse("%s is in the future: in New York it is %s", date, today)
	case date < from:
		return refuse("%s is too old: what is before %s counts for nothing and is not kept", date, from)
	}
	return nil
}

// kept is the range of dates that are kept. Five sessions can reach back further
// than eight days: nine on a Sunday after a week with a holiday, ten on New Year's
// Day of 2035, twelve on 18 September 2001.
func (d DayTrades) kept(ctx context.Context, now time.Time) (market.Range, error) {
	theirs, err := d.Redis.Time(ctx).Result()
	if err != nil {
		return market.Range{}, failed("record day trade: read the clock of Redis", err)
	}
	window, err := d.Window(min(today(now), today(theirs)))
	if err != nil {
		return market.Range{}, err
	}
	window.From = min(window.From, window.To-keptDays)
	return window, nil
}

func (d DayTrades) add(ctx context.Context, member string, date market.Date, orderID string, from market.Date) (Recorded, error) {
	answer, err := d.Redis.Eval(ctx, recordSource, []string{rediskey.PDTTrades}, member, int(date), orderID, int(from), from.String()).Slice()
	if err != nil {
		return Recorded{}, failed("record day trade", err)
	}
	r := Recorded{Trade: ParseDayTrade(member, float64(date))}
	if len(answer) != 2 {
		return r, fmt.Errorf("record day trade: Redis gave %d values instead of 2", len(answer))
	}
	r.Trimmed, _ = answer[1].(int64)
	if known, ok := answer[0].(string); ok {
		r.Known = true
		score, err := d.Redis.ZScore(ctx, rediskey.PDTTrades, known).Result()
		if err != nil {
			score = math.NaN()
		}
		r.Trade = ParseDayTrade(known, score)
	}
	return r, nil
}

// failed explains the one error of Redis that a person can do something about.
func failed(operation string, err error) error {
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return fmt.Errorf("%s: %s in Redis is no sorted set, which it must be: look at it with worker keys show, and rename it: %w", operation, rediskey.PDTTrades, err)
	}
	return fmt.Errorf("%s: %w", operation, err)
}
