package alphavantage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
)

// vendorFunc answers in place of the network.
type vendorFunc func(*http.Request) (*http.Response, error)

func (f vendorFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// noon is a Friday in New York, with the market open.
func noon() time.Time { return time.Date(2026, 3, 13, 16, 0, 0, 0, time.UTC) }

func day(month time.Month, day int) market.Date { return market.NewDate(2026, month, day) }

// decode asks for AAPL and answers with body.
func decode(csv bool, body io.Reader) (market.Series, error) {
	hc := &http.Client{Transport: vendorFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(body)}, nil
	})}
	c := alphavantage.New(hc, "https://vendor.example", alphavantage.Options{CSV: csv, Now: noon})
	return c.DailyBars(context.Background(), "AAPL", market.Range{From: day(3, 1), To: day(3, 12)})
}

// document is a daily answer around the bars in series.
func document(series string) string {
	return `{"Meta Data": {"1. Information": "x", "2. Symbol": "aapl"}, "Time Series (Daily)": {` + series + `}}`
}

const goodBar = `"2026-03-12": {"1. open": "10.0000", "2. high": "12.5", "3. low": "9", "4. close": "11.1234", "5. volume": "42"}`

func wantBar() market.Bar {
	return market.Bar{Date: day(3, 12), Open: 10, High: 12.5, Low: 9, Close: 11.1234, Volume: 42}
}

func TestGoodDocuments(t *testing.T) {
	t.Parallel()
	older := strings.Replace(goodBar, "2026-03-12", "2026-03-11", 1)
	for name, tc := range map[string]struct {
		csv  bool
		body string
		want []string
	}{
		"plain":        {false, document(goodBar), []string{"2026-03-12"}},
		"newest first": {false, document(goodBar + "," + older), []string{"2026-03-11", "2026-03-12"}},
		"oldest first": {false, document(older + "," + goodBar), []string{"2026-03-11", "2026-03-12"}},
		"repeated":     {false, document(goodBar + "," + older + "," + goodBar), []string{"2026-03-11", "2026-03-12", "2026-03-12"}},
		"mark":         {false, "\uFEFF" + document(goodBar), []string{"2026-03-12"}},
		"blanks":       {false, "\r\n\t " + strings.ReplaceAll(document(goodBar), " ", "\n ") + "\n", nil},
		"fields mixed": {false, document(`"2026-03-12": {"5. volume":"42","4. close":"11.1234","1. open":"10.0000","3. low":"9","2. high":"12.5"}`), []string{"2026-03-12"}},
		"other order":  {false, `{"Time Series (Daily)": {` + goodBar + `}, "Meta Data": {"2. Symbol": "AAPL"}}`, []string{"2026-03-12"}},
		"csv":          {true, "timestamp,open,high,low,close,volume\r\n2026-03-12,10.0000,12.5,9,11.1234,42\r\n", []string{"2026-03-12"}},
		"csv LF":       {true, "timestamp,open,high,low,close,volume\n2026-03-12,10.0000,12.5,9,11.1234,42\n", []string{"2026-03-12"}},
		"csv mark":     {true, "\uFEFFtimestamp,open,high,low,close,volume\r\n2026-03-12,10.0000,12.5,9,11.1234,42\r\n", []string{"2026-03-12"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			series, err := decode(tc.csv, strings.NewReader(tc.body))
			if name == "blanks" {
				// The names have blanks too: nothing may be found under others.
				if err == nil {
					t.Error("names with a line's end inside were accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var dates []string
			for _, bar := range series.Bars {
				dates = append(dates, bar.Date.String())
				want := wantBar()
				if want.Date = bar.Date; bar != want {
					t.Errorf("bar = %+v, want %+v", bar, want)
				}
			}
			if !slices.Equal(dates, tc.want) {
				t.Errorf("dates = %v, want %v", dates, tc.want)
			}
			if series.Symbol != "AAPL" || series.Source != "alpha_vantage" {
				t.Errorf("series of %q from %q", series.Symbol, series.Source)
			}
		})
	}
}

// secret stands in each of the bodies; no error may quote it.
const secret = "CANARYk3y"

func TestBadDocuments(t *testing.T) {
	t.Parallel()
	replace := func(from, to string) string { return document(strings.Replace(goodBar, from, to, 1)) }
	head := "timestamp,open,high,low,close,volume\r\n"
	line := "2026-03-12,10.0000,12.5,9,11.1234,42\r\n"
	for name, tc := range map[string]struct {
		csv  bool
		body string
		kind providers.Kind
		says string
	}{
		"empty":                {false, "", providers.BadPayload, "ends in the middle"},
		"html":                 {false, "<html>" + secret, providers.BadPayload, "no JSON document: wrong at byte 0"},
		"null":                 {false, "null", providers.BadPayload, "wrong shape"},
		"array":                {false, "[]", providers.BadPayload, "wrong shape"},
		"message":              {false, `{"Information": "key ` + secret + `"}`, providers.BadPayload, "unexpected name"},
		"message beside data":  {false, strings.Replace(document(goodBar), "{", `{"Note": "`+secret+`",`, 1), providers.BadPayload, "unexpected name"},
		"empty object":         {false, "{}", providers.BadPayload, "no Meta Data or no"},
		"no bars":              {false, document(""), providers.NoData, "no bars"},
		"other symbol":         {false, strings.Replace(document(goodBar), "aapl", secret, 1), providers.BadPayload, "another symbol"},
		"no symbol":            {false, strings.Replace(document(goodBar), "2. Symbol", "2. Sign", 1), providers.BadPayload, "no symbol in Meta Data"},
		"symbol twice":         {false, strings.Replace(document(goodBar), `"2. Symbol"`, `"2. Symbol": "AAPL", "2. Symbol"`, 1), providers.BadPayload, "occurs twice"},
		"meta twice":           {false, strings.Replace(document(goodBar), "{", `{"Meta Data": {"2. Symbol": "AAPL"}, `, 1), providers.BadPayload, "Meta Data occurs twice"},
		"meta number":          {false, strings.Replace(document(goodBar), `"x"`, `1`, 1), providers.BadPayload, "no text"},
		"meta text":            {false, `{"Meta Data": "` + secret + `"}`, providers.BadPayload, "Meta Data has the wrong shape"},
		"no meta":              {false, `{"Time Series (Daily)": {` + goodBar + `}}`, providers.BadPayload, "no Meta Data or no"},
		"series array":         {false, `{"Meta Data": {"2. Symbol": "AAPL"}, "Time Series (Daily)": []}`, providers.BadPayload, "wrong shape"},
		"cut":                  {false, document(goodBar)[:120], providers.BadPayload, "ends in the middle"},
		"cut at the end":       {false, strings.TrimSuffix(document(goodBar), "}"), providers.BadPayload, "ends in the middle"},
		"trailing":             {false, document(goodBar) + "{}", providers.BadPayload, "more after the end"},
		"trailing text":        {false, document(goodBar) + secret, providers.BadPayload, "more after the end"},
		"bar null":             {false, document(`"2026-03-12": null`), providers.BadPayload, "want an object"},
		"bar array":            {false, document(`"2026-03-12": ["` + secret + `"]`), providers.BadPayload, "want an object"},
		"empty bar":            {false, document(`"2026-03-12": {}`), providers.BadPayload, "open is missing"},
		"value number":         {false, replace(`"10.0000"`, `10.0000`), providers.BadPayload, "as a text"},
		"value null":           {false, replace(`"10.0000"`, `null`), providers.BadPayload, "as a text"},
		"value object":         {false, replace(`"10.0000"`, `{"1. open": "10"}`), providers.BadPayload, "as a text"},
		"missing field":        {false, replace(`"3. low": "9", `, ``), providers.BadPayload, "bar of 2026-03-12: low is missing"},
		"repeated field":       {false, replace(`"3. low"`, `"2. high"`), providers.BadPayload, "high occurs twice"},
		"unknown field":        {false, replace(`"3. low"`, `"`+secret+`"`), providers.BadPayload, "unexpected field"},
		"case variant":         {false, replace(`"3. low"`, `"3. Low"`), providers.BadPayload, "unexpected field"},
		"escaped name":         {false, replace(`"3. low"`, `"3. lo\u0077"`), providers.BadPayload, "unexpected field"},
		"escaped quote":        {false, replace(`"9"`, `"9\""`), providers.BadPayload, "no plain decimal"},
		"none":                 {false, replace(`"9"`, `"None"`), providers.BadPayload, "low is no plain decimal number"},
		"nan":                  {false, replace(`"9"`, `"NaN"`), providers.BadPayload, "low is no plain decimal number"},
		"exponent":             {false, replace(`"9"`, `"9e1"`), providers.BadPayload, "no plain decimal"},
		"hex":                  {false, replace(`"9"`, `"0x9"`), providers.BadPayload, "no plain decimal"},
		"underscore":           {false, replace(`"9"`, `"9_0"`), providers.BadPayload, "no plain decimal"},
		"secret number":        {false, replace(`"9"`, `"`+secret+`"`), providers.BadPayload, "no plain decimal"},
		"long number":          {false, replace(`"9"`, `"1234567890.1234567"`), providers.BadPayload, "more than 15 significant digits"},
		"volume fraction":      {false, replace(`"42"`, `"42.5"`), providers.BadPayload, "volume is no plain whole number"},
		"volume too large":     {false, replace(`"42"`, `"9223372036854775808"`), providers.BadPayload, "volume is no plain whole number"},
		"date with clock":      {false, replace(`2026-03-12`, `2026-03-12 16:00:00`), providers.BadPayload, "YYYY-MM-DD"},
		"no such day":          {false, replace(`2026-03-12`, `2026-02-30`), providers.BadPayload, "YYYY-MM-DD"},
		"month 13":             {false, replace(`2026-03-12`, `2026-13-01`), providers.BadPayload, "YYYY-MM-DD"},
		"year 0":               {false, replace(`2026-03-12`, `0000-03-01`), providers.BadPayload, "YYYY-MM-DD"},
		"date of letters":      {false, replace(`2026-03-12`, secret+"x"), providers.BadPayload, "YYYY-MM-DD"},
		"bad UTF-8":            {false, replace(`"9"`, "\"9\xff\""), providers.BadPayload, "no JSON document"},
		"NUL":                  {false, replace(`"9"`, "\"9\x00\""), providers.BadPayload, "no JSON document"},
		"UTF-16":               {false, "\xff\xfe{\x00}\x00", providers.BadPayload, "no JSON document"},
		"endless text":         {false, `{"Meta Data": {"1. Information": "` + strings.Repeat("x", 1<<20), providers.BadPayload, "does not end"},
		"endless blanks":       {false, "{" + strings.Repeat(" ", 1<<20), providers.BadPayload, "does not end"},
		"deep":                 {false, `{"Meta Data":` + strings.Repeat("[", 50_000), providers.BadPayload, "wrong shape"},
		"csv empty":            {true, "", providers.BadPayload, "ends in the middle"},
		"csv header only":      {true, head, providers.NoData, "no bars"},
		"csv other header":     {true, "Information," + secret + "\r\n" + line, providers.BadPayload, "first line is not"},
		"csv json":             {true, document(goodBar), providers.BadPayload, "ends in the middle"},
		"csv cut line":         {true, head + line + "2026-03-11,10.0", providers.BadPayload, "line 3: the answer ends in the middle"},
		"csv cut last end":     {true, head + strings.TrimSuffix(line, "\r\n"), providers.BadPayload, "line 2: the answer ends in the middle"},
		"csv few columns":      {true, head + "2026-03-12,10.0000,12.5,9,11.1234\r\n", providers.BadPayload, "line 2: volume is missing"},
		"csv many columns":     {true, head + "2026-03-12,10.0000,12.5,9,11.1234,42,1\r\n", providers.BadPayload, "line 2: unexpected field"},
		"csv empty line":       {true, head + line + "\r\n", providers.BadPayload, "line 3"},
		"csv quoted":           {true, head + `2026-03-12,"10.0000",12.5,9,11.1234,42` + "\r\n", providers.BadPayload, "open is no plain"},
		"csv blank":            {true, head + "2026-03-12, 10.0000,12.5,9,11.1234,42\r\n", providers.BadPayload, "open is no plain"},
		"csv bare CR":          {true, strings.ReplaceAll(head+line, "\r\n", "\r"), providers.BadPayload, "ends in the middle"},
		"csv endless line":     {true, head + strings.Repeat("1", 1<<20), providers.BadPayload, "far too long"},
		"csv endless header":   {true, strings.Repeat("1", 1<<20), providers.BadPayload, "far too long"},
		"csv NUL":              {true, head + strings.Replace(line, "10.0", "10\x00", 1), providers.BadPayload, "open is no plain"},
		"csv listing of calls": {true, "symbol,name\r\n" + secret + ",x\r\n", providers.BadPayload, "first line is not"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			series, err := decode(tc.csv, strings.NewReader(tc.body))
			var got *providers.Error
			if !errors.As(err, &got) || got.Kind != tc.kind || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("error = %v, want one of kind %d that says %q", err, tc.kind, tc.says)
			}
			if len(series.Bars) != 0 {
				t.Errorf("%d bars came with the error", len(series.Bars))
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error quotes the answer: %v", err)
			}
			if !strings.HasPrefix(err.Error(), "alpha_vantage: daily bars AAPL: ") {
				t.Errorf("error = %v, want it to say what was asked", err)
			}
		})
	}
}

func TestBrokenConnectionIsNoBadPayload(t *testing.T) {
	t.Parallel()
	for _, csv := range []bool{false, true} {
		body := io.MultiReader(strings.NewReader(document(goodBar)[:60]), brokenReader{})
		_, err := decode(csv, body)
		var got *providers.Error
		if !errors.As(err, &got) || got.Kind != providers.Transient || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("csv %t: error = %v, want kind Transient around io.ErrUnexpectedEOF", csv, err)
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestQuestion(t *testing.T) {
	t.Parallel()
	reach := func() market.Date {
		newest, err := market.NYSE().LastClosed(noon(), 0)
		if err != nil {
			t.Fatal(err)
		}
		d, err := market.NYSE().Back(newest, 98)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}()
	recent := market.Range{From: day(1, 2), To: day(3, 12)}
	deep := market.Range{From: market.NewDate(2001, 1, 2), To: day(3, 12)}
	edge := market.Range{From: market.NewDate(2001, 1, 2), To: reach}
	old := market.Range{From: market.NewDate(2001, 1, 2), To: reach - 1}
	for name, tc := range map[string]struct {
		o          alphavantage.Options
		history    bool
		window     market.Range
		size, kind string
	}{
		"free key":              {alphavantage.Options{}, false, old, "compact", "json"},
		"free key, history":     {alphavantage.Options{}, true, old, "compact", "json"},
		"recent":                {alphavantage.Options{Full: true}, false, recent, "compact", "json"},
		"the head is a wish":    {alphavantage.Options{Full: true}, false, deep, "compact", "json"},
		"the head is insisted":  {alphavantage.Options{Full: true}, true, deep, "full", "json"},
		"recent, history":       {alphavantage.Options{Full: true}, true, recent, "compact", "json"},
		"begins with the 100":   {alphavantage.Options{Full: true}, true, market.Range{From: reach, To: reach}, "compact", "json"},
		"begins before the 100": {alphavantage.Options{Full: true}, true, market.Range{From: reach - 1, To: reach}, "full", "json"},
		"ends within the 100":   {alphavantage.Options{Full: true}, false, edge, "compact", "json"},
		"ends before the 100":   {alphavantage.Options{Full: true}, false, old, "full", "json"},
		"comma separated":       {alphavantage.Options{CSV: true}, false, recent, "compact", "csv"},
		"comma separated, full": {alphavantage.Options{CSV: true, Full: true}, false, old, "full", "csv"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got *http.Request
			hc := &http.Client{Transport: vendorFunc(func(r *http.Request) (*http.Response, error) {
				got = r
				return nil, errors.New("enough seen")
			})}
			o := tc.o
			o.Now = noon
			c := alphavantage.New(hc, "https://vendor.example/", o)
			load := c.DailyBars
			if tc.history {
				load = c.History
			}
			if _, err := load(t.Context(), "BRK.B", tc.window); err == nil {
				t.Fatal("no error")
			}
			want := url.Values{"function": {"TIME_SERIES_DAILY"}, "symbol": {"BRK-B"}, "outputsize": {tc.size}, "datatype": {tc.kind}}
			if got.URL.Path != "/query" || got.URL.RawQuery != want.Encode() || got.Method != http.MethodGet {
				t.Errorf("asked %s %s, want GET /query?%s", got.Method, got.URL, want.Encode())
			}
		})
	}
}

func TestClockOutsideTheCalendar(t *testing.T) {
	t.Parallel()
	hc := &http.Client{Transport: vendorFunc(func(*http.Request) (*http.Response, error) {
		t.Error("a call was made")
		return nil, io.EOF
	})}
	c := alphavantage.New(hc, "https://vendor.example", alphavantage.Options{Full: true, Now: func() time.Time { return time.Date(2300, 1, 2, 0, 0, 0, 0, time.UTC) }})
	for _, load := range []func(context.Context, market.Symbol, market.Range) (market.Series, error){c.DailyBars, c.History} {
		_, err := load(t.Context(), "AAPL", market.Range{From: day(1, 2), To: day(3, 12)})
		if !errors.As(err, new(*market.UnknownYearError)) {
			t.Errorf("error = %v, want a *market.UnknownYearError", err)
		}
	}
}

func TestErrorsOfThePlainClient(t *testing.T) {
	t.Parallel()
	broken := errors.New("the wire is cut")
	for name, tc := range map[string]struct {
		base string
		err  error
		want string
	}{
		"way":     {"https://vendor.example", broken, "alpha_vantage: daily bars AAPL: the wire is cut"},
		"context": {"https://vendor.example", context.Canceled, "alpha_vantage: daily bars AAPL: context canceled"},
		"ours": {
			"https://vendor.example", &providers.Error{Provider: "alpha_vantage", Kind: providers.Quota, Err: errors.New("spent")},
			"alpha_vantage: daily bars AAPL: spent",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hc := &http.Client{Transport: vendorFunc(func(*http.Request) (*http.Response, error) { return nil, tc.err })}
			c := alphavantage.New(hc, tc.base, alphavantage.Options{})
			_, err := c.DailyBars(t.Context(), "AAPL", market.Range{From: day(1, 2), To: day(3, 12)})
			if err == nil || err.Error() != tc.want {
				t.Errorf("error = %v, want %s", err, tc.want)
			}
			if name == "context" && (errors.As(err, new(*providers.Error)) || !errors.Is(err, context.Canceled)) {
				t.Errorf("error = %#v, want the context's own", err)
			}
		})
	}
	c := alphavantage.New(http.DefaultClient, "http://%zz", alphavantage.Options{})
	if _, err := c.DailyBars(t.Context(), "AAPL", market.Range{}); err == nil || strings.Contains(err.Error(), "%zz") {
		t.Errorf("bad base URL: %v", err)
	}
}

func TestSign(t *testing.T) {
	t.Parallel()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://vendor.example/query?apikey=old&symbol=AAPL", nil)
	if err != nil {
		t.Fatal(err)
	}
	alphavantage.Sign("k+/=y")(r)
	if got := r.URL.Query()["apikey"]; !slices.Equal(got, []string{"k+/=y"}) {
		t.Errorf("apikey = %q, want the one key", got)
	}
	if r.URL.Query().Get("symbol") != "AAPL" {
		t.Error("the symbol is lost")
	}
}

//nolint:paralleltest // counts what the whole process allocates
func TestMemoryDoesNotGrowWithTheAnswer(t *testing.T) {
	bars := func(n int) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteString(",\n        ")
			}
			b.WriteString(strings.Replace(goodBar, "2026-03-12", (day(3, 12) - market.Date(i)).String(), 1))
		}
		return document(b.String())
	}
	beyond := func(n int) int64 {
		body := bars(n)
		const rounds = 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			if series, err := decode(false, strings.NewReader(body)); err != nil || len(series.Bars) != n {
				t.Fatalf("%d bars: %v", n, err)
			}
		}
		runtime.ReadMemStats(&after)
		return int64(after.TotalAlloc-before.TotalAlloc) / rounds
	}
	// 90 bars fit the room that is made for a compact answer, so what
	// grows is not the bars.
	small, large := beyond(9), beyond(90)
	if large-small > 8<<10 {
		t.Errorf("%d bytes for 9 bars, %d for 90", small, large)
	}
}

func ExampleNew() {
	hc := &http.Client{Transport: vendorFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(document(goodBar)))}, nil
	})}
	c := alphavantage.New(hc, "https://www.alphavantage.co", alphavantage.Options{})
	session := market.NewDate(2026, time.March, 12)
	series, err := c.DailyBars(context.Background(), "AAPL", market.Range{From: session, To: session})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(series.Source, series.Symbol, series.Bars[0].Date, series.Bars[0].Close)
	// Output: alpha_vantage AAPL 2026-03-12 11.1234
}
