# Needs a Python (3.10 to 3.12) with venv, and nothing else. `make help` lists the targets.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.10; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
comma := ,
EXTRAS ?= test
TEST_INSTALLED = $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
WEB_INSTALLED = web/node_modules/.package-lock.json
BUNDLE = web/dist/sources.sha256
BUNDLER = web/bundler/node_modules/.package-lock.json
CONFIG ?= local
# Without PyTorch everything that comes from it is of any type, and these complaints are about nothing else.
MYPY_WITHOUT_TORCH = $(shell $(BIN)/python -c 'import torch' 2>/dev/null || \
	echo --allow-subclassing-any --allow-untyped-decorators --no-warn-return-any --no-warn-unused-ignores)
PIP = $(BIN)/python -m pip --disable-pip-version-check -qq

.DEFAULT_GOAL := help
.PHONY: help run install page test test-slow test-pythons test-library test-plugins check check-web fix bench bench-gpu bench-cluster bench-load bench-faults fuzz audit docs doctor clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 20

run: $(INSTALLED) page ## install what is missing and run the service until Ctrl-C
	@exec $(BIN)/museserve serve --config $(CONFIG)

install: $(INSTALLED) page ## make .venv with the project in it

page: ## bundle the page, where npm is: without that the service gives out its plain modules, which are larger
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory --silent $(BUNDLE) || echo "the page is not bundled: see above"; fi

test: $(TEST_INSTALLED) ## every test that this machine can run; EXTRAS=test,neural adds those of the networks
	$(BIN)/python -m pytest
	cd clients/python && $(CURDIR)/$(BIN)/python -m pytest

test-slow: $(TEST_INSTALLED) ## the tests at full size, too: minutes, 10 GB of memory
	$(BIN)/python -m pytest -m slow

test-pythons: ## the tests without a cluster or a browser, on each of Python 3.10, 3.11 and 3.12 that is here; pyenv's too
	@for version in 3.10 3.11 3.12; do \
		python=$$(command -v python$$version) && $$python -c 'import venv' 2>/dev/null || \
			python=$$(ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$version.*/bin/python 2>/dev/null | tail -n 1); \
		test -n "$$python" || { echo "SKIPPED: Python $$version is not here"; continue; }; \
		$(MAKE) --no-print-directory VENV=.venv-$$version PYTHON=$$python test-library || exit 1; \
	done

test-library: $(TEST_INSTALLED)
	$(BIN)/python -m pytest -m "not serve and not browser and not slow and not gpu and not weights"

test-plugins: $(TEST_INSTALLED) ## each plugin with its framework (up to 1 GB) in an environment of its own: types and tests
	@set -e; for plugin in $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml)); do \
		venv=.venv-$$(basename $$plugin); echo "== $$plugin, in $$venv"; \
		test -x $$venv/bin/python || $(PYTHON) -m venv $$venv; \
		$$venv/bin/python -m pip --disable-pip-version-check -qq install -e 'clients/python[pictures]' -e "$$plugin[test]"; \
		(cd $$plugin && $(CURDIR)/$$venv/bin/mypy && MUSESERVE_PYTHON=$(CURDIR)/$(BIN)/python $(CURDIR)/$$venv/bin/python -m pytest); \
	done

check: $(TEST_INSTALLED) check-web ## format, lint and types; those of the plugins: test-plugins
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(MYPY_WITHOUT_TORCH)
	cd clients/python && $(CURDIR)/$(BIN)/mypy

check-web: ## lint and types of the page and the player
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(WEB_INSTALLED) && cd web && npm run --silent check; \
	else echo "SKIPPED: lint and types of web/, because npm is not installed"; fi

fix: $(TEST_INSTALLED) ## format, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(TEST_INSTALLED) ## speed, memory and lip quality; prints a table and writes JSON to benchmarks/results/
	$(BIN)/python -m benchmarks

bench-gpu: $(TEST_INSTALLED) ## MuseTalk against a plain pipeline of the same model; on the CPU where there is no card
	@$(BIN)/python -c "import torch, diffusers" 2>/dev/null || $(PIP) install --constraint constraints.txt --editable '.[test,gpu]'
	$(BIN)/python -m benchmarks.gpu

bench-cluster: $(TEST_INSTALLED) ## losses, scaling, a redeploy and traffic of a cluster of namespaces; as root, half an hour
	$(BIN)/python -m benchmarks.cluster kills
	$(BIN)/python -m benchmarks.cluster scale
	$(BIN)/python -m benchmarks.cluster redeploy
	$(BIN)/python -m benchmarks.cluster bytes

bench-load: $(TEST_INSTALLED) ## live sessions until an objective breaks, and ten minutes below that; LOAD='--url http://... --key ...' for a service that runs
	$(BIN)/python -m benchmarks.load --soak 10 $(LOAD)

bench-faults: $(TEST_INSTALLED) ## two hours of mixed use with faults, all made from a seed; FAULTS='--minutes 10 --seed 2'
	$(BIN)/python -m benchmarks.faults $(FAULTS)

fuzz: $(TEST_INSTALLED) ## parsers, media files, requests and sessions, for an hour or more; FUZZ='media --media 500' for a part
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(PIP) install --editable '.[$(EXTRAS),fuzz]' || echo "atheris cannot be installed here"
	$(BIN)/python -m tests.fuzz $(FUZZ)

audit: $(TEST_INSTALLED) ## known vulnerabilities of all pinned packages; needs api.osv.dev
	@$(BIN)/python -c "import pip_audit" 2>/dev/null || $(PIP) install --editable '.[$(EXTRAS),audit]'
	$(BIN)/pip-audit --strict --vulnerability-service osv --requirement constraints.txt --disable-pip --no-deps

docs: $(TEST_INSTALLED) ## write docs/cli.md from the commands' own help, docs/licences.md from what is installed, docs/scale.md from what was measured
	$(BIN)/python -m benchmarks.scale --out docs/scale.md >/dev/null
	$(BIN)/python -m tests.licences >docs/licences.md
	PYTHONPATH=. $(BIN)/typer museserve/app/cli.py utils docs --name museserve --title "The command line" --output docs/cli.md

doctor: $(INSTALLED) ## look at every part of the installation
	$(BIN)/museserve doctor --config $(CONFIG)

clean: ## remove what make has made; avatars in the store stay
	rm -rf $(VENV) .venv-* web/node_modules web/bundler/node_modules web/dist examples/react/node_modules examples/react/dist
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "museserve needs Python 3.10, 3.11 or 3.12 with venv; found: $$(python3 --version 2>&1). On Debian: apt install python3-venv. Or: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(WEB_INSTALLED): web/package.json web/package-lock.json
	cd web && npm ci --silent --prefer-offline
	@touch $@

$(BUNDLE): web/index.html web/bundler/bundle.js $(BUNDLER) $(wildcard web/*.js web/*.css web/*.svg web/page/* web/player/*)
	cd web/bundler && npm run --silent bundle

$(BUNDLER): web/bundler/package.json web/bundler/package-lock.json
	cd web/bundler && npm ci --silent --prefer-offline
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV); the first time takes a minute or two ..."
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(TEST_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing with the test tools into $(VENV) ..."
	$(PIP) install --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@ $(INSTALLED)
