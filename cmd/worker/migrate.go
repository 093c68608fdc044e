package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// granter is a database that knows roles.
type granter interface {
	Grant(ctx context.Context, run, read string) error
}

func (a *app) migrateCommand() *cobra.Command {
	var run, read string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema up to date",
		Long: `Brings the database's schema up to date. A database that alpha-oracle made is
adopted as it is: tables and columns are added, no row is changed or lost. It is
safe to run while other workers do the same.

On Postgres it can also give two other roles their privileges on the tables: one
for a worker that runs with SA_DATABASE__MIGRATE=false, which may not change the
schema and may not delete bars, and one that may only read.`,
		Example: "  worker migrate\n  worker migrate --grant-run worker_run --grant-read worker_read",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.openServices(cmd.Context())
			if err != nil {
				return err
			}
			defer s.close()
			return a.migrate(cmd.Context(), s, run, read)
		},
	}
	cmd.Flags().StringVar(&run, "grant-run", "", "a role of Postgres that gets what a running worker needs")
	cmd.Flags().StringVar(&read, "grant-read", "", "a role of Postgres that may read the tables")
	return cmd
}

func (a *app) migrate(ctx context.Context, s *services, run, read string) error {
	roles, knowsRoles := s.db.(granter)
	if run+read != "" && !knowsRoles {
		return usagef("--grant-run and --grant-read need Postgres: set SA_DATABASE__URL")
	}
	before, _, err := s.db.SchemaVersion(ctx)
	if err != nil {
		return err
	}
	if err := s.db.Migrate(ctx); err != nil {
		return fmt.Errorf("migrate %s: %w", s.db.Where(), err)
	}
	if run+read != "" {
		if err := roles.Grant(ctx, run, read); err != nil {
			return err
		}
	}
	after, _, err := s.db.SchemaVersion(ctx)
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.printJSON(map[string]any{"database": s.db.Where(), "before": before, "after": after})
	}
	a.printf("%s: schema version %d (before: %d)\n", s.db.Where(), after, before)
	return nil
}
