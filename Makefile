# make serve   a TorchServe with models/dgs11 on 127.0.0.1:8080
# make demo    the webcam page before it
# make help    everything else

PYTHON ?= python3.11
# Options for pip, such as an index of CPU builds of torch: make serve PIP_ARGS="--extra-index-url …"
PIP_ARGS ?=
BIN := .venv/bin
PINNED := pyproject.toml constraints.txt
PYTEST_PARALLEL := --numprocesses logical --maxprocesses 4 --dist loadgroup

.DEFAULT_GOAL := help
# A .venv that was not finished (Debian without python3-venv, Ctrl-C) is made anew.
.DELETE_ON_ERROR:
.PHONY: help serve demo build doctor training video deploying lambda-door lambda image image-test test unit lint \
	bench bench-all bench-peers fuzz attack audit sbom clean

help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 21
	@echo
	@echo '  Variables of make serve: SPOTER_PORT (8080), SPOTER_MANAGEMENT_PORT (8081), SPOTER_METRICS_PORT (8082),'
	@echo '  SPOTER_HOST (127.0.0.1), SPOTER_MODEL (models/dgs11), SPOTER_RUNTIME (its own), SPOTER_WORKERS (one a core),'
	@echo '  SPOTER_LOGS (logs), SPOTER_MODEL_STORE (model_store). Of all: PYTHON (python3.11), PIP_ARGS (options for pip).'

serve: .venv/serve.stamp ## serve models/dgs11 until Ctrl-C
	@$(BIN)/spoter serve

demo: .venv/demo.stamp ## serve the webcam page, and the model if it is not up, until Ctrl-C
	@$(BIN)/spoter demo

build: .venv/serve.stamp ## write model_store/spoter.mar and model_store/model.tar.gz
	$(BIN)/python build_mar.py

doctor: .venv/serve.stamp ## check what serving needs
	$(BIN)/spoter doctor

training: .venv/train.stamp ## install what training and judging need

video: .venv/video.stamp ## install what reading videos needs, in an environment of its own

deploying: .venv/deploy.stamp ## install what deploy.py needs

lambda-door: .venv/serve.stamp ## write model_store/lambda_function.zip: Lambda's door to an endpoint
	$(BIN)/python -m spoter.aws.functions.build_proxy

lambda: .venv/serve.stamp ## write model_store/lambda.zip: the model inside a Lambda function
	$(BIN)/python -m spoter.aws.functions.build_standalone $(LAMBDA_ARGS)

image: ## build the image spoter:VERSION for EC2 and ECR
	docker/build.sh

image-test: .venv/dev.stamp ## build the image and run it in every way (Linux; Docker or podman)
	$(BIN)/python -m pytest -m image tests/docker/image

test: lint .venv/video.stamp ## every test: a real TorchServe, a real browser, real videos
	@$(BIN)/python -m spoter.aws.local.environment
	$(BIN)/python -m pytest $(PYTEST_PARALLEL)

unit: .venv/dev.stamp ## the quick tests: those that need no server, browser, video or AWS double (90 seconds)
	$(BIN)/python -m pytest -m 'not image and not server and not browser and not video and not aws and not slow' $(PYTEST_PARALLEL)

lint: .venv/dev.stamp ## check the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

bench: .venv/bench.stamp ## measure decoding, normalising, the model and the server
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-all: .venv/peers.stamp ## every bench, into build/bench/report.md (25 minutes)
	$(BIN)/python -m benchmarks.everything $(BENCH_ARGS)

bench-peers: .venv/peers.stamp ## measure the server beside others that serve the same model (12 minutes)
	$(BIN)/python -m benchmarks.peers $(BENCH_ARGS)

fuzz: .venv/dev.stamp ## 100,000 mutated requests, guided fuzzing of every decoder, hostile bodies (25 minutes)
	$(BIN)/python -m stress.http_fuzz $(FUZZ_ARGS)
	$(BIN)/python -m stress.decoder_fuzz --seconds 60
	$(BIN)/python -m stress.cost_amplification

attack: .venv/dev.stamp ## a server of its own under faults, overload, limits and 15 minutes of load (30 minutes)
	$(BIN)/python -m stress.faults
	$(BIN)/python -m stress.limits
	$(BIN)/python -m stress.isolation
	$(BIN)/python -m stress.overload
	$(BIN)/python -m stress.soak

audit: .venv/audit.stamp ## look for known vulnerabilities of what is served (asks the internet)
	@$(BIN)/pip-audit --strict --disable-pip --no-deps --progress-spinner off --requirement docker/requirements.txt \
		--requirement constraints.txt || \
		{ echo 'make audit: vulnerable, or not all could be audited: see above' >&2; exit 1; }

sbom: .venv/audit.stamp ## write build/sbom.json and build/sbom-image.json: what is served
	$(BIN)/python scripts/sbom.py

clean: ## remove everything that make made
	rm -rf .venv .local-container logs build *.egg-info model_store/*.mar model_store/*.tar.gz model_store/*.zip web/node_modules .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

# pip runs again only when what is to be installed has changed.
.venv/serve.stamp: .venv/bin/python $(PINNED)
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable '.[serve]'
	@touch $@

.venv/train.stamp: .venv/serve.stamp
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable '.[serve,train]'
	@touch $@

.venv/demo.stamp: .venv/serve.stamp
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable '.[serve,demo]'
	@touch $@

.venv/video.stamp: .venv/serve.stamp spoter/video/requirements.txt
	$(BIN)/python -m spoter.video.install $(PIP_ARGS)
	@touch $@

.venv/deploy.stamp: .venv/serve.stamp
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable '.[serve,deploy]'
	@touch $@

.venv/bench.stamp: .venv/serve.stamp
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable '.[serve,bench,fuzz,train]'
	@touch $@

.venv/peers.stamp: .venv/bench.stamp benchmarks/peers/requirements.txt
	$(BIN)/python -m benchmarks.peers.environment $(PIP_ARGS)
	@touch $@

.venv/audit.stamp: .venv/serve.stamp
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable '.[serve,audit]'
	@touch $@

.venv/dev.stamp: .venv/train.stamp .venv/deploy.stamp .venv/demo.stamp .venv/bench.stamp .venv/audit.stamp
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable '.[serve,train,tensorboard,demo,deploy,bench,fuzz,audit,dev]'
	@touch $@
