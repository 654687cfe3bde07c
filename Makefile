# The verbs of this project. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: .venv help setup lock base demo test soak fuzz lint docs bundle lab down

PYTHON ?= python3
LC_ALL ?= C.UTF-8
VENV := $(CURDIR)/.venv
export LC_ALL
export PATH := $(VENV)/bin:$(PATH)
# Without compiled modules each start of Ansible takes a second of a processor more.
unexport PYTHONDONTWRITEBYTECODE
# Named, because Ansible ignores an ansible.cfg that it merely finds in a directory others may write to.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Published with the lab, and good for nothing else.
LAB_VAULT := --vault-password-file inventories/lab/.vault_password

help: ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## make or refresh .venv with everything that is needed here
	@cmp -s requirements/dev.lock $(VENV)/installed.lock && $(VENV)/bin/python -c '' || $(MAKE) --silent .venv

.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3 setup" >&2; exit 1; }
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
	  else echo "Python's venv module is missing; install it with: sudo apt-get install python3-venv" >&2; exit 1; fi; fi
	@[ -x $(VENV)/bin/pip ] && $(VENV)/bin/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
# uv, itself installed by pip from the lock, is ten times faster than pip. It does not read pip's own
# configuration, so where only that knows the way to an index, pip does the work.
	@echo "Installing requirements/dev.lock into .venv"
	@sed -n '/^uv==/,/[^\\]$$/p' requirements/dev.lock > $(VENV)/uv.lock
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --require-hashes -r requirements/dev.lock \
	  || $(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@cp requirements/dev.lock $(VENV)/installed.lock

lock: setup ## resolve pyproject.toml again into requirements/*.lock (newest versions: make lock UPGRADE=--upgrade)
	@compile="uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 $(UPGRADE)"; \
	$$compile pyproject.toml --output-file requirements/app.lock >/dev/null; \
	$$compile pyproject.toml --group ops --group dev --constraint requirements/app.lock --output-file requirements/dev.lock >/dev/null

base: setup ## pin the base images to what their tags stand for now
	@python3 -m tools.base_images

demo: setup ## a lab host, provisioned and serving the reference app
	@python3 -m lab docker
	@python3 -m lab images
	@python3 -m lab up --hosts 1
	@ansible-playbook -i inventories/lab $(LAB_VAULT) playbooks/site.yml
	@echo; echo "The app is served at http://127.0.0.1:8081/ - remove the host again with: make down"

test: setup ## everything; the last line counts
	@python3 -m tests.run

soak: setup ## the long forms of tests that `make test` runs short; takes half an hour
	@python3 -m tests.run soak

fuzz: setup ## hostile input for what reads it, with new inputs each time (how long: make fuzz MINUTES=15)
	@python3 -m tests.fuzz --minutes $(or $(MINUTES),60)

lint: setup ## the linters and type checks alone
	@python3 -m tests.run lint

docs: setup ## write the tables in the roles' READMEs from their argument specs
	@python3 -m docs.generate

bundle: setup ## one file to deploy from without the internet (make bundle INVENTORY=inventories/fleet)
	@ansible-playbook -i $(or $(INVENTORY),inventories/lab) $(if $(INVENTORY),,$(LAB_VAULT)) playbooks/bundle.yml

lab: setup ## lab hosts without anything on them (how many: make lab HOSTS=2)
	@python3 -m lab docker
	@python3 -m lab images
	@python3 -m lab up --hosts $(or $(HOSTS),1)

down: ## remove the lab hosts
	@$(PYTHON) -m lab down
