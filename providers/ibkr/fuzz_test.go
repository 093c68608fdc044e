package ibkr_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/ibkr"
)

// frame puts a length before the fields of a message.
func frame(values ...string) []byte {
	payload := strings.Join(values, "\x00") + "\x00"
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
}

func answer(values ...string) []byte {
	return frame(append([]string{"17", "1", "20260301  00:00:00", "20260313  00:00:00"}, values...)...)
}

// FuzzStream reads whatever a gateway may send: a session ends with a reason, and
// bars are what another way to read the same answer finds, or none.
func FuzzStream(f *testing.F) {
	bar := []string{"20260312", "10.5", "11", "9.25", "10", "1234", "10.1", "42"}
	notice := frame("4", "2", "-1", "2104", "Market data farm connection is OK:usfarm", "")
	for _, seed := range [][]byte{
		nil,
		{0},
		{0, 0, 0, 0},
		{0xFF, 0xFF, 0xFF, 0xFF},
		{0, 0, 0, 1, 0},
		{0, 0, 0, 2, '1', '7'},
		frame("17"), frame("17", "1"), frame("4"), frame("9", "1", "1"),
		answer("0"), answer(append([]string{"1"}, bar...)...), answer(append([]string{"2"}, append(bar, bar...)...)...),
		answer(append([]string{"-1"}, bar...)...), answer(append([]string{"99999999"}, bar...)...), answer(append([]string{"1"}, bar[:5]...)...),
		slices.Concat(notice, answer(append([]string{"1"}, bar...)...), notice),
		frame("4", "2", "1", "162", "HMDS query returned no data: AAPL@SMART Trades"),
		frame("4", "2", "-1", "326", "in use"), frame("4", "2", "-1", "1100", "lost"), frame("4", "2", "-1", "1101", "back"), frame("4", "2", "-1", "10197", "rival"),
		frame("4", "2", "1", "162", "\xf3\\u00f3\\uZZ"), frame("4", "2", "99999999999", "1", "x"),
		answer("1", "20260312  00:00:00", "10", "10", "10", "10", "-1", "-1", "-1"),
		answer("1", "20260312", "10", "10", "10", "10", "12.50", "-1", "-1"),
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, stream []byte, lots bool) {
		bars, decoded, ended := ibkr.Feed(stream, lots)
		if !ibkr.IsEnd(ended) {
			t.Fatalf("ended by %v", ended)
		}
		if decoded != nil {
			if len(bars) != 0 {
				t.Fatalf("%d bars and %v", len(bars), decoded)
			}
			return
		}
		if want := read(t, stream, lots); !slices.Equal(bars, want) {
			t.Fatalf("bars = %+v, want %+v", bars, want)
		}
	})
}

// read finds the bars of the first answer in another way, with the standard
// library's grammar.
func read(t *testing.T, stream []byte, lots bool) []market.Bar {
	t.Helper()
	for {
		size := binary.BigEndian.Uint32(stream)
		message := stream[4 : 4+size]
		stream = stream[4+size:]
		values := strings.Split(strings.TrimSuffix(string(message), "\x00"), "\x00")
		if id, err := strconv.Atoi(values[0]); err != nil || id != 17 {
			continue
		}
		if id, err := strconv.Atoi(values[1]); err != nil || id != 1 {
			continue
		}
		var bars []market.Bar
		for row := range slices.Chunk(values[5:], 8) {
			bars = append(bars, bar(t, row, lots))
		}
		slices.SortStableFunc(bars, func(a, b market.Bar) int { return int(a.Date) - int(b.Date) })
		return bars
	}
}

func bar(t *testing.T, row []string, lots bool) market.Bar {
	t.Helper()
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || strings.ContainsAny(s, "eExXpP_+-nN") {
			t.Fatalf("accepted the number %q", s)
		}
		return v
	}
	date, err := market.ParseDate(row[0][:4] + "-" + row[0][4:6] + "-" + row[0][6:8])
	if err != nil || len(row) != 8 {
		t.Fatalf("accepted %q: %v", row, err)
	}
	b := market.Bar{Date: date, Open: number(row[1]), High: number(row[2]), Low: number(row[3]), Close: number(row[4])}
	if row[5] == "-1" {
		return b
	}
	whole, fraction, _ := strings.Cut(row[5], ".")
	if lots {
		whole += (fraction + "00")[:2]
	}
	if b.Volume, err = strconv.ParseInt(whole, 10, 64); err != nil || b.Volume < 0 {
		t.Fatalf("accepted the volume %q: %v", row[5], err)
	}
	return b
}

// TestBarsSurvive: every bar that a gateway can write is read as it is.
func TestBarsSurvive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var want []market.Bar
		row := []string{""}
		date := market.NewDate(1999, 11, 1)
		price := func() (float64, string) {
			v := float64(rapid.Int64Range(1, 1e10).Draw(t, "price")) / 1e4
			return v, strconv.FormatFloat(v, 'f', -1, 64)
		}
		for range rapid.IntRange(0, 40).Draw(t, "bars") {
			date += market.Date(rapid.IntRange(1, 5).Draw(t, "days"))
			b := market.Bar{Date: date, Volume: rapid.Int64Range(0, 1<<62).Draw(t, "volume")}
			texts := [4]string{}
			for i, to := range [...]*float64{&b.Open, &b.High, &b.Low, &b.Close} {
				*to, texts[i] = price()
			}
			tail := rapid.SampledFrom([]string{"", ".0", ".00"}).Draw(t, "tail")
			day := date.Time().Format("20060102") + rapid.SampledFrom([]string{"", "  00:00:00"}).Draw(t, "form")
			row = append(append(append(row, day), texts[:]...), strconv.FormatInt(b.Volume, 10)+tail, "-1", "-1")
			want = append(want, b)
		}
		row[0] = strconv.Itoa(len(want))
		bars, err, _ := ibkr.Feed(answer(row...), false)
		if err != nil || !slices.Equal(bars, want) {
			t.Fatalf("bars = %+v, %v; want %+v", bars, err, want)
		}
	})
}

// TestPromise: a length that is only promised takes no memory.
func TestPromise(t *testing.T) { //nolint:paralleltest // it measures what the whole process allocates
	stream := append([]byte{0, 0xFF, 0xFF, 0xFF}, bytes.Repeat([]byte("1"), 100)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := ibkr.Feed(stream, false)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes for a stream of %d, and %v", took, len(stream), err)
	}
}
