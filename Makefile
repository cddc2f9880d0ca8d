# make install       install the package and the notebooks' requirements into .venv
# make demo          run the notebooks on the built-in data and build a site; make -j2 demo: two in parallel
# make pages         rebuild the site from executed notebooks
# make test          run the checks of CI, without the tests marked slow
# make test-all      run the checks of CI with all tests
# make test-browser  test all notebooks in JupyterLab, and the site, with the system's Chromium
# make sweep         run the ablation: four variants x three seeds, on all cores or SCHEDULER=tcp://HOST:8786
# make lab           open the notebooks in JupyterLab
# make students      write notebooks without solutions, for a course
# make open          open benchmark: download its data (1 GB; 30 GB packed), train and test all arms
# make paper-check   evaluate the authors' weights on the paper's datasets on this machine, without training
# make paper         published protocol: ten sessions of each variant, then tables and figures; needs the six
#                    datasets and GPUs, on this machine or with SCHEDULER=tcp://HOST:8786 (see docs/paper.md)

VENV ?= .venv
PROFILE ?= mini
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
IN_VENV := PATH="$(abspath $(VENV))/bin:$$PATH"
INSTALLED := $(VENV)/.installed
# Additional requirements of the site and the checks.
TOOLS := $(VENV)/.tools
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check
RUN ?= runs/$(PROFILE)
LIQE_PYTHON := $(VENV)/bin/python

default: install

include notebooks/rules.mk
$(EXECUTED): | $(INSTALLED)

# Written only if it changes, since notebooks depend on it.
$(RUN)/params.yaml: $(INSTALLED) force
	@mkdir -p $(RUN)
	@echo "profile: $(PROFILE)" | cmp -s - $@ || echo "profile: $(PROFILE)" > $@

.PHONY: default force install demo pages test test-all test-browser sweep lab students open paper-check paper

install: $(INSTALLED)

demo: $(TOOLS) $(EXECUTED)
	$(IN_VENV) liqe pages --profile $(PROFILE) --out $(RUN)

pages: $(TOOLS)
	$(IN_VENV) liqe pages --profile $(PROFILE)

# Two processes with one thread each: with more threads, they would compete for the cores.
test: SELECTION = -m "not slow"
test test-all: $(TOOLS)
	$(IN_VENV) pre-commit run --all-files
	$(IN_VENV) OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile --no-loadscope-reorder $(SELECTION)

# The system's Chromium, since the download of Playwright's browser does not work everywhere.
test-browser: $(TOOLS)
	$(IN_VENV) liqe notebooks --profile smoke --at-once 2
	$(IN_VENV) LIQE_BROWSER=all pytest -rs tests/browser

sweep: $(INSTALLED)
	$(IN_VENV) liqe sweep --profile $(PROFILE) $(if $(SCHEDULER),--scheduler $(SCHEDULER))

# Allow uploads of 200 MB (Jupyter's default is 10 MB), and allow root to start Jupyter.
lab: $(INSTALLED)
	$(IN_VENV) LIQE_UPLOAD_MB=200 jupyter lab --notebook-dir=. --KernelManager.transport=ipc \
	  --ServerApp.tornado_settings='{"websocket_max_message_size": 210000000}' \
	  $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/00_quickstart.ipynb

# Cells tagged `solution` are removed; cells tagged `check`, which test an answer, stay.
students: $(INSTALLED)
	$(IN_VENV) jupyter nbconvert --to notebook --output-dir=$(RUN)/students --log-level=WARN \
	  --TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_cell_tags=solution notebooks/*.ipynb
	@echo "Notebooks without solutions: $(RUN)/students"

open: $(TOOLS)
	$(IN_VENV) liqe data fetch biq2021 open-distorted scenes hevc
	$(IN_VENV) liqe notebooks 06_open_benchmark --profile open-frozen -p recompute true

paper-check: $(INSTALLED)
	$(IN_VENV) liqe check
	$(IN_VENV) liqe notebooks 10_paper_tables --profile paper

paper: $(INSTALLED)
	$(IN_VENV) liqe sweep --profile paper --sessions 1 2 3 4 5 6 7 8 9 10 --seeds 1 $(if $(SCHEDULER),--scheduler $(SCHEDULER))
	$(IN_VENV) liqe notebooks 03_data_preparation 04_multitask_training 05_ablations 10_paper_tables 07_gmad 08_realignment --profile paper -p sessions '[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]'

# The stamp is written last, so that an interrupted installation is repeated.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is required; found " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about 6 GB, this takes some minutes"
	$(PIP) -c constraints.txt -e '.[notebooks,heif,parquet]'
	touch $@

$(TOOLS): $(INSTALLED)
	$(PIP) -c constraints.txt -e '.[notebooks,heif,parquet,site,open,onnx,dev]'
	touch $@
