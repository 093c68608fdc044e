# make help lists the targets.

SHELL   := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
IMAGE   ?= alpha-oracle/worker:$(VERSION)

# An installed linter of this version does the same: make lint GOLANGCI=golangci-lint
GOLANGCI    ?= go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK ?= go run golang.org/x/vuln/cmd/govulncheck@v1.9.0

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build run demo test check fmt fmt-check lint bench bench-short bench-limiter bench-limiter-short mutate-limiter chaos chaos-short demo-check readme-check cover vuln docker release release-check deps

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

build: ## build the static binary bin/worker
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/worker ./cmd/worker

run: build ## build and run, for example: make run ARGS="status"
	bin/worker $(ARGS)

demo: ## fetch ten symbols from a simulator inside the process: no key, no server
	go run ./cmd/worker run daily-bars --demo

deps: ## install what the tests start: Redis, Postgres, sqlite3, promtool, Chromium
	scripts/deps.sh

test: ## run all tests, with the race detector and in random order
	scripts/test.sh

check: fmt-check lint deps demo-check readme-check release-check bench-short bench-limiter-short chaos-short test ## everything that a change must pass
	@echo "check: passed"

fmt: ## format the code
	$(GOLANGCI) fmt

fmt-check:
	$(GOLANGCI) fmt --diff

lint: ## check the code without running it
	go vet ./...
	go vet -tags bench,chaos,mutate,readme ./...
	go mod tidy -diff
	$(GOLANGCI) run --allow-parallel-runners

demo-check: build
	scripts/demo-check.sh bin/worker

readme-check: deps
	go test -tags readme -count=1 -run Readme ./internal/arch

bench: deps ## measure the promised figures on this machine, 20 to 40 minutes
	go test -tags bench -count=1 -timeout 60m -v -run Figure -p 1 ./internal/bench ./cmd/worker ./internal/events ./providers/edgar ./providers/ibkr

bench-short: deps
	BENCH_SHORT=1 go test -tags bench -count=1 -timeout 10m -run Figure -p 1 ./internal/bench ./cmd/worker ./internal/events ./providers/edgar ./providers/ibkr

bench-limiter: deps ## measure the rate limiter beside a no-op and other libraries, 7 minutes
	cd bench/limiter && go run . -markdown

bench-limiter-short: deps
	cd bench/limiter && go vet ./... && go test ./... && go run . -short

mutate-limiter: deps ## break the rate limiter in many ways and see that a test notices each, 4 minutes
	go test -tags mutate -count=1 -timeout 30m -v -run Mutations ./internal/limiter

chaos: deps ## kill the worker and its servers many times and look for lost or doubled rows
	go test -tags chaos -count=1 -timeout 60m -v -run ChaosKill ./cmd/worker
	go test -tags chaos -count=1 -timeout 150m -v -run 'ChaosServe|Soak' ./cmd/worker
	LIMITER_LONG=1 go test -tags chaos -count=1 -timeout 30m -v -run ChaosLimiter ./internal/limiter
	go test -tags chaos -count=1 -timeout 30m -v -run ChaosLease ./internal/store/postgres

chaos-short: deps
	CHAOS_KILLS=5 go test -tags chaos -count=1 -timeout 10m -run ChaosKill ./cmd/worker
	CHAOS_TERMS=2 CHAOS_WEEK=4 CHAOS_SESSIONS=12 CHAOS_STRIKES=2 SOAK_SECONDS=20 go test -tags chaos -count=1 -timeout 10m -run 'ChaosServe|Soak' ./cmd/worker
	go test -tags chaos -count=1 -timeout 10m -run ChaosLimiter ./internal/limiter
	CHAOS_KILLS=5 go test -tags chaos -count=1 -timeout 10m -run ChaosLease ./internal/store/postgres

cover: deps ## measure the coverage, of all packages by all tests
	go test -coverpkg=./... -coverprofile=coverage.out ./...
	go tool cover -func=coverage.out | tail -1

vuln: ## look for known vulnerabilities; asks vuln.go.dev, therefore not part of check
	$(GOVULNCHECK) ./...

release: ## build dist: archives for six platforms, lists of modules, checksums
	go run ./internal/release -version $(VERSION) -out dist

release-check: # the same sources give the same binary
	go run ./internal/release -check

docker: ## build the container image
	docker build --build-arg VERSION=$(VERSION) --tag $(IMAGE) .
