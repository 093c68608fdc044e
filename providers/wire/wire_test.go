package wire_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// secret stands for a key that an answer repeats.
const secret = "K3Y"

var errWay = errors.New("connection reset")

func body(text string) *wire.Body { return wire.NewBody(strings.NewReader(text), wire.MaxValue) }

// broken is a body that begins with text, and whose connection then breaks.
func broken(text string) *wire.Body {
	return wire.NewBody(io.MultiReader(strings.NewReader(text), iotest.ErrReader(errWay)), wire.MaxValue)
}

// TestBound: what is complete does not count, and what is not is bounded.
func TestBound(t *testing.T) {
	t.Parallel()
	const most = 1000
	for name, tc := range map[string]struct {
		bound, complete int // after so many bytes each
		want            error
	}{
		"no value complete":     {most, 0, wire.ErrLongValue},
		"values at the bound":   {most, most, nil},
		"values beyond it":      {most, most + 2*10, wire.ErrLongValue},
		"no bound, one value":   {0, 0, nil},
		"a bound as the answer": {10 * most, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := wire.NewBody(strings.NewReader(strings.Repeat("x", 10*most)), tc.bound)
			read, p := 0, make([]byte, 10)
			var err error
			for err == nil {
				var n int
				n, err = b.Read(p)
				if read += n; tc.complete > 0 && read%tc.complete == 0 {
					b.Complete()
				}
			}
			if tc.want == nil {
				tc.want = io.EOF
			}
			if !errors.Is(err, tc.want) {
				t.Errorf("%v after %d bytes, want %v", err, read, tc.want)
			}
			if errors.Is(err, wire.ErrLongValue) && read > most+2*len(p) {
				t.Errorf("refused after %d bytes only, want about %d", read, most)
			}
		})
	}
}

// TestPeek: whatever the size of the reads, a peek takes nothing away, and of a
// mark no more than the mark.
func TestPeek(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"", "\uFEFF", "\uFEFF\uFEFF", "\xef\xbb", "\xef"}).Draw(t, "head") +
			rapid.StringN(0, 20, 20).Draw(t, "rest")
		var from io.Reader = strings.NewReader(text)
		if rapid.Bool().Draw(t, "slow") {
			from = iotest.DataErrReader(iotest.OneByteReader(from))
		}
		b := wire.NewBody(from, wire.MaxValue)
		n := rapid.IntRange(0, 5).Draw(t, "n")
		head, err := b.Peek(n)
		if want := text[:min(n, len(text))]; err != nil || string(head) != want {
			t.Fatalf("peeked %q, %v, want %q", head, err, want)
		}
		if err := b.SkipMark(); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(b)
		if want := strings.TrimPrefix(text, "\uFEFF"); err != nil || string(rest) != want {
			t.Fatalf("%q and %v are left of %q, want %q", rest, err, text, want)
		}
	})
}

func TestPeekOfABrokenConnection(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\xef\xbb"} {
		if _, err := broken(text).Peek(3); !errors.Is(err, errWay) {
			t.Errorf("peek after %q: %v, want %v", text, err, errWay)
		}
		if err := broken(text).SkipMark(); !errors.Is(err, errWay) {
			t.Errorf("mark after %q: %v, want %v", text, err, errWay)
		}
	}
	// A body that is cut by the way is no short body.
	cut := wire.NewBody(iotest.ErrReader(io.ErrUnexpectedEOF), wire.MaxValue)
	if _, err := cut.Peek(1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("peek: %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

// TestFault: a broken connection goes before what a decoder says of it, and a
// decoder's own kind before BadPayload.
func TestFault(t *testing.T) {
	t.Parallel()
	whole := body("{}")
	wrong := errors.New("no prices")
	known := &providers.Error{Provider: "x", Kind: providers.NoData, Err: errors.New("no rows")}

	err := whole.Fault("vendor", wrong)
	e, ok := errors.AsType[*providers.Error](err)
	if !ok || e.Provider != "vendor" || e.Kind != providers.BadPayload || !errors.Is(err, wrong) {
		t.Errorf("%#v, want a BadPayload of vendor around %q", err, wrong)
	}
	if err := whole.Fault("vendor", known); err != known { //nolint:errorlint // it must be the same
		t.Errorf("%v, want %v as it is", err, known)
	}
	if err := whole.Fault("vendor", nil); err != nil {
		t.Errorf("%v, want none", err)
	}

	b := broken(`{"a":`)
	_, read := io.ReadAll(b)
	for _, end := range []error{read, wrong, known, wire.ErrCut} {
		if err := b.Fault("vendor", end); err != errWay { //nolint:errorlint // it must be the same
			t.Errorf("%v after %v, want %v", err, end, errWay)
		}
	}
	if err := b.Fault("vendor", nil); err != nil {
		t.Errorf("%v, want none", err)
	}
}

// firstOf fails in turn with each of its errors.
type firstOf []error

func (f *firstOf) Read([]byte) (int, error) {
	err := (*f)[0]
	*f = (*f)[1:]
	return 0, err
}

func TestTheFirstErrorOfTheWayCounts(t *testing.T) {
	t.Parallel()
	b := wire.NewBody(&firstOf{errWay, io.ErrUnexpectedEOF}, wire.MaxValue)
	_, _ = b.Read(nil)
	_, _ = b.Read(nil)
	if err := b.Fault("vendor", wire.ErrCut); !errors.Is(err, errWay) {
		t.Errorf("%v, want %v", err, errWay)
	}
}

// TestMalformed: the error says what is wrong and where, and quotes nothing.
func TestMalformed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":       {"", "the answer ends in the middle"},
		"cut":           {`{"a":"` + secret, "the answer ends in the middle"},
		"page":          {"<html>" + secret, "no JSON document: wrong at byte 0"},
		"no value":      {`{"a":` + secret + `}`, "no JSON document: wrong at byte 5"},
		"name twice":    {`{"` + secret + `":1,"` + secret + `":1}`, "a name occurs twice in one object"},
		"other type":    {`{"a":"` + secret + `"}`, "a value is of another type than the provider's"},
		"bad UTF-8":     {"{\"a\":\"" + secret + "\xff\"}", "no JSON document: wrong at byte 9"},
		"endless text":  {`{"a":"` + strings.Repeat(secret, wire.MaxValue), "a value that does not end"},
		"endless blank": {strings.Repeat(" ", 3*wire.MaxValue), "a value that does not end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var to map[string]int
			err := json.UnmarshalDecode(jsontext.NewDecoder(body(tc.text)), &to)
			if err == nil {
				t.Fatal("the decoder has found nothing wrong")
			}
			if got := wire.Malformed(err); got.Error() != tc.want {
				t.Errorf("%q becomes %q, want %q", err, got, tc.want)
			}
		})
	}
	for _, is := range []error{wire.ErrCut, wire.ErrLongValue} {
		err := fmt.Errorf("at %s: %w", secret, is)
		if is == wire.ErrCut { //nolint:errorlint // which of the two
			err = fmt.Errorf("at %s: %w", secret, io.ErrUnexpectedEOF)
		}
		if got := wire.Malformed(err); got != is { //nolint:errorlint // it must be the same
			t.Errorf("%q becomes %q, want %q", err, got, is)
		}
	}
	if got := wire.Malformed(errors.New(secret)).Error(); got != "no JSON document" {
		t.Errorf("an unknown error becomes %q", got)
	}
}

func TestExpect(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		" {":         "",
		" []":        "the answer has the wrong shape at byte 2",
		`"{` + `"`:   "the answer has the wrong shape at byte 3",
		"":           "the answer ends in the middle",
		"<" + secret: "no JSON document: wrong at byte 0",
	} {
		err := wire.Expect(jsontext.NewDecoder(body(text)), jsontext.KindBeginObject, "the answer")
		if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"{}": true, "{} \r\n": true, "{}{}": false, "{}" + secret: false, "{},": false,
		"{}" + strings.Repeat(" ", 3*wire.MaxValue): false,
	} {
		dec := jsontext.NewDecoder(body(text))
		if err := dec.SkipValue(); err != nil {
			t.Fatal(err)
		}
		err := wire.End(dec)
		if good != (err == nil) || err != nil && err.Error() != "more after the end of the document" {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func TestOnce(t *testing.T) {
	t.Parallel()
	var seen bool
	if err := wire.Once(&seen, "units"); err != nil || !seen {
		t.Errorf("the first time: %v, seen %t", err, seen)
	}
	if err := wire.Once(&seen, "units"); err == nil || err.Error() != "units occurs twice" {
		t.Errorf("the second time: %v", err)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]string{
		"":                     {"", ""},
		"Société ~ Générale":   {"Société ~ Générale", "Soci?t? ~ G?n?rale"},
		"a\r\nlevel=error\x1b": {"a  level=error ", "a??level=error?"},
		"\x7f\u0085\u009f\x00": {"    ", "????"},
	} {
		if got := wire.Printable(text); got != want[0] {
			t.Errorf("%q becomes %q, want %q", text, got, want[0])
		}
		if got := wire.PrintableASCII(text); got != want[1] {
			t.Errorf("%q becomes %q in ASCII, want %q", text, got, want[1])
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "text"))
		if got := wire.Printable(text); strings.ContainsAny(got, "\r\n\x1b\x00\x7f\u0085") || !utf8.ValidString(got) {
			t.Errorf("%q becomes %q", text, got)
		}
		if got := wire.PrintableASCII(text); strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q becomes %q in ASCII", text, got)
		}
	})
}
