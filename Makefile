# make install  what scoring and the notebooks need, into .venv
# make demo   run the notebooks on the built-in data, and make a site of them; make -j2 demo: two at a time
# make pages  the site again, from notebooks that were run
# make test   the checks that CI runs, without the tests marked slow
# make test-all  the same with them
# make test-browser  all notebooks in JupyterLab, and the site, in the Chromium of this machine
# make sweep  the ablation: four variants x three seeds, on all cores or with SCHEDULER=tcp://HOST:8786
# make lab    open JupyterLab on the notebooks
# make students  notebooks without their solutions, for a course
# make open   the open benchmark: fetch its data (1 GB, 30 GB on the disk when packed), train and test every arm
# make paper-check  the authors' weights on the paper's datasets that are here; no training
# make paper  the published protocol, ten sessions of each variant, then its tables and figures: needs the six
#             datasets and GPUs, of this machine or with SCHEDULER=tcp://HOST:8786 (see docs/paper.md)

VENV ?= .venv
PROFILE ?= mini
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
IN_VENV := PATH="$(abspath $(VENV))/bin:$$PATH"
INSTALLED := $(VENV)/.installed
# What the site and the checks need beside that.
TOOLS := $(VENV)/.tools
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check
RUN ?= runs/$(PROFILE)
LIQE_PYTHON := $(VENV)/bin/python

default: install

include notebooks/rules.mk
$(EXECUTED): | $(INSTALLED)

# Written where it changes: notebooks are made from it.
$(RUN)/params.yaml: $(INSTALLED) force
	@mkdir -p $(RUN)
	@echo "profile: $(PROFILE)" | cmp -s - $@ || echo "profile: $(PROFILE)" > $@

.PHONY: default force install demo pages test test-all test-browser sweep lab students open paper-check paper

install: $(INSTALLED)

demo: $(TOOLS) $(EXECUTED)
	$(IN_VENV) liqe pages --profile $(PROFILE) --out $(RUN)

pages: $(TOOLS)
	$(IN_VENV) liqe pages --profile $(PROFILE)

# Two processes of one thread: threads of one would otherwise wait for the other's core.
test: SELECTION = -m "not slow"
test test-all: $(TOOLS)
	$(IN_VENV) pre-commit run --all-files
	$(IN_VENV) OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile --no-loadscope-reorder $(SELECTION)

# Chromium of the system, since the download of Playwright's own does not work everywhere.
test-browser: $(TOOLS)
	$(IN_VENV) liqe notebooks --profile smoke --at-once 2
	$(IN_VENV) LIQE_BROWSER=all pytest -rs tests/browser

sweep: $(INSTALLED)
	$(IN_VENV) liqe sweep --profile $(PROFILE) $(if $(SCHEDULER),--scheduler $(SCHEDULER))

# Uploads of 200 MB, of which Jupyter takes 10 by itself; and root, who has to say so, may start it.
lab: $(INSTALLED)
	$(IN_VENV) LIQE_UPLOAD_MB=200 jupyter lab --notebook-dir=. --KernelManager.transport=ipc \
	  --ServerApp.tornado_settings='{"websocket_max_message_size": 210000000}' \
	  $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/00_quickstart.ipynb

# The cells tagged `solution` are left out; those tagged `check`, which test an answer, stay.
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

# Stamped last, so that an installation that was broken off is taken up again.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about 6 GB, some minutes"
	$(PIP) -c constraints.txt -e '.[notebooks,heif,parquet]'
	touch $@

$(TOOLS): $(INSTALLED)
	$(PIP) -c constraints.txt -e '.[notebooks,heif,parquet,site,open,onnx,dev]'
	touch $@
