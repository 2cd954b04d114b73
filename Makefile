# Two commands on a fresh machine: `make quickstart` and `make test`. They need Python 3.11 or newer, and make.

PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
RUNS ?= runs
PYTEST ?= $(BIN)/python -m pytest

.PHONY: quickstart test test-slow lint types site speed clean help

help:
	@echo "make quickstart  set up and run the embedded benchmark to a leaderboard"
	@echo "make test        set up and run the tests (make test-slow: the slow ones)"
	@echo "make site        build the page of the committed results, leaderboards/site/index.html"
	@echo "make lint types  ruff, and mypy --strict"
	@echo "make speed       measure everything about speed, also against torchdistill, and write docs/speed.md"
	@echo "make clean       remove $(VENV) and $(RUNS)"

quickstart: $(VENV)/.installed
	$(BIN)/lightning-kd bench run digits-v1 --output $(RUNS)
	$(BIN)/lightning-kd leaderboard build $(RUNS)/results --output $(RUNS)/site/index.html

test: $(VENV)/.installed
	$(PYTEST) -n auto -m "not slow"

test-slow: $(VENV)/.installed
	$(PYTEST) -n 2 --dist loadfile -m slow

speed: $(VENV)/.installed
	$(BIN)/python -m pip install -qq "torchdistill==1.1.5"
	$(BIN)/python benchmarks/speed/report.py --date $$(date +%Y-%m-%d)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "lightning_kd needs Python 3.11 or newer; none was found on the PATH. \
	Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): PyTorch is several gigabytes, this takes a minute or more."
	@$(BIN)/python -m pip install -qq --upgrade pip
	@$(BIN)/python -m pip install -qq --editable ".[dev]"
	@touch $@

site: $(VENV)/.installed
	$(BIN)/lightning-kd leaderboard build leaderboards --output leaderboards/site/index.html

clean:
	rm -rf $(VENV) $(RUNS)
