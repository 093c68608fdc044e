//go:build bench && unix

package edgar_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/edgar"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// TestFigureForms measures the reading of forms, by the time of one core, beside
// the tokens of encoding/xml alone.
func TestFigureForms(t *testing.T) { //nolint:paralleltest // what runs beside it would be measured with it
	var simulated [][]byte
	for _, f := range simulator.Forms(forms(), yesterday()) {
		simulated = append(simulated, []byte(formXML(t, f.Accession)))
	}
	names, err := filepath.Glob(recorded + "form[345]*.xml")
	if err != nil {
		t.Fatal(err)
	}
	var largest []byte
	var real [][]byte
	for _, name := range names {
		doc, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		real = append(real, doc)
		if len(doc) > len(largest) {
			largest = doc
		}
	}
	parse := func(docs [][]byte) {
		for _, doc := range docs {
			if _, err := edgar.ParseOwnership(bytes.NewReader(doc)); err != nil {
				t.Fatal(err)
			}
		}
	}
	standard := func(docs [][]byte) {
		for _, doc := range docs {
			d := xml.NewDecoder(bytes.NewReader(doc))
			d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
			d.Strict = false
			for {
				if _, err := d.RawToken(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	rate := func(docs [][]byte, run func([][]byte)) float64 {
		size := 0
		for _, doc := range docs {
			size += len(doc)
		}
		rounds := bench.Pick(16<<20, 1<<20)/size + 1
		var rates []float64
		for range bench.Pick(7, 1) {
			runtime.GC()
			start := used(t)
			for range rounds {
				run(docs)
			}
			rates = append(rates, float64(size*rounds)/1e6/max(used(t)-start, 1e-9))
		}
		return middle(rates)
	}
	bench.AtLeast(t, fmt.Sprintf("forms: reading %d made by the simulator", len(simulated)), rate(simulated, parse), 50, "MB/s")
	if len(real) == 0 {
		return
	}
	ours := rate(real, parse)
	bench.AtLeast(t, fmt.Sprintf("forms: reading %d real ones", len(real)), ours, 50, "MB/s")
	bench.Note(t, "forms: the tokens of encoding/xml alone", rate(real, standard), "MB/s")
	bench.AtMost(t, fmt.Sprintf("forms: the largest of them, %d bytes", len(largest)),
		float64(len(largest))/rate([][]byte{largest}, parse)/1e3, 2, "ms")
}

// TestFigureFormsOfTwoWeeks measures a run of the alternative data: 500 issuers,
// 1,500 filings among 20,000 rows.
func TestFigureFormsOfTwoWeeks(t *testing.T) { //nolint:paralleltest // what runs beside it would be measured with it
	c := simulator.EDGARConfig{Symbols: market.SP500(), Forms: bench.Pick(150, 15), Foreign: bench.Pick(1700, 170)}
	b := newRig(t, simulator.Config{EDGAR: c}, patient)
	wanted := insiders(c.Symbols)
	filings, rows, days, lines := 0, 0, 0, 0
	runtime.GC()
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	before, most := heap.HeapAlloc, uint64(0)
	start := used(t)
	for day := yesterday() - 13; day <= yesterday(); day++ {
		if !market.TakesFilings(day) {
			continue
		}
		days++
		summary, err := b.client.DailyIndex(t.Context(), day, wanted, func(r edgar.IndexRow) error {
			f, err := b.client.Filing(t.Context(), r)
			filings++
			lines += len(f.Lines)
			if filings%100 == 0 {
				runtime.GC()
				runtime.ReadMemStats(&heap)
				most = max(most, heap.HeapAlloc)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		rows += summary.Rows
	}
	bench.Note(t, fmt.Sprintf("forms: %d lines of %d filings among %d rows, simulator and all", lines, filings, rows), used(t)-start, "CPU s")
	bench.AtMost(t, "forms: calls above one a day and one a filing", float64(len(b.sim.EDGARCalls())-days-filings), 0, "calls")
	bench.AtMost(t, "forms: live heap above that at the start, simulator and all", float64(most-min(before, most))/(1<<20), 32, "MiB")
	if days != 10 || filings != days*c.Forms {
		t.Errorf("%d filings of %d days", filings, days)
	}
}

// TestFigureIndex measures the reading of an index.
func TestFigureIndex(t *testing.T) { //nolint:paralleltest // what runs beside it would be measured with it
	c := simulator.EDGARConfig{Symbols: listed(), Forms: 100, Foreign: bench.Pick(20_000, 2000)}
	doc := serve(t, simulator.New(simulator.Config{Now: now, EDGAR: c}), "/Archives/edgar/daily-index/2026/QTR1/master.20260312.idx")
	var rates []float64
	for range bench.Pick(7, 1) {
		runtime.GC()
		start := used(t)
		for range 5 {
			_, err := answering(strings.NewReader(doc)).DailyIndex(t.Context(), yesterday(), insiders(listed()), func(edgar.IndexRow) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		rates = append(rates, float64(5*len(doc))/1e6/max(used(t)-start, 1e-9))
	}
	bench.Note(t, fmt.Sprintf("index: reading %d rows", strings.Count(doc, "\n")-10), middle(rates), "MB/s")
}
