package simulator

import (
	"bytes"
	"maps"
	"net/http"
	"slices"

	"github.com/alpha-oracle/worker/internal/market"
)

// Custom is a vendor of bars that is simulated by little more than the form of
// its answers. It has all faults of the form, of the way and of the values, and
// those of Says.
type Custom struct {
	// Ask reads a question.
	Ask func(*http.Request) Question
	// Spelling is the way in which the vendor writes symbols.
	Spelling market.Spelling
	// Render writes an answer: the symbol as it was asked for, and the bars,
	// oldest first. A date stands between quotes as 2006-01-02, or is not spoilt
	// by [BadDate].
	Render func(symbol string, bars []market.Bar) []byte
	// Says are the messages of the vendor. With one for [BadKey] a key that is
	// not Config.Key gets it, with one for [BadSymbol] a symbol that is not
	// listed.
	Says map[Fault]Message
}

// Question is a call for the bars of one symbol, as its parameters state it.
type Question struct {
	Key, Symbol string
	Window      market.Range
}

// Message is an answer that holds no bars; {key} in it stands for the key.
type Message struct {
	Status int
	Text   string
}

// NewSite returns a simulator of the vendor alone, at every path. Of c it uses
// Key, Through, Listed, Latency, Elsewhere and Now.
func NewSite(c Config, v Custom) *BarSite { return &BarSite{s: New(c), vendor: custom{v, c.Key}} }

// ServeHTTP implements [http.Handler].
func (b *BarSite) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.ask(w, r) }

type custom struct {
	Custom
	key string
}

func (custom) name() string       { return "custom" }
func (custom) limits() []barLimit { return nil }

func (c custom) read(a *barReply) Fault {
	q := c.Ask(a.r)
	a.key, a.asked, a.window = q.Key, q.Symbol, q.Window
	if c.says(BadKey) && (a.key == "" || c.key != "" && a.key != c.key) {
		return BadKey
	}
	symbol, err := market.ParseSpelled(c.Spelling, a.asked)
	if err == nil {
		a.symbol = symbol
		a.books = []symbolBook{{symbol, a.s.bookOf(symbol)}}
	}
	if c.says(BadSymbol) && (err != nil || a.books[0].listed > a.through) {
		return BadSymbol
	}
	return ""
}

func (c custom) says(f Fault) bool {
	_, ok := c.Says[f]
	return ok
}

// Values that no bar has. Where one is written, that of a fault takes its place.
const (
	oddPrice  = 987654.3211
	oddVolume = 9876543211
)

func oddDate() market.Date { return market.NewDate(1971, 11, 7) }

func (c custom) render(_ *barReply, s *barSheet) []byte {
	bars := make([]market.Bar, len(s.rows))
	var odd map[int]string
	for i, r := range s.rows {
		bars[i] = r.onto(market.Bar{Date: r.date})
		for col := range r.odd {
			odd = r.odd
			spoil(&bars[i], col)
		}
	}
	body := c.Render(s.ticker, bars)
	for col, text := range odd {
		written := [...]string{colVolume: "9876543211", colDate: `"` + oddDate().String() + `"`}
		from := "987654.3211"
		if col < len(written) && written[col] != "" {
			from = written[col]
		}
		body = bytes.Replace(body, []byte(from), []byte(text), 1)
	}
	return body
}

func spoil(b *market.Bar, col int) {
	switch col {
	case colDate:
		b.Date = oddDate()
	case colOpen:
		b.Open = oddPrice
	case colHigh:
		b.High = oddPrice
	case colLow:
		b.Low = oddPrice
	case colClose:
		b.Close = oddPrice
	case colVolume:
		b.Volume = oddVolume
	}
}

func (c custom) shapes() []barShape {
	shapes := append(barValues(), barEdit(WrongSymbol, func(_ *barReply, s *barSheet) { s.ticker = "WRONG" }))
	for _, fault := range slices.Sorted(maps.Keys(c.Says)) {
		shapes = append(shapes, says(fault, c.Says[fault].Status, c.Says[fault].Text))
	}
	return shapes
}
