package market_test

import (
	"errors"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
)

var priceGrammar = regexp.MustCompile(`^[0-9]{1,12}(\.[0-9]{1,9})?\z`)

// checkPrice holds ParsePrice to the grammar and to strconv.
func checkPrice(tb testing.TB, s string) {
	tb.Helper()
	v, exact, err := market.ParsePrice(s)
	if v2, exact2, err2 := market.ParsePrice([]byte(s)); v != v2 || exact != exact2 || (err == nil) != (err2 == nil) {
		tb.Errorf("ParsePrice(%q) = %v, %v, %v as text and %v, %v, %v as bytes", s, v, exact, err, v2, exact2, err2)
	}
	if !priceGrammar.MatchString(s) {
		wantBadPayload(tb, err)
		if v != 0 || exact {
			tb.Errorf("ParsePrice(%q) = %v, %v, %v", s, v, exact, err)
		}
		return
	}
	want, _ := strconv.ParseFloat(s, 64)
	if v != want || err != nil {
		tb.Errorf("ParsePrice(%q) = %v, %v, want %v", s, v, err, want)
	}
	digits := strings.Trim(strings.ReplaceAll(s, ".", ""), "0")
	if exact != (len(digits) <= 15) {
		tb.Errorf("ParsePrice(%q): exact = %v with %d digits", s, exact, len(digits))
	}
	if exact && !sameDecimal(s, v) {
		tb.Errorf("ParsePrice(%q) = %v prints differently", s, v)
	}
}

// sameDecimal reports whether the shortest text of v is the number that s is.
func sameDecimal(s string, v float64) bool {
	a, _ := new(big.Rat).SetString(s)
	b, _ := new(big.Rat).SetString(strconv.FormatFloat(v, 'f', -1, 64))
	return a.Cmp(b) == 0
}

func wantBadPayload(tb testing.TB, err error) {
	tb.Helper()
	if bad, ok := errors.AsType[*market.PayloadError](err); !ok || bad.Outcome() != "bad_payload" {
		tb.Errorf("error %v, want a PayloadError", err)
	}
}

func TestParsePrice(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"187.1500", "0.0001", "0", "0.0", "7", "007.50", "999999999999.999999999", "100000000000.000000000", "123456.789012345", "1234567.890123456",
		"9007199254740993", "9007199.254740993", "0.1", "0.000000001", "000000000000.000000001", "123456789012.345678901", "999999999.999999999", "100000000000.1",
		"184467440737.095516160", // overflows an uint64 to 0
	} {
		checkPrice(t, s)
	}
	for _, s := range []string{
		"", ".", ".5", "5.", "-1", "+1", "1e5", "1E5", "NaN", "Inf", "infinity", "0x1p3", "1_000", "1,000.5", " 1", "1 ", "1.2.3", "None", "-", "1234567890123",
		"1.1234567890", "１", "1\x00", strings.Repeat("9", 1<<16),
	} {
		checkPrice(t, s)
	}
	for s, want := range map[string]bool{"123456.789012345": true, "1234567.890123456": false, "1000000.000000000": true, "000001.234567890": true} {
		if _, exact, err := market.ParsePrice(s); exact != want || err != nil {
			t.Errorf("ParsePrice(%q): exact = %v, %v, want %v", s, exact, err, want)
		}
	}
	if _, _, err := market.ParsePrice("1e5"); !hasError(err, `price "1e5": want plain digits such as 187.1500`) {
		t.Error(err)
	}
}

func TestParsePriceProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		checkPrice(t, rapid.OneOf(rapid.StringMatching(`[0-9]{1,12}(\.[0-9]{1,9})?`), rapid.StringMatching(`[0-9]{0,14}(\.[0-9]{0,11})?`)).Draw(rt, "price"))
	})
}

func FuzzParsePrice(f *testing.F) {
	for _, s := range []string{"187.1500", "1e5", "9007199.254740993", ".", "999999999999.999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkPrice(t, s) })
}

func checkVolume(tb testing.TB, s string) {
	tb.Helper()
	v, err := market.ParseVolume(s)
	if v2, err2 := market.ParseVolume([]byte(s)); v != v2 || (err == nil) != (err2 == nil) {
		tb.Errorf("ParseVolume(%q) = %v, %v as text and %v, %v as bytes", s, v, err, v2, err2)
	}
	want, wantErr := strconv.ParseInt(s, 10, 64)
	if wantErr != nil || len(s) > 19 || strings.Trim(s, "0123456789") != "" {
		wantBadPayload(tb, err)
		want = 0
	} else if err != nil {
		tb.Error(err)
	}
	if v != want {
		tb.Errorf("ParseVolume(%q) = %d, want %d", s, v, want)
	}
}

func TestParseVolume(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"0", "54032", "0054032", "9223372036854775807", "9223372036854775808", "9999999999999999999", "99999999999999999999", "", "-1", "+1", "1.0", "1e3", "1_000", " 1", "None",
	} {
		checkVolume(t, s)
	}
}

func FuzzParseVolume(f *testing.F) {
	for _, s := range []string{"54032", "-1", "9223372036854775808", "00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkVolume(t, s) })
}

// AllocsPerRun counts the whole process, so this test is not parallel.
func TestNumbersDoNotAllocate(t *testing.T) { //nolint:paralleltest // see above
	long, short, volume := []byte("123456789012.345678901"), []byte("187.1500"), []byte("54032000")
	allocs := testing.AllocsPerRun(100, func() {
		_, _, err1 := market.ParsePrice(long)
		_, _, err2 := market.ParsePrice(short)
		_, err3 := market.ParseVolume(volume)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

func BenchmarkParsePrice(b *testing.B) {
	for _, s := range []string{"187.1500", "54.03", "123456789012.345678901"} {
		b.Run(s, func(b *testing.B) {
			text := []byte(s)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := market.ParsePrice(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseVolume(b *testing.B) {
	text := []byte("54032000")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := market.ParseVolume(text); err != nil {
			b.Fatal(err)
		}
	}
}
