package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/alarm"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/secret"
)

// leastSecret is the shortest key of the webhook's signature.
const leastSecret = 16

// alarmConfig is who is told, and when bars are late.
type alarmConfig struct {
	WebhookURL, WebhookSecret, HeartbeatURL secret.Value
	// BarsDeadline is the time after a session's bars are final; 0: until the
	// next session opens.
	BarsDeadline time.Duration
}

func (l *loader) alarm() alarmConfig {
	c := alarmConfig{
		WebhookURL:    l.url("SA_ALARM__WEBHOOK_URL", "http", "https"),
		WebhookSecret: secret.New(l.text("SA_ALARM__WEBHOOK_SECRET")),
		HeartbeatURL:  l.url("SA_ALARM__HEARTBEAT_URL", "http", "https"),
	}
	if c.WebhookURL.IsSet() && len(c.WebhookSecret.Reveal()) < leastSecret {
		l.problem("SA_ALARM__WEBHOOK_URL is set, so SA_ALARM__WEBHOOK_SECRET has to be a key of %d characters or more, which the receiver knows too", leastSecret)
	}
	if text := l.text("SA_ALARM__BARS_DEADLINE"); text != "" {
		var err error
		if c.BarsDeadline, err = time.ParseDuration(text); err != nil || c.BarsDeadline < time.Minute {
			l.problem("SA_ALARM__BARS_DEADLINE is %q: want a time of a minute or more, as 90m or 12h, or nothing", text)
		}
	}
	return c
}

// secrets are what of it no output may hold.
func (c alarmConfig) secrets() []secret.Value {
	return []secret.Value{c.WebhookURL, c.WebhookSecret, c.HeartbeatURL}
}

// watchman tells what is wrong, and pings the heartbeat while bars are in time.
type watchman struct {
	*watch
	alarms alarm.Alarms
	pulse  alarm.Pulse
	// logged is the newest event of each kind that the log has.
	logged map[alarm.Kind]string
	client *http.Client
}

// startAlarms looks for causes of alarms until the returned function is called.
// It comes after startMetrics, which has the facts.
func (a *app) startAlarms(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { newWatchman(a.watch).keep(ctx) })
	return func() {
		cancel()
		looking.Wait()
	}
}

func newWatchman(of *watch) *watchman {
	w := &watchman{watch: of, client: alarm.NewClient(), logged: map[alarm.Kind]string{}}
	w.alarms = alarm.Alarms{Sender: newOwner(), Send: w.send, Redact: func(s string) string { return w.serves.Load().redact(s) }}
	return w
}

func (w *watchman) keep(ctx context.Context) {
	defer w.client.CloseIdleConnections()
	ticker := time.NewTicker(alarm.Every)
	defer ticker.Stop()
	for {
		w.step(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// step looks once.
func (w *watchman) step(ctx context.Context) {
	f := w.look(ctx)
	if ctx.Err() != nil {
		return // what could not be read is not lost
	}
	causes, unknown := w.causes(f)
	w.alarms.Step(ctx, w.now(), causes, unknown...)
	if f.bars != nil && f.bars.healthy && w.pulse.Due(w.now()) {
		w.beat(ctx)
	}
}

func (w *watchman) beat(ctx context.Context) {
	a := w.serves.Load()
	if !a.cfg.Alarm.HeartbeatURL.IsSet() {
		return
	}
	err := alarm.Heartbeat{URL: a.cfg.Alarm.HeartbeatURL, Client: w.client}.Ping(ctx)
	w.pulse.Pinged(w.now(), err)
	w.metrics.HeartbeatTried(err)
	if err != nil {
		a.log.Warn("no heartbeat", zap.String("error", a.redact(err.Error())))
	}
}

// send logs an event at its first try, and sends it if there is somebody to send
// it to.
func (w *watchman) send(ctx context.Context, e alarm.Event) error {
	a := w.serves.Load()
	w.logOnce(a.log, e)
	c := a.cfg.Alarm
	if !c.WebhookURL.IsSet() {
		return nil
	}
	err := alarm.Webhook{URL: c.WebhookURL, Key: c.WebhookSecret, Client: w.client, Now: w.now}.Send(ctx, e)
	w.metrics.AlarmTried(string(e.Kind), err)
	if err != nil {
		a.log.Warn("the alarm is not delivered, and is tried again", zap.String("kind", string(e.Kind)), zap.String("error", a.redact(err.Error())))
	}
	return err
}

func (w *watchman) logOnce(log *zap.Logger, e alarm.Event) {
	this := e.State + e.ID + e.At.String()
	if w.logged[e.Kind] == this {
		return
	}
	w.logged[e.Kind] = this
	for _, c := range e.Causes {
		log.Warn("alarm", zap.String("state", e.State), zap.String("kind", string(e.Kind)), zap.String("subject", c.Subject),
			zap.String("reason", c.Reason), zap.String("id", e.ID))
	}
}

// causes are what is wrong by the facts, and the kinds of which they do not tell.
func (w *watch) causes(f facts) (causes []alarm.Cause, unknown []alarm.Kind) {
	for server, up := range f.servers {
		if !up {
			// Each replica may have lost it alone, so each tells.
			causes = append(causes, alarm.Cause{Kind: alarm.ServerLost, Subject: server, Since: newOwner(), Reason: server + " does not answer"})
		}
	}
	if f.journal == nil {
		unknown = append(unknown, alarm.MissedPeriod, alarm.GaveUpPeriod)
	}
	for job, j := range f.journal {
		causes = append(causes, j.losses.Causes(job)...)
	}
	switch {
	case f.bars == nil:
		unknown = append(unknown, alarm.StaleBars)
	case !f.bars.healthy:
		b := f.bars.newest
		causes = append(causes, alarm.Cause{Kind: alarm.StaleBars, Subject: b.Session.String(), Reason: b.String()})
	}
	for _, p := range w.plans() {
		causes = append(causes, p.Causes()...)
	}
	return append(causes, w.refusals()...), unknown
}

// refusals are the providers that refuse the key.
func (w *watch) refusals() (causes []alarm.Cause) {
	w.heard.Lock()
	defer w.heard.Unlock()
	for provider, r := range w.refused {
		causes = append(causes, alarm.Cause{
			Kind: alarm.KeyRefused, Subject: provider, Since: market.DateOf(r.at.In(market.NewYork())).String(),
			Reason: fmt.Sprintf("since %s: %s", r.at.UTC().Format(time.RFC3339), r.reason),
		})
	}
	return causes
}
