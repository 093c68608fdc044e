package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

const adminPrefix = "/_simulator/"

// Report is what GET /_simulator/report returns.
type Report struct {
	Calls        int                   `json:"calls"`
	MaxPerSecond int                   `json:"max_per_second"`
	MaxPerMinute int                   `json:"max_per_minute"`
	MaxPerDay    int                   `json:"max_per_day"`
	BySymbol     map[market.Symbol]int `json:"by_symbol"`
	Violations   []string              `json:"violations"`
}

// Report sums the calls up; a day here is any 24 hours.
func (s *Server) Report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Report{
		Calls:        len(s.log.calls),
		MaxPerSecond: s.log.most(time.Second),
		MaxPerMinute: s.log.most(time.Minute),
		MaxPerDay:    s.log.most(24 * time.Hour),
		BySymbol:     map[market.Symbol]int{},
		Violations:   append([]string{}, s.log.violations...),
	}
	for _, c := range s.log.calls {
		r.BySymbol[c.Symbol]++
	}
	return r
}

// adminRoutes lets another process look at the calls, and plan faults,
// lacks and splits.
func (s *Server) adminRoutes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+adminPrefix+"calls", func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, append([]Call{}, s.Calls()...))
	})
	mux.HandleFunc("GET "+adminPrefix+"report", func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, s.Report())
	})
	mux.HandleFunc("GET "+adminPrefix+"faults", func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, allFaults())
	})
	mux.HandleFunc("POST "+adminPrefix+"faults", s.planFault)
	mux.HandleFunc("POST "+adminPrefix+"lack", s.planLack)
	mux.HandleFunc("POST "+adminPrefix+"split", s.planSplit)
	mux.HandleFunc("POST "+adminPrefix+"reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func (s *Server) planFault(w http.ResponseWriter, r *http.Request) {
	symbol, fault, times, err := parsePlan(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.Fault(symbol, fault, times)
	w.WriteHeader(http.StatusNoContent)
}

func parsePlan(r *http.Request) (symbol market.Symbol, f Fault, times int, err error) {
	if f, err = ParseFault(r.FormValue("fault")); err != nil {
		return "", "", 0, err
	}
	if text := r.FormValue("symbol"); text != "" && text != "*" {
		if symbol, err = market.ParseSymbol(text); err != nil {
			return "", "", 0, err
		}
	}
	times = 1
	if text := r.FormValue("times"); text != "" {
		if times, err = strconv.Atoi(text); err != nil || times == 0 {
			return "", "", 0, fmt.Errorf("times %q: want a number of calls, or -1 for all", text)
		}
	}
	return symbol, f, times, nil
}

func sendJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
