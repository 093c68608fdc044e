package simulator

import (
	"math"

	"github.com/alpha-oracle/worker/internal/market"
)

// Listed is the day on which every symbol of the simulator was listed.
//
// It is the day on which the provider's own histories begin.
func Listed() market.Date { return market.NewDate(1999, 11, 1) }

// Bar returns the bar of a symbol on a date: a pure function of the two, so
// that a checker can compute each stored row again. Prices have four decimals
// and wander slowly; every bar passes market.Bar.Validate. It knows no
// calendar.
func Bar(symbol market.Symbol, date market.Date) market.Bar {
	seed := hash(symbol)
	now, before := level(seed, date), level(seed, date-1)
	r := mix(seed ^ uint64(date)*0x9e3779b97f4a7c15)
	span := now/200 + 1 // half a percent
	open := before + pick(r, -span, span)
	high := max(open, now) + pick(r>>16, 0, span)
	low := min(open, now) - pick(r>>32, 0, span)
	return market.Bar{
		Date: date, Open: price(open), High: price(high), Low: price(low), Close: price(now),
		Volume: 100_000 + pick(r>>40, 0, 20_000_000),
	}
}

// level is the close in ten-thousandths of a dollar: 5 to 500 dollars by
// symbol, moved by waves of a month, a year and a decade.
func level(seed uint64, date market.Date) int64 {
	base := 50_000 * math.Exp(4.6*unit(seed))
	move := 0.0
	for i, days := range [...]float64{9, 41, 367, 2911} {
		move += [...]float64{0.02, 0.06, 0.2, 0.4}[i] * wave(seed+uint64(i+1), float64(date)/days)
	}
	return int64(base * math.Exp(move))
}

// wave runs smoothly through a random value of -1 to 1 at every whole x.
func wave(seed uint64, x float64) float64 {
	whole, part := math.Modf(x)
	a := 2*unit(mix(seed*0xbf58476d1ce4e5b9+uint64(whole))) - 1
	b := 2*unit(mix(seed*0xbf58476d1ce4e5b9+uint64(whole)+1)) - 1
	part = part * part * (3 - 2*part)
	return a + (b-a)*part
}

// price is correctly rounded, so its four decimals are read back as it is.
func price(tenThousandths int64) float64 { return float64(tenThousandths) / 10_000 }

func pick(r uint64, from, to int64) int64 {
	return from + int64(r&0xffffff)%(to-from+1)
}

func unit(r uint64) float64 { return float64(r>>11) / (1 << 53) }

// hash is FNV-1a, then mixed.
func hash(s market.Symbol) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
