# `make help` lists every target with its cost. Needs: Python 3.11 or newer, and make; the rest goes into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
CORES ?= all
SEED ?= 0
DIR ?= .
# Where `make plan` wants the time: cpu, or a GPU's name as in a .run.json.
DEVICE ?= cpu
# Algorithms of `make omniglot`.
OMNIGLOT := reptile+untrained

# Absolute, because Snakemake and `cell` work in another folder.
PY := "$(CURDIR)/.venv/bin/python"
PIP_INSTALL := $(PY) -I -m pip install -qq --disable-pip-version-check
SNAKEMAKE := $(PY) -m snakemake --snakefile "$(CURDIR)/Snakefile" \
	--workflow-profile "$(CURDIR)/profiles/default" --cores $(CORES)
# From the records that exist, all drawn again (after a clone time stamps tell nothing), and nothing computed.
BELOW := accuracies table claims figure page
REPORT := $(SNAKEMAKE) report --config records=existing $(if $(ALLOW_STALE),stale=marked) --forcerun $(BELOW) \
	--allowed-rules report $(BELOW)

# After a command that only tells something: its reader may have read enough, as `| head` has, which is no failure.
READ_ENOUGH = || { code=$$?; [ $$code = 141 ] || exit $$code; }

# Folders whose measured times tell how long the same takes elsewhere.
MEASURED := $(dir $(wildcard params.yaml */params.yaml studies/*/*/params.yaml))

# Folders whose results Git keeps, and how all of them are drawn again. Not $(MAKE), which even a dry run would run.
RECORDED := $(filter-out quick/,$(foreach folder,$(MEASURED),$(if $(wildcard $(folder)results/metrics.json),$(folder))))
AGAIN := $(MAKE) --no-print-directory
REDRAW = $(AGAIN) figures; $(foreach folder,$(filter studies/%,$(RECORDED)),$(AGAIN) report DIR=$(folder);) \
	$(PY) -m firstorder performance

# $(call HOLD,FOLDER,OPTIONS,WORDS): wait until nobody computes the same there, then run what follows; who waits for it
# is told the words. $(call COMPUTE,FOLDER,OPTIONS,WORDS,TARGETS): so run Snakemake; what is stale is computed again even
# where Snakemake has no memory of it, as in a clone.
HOLD = $(PY) -m firstorder hold --params "$(1)/params.yaml" $(2) --told "make $(3)" --
COMPUTE = $(call HOLD,$(1),--stale $(2),$(3)) $(SNAKEMAKE) --directory "$(1)" $(4) --forcerun
CELL_FILE = results/cells/$(CELL)/seed-$(SEED).json

# The rules of the pipeline call `python`: it must be .venv's, with the package of this folder and of no other.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH := $(CURDIR)/src

# A folder is named from here, and Snakemake works in another one.
ifdef DATA_MIRROR
override DATA_MIRROR := $(if $(findstring ://,$(DATA_MIRROR)),$(DATA_MIRROR),$(abspath $(DATA_MIRROR)))
export DATA_MIRROR
endif

# Set-up in two stages, each done again only when a file it was made from has changed. The first lacks torch, of which
# pip would warn; -I keeps pip from taking PYTHONPATH for an installed package.
INSTALLED := .venv/.installed
TORCH := .venv/.torch

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "firstorder needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | tail -n 1):" \
			"name another one, like: make quick PYTHON=python3.12" >&2; exit 2; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv

$(INSTALLED): requirements.lock pyproject.toml .venv/bin/python
	@echo "Installing requirements.lock into .venv (about a minute the first time)"
	@$(PIP_INSTALL) --require-hashes --no-warn-conflicts -r requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(TORCH): requirements-torch.txt $(INSTALLED)
	@echo "Installing $$(cat requirements-torch.txt) into .venv" \
		"(its CPU build where your package source has one, else the large default build)"
	@$(PIP_INSTALL) -r requirements-torch.txt
	@touch $@

##@ Start here
.PHONY: help quick test
help: ## seconds | list the targets with their cost on two CPU cores
	@awk -F ' ## | [|] ' '/^##@/ { print "\n" substr($$0, 5) } \
		/^[a-z-]+:.* ## / { sub(/:.*/, "", $$1); printf "  make %-12s %-11s %s\n", $$1, $$2, $$3 }' Makefile

quick: $(TORCH) ## 4 min | main job: the whole pipeline on drawn glyphs, then every recorded result redrawn
	$(call COMPUTE,quick,,quick,all)
	$(MAKE) report DIR=.
	$(MAKE) report DIR=reduced
	@ls -1 {quick,.,reduced}/results/{tables/*,figures/*,report.html} 2>/dev/null || true

test: lint ## 3 min | lint, then all tests that need no GPU and no network
	$(PY) -m pytest

##@ The paper's results
.PHONY: omniglot algorithms cell figures report paper plan why
omniglot: $(TORCH) ## 13 min | Reptile on Omniglot 5-way, real data, at the reduced length of reduced/params.yaml
	$(call COMPUTE,reduced,--algorithms $(OMNIGLOT),omniglot,cells --config algorithms=$(OMNIGLOT))
	$(MAKE) report DIR=reduced

algorithms: $(TORCH) ## 40 min | all algorithms on Omniglot 5-way at the reduced length of reduced/params.yaml
	$(call COMPUTE,reduced,,algorithms,computed)
	$(MAKE) report DIR=reduced

cell: $(TORCH) ## hours | one cell: make cell CELL=reptile/omniglot-5way/1shot/transductive SEED=0 [DIR=reduced] [FORCE=1]
	@$(call COMPUTE,$(DIR),--cell "$(CELL)" --seed "$(SEED)",cell CELL=$(CELL) SEED=$(SEED),$(CELL_FILE)) \
		$(if $(FORCE),$(CELL_FILE))
	$(MAKE) report

figures: $(INSTALLED) ## seconds | redraw every table and figure from the recorded results; no torch, no data
	$(MAKE) report DIR=.
	$(MAKE) report DIR=reduced
	$(PY) -m firstorder readme README.md . reduced $(if $(ALLOW_STALE),--allow-stale)

report: $(INSTALLED) ## seconds | the tables, figures and HTML page of one folder: make report [DIR=reduced] [ALLOW_STALE=1]
	@$(call HOLD,$(DIR),--report,report) $(REPORT) --directory "$(DIR)"

paper: $(TORCH) ## days | everything, full length
	$(call COMPUTE,.,,paper,computed)
	$(MAKE) report

plan: $(INSTALLED) ## seconds | what is done and missing, and the time it takes: make plan [DIR=reduced] [DEVICE=cpu]
	@$(PY) -m firstorder plan $(MEASURED) --params "$(DIR)/params.yaml" --device "$(DEVICE)" $(READ_ENOUGH)

why: $(INSTALLED) ## seconds | walk a number back: make why CELL=reptile/omniglot-5way/1shot/transductive [DIR=reduced]
	@$(PY) -m firstorder why "$(CELL)" --params "$(DIR)/params.yaml" $(READ_ENOUGH)

##@ Check and publish
.PHONY: verify ci-figures publish
verify: $(INSTALLED) ## seconds | hash data, checkpoints, DVC's objects and records again; says how to mend what differs
	@$(PY) -m firstorder verify $(MEASURED)

ci-figures: $(INSTALLED) ## 2 min | what continuous integration does: delete all that is drawn, redraw, compare, stale, verify
	$(PY) tools/check_redrawn.py $(RECORDED) -- $(SHELL) -ec '$(REDRAW)'
	@for folder in $(RECORDED); do $(PY) -m firstorder stale --params "$$folder/params.yaml" || exit 1; done
	$(PY) -m firstorder verify $(RECORDED)

publish: $(INSTALLED) ## seconds | track and push checkpoints that are evaluated: make publish [DIR=reduced] [REMOTE=name]
	@$(PY) -m firstorder publish --params "$(DIR)/params.yaml" $(addprefix --remote ,$(REMOTE))

##@ Development
.PHONY: bench lint format schema lock clean-quick
bench: $(TORCH) ## 6 min | time this machine, CPU or GPU, with every engine; wants it idle; into docs/performance.md
	$(PY) -m firstorder bench
	$(PY) -m firstorder performance

lint: $(TORCH) ## seconds | ruff, snakefmt, mypy and who imports whom; changes nothing
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m snakefmt --check Snakefile workflow
	$(PY) -m mypy
	$(PY) -c "import importlinter.cli as c; c.lint_imports_command()" --no-logo --no-cache

format: $(INSTALLED) ## seconds | let ruff and snakefmt rewrite the code
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(PY) -m snakefmt Snakefile workflow

schema: $(INSTALLED) ## seconds | write params.schema.json, for editors, again from src/firstorder/settings/
	$(PY) tools/write_params_schema.py

lock: ## seconds | make requirements.lock again from requirements.in; needs uv
	uv pip compile requirements.in --output-file requirements.lock --quiet --custom-compile-command "make lock" \
		--universal --python-version 3.11 --fork-strategy fewest \
		--generate-hashes --no-emit-index-url --no-emit-find-links

clean-quick: ## seconds | remove what `make quick` computed in quick/, so that it starts afresh
	rm -rf quick/data quick/models quick/results quick/logs quick/.work quick/.snakemake
