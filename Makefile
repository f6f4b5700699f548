# `make help` lists the targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CONF   ?= conf/quickstart.yaml
NAME   ?= $(basename $(notdir $(CONF)))
CKPT   ?=
MINUTES ?=
JOBS   ?= 2
DURATION = $(shell printf '00:%02d:%02d:00' $$(($(MINUTES) / 60)) $$(($(MINUTES) % 60)))

.DEFAULT_GOAL := help
.PHONY: help install install-oldest quickstart fit sample eval test test-slow soak bench lint type format docs build clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-14s %s\n", $$1, $$2}'

# The trained model is in the repository, not in the source package.
MODEL = $(wildcard models/elf_books/pyproject.toml)

$(VENV)/.installed: pyproject.toml constraints.txt requirements-embedded.txt $(MODEL)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade --constraint constraints.txt pip setuptools
	$(BIN)/pip install --quiet --no-build-isolation --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps --requirement requirements-embedded.txt
	$(if $(MODEL),$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable $(dir $(MODEL)))
	touch $@

install: $(VENV)/.installed ## create .venv with every version pinned

install-oldest: ## create VENV=… at the lower version bounds, with uv (UV_OPTIONS="--torch-backend cpu")
	uv venv --quiet --clear --python 3.11 $(VENV)
	uv pip install --quiet --python $(BIN)/python --resolution lowest-direct $(UV_OPTIONS) --editable '.[dev]'
	uv pip install --quiet --python $(BIN)/python --no-deps --requirement requirements-embedded.txt
	$(if $(MODEL),uv pip install --quiet --python $(BIN)/python --no-deps --editable $(dir $(MODEL)))

quickstart: install ## install, print texts of a trained model, fine-tune it, sample and evaluate (MINUTES=60 trains longer)
	$(BIN)/elf sample --checkpoint elf_books --num 2 --steps 32 --trajectory runs/elf_books.html
	$(BIN)/elf fit --config conf/quickstart.yaml --name quickstart $(if $(MINUTES),--trainer.max_time $(DURATION) --trainer.max_steps -1)
	$(BIN)/elf sample --checkpoint runs/quickstart --num 8
	$(BIN)/elf eval --checkpoint runs/quickstart

fit: install ## train CONF=conf/….yaml into runs/NAME
	$(BIN)/elf fit --config $(CONF) --name $(NAME)

sample: install ## print samples from CKPT=… (default: the newest checkpoint of NAME)
	$(BIN)/elf sample --checkpoint $(or $(CKPT),runs/$(NAME))

eval: install ## score the newest checkpoint, or CKPT=…, and write its report (CONF=conf/eval/….yaml adds settings)
	$(BIN)/elf eval $(if $(CKPT),--checkpoint $(CKPT)) $(if $(filter-out file,$(origin CONF)),--config $(CONF))

test: install ## check style, types and layers, and run all fast tests in JOBS=2 processes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not slow' -n $(JOBS) --dist loadfile

test-slow: install ## run the slow tests
	$(BIN)/pytest -m slow

soak: install ## stop runs and change bytes at random, N=100 of each kind; hours
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/soak.py $(or $(N),100)

bench: install ## measure speed and memory, as ratios within one run
	$(BIN)/python -m benchmarks.train_step --size bible --rounds 15 --json benchmarks/results/train-step-bible.json
	$(BIN)/python -m benchmarks.fast_paths --size bible --json benchmarks/results/fast-paths-bible.json
	$(BIN)/python -m benchmarks.train_step --only optimizer --size bible --rounds 15 --json benchmarks/results/optimizer-bible.json
	$(BIN)/python -m benchmarks.train_step --only optimizer --size elf-b --json benchmarks/results/optimizer-elf-b.json
	$(BIN)/python -m benchmarks.sample --size bible --json benchmarks/results/sample-bible.json
	$(BIN)/python -m benchmarks.loader --size bible --json benchmarks/results/loader-bible.json
	$(BIN)/python -m benchmarks.startup --json benchmarks/results/startup.json
	$(BIN)/python -m benchmarks.memory --size elf-b --batch-size 2 --json benchmarks/results/memory-elf-b.json

lint: install ## check style and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: install ## check types
	$(BIN)/mypy

format: install ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --no-build-isolation --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(VENV)/.docs ## build the docs site in site/; whatever is wrong in it is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html is there; for the search: $(BIN)/python -m http.server --directory site"

build: install ## build the source package and the wheel in dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

clean: ## remove build outputs and caches; keep runs
	rm -rf build dist site src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
