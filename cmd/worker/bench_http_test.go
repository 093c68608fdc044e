//go:build bench

package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
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

// TestFigureWatchedIngestion measures a run beside 50 dashboards, each with a
// WebSocket and a look at the status every five seconds, and a scrape a second. The
// limit is 50 calls a second, forty times that of a paid key: without one the
// simulator, the servers and the clients share two processors.
//
//nolint:paralleltest // it measures the machine
func TestFigureWatchedIngestion(t *testing.T) {
	w := newWorld(t).withOwnRedis().inTheEvening()
	w.env["SA_LOG__LEVEL"] = "info"
	v := w.listen()
	w.awaitPeriod(w.open(), "daily_bars", session, store.Complete)
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = "3000"
	symbols := market.SP500()[:bench.Pick(len(market.SP500()), 20)]
	load := func() time.Duration {
		begun := time.Now()
		if r, code := w.daily("--date", session, "--force", "--symbols", list(symbols)); code != exitOK {
			t.Fatalf("exit %d, %+v", code, r.Outcomes)
		}
		return time.Since(begun)
	}
	load()
	alone := bench.Median(bench.Pick(5, 1), load)
	ctx, end := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	every := func(d time.Duration, path string) {
		clients.Go(func() {
			ticker := time.NewTicker(d)
			defer ticker.Stop()
			for {
				v.ask("GET", path, "")
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
			}
		})
	}
	for range 50 {
		c, _, err := websocket.Dial(t.Context(), v.base+"/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.CloseNow() }()
		every(5*time.Second, "/api/v1/status")
	}
	every(time.Second, "/metrics")
	watched := bench.Median(bench.Pick(5, 1), load)
	end()
	clients.Wait()
	bench.AtMost(t, "a run beside 50 dashboards and a scrape a second, against one alone", watched.Seconds()/alone.Seconds(), 1.02, "times")
}
