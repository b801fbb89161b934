# make serve   serve models/dgs11 with TorchServe on 127.0.0.1:8080
# make demo    also serve the webcam page
# make help    list all targets

PYTHON ?= python3.11
# Options for pip, such as an index of CPU builds of torch: make training PIP_ARGS="--extra-index-url …"
PIP_ARGS ?=
BIN := .venv/bin
# One process more than cores: tests that wait for a server leave a third of the processor time unused.
PYTEST_PARALLEL = --numprocesses $(shell $(BIN)/python -c 'import os; print(min(4, os.cpu_count() + 1))') --dist loadgroup
INSIDE_DEV := serve demo deploy torch train
QUICK := not image and not server and not browser and not video and not aws and not slow

.DEFAULT_GOAL := help
# Removes an incomplete .venv (Debian without python3-venv, Ctrl-C).
.DELETE_ON_ERROR:
.PHONY: help serve demo build doctor training video deploying lambda-proxy lambda image image-test test unit lint \
	reference wheel bench bench-all bench-peers fuzz attack audit sbom clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 21
	@echo
	@echo '  Variables of make serve, with their defaults: SPOTER_PORT (8080), SPOTER_MANAGEMENT_PORT (8081),'
	@echo '  SPOTER_METRICS_PORT (8082), SPOTER_HOST (127.0.0.1), SPOTER_MODEL (models/dgs11), SPOTER_WORKERS (one per core),'
	@echo '  SPOTER_RUNTIME (the one in config.json), SPOTER_LOGS (logs), SPOTER_MODEL_STORE (model_store).'
	@echo '  Variables of all targets: PYTHON (python3.11), PIP_ARGS.'

serve: .venv/serve.stamp ## serve models/dgs11 until Ctrl-C
	@$(BIN)/spoter serve

demo: .venv/demo.stamp ## serve the webcam page until Ctrl-C, and the model if no server runs
	@$(BIN)/spoter demo

build: .venv/serve.stamp ## write model_store/spoter.mar and model_store/model.tar.gz
	$(BIN)/python build_mar.py

doctor: .venv/serve.stamp ## check that this machine can serve
	$(BIN)/spoter doctor

training: .venv/train.stamp ## install torch and the packages for training, evaluating and converting

video: .venv/video.stamp ## install MediaPipe for videos, in a separate environment

deploying: .venv/deploy.stamp ## install the packages for `spoter deploy`

lambda-proxy: .venv/serve.stamp ## write model_store/lambda_proxy.zip: a Lambda function that calls an endpoint
	$(BIN)/python -m spoter.aws.functions.build_proxy

lambda: .venv/serve.stamp .venv/torch.stamp ## write model_store/lambda.zip: a Lambda function with the model inside
	$(BIN)/python -m spoter.aws.functions.build_standalone $(LAMBDA_ARGS)

image: ## build the Docker image spoter:VERSION for EC2 and ECR
	docker/build.sh

image-test: .venv/dev.stamp ## build the image and test it (Linux; Docker or podman)
	$(BIN)/python -m pytest -m image tests/docker/image

test: lint .venv/video.stamp ## run every test, with a real TorchServe, a real browser and real videos
	@$(BIN)/python -m spoter.aws.local.environment
	$(BIN)/python -m pytest $(PYTEST_PARALLEL)

unit: .venv/dev.stamp ## run the tests that need no server, browser, video or AWS double (90 seconds)
	$(BIN)/python -m pytest -m '$(QUICK)' $(PYTEST_PARALLEL)

lint: .venv/dev.stamp ## check style, types, layers (docs/architecture.md), spelling and docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/interrogate --quiet spoter handler

reference: .venv/dev.stamp ## write the generated pages of docs/: error codes, command line, Python API
	$(BIN)/python -m scripts.reference

wheel: .venv/dev.stamp ## write dist/spoter-*.whl and check it
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist

bench: .venv/dev.stamp ## measure decoding, normalization, the model and the server
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-all: .venv/peers.stamp ## run every benchmark and write build/bench/report.md (half an hour)
	$(BIN)/python -m benchmarks.everything $(BENCH_ARGS)

bench-peers: .venv/peers.stamp ## compare the server with others that serve the same model (12 minutes)
	$(BIN)/python -m benchmarks.peers $(BENCH_ARGS)

fuzz: .venv/dev.stamp ## send 100,000 mutated requests, fuzz every decoder, send hostile bodies (25 minutes)
	$(BIN)/python -m stress.http_fuzz $(FUZZ_ARGS)
	$(BIN)/python -m stress.decoder_fuzz --seconds 60
	$(BIN)/python -m stress.cost_amplification

attack: .venv/dev.stamp ## put a server under faults, overload, limits and 15 minutes of load (30 minutes)
	$(BIN)/python -m stress.faults
	$(BIN)/python -m stress.limits
	$(BIN)/python -m stress.isolation
	$(BIN)/python -m stress.overload
	$(BIN)/python -m stress.soak

audit: .venv/dev.stamp ## look for known vulnerabilities in the packages of a server (needs the internet)
	@$(BIN)/pip-audit --strict --disable-pip --no-deps --progress-spinner off --requirement docker/requirements.txt \
		--requirement constraints.txt || \
		{ echo 'make audit: a package is vulnerable or could not be audited; see the messages of pip-audit' >&2; exit 1; }

sbom: .venv/dev.stamp ## write the bills of materials of a server: build/sbom.json, build/sbom-image.json
	$(BIN)/python -m scripts.sbom

clean: ## remove everything that make has created
	rm -rf .venv .local-container logs build dist model_store/*.mar model_store/*.tar.gz model_store/*.zip \
		web/node_modules .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

# Installs an extra of pyproject.toml. pip runs again only if pyproject.toml or constraints.txt has changed. It compiles
# no bytecode, which would double the time; Python compiles modules at import. The extra dev includes INSIDE_DEV.
.venv/%.stamp: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --no-compile $(PIP_ARGS) --constraint constraints.txt --editable '.[$*]'
	@touch $@ $(if $(filter dev,$*),$(INSIDE_DEV:%=.venv/%.stamp))

.venv/video.stamp: .venv/serve.stamp spoter/video/requirements.txt
	$(BIN)/python -m spoter.video.install $(PIP_ARGS)
	@touch $@

.venv/peers.stamp: .venv/dev.stamp benchmarks/peers/requirements.txt
	$(BIN)/python -m benchmarks.peers.environment $(PIP_ARGS)
	@touch $@
