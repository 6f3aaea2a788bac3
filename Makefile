# Two commands matter: `make demo` and `make test`. Both set up what they need.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DOCS   := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site
FAST   := not (mini or browser or desktop or microphone or slow or long)

.PHONY: help demo test test-fast test-long coverage check docs audit setup system mini-train mini-train-smoke clean

help:
	@echo "make demo       captions and answers on a real recording, in the terminal, and a page to open"
	@echo "make check      formatting, lint, types and docs"
	@echo "make test-fast  the tests without the embedded checkpoint, a browser, Qt or a microphone"
	@echo "make test       everything that must pass"
	@echo "make test-long  before a release: training, chaos and soak at length, and fuzzing"
	@echo "make coverage   the lines that no test runs"
	@echo "make docs       the documentation as a site, in build/site"
	@echo "make setup      only the environment, in $(VENV)"

demo: setup
	@$(BIN)/python -m af3stream_clients.demo

# Two workers; tests/conftest.py says which tests run one after the other.
test: setup system check
	$(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder --durations=30

# The same tests in one process, with the lines that none of them runs.
coverage: setup system
	$(BIN)/pytest --cov=af3stream --cov-report=term-missing:skip-covered

# What a developer runs while working. It installs no Debian package.
test-fast: setup
	$(BIN)/pytest -m "$(FAST)" --durations=15

test-long: setup system mini-train-smoke
	$(BIN)/pytest -m long --durations=0
	$(BIN)/python -m bench.chaos --histories 300
	$(BIN)/python -m bench.chaos --cluster --histories 300
	$(BIN)/python -m bench.chaos --ray --histories 25
	$(BIN)/python -m tests.fuzz.decoders -runs=1000000 -seed=1

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(DOCS) --quiet

# The site, in build/site. It needs no network.
docs: setup
	$(DOCS)

# Checks the environment against its lock, and the lock against known vulnerabilities.
audit: setup
	@$(BIN)/python scripts/audit.py

setup: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("af3stream needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Debian packages that the tests need, such as a browser and PortAudio.
system:
	@scripts/system-packages.sh

# Trains the embedded checkpoint from packages. An interrupted run continues. FROM names trained parts to start from.
TRAINING ?= $(HOME)/.cache/af3stream-training
FROM     ?=
# Keep freed memory in the process: the kernel would clear it again at every step, which takes a third of the time.
TRAIN    := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 MALLOC_ARENA_MAX=1 OMP_WAIT_POLICY=passive \
            $(BIN)/python -u -m training

mini-train: setup
	@training/packages.sh
	$(TRAIN) --folder $(TRAINING) --start "$(FROM)"

# The same in minutes. It fails if the losses do not fall.
mini-train-smoke: setup
	@training/packages.sh
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && $(TRAIN) --folder "$$work" --smoke

clean:
	rm -rf $(VENV) .venv-clients .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
