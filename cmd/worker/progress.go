package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/providers/chain"
)

// logEvery is how many symbols pass between two progress lines in a log.
const logEvery = 25

// progress shows a run while it goes on: as a bar on a terminal, else as log
// lines. Its methods are not called concurrently.
type progress struct {
	log     *zap.Logger
	bars    *mpb.Progress
	bar     *mpb.Bar
	total   int
	seen    int
	done    int
	eta     func(left int) chain.ETA
	now     func() time.Time
	started time.Time
	// words is what the bar says at its end; the bar's own goroutine reads it.
	words atomic.Value
}

func (a *app) newProgress(what string, total int, eta func(left int) chain.ETA) *progress {
	p := &progress{log: a.log, total: total, eta: eta, now: a.now, started: a.now()}
	if total == 0 || !isTerminal(a.Stderr) {
		return p
	}
	p.show(what, a.Stderr)
	return p
}

// show draws the bar: count, rate, and the time at which the limits let the
// last symbol through.
func (p *progress) show(what string, w io.Writer) {
	p.words.Store(p.text())
	p.bars = mpb.New(mpb.WithOutput(w), mpb.WithWidth(40))
	p.bar = p.bars.AddBar(int64(p.total),
		mpb.PrependDecorators(decor.Name(what+" "), decor.CountersNoUnit("%d/%d")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return p.words.Load().(string) })))
}

// text is the rate so far and the end under all limits.
func (p *progress) text() string {
	minutes := p.now().Sub(p.started).Minutes()
	rate := 0.0
	if minutes > 0 {
		rate = float64(p.seen) / minutes
	}
	return fmt.Sprintf(" %.1f/min, %d failed, ETA %s", rate, p.seen-p.done, p.eta(p.total-p.seen))
}

// unit is told of each symbol as it ends.
func (p *progress) unit(u sweep.Unit) {
	p.seen++
	if u.Outcome.Done() {
		p.done++
	}
	if p.bar != nil {
		p.words.Store(p.text())
		p.bar.Increment()
		return
	}
	logUnit(p.log, u)
	if p.seen%logEvery == 0 || p.seen == p.total {
		p.log.Info("progress", zap.Int("of", p.total), zap.Int("seen", p.seen),
			zap.Int("failed", p.seen-p.done), zap.Stringer("eta", p.eta(p.total-p.seen)))
	}
}

// finish ends the bar.
func (p *progress) finish() {
	if p.bar == nil {
		return
	}
	p.bar.Abort(false)
	p.bars.Wait()
}

func logUnit(log *zap.Logger, u sweep.Unit) {
	log.Debug("symbol", zap.String("symbol", string(u.Symbol)), zap.String("outcome", string(u.Outcome)),
		zap.Int("rows", u.Rows), zap.String("message", u.Message))
}

// logUnit is told of the items of a job whose number is not known beforehand.
func (a *app) logUnit(part string, u sweep.Unit) { logUnit(a.log.With(zap.String("part", part)), u) }
