#!/usr/bin/env bash
# Makes the secrets of a new installation, in deploy/secrets or the directory that
# is given. What is there already stays. The servers of another place than that of
# compose.yaml are named by variables:
#   REDIS_HOST=redis.example:6379 POSTGRES_HOST=db.example:5432 deploy/secrets.sh /etc/worker/credentials
# There POSTGRES_OPTIONS='?sslmode=verify-full' is good advice.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/secrets}
redis=${REDIS_HOST:-redis:6379}
postgres=${POSTGRES_HOST:-postgres:5432}
options=${POSTGRES_OPTIONS-?sslmode=disable}

# Nobody else gets into the directory. The files themselves are readable, since
# the user of a container has another number than you.
mkdir -p "$out"
chmod 700 "$out"

random() { LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom 2>/dev/null | head -c 32 || true; }
sha256() { (sha256sum 2>/dev/null || shasum -a 256) | cut -d ' ' -f 1; }
keep() { # NAME: reads the content of a new file
	if [ ! -e "$out/$1" ]; then
		cat >"$out/$1"
		chmod 644 "$out/$1"
	else
		cat >/dev/null
	fi
}

for name in postgres_password worker_migrate_password worker_run_password worker_read_password redis_password http_token alarm_webhook_secret; do
	random | keep "$name"
done
for role in migrate run; do
	printf 'postgres://worker_%s:%s@%s/alpha_oracle%s' "$role" "$(cat "$out/worker_${role}_password")" "$postgres" "$options" | keep "database_url_$role"
done
printf 'redis://worker:%s@%s/0' "$(cat "$out/redis_password")" "$redis" | keep redis_url
sed "s/#0\{64\}/#$(printf %s "$(cat "$out/redis_password")" | sha256)/" "$here/redis/users.acl" | keep users.acl
for name in alpha_vantage_api_key alarm_webhook_url alarm_heartbeat_url; do
	keep "$name" </dev/null
done

if [ ! -s "$out/alpha_vantage_api_key" ]; then
	echo "put your Alpha Vantage key into $out/alpha_vantage_api_key"
fi
