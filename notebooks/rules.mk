# A notebook that was run is a file of the run's folder. It is made from the notebook, from the run's parameters,
# and after those that make what it reads:
#
#   make -f notebooks/rules.mk -j2 RUN=runs/mini BOOKS='04_multitask_training 05_ablations'
#
# papermill runs it, through `liqe_core.commands.notebooks`, which adds that an interrupt waits until training has
# saved its state. A simple command, so that signals reach it without a shell between.

FOLDER := $(dir $(lastword $(MAKEFILE_LIST)))
NAMES := $(filter-out 9%,$(basename $(notdir $(sort $(wildcard $(FOLDER)[0-9][0-9]*_*.ipynb)))))
# The longest notebook starts first: others wait for it, and the rest run beside it.
DEMO := $(filter 04%,$(NAMES)) $(filter-out 04%,$(NAMES))
BOOKS ?= $(DEMO)
LIQE_PYTHON ?= python
EXECUTED := $(BOOKS:%=$(RUN)/%.ipynb)

# Of the notebooks that are asked for, those that leave what another reads.
after = $(patsubst %,$(RUN)/%.ipynb,$(filter $(1),$(BOOKS)))

.PHONY: notebooks
notebooks: $(EXECUTED)

$(RUN)/05_ablations.ipynb: $(call after,04_multitask_training)
$(RUN)/07_gmad.ipynb $(RUN)/08_realignment.ipynb: $(call after,05_ablations)
$(RUN)/10_paper_tables.ipynb: $(call after,04_multitask_training)

$(EXECUTED): $(RUN)/%.ipynb: $(FOLDER)%.ipynb $(RUN)/params.yaml
	@$(LIQE_PYTHON) -m liqe_core.commands.notebooks $< $@ $(RUN)/params.yaml
