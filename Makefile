# Every target makes what it needs: a virtual environment with pip, then the extras of pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Hundreds of processes that the tests start would each compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

# Tests wait for processes and disks, so that three share two cores.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) * 3 / 2 )))
PYTEST = -m pytest -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-core test-flower test-minimum test-slow coverage lint format bench cards docs clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*##/ {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/build.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[build]'
	@touch $@

# Releases of torch and torchvision that the tests are known to pass with; any that pyproject.toml allows will do.
TORCH ?= torch==2.14.1 torchvision==0.29.1

$(VENV)/train.stamp: pyproject.toml | $(BIN)/python
	-$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[build,plot,train]'
	@touch $@ $(VENV)/build.stamp

$(VENV)/docs.stamp: pyproject.toml | $(BIN)/python
	-$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/build.stamp $(VENV)/train.stamp

# What the official package needs in what it is compared with is in the extra `dev`, so that nothing else is installed for it.
$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	-$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps 'medmnist==3.0.2'
	@touch $@ $(VENV)/build.stamp $(VENV)/train.stamp $(VENV)/docs.stamp

$(VENV)/frameworks.stamp: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --editable '.[dev,frameworks,ray]'
	@touch $@

# The examples of these pages run in environments with what each page installs, over the packages of this one.
FRAMEWORKS := $(patsubst docs/frameworks/%.md,$(VENV)/frameworks/%.stamp,$(filter-out %/index.md,$(wildcard docs/frameworks/*.md)))
$(VENV)/frameworks/%.stamp: docs/frameworks/%.md | $(VENV)/frameworks.stamp
	$(BIN)/python -m tests.fixtures.environments $< $(VENV)/frameworks/$*
	@touch $@

# Slurm's packages, unpacked and not installed, so root is not needed; unless it is installed. Where it cannot be had, its tests
# fail and say what to do.
$(VENV)/slurm.stamp: tests/fixtures/engines/slurm.py | $(VENV)/dev.stamp
	-$(BIN)/python -m tests.fixtures.engines.slurm $(VENV)/slurm && touch $@

# What corruptions are compared with, in a folder of its own: it asks for an old scikit-image and for torch.
$(VENV)/medmnistc.stamp: | $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --target $(VENV)/medmnistc --no-deps 'medmnistc==0.1.0' scikit-image lazy-loader wand
	@touch $@

# Each AutoML engine has an environment of its own. auto-sklearn needs an old Python: where there is none, the command says
# what to install, and the tests of that engine are skipped.
$(VENV)/automl/auto-sklearn.stamp: medmnist_hf/automl/locks/auto-sklearn.txt | $(VENV)/dev.stamp
	-$(BIN)/medmnist-hf automl-env auto-sklearn && touch $@

$(VENV)/automl/%.stamp: medmnist_hf/automl/locks/%.txt | $(VENV)/dev.stamp
	$(BIN)/medmnist-hf automl-env $*
	@touch $@

demo: $(VENV)/build.stamp  ## Build, verify and load synthetic subsets of every task, train on one (installs torch, some GB)
	$(BIN)/python scripts/demo.py --part data
	@test -e $(VENV)/train.stamp || echo "Next: training. It needs PyTorch and what it comes with: on Linux with wheels for GPUs 6 GB installed."
	$(MAKE) $(VENV)/train.stamp
	$(BIN)/python scripts/demo.py --part training

test: $(VENV)/dev.stamp  ## Run the tests
	$(BIN)/python $(PYTEST) -m 'not slow and not core'

# An environment without extras; what its tests compare with is missing too, so that some are skipped.
CORE := $(VENV)/core
CORE_TESTS := $(addprefix tests/,console conversion data evaluation exporting hub leaderboard loading official places project/test_core.py scoring source_images statistics submissions) \
	$(addprefix tests/space/test_,facts.py pictures.py push.py record.py site.py) \
	$(wildcard tests/test_*.py)

$(CORE).stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(CORE)
	$(CORE)/bin/python -m pip install --quiet --upgrade pip
	$(CORE)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@

test-core: $(CORE).stamp  ## Run what needs no extra in an environment without extras
	$(CORE)/bin/python $(PYTEST) -m 'not slow' -p tests.fixtures.without_extras $(CORE_TESTS)

# Next to Flower: flwr needs typer before 0.21 and rich before 15, flwr-datasets needs datasets 4. They bring an extra's package,
# so that nothing says which extra is missing.
FLOWER := $(VENV)/flower
$(FLOWER).stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(FLOWER)
	$(FLOWER)/bin/python -m pip install --quiet --upgrade pip
	$(FLOWER)/bin/python -m pip install --quiet --editable '.[test]' flwr flwr-datasets
	@touch $@

test-flower: $(FLOWER).stamp  ## Run what needs no extra next to Flower, with datasets 4
	$(FLOWER)/bin/python $(PYTEST) -m 'not slow' -p tests.fixtures.without_extras $(filter-out %/test_core.py,$(CORE_TESTS))

# The lowest versions that pyproject.toml allows of all that it names, with the Python that this is made with.
MINIMUM := $(VENV)/minimum
$(MINIMUM).stamp: pyproject.toml | $(VENV)/dev.stamp
	$(BIN)/python -m venv --clear $(MINIMUM)
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --python $(MINIMUM)/bin/python --extra dev pyproject.toml -o $(MINIMUM)/lowest.txt
	$(BIN)/uv pip install --quiet --no-deps --python $(MINIMUM)/bin/python -r $(MINIMUM)/lowest.txt 'medmnist==3.0.2' --editable .
	@touch $@

test-minimum: $(MINIMUM).stamp  ## Run the tests with the lowest versions that pyproject.toml allows
	$(MINIMUM)/bin/python $(PYTEST) -m 'not slow and not core'

coverage: $(VENV)/dev.stamp  ## Run the tests and measure what they cover, which must not be less than the floor in pyproject.toml
	$(BIN)/python $(PYTEST) -m 'not slow and not core' --cov --cov-report=
	$(BIN)/python -m coverage report --skip-covered --sort=cover

ENGINES := $(addprefix $(VENV)/automl/,auto-sklearn.stamp autogluon.stamp autokeras.stamp)
test-slow: $(VENV)/frameworks.stamp $(FRAMEWORKS) $(VENV)/slurm.stamp $(VENV)/medmnistc.stamp $(ENGINES) $(MINIMUM).stamp  ## Run the slow tests, which need Chromium and Slurm (fetched by apt-get), then test-flower and test-minimum
	$(BIN)/python $(PYTEST) -m slow
	$(MAKE) test-flower
	$(MAKE) test-minimum

lint: $(VENV)/dev.stamp  ## Check style, types, spelling and phrases
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/typos
	$(BIN)/python -m pytest tests/project/test_glossary.py

format: $(VENV)/dev.stamp  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/frameworks.stamp  ## Measure conversion, loading, training and metric against their peers
	$(BIN)/python scripts/bench/bench_encode.py
	$(BIN)/python scripts/bench/bench_decode.py
	$(BIN)/python scripts/bench/bench_build.py
	$(BIN)/python scripts/bench/bench_metric.py
	$(BIN)/python scripts/bench/bench_corruptions.py
	$(BIN)/python scripts/bench/bench_start.py
	$(BIN)/python scripts/bench/bench_load.py
	$(BIN)/python scripts/bench/bench_train.py

cards: $(VENV)/build.stamp  ## Render the static cards
	$(BIN)/python scripts/render_cards.py

docs: $(VENV)/docs.stamp  ## Build the documentation into build/docs; a warning is an error
	$(BIN)/python scripts/render_cli.py --check
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet docs build/docs
	@echo build/docs/index.html

clean:  ## Remove the environment and caches; builds in dist/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
