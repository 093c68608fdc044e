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
	return newWalk(symbol).quote(date).onto(market.Bar{Date: date})
}

// quote is a bar with prices in ten-thousandths of a dollar.
type quote struct {
	date                           market.Date
	open, high, low, close, volume int64
}

// walk makes the quotes of one symbol. It keeps what two dates in a row share.
type walk struct {
	seed  uint64
	base  float64 // 5 to 500 dollars by symbol
	waves [4]wave
	// known is the level of a day.
	known struct {
		day   market.Date
		level int64
	}
}

func newWalk(s market.Symbol) *walk {
	seed := hash(s)
	w := &walk{seed: seed, base: 50_000 * math.Exp(4.6*unit(seed))}
	for i, days := range [...]float64{9, 41, 367, 2911} {
		w.waves[i] = wave{seed: seed + uint64(i+1), days: days, height: [...]float64{0.02, 0.06, 0.2, 0.4}[i]}
	}
	w.known.day = math.MinInt32
	return w
}

func (w *walk) quote(date market.Date) quote {
	now, before := w.level(date), w.level(date-1)
	r := mix(w.seed ^ uint64(date)*0x9e3779b97f4a7c15)
	span := now/200 + 1 // half a percent
	open := before + pick(r, -span, span)
	return quote{
		date: date, open: open, close: now,
		high:   max(open, now) + pick(r>>16, 0, span),
		low:    min(open, now) - pick(r>>32, 0, span),
		volume: 100_000 + pick(r>>40, 0, 20_000_000),
	}
}

// level is the close of a day in ten-thousandths of a dollar: the base, moved
// by waves of a month, a year and a decade.
func (w *walk) level(date market.Date) int64 {
	if date != w.known.day {
		move := 0.0
		for i := range w.waves {
			move += w.waves[i].at(date)
		}
		w.known.day, w.known.level = date, int64(w.base*math.Exp(move))
	}
	return w.known.level
}

// wave runs smoothly through a random height at every whole number of days.
type wave struct {
	seed         uint64
	days, height float64
	// from and to are the heights on both sides of part.
	part, from, to float64
	drawn          bool
}

func (w *wave) at(date market.Date) float64 {
	part, x := math.Modf(float64(date) / w.days)
	if !w.drawn || part != w.part {
		draw := func(n uint64) float64 { return 2*unit(mix(w.seed*0xbf58476d1ce4e5b9+n)) - 1 }
		w.part, w.from, w.to, w.drawn = part, draw(uint64(part)), draw(uint64(part)+1), true
	}
	x = x * x * (3 - 2*x)
	return w.height * (w.from + (w.to-w.from)*x)
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
