# Needs GNU make and Python 3.11 or newer. Everything is installed into .venv, once; `make clean` takes it away.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check lint types imports format env lock clean run-env dev-env chaos fuzz parity
BENCHMARKS := bench-segmentation bench-interactive bench-memory bench-footprint bench-up bench-noop bench-idle bench-cancel bench-record bench-routing bench-batcher bench-cache bench-embeddings bench-bulk bench-vision
.PHONY: $(BENCHMARKS)
BIN := .venv/bin

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-28s %s\n", $$1, $$2}'

demo: run-env ## Start a whole Fleet on this machine, segment the example head and show the result
	@$(BIN)/fleet demo $(ARGS)

test: dev-env ## All tests, against real servers; ARGS="-k name" picks some
	@$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

check: lint types imports test ## What CI runs

lint: dev-env ## Ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: dev-env ## Mypy, strict
	@$(BIN)/mypy
	@$(BIN)/mypy requirements/install.py
	@$(BIN)/mypy examples benchmarks

imports: dev-env ## Which package may import which
	@$(BIN)/lint-imports

format: dev-env ## Put every file into the house format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench-segmentation: dev-env ## A volume through Fleet against the bare runtime
bench-memory: dev-env ## Peak memory of one large CT job
bench-footprint: dev-env ## What volume jobs were expected to take, and what they took
bench-up: run-env ## How long until the local stack answers
bench-noop: run-env ## What a job costs besides its model
bench-idle: dev-env ## Where the time of one request goes while nothing else runs, hop by hop
bench-record: dev-env ## The record with five million jobs against five thousand
bench-routing: dev-env ## Where jobs run and how long they wait: simulated, and with real workers
bench-batcher: dev-env ## Many clients of a small model: bare runtime, engine, whole fleet
bench-bulk: dev-env ## A file of a million texts as one job, its worker killed in the middle or not
bench-embeddings: dev-env ## Embeddings over HTTP: bare runtime, fleet, and others that make them
bench-vision: dev-env ## Pictures: bare network, in process, fleet, and others that do the same; --host-work by step
bench-cache: dev-env ## Which models stay in memory: reloads, what loading does to others, what comes back
bench-cancel: dev-env ## How fast a running inference stops
bench-interactive: dev-env ## Short jobs beside running volumes, against an idle machine
$(BENCHMARKS): bench-%:
	@$(BIN)/python benchmarks/$*.py $(ARGS)

chaos: dev-env ## Ten minutes of jobs while everything around them fails: nothing lost, nothing doubled
	@$(BIN)/python benchmarks/chaos.py $(ARGS)

fuzz: dev-env ## Ten thousand damaged files through the decoders: no crash, no hang, nothing left
	@$(BIN)/python benchmarks/fuzz.py $(ARGS)

parity: dev-env ## Texts and pictures against the libraries of their models (puts PyTorch into .venv-parity)
	@$(BIN)/python benchmarks/parity.py $(ARGS)

env: ## Write .env for docker compose, with fresh secrets
	@sh docker/make-env.sh

lock: ## Choose and pin all packages anew (needs uv)
	@sh -c 'command -v uv >/dev/null || { echo "make lock needs uv" >&2; exit 1; }'
	@bash requirements/lock.sh

clean: ## Remove .venv, caches and build results
	@rm -rf .venv .venv-parity dist build out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

run-env: ; @sh requirements/install.sh run
dev-env: ; @sh requirements/install.sh dev
