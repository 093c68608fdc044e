package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/schedule"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/ibkr"
	"github.com/alpha-oracle/worker/providers/massive"
	"github.com/alpha-oracle/worker/providers/tiingo"
)

const (
	// littleSpace is from where a data directory is called nearly full, noSpace
	// from where the next run may not fit: a history of 500 symbols takes about
	// 200 MB.
	littleSpace = 1 << 30
	noSpace     = 100 << 20
	// mounted is where containers have their secrets, each to itself.
	mounted = "/run/secrets/"
	// tryTime bounds one call of --online.
	tryTime = 30 * time.Second
)

// checkKeys: a run of daily bars needs one source of bars that has its key.
func (a *app) checkKeys() []check {
	checks := []check{a.checkKey()}
	for _, s := range []struct {
		name   string
		is     bool
		limits string
	}{
		{massive.Name, a.cfg.Massive.Key.IsSet(), fmt.Sprintf("%d calls a minute", a.cfg.Massive.PerMinute)},
		{tiingo.Name, a.cfg.Tiingo.Key.IsSet(), fmt.Sprintf("%d calls an hour, %s a day", a.cfg.Tiingo.PerHour, dayLimit(a.cfg.Tiingo.PerDay))},
	} {
		if s.is {
			checks = append(checks, check{s.name + " key", stateOK, "set; " + s.limits, ""})
		}
	}
	if sources := a.cfg.barSources(); !slices.ContainsFunc(sources, func(name string) bool { return a.cfg.keyless(name) == "" }) {
		checks[0].State = stateFailed
	}
	return checks
}

// checkSchedule says what may surprise about the schedules.
func (a *app) checkSchedule() check {
	c := a.cfg.Schedule
	if !c.Enabled {
		return check{"schedule", stateWarning, "SA_SCHEDULER__ENABLED is false", "set it to true for worker serve; runs by hand do not need it"}
	}
	var notes []string
	for _, s := range []schedule.Schedule{c.DailyBars, c.Weekly, c.Biweekly} {
		notes = append(notes, s.Notes(a.now())...)
	}
	if len(notes) > 0 {
		return check{"schedule", stateWarning, strings.Join(notes, "\n"), "choose another time (SA_SCHEDULER__*) if that is not what you mean"}
	}
	return check{"schedule", stateOK, "next daily bars: " + c.DailyBars.Next(a.now()).Format("2006-01-02 15:04 MST"), ""}
}

// checkZones: with wrong zone data every session's date and every day's quota
// would be wrong too.
func checkZones() check {
	_, winter := time.Date(2026, 3, 8, 6, 59, 59, 0, time.UTC).In(market.NewYork()).Zone()
	_, summer := time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC).In(market.NewYork()).Zone()
	if winter != -5*3600 || summer != -4*3600 {
		return check{
			"zone data", stateFailed, "America/New_York does not change its clocks on 2026-03-08",
			"correct the zone files of this machine, or unset ZONEINFO",
		}
	}
	return check{"zone data", stateOK, "America/New_York is as it should be", ""}
}

// checkSecretFiles: who can read a file with a key has it, and who can write it
// can exchange it.
func (a *app) checkSecretFiles() check {
	if runtime.GOOS == "windows" {
		return check{"secret files", stateOK, "not looked at on Windows", ""}
	}
	paths, open := a.secretFiles(), []string{}
	for _, path := range paths {
		if problem := openTo(path); problem != "" {
			open = append(open, path+": "+problem)
		}
	}
	switch {
	case len(open) > 0:
		return check{"secret files", stateWarning, strings.Join(open, "\n"), "chmod 600, or 640 with a group of the worker's own"}
	case len(paths) == 0:
		return check{"secret files", stateOK, "none is used", ""}
	}
	return check{"secret files", stateOK, strings.Join(paths, "\n"), ""}
}

// secretFiles are the files that secrets were read from.
func (a *app) secretFiles() []string {
	env, paths := environment(a.Environ), []string{}
	for _, s := range settings() {
		if !s.secret {
			continue
		}
		if path := env[s.env+"_FILE"]; path != "" {
			paths = append(paths, path)
		} else if path, ok := strings.CutPrefix(a.cfg.fromWhere[s.env], "file "); ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// openTo says who else can read or write a file; "" for nobody.
func openTo(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	dir, err := os.Stat(filepath.Dir(path))
	closed := err == nil && dir.Mode().Perm()&0o001 == 0 || strings.HasPrefix(path, mounted)
	switch mode := info.Mode().Perm(); {
	case closed:
		return ""
	case mode&0o022 != 0:
		return fmt.Sprintf("others can write to it (%s)", fs.FileMode(mode))
	case mode&0o004 != 0:
		return fmt.Sprintf("everybody can read it (%s)", fs.FileMode(mode))
	}
	return ""
}

// checkHTTP: what worker serve would refuse to open.
func (a *app) checkHTTP() check {
	if err := a.cfg.HTTP.check(); err != nil {
		return check{"http address", stateFailed, err.Error(), "set SA_HTTP__TOKEN_FILE, or SA_HTTP__ADDR to 127.0.0.1:8080"}
	}
	return check{"http address", stateOK, a.cfg.HTTP.Addr, ""}
}

// checkSpace looks at the disk on which the embedded database grows.
func (a *app) checkSpace() check {
	free, err := freeSpace(a.cfg.DataDir)
	c := check{"disk space", stateOK, fmt.Sprintf("%d MB are free for %s", free>>20, a.cfg.DataDir), ""}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		c.Found = "not looked at on " + runtime.GOOS
	case err != nil:
		c.State, c.Found, c.Advice = stateWarning, err.Error(), "see to it that SA_DATA_DIR can be looked at"
	case free < noSpace:
		c.State, c.Advice = stateFailed, "make room, or set SA_DATA_DIR to a larger disk"
	case free < littleSpace:
		c.State, c.Advice = stateWarning, "make room, or set SA_DATA_DIR to a larger disk"
	}
	return c
}

// serverClock is a database with a clock of its own.
type serverClock interface {
	Clock(ctx context.Context) (time.Time, error)
}

// checkDatabaseClock: leases and the days of quotas are reckoned by it.
func (a *app) checkDatabaseClock(ctx context.Context, db serverClock) check {
	theirs, err := db.Clock(ctx)
	if err != nil {
		return check{"database clock", stateFailed, err.Error(), "see to it that the database answers"}
	}
	skew := a.now().Sub(theirs).Round(time.Millisecond)
	c := check{"database clock", stateOK, fmt.Sprintf("%s from the database's", skew), ""}
	if skew.Abs() > clockSkew {
		c.State, c.Advice = stateWarning, "let both machines keep time by NTP"
	}
	return c
}

// tryKeys spends one call of each source of bars to see whether its key is
// taken.
func (a *app) tryKeys(ctx context.Context, s *services) []check {
	release, err := a.callingRights(ctx, s)
	if err != nil {
		return []check{{"online", stateWarning, err.Error(), "try again when the other worker has ended"}}
	}
	defer release()
	if err := s.ready(ctx, false); err != nil {
		return []check{{"online", stateWarning, err.Error(), "worker migrate; calls are written down before they are made"}}
	}
	session, err := market.NYSE().LastClosed(a.now(), settleTime)
	if err != nil {
		return []check{{"online", stateFailed, err.Error(), "update the worker: its calendar has ended"}}
	}
	sources, err := a.bars(ctx, s, "")
	if err != nil {
		return []check{{"online", stateFailed, err.Error(), "correct the configuration of the sources"}}
	}
	defer sources.close()
	var checks []check
	for _, source := range sources.all {
		checks = append(checks, trySource(ctx, source, session))
	}
	return checks
}

// triedSymbol is one that every source has.
const triedSymbol = "IBM"

func trySource(ctx context.Context, source *barSource, session market.Date) check {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	c := check{source.name + " online", stateOK, "answers", ""}
	_, err := source.bars.DailyBars(ctx, triedSymbol, market.Range{From: session, To: session})
	if err == nil {
		return c
	}
	c.State, c.Found, c.Advice = stateWarning, err.Error(), "try again later"
	if e, ok := errors.AsType[*providers.Error](err); ok {
		switch e.Kind {
		case providers.Rejected:
			c.State, c.Advice = stateFailed, cmp.Or(map[string]string{
				alphavantage.Name: "correct SA_ALPHA_VANTAGE_API_KEY", massive.Name: "correct SA_MASSIVE_API_KEY", tiingo.Name: "correct SA_TIINGO_API_KEY",
				ibkr.Name: "see to it that the gateway is logged in and SA_BROKER__IBKR__CLIENT_ID is free",
			}[source.name], "correct its key")
		case providers.Quota:
			c.Advice = "its day is spent: try again tomorrow"
		case providers.NoData, providers.NotReady, providers.PremiumOnly:
			c.State, c.Found, c.Advice = stateOK, "answers: "+err.Error(), ""
		case providers.Transient, providers.RateLimited, providers.UnknownSymbol, providers.BadPayload, providers.Unavailable:
		}
	}
	return c
}
