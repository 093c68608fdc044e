package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/store"
)

// clearKeys is the action of the audit.
const clearKeys = "keys.clear"

func (a *app) clearCommand() *cobra.Command {
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use: "clear", Short: "Forget what is done, so that the next runs fetch it again",
		Long: `Removes the keys ` + strings.Join(rediskey.Clearable(), "*, ") + `* and the marks behind them in the ledger,
so that the next run of each job asks for everything again. No bar, no filing and no
other row that was fetched is deleted. risk:*, system:* and rate_limit:* stay as they
are. A run that is under way goes on marking what it stores.`,
		Example: "  worker keys clear --dry-run\n  worker keys clear --yes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withServices(cmd.Context(), func(ctx context.Context, s *services) error {
				return a.clearKeys(ctx, s, yes, dryRun)
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "count the keys and change nothing")
	return cmd
}

func (a *app) clearKeys(ctx context.Context, s *services, yes, dryRun bool) error {
	if err := s.rebuildEmbedded(ctx, a.now()); err != nil {
		return err
	}
	names, err := scanKeys(ctx, s.rdb, rediskey.Clearable())
	if err != nil {
		return err
	}
	if dryRun {
		return a.printCleared(names, true)
	}
	question := fmt.Sprintf("remove %d keys and forget in the ledger what is done? All of it will be fetched again, under the limits of your keys", len(names))
	if err := a.confirm(yes, question, "add --yes, or --dry-run to count them"); err != nil {
		return err
	}
	// The ledger first: keys without it are made again from it.
	if err := s.db.ForgetDone(ctx); err != nil {
		return err
	}
	if err := s.db.SaveAudit(ctx, store.AuditEntry{
		Actor: a.person(), Action: clearKeys, Detail: fmt.Sprintf("%d keys", len(names)), Origin: "command line, " + newOwner(),
	}); err != nil {
		return err
	}
	// Those too that came while the question stood: the ledger has forgotten them.
	if names, err = scanKeys(ctx, s.rdb, rediskey.Clearable()); err != nil {
		return fmt.Errorf("clear keys: the ledger has forgotten, Redis has not; run it again: %w", err)
	}
	for some := range slices.Chunk(names, scanStep) {
		if err := s.rdb.Unlink(ctx, some...).Err(); err != nil {
			return fmt.Errorf("clear keys: the ledger has forgotten, Redis has not; run it again: %w", err)
		}
	}
	return a.printCleared(names, false)
}

func (a *app) printCleared(names []string, dryRun bool) error {
	counts := map[string]int{}
	for _, prefix := range rediskey.Clearable() {
		counts[prefix+"*"] = 0
	}
	for _, name := range names {
		prefix, _, _ := strings.Cut(name, ":")
		counts[prefix+":*"]++
	}
	if a.asJSON {
		return a.printJSON(map[string]any{"keys": len(names), "by_prefix": counts, "ledger_forgotten": !dryRun, "dry_run": dryRun})
	}
	word := "removed"
	if dryRun {
		word = "would remove"
	}
	for _, prefix := range rediskey.Clearable() {
		a.printf("%s %d keys %s*\n", word, counts[prefix+"*"], prefix)
	}
	if dryRun {
		a.printf("would forget in the ledger what is done; nothing was changed\n")
		return nil
	}
	a.printf("the ledger has forgotten what is done: the next runs ask again\n")
	return nil
}
