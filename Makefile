# Two commands do everything on a fresh machine that has Python, make and the package registries:
#   make demo    the main job on a real Kafka and real data
#   make test    all tests
# `make help` lists the rest.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python -m

.DEFAULT_GOAL := help
.PHONY: browser help demo test test-faults check format bench docs notebook screenshots lock clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

# The environment: made when missing, and again when what the project needs changes.
$(VENV)/.ready: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade uv
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		--constraint constraints.txt --editable '.[demo]' --group dev
	@touch $@

demo: $(VENV)/.ready  ## freeze, train, run three versions, compare: on a real Kafka with real flights
	@$(RUN) pipelines.flights.demo

# Pages are tested in Debian's Chromium. Where there is none and none can be had, these tests say so.
browser:
	@[ -n "$$CHROMIUM" ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
		|| command -v google-chrome >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
			&& apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium >/dev/null; } \
		|| echo "no Chromium: install one, or set CHROMIUM to its path" >&2

# Half of the time a test waits for a broker, so two processes take half as long. Each has a broker of its own, and the
# tests of a file stay in one.
test: $(VENV)/.ready browser  ## all tests
	$(RUN) pytest --numprocesses 2 --dist loadfile

# `make test` holds a short form of them. MLSTREAM_FAULT_SEED repeats what failed. It ends with a table of what runs lost
# and doubled: nothing.
test-faults: $(VENV)/.ready  ## the fault tests in their long form: 200 transactions and more a fault, every point to die at
	MLSTREAM_FAULT_ROUNDS=$${MLSTREAM_FAULT_ROUNDS:-200} $(RUN) pytest tests/faults $(RUN_FAULTS)

RUN_FAULTS := $(addprefix tests/runs/test_, exactly_once.py old_cluster.py error_faults.py state.py)

check: $(VENV)/.ready  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(RUN) mypy

format: $(VENV)/.ready  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.ready-bench: $(VENV)/.ready
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		--constraint constraints.txt --editable '.[demo,bench]'
	@touch $@

bench: $(VENV)/.ready-bench  ## the figures of the README, each beside its peers (about a quarter of an hour; leave the machine alone)
	$(RUN) benchmarks

notebook: $(VENV)/.ready  ## open the notebook of the demo
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python jupyterlab
	$(BIN)/jupyter lab notebooks/

# Needs the store that `make demo` filled.
screenshots: $(VENV)/.ready browser  ## the pictures of the README, from the comparison that `make demo` recorded
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group docs
	$(BIN)/python docs/screenshots.py .mlstream

docs: $(VENV)/.ready  ## write docs/cli.md and configs/schema.json from the code
	@$(BIN)/python docs/generate.py

# Not from the environment that the old constraints made: what is new may not agree with them.
lock:  ## renew constraints.txt, the versions that the tests ran with
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade uv
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url \
		--all-extras --group dev --group docs pyproject.toml --output-file constraints.txt

clean:  ## remove the environment and what tools left; the store in .mlstream stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mlstream pipelines tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
