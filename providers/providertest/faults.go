package providertest

import (
	"slices"
	"time"

	"github.com/alpha-oracle/worker/providers/simulator"
)

// good is the outcome of a call whose bars are the simulator's.
const good = "good"

// expectation is what a fault comes to.
type expectation struct {
	outcome string
	// calls is how many calls the provider sees of one question with two
	// tries; 0 means one or two.
	calls int
}

// needs are the faults that every simulator of HTTP has.
func needs() []simulator.Fault {
	return []simulator.Fault{
		simulator.HTML, simulator.HTML503, simulator.EmptyBody, simulator.TruncatedClose, simulator.TruncatedLength,
		simulator.GzipBomb, simulator.SlowHeaders, simulator.SlowBody, simulator.Reset, simulator.RedirectElsewhere,
		simulator.TooManyRequests, simulator.BadKey, simulator.BadSymbol, simulator.WrongSymbol,
		simulator.BadNumber, simulator.PartialBar, simulator.MissingLast, simulator.Unsorted,
	}
}

func silent() []simulator.Fault { return []simulator.Fault{simulator.SlowHeaders, simulator.SlowBody} }

func (s Source) patienceFor(f simulator.Fault) time.Duration {
	if slices.Contains(s.Silent, f) {
		return hasty
	}
	return patient
}

// expectation returns what comes of a fault of the source.
func (s Source) expectation(f simulator.Fault) (expectation, bool) {
	want, ok := expected()[f]
	if instead, told := s.Outcomes[f]; told {
		want.outcome = instead
		want.calls = max(want.calls, 1)
		ok = true
	}
	return want, ok
}

// expected says for the faults that several simulators have what comes of them.
func expected() map[simulator.Fault]expectation {
	once := func(outcome string) expectation { return expectation{outcome, 1} }
	twice := expectation{"provider_error", 2}
	return map[simulator.Fault]expectation{
		simulator.DailyQuota:          once("quota"),
		simulator.Burst:               once("limit_note"),
		simulator.BurstPattern:        once("limit_note"),
		simulator.MinuteNote:          once("limit_note"),
		simulator.TooManyRequests:     once("limit_note"),
		simulator.TooManyRequestsLong: once("limit_note"),
		simulator.Premium:             once("premium_only"),
		simulator.PremiumFull:         once("premium_only"),
		simulator.BadKey:              once("provider_error"),
		simulator.DemoKey:             once("provider_error"),
		simulator.BadSymbol:           once("unknown_symbol"),
		simulator.BadFunction:         once("provider_error"),
		simulator.UnknownMessage:      once("bad_payload"),
		simulator.EmptyObject:         once("no_data"),
		simulator.EmptyQuote:          once("no_data"),
		simulator.EmptyReports:        once("no_data"),
		simulator.EmptySeries:         once("no_data"),
		simulator.EmptyBody:           once("bad_payload"),
		simulator.EmptyArray:          once("bad_payload"),
		simulator.Null:                once("bad_payload"),
		simulator.HTML:                once("bad_payload"),
		simulator.HTML503:             twice,
		simulator.HTML520:             twice,
		simulator.WrongContentType:    once(good),
		simulator.ByteOrderMark:       once(good),
		simulator.BadUTF8:             once("bad_payload"),
		simulator.NUL:                 once("bad_payload"),
		simulator.Trailing:            once("bad_payload"),
		simulator.TruncatedLength:     {"provider_error", 0},
		simulator.TruncatedClose:      once("bad_payload"),
		simulator.TruncatedGzip:       {"provider_error", 0},
		simulator.ShortLength:         once("bad_payload"),
		simulator.SlowBody:            twice,
		simulator.SlowHeaders:         twice,
		simulator.Reset:               {"provider_error", 0},
		simulator.GzipBomb:            once("bad_payload"),
		simulator.RedirectElsewhere:   once("bad_payload"),
		simulator.RedirectLoop:        {"bad_payload", 4},
		simulator.WrongSymbol:         once("bad_payload"),
		simulator.PartialBar:          once(good),
		simulator.MissingLast:         once(good),
		simulator.Stale:               once(good),
		simulator.MissingMiddle:       once(good),
		simulator.Unsorted:            once(good),
		simulator.DuplicateBars:       once(good),
		simulator.ConflictingBars:     once("bad_payload"),
		simulator.WeekendBar:          once(good),
		simulator.FutureBar:           once(good),
		simulator.BadDate:             once("bad_payload"),
		simulator.BadNumber:           once("bad_payload"),
		simulator.NaN:                 once("bad_payload"),
		simulator.Exponent:            once("bad_payload"),
		simulator.NegativePrice:       once("bad_payload"),
		simulator.ZeroPrice:           once("bad_payload"),
		simulator.HighBelowLow:        once("bad_payload"),
		simulator.NegativeVolume:      once("bad_payload"),
		simulator.RenamedField:        once("bad_payload"),
		simulator.ExtraField:          once("bad_payload"),
		simulator.RepeatedField:       once("bad_payload"),

		simulator.NotFoundPage: once("bad_payload"),
		simulator.Forbidden:    once("provider_error"),
		simulator.ErrorWith200: once("bad_payload"),
		simulator.NullValue:    once("bad_payload"),
		simulator.HugeNumber:   once("bad_payload"),
		simulator.WrongDate:    once("bad_payload"),
	}
}
