//go:build bench

package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/bench"
)

// TestFigureSlowClients measures /livez beside clients that never end their
// requests.
//
//nolint:paralleltest // it measures the machine
func TestFigureSlowClients(t *testing.T) {
	w := newWorld(t).inTheEvening()
	v := w.listen()
	longest := time.Duration(0)
	for range bench.Pick(500, 50) {
		c, err := net.Dial("tcp", strings.TrimPrefix(v.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nX-Slow: ")
	}
	for range 50 {
		begun := time.Now()
		if a := v.ask("GET", "/livez", ""); a.status != http.StatusOK {
			t.Fatalf("/livez: %d", a.status)
		}
		longest = max(longest, time.Since(begun))
	}
	bench.AtMost(t, "/livez beside 500 slow connections, the longest of 50", float64(longest)/1e6, 100, "ms")
}
