#!/usr/bin/env bash
# Installs what the tests need and is missing: redis-server, postgres, sqlite3,
# promtool, a browser and a C compiler.
set -euo pipefail

have_postgres() {
	command -v postgres >/dev/null ||
		compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ||
		compgen -G '/usr/pgsql-*/bin/postgres' >/dev/null ||
		compgen -G '/opt/homebrew/opt/postgresql@*/bin/postgres' >/dev/null ||
		compgen -G '/usr/local/opt/postgresql@*/bin/postgres' >/dev/null
}

have_browser() {
	local name
	for name in chromium chromium-browser google-chrome google-chrome-stable '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'; do
		command -v "$name" >/dev/null && return
	done
	return 1
}

missing=()
command -v redis-server >/dev/null && command -v redis-cli >/dev/null || missing+=(redis-server redis-tools)
have_postgres || missing+=(postgresql)
command -v sqlite3 >/dev/null || missing+=(sqlite3)
# promtool, which replays the alerts.
command -v promtool >/dev/null || missing+=(prometheus)
have_browser || missing+=(chromium)
# The race detector needs a C compiler.
command -v "${CC:-gcc}" >/dev/null || missing+=(gcc libc6-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
	root=(sudo -n)
fi

if command -v apt-get >/dev/null && "${root[@]}" true 2>/dev/null; then
	echo "deps: installing ${missing[*]} with apt-get"
	"${root[@]}" apt-get update -qq
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
	exit 0
fi

cat >&2 <<TEXT
deps: missing: ${missing[*]}. Install them, for example with
  sudo apt-get install redis-server redis-tools postgresql sqlite3 prometheus chromium gcc libc6-dev
  sudo dnf install redis postgresql-server sqlite golang-github-prometheus chromium gcc
  brew install redis postgresql@17 sqlite prometheus && brew install --cask google-chrome
They need not be running: the tests start their own.
TEXT
exit 1
