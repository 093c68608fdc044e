//go:build bench && unix

package edgar_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// TestFigureFacts measures the way from an issuer's document to its facts,
// beside the one that the standard library offers. The times are those of one
// core, the collector's part with them, so a busy machine does not lengthen
// them much.
func TestFigureFacts(t *testing.T) { //nolint:paralleltest // what runs beside it would be measured with it
	cik := simulator.CIK("AAPL")
	doc := companyFacts(t, cik, bench.Pick(30<<20, 1<<20))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(doc)
	_ = z.Close()

	count := func(wanted func(string, string) bool, body func() io.Reader) func() int {
		return func() int {
			_, summary, err := decodeFacts(cik, body(), wanted)
			if err != nil {
				t.Fatal(err)
			}
			return summary.Facts
		}
	}
	plain := func() io.Reader { return bytes.NewReader(doc) }
	unzip := func() io.Reader {
		r, err := gzip.NewReader(bytes.NewReader(zipped.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const standard, ours, unzipped = 0, 1, 3 // places in ways
	ways := []struct {
		name string
		run  func() int
		took []float64 // seconds, by round
	}{
		{name: "encoding/json, the whole structure", run: func() int { return standardFacts(t, doc) }},
		{name: "edgar, what ratios need", run: count(market.IsNeeded, plain)},
		{name: "edgar, all facts", run: count(all, plain)},
		{name: "edgar, what ratios need, from gzip", run: count(market.IsNeeded, unzip)},
		{name: "gzip alone", run: func() int {
			n, _ := io.Copy(io.Discard, unzip())
			return int(n)
		}},
	}
	// All ways in each round, so that a busy moment meets all of them.
	for range bench.Pick(7, 1) {
		for i := range ways {
			runtime.GC()
			start := used(t)
			if ways[i].run() == 0 {
				t.Fatalf("%s: nothing", ways[i].name)
			}
			ways[i].took = append(ways[i].took, used(t)-start)
		}
	}
	rate := func(i int) float64 { return float64(len(doc)) / middle(ways[i].took) / 1e6 }
	for i, w := range ways {
		bench.Note(t, "facts: "+w.name, middle(w.took)*1e3, fmt.Sprintf("CPU ms, %.0f MB/s", rate(i)))
	}
	ratios := make([]float64, len(ways[ours].took))
	for i := range ratios {
		ratios[i] = ways[standard].took[i] / ways[ours].took[i]
	}
	bench.AtLeast(t, fmt.Sprintf("facts: reading %d MB", len(doc)>>20), rate(ours), 100, "MB/s")
	bench.AtLeast(t, "facts: the same with its decompression", rate(unzipped), 100, "MB/s")
	bench.AtLeast(t, "facts: times as fast as encoding/json", middle(ratios), 4, "x")
	bench.AtMost(t, "facts: peak heap, what ratios need", peak(t, cik, doc, market.IsNeeded), 32, "MiB")
	bench.AtMost(t, "facts: peak heap, all facts", peak(t, cik, doc, all), 32, "MiB")
	bench.Note(t, "facts: peak heap of encoding/json", standardPeak(t, doc), "MiB")
}

// used returns the seconds that all cores have spent on this process.
func used(t *testing.T) float64 {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
}

func middle(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// companyFacts returns the simulator's document, filled up to size.
func companyFacts(t *testing.T, cik, size int) []byte {
	t.Helper()
	s := simulator.New(simulator.Config{Now: now, EDGAR: simulator.EDGARConfig{Padding: size}})
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("/api/xbrl/companyfacts/CIK%010d.json", cik), nil)
	r.Header.Set("User-Agent", agent)
	s.ServeHTTP(w, r)
	return bytes.Clone(w.Body.Bytes())
}

// peak returns the greatest heap, garbage and all, that one reading adds to
// what was there, in MiB.
func peak(t *testing.T, cik int, doc []byte, wanted func(string, string) bool) float64 {
	t.Helper()
	body := newWatched(bytes.NewReader(doc))
	_, err := answering(body).Facts(t.Context(), cik, wanted, func(market.Fact) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return body.peak()
}

func standardPeak(t *testing.T, doc []byte) float64 {
	t.Helper()
	body := newWatched(bytes.NewReader(doc))
	var v standardDocument
	if err := json.NewDecoder(body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	body.look()
	runtime.KeepAlive(v)
	return body.peak()
}

// watched looks at the heap after every 64 KiB that are read.
type watched struct {
	from         io.Reader
	unseen       int
	before, most uint64
}

func newWatched(from io.Reader) *watched {
	w := &watched{from: from}
	runtime.GC()
	w.look()
	w.before = w.most
	return w
}

func (w *watched) look() {
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	w.most = max(w.most, heap.HeapAlloc)
}

func (w *watched) peak() float64 { return float64(w.most-w.before) / (1 << 20) }

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if w.unseen += n; w.unseen > 64<<10 || err != nil {
		w.unseen = 0
		w.look()
	}
	return n, err
}

// standardDocument is what one writes without a thought for memory.
type standardDocument struct {
	CIK   any    `json:"cik"`
	Name  string `json:"entityName"`
	Facts map[string]map[string]struct {
		Label, Description *string
		Units              map[string][]struct {
			Start, End, Accn string
			Val              float64
			FY               *int
			FP               *string
			Form, Filed      string
			Frame            string
		}
	} `json:"facts"`
}

func standardFacts(t *testing.T, doc []byte) int {
	t.Helper()
	var v standardDocument
	if err := json.NewDecoder(bytes.NewReader(doc)).Decode(&v); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, concepts := range v.Facts {
		for _, c := range concepts {
			for _, facts := range c.Units {
				n += len(facts)
			}
		}
	}
	return n
}
