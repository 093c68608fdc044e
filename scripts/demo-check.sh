#!/usr/bin/env bash
# Runs the demonstration twice: the first run stores all, the second asks for nothing.
set -euo pipefail

worker=$1
SA_DATA_DIR=$(mktemp -d)
export SA_DATA_DIR
trap 'rm -rf "$SA_DATA_DIR"' EXIT

want() { # FIELD PATTERN REPORT
	if ! grep -Eq "\"$1\": $2" <<<"$3"; then
		echo "demo: want \"$1\" to be $2 in this report:" >&2
		echo "$3" >&2
		exit 1
	fi
}

first=$("$worker" run daily-bars --demo --json)
want status '"ok"' "$first"
want provider_calls '[1-9]' "$first"
want failed '0,?$' "$first"

second=$("$worker" run daily-bars --demo --json)
want status '"ok"' "$second"
want provider_calls '0,?$' "$second"
want rows '0,?$' "$second"

echo "demo: passed"
