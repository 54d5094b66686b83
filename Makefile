# Everything is a Go command; see `make help`.
SHELL := /bin/bash
GO ?= go
IMAGE ?= memgraph-controller:latest
# The e2e suite takes minutes, and the control plane five more the first time.
TIMEOUT ?= 25m
# What searches, schedules of the simulation and small clusters, searches in full
# without the race detector, and what plays minutes of virtual time is played without.
SEARCHES = TestSchedules|TestEvery|TestBugsAreFound|TestNoFalseAlarm|TestGatewaysComeAndGo|TestEachRumourIsLookedInto
RACELESS = ^TestBugsAreFound$$|^TestGatewaysComeAndGo$$|^TestEachRumourIsLookedInto$$|^TestNoFalseAlarm$$/ten_minutes
# One seed is one schedule of the simulation.
SEEDS ?= 20000
SEED ?= 0
ROUNDS ?= 50
# How often the leader dies, alone and with MAIN.
SUCCESSIONS ?= 20
# How often soak kills MAIN, and replaces all pods.
CRASHES ?= 100
ROLLOUTS ?= 20
# During how many changes of MAIN, and for how many clients, replicas must not grow.
CHANGES ?= 200
CLIENTS ?= 10000
# What takes minutes and is left to soak.
LONG = ^TestUpgrade$$|^TestPartnerIsCutOff$$|^TestGuardedPartnerHangs$$|^TestSickPodsDelayNoOther$$|^TestReplicasDoNotGrow$$|^TestNoFalseAlarm$$|^TestMainDiesWhileTheAPIServerIsAway$$|^TestAFloodDelaysNothingUrgent$$|^TestMainIsDeletedAmidPodsThatCannotBeReached$$
# What measures has the machine to itself. The rest only has to come out right, and waits
# for most of its time: what people and Kubernetes do to a cluster, and what fails, each
# in a cluster of its own.
MEASURED = ^TestMainIsDeleted|^TestMainIsKilled$$|^TestMainHangs$$
MAINTENANCE = ^TestRollingRestart$$|^TestScale|^TestEviction|^TestControllers|^TestOperator|^TestLeader(Dies$$|Crashes|IsTerminatedAmid)|^TestDiverged|^TestMainLoses
E2E = $(GO) test -race -count=1 -timeout=$(TIMEOUT) -v
PACKAGES = $(shell $(GO) list ./... | grep -v '/e2e$$')

.DEFAULT_GOAL := help
.PHONY: build test units measured maintenance failures race e2e rounds leaks soak sim demo bench lint fmt cover image help

build: ## build .bin/memgraph-controller
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o .bin/memgraph-controller .

test: units ## run all tests: units, then failovers on a real API server
	$(MAKE) --no-print-directory measured
	$(MAKE) --no-print-directory -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) maintenance failures

units: ## run all tests but those on a real API server
	$(GO) test -race -timeout=$(TIMEOUT) -skip='$(RACELESS)' $(PACKAGES)
	$(GO) test -p=1 -v -timeout=$(TIMEOUT) -run='$(SEARCHES)' ./e2e/sim ./failover ./controller

measured:
	$(E2E) -run='$(MEASURED)' -skip='$(LONG)' ./e2e

maintenance:
	$(E2E) -run='$(MAINTENANCE)' ./e2e

failures:
	$(E2E) -skip='$(MEASURED)|$(MAINTENANCE)|$(LONG)' ./e2e

race: ## run the unit tests five times each under the race detector
	$(GO) test -race -count=5 -timeout=$(TIMEOUT) $(PACKAGES)

e2e: ## run the timing suite alone and print its tables
	$(E2E) -skip='$(LONG)' ./e2e

soak: ## kill MAIN CRASHES times, replace all pods ROLLOUTS times, and change the version: an hour
	$(GO) test -race -count=1 -timeout=0 -v -run='^TestMainIsKilled$$|^TestRollingRestart$$|$(LONG)' ./e2e -rounds=$(CRASHES) -rollouts=$(ROLLOUTS)

leaks: ## change MAIN CHANGES times under load, and compare what replicas take
	$(GO) test -count=1 -timeout=0 -v -run='^TestReplicasDoNotGrow$$' ./e2e -changes=$(CHANGES) -clients=$(CLIENTS)

rounds: ## have MAIN die, and hang, ROUNDS times each, and the leader SUCCESSIONS times
	$(GO) test -race -count=1 -timeout=0 -v -run='^TestMainIsKilled$$|^TestMainHangs$$|^TestLeaderDies$$' ./e2e -rounds=$(ROUNDS) -hangs=$(ROUNDS) -successions=$(SUCCESSIONS)

sim: ## play SEEDS simulated schedules, from SEED on; SEEDS=1 prints a trace
	$(GO) test -count=1 -timeout=0 -v -run=TestSchedules ./e2e/sim -seeds=$(SEEDS) -seed=$(SEED)

demo: ## watch two failovers on an embedded cluster: nothing to install
	$(GO) run ./e2e/demo

bench: ## run the benchmarks; they print ratios, not absolutes
	$(GO) test -run='^$$' -bench=. -benchmem $(PACKAGES)

lint: ## gofmt, vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not gofmt'd:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) build -C e2e/tools -o $(CURDIR)/.bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	.bin/staticcheck ./...

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

cover: ## show the coverage of the unit tests
	@mkdir -p .bin
	$(GO) test -race -coverprofile=.bin/cover.out -timeout=$(TIMEOUT) $(PACKAGES)
	$(GO) tool cover -func=.bin/cover.out | tail -n 1

image: ## build the container image (needs Docker)
	docker build -f deploy/Dockerfile -t $(IMAGE) .

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
