package market

import (
	"math"
	"strconv"
)

const (
	maxWhole    = 12
	maxFraction = 9
	maxVolume   = 19
	// maxExact is the number of significant decimal digits that every
	// float64 keeps.
	maxExact = 15
)

// ParsePrice reads a price: 1 to 12 digits, then optionally a point and 1 to 9
// more. No sign, exponent, blank, NaN, Inf, hex or underscore. v is the nearest
// float64. exact is false when the text has more than 15 significant digits,
// zeros at either end not counted: v may then print differently.
//
// The error is a *[PayloadError].
func ParsePrice[T ~string | ~[]byte](s T) (v float64, exact bool, err error) {
	var mantissa uint64
	scale := 1.0
	i := 0
	for ; i < len(s) && i <= maxWhole; i++ {
		c := s[i] - '0'
		if c > 9 {
			break
		}
		mantissa = mantissa*10 + uint64(c)
	}
	whole, fraction := i, 0
	if i < len(s) && s[i] == '.' {
		for i++; i < len(s) && fraction <= maxFraction; i++ {
			c := s[i] - '0'
			if c > 9 {
				break
			}
			mantissa = mantissa*10 + uint64(c)
			scale *= 10
			fraction++
		}
		if fraction == 0 {
			return 0, false, badPrice(string(s))
		}
	}
	if i < len(s) || whole == 0 || whole > maxWhole || fraction > maxFraction {
		return 0, false, badPrice(string(s))
	}
	// 18 digits always fit into a uint64. Two integers that a float64 holds
	// exactly have a correctly rounded quotient.
	if whole+fraction <= 18 && mantissa < 1<<53 {
		return float64(mantissa) / scale, mantissa < 1e15 || significant(s) <= maxExact, nil
	}
	v, err = strconv.ParseFloat(string(s), 64)
	return v, significant(s) <= maxExact, err
}

// significant counts the digits from the first to the last that is not zero.
func significant[T ~string | ~[]byte](s T) int {
	digits, count := 0, 0
	for i := range len(s) {
		if s[i] == '.' || s[i] == '0' && count == 0 {
			continue
		}
		digits++
		if s[i] != '0' {
			count = digits
		}
	}
	return count
}

func badPrice(s string) error {
	return &PayloadError{Reason: "price " + quote(s) + ": want plain digits such as 187.1500, " +
		"at most 12 before the point and 9 after it"}
}

// ParseVolume reads a number of shares: 1 to 19 digits that fit into an int64,
// and nothing else. The error is a *[PayloadError].
func ParseVolume[T ~string | ~[]byte](s T) (int64, error) {
	if len(s) == 0 || len(s) > maxVolume {
		return 0, badVolume(string(s))
	}
	var v uint64 // 19 digits fit
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, badVolume(string(s))
		}
		v = v*10 + uint64(c)
	}
	if v > math.MaxInt64 {
		return 0, badVolume(string(s))
	}
	return int64(v), nil
}

func badVolume(s string) error {
	return &PayloadError{Reason: "volume " + quote(s) + ": want plain digits such as 54032, at most 9223372036854775807"}
}
