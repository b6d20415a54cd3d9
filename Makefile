# Everything that a contributor types. `make help` lists it.

.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
SECRETS ?= secrets
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
# Neither uv nor pip leaves out the tests of packages and large packages of which few modules are ever imported, and a few files of
# packages are templates, not Python. Others are hardly imported, or not as Python; what is imported of them is compiled then.
HARDLY_IMPORTED := fontTools|git|graphql|gunicorn|moto|mypy|mypyc|networkx|playwright|pytorch_lightning|setuptools
COMPILE := -m compileall -qq -j 0 -x '/(tests?|testing|databricks|pip|ray)/|/site-packages/($(HARDLY_IMPORTED))/'
# Four processes of one thread each: on two cores, the others use the time in which tests wait for other processes.
PYTEST := -m pytest -n 4 --dist loadfile --no-loadscope-reorder
# The tests start hundreds of processes. Without compiled modules, each of them would compile the project again.
unexport PYTHONDONTWRITEBYTECODE

# $(call make_venv,FOLDER,PYTHON): FOLDER is a virtual environment of Python 3.11 or 3.12; one that is there is kept.
define make_venv
@command -v "$(2)" >/dev/null || { \
	echo "make: no $(2) on the PATH; name a Python 3.11 or 3.12, such as: make install PYTHON=/usr/bin/python3.11" >&2; exit 1; }
@"$(2)" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { \
	echo "make: $(2) is $$("$(2)" --version 2>&1); Pyramidion needs 3.11 or 3.12, such as: make install PYTHON=python3.11" >&2; exit 1; }
@test -x "$(1)/bin/python" || "$(2)" -m venv "$(1)"
endef

# $(call install,FOLDER,CONSTRAINTS,REQUIREMENTS): uv needs a third of pip's time. It does not read pip's configuration, so it is told
# pip's index; pip itself takes over where uv cannot install, such as behind a certificate that only pip knows.
define install
@$(1)/bin/python $(PIP_INSTALL) -c $(2) uv
@index="$$($(1)/bin/python -m pip config list | sed -n "s/.*[.]index-url='\(.*\)'/\1/p" | head -n 1)"; \
$(1)/bin/uv pip install --quiet --python $(1)/bin/python $${index:+--default-index "$$index"} -c $(2) $(3) \
	|| { echo "make: uv could not install; trying pip" >&2; $(1)/bin/python $(PIP_INSTALL) -c $(2) $(3); }
endef

.PHONY: help install demo check format test test-integration test-reliability test-slow test-matrix bench bench-predict bench-service bench-scale bench-engines bench-bccd bench-augmentation bench-heads bench-finetuning bench-finetuning-peers bench-joint bench-frozen bench-backbones bench-speed bench-loader bench-scorer bench-gpu bench-large-set bench-side-by-side bench-exports backbones secrets build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-24s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with the command `pyramidion` in it (about 6.7 GB, one to three minutes)

$(INSTALLED): pyproject.toml constraints.txt
	$(call make_venv,$(VENV),$(PYTHON))
	@echo "installing into $(VENV) (about 6.7 GB, one to three minutes)"
	$(call install,$(VENV),constraints.txt,-e ".[dev]")
	@$(BIN)/python $(COMPILE) $(VENV)/lib || true
	@$(BIN)/python $(COMPILE) backbones heads pipelines service
	@touch $@

# The service runs beside the lines below it, in a session of its own so that Ctrl-C reaches the client alone, and ends with them.
demo: SHELL := /bin/bash
demo: install ## start the service, submit a job by REST, watch it, predict one image, stop (below 5 minutes on 2 cores)
	rm -rf demo
	$(BIN)/pyramidion data synth demo/data/demo
	@set -e; \
	coproc SERVE { exec setsid $(BIN)/pyramidion serve --root demo/service --port 0 --data-root demo/data 2>demo/serve.log; }; \
	serve=$$!; \
	trap 'cat demo/job 2>/dev/null | xargs -r $(BIN)/pyramidion cancel 2>/dev/null || true; kill $$serve 2>/dev/null && wait $$serve' EXIT; \
	read -r _ url _ <&$${SERVE[0]} || { cat demo/serve.log >&2; exit 1; }; \
	export PYRAMIDION_URL=$${url%,}; echo "serving $$PYRAMIDION_URL"; \
	$(BIN)/pyramidion submit recipe:demo --wait >demo/job; \
	$(BIN)/pyramidion predict --model demo demo/data/demo/images/test/000001.jpg --draw demo/pictures >demo/predictions.json

check: install ## ruff, mypy (strict), import-linter
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## let ruff rewrite what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

test: install ## the default suite: CPU, no network, below 10 minutes on 2 cores
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

test-integration: install ## whole commands and services, the commands of the README included (6 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "integration and not reliability" -n 2 --dist loadfile $(PYTEST_OPTIONS)

test-slow: install ## the slow rest
	$(BIN)/python -m pytest -m "slow and not reliability"

test-reliability: install ## kills, stops and outages on SQLite and PostgreSQL (hours; RELIABILITY_REPETITIONS=2 for a short form)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m reliability $(PYTEST_OPTIONS)

test-matrix: .venv-py311-torch211/.installed .venv-py312-torch215/.installed ## the default suite on the oldest and the newest corner (two more environments of 6 GB)
	OMP_NUM_THREADS=1 .venv-py311-torch211/bin/python $(PYTEST)
	OMP_NUM_THREADS=1 .venv-py312-torch215/bin/python $(PYTEST)

.venv-py311-torch211/.installed: pyproject.toml constraints.txt
	$(call make_venv,$(@D),python3.11)
	@grep -vE '^(torch|torchvision|triton|setuptools|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==' constraints.txt >$(@D)/constraints.txt
	$(call install,$(@D),$(@D)/constraints.txt,-e ".[dev]" torch==2.11.0 torchvision==0.26.0)
	@touch $@

.venv-py312-torch215/.installed: pyproject.toml constraints.txt
	$(call make_venv,$(@D),python3.12)
	$(call install,$(@D),constraints.txt,-e ".[dev]")
	@touch $@

bench: bench-predict bench-service bench-scale bench-bccd bench-augmentation bench-heads bench-finetuning bench-joint bench-frozen bench-backbones bench-speed ## every benchmark

bench-predict: install ## predictions over REST against the model alone (5 minutes on 2 quiet cores)
	$(BIN)/python -m tests.bench.predict
	$(BIN)/python -m tests.bench.predict --runtime openvino

bench-service: install ## latencies of the API under idle and slow connections, a silent MLflow and 500 listeners (two minutes)
	$(BIN)/python -m tests.bench.service

bench-scale: install ## claims, queue latency and lists of jobs with 100,000 jobs on PostgreSQL and SQLite, for docs/scale.md (ten minutes)
	$(BIN)/python -m tests.bench.scale

bench-engines: install ## start and speed of a tiny training on this host, in Slurm and on Ray (root; 15 minutes)
	$(BIN)/python -m tests.bench.engines

bench-bccd: install ## the BCCD recipes with three seeds: figures for docs/benchmarks.md (50 minutes on 2 cores, and three runs of bccd_pretrained)
	$(BIN)/python -m tests.bench.bccd

bench-augmentation: install ## recipe:bccd with each preset of data.augment and three seeds (about an hour on 2 quiet cores)
	$(BIN)/python -m tests.bench.comparison augmentation

bench-heads: install ## recipe:bccd with each detection head and three seeds (about an hour on 2 quiet cores)
	$(BIN)/python -m tests.bench.comparison heads

bench-finetuning: install ## transfer strategies from ImageNet weights on BCCD: the runs that have no row yet (all: about an hour of CPU time)
	$(BIN)/python -m tests.bench.finetuning

bench-finetuning-peers: install ## recipe:finetune against torchvision and Ultralytics (AGPL-3.0, own environment) at equal wall time (40 minutes)
	$(BIN)/python -m tests.bench.finetuning_peers

bench-joint: install ## one model for three tasks against three models (about 15 minutes on 2 quiet cores)
	$(BIN)/python -m tests.bench.joint

bench-frozen: install ## a training step with 0 to 3 frozen stages (a minute)
	$(BIN)/python -m tests.bench.frozen_stages

bench-backbones: install ## a training step of our networks against the libraries', and of each family by precision (ten minutes)
	$(BIN)/python -m tests.bench.backbones

bench-speed: install ## training steps and predictions against torchvision (ten minutes)
	$(BIN)/python -m tests.bench.speed

bench-gpu: install ## training steps on a GPU against torchvision, and the share of time spent waiting for data (8 minutes)
	$(BIN)/python -m tests.bench.gpu

bench-loader: install ## the loader against torchvision's transforms, image by image (a minute)
	$(BIN)/python -m tests.bench.loader

bench-scorer: install ## the scorer of detections against pycocotools, 500,000 detections (two minutes)
	$(BIN)/python -m tests.bench.scorer

bench-large-set: install ## the data check of 117,000 images, and the memory of data workers (five minutes)
	$(BIN)/python -m tests.bench.large_set

bench-side-by-side: install ## training steps in one process and in two at once, by the waiting of threads (six minutes, idle machine)
	$(BIN)/python -m tests.bench.side_by_side

bench-exports: install ## three backbones exported to each runtime: quality on BCCD and times (three trainings of ten CPU-minutes, and nine exports)
	$(BIN)/python -m tests.bench.exports

backbones: install ## measure the catalog's networks again, and write docs/backbones.md (a minute; after a row was added)
	$(BIN)/python -m backbones.measured.names
	$(BIN)/python -m backbones.measured.facts
	$(BIN)/python -m backbones.measured.page

# Hexadecimal digits need no quotes in URLs. The folder is closed to others, the files are readable for the users of containers.
secrets: ## random secrets for docker-compose.yml in secrets/; existing ones are kept
	@umask 077; mkdir -p "$(SECRETS)"; cd "$(SECRETS)"; \
	random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }; \
	keep() { test -s "$$1" && cat >/dev/null || cat >"$$1"; chmod 444 "$$1"; }; \
	for name in postgres_password mlflow_postgres_password predictor_secret ray_token; do random | keep $$name; done; \
	printf '[default]\naws_access_key_id = pyramidion\naws_secret_access_key = %s\n' "$$(random)" | keep s3_credentials; \
	printf 'postgresql+psycopg://pyramidion:%s@postgres:5432/pyramidion\n' "$$(cat postgres_password)" | keep database_url

build: install ## a wheel in dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove what this file made, but no runs
	rm -rf .venv .venv-py311-torch211 .venv-py312-torch215 demo dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
