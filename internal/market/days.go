package market

import (
	"iter"
	"math/bits"
	"time"
)

// YearDays is a set of days of one year: bit d%64 of word d/64 is the day d
// after 1 January.
type YearDays [6]uint64

// Days is a set of dates from the year 1 on, of a bit for each day of the years
// that it touches. The zero value is empty. A copy shares what it holds: use
// [Days.Union] or [Days.Minus] for a set of its own.
type Days struct {
	first int // year of years[0]
	years []YearDays
}

// DaysIn returns the dates of r.
func DaysIn(r Range) Days {
	var d Days
	d.AddRange(r)
	return d
}

// place returns where a date has its bit.
func place(date Date) (year, day int) {
	t := date.Time()
	return t.Year(), t.YearDay() - 1
}

// newYear returns 1 January.
func newYear(year int) Date { return NewDate(year, time.January, 1) }

// Add adds one date.
func (d *Days) Add(date Date) {
	year, day := place(date)
	d.year(year)[day/64] |= 1 << (day % 64)
}

// AddRange adds the dates of r, both ends included.
func (d *Days) AddRange(r Range) {
	if r.To < r.From {
		return
	}
	for year := r.From.Year(); year <= r.To.Year(); year++ {
		start := newYear(year)
		from, to := max(r.From-start, 0), min(r.To, newYear(year+1)-1)-start
		words := d.year(year)
		for w := range words {
			words[w] |= ones(int(from)-64*w, int(to)-64*w)
		}
	}
}

// ones returns a word whose bits from to to, both included, are set.
func ones(from, to int) uint64 {
	from, to = max(from, 0), min(to, 63)
	if to < from {
		return 0
	}
	return (^uint64(0) >> (63 - to + from)) << from
}

// AddYear adds days of a year.
func (d *Days) AddYear(year int, days YearDays) {
	words := d.year(year)
	for w := range words {
		words[w] |= days[w]
	}
}

// year returns the words of a year, for which it makes room.
func (d *Days) year(year int) *YearDays {
	if len(d.years) == 0 {
		d.first = year
	}
	if year < d.first {
		d.years = append(make([]YearDays, d.first-year, d.first-year+len(d.years)), d.years...)
		d.first = year
	}
	for year >= d.first+len(d.years) {
		d.years = append(d.years, YearDays{})
	}
	return &d.years[year-d.first]
}

// Of returns the days of a year.
func (d Days) Of(year int) YearDays {
	if i := year - d.first; i >= 0 && i < len(d.years) {
		return d.years[i]
	}
	return YearDays{}
}

// Has reports whether date is in the set.
func (d Days) Has(date Date) bool {
	year, day := place(date)
	return d.Of(year)[day/64]&(1<<(day%64)) != 0
}

// Union returns the dates that are in d or in o.
func (d Days) Union(o Days) Days {
	var u Days
	for year, words := range d.Years() {
		u.AddYear(year, words)
	}
	for year, words := range o.Years() {
		u.AddYear(year, words)
	}
	return u
}

// Minus returns the dates of d that are not in o.
func (d Days) Minus(o Days) Days {
	m := Days{first: d.first, years: make([]YearDays, len(d.years))}
	for i, words := range d.years {
		other := o.Of(d.first + i)
		for w := range words {
			m.years[i][w] = words[w] &^ other[w]
		}
	}
	return m
}

// And returns the dates that are in both.
func (d Days) And(o Days) Days {
	m := Days{first: d.first, years: make([]YearDays, len(d.years))}
	for i, words := range d.years {
		other := o.Of(d.first + i)
		for w := range words {
			m.years[i][w] = words[w] & other[w]
		}
	}
	return m
}

// Len returns the number of dates.
func (d Days) Len() int {
	n := 0
	for _, words := range d.years {
		for _, w := range words {
			n += bits.OnesCount64(w)
		}
	}
	return n
}

// Years returns the years of the set that hold a date, in ascending order.
func (d Days) Years() iter.Seq2[int, YearDays] {
	return func(yield func(int, YearDays) bool) {
		for i, words := range d.years {
			if words != (YearDays{}) && !yield(d.first+i, words) {
				return
			}
		}
	}
}

// All returns the dates in ascending order.
func (d Days) All() iter.Seq[Date] {
	return func(yield func(Date) bool) {
		for year, words := range d.Years() {
			start := newYear(year)
			for w, word := range words {
				for ; word != 0; word &= word - 1 {
					if !yield(start + Date(64*w+bits.TrailingZeros64(word))) {
						return
					}
				}
			}
		}
	}
}

// First returns the earliest date; the zero Date of an empty set.
func (d Days) First() Date {
	for date := range d.All() {
		return date
	}
	return 0
}

// Last returns the latest date; the zero Date of an empty set.
func (d Days) Last() Date {
	for i := len(d.years) - 1; i >= 0; i-- {
		for w := len(d.years[i]) - 1; w >= 0; w-- {
			if word := d.years[i][w]; word != 0 {
				return newYear(d.first+i) + Date(64*w+bits.Len64(word)-1)
			}
		}
	}
	return 0
}

// Hull returns the range from the first date to the last; the zero Range of an
// empty set.
func (d Days) Hull() Range { return Range{From: d.First(), To: d.Last()} }
