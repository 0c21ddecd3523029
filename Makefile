# make demo, make test, make lint, make bench, make docs: each sets up what it needs in .venv.
# make fashion-mnist fetches that data set for examples/train_vi_simsiam.py, where apt is.
# make test-fast takes a minute on two idle cores: it leaves out the tests marked slow.
# make docs builds the site in build/docs, without a network; open build/docs/index.html.
# make sanitize runs the CPU kernels under the sanitizers of GCC; make sanitize-fast takes two minutes.
# make cuda-check compiles the CUDA kernels, where there is an nvcc, prints what each takes
# of a multiprocessor, and fails on register spills;
# make cuda-sanitize runs them under compute-sanitizer, where there is a GPU.
# make wheel builds and checks what goes to PyPI, in dist/, with CUDA kernels where there is an nvcc;
# make wheel-test TORCH=2.13.0 tries each wheel beside that torch. make aarch64-check compiles the CPU
# kernels for 64-bit ARM. make release-check TAG=v0.2.0 says whether a tag may be published.
PYTHON ?= python3
BIN := .venv/bin

SOURCES := $(wildcard csrc/*.* csrc/*/*.* csrc/*/*/*.*)
EXTRAS := examples test dev docs

.PHONY: demo fashion-mnist test test-fast lint bench docs sanitize sanitize-fast cuda-check cuda-sanitize \
        wheel wheel-test aarch64-check release-check clean

demo: .venv/examples
	$(BIN)/python examples/train_vi_simsiam.py --overwrite

# Debian's package, without being root; examples/vi_simsiam/data.py finds it there.
fashion-mnist:
	mkdir -p build/datasets
	cd build/datasets && apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb .

# A file goes to one worker, so that what its tests cache is computed once.
PARALLEL := -n auto --maxprocesses 8 --dist loadfile

test: .venv/test
	POWERSPHERICAL_REQUIRE_KERNELS=1 $(BIN)/python -m pytest $(PARALLEL)

test-fast: .venv/test
	POWERSPHERICAL_REQUIRE_KERNELS=1 $(BIN)/python -m pytest $(PARALLEL) -m "not slow"

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(filter %.cpp %.h %.cu %.cuh,$(SOURCES))

# make bench measures all, in ten minutes on two idle cores, and writes results, tables and pictures.
# With BENCH="-k loss", BENCH="--device cuda" and the like, which go to pytest, it prints tables alone.
BENCHMARKS := benchmarks --benchmark-only --benchmark-quiet -q
bench: .venv/test
	POWERSPHERICAL_REQUIRE_KERNELS=1 $(BIN)/python -m pytest $(BENCHMARKS) $(or $(BENCH),--save)
ifndef BENCH
	$(BIN)/python benchmarks/stability.py
	$(BIN)/python benchmarks/report.py
endif

docs: .venv/docs
	POWERSPHERICAL_REQUIRE_KERNELS=1 $(BIN)/python -m sphinx -W --keep-going -q docs build/docs

sanitize: .venv/test
	$(BIN)/python tests/sanitizers.py

sanitize-fast: .venv/test
	$(BIN)/python tests/sanitizers.py --fast

cuda-check:
	$(PYTHON) tests/cuda/check.py 80 90 100

cuda-sanitize: .venv/test
	$(BIN)/python tests/cuda/sanitize.py

wheel:
	$(PYTHON) .ci/wheels.py build

TORCH ?= newest
wheel-test:
	$(PYTHON) .ci/wheels.py test $(TORCH)

aarch64-check:
	$(PYTHON) .ci/wheels.py aarch64

release-check:
	$(PYTHON) .ci/wheels.py release $(TAG)

clean:
	rm -rf .venv build dist runs docs/generated powerspherical_ext/_C.so powerspherical_ext/_build_info.json
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# One stamp for each of the extras in pyproject.toml. The build does nothing where _C.so is up to date.
$(EXTRAS:%=.venv/%): .venv/%: .venv/pyvenv.cfg pyproject.toml constraints.txt $(SOURCES)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

.venv/pyvenv.cfg:
	$(PYTHON) -m venv .venv
