#!/bin/sh
# Makes the roles and gives them the passwords of the files in SECRETS, at the
# first start of a Postgres container.
set -eu

secrets=${SECRETS:-/run/secrets}
roles=${ROLES:-/roles.sql}
export PGUSER="${POSTGRES_USER:-postgres}" PGDATABASE="${POSTGRES_DB:-postgres}"

psql -X -q -v ON_ERROR_STOP=1 -f "$roles"
for role in worker_migrate worker_run worker_read; do
	# Over standard input: arguments are for everybody to see.
	printf "ALTER ROLE %s PASSWORD '%s';\n" "$role" "$(cat "$secrets/${role}_password")" | psql -X -q -v ON_ERROR_STOP=1
done
