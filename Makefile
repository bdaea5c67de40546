# `make help` lists every target with its cost. Needs Python 3.11 or newer and make; everything else goes into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# What a user may set. No recipe contains a value of these: make would expand it, and the shell would read it as code. Each
# is exported as it was given, and recipes read it from the environment, in quotes.
PYTHON ?= python3
CORES ?= all
# Whether SEED is more than that default.
SEED_GIVEN := $(filter-out undefined file,$(origin SEED))
SEED ?= 0
DIR ?= .
ifeq ($(strip $(value DIR)),)
override DIR := .
endif
# The device whose times `make plan` prints: cpu, or a GPU's name as in a run file (.run.json); auto is that of this machine.
DEVICE ?= auto
# Of `make try`.
WAY ?= 5
SHOT ?= 1
MINUTES ?= 5
SET := PYTHON CORES GPUS SEED SEEDS TASKS DIR DEVICE CELL CLAIM PROBE FOLDER WAY SHOT MINUTES FORCE ALLOW_STALE FROM REMOTE SERVICE WATCH \
	MINI_IMAGENET MINI_IMAGENET_NAMES PROFILE
$(foreach name,$(SET),$(if $(filter-out undefined,$(origin $(name))),$(eval override export $(name) := $$(value $(name)))))
# A relative DATA_MIRROR is relative to this folder, but Snakemake works in another one.
ifdef DATA_MIRROR
override export DATA_MIRROR := $(if $(or $(findstring ://,$(value DATA_MIRROR)),$(filter /% ~%,$(firstword \
	$(value DATA_MIRROR)))),,$(CURDIR)/)$(value DATA_MIRROR)
endif

# The algorithms that `make omniglot` evaluates.
OMNIGLOT := reptile+untrained

# Absolute paths, because Snakemake works in another folder.
PY := "$$PWD/.venv/bin/python"
PIP := -I -m pip install -qq --disable-pip-version-check
PIP_INSTALL := $(PY) $(PIP)
AUDIT_PY := "$$PWD/.venv/audit/bin/python" -I
SNAKEMAKE := $(PY) -m snakemake --snakefile "$$PWD/Snakefile" \
	--workflow-profile "$$PWD/profiles/default" --logger brief --cores="$$CORES"
# Redraw everything from the existing results and compute nothing. Forced, as time stamps mean nothing after a clone.
BELOW := accuracies table claims figure page
REPORT := $(SNAKEMAKE) report --logger-brief-refresh --config records=existing $(if $(ALLOW_STALE),stale=marked) --forcerun $(BELOW) \
	--allowed-rules report $(BELOW)

# After a command that only prints: a reader that closes the pipe early, such as `| head`, is no failure.
READ_ENOUGH = || { code=$$?; [ $$code = 141 ] || exit $$code; }

# Before a command: its shell's arguments become the folders whose measured times `make plan` may use; or, of these, the
# ones with results in Git, which the commands of REDRAW draw again. AGAIN is not $(MAKE): make runs lines with $(MAKE)
# even in a dry run.
MEASURED = shopt -s nullglob; set -- ./params.yaml */params.yaml studies/*/*/params.yaml; set -- "$${@%params.yaml}"
RECORDED = $(MEASURED); for folder; do shift; \
	[ "$$folder" = quick/ ] || [ ! -e "$$folder/results/metrics.json" ] || set -- "$$@" "$$folder"; done
AGAIN := $(MAKE) --no-print-directory
REDRAW = $(AGAIN) figures; for folder; do case "$$folder" in studies/*) $(AGAIN) report DIR="$$folder";; esac; done; \
	$(PY) -m firstorder performance

# $(call HOLD,FOLDER,OPTIONS,TARGET): take the folder's locks, then run the command that follows; commands that wait for
# it are shown TARGET. $(call COMPUTE,FOLDER,OPTIONS,TARGET,FILES): run Snakemake that way, on GPUs if there are some (GPUS=n
# of them, GPUS=0 for none). Stale results are forced, because without metadata, as in a clone, Snakemake does not notice
# them; with FORCE=1 all the cells are.
HOLD = $(PY) -m firstorder hold --params="$(1)/params.yaml" $(2) --told "make $(3)" --
COMPUTE = $(call HOLD,$(1),--stale --choose-profile $(if $(GPUS),--gpus="$$GPUS") $(if $(FORCE),--force) $(2),$(3)) $(SNAKEMAKE) --directory="$(1)" $(4) --forcerun
IN_DIR = $(if $(filter-out .,$(value DIR)), DIR=$$DIR)
# There from before a cell is computed until the report shows it, so that a kill between the two is noticed.
REPORT_DUE := .work/report-due
NUMBER = $(PY) -m firstorder number --params="$$DIR/params.yaml" --seed="$$SEED"
CELL_FILE = "results/cells/$$CELL/seed-$$SEED.json"

# Messages name commands as one types them in the shell that called make, whose path and folder these are.
ifndef FIRSTORDER_SHELL_PATH
export FIRSTORDER_SHELL_PATH := $(value PATH)
export FIRSTORDER_SHELL_FOLDER := $(value PWD)
endif
# The rules call `python`: it must be that of .venv, and import the package of this folder. Snakemake finds `brief` there.
export PATH := $(CURDIR)/.venv/bin:$(value PATH)
export PYTHONPATH := $(CURDIR)/src:$(CURDIR)/workflow/plugins

# Set-up in two stages, each repeated only when one of its files changes. The first installs all but torch, hence
# --no-warn-conflicts. -I keeps pip from mistaking the package on PYTHONPATH for an installed one.
INSTALLED := .venv/.installed
TORCH := .venv/.torch

.venv/bin/python:
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "firstorder needs Python 3.11 or newer; '$$PYTHON' is $$("$$PYTHON" --version 2>&1 | tail -n 1):" \
			"name another one, like: make quick PYTHON=python3.12" >&2; exit 2; }
	@echo "Making .venv with $$("$$PYTHON" --version)"
	@"$$PYTHON" -m venv --clear .venv

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

COMPILE := uv pip compile --quiet --custom-compile-command "make lock" --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --no-emit-index-url --no-emit-find-links

# What checks the packages is installed apart from them.
AUDIT := .venv/audit/.installed

$(AUDIT): requirements-audit.lock .venv/bin/python
	@echo "Installing requirements-audit.lock into .venv/audit"
	@$(PY) -m venv --clear .venv/audit
	@$(AUDIT_PY) $(PIP) --require-hashes -r requirements-audit.lock
	@touch $@

##@ Start here
.PHONY: help quick try test
help: ## seconds | list the targets; times are those on two cores of an AMD EPYC (family 26), after the set-up (1 min, once)
	@awk -F ' ## | [|] ' '/^##@/ { print "\n" substr($$0, 5) } \
		/^[a-z-]+:.* ## / { sub(/:.*/, "", $$1); printf "  make %-12s %-11s %s\n", $$1, $$2, $$3 }' Makefile

quick: $(TORCH) ## 2 min | the whole pipeline on drawn glyphs; then redraw all recorded results
	$(call COMPUTE,quick,,quick,all)
	$(MAKE) report DIR=.
	$(MAKE) report DIR=reduced
	@$(PY) -m firstorder show --params=quick/params.yaml
	@echo "expected on other machines: docs/evidence.md, The quick run; recorded results: {.,reduced}/results/report.html"

try: $(if $(FOLDER),$(TORCH),$(INSTALLED)) ## 5 min | Reptile on images of your own, in one folder a class: make try FOLDER=images [WAY=5] [SHOT=1] [MINUTES=5]
	@$(PY) -m firstorder try --way="$$WAY" --shot="$$SHOT" --minutes="$$MINUTES" -- "$$FOLDER"

test: lint ## 8 min | lint, then all tests that need no GPU and no network
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses=auto --dist=loadfile

##@ The paper's results
.PHONY: omniglot algorithms cell figures report site paper plan power why status
omniglot: $(TORCH) ## 3 min | Reptile on Omniglot 5-way, real data, at the reduced length of reduced/params.yaml [FORCE=1]
	$(call COMPUTE,reduced,--algorithms $(OMNIGLOT),omniglot,cells --config algorithms=$(OMNIGLOT))
	$(MAKE) report DIR=reduced

algorithms: $(TORCH) ## 5 min | all algorithms on Omniglot 5-way, at the reduced length of reduced/params.yaml [FORCE=1]
	$(call COMPUTE,reduced,,algorithms,computed)
	$(MAKE) report DIR=reduced

cell: $(INSTALLED) ## hours | one cell: make cell CELL=reptile/omniglot-5way/1shot/transductive SEED=0 [DIR=reduced] [FORCE=1]
	@$(if $(FORCE),$(PY) -m firstorder stale --params="$$DIR/params.yaml" --cell="$$CELL" --seed="$$SEED" --paths >/dev/null || exit,\
		$(NUMBER) --if-fresh -- "$$CELL" && exit; code=$$?; [ $$code = 3 ] || exit $$code); \
		mkdir -p -- "$$DIR/.work" && : >"$$DIR/$(REPORT_DUE)"
	@if [ -e "$$DIR/$(REPORT_DUE)" ]; then $(AGAIN) --silent $(TORCH) && exec \
		$(call COMPUTE,$$DIR,--cell="$$CELL" --seed="$$SEED",cell CELL=$$CELL SEED=$$SEED$(IN_DIR),$(CELL_FILE)); fi
	@if [ -e "$$DIR/$(REPORT_DUE)" ]; then $(AGAIN) report && rm -f -- "$$DIR/$(REPORT_DUE)" && $(NUMBER) -- "$$CELL"; fi

figures: $(INSTALLED) ## 20 s | redraw every table and figure from the recorded results; no torch, no data
	@$(MAKE) --no-print-directory report DIR=.
	@$(MAKE) --no-print-directory report DIR=reduced
	@$(PY) -m firstorder readme README.md . reduced $(if $(ALLOW_STALE),--allow-stale)

report: $(INSTALLED) ## seconds | redraw the report of one folder: make report [DIR=reduced] [ALLOW_STALE=1]
	@echo "Redrawing the tables and figures of $$DIR"
	@$(call HOLD,$$DIR,--report $(if $(ALLOW_STALE),--allow-stale),report) $(REPORT) --directory="$$DIR"
	@$(PY) -m firstorder headline --params="$$DIR/params.yaml" $(if $(ALLOW_STALE),--allow-stale)

site: $(INSTALLED) ## 11 s | write all recorded results as a site of pages to site/, offline: make site [ALLOW_STALE=1]
	@$(RECORDED); $(PY) -m firstorder site $(if $(ALLOW_STALE),--allow-stale) -- "$$@"

paper: $(TORCH) ## days | everything at full length; far less on GPUs: make plan DEVICE="NVIDIA H200" GPUS=8
	$(call COMPUTE,.,,paper,computed)
	$(MAKE) report

plan: $(if $(PROBE),$(TORCH),$(INSTALLED)) ## seconds | what is left and how long it takes: make plan [CELL=...] [CORES=64] [GPUS=8] [PROBE=1]
	@$(MEASURED); $(PY) -m firstorder plan --params="$$DIR/params.yaml" --device="$$DEVICE" --cores="$$CORES" \
		$(if $(GPUS),--gpus="$$GPUS") $(if $(CELL),--cell="$$CELL" --seed="$$SEED") $(if $(PROBE),--probe) \
		-- "$$@" $(READ_ENOUGH)

power: $(INSTALLED) ## seconds | which claims the planned seeds and tasks can decide: make power [SEEDS=5] [TASKS=10000]
	@$(PY) -m firstorder power --params="$$DIR/params.yaml" $(if $(SEEDS),--seeds="$$SEEDS") $(if $(TASKS),--tasks="$$TASKS") \
		$(READ_ENOUGH)

why: $(INSTALLED) ## seconds | trace a number: make why CELL=reptile/omniglot-5way/1shot/transductive; or a verdict: make why CLAIM=fail
	@$(MEASURED); $(PY) -m firstorder why --params="$$DIR/params.yaml" $(if $(CLAIM),--claim="$$CLAIM") $(if $(SEED_GIVEN),--seed="$$SEED") \
		-- "$$CELL" "$$@" $(READ_ENOUGH)

status: $(INSTALLED) ## seconds | what computes now: step, rate, time left, accuracy: make status [WATCH=1] [DIR=reduced]
	@$(PY) -m firstorder status --params="$$DIR/params.yaml" $(if $(WATCH),--watch) $(READ_ENOUGH)

##@ Stop here, go on there
.PHONY: suspend collect
suspend: $(INSTALLED) ## seconds | copy the states of unfinished work to unfinished/, which is in Git: make suspend [DIR=reduced]
	@$(PY) -m firstorder suspend --params="$$DIR/params.yaml"

collect: $(INSTALLED) ## seconds | take over results and states of another folder: make collect FROM=folder [DIR=reduced]
	@$(PY) -m firstorder collect --params="$$DIR/params.yaml" -- "$$FROM"

##@ Check and publish
.PHONY: verify ci-figures publish demo sbom audit
verify: $(INSTALLED) ## seconds | rehash data, checkpoints, DVC's objects and records; prints how to repair what differs
	@$(MEASURED); $(PY) -m firstorder verify -- "$$@"

ci-figures: $(INSTALLED) ## 2 min | as in continuous integration: delete, redraw and compare all tables and figures; stale; verify
	@$(RECORDED); $(PY) tools/check_redrawn.py "$$@" -- $(SHELL) -ec '$(REDRAW)' redraw "$$@"
	@$(RECORDED); for folder; do $(PY) -m firstorder stale --params="$$folder/params.yaml" || exit 1; done
	@$(RECORDED); $(PY) -m firstorder verify -- "$$@"

publish: $(INSTALLED) ## seconds | track and push evaluated checkpoints: make publish [DIR=reduced] [REMOTE=name]
	@$(PY) -m firstorder publish --params="$$DIR/params.yaml" $(if $(REMOTE),--remote="$$REMOTE")

demo: $(INSTALLED) ## seconds | write site/demo/: draw characters and adapt the published checkpoint to them in a browser, offline
	@$(PY) -m dvc pull --quiet --allow-missing models/reptile/omniglot-5way/seed-0.safetensors.dvc
	@$(PY) -m firstorder demo

sbom: $(TORCH) $(AUDIT) ## seconds | list all installed packages with versions and licences in sbom.cdx.json (CycloneDX)
	@$(AUDIT_PY) -m cyclonedx_py environment $(PY) --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-file sbom.cdx.json
	@echo sbom.cdx.json

audit: $(AUDIT) ## seconds | check all locked packages for known vulnerabilities; fails if the database cannot be reached
	@$(AUDIT_PY) tools/audit.py requirements.lock requirements-torch.txt requirements-audit.lock \
		$(if $(SERVICE),--service="$$SERVICE")

##@ Development
.PHONY: bench lint format register schema lock clean-quick
bench: $(TORCH) ## 4 min | time every engine on this machine, which must be idle; update docs/performance.md
	$(PY) -m firstorder bench $(if $(PROFILE),--profile)
	$(if $(PROFILE),,$(PY) -m firstorder performance)

lint: $(TORCH) ## seconds | run ruff, snakefmt, mypy and import-linter; changes nothing
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m snakefmt --check Snakefile workflow
	$(PY) -m mypy
	$(PY) -c "import importlinter.cli as c; c.lint_imports_command()" --no-logo --no-cache

format: $(INSTALLED) ## seconds | reformat the code with ruff and snakefmt
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(PY) -m snakefmt Snakefile workflow

register: $(INSTALLED) ## seconds | write registered.csv: since which commit each claim's rule has stood; needs Git's history
	$(PY) tools/register_claims.py

schema: $(INSTALLED) ## seconds | regenerate params.schema.json, for editors, from src/firstorder/settings/
	$(PY) tools/write_params_schema.py

lock: ## seconds | regenerate requirements.lock and requirements-audit.lock from the files *.in; needs uv
	$(COMPILE) requirements.in --output-file requirements.lock
	$(COMPILE) requirements-audit.in --constraint requirements.lock --output-file requirements-audit.lock

clean-quick: ## seconds | delete everything that `make quick` computed in quick/
	rm -rf quick/data quick/models quick/results quick/logs quick/.work quick/.snakemake
