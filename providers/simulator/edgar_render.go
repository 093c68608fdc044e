package simulator

import (
	"fmt"
	"strconv"

	"github.com/alpha-oracle/worker/internal/market"
)

// dossier is a companyfacts document before it is written: its parts are text
// where a fault may want to write what no number can hold.
type dossier struct {
	cik     string // a number, or a text in quotes
	name    string
	facts   []market.Fact
	value   string // in place of the value of the first wanted fact
	end     string
	accn    string
	padding int // bytes to reach with concepts that nobody wants
}

// json writes the document without blanks, as the SEC does.
func (d *dossier) json(cik int, day market.Date) []byte {
	b := make([]byte, 0, max(64<<10, d.padding+d.padding/16))
	b = fmt.Appendf(b, `{"cik":%s,"entityName":%q,"facts":{`, d.cik, d.name)
	var taxonomy, name, unit string
	for i := range d.facts {
		f := &d.facts[i]
		switch {
		case f.Taxonomy != taxonomy:
			if i > 0 {
				b = append(b, "]}}},"...)
			}
			b = fmt.Appendf(b, `%q:{`, f.Taxonomy)
			b = openConcept(b, f.Concept, f.Unit)
		case f.Concept != name:
			b = append(b, "]}},"...)
			b = openConcept(b, f.Concept, f.Unit)
		case f.Unit != unit:
			b = fmt.Appendf(b, `],%q:[`, f.Unit)
		default:
			b = append(b, ',')
		}
		b = d.fact(b, i)
		taxonomy, name, unit = f.Taxonomy, f.Concept, f.Unit
	}
	if len(d.facts) > 0 {
		b = append(b, "]}}"...)
		b = pad(b, cik, day, d.padding)
		b = append(b, '}')
	}
	return append(b, "}}"...)
}

// openConcept writes what comes before a concept's facts. Custom concepts have
// neither label nor description.
func openConcept(b []byte, name, unit string) []byte {
	if unit == "segment" {
		return fmt.Appendf(b, `%q:{"label":null,"description":null,"units":{%q:[`, name, unit)
	}
	return fmt.Appendf(b, `%q:{"label":"%s, \"as reported\"","description":"Amount of %s, made up for tests {[\"]}.","units":{%q:[`, name, name, name, unit)
}

// fact writes the fact of an index, with the changes that a fault asks for.
func (d *dossier) fact(b []byte, i int) []byte {
	f := &d.facts[i]
	end, accn, value := f.End.String(), f.Accession, ""
	if i == 0 {
		value = d.value
		if d.end != "" {
			end = d.end
		}
		if d.accn != "" {
			accn = d.accn
		}
	}
	if value == "" {
		value = figure(f.Value)
	}
	return appendFact(b, f, end, value, accn, i%3 == 0)
}

func appendFact(b []byte, f *market.Fact, end, value, accn string, framed bool) []byte {
	b = append(b, '{')
	if f.Start != 0 {
		b = append(b, `"start":"`...)
		b = append(b, f.Start.String()...)
		b = append(b, `",`...)
	}
	b = append(b, `"end":"`...)
	b = append(b, end...)
	b = append(b, `","val":`...)
	b = append(b, value...)
	b = append(b, `,"accn":"`...)
	b = append(b, accn...)
	b = append(b, `","fy":`...)
	b = strconv.AppendInt(b, int64(f.Filed.Year()), 10)
	// Not every filing says which fiscal period it is for.
	if f.Form == "10-K/A" {
		b = append(b, `,"fp":null,"form":"`...)
	} else {
		b = append(b, `,"fp":"FY","form":"`...)
	}
	b = append(b, f.Form...)
	b = append(b, `","filed":"`...)
	b = append(b, f.Filed.String()...)
	if framed {
		b = append(b, `","frame":"CY`...)
		b = strconv.AppendInt(b, int64(f.End.Year()), 10)
	}
	return append(b, `"}`...)
}

// figure writes whole numbers without a point.
func figure(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// pad appends concepts of the last taxonomy until the document has the size.
func pad(b []byte, cik int, day market.Date, size int) []byte {
	if len(b) >= size {
		return b
	}
	reports := filings(cik, day)
	for n := uint64(0); len(b) < size; n++ {
		c := concept{taxonomy: "us-gaap", name: fmt.Sprintf("PaddingOfReport%05d", n), unit: "USD", shape: flow}
		b = append(b, ',')
		b = openConcept(b, c.name, c.unit)
		facts := c.facts(cik, 1000+n, reports)
		for i := range facts {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendFact(b, &facts[i], facts[i].End.String(), figure(facts[i].Value), facts[i].Accession, i%3 == 0)
		}
		b = append(b, "]}}"...)
	}
	return b
}

// tickerFile writes company_tickers.json.
func tickerFile(of []issuer, disputed bool) []byte {
	b := []byte{'{'}
	n := 0
	row := func(cik, ticker, title string) {
		if n > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `"%d":{"cik_str":%s,"ticker":%q,"title":%q}`, n, cik, ticker, title)
		n++
	}
	for i, is := range of {
		number := strconv.Itoa(is.cik)
		if i%2 == 1 {
			number = fmt.Sprintf(`"%010d"`, is.cik)
		}
		for _, s := range is.symbols {
			row(number, s.In(market.SEC), entityName(is.cik))
		}
	}
	if disputed {
		row("777777777", of[0].symbols[0].In(market.SEC), "ANOTHER OWNER INC.")
		row("777777777", "not a ticker", "NO TICKER INC.")
		row("0", "ZERO", "NO NUMBER INC.")
		row(`"777A"`, "LETTER", "NO DIGITS INC.")
	}
	return append(b, '}')
}

func entityName(cik int) string { return fmt.Sprintf("Simulated Issuer %d & Co. \"S\"", cik) }
