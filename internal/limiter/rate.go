package limiter

import "math"

// Rate returns the calls per second that the sliding windows let through in
// the long run. Days are not part of it.
func (l *Limiter) Rate() float64 {
	rate := math.Inf(1)
	for _, w := range l.windows {
		if w.Daily == nil {
			rate = min(rate, w.rate)
		}
	}
	return rate
}
