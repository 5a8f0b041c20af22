# make setup   the environment in .venv/ (once; again only when the dependencies change)
# make demo    build the demo triplets under out/demo and verify them
# make systems debug runs of all six systems, and one bench of them beside the classical models
# make test    every test, CPU only, no network
# make check   lint, format, types and the architecture test
# make clean   caches and build products; keeps .venv/ and out/

PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.setup-done
# Seen through a link, as mypy takes module names from folder names and a checkout may be called anything.
TYPES := .mypy_cache/root
MODULES := -m layerkit -m layerkit.__main__ -m layerkit.cli \
	-p layerkit.manifests -p layerkit.toolkit -p layerkit.pipelines -p layerkit.benchmarks
# One thread a process: results do not depend on the machine, and two workers share it evenly.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

# What a run of the debug preset needs beside its data, by system.
SYSTEMS := out/systems
KIT := $(BIN)/layerkit
text2layer := --set "model.codec='$(SYSTEMS)/text2layer-ae'"
asuka := --set "model.mae='$(SYSTEMS)/asuka-mae'" --set "model.decoder='$(SYSTEMS)/asuka-decoder'"
REMOVERS := outpaint-and-remove layerdecomp seele asuka
CLASSICAL := identity mean-fill telea navier-stokes patchmatch closed-form-matting

.PHONY: setup demo systems test check clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e ".[dev,ray,onnx]"
	touch $@

demo: setup
	$(BIN)/layerkit build-triplets demo --out out/demo
	$(BIN)/layerkit verify out/demo

systems: $(REMOVERS:%=$(SYSTEMS)/%/README.md) $(SYSTEMS)/text2layer/README.md $(SYSTEMS)/sdxl
	$(KIT) bench --suite demo --suite ll2i --root ll2i=out/demo --limit 8 --weights $(SYSTEMS)/sdxl \
		$(CLASSICAL:%=--model %) $(REMOVERS:%=--model $(SYSTEMS)/%) \
		--model $(SYSTEMS)/text2layer --model layerfusion --out $(SYSTEMS)/bench

$(SYSTEMS)/%/README.md: | demo
	rm -rf $(@D)
	$(KIT) train $* --preset debug --data out/demo --out $(@D) $($*)

$(SYSTEMS)/text2layer/README.md: $(SYSTEMS)/text2layer-ae/README.md
$(SYSTEMS)/asuka/README.md: $(SYSTEMS)/asuka-mae/README.md $(SYSTEMS)/asuka-decoder/README.md

$(SYSTEMS)/sdxl: | setup
	$(BIN)/python -c "from layerkit.toolkit.models.tiny_sdxl import *; write_tiny_sdxl(Path('$@'))"

# Files in their order: by number of tests, as is the default, the few long ones would come last, on one core.
test: setup
	$(ONE_THREAD) $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not network" $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p $(TYPES) && ln -sfn ../.. $(TYPES)/layerkit
	MYPYPATH=$(TYPES) $(BIN)/mypy $(MODULES)
	$(BIN)/pytest -q tests/test_architecture.py

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -path ./out -prune -o -name __pycache__ -type d -exec rm -rf {} +
