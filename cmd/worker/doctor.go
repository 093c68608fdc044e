package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/risk"
)

const (
	// clockSkew is the difference to Redis's clock from which it is named.
	clockSkew = 2 * time.Second
	// calendarDays is how long before its end the calendar is called old.
	calendarDays = 180
)

// The states of a check.
const (
	stateOK      = "ok"
	stateWarning = "warning"
	stateFailed  = "failed"
)

// check is one line of the doctor's findings.
type check struct {
	Name  string `json:"name"`
	State string `json:"state"`
	// Found says what is; Advice, if there is something to do, what to do.
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

func (a *app) doctorCommand() *cobra.Command {
	var quiet, online bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check configuration, connections, schema, Redis, clocks, files and keys",
		Long: `Checks what a run needs and says what to do about each finding. It makes no
provider call, unless --online lets it spend one of each source of bars, within
the limits, to see whether the keys are taken. The exit code is 1 if something
would break the next run, 0 otherwise.`,
		Example: "  worker doctor\n  worker doctor --online\n  worker doctor --quiet --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.printChecks(a.diagnose(cmd.Context(), online), quiet)
		},
	}
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print only what failed")
	cmd.Flags().BoolVar(&online, "online", false, "make one call to each source of bars, to try its key")
	return cmd
}

func (a *app) printChecks(checks []check, quiet bool) error {
	failed := false
	t := a.newTable("check", "state", "found", "what to do")
	for _, c := range checks {
		failed = failed || c.State == stateFailed
		if !quiet || c.State == stateFailed {
			t.AppendRow(table.Row{c.Name, c.State, a.redact(c.Found), c.Advice})
		}
	}
	switch {
	case a.asJSON:
		if err := a.printJSON(checks); err != nil {
			return err
		}
	case t.Length() > 0:
		a.printf("%s\n", t.Render())
	}
	if failed {
		return exitError{exitFailed}
	}
	return nil
}

func (a *app) diagnose(ctx context.Context, online bool) []check {
	checks := append([]check{a.checkConfig()}, a.checkKeys()...)
	checks = append(checks, a.checkUserAgent(), a.checkCalendar(), a.checkSchedule(), checkZones(), a.checkSecretFiles(), a.checkHTTP())
	if !a.cfg.DatabaseURL.IsSet() || !a.cfg.RedisURL.IsSet() {
		// First of all, since without it nothing embedded can be opened.
		dir := a.checkDataDir()
		checks = append(checks, dir)
		if dir.State == stateFailed {
			return checks
		}
		checks = append(checks, a.checkSpace())
	}
	s, err := a.openServices(ctx)
	if err != nil {
		return append(checks, check{"connections", stateFailed, err.Error(), a.openAdvice(err)})
	}
	defer s.close()
	checks = append(checks, check{"connections", stateOK, s.where(), ""}, checkSchema(ctx, s))
	if db, ok := s.db.(serverClock); ok {
		checks = append(checks, a.checkDatabaseClock(ctx, db))
	}
	checks = append(checks, a.checkRedis(ctx, s)...)
	if online {
		checks = append(checks, a.tryKeys(ctx, s)...)
	}
	return checks
}

func (a *app) checkRedis(ctx context.Context, s *services) []check {
	if s.embeddedRedis {
		return []check{{
			"redis", stateOK, "inside the process: limits are not shared with other processes",
			"set SA_REDIS__URL when alpha-oracle or a second worker uses the same keys",
		}}
	}
	return []check{checkPolicy(ctx, s), checkPersistence(ctx, s), a.checkClock(ctx, s), checkKeys(ctx, s), a.checkKillSwitch(ctx, s)}
}

// openAdvice says what to do when the services do not open. With an embedded
// database and Redis there is no server to start.
func (a *app) openAdvice(err error) string {
	embedded := !a.cfg.DatabaseURL.IsSet() && !a.cfg.RedisURL.IsSet()
	if embedded || errors.Is(err, fs.ErrPermission) || errors.As(err, new(*fs.PathError)) {
		return "make the files in the data directory (SA_DATA_DIR) readable and writable, or move " + databaseFile + " away"
	}
	return "start the server, or correct SA_DATABASE__URL and SA_REDIS__URL"
}

func (a *app) checkConfig() check {
	var set []string
	for _, s := range settings() {
		if from, ok := a.cfg.fromWhere[s.env]; ok {
			set = append(set, s.env+" ("+from+")")
		}
	}
	if len(set) == 0 {
		return check{"configuration", stateOK, "all defaults", ""}
	}
	return check{"configuration", stateOK, strings.Join(set, "\n"), ""}
}

func (a *app) checkKey() check {
	switch {
	case a.cfg.Key.IsSet():
		return check{"alpha vantage key", stateOK, fmt.Sprintf("set; %d calls a minute, %s a day", a.cfg.PerMinute, dayLimit(a.cfg.PerDay)), ""}
	case isLocal(a.cfg.BaseURL):
		return check{"alpha vantage key", stateOK, "not needed: the base URL is this machine", ""}
	}
	return check{"alpha vantage key", stateWarning, "not set", "set SA_ALPHA_VANTAGE_API_KEY; without a key of any source only --demo runs"}
}

func (a *app) checkUserAgent() check {
	if a.cfg.EDGAR.UserAgent != "" {
		return check{"edgar user agent", stateOK, fmt.Sprintf("set; %d calls a second", a.cfg.EDGAR.PerSecond), ""}
	}
	return check{
		"edgar user agent", stateWarning, "not set: no facts from the SEC",
		"set SA_DATA__EDGAR__USER_AGENT to a name and a contact address",
	}
}

func dayLimit(perDay int) string {
	if perDay == 0 {
		return "without limit"
	}
	return fmt.Sprint(perDay)
}

func (a *app) checkCalendar() check {
	left := market.NYSE().Remaining(market.DateOf(a.now()))
	c := check{"calendar", stateOK, fmt.Sprintf("known through %s", market.NYSE().Known().To), ""}
	if left < calendarDays {
		c.State, c.Advice = stateWarning, "update the worker before the calendar ends"
	}
	return c
}

func checkSchema(ctx context.Context, s *services) check {
	have, want, err := s.db.SchemaVersion(ctx)
	c := check{"schema", stateOK, fmt.Sprintf("version %d of %d", have, want), ""}
	switch {
	case err != nil:
		c.State, c.Found, c.Advice = stateFailed, err.Error(), "grant the user the right to read the schema"
	case have < want && s.fixed:
		c.State, c.Advice = stateFailed, "worker migrate, as the role that owns the tables: SA_DATABASE__MIGRATE is false"
	case have < want:
		c.State, c.Advice = stateWarning, "worker migrate (a run does it by itself)"
	case have > want:
		c.State, c.Advice = stateWarning, "a newer worker has been here: update this one"
	}
	return c
}

func (a *app) checkDataDir() check {
	failed := func(err error) check {
		return check{"data directory", stateFailed, err.Error(), "make it a directory that this user can write to, or set SA_DATA_DIR to one"}
	}
	if err := os.MkdirAll(a.cfg.DataDir, 0o750); err != nil {
		return failed(err)
	}
	file, err := os.CreateTemp(a.cfg.DataDir, ".doctor-*")
	if err != nil {
		return failed(err)
	}
	_ = file.Close()
	_ = os.Remove(file.Name())
	return check{"data directory", stateOK, a.cfg.DataDir + " is writable", ""}
}

// checkPolicy: an evicted bucket or done-set is rebuilt, but a bucket starts
// without tokens then, so eviction costs time. The day trades are in Redis alone.
func checkPolicy(ctx context.Context, s *services) check {
	policy, err := redisSays(ctx, s, "memory", "maxmemory_policy")
	if err != nil {
		return check{"redis eviction", stateWarning, "cannot be read: " + err.Error(), "see to it that maxmemory-policy is noeviction"}
	}
	loses := "it can drop keys that expire, such as what is done; they are made again"
	switch {
	case policy == "noeviction":
		return check{"redis eviction", stateOK, policy, ""}
	case !strings.HasPrefix(policy, "volatile-"):
		loses = "it can drop the day trades of " + rediskey.PDTTrades + ", of which there is no other copy"
	}
	return check{"redis eviction", stateWarning, "maxmemory-policy is " + policy + ": " + loses, "set maxmemory-policy noeviction"}
}

// redisSays reads a field of INFO: unlike CONFIG GET it shows no password, so
// that a user with few rights may have it.
func redisSays(ctx context.Context, s *services, section, field string) (string, error) {
	text, err := s.rdb.Info(ctx, section).Result()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("INFO %s has no %s", section, field)
}

func checkPersistence(ctx context.Context, s *services) check {
	on, err := redisSays(ctx, s, "persistence", "aof_enabled")
	if err != nil {
		return check{"redis persistence", stateWarning, "cannot be read: " + err.Error(), "see to it that appendonly is yes"}
	}
	if on != "1" {
		return check{
			"redis persistence", stateWarning, "append-only file is off: a restart forgets the day-trade record and the kill switch's copy",
			"set appendonly yes",
		}
	}
	return check{"redis persistence", stateOK, "append-only file is on", ""}
}

func (a *app) checkClock(ctx context.Context, s *services) check {
	theirs, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return check{"clock", stateFailed, err.Error(), "the limiter needs Redis's clock"}
	}
	skew := a.now().Sub(theirs).Round(time.Millisecond)
	c := check{"clock", stateOK, fmt.Sprintf("%s from Redis's", skew), ""}
	if skew.Abs() > clockSkew {
		c.State, c.Advice = stateWarning, "let both machines keep time by NTP"
	}
	return c
}

// checkKeys looks for keys that are not as the contract says.
func checkKeys(ctx context.Context, s *services) check {
	keys, err := contractKeys(ctx, s.rdb)
	if err != nil {
		return check{"redis keys", stateFailed, err.Error(), "grant the user of SA_REDIS__URL the right to read"}
	}
	var wrong []string
	for _, k := range keys {
		if k.Problem != "" {
			wrong = append(wrong, printable(k.Key)+": "+k.Problem)
		}
	}
	if len(wrong) == 0 {
		return check{"redis keys", stateOK, fmt.Sprintf("%d keys are as the contract says", len(keys)), ""}
	}
	if len(wrong) > listed {
		wrong = append(wrong[:listed], fmt.Sprintf("and %d more", len(wrong)-listed))
	}
	return check{"redis keys", stateWarning, strings.Join(wrong, "\n"), "see worker keys list; find out who wrote them; redis-cli PERSIST those that expire, RENAME those of a wrong type, and remove none under risk:"}
}

// checkKillSwitch says whether trading is halted, and whether Redis and the table
// agree about that.
func (a *app) checkKillSwitch(ctx context.Context, s *services) check {
	state := a.killSwitch(s, nil).Read(ctx)
	c := check{"kill switch", stateOK, risk.Inactive, ""}
	if state.Active {
		c.Found = "active: trading is halted, ingestion is not"
	}
	if len(state.Notes) > 0 {
		c.State, c.Found, c.Advice = stateWarning, c.Found+"\n"+strings.Join(state.Notes, "\n"), "let worker serve run, which compares them every minute"
	}
	return c
}
