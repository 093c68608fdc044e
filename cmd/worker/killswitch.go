package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/risk"
	"github.com/alpha-oracle/worker/internal/store"
)

// reconcileEvery is how often serve compares the copy of the kill switch in
// Redis with the table.
const reconcileEvery = time.Minute

const killSwitchHelp = `

The kill switch halts TRADING in alpha-oracle, at once. It does not halt ingestion:
the worker goes on fetching data.

The table kill_switch is the truth, risk:kill_switch in Redis its fast copy. Active
is what either says, and also if neither can be read. worker serve compares them
every minute. See docs/risk.md.`

func (a *app) killSwitchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kill-switch",
		Short: "Halt trading, not ingestion, or let it go on",
		Long:  "Reads and changes alpha-oracle's kill switch." + killSwitchHelp,
		Example: `  worker kill-switch status
  worker kill-switch activate --reason "prices of AAPL are wrong"
  worker kill-switch deactivate --reason "prices are right again"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.helpThenUsage(cmd, "name one of status, activate, deactivate")
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "status", Short: "Whether trading is halted, since when and why",
			Long:    "Shows the kill switch. The exit code is 1 if neither the table nor Redis can be read." + killSwitchHelp,
			Example: "  worker kill-switch status --json", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return a.withKillSwitch(cmd.Context(), false, a.showKillSwitch)
			},
		},
		a.killSwitchChange(true), a.killSwitchChange(false))
	return cmd
}

func (a *app) killSwitchChange(active bool) *cobra.Command {
	var reason string
	var force bool
	cmd := &cobra.Command{Args: cobra.NoArgs}
	if active {
		cmd.Use, cmd.Short = "activate", "Halt trading, not ingestion"
		cmd.Long = `Activates the kill switch: in the table, with an entry in the audit, then in Redis,
then for all who listen. One that is active keeps its first time and reason. If the
database is away Redis is told all the same, and the exit code is 1.` + killSwitchHelp
		cmd.Example = `  worker kill-switch activate --reason "prices of AAPL are wrong"`
	} else {
		cmd.Use, cmd.Short = "deactivate", "Let trading go on"
		cmd.Long = `Deactivates the kill switch, which must have been active for the minutes of
SA_RISK__KILL_SWITCH__COOLDOWN_MINUTES unless --force is given.` + killSwitchHelp
		cmd.Example = `  worker kill-switch deactivate --reason "prices are right again"
  worker kill-switch deactivate --reason "false alarm" --force`
		cmd.Flags().BoolVar(&force, "force", false, "do not wait for the end of the cooldown")
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit and for all who listen (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if reason = strings.TrimSpace(reason); reason == "" {
			return usagef(`--reason: say why, such as --reason "prices of AAPL are wrong"`)
		}
		return a.withKillSwitch(cmd.Context(), true, func(ctx context.Context, k *risk.KillSwitch) error {
			return a.changeKillSwitch(ctx, k, active, force, reason)
		})
	}
	return cmd
}

// withKillSwitch opens the kill switch. Where a server keeps the copy, it does so
// without the database too: halting must not depend on both.
func (a *app) withKillSwitch(ctx context.Context, change bool, do func(context.Context, *risk.KillSwitch) error) error {
	s, noDatabase, noRedis := a.tryServices(ctx)
	defer s.close()
	if errors.As(noRedis, new(usageError)) || s.rdb == nil {
		return errors.Join(noDatabase, noRedis)
	}
	if noDatabase == nil {
		ready, cancel := context.WithTimeout(ctx, startTime)
		defer cancel()
		noDatabase = s.ready(ready, change || s.embeddedDB)
	}
	if noDatabase != nil && s.embeddedRedis {
		return noDatabase
	}
	return do(ctx, a.killSwitch(s, noDatabase))
}

// killSwitch wires the kill switch; noDatabase is why there is no table, if so.
func (a *app) killSwitch(s *services, noDatabase error) *risk.KillSwitch {
	k := &risk.KillSwitch{Redis: s.rdb, Table: s.db, Now: a.now}
	if noDatabase != nil {
		k.Table = noTable{noDatabase}
	}
	return k
}

// noTable is the table of a database that is away.
type noTable struct{ err error }

func (n noTable) KillSwitch(context.Context) (store.KillSwitch, error) {
	return store.KillSwitch{}, n.err
}

func (n noTable) ChangeKillSwitch(context.Context, store.KillSwitchChange) (store.KillSwitch, bool, error) {
	return store.KillSwitch{}, false, n.err
}

func (n noTable) KillSwitchCopied(context.Context, int64) error { return n.err }

func (a *app) changeKillSwitch(ctx context.Context, k *risk.KillSwitch, active, force bool, reason string) error {
	order := risk.Order{Actor: a.person(), Reason: reason, Origin: "command line, " + newOwner()}
	var changed bool
	var err error
	switch {
	case active:
		changed, err = k.Activate(ctx, order)
	case force:
		changed, err = k.Deactivate(ctx, order, 0)
	default:
		changed, err = k.Deactivate(ctx, order, a.cfg.Cooldown)
	}
	switch {
	case errors.As(err, new(*store.CooldownError)):
		return fmt.Errorf("%w; --force deactivates it now", err)
	case errors.Is(err, risk.ErrTable) && changed:
		return fmt.Errorf("trading is halted, by Redis alone: %w; worker serve writes it into the table when that is back", err)
	case errors.Is(err, risk.ErrCopy):
		return fmt.Errorf("%w; worker serve puts it right within a minute, and so does this command again", err)
	case err != nil:
		return err
	}
	state := k.Read(ctx)
	if err := a.printKillSwitch(state, &changed); err != nil {
		return err
	}
	if state.Active && !active {
		return exitError{exitFailed}
	}
	return nil
}

func (a *app) showKillSwitch(ctx context.Context, k *risk.KillSwitch) error {
	s := k.Read(ctx)
	if err := a.printKillSwitch(s, nil); err != nil {
		return err
	}
	if s.Table == risk.Unreadable && (s.Copy == risk.Unreadable || s.Copy == risk.Missing) {
		return exitError{exitFailed}
	}
	return nil
}

// killSwitchState is what the commands print.
type killSwitchState struct {
	Active bool   `json:"active"`
	Reason string `json:"reason,omitempty"`
	// Activated and Deactivated are in UTC, absent if they are not known.
	Activated   *time.Time `json:"activated_at,omitempty"`
	Deactivated *time.Time `json:"deactivated_at,omitempty"`
	// Redis and Table are active, inactive, missing, unclear or unreadable.
	Redis string   `json:"redis"`
	Table string   `json:"table"`
	Notes []string `json:"notes"`
	// Changed tells of a command whether it changed anything.
	Changed *bool `json:"changed,omitempty"`
}

func (a *app) printKillSwitch(s risk.State, changed *bool) error {
	if a.asJSON {
		return a.printJSON(killSwitchState{
			s.Active, s.Reason, timeOrNil(s.Activated), timeOrNil(s.Deactivated), s.Copy, s.Table, append([]string{}, s.Notes...), changed,
		})
	}
	word := "inactive: trading is not halted"
	if s.Active {
		word = "ACTIVE: trading is halted, ingestion goes on"
	}
	a.printf("kill switch  %s\n", word)
	if changed != nil && !*changed {
		a.printf("             it was so before\n")
	}
	if s.Active && s.Reason != "" {
		a.printf("reason       %s\n", printable(s.Reason))
	}
	if !s.Activated.IsZero() {
		a.printf("activated    %s\n", s.Activated.UTC().Format(time.RFC3339))
	}
	if !s.Active && !s.Deactivated.IsZero() {
		a.printf("deactivated  %s\n", s.Deactivated.UTC().Format(time.RFC3339))
	}
	a.printf("redis        %s\ntable        %s\n", s.Copy, s.Table)
	for _, note := range s.Notes {
		a.printf("note         %s\n", printable(note))
	}
	return nil
}

// timeOrNil returns the time in UTC, nil if it is zero.
func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// person is who runs the program.
func (a *app) person() string {
	env := map[string]string{}
	for _, e := range a.Environ {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	if u, err := user.Current(); err == nil {
		return cmp.Or(u.Username, env["USER"], env["LOGNAME"], "uid "+u.Uid)
	}
	return cmp.Or(env["USER"], env["LOGNAME"], "unknown")
}

// keepKillSwitch compares Redis with the table, now and every minute, until ctx
// ends or stop is called, which waits for the last comparison.
func (a *app) keepKillSwitch(ctx context.Context, s *services) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		k := a.killSwitch(s, nil)
		ticker := time.NewTicker(reconcileEvery)
		defer ticker.Stop()
		for {
			a.reconcileKillSwitch(ctx, k)
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

func (a *app) reconcileKillSwitch(ctx context.Context, k *risk.KillSwitch) {
	healed, err := k.Reconcile(ctx)
	for _, what := range healed {
		a.log.Warn("kill switch", zap.String("healed", what))
	}
	if err != nil && ctx.Err() == nil {
		a.log.Error("kill switch", zap.String("error", a.redact(err.Error())))
	}
}
