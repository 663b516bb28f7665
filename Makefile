# SpotScope: `make demo` shows it, `make test` proves it. Both set up what they need.
VENV ?= .venv
PYTHON_IN := $(VENV)/bin/python
DEMO ?= spotscope-demo
export SPOTSCOPE_VENV := $(VENV)

.PHONY: help demo test lint setup setup-dev constraints clean

help:
	@echo "make demo         set up, then show the sample study (a window, or demo.png without a display)"
	@echo "make test         set up, then run the whole test suite under a virtual display"
	@echo "make lint         set up, then check style and types"
	@echo "make setup        set up what the demo needs, and no more"
	@echo "make setup-dev    set up what the tests need"
	@echo "make constraints  pin the newest packages that fit together"
	@echo "make clean        remove .venv and what the demo wrote"

setup:
	@scripts/set-up.sh run

setup-dev:
	@scripts/set-up.sh dev

demo: setup
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname -s)" != Linux ]; then \
		$(VENV)/bin/spotscope demo --out $(DEMO); \
	else \
		scripts/with-display.sh $(VENV)/bin/spotscope demo --out $(DEMO) --no-window; \
	fi

# One process a core, each with one thread: numerical libraries that share cores wait for one another.
test: setup-dev
	@OMP_NUM_THREADS=1 scripts/with-display.sh --virtual $(PYTHON_IN) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(TESTS)

lint: setup-dev
	@$(PYTHON_IN) -m ruff check .
	@$(PYTHON_IN) -m ruff format --check .
	@$(PYTHON_IN) -m mypy

constraints:
	@scripts/pin.sh

clean:
	rm -rf $(VENV) $(DEMO) demo.png build dist
