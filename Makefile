# Everything a fresh machine needs is Python 3.11 with venv, and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := ota_contract edge_runtime converter ota_server device_sdk ferry_cli demo benchmarks models tests

.PHONY: help setup demo test lint types imports tests lock clean

help: ## show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## create .venv with the locked packages

# uv installs the lock in seconds where pip takes minutes; it is itself locked by digest.
$(READY): requirements/bootstrap.lock requirements/dev.lock requirements/torch.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/bootstrap.lock
	$(BIN)/python -m pip install --quiet -r requirements/torch.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --no-deps --python $(BIN)/python --require-hashes \
		-r requirements/dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

demo: $(READY) ## the whole journey on this machine, with a printed summary (ARGS=--keep leaves it running)
	$(BIN)/python -m demo $(ARGS)

test: lint types imports tests ## every check and every test

lint: $(READY)
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

# A file to a worker: what a module sets up once, a server or a whole demonstration, stays once.
tests: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lock: $(READY) ## resolve the lock files anew
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header -o requirements/bootstrap.lock requirements/bootstrap.in
	$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --group dev \
		--extra onnx --extra tflite --extra coreml --extra cli --extra server --extra converter \
		--extra keras --extra sklearn --extra torch --no-emit-package torch \
		--override requirements/without-cuda.txt -o requirements/dev.lock pyproject.toml

clean: ## remove everything that was made
	rm -rf $(VENV) build dist
