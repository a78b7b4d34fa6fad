# Two commands: `make reproduce` (set-up, quick study, book) and `make test` (set-up, tests).
# Everything is built in build/ and .venv/, both ignored by git; `make clean` removes build/.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PROFILE ?= quick
CORES ?= 2
PORT ?= 8000
# Real images for the evidence page of `make book`; without them it shows none.  The network is trained for it once.
IMAGES ?=

BIN := .venv/bin
READY := .venv/.ready
# A call that was killed leaves a lock and half-done jobs behind: the lock is dropped, the jobs are redone.
SNAKEMAKE = $(BIN)/python -m snakemake --cores $(CORES) --rerun-triggers mtime --rerun-incomplete --show-failed-logs \
	--quiet host reason
NOISE = ^(\[.*\]|Assuming|Building|Using|Rules claim|Provided|Select|Execute|Finished|Touching|Complete|$$)
graph = set -o pipefail; $(SNAKEMAKE) $(1) --unlock >/dev/null 2>&1 || true; \
	$(SNAKEMAKE) $(1) 2>&1 | { grep --line-buffered -vE '$(NOISE)' || true; }

.PHONY: help setup reproduce book serve records evidence benchmark test lint lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || grep '##' Makefile

setup: $(READY) ## make .venv from requirements.lock

reproduce: $(READY) ## run the study here (PROFILE=quick, CORES=2; PROFILE=paper needs DATA=folder) and build the book from it
	@$(call graph,--config profile=$(PROFILE) train=True build=build/$(PROFILE) results=build/$(PROFILE)/results $(if $(filter-out quick,$(PROFILE)),$(if $(DATA),'data=$(DATA)')))
	@echo "Open build/$(PROFILE)/book/_build/html/index.html"

book: $(READY) ## build the book from the committed records, without training
	@$(call graph,--config profile=$(PROFILE) train=False build=build results=results 'images=$(IMAGES)')
	@echo "Open build/book/_build/html/index.html"

serve: book ## build the book and show it at http://localhost:8000 (PORT=8000) until Ctrl-C
	@echo "http://localhost:$(PORT)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/book/_build/html $(PORT)

records: reproduce ## replace the committed records and tables by the ones just produced
	@rm -f results/runs/$(PROFILE)_*.json results/tables/*.csv
	@mkdir -p results/runs results/tables
	@for run in $$($(BIN)/python -c "from mambaad.study import plan; print(*plan.runs('$(PROFILE)'))"); do \
		cp "build/$(PROFILE)/results/runs/$(PROFILE)_$$run.json" results/runs/; done
	@cp build/$(PROFILE)/results/tables/*.csv results/tables/

evidence: $(READY) ## make the runs on real images (DATA=folder of mvtec/ and other/, WEIGHTS=folder of ResNet18 and the MobileNets)
	@test -n "$(DATA)" || { echo "name the images: make evidence DATA=folder; mambaad data where real_v1 says which"; exit 2; }
	@$(SNAKEMAKE) --snakefile evidence.smk --config 'data=$(DATA)' 'weights=$(WEIGHTS)' --unlock >/dev/null 2>&1 || true
	@$(SNAKEMAKE) --snakefile evidence.smk --keep-going --config 'data=$(DATA)' 'weights=$(WEIGHTS)'

# Bound threads: the times of a run agree better with each other; the metrics' threads are numpy's and are not bound.
benchmark: $(READY) ## time this library on this machine and replace the benchmark records
	@OMP_PROC_BIND=true $(BIN)/python -m mambaad benchmark scan stages model scaling methods
	@$(BIN)/python -m mambaad benchmark metrics
	@$(BIN)/python -m mambaad benchmark exports training --threads 1

# One process per core, each on one thread: the tests' networks are too small to gain from more.  A file stays in one
# process, since its tests share what is slow to make.
test: $(READY) ## run the tests (CORES=2)
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadfile $(ARGS)

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

lock: $(READY) ## compile requirements.lock from pyproject.toml
	@$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --extra study --extra dev \
		--no-emit-index-url --custom-compile-command "make lock" pyproject.toml -o requirements.lock

clean: ## remove build/
	@rm -rf build

# uv installs exactly the lock in seconds once its cache is warm, and ignores pip's configuration, which on some
# machines offers a CPU build of torch that does not fit the locked torchvision.  pip is the way out without uv.
# UV_TORCH_BACKEND=cpu (uv's own variable) leaves the CUDA libraries out.
$(READY): requirements.lock pyproject.toml $(wildcard mambaad/ops/routed_scan/native/*)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else \
		"Python 3.11 or newer is needed, but $(PYTHON) is %d.%d. Name another: make PYTHON=python3.12" % v[:2])'
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| $(PYTHON) -m venv --clear .venv
	@mkdir -p build
	@if [ "$${UV_TORCH_BACKEND:-}" = cpu ]; then grep -vE '^(nvidia-|cuda-|triton==)' requirements.lock; \
		else cat requirements.lock; fi > build/requirements.txt
	@if $(BIN)/python -m pip install --quiet 'uv>=0.8'; then \
		$(BIN)/python -m uv pip sync --python $(BIN)/python build/requirements.txt \
		&& $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	else \
		echo "uv cannot be installed here; using pip, which is slower"; \
		$(BIN)/python -m pip install -r build/requirements.txt \
		&& $(BIN)/python -m pip install --quiet --no-deps --editable .; \
	fi
	@$(BIN)/python -c 'import torchvision' \
		|| { echo "torch and torchvision in .venv do not fit: both must come from the same source, see requirements.lock"; exit 1; }
	@touch $@
