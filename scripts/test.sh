#!/usr/bin/env bash
# Runs all tests here, or in a container when the servers cannot be installed
# here: some tests stop and kill servers, so containers of servers would not do.
set -euo pipefail
cd "$(dirname "$0")/.."

if scripts/deps.sh; then
	exec go test -race -shuffle=on "$@" ./...
fi
if docker info >/dev/null 2>&1; then
	echo "test: running in a container instead"
	exec docker run --rm --init \
		--volume "$PWD:/src" --workdir /src \
		--volume alpha-oracle-worker-go:/go --volume alpha-oracle-worker-cache:/root/.cache \
		--env GOFLAGS=-buildvcs=false \
		golang:1.26 scripts/test.sh "$@"
fi
exit 1
