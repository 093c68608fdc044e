package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/simulator/gateway"
)

// simulateFlags are the flags of simulate.
type simulateFlags struct {
	addr, gateway, through, key  string
	perSecond, perMinute, perDay int
	premium                      bool
	latency                      time.Duration
	faults                       []string
}

func (a *app) simulateCommand() *cobra.Command {
	var f simulateFlags
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Serve simulated provider data, for development",
		Long: `Serves Alpha Vantage's bars and fundamentals, the bars of Massive and Tiingo, the
SEC's facts and filings and FINRA's short interest in their own wire formats, with
Alpha Vantage's limits, and with the ways in which all of them fail; with --gateway
also the bars of an IB Gateway on a socket. The data are a function of symbol and
date: every start gives the same ones. The log of calls is at /_simulator/calls, the
busiest windows are at /_simulator/report; faults of the others are planned at
/_simulator/massive/faults, and so on for tiingo, edgar and finra. A POST to
/_simulator/lack?symbol=AAPL&date=2026-03-12 takes a bar away, one to
/_simulator/split?symbol=AAPL&on=2026-03-12&ratio=4 simulates a split.

Faults of Alpha Vantage's bars: ` + strings.Join(simulator.Faults(), ", ") + `

Of its fundamentals: ` + strings.Join(simulator.FaultsOf("OVERVIEW"), ", "),
		Example: `  worker simulate --addr 127.0.0.1:8090 --through 2026-03-12 --per-minute 300
  worker simulate --fault AAPL=html --fault MSFT=empty_object:1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := a.newSimulator(f)
			if err != nil {
				return err
			}
			listener, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", f.addr)
			if err != nil {
				return fmt.Errorf("--addr: %w", err)
			}
			if f.gateway != "" {
				end, err := a.serveGateway(cmd.Context(), f)
				if err != nil {
					return err
				}
				defer end()
			}
			if err := a.printAddress("http://" + listener.Addr().String()); err != nil {
				return err
			}
			return serveUntil(cmd.Context(), listener, server)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.addr, "addr", "127.0.0.1:8090", "address to serve on; port 0 picks a free one")
	flags.StringVar(&f.gateway, "gateway", "", "address of an IB Gateway's socket, such as 127.0.0.1:4002; empty: none")
	flags.StringVar(&f.through, "through", "", "newest session served (default: the newest that has closed)")
	flags.StringVar(&f.key, "key", "", "the only key that is accepted (default: any)")
	flags.IntVar(&f.perSecond, "per-second", 0, "calls in any second; 0: no limit")
	flags.IntVar(&f.perMinute, "per-minute", 0, "calls in any minute; 0: no limit")
	flags.IntVar(&f.perDay, "per-day", 0, "calls from midnight to midnight in New York; 0: no limit")
	flags.BoolVar(&f.premium, "premium", false, "serve outputsize=full")
	flags.DurationVar(&f.latency, "latency", 0, "wait before each answer")
	flags.StringArrayVar(&f.faults, "fault", nil, "SYMBOL=FAULT[:TIMES]; without TIMES always")
	return cmd
}

// serveGateway serves an IB Gateway's socket until end is called.
func (a *app) serveGateway(ctx context.Context, f simulateFlags) (end func(), err error) {
	c := gateway.Config{Latency: f.latency, Now: a.now}
	if f.through != "" {
		if c.Through, err = a.closedSession(f.through); err != nil {
			return nil, usagef("--through: %w", err)
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.gateway)
	if err != nil {
		return nil, fmt.Errorf("--gateway: %w", err)
	}
	server := gateway.New(c)
	go func() { _ = server.Serve(listener) }()
	a.log.Info("simulating IB Gateway at " + listener.Addr().String() + ": SA_BROKER__IBKR__HOST and SA_BROKER__IBKR__PORT, with ibkr among SA_DATA__BARS__SOURCES")
	return server.Close, nil
}

func (a *app) printAddress(url string) error {
	a.log.Info("simulating Alpha Vantage: SA_DATA__ALPHA_VANTAGE__BASE_URL=" + url +
		"; Massive: SA_DATA__MASSIVE__BASE_URL; Tiingo: SA_DATA__TIINGO__BASE_URL; the SEC: SA_DATA__EDGAR__BASE_URL and SA_DATA__EDGAR__DATA_BASE_URL; FINRA: SA_DATA__FINRA__BASE_URL")
	if a.asJSON {
		return a.printJSON(map[string]string{"url": url})
	}
	a.printf("%s\n", url)
	return nil
}

func (a *app) newSimulator(f simulateFlags) (*simulator.Server, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	c := simulator.Config{
		Key: f.key, PerSecond: f.perSecond, PerMinute: f.perMinute, PerDay: f.perDay,
		Premium: f.premium, Latency: f.latency, Now: a.now,
	}
	if f.through != "" {
		var err error
		if c.Through, err = a.closedSession(f.through); err != nil {
			return nil, usagef("--through: %w", err)
		}
	}
	server := simulator.New(c)
	for _, text := range f.faults {
		if err := addFault(server, text); err != nil {
			return nil, usagef("--fault %q: %w", text, err)
		}
	}
	return server, nil
}

// check refuses what cannot be meant: below zero nothing is limited.
func (f simulateFlags) check() error {
	limits := []struct {
		name  string
		value int
	}{{"--per-second", f.perSecond}, {"--per-minute", f.perMinute}, {"--per-day", f.perDay}}
	for _, l := range limits {
		if l.value < 0 {
			return usagef("%s is %d: want at least 0, which is no limit", l.name, l.value)
		}
	}
	if f.latency < 0 {
		return usagef("--latency is %s: want at least 0s", f.latency)
	}
	return nil
}

// closedSession reads the date of a session that is over.
func (a *app) closedSession(text string) (market.Date, error) {
	date, err := market.ParseDate(text)
	if err != nil {
		return 0, err
	}
	open, err := market.NYSE().IsSession(date)
	if err != nil {
		return 0, err
	}
	newest, err := market.NYSE().LastClosed(a.now(), 0)
	switch {
	case err != nil:
		return 0, err
	case !open:
		return 0, fmt.Errorf("%s is no session", date)
	case date > newest:
		return 0, fmt.Errorf("session %s has not closed yet: the newest that has is %s", date, newest)
	}
	return date, nil
}

// addFault reads SYMBOL=FAULT[:TIMES].
func addFault(server *simulator.Server, text string) error {
	name, rest, found := strings.Cut(text, "=")
	if !found {
		return fmt.Errorf("want SYMBOL=FAULT[:TIMES]")
	}
	symbol, err := market.ParseSymbol(name)
	if err != nil {
		return err
	}
	what, count, counted := strings.Cut(rest, ":")
	fault, err := simulator.ParseFault(what)
	if err != nil {
		return err
	}
	times := -1
	if counted {
		if times, err = strconv.Atoi(count); err != nil || times < 1 {
			return fmt.Errorf("want a number of times of at least 1, not %q", count)
		}
	}
	server.Fault(symbol, fault, times)
	return nil
}
