# Everything runs in .venv, which `setup` makes; each target does its own set-up.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
FOLDERS := snnergy export deploy hardware_profiles

.PHONY: setup demo test slow lint types docs wheel bench bench-energy bench-engine bench-interop bench-mapping coverage mutants fuzz kills hostile clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,lava,dev]'
	# Lava's last release declares Python < 3.11; snnergy mends it while it loads
	$(BIN)/pip install --quiet --disable-pip-version-check --ignore-requires-python --no-deps lava-nc==0.10.0 lava-dl==0.6.0
	# NeuroBench, an oracle of the tests, would pull in tonic and torchaudio, which its metrics do not need
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps neurobench==2.3.0 tqdm==4.67.3
	touch $(READY)

demo: $(READY)
	$(BIN)/snnergy demo

test: $(READY)
	$(BIN)/python -m pytest

slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/pyright

docs: $(READY)
	$(BIN)/python docs/commands.py --check
	$(BIN)/python docs/schemas.py --check
	$(BIN)/python docs/constants.py --check
	$(BIN)/python docs/nodes.py --check
	$(BIN)/python benchmarks/interop/run.py --check
	$(BIN)/python benchmarks/energy/run.py --check

wheel: $(READY)
	rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist . >dist.log 2>&1 || { cat dist.log; exit 1; }
	rm -f dist.log
	$(BIN)/python .ci/wheel_contents.py dist

bench: $(READY)
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/noise.py

bench-interop: $(READY)
	$(BIN)/python benchmarks/interop/run.py

bench-energy: $(READY)
	$(BIN)/python benchmarks/energy/run.py

bench-engine: $(READY)
	$(BIN)/python benchmarks/engine/run.py

bench-mapping: $(READY)
	$(BIN)/python benchmarks/mapping/run.py
	$(BIN)/python benchmarks/mapping/scaling.py

fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/fuzz.py

kills: $(READY)
	$(BIN)/python benchmarks/kills.py

hostile: $(READY)
	$(BIN)/python -W ignore benchmarks/hostile.py

coverage: $(READY)
	$(BIN)/python benchmarks/covered.py

mutants: $(READY)
	$(BIN)/python benchmarks/mutation.py

clean:
	rm -rf .venv build dist runs *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
