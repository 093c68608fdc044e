package main

import (
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/secret"
)

// fixedSettings are those that a running process keeps: what is open stays open.
func fixedSettings() []string {
	return []string{
		"SA_REDIS__URL", "SA_DATABASE__URL", "SA_DATA_DIR",
		"SA_HTTP__ADDR", "SA_HTTP__TOKEN", "SA_HTTP__HOSTS", "SA_HTTP__PPROF_ADDR",
	}
}

// change is a setting that has another value than before.
type change struct{ env, from, to string }

// changes lists what is different in to, in the order of the settings; secrets
// are not shown.
func (c config) changes(to config) []change {
	var all []change
	for _, s := range settings() {
		from, to := c.texts[s.env], to.texts[s.env]
		switch {
		case from == to:
		case s.secret:
			all = append(all, change{s.env, "[redacted]", "[redacted]"})
		default:
			all = append(all, change{s.env, from, to})
		}
	}
	return all
}

// reloaded is the program with the configuration as it is in the file and in the
// secrets' files now, and with the symbols that it names. An error says what is wrong with that; everything stays as
// it was then.
func (a *app) reloaded() (next *app, err error) {
	cfg, err := loadConfig(a.configFile, a.Environ)
	// The old secrets may still be in what old calls return.
	redact := secret.Redactor(slices.Concat(a.cfg.secrets(), cfg.secrets())...)
	copied := *a
	next = &copied
	next.cfg, next.redact, next.fixed = cfg, redact, false
	if err == nil && !cfg.Schedule.Enabled {
		err = usagef("SA_SCHEDULER__ENABLED is false: to end the schedule, stop the worker")
	}
	if err == nil {
		err = next.needKey(runFlags{}, cfg.barSources()...)
	}
	if err == nil {
		next.symbols, err = next.givenSymbols(once{})
	}
	if err != nil {
		return nil, fmt.Errorf("reload: %s; nothing has changed", redact(err.Error()))
	}
	for _, env := range fixedSettings() {
		if cfg.texts[env] != a.cfg.texts[env] {
			return nil, fmt.Errorf("reload: %s has changed, for which the worker has to be started anew; nothing has changed", env)
		}
	}
	next.log, next.fixed = next.newLog(), true
	return next, nil
}

// logChanges says what a reload has changed.
func (a *app) logChanges(to *app) {
	changes := a.cfg.changes(to.cfg)
	for _, c := range changes {
		to.log.Info("setting changed", zap.String("setting", c.env), zap.String("from", c.from), zap.String("to", c.to))
	}
	added, removed := missingFrom(to.symbols, a.symbols), missingFrom(a.symbols, to.symbols)
	if len(added)+len(removed) > 0 {
		to.log.Info("the universe has changed", zap.Int("added", len(added)), zap.Strings("added_first", firstNames(added)),
			zap.Int("removed", len(removed)), zap.Strings("removed_first", firstNames(removed)))
	}
	to.log.Info("reloaded", zap.Int("settings_changed", len(changes)))
}

// missingFrom lists the symbols of all that are not in other.
func missingFrom(all, other []market.Symbol) []market.Symbol {
	known := make(map[market.Symbol]bool, len(other))
	for _, symbol := range other {
		known[symbol] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(s market.Symbol) bool { return known[s] })
}
