package main

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestExcess(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		times    []int64
		rate     float64
		capacity float64
		want     float64
	}{
		"none":                     {nil, 10, 2, -2},
		"one":                      {[]int64{5}, 10, 1, 0},
		"on the grid":              {[]int64{0, 100_000, 200_000, 300_000}, 10, 1, 0},
		"unsorted":                 {[]int64{300_000, 0, 200_000, 100_000}, 10, 1, 0},
		"a burst":                  {[]int64{0, 0, 0, 100_000}, 10, 3, 0},
		"one too many":             {[]int64{0, 0, 0, 0}, 10, 3, 1},
		"half a period early":      {[]int64{0, 100_000, 150_000}, 10, 1, 0.5},
		"burst after idle":         {[]int64{0, 10_000_000, 10_000_000, 10_000_000}, 10, 1, 2},
		"a long window only":       {[]int64{0, 99_000, 198_000, 297_000, 396_000}, 10, 1, 0.04},
		"epoch microseconds":       {[]int64{1_795_380_318_640_072, 1_795_380_318_740_072}, 10, 1, 0},
		"idle time is not banked":  {[]int64{0, 50_000, 1_000_000, 1_100_000}, 10, 1, 0.5},
		"a second excess is worse": {[]int64{0, 50_000, 1_000_000, 1_000_000}, 10, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := excess(test.times, test.rate, test.capacity); math.Abs(got-test.want) > 1e-9 {
				t.Errorf("excess = %v, want %v", got, test.want)
			}
		})
	}
}

// The one pass must find what comparing all windows finds.
func TestExcessAgainstAllWindows(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		rate, capacity := 1+100*random.Float64(), float64(1+random.IntN(5))
		times := make([]int64, 1+random.IntN(40))
		now := int64(1_795_380_318_000_000)
		for i := range times {
			now += random.Int64N(int64(2e6 / rate))
			times[i] = now
		}
		worst := math.Inf(-1)
		for i := range times {
			for j := i; j < len(times); j++ {
				worst = max(worst, float64(j-i+1)-capacity-rate*float64(times[j]-times[i])/1e6)
			}
		}
		if got := excess(times, rate, capacity); math.Abs(got-worst) > 1e-6 {
			t.Fatalf("excess(%v, %v, %v) = %v, want %v", times, rate, capacity, got, worst)
		}
	}
}

func TestEarly(t *testing.T) {
	t.Parallel()
	slots := []int64{3000, 1000, 2000}
	for name, test := range map[string]struct {
		starts []int64
		want   int
	}{
		"none":                   {nil, 0},
		"each at its slot":       {[]int64{1000, 2000, 3000}, 0},
		"late and out of order":  {[]int64{9000, 3500, 3400}, 0},
		"unused slots":           {[]int64{3000}, 0},
		"before the first":       {[]int64{500}, 1},
		"two on one slot":        {[]int64{1500, 1600}, 1},
		"more starts than slots": {[]int64{4000, 4000, 4000, 4000, 4000}, 2},
		"made up for afterwards": {[]int64{1500, 1600, 3000}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := early(test.starts, slots, 0); got != test.want {
				t.Errorf("early = %d, want %d", got, test.want)
			}
		})
	}
	if got := early([]int64{500}, slots, time.Millisecond); got != 0 {
		t.Errorf("early = %d within the tolerance, want 0", got)
	}
}

func TestJain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		shares []int
		want   float64
	}{
		{nil, 0},
		{[]int{0, 0}, 0},
		{[]int{3, 3, 3}, 1},
		{[]int{8, 0, 0, 0}, 0.25},
		{[]int{1, 2, 3}, 36.0 / 42},
	} {
		if got := jain(test.shares); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("jain(%v) = %v, want %v", test.shares, got, test.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(100 - i)
	}
	for _, test := range []struct {
		values []int64
		p      float64
		want   int64
	}{
		{nil, 0.5, 0},
		{[]int64{7}, 0, 7},
		{[]int64{7}, 0.99, 7},
		{[]int64{3, 1, 2}, 0.5, 2},
		{[]int64{4, 3, 1, 2}, 0.5, 2},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := percentile(test.values, test.p); got != test.want {
			t.Errorf("percentile(%v, %v) = %d, want %d", test.values, test.p, got, test.want)
		}
	}
}

func TestUtilisation(t *testing.T) {
	t.Parallel()
	grid := func(from, until, step int64) (times []int64) {
		for at := from; at < until; at += step {
			times = append(times, at)
		}
		return times
	}
	for name, test := range map[string]struct {
		starts []int64
		want   float64
	}{
		"none":                     {nil, 0},
		"one":                      {[]int64{500_000}, 0},
		"full":                     {grid(0, 2_000_000, 100_000), 1},
		"full, off the edges":      {grid(30_000, 2_000_000, 100_000), 1},
		"starts outside":           {grid(-5_000_000, 9_000_000, 100_000), 1},
		"half":                     {grid(0, 2_000_000, 200_000), 9 / 19.0},
		"silence at the end":       {grid(0, 1_000_000, 100_000), 9 / 19.0},
		"silence at the beginning": {grid(1_050_000, 2_000_000, 100_000), 9 / 18.5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := utilisation(test.starts, 0, 2_000_000, 10); math.Abs(got-test.want) > 1e-9 {
				t.Errorf("utilisation = %v, want %v", got, test.want)
			}
		})
	}
}

func TestQuotientsArePaired(t *testing.T) {
	t.Parallel()
	got := quotients([]float64{20, 2, 200}, []float64{10, 1, 100})
	if want := (spread{2, 2, 2}); got != want {
		t.Errorf("quotients = %v, want %v", got, want)
	}
}
