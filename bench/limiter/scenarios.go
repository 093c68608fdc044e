package main

import (
	"context"
	"fmt"
	"time"
)

const (
	processes = 3
	// horizon is the limiter's own default, backfillHorizon what it leaves of
	// it to backfill, longHorizon one that never ends a batch early.
	horizon         = 250 * time.Millisecond
	backfillHorizon = 100 * time.Millisecond
	longHorizon     = 10 * time.Second
)

// The quotas of the scenarios, whose rates are 50, 500, 200, 0.5 and 2 a second.
func fifty() quota       { return quota{Limit: 54, Burst: 5, Length: time.Second - margin} }
func fiveHundred() quota { return quota{Limit: 519, Burst: 20, Length: time.Second - margin} }
func twoHundred() quota  { return quota{Limit: 209, Burst: 10, Length: time.Second - margin} }
func slow() quota        { return quota{Limit: 5, Burst: 1, Length: 10*time.Second - margin} }
func twoASecond() quota  { return quota{Limit: 2, Burst: 1, Length: time.Second - margin} }

// crowd is a scenario in which many waiters of three processes call in a closed
// loop.
func (b *bench) crowd(title string, q quota, waiters int, warm, measured time.Duration) scenario {
	warm, measured = b.sizes.span(warm), b.sizes.span(measured)
	return scenario{
		title: title,
		task:  task{Peer: peerOurs, Quota: q, Warm: warm, Run: warm + measured},
		parts: split(waiters, processes),
	}
}

// contention measures goals 4 to 9: what happens when there are more callers
// than tokens.
func (b *bench) contention(ctx context.Context) error {
	for _, part := range []func(context.Context) error{
		b.fast, b.slowly, b.cancellations, b.keyLoss, b.pause, b.crash, b.priority,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	b.report.admission()
	return nil
}

// fast measures goals 4 and 5 at two rates, with the peers.
func (b *bench) fast(ctx context.Context) error {
	for _, rate := range []struct {
		name           string
		quota          quota
		warm, measured time.Duration
	}{
		{"50/s", fifty(), 3 * time.Second, 16 * time.Second},
		{"500/s", fiveHundred(), time.Second, 7 * time.Second},
	} {
		var plays []*play
		for _, who := range []struct {
			name    string
			peer    string
			horizon time.Duration
		}{
			{"limiter, H 250 ms", peerOurs, horizon},
			{"limiter, H 10 s", peerOurs, longHorizon},
			{"redis_rate + RetryAfter", peerRedisRate, 0},
			{"throttled + RetryAfter", peerThrottled, 0},
		} {
			s := b.crowd(rate.name+": "+who.name, rate.quota, many, rate.warm, rate.measured)
			s.Peer, s.Horizon = who.peer, who.horizon
			p, err := b.play(ctx, s)
			if err != nil {
				return err
			}
			plays = append(plays, p)
		}
		b.report.contended(rate.name, plays[0], plays[1], plays[2], plays[3])
	}
	return nil
}

// slowly measures goal 4 where a token takes seconds.
func (b *bench) slowly(ctx context.Context) error {
	p, err := b.play(ctx, b.crowd("0.5/s: limiter, 6 waiters", slow(), 6, 4*time.Second, 26*time.Second))
	if err != nil {
		return err
	}
	b.report.slow(p)
	return nil
}

// cancellations measures goal 7.
func (b *bench) cancellations(ctx context.Context) error {
	s := b.crowd("200/s: limiter, 40 % cancelled", twoHundred(), many, time.Second, 10*time.Second)
	s.Cancelled, s.CancelWithin = 0.4, 300*time.Millisecond
	p, err := b.play(ctx, s)
	if err != nil {
		return err
	}
	b.report.cancelled(p)
	return nil
}

// keyLoss measures the first part of goal 8: everything in Redis is deleted,
// several times.
func (b *bench) keyLoss(ctx context.Context) error {
	s := b.crowd("50/s: limiter, keys lost", fifty(), many, 2*time.Second, 10*time.Second)
	s.disturb = func(ctx context.Context, p *play) error {
		const losses = 5
		for i := range losses {
			at := p.start.Add(p.Warm + time.Duration(i)*(p.Run-p.Warm)/losses)
			if err := sleep(ctx, at.Sub(b.now())); err != nil {
				return err
			}
			if err := p.readSlots(ctx, true); err != nil {
				return err
			}
		}
		return nil
	}
	p, err := b.play(ctx, s)
	if err != nil {
		return err
	}
	b.report.lostKeys(p)
	return nil
}

// pause measures the second part of goal 8: a provider asks one of the
// processes to hold back.
func (b *bench) pause(ctx context.Context) error {
	s := b.crowd("50/s: limiter, 3 pauses", fifty(), many, 2*time.Second, 10*time.Second)
	s.PauseFor = b.sizes.span(1500 * time.Millisecond)
	for i := range 3 {
		s.parts[0].pauses = append(s.parts[0].pauses, s.Warm+time.Duration(i)*(s.Run-s.Warm)/3)
	}
	p, err := b.play(ctx, s)
	if err != nil {
		return err
	}
	b.report.paused(p)
	return nil
}

// crash measures the third part of goal 8: one of the processes is killed.
func (b *bench) crash(ctx context.Context) error {
	s := b.crowd("50/s: limiter, 1 process killed", fifty(), many, 3*time.Second, 7*time.Second)
	s.disturb = func(ctx context.Context, p *play) error {
		at := p.start.Add(p.Warm + (p.Run-p.Warm)/3)
		if err := sleep(ctx, at.Sub(b.now())); err != nil {
			return err
		}
		return p.processes[len(p.processes)-1].kill()
	}
	p, err := b.play(ctx, s)
	if err != nil {
		return err
	}
	b.report.crashed(p)
	return nil
}

// priority measures goal 9: a daily job beside a backfill that takes all it can
// get. The job runs in the first process, and in one that has no backfill.
func (b *bench) priority(ctx context.Context) error {
	for _, rate := range []struct {
		name                  string
		quota                 quota
		every, warm, measured time.Duration
		peer                  bool
	}{
		{"50/s", fifty(), 100 * time.Millisecond, 3 * time.Second, 15 * time.Second, true},
		{"2/s", twoASecond(), 2 * time.Second, 2 * time.Second, 28 * time.Second, false},
	} {
		s := b.crowd(rate.name+": limiter, daily job under backfill", rate.quota, many, rate.warm, rate.measured)
		s.Backfill = true
		s.parts = append(s.parts, part{})
		s.parts[0].daily, s.parts[processes].daily = rate.every, rate.every
		ours, err := b.play(ctx, s)
		if err != nil {
			return err
		}
		var theirs *play
		if rate.peer {
			s.Peer, s.title = peerRedisRate, fmt.Sprintf("%s: redis_rate, daily job under backfill", rate.name)
			if theirs, err = b.play(ctx, s); err != nil {
				return err
			}
		}
		b.report.daily(rate.name, ours, theirs)
	}
	return nil
}
