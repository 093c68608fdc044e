package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/alpha-oracle/worker/internal/secret"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const (
	demoSymbols   = "AAPL,AMZN,BRK.B,GOOGL,JPM,META,MSFT,NVDA,TSLA,XOM"
	demoPerMinute = 300
	demoKey       = "demonstration-key"
	// demoSource is ohlcv.source of simulated bars, so that nobody takes
	// them for real ones.
	demoSource = "simulated"

	serveTime = 5 * time.Second
)

// startDemo turns the run, with --demo, into one against a simulator inside this process,
// with embedded stores in a directory of its own: simulated bars never meet
// real ones.
func (a *app) startDemo(ctx context.Context, f *runFlags) (end func(), err error) {
	if !f.demo {
		return func() {}, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	sim := simulator.New(simulator.Config{Now: a.now, PerMinute: demoPerMinute, Premium: true})
	server := newServer(sim)
	go func() { _ = server.Serve(listener) }()

	a.cfg.DataDir = filepath.Join(a.cfg.DataDir, "demo")
	a.cfg.RedisURL, a.cfg.DatabaseURL = secret.Value{}, secret.Value{}
	a.cfg.BaseURL = "http://" + listener.Addr().String()
	a.cfg.Key = secret.New(demoKey)
	a.cfg.PerMinute, a.cfg.PerDay = demoPerMinute, 0
	a.cfg.source, a.cfg.BarSources = demoSource, []string{alphavantage.Name}
	a.cfg.EDGAR = edgarConfig{
		UserAgent: "demonstration demo@example.com", BaseURL: a.cfg.BaseURL, DataURL: a.cfg.BaseURL, PerSecond: demoPerMinute / 60,
	}
	a.cfg.FINRA = finraConfig{a.cfg.BaseURL, demoPerMinute}
	if !f.symbols.set {
		f.symbols = once{value: demoSymbols, set: true}
	}
	a.log.Info("demonstration: simulated data (source of bars: " + demoSource + "), kept in " + a.cfg.DataDir)
	return func() { _ = server.Close() }, nil
}

func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: serveTime}
}

// serveUntil serves on listener until ctx ends.
func serveUntil(ctx context.Context, listener net.Listener, h http.Handler) error {
	server := newServer(h)
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
