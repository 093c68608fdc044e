package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/events"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/backfill"
	"github.com/alpha-oracle/worker/jobs/dailybars"
)

const (
	// barsLook is how often it is looked whether the last session's bars are in.
	barsLook = time.Minute
	// tellTime bounds what is told after a run: the run itself is over.
	tellTime = 10 * time.Second
	// journalLook is how many rows of the journal tell whether a breaker is open.
	journalLook = 1
)

// tellOf tells of a run that has ended what others should know.
func (a *app) tellOf(ctx context.Context, s *services, r sweep.Report) {
	if ctx.Err() != nil {
		return // it says nothing about the source or the data
	}
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	if r.Job == dailybars.Name || r.Job == backfill.Name {
		a.tellFeed(ctx, s, r)
	}
	a.raise(ctx, s, a.alerts(ctx, s, r)...)
}

func (a *app) tellFeed(ctx context.Context, s *services, r sweep.Report) {
	var err error
	switch answered, unreachable := reached(r); {
	case answered:
		_, err = s.feed.Back(ctx, r.Symbols)
	case unreachable != "":
		_, err = s.feed.Lost(ctx, a.redact(unreachable))
	}
	if err != nil {
		a.warn(err)
	}
}

// reached says whether a source has answered for any symbol of a run, and if
// none has, why.
func reached(r sweep.Report) (answered bool, unreachable string) {
	for outcome, n := range r.Outcomes {
		silent := outcome == sweep.ProviderError || outcome == sweep.Interrupted || outcome == sweep.NoSession
		answered = answered || n > 0 && !silent
	}
	i := slices.IndexFunc(r.Failures, func(f sweep.Failure) bool { return f.Class == sweep.ProviderError })
	if !answered && i >= 0 {
		unreachable = r.Failures[i].Message
		if unreachable == "" {
			unreachable = "no source of bars answers"
		}
	}
	return answered, unreachable
}

// watching calls serve and looks meanwhile whether the bars are in.
func (a *app) watching(ctx context.Context, s *services, serve func(context.Context)) {
	var watch sync.WaitGroup
	watch.Go(func() { a.watchBars(ctx, s) })
	serve(ctx)
	watch.Wait()
}

// watchBars opens and closes the breaker for stale data until ctx ends.
func (a *app) watchBars(ctx context.Context, s *services) {
	b := events.NewBreaker(events.StaleData, events.NewPublisher(s.rdb), barsJournal{s.db}, a.now)
	ticker := time.NewTicker(barsLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := a.lookAtBars(ctx, b); err != nil && ctx.Err() == nil {
			a.warn(err)
		}
	}
}

func (a *app) lookAtBars(ctx context.Context, b *events.Breaker) error {
	f := a.watch.look(ctx)
	if f.bars == nil {
		return f.err
	}
	return b.Set(ctx, !f.bars.healthy, f.bars.newest.Session.String(), "bars of "+f.bars.newest.String())
}

// barsJournal remembers in the journal since which session data are stale: its
// row has given up while they are, and is complete after.
type barsJournal struct{ db store.DB }

// Open implements [events.Journal].
func (j barsJournal) Open(ctx context.Context) (string, error) {
	rows, err := j.db.Periods(ctx, events.StaleData, journalLook)
	if err != nil || len(rows) == 0 || rows[0].State != store.GaveUp {
		return "", err
	}
	return rows[0].Period, nil
}

// NoteOpen implements [events.Journal].
func (j barsJournal) NoteOpen(ctx context.Context, period, reason string) (bool, error) {
	return j.note(ctx, period, store.GaveUp, reason)
}

// NoteClosed implements [events.Journal].
func (j barsJournal) NoteClosed(ctx context.Context, since, reason string) (bool, error) {
	return j.note(ctx, since, store.Complete, reason)
}

func (j barsJournal) note(ctx context.Context, period, state, reason string) (bool, error) {
	session, err := market.ParseDate(period)
	if err != nil {
		return false, err
	}
	hours, ok, err := market.NYSE().Session(session)
	if err != nil || !ok {
		return false, errors.Join(err, fmt.Errorf("%s is no session", period))
	}
	return j.db.NotePeriod(ctx, store.PeriodInfo{Job: events.StaleData, Period: period, State: state, Reason: reason, Tick: hours.Close})
}

func (a *app) eventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "events", Short: "Watch the channels that the worker and alpha-oracle talk on",
		Example: "  worker events tail", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.helpThenUsage(cmd, "name one of tail") },
	}
	var channels []string
	tail := &cobra.Command{
		Use: "tail", Short: "Print what is said on the channels, until stopped",
		Long: `Prints each message with the channel that it came on, until SIGINT or SIGTERM (exit
code 130 or 143). With --json each is a document of its own: at, channel and data. What
may have been missed while Redis was away is said on standard error.`,
		Example: "  worker events tail\n  worker events tail --channel risk:alert --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.tailEvents(cmd.Context(), channels) },
	}
	tail.Flags().StringSliceVar(&channels, "channel", nil, "only this channel (may be given several times; default: all)")
	cmd.AddCommand(tail)
	return cmd
}

func (a *app) tailEvents(ctx context.Context, channels []string) error {
	for _, channel := range channels {
		if !slices.Contains(events.Channels(), channel) {
			return usagef("--channel %q: want one of %v", channel, events.Channels())
		}
	}
	if len(channels) == 0 {
		channels = events.Channels()
	}
	if !a.cfg.RedisURL.IsSet() {
		return usagef("SA_REDIS__URL is not set: the events of the Redis inside a process never leave that process")
	}
	s := &services{}
	defer s.close()
	if err := a.openRedis(ctx, s); err != nil {
		return err
	}
	sub := events.Subscriber{
		Redis: s.rdb, Channels: slices.Compact(slices.Sorted(slices.Values(channels))), Now: a.now,
		Message: a.printEvent,
		Ready: func(gap events.Gap) {
			if gap.From.IsZero() {
				a.log.Info("listening", zap.Strings("channels", channels))
				return
			}
			a.log.Warn("messages may be missed", zap.Time("from", gap.From), zap.Time("to", gap.To))
		},
		Lost: a.warn,
	}
	err := sub.Run(ctx)
	if stopped, ok := errors.AsType[signalError](context.Cause(ctx)); ok {
		return exitError{stopped.exitCode()}
	}
	return err
}

func (a *app) printEvent(m events.Message) {
	at := a.now().UTC()
	if !a.asJSON {
		a.printf("%s  %-26s %s\n", at.Format("15:04:05"), m.Channel, printable(m.Payload))
		return
	}
	data := any(json.RawMessage(m.Payload))
	if !json.Valid([]byte(m.Payload)) {
		data = map[string]string{"raw": m.Payload}
	}
	if err := a.printJSON(map[string]any{"at": at, "channel": m.Channel, "data": data}); err != nil {
		a.warn(err)
	}
}
