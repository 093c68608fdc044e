package market

import "math"

// Tick returns the smallest step of a price: 0.01, or 0.0001 below 1.
func Tick(price float64) float64 {
	if price < 1 {
		return 0.0001
	}
	return 0.01
}

// Difference is a value on which two sources do not agree.
type Difference struct {
	Field string  `json:"field"`
	A     float64 `json:"stored"`
	B     float64 `json:"other"`
}

// volumeShare is by how much of itself a volume may differ.
const volumeShare = 0.01

// Differences compares two bars of one session: prices that differ by more than
// a tick and, with volumes, volumes that differ by more than 1 %.
func Differences(a, b Bar, volumes bool) (found []Difference) {
	for _, f := range []struct {
		name string
		a, b float64
	}{{"open", a.Open, b.Open}, {"high", a.High, b.High}, {"low", a.Low, b.Low}, {"close", a.Close, b.Close}} {
		// Two prices a tick apart are not exactly so in binary.
		if math.Abs(f.a-f.b) > Tick(f.a)*(1+1e-6) {
			found = append(found, Difference{f.name, f.a, f.b})
		}
	}
	if x, y := float64(a.Volume), float64(b.Volume); volumes && math.Abs(x-y) > volumeShare*max(x, y) {
		found = append(found, Difference{"volume", x, y})
	}
	return found
}
