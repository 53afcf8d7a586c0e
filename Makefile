PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check clean
run: $(VENV)/ready
	$(BIN)/repeng run

# Two processes of one thread each: threads of several processes that wait for each other are slower than none.
test: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV)
