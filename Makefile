# make test: lint and all tests.  make demo: faces.h5, faces.png and head.glb from the bundled model.
# make test-blender: exported files in a real Blender and, where npm is there, before Khronos' validator of glTF;
# it installs the bpy wheel (370 MB) beside the environment.
# All set everything up first; only Python 3.11 must be there. PIP_ARGS is passed to every `pip install`
# (for example the index of PyTorch's CPU builds: Linux wheels from the default index bring CUDA along).

PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV ?= .venv
PIP_ARGS ?=
PYTEST_ARGS ?= -n auto --maxprocesses 4
OUT ?= .
BPY ?= 4.5.15

STAMP := $(VENV)/.lift3d-installed
INSTALL := $(VENV)/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt
LIFT3D := $(VENV)/bin/lift3d
BLENDER_VENV := $(CURDIR)/.venv-bpy-$(BPY)
BLENDER_STAMP := $(BLENDER_VENV)/.installed
VALIDATOR := $(if $(shell command -v npm),$(CURDIR)/.venv-gltf-validator)
VALIDATOR_STAMP := $(addsuffix /node_modules/gltf-validator/package.json,$(VALIDATOR))

.PHONY: setup setup-blender lint test test-blender docs demo clean

setup: $(STAMP)

$(STAMP): setup.py constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) -e ".[dev]"
	touch $@

lint: $(STAMP)
	$(VENV)/bin/ruff check .

test: lint
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest $(PYTEST_ARGS)

# bpy wants Python 3.11 and numpy 1, so it has an environment of its own.
$(BLENDER_STAMP):
	$(PYTHON) -m venv $(BLENDER_VENV)
	$(BLENDER_VENV)/bin/python -m pip install --quiet $(PIP_ARGS) bpy==$(BPY)
	touch $@

$(VALIDATOR_STAMP):
	npm install --silent --prefix $(VALIDATOR) gltf-validator@2.0.0-dev.3.10
	touch $@

setup-blender: $(STAMP) $(BLENDER_STAMP) $(VALIDATOR_STAMP)

test-blender: export OMP_NUM_THREADS := 1
test-blender: export LIFT3D_BLENDER := $(BLENDER_VENV)/bin/python
test-blender: export LIFT3D_GLTF_VALIDATOR := $(VALIDATOR)
test-blender: setup-blender
	$(VENV)/bin/pytest $(PYTEST_ARGS) tests/export/test_blender.py tests/export/test_glb.py tests/export/test_texture.py

demo: $(STAMP)
	$(LIFT3D) sample --n 16 --out $(OUT)/faces.h5 --contact-sheet $(OUT)/faces.png --no-card --overwrite
	$(LIFT3D) export $(OUT)/faces.h5 --sample 0 --out $(OUT)/head.glb --overwrite

# Pages that are written from the source: docs/dataset.md, docs/api.md, docs/settings.md. A test tells when they are stale.
docs: $(STAMP)
	$(VENV)/bin/python docs/make.py

clean:
	rm -rf $(VENV) .venv-* build *.egg-info
