# Everything here needs python3 (3.11 or newer), make, git and a package index; nothing else has to be installed first.
#
#   make run        install, make the example data, and run the main job on it
#   make test       install with everything, and run the tests that take moments
#   make test-slow  the tests that take seconds each: kills, bounds of memory, worker processes, every page of the docs
#   make test-core  the quick tests that need no torch, in an environment that has none
#   make test-integrations  the tests with real trainers, engines and stores, in an environment that has them
#   make test-oldest  chosen tests with the lowest versions of what datacheck needs
#   make docs       the site of the documentation, in site/; a broken link fails
#   make dist       the wheel and the source distribution, in dist/
#   make test-nightly  the tests with Azurite, a server of Azure's blobs, which npm installs
#   make check      lint, format, types, layers, Dockerfile
#   make fuzz       damaged files of every format, for FUZZ_SECONDS (an hour); `make test-slow` does it for half a minute
#   make bench      the benchmarks, side by side with peers
#   make clean      remove what all of these made

PYTHON ?= python3
VENV ?= .venv
CORE_VENV ?= .venv-core
INTEGRATIONS_VENV ?= .venv-integrations
AZURITE ?= .azurite
OLDEST_VENV ?= .venv-oldest
PIPELINE ?= pipelines/flights.yaml
PYTEST_ARGS ?=
# Each process runs whole files of tests, so that what a file prepares is prepared once.
TEST_PROCESSES ?= 2
FUZZ_SECONDS ?= 3600

BIN := $(VENV)/bin
CORE_BIN := $(CORE_VENV)/bin
INTEGRATIONS_BIN := $(INTEGRATIONS_VENV)/bin
OLDEST_BIN := $(OLDEST_VENV)/bin
# Tests start hundreds of interpreters; compiled files let each start in two thirds of the time.
unexport PYTHONDONTWRITEBYTECODE
IN_PARALLEL := -n $(TEST_PROCESSES) --dist loadfile
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# pip learned to read dependency groups in 25.1, and a fresh environment may bring an older one.
NEW_PIP := $(INSTALL) --upgrade pip
REQUIREMENTS := pyproject.toml constraints.txt

.PHONY: run data test test-slow test-core environments test-integrations test-nightly test-oldest docs dist fuzz check lint format types layers lint-docker bench clean
.DEFAULT_GOAL := run

run: $(VENV)/.installed data
	$(BIN)/datacheck run $(PIPELINE) --format text --format html -o report.html

data: $(VENV)/.installed
	$(BIN)/python pipelines/make_data.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not slow" $(IN_PARALLEL) $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow $(IN_PARALLEL) $(PYTEST_ARGS)

fuzz: $(INTEGRATIONS_VENV)/.installed
	$(INTEGRATIONS_BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS)

test-core: $(CORE_VENV)/.installed
	$(CORE_BIN)/python -c "import importlib.util as u, sys; sys.exit('torch is installed' if u.find_spec('torch') else 0)"
	$(CORE_BIN)/python -m pytest -m "not torch and not slow" $(IN_PARALLEL) $(PYTEST_ARGS)

# What other targets need, so that it can be installed beside them.
environments: $(CORE_VENV)/.installed $(INTEGRATIONS_VENV)/.installed

test-integrations: $(INTEGRATIONS_VENV)/.installed
	$(INTEGRATIONS_BIN)/python -m pytest tests/external tests/fuzz tests/integration/test_every_format.py $(IN_PARALLEL) $(PYTEST_ARGS)

# Old versions warn of what newer ones of others deprecate.
# What these tests read and write needs no extra: Parquet, Arrow, CSV, arrays, archives, schemas, pipelines, commands.
test-oldest: $(OLDEST_VENV)/.installed
	$(OLDEST_BIN)/python -m pytest -W ignore::DeprecationWarning $(IN_PARALLEL) $(PYTEST_ARGS) $(addprefix tests/,\
		unit/test_schema_loading.py unit/test_schema_yaml.py unit/test_pandera_checks.py unit/test_pandera_conversion.py \
		unit/test_sources_csv.py unit/test_sources_npy.py unit/test_sinks_tables.py unit/test_cli.py unit/test_cli_help.py \
		unit/test_cleaning_statistics.py profile/test_summaries.py property/test_screen.py property/test_walk_arrow.py \
		integration/test_job_run.py gate/test_gate_selection.py)

docs: $(VENV)/.installed-docs
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

dist: $(VENV)/.installed-dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist

test-nightly: $(INTEGRATIONS_VENV)/.installed $(AZURITE)/.installed
	AZURITE=$(AZURITE)/node_modules/.bin/azurite-blob $(INTEGRATIONS_BIN)/python -m pytest tests/nightly $(PYTEST_ARGS)

check: lint types layers lint-docker

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed-dev
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/mypy pipelines/make_data.py pipelines/make_records.py

layers: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q tests/unit/test_layers.py

lint-docker: $(VENV)/.installed-dev
	$(BIN)/hadolint Dockerfile

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(CORE_VENV) $(INTEGRATIONS_VENV) $(AZURITE) $(OLDEST_VENV) data out report.html .bench build dist site .pytest_cache .hypothesis .mypy_cache .ruff_cache

# A stamp is written last, so that an installation that was interrupted is done again.
$(VENV)/.created:
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python $(NEW_PIP)
	touch $@

$(VENV)/.installed: $(VENV)/.created $(REQUIREMENTS)
	$(BIN)/python $(INSTALL) --editable . --group data
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python $(INSTALL) --editable '.[all]' --group test-torch
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(BIN)/python $(INSTALL) --group dev
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-test
	$(BIN)/python $(INSTALL) --group docs
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(BIN)/python $(INSTALL) --group bench
	touch $@

$(CORE_VENV)/.created:
	$(PYTHON) -m venv --clear $(CORE_VENV)
	$(CORE_BIN)/python $(NEW_PIP)
	touch $@

$(CORE_VENV)/.installed: $(CORE_VENV)/.created $(REQUIREMENTS)
	$(CORE_BIN)/python $(INSTALL) --editable . --group test
	touch $@

$(INTEGRATIONS_VENV)/.created:
	$(PYTHON) -m venv --clear $(INTEGRATIONS_VENV)
	$(INTEGRATIONS_BIN)/python $(NEW_PIP)
	touch $@

$(INTEGRATIONS_VENV)/.installed: $(INTEGRATIONS_VENV)/.created $(REQUIREMENTS)
	$(INTEGRATIONS_BIN)/python $(INSTALL) --editable '.[all]' --group test-integrations
	touch $@

$(OLDEST_VENV)/.created:
	$(PYTHON) -m venv --clear $(OLDEST_VENV)
	$(OLDEST_BIN)/python $(NEW_PIP)
	touch $@

# The lowest versions, and the newest of what they need in turn.
$(OLDEST_VENV)/.installed: $(OLDEST_VENV)/.created $(REQUIREMENTS) .ci/oldest.py
	$(OLDEST_BIN)/python .ci/oldest.py > $(OLDEST_VENV)/oldest.txt
	$(OLDEST_BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(OLDEST_VENV)/oldest.txt \
		--editable . --group test-oldest
	touch $@

$(AZURITE)/.installed:
	npm install --prefix $(AZURITE) --ignore-scripts --no-fund --no-audit azurite@3.37.0
	touch $@
