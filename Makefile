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

# An editable package has no hash, so it is installed by itself, after everything that it needs.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --no-deps --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	$(PIP) check
	touch $(STAMP)

.PHONY: demo
demo: $(STAMP) ## The main job end to end, over HTTP, with a worker killed half-way and seven checks; SECURE=1 over TLS
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
	$(BIN)/pitboss bench plot

.PHONY: check
check: $(STAMP) lint ## Style, types, layers, and every test that needs no server
	$(BIN)/pytest -m 'not prove and not integration' --numprocesses $(CORES) --dist worksteal $(SERVERLESS)

.PHONY: test
test: $(STAMP) ## All tests but the long proofs, on the real broker and database
	$(BIN)/pytest -m 'not prove' --numprocesses $(PROCESSES) --dist worksteal --durations 25 --durations-min 4

.PHONY: prove
prove: $(STAMP) ## The long proofs: chaos at full size, many seeds, all examples of each property
	HYPOTHESIS_PROFILE=prove $(BIN)/pytest -m 'prove or hypothesis' --numprocesses $(PROCESSES) --dist worksteal

# SEED is that of a run that failed: the same traffic and the same faults again.
MINUTES ?= 30
.PHONY: soak
soak: $(STAMP) ## Kills, freezes and rebalances of all workers under traffic; MINUTES=30, SEED=
	PITBOSS_SOAK_MINUTES=$(MINUTES) $(if $(SEED),PITBOSS_TEST_SEED=$(SEED)) $(BIN)/pytest tests/faults/test_soak.py

.PHONY: bench
bench: $(STAMP) ## The normaliser against its peer, in one run
	$(BIN)/pitboss bench normalise

##@ Supply chain
.PHONY: lock
lock: ## Write the lock files anew from pyproject.toml, in the versions of constraints.txt (needs uv)
	$(LOCK) pyproject.toml --all-extras --constraint constraints.txt --output-file requirements.lock
	$(LOCK) pyproject.toml --extra replay --extra telemetry --extra build --constraint requirements.lock --output-file infra/image.lock
	echo pip-audit cyclonedx-bom pip-licenses pip | tr ' ' '\n' | $(LOCK) - --output-file infra/audit.lock

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url
AUDIT := .venv-audit/bin
$(AUDIT)/.installed: infra/audit.lock
	test -x $(AUDIT)/python || $(PYTHON) -m venv .venv-audit
	$(AUDIT)/python -m pip --quiet --disable-pip-version-check install --require-hashes --no-deps --requirement infra/audit.lock
	touch $@

.PHONY: audit
audit: $(AUDIT)/.installed ## Known holes of everything that is installed
	$(AUDIT)/pip-audit --require-hashes --disable-pip --progress-spinner off --requirement requirements.lock

.PHONY: licences
licences: $(STAMP) $(AUDIT)/.installed ## Licences of everything that is installed, held against NOTICE
	$(AUDIT)/pip-licenses --python $(BIN)/python --order=license
	$(BIN)/python -m tests.support.licences
	$(AUDIT)/python -m tests.support.licences

IMAGE := .venv-image/bin
$(IMAGE)/.installed: infra/image.lock infra/install_image.sh pyproject.toml
	$(PYTHON) -m venv --clear .venv-image
	sh infra/install_image.sh .venv-image
	touch $@

.PHONY: sbom
sbom: $(AUDIT)/.installed $(IMAGE)/.installed ## A CycloneDX list of what the image installs, in dist/sbom.json
	mkdir -p dist
	$(AUDIT)/cyclonedx-py environment $(IMAGE)/python --pyproject pyproject.toml --output-format JSON --output-file dist/sbom.json

##@ Clean up
.PHONY: clean
clean: ## Stop the embedded servers and remove what was made
	-$(BIN)/pitboss down
	-test ! -d $(SECURE_HOME) || PITBOSS_HOME=$(SECURE_HOME) $(BIN)/pitboss down
	rm -rf .pitboss .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
