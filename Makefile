# The commands that people, .ci/run and the workflows run. They need uv (`pip install uv`) and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# `make test ARGS="-k leak"` passes options to pytest; `make demo OUT=folder` sets the output folder.
# `make bench ARGS="--viscy-sampler FILE"` adds VisCy's released sampler to the peers: the sampler.py of the viscy-data
# of mehta-lab/VisCy, for instance by `uv pip install --no-deps --target FOLDER viscy-data==0.1.0` outside this workspace.
# `make bench-reading ARGS="--viscy PATH"` adds the dataset of VisCy's data module, in a checkout of mehta-lab/VisCy; it
# needs monai and imageio in the folder VISCY_REQUIREMENTS: `uv pip install --no-deps --target FOLDER monai imageio`.
ARGS ?=
OUT ?=
DIST ?= dist
VERSION ?=

# Many tests start processes that import torch and Lightning; with compiled bytecode, that takes a third of the time.
unexport PYTHONDONTWRITEBYTECODE

# Tests that start processes wait for them, so one more of them at a time than there are cores. The tests of a file share
# its fixtures.
WAITING := -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder

PACKAGES := viscy-data viscy-sampling-testkit viscy-train
EXPORT := uv export --quiet --upgrade --all-packages --all-groups --no-emit-workspace --no-annotate --no-header \
	--format requirements-txt
LOWEST := .venvs/lowest
ANNDATA := .venvs/anndata
INSTALLED := .venvs/installed
# Installed outside the workspace, whose constraints on versions do not hold for them, but with its date.
EXCLUDE_NEWER := $(shell sed -n 's/^exclude-newer = "\(.*\)"/\1/p' pyproject.toml)
# The first still reads its files with NumPy 1 and pandas 2; the last is whatever is newest.
ANNDATA_VERSIONS := anndata==0.10.9,numpy==1.26.4,pandas==2.2.3,zarr==2.18.3,numcodecs==0.13.1 anndata==0.12.3,pandas==2.3.3 anndata
BENCH := .venvs/bench
BENCHMARKS := PYTHONPATH=packages/viscy-data $(BENCH)/bin/python

.PHONY: help setup wheels dist test-dist lint format types test test-fast test-weekly test-random $(PACKAGES:%=test-%) test-lowest test-anndata coverage docs test-docs demo bench bench-full bench-reading bench-loss bench-step bench-scale bench-ranks bench-store bench-start bench-overhead bench-gpu bench-env faults profile lock lock-check plan-check check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  %-28s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install all packages and tools into .venv
	uv sync

wheels: ## build the wheels of all packages into dist
	rm -f $(DIST)/viscy_*
	uv build --quiet --all-packages --wheel --out-dir $(DIST)

dist: ## build source distributions into dist, and from them the wheels; with VERSION=0.2.0, of this version
	rm -f $(DIST)/viscy_*
	$(if $(VERSION),UV_DYNAMIC_VERSIONING_BYPASS=$(VERSION)) uv build --quiet --all-packages --out-dir $(DIST)

test-dist: dist ## install the wheels into an empty environment, check them and run the demo there
	uv tool run --quiet --exclude-newer $(EXCLUDE_NEWER) twine check --strict $(DIST)/viscy_*
	uv tool run --quiet --exclude-newer $(EXCLUDE_NEWER) check-wheel-contents $(DIST)/*.whl
	uv venv --quiet --clear --python 3.12 $(INSTALLED)
	version=$$(echo $(DIST)/viscy_train-*.whl | sed 's/.*viscy_train-\(.*\)-py3-none-any.whl/\1/'); \
		uv pip install --quiet --directory / --exclude-newer $(EXCLUDE_NEWER) --find-links $(abspath $(DIST)) \
			--python $(CURDIR)/$(INSTALLED) "viscy-train==$$version" "viscy-sampling-testkit==$$version"
	$(INSTALLED)/bin/python -P tools/dist_check.py $(DIST)

lint: plan-check ## run ruff and ShellCheck, and check formatting and plans
	uv run ruff check
	uv run ruff format --check
	uv run shellcheck .ci/run packages/viscy-train/examples/*.sh

format: ## fix what ruff can fix
	uv run ruff check --fix
	uv run ruff format

types: ## check types
	uv run ty check

test: ## run all tests
	uv run pytest $(ARGS)

test-fast: ## run the tests that are not marked slow, in parallel
	uv run pytest -m "not slow" -n auto --dist worksteal $(ARGS)

test-weekly: ## run the tests that .ci/run leaves out because they take long
	uv run pytest -m weekly $(WAITING) $(ARGS)

test-random: ## run the tests that are not marked slow with other random examples than the usual ones
	RANDOM_EXAMPLES=1 uv run pytest -m "not slow" -n auto --dist worksteal $(ARGS)

test-viscy-data: ## run its tests with its own dependencies only
test-viscy-sampling-testkit: ## run its tests with its own dependencies only
test-viscy-train: ## run its tests with its own dependencies only
$(PACKAGES:%=test-%): test-%:
	UV_PROJECT_ENVIRONMENT=.venvs/$* uv sync --quiet --exact --package $*
	UV_PROJECT_ENVIRONMENT=.venvs/$* uv run --no-sync pytest packages/$* $(ARGS)

test-lowest: ## test golden sequences, ranks, resume and tables with the lowest supported dependencies
	uv venv --quiet --clear --python 3.12 $(LOWEST)
	uv pip install --quiet --python $(LOWEST) --resolution lowest-direct \
		--editable packages/viscy-data --editable packages/viscy-sampling-testkit \
		'pytest>=8.3' 'hypothesis>=6.110' 'polars>=1' 'pyarrow>=16'
	$(LOWEST)/bin/python -c 'import numpy, pandas, torch; print(numpy.__version__, pandas.__version__, torch.__version__)'
	$(LOWEST)/bin/python -m pytest $(addprefix packages/viscy-data/tests/,test_golden.py test_resume.py test_ranks.py test_errors.py table/test_tables.py) -m "not weekly" $(ARGS)

test-anndata: ## read and rewrite a file of embeddings with the oldest supported and the newest anndata
	uv run python tools/embeddings_file.py write $(ANNDATA)/embeddings.h5ad
	for packages in $(ANNDATA_VERSIONS); do \
		uv venv --quiet --clear --python 3.12 $(ANNDATA)/venv; \
		uv pip install --quiet --directory / --exclude-newer $(EXCLUDE_NEWER) \
			--python $(CURDIR)/$(ANNDATA)/venv $${packages//,/ }; \
		$(ANNDATA)/venv/bin/python tools/embeddings_file.py read $(ANNDATA)/embeddings.h5ad; \
	done

coverage: ## run all tests but the weekly ones in parallel; fail if the fast tests of viscy_data leave out a line or branch of it
	uv run pytest packages/viscy-data -m "not slow" -n auto --dist worksteal --cov=viscy_data --cov-report= $(ARGS)
	uv run coverage report --include='packages/viscy-data/src/*' --fail-under=100
	uv run pytest -m "not weekly" -k "slow or not viscy-data" $(WAITING) $(ARGS)

docs: ## build the site into docs/_build/html; any warning is an error
	uv run --group docs --extra hela sphinx-build -q -W --keep-going --fresh-env docs docs/_build/html
	uv run python tools/offline.py docs/_build/html

test-docs: ## run the code of READMEs and of the site's pages, the demo first
	uv run pytest tools/tests/test_pages.py $(WAITING) $(ARGS)

demo: ## run the demo into a new folder or into OUT
	out="$(OUT)"; uv run viscy-train demo --out "$${out:-$$(mktemp -d)/demo}"

bench: ## measure the sampler and its peers at up to 1e7 rows and write BENCHMARKS.md
bench-full: ## do the same at up to 1e8 rows
bench bench-full: bench-env
	$(BENCHMARKS) -m benchmarks $(if $(filter bench-full,$@),--full) --output BENCHMARKS.md $(ARGS)

bench-reading: ## measure how fast crops are read and write its part of packages/viscy-train/BENCHMARKS.md
	PYTHONPATH=packages/viscy-train uv run python -m benchmarks.reading --output packages/viscy-train/BENCHMARKS.md $(ARGS)

bench-loss: ## measure the memory of the loss and write its part of packages/viscy-train/BENCHMARKS.md
	PYTHONPATH=packages/viscy-train uv run python -m benchmarks.loss --output packages/viscy-train/BENCHMARKS.md $(ARGS)

bench-step: ## compute what the loss of a step sees and write its part of packages/viscy-train/BENCHMARKS.md
	PYTHONPATH=packages/viscy-train uv run python -m benchmarks.step --output packages/viscy-train/BENCHMARKS.md

bench-start: ## measure how long commands take to start and write its part of packages/viscy-train/BENCHMARKS.md
	PYTHONPATH=packages/viscy-train uv run python -m benchmarks.start --output packages/viscy-train/BENCHMARKS.md $(ARGS)

bench-scale: ## measure time and memory of projects of up to 1e7 observations; write that part of the same page
	PYTHONPATH=packages/viscy-train uv run python -m benchmarks.scale --output packages/viscy-train/BENCHMARKS.md $(ARGS)

bench-ranks: ## measure the memory of four processes on a table of 1e7 rows or of ARGS="--rows N"; write that part of the same page
	PYTHONPATH=packages/viscy-train uv run python -m benchmarks.ranks --output packages/viscy-train/BENCHMARKS.md $(ARGS)

bench-overhead: ## measure what fit adds to a step of a bare training loop and write its part of the same page
	PYTHONPATH=packages/viscy-train uv run python -m benchmarks.overhead --output packages/viscy-train/BENCHMARKS.md $(ARGS)

bench-gpu: ## measure data wait on a GPU and write that part of the same page, or say that there is no GPU
	PYTHONPATH=packages/viscy-train uv run python -m benchmarks.gpu --output packages/viscy-train/BENCHMARKS.md $(ARGS)

bench-store: ## measure codecs, and a crop store of 1e6 crops, and write that part of packages/viscy-train/BENCHMARKS.md
	PYTHONPATH=packages/viscy-train uv run python -m benchmarks.store --output packages/viscy-train/BENCHMARKS.md $(ARGS)

faults: ## disturb viscy-train by 200 faults in OUT (default: faults), print a report; resumes where it was interrupted
	out="$(OUT)"; uv run python tools/train_faults.py "$${out:-faults}" $(ARGS)

profile: bench-env ## show where the time of a batch is spent, step by step
	$(BENCHMARKS) -m benchmarks.parts_of_a_batch $(ARGS)

bench-env: ## install what the benchmarks need into .venvs/bench
	uv venv --quiet --allow-existing --python 3.12 $(BENCH)
	uv pip install --quiet --python $(BENCH) --editable packages/viscy-data \
		--requirement packages/viscy-data/benchmarks/requirements.txt

lock: ## resolve all dependencies again and write them to requirements.txt
	$(EXPORT) --output-file requirements.txt >/dev/null

lock-check: ## fail if requirements.txt differs from what the dependencies resolve to
	$(EXPORT) | diff requirements.txt - || { echo 'requirements.txt is stale: run make lock, commit it'; exit 1; }

plan-check: ## fail if a plan or requirement names something that does not exist
	uv run python tools/plan_check.py

check: lint lock-check types coverage test-lowest test-anndata docs test-docs test-dist ## run everything that must pass

clean: ## remove environments, caches and the output of runs
	rm -rf .venv .venvs docs/_build docs/_pictures faults dist .coverage .coverage.* htmlcov .pytest_cache .ruff_cache .hypothesis viscy-demo lightning_logs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
