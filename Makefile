# Two commands matter: `make demo` and `make test`. Both set up what they need.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: help demo test check setup system clean

help:
	@echo "make demo   captions and answers on a real recording, in the terminal, and a page to open"
	@echo "make test   everything that must pass"
	@echo "make setup  only the environment, in $(VENV)"

demo: setup
	@$(BIN)/python -m clients.demo

test: setup system check
	$(BIN)/pytest --cov=af3stream --cov-report=term:skip-covered

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("af3stream needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# What the tests need beyond Python: a browser, and PortAudio for the microphone.
system:
	@scripts/system-packages.sh

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
