# Everything a newcomer needs: `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help venv venv-vllm demo demo-vllm test test-chaos test-vllm test-browser check stress bench bench-rag bench-llm format clean

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

venv:  ## Create .venv with everything the project needs
	@$(PYTHON) tools/bootstrap.py

venv-vllm: venv  ## Create .venv-vllm with the CPU build of vLLM (3.5 GB)
	@$(PYTHON) tools/bootstrap_vllm.py

demo: venv  ## Run the RAG pipeline on this machine's own Python documentation
	@$(BIN)/sage-dask demo $(DEMO)

demo-vllm: venv-vllm  ## The demo through a real vLLM with a tiny random model (no GPU)
	@$(BIN)/sage-dask demo --tiny $(DEMO)

# The whole suite by two processes, a file at a time, as most tests wait for something.  Not in
# xdist's own order, in which files of a few long tests come last.
test: venv  ## Run the tests (minutes)
	@$(BIN)/python -m pytest $(or $(TESTS),-n 2 --dist loadfile --no-loadscope-reorder)

test-chaos: venv  ## Kill runs at random moments, twenty times (minutes); SEED=7 repeats
	@SAGE_DASK_CHAOS_RUNS=$${RUNS:-20} SAGE_DASK_CHAOS_SEED=$(SEED) $(BIN)/python -m pytest -s tests/chaos

test-vllm: venv-vllm  ## Run the tests that need a real vLLM (no GPU; minutes)
	@$(BIN)/python tests/vllm/with_server.py .venv-vllm/bin/python $(TESTS)

test-browser: venv  ## Visit the dashboard's page in a browser; pictures in build/screenshots
	@$(BIN)/python tools/browser.py
	@$(BIN)/python -m pytest -m browser $(or $(TESTS),tests/dashboard)

check: venv  ## Lint, types, layers, docstrings
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/interrogate --quiet sage_dask tools

stress: venv  ## Random histories and chaos, for longer (half an hour)
	@SAGE_DASK_EXAMPLES=10000 $(BIN)/python -m pytest --timeout 3600 tests/scheduling/test_state_machine.py
	@$(BIN)/python -m pytest --timeout 600 -m slow tests
	@SAGE_DASK_CHAOS_STEPS=90 SAGE_DASK_CHAOS_SEED=$${SEED:-5} $(BIN)/python -m pytest --timeout 1200 -m slow \
		tests/scheduling/on_dask/test_chaos.py

bench: venv  ## Measure against plain code, side by side (half an hour)
	@$(BIN)/python -m sage_dask.experiments.bench $(BENCH)

bench-rag: venv  ## Measure what the journal costs the demo (minutes)
	@$(BIN)/python -m sage_dask.demo.journal_cost

bench-llm: venv  ## Measure the way to model servers (three quarters of an hour)
	@$(BIN)/python -m sage_dask.experiments.llm $(LLM)

format: venv  ## Format the code
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

clean:  ## Remove what the targets made, the environment apart
	@rm -rf build dist demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis
