# `make run` and `make test` need Python 3.11 or newer, make and git, nothing else: the first of them makes .venv.
VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=
# Notebooks run two at a time, so each keeps to one thread
TEST := OMP_NUM_THREADS=1 $(PY) .ci/check.py

.PHONY: help venv run test slow export docs linkcheck look paper package readme clean

help: ## What can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

venv: ## .venv from requirements.txt; instant when it is up to date
	@.ci/venv $(VENV)

run: venv ## Train 12 members on digits and write map, tables and report; ARGS="--seeds 24 …" changes it
	$(PY) -m chromatic.run --dataset digits --seeds 12 --out . $(ARGS)

test: venv ## Export, clean and README leave no difference; every notebook runs
	@$(TEST) $(ARGS)

slow: venv ## The notebooks with slow cells, slow cells included
	@$(TEST) --flags slow $(ARGS)

export: venv ## Notebooks to modules, cleaned, and the README
	$(PY) -c 'from nbdev.doclinks import nbdev_export; nbdev_export()'
	$(PY) -c 'from nbdev.clean import nbdev_clean; nbdev_clean()'
	@$(PY) .ci/readme.py

readme: venv ## README.md from nbs/index.ipynb
	@$(PY) .ci/readme.py

docs: venv ## The site, in _docs/
	@$(PY) .ci/docs.py

linkcheck: venv ## Every link, anchor and image of _docs/
	@$(PY) .ci/linkcheck.py

look: venv ## Every page of _docs/ in headless Chromium, light and dark; SHOTS=folder keeps screenshots
	@$(PY) .ci/look.py $(if $(SHOTS),--shots $(SHOTS))

paper: venv ## Every study and result page from nothing: DATA=ImageFolder tree or .tar.xz (else CIFAR-10 is downloaded); FAST=1 in small, on digits
	@$(PY) .ci/paper.py $(if $(FAST),--fast) $(if $(DATA),--data $(DATA)) $(if $(PUBLISHED),--published $(PUBLISHED)) $(if $(OUT),--out $(OUT)) $(ARGS)

package: venv ## Wheel and sdist, built and tried in an environment of their own; DIST=folder keeps them
	@$(PY) .ci/package.py $(if $(DIST),--dist $(DIST))

clean: ## What was built; .venv, runs/ and artifacts/ stay
	rm -rf _proc _docs build dist *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -not -path './$(VENV)/*' -prune -exec rm -rf {} +
