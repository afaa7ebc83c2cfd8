# Every target puts in place what it needs (tools/setup.sh), so that `make demo` and `make test` work on a fresh machine.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

in_env := . tools/env.sh &&
package := ansible_collections.ironpost.container_guard

help: ## list the targets
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

demo: setup ## show an attack, the alert, the isolation and the release
	@$(in_env) exec python tools/demo.py

test: ## lint, then unit, then integration
	@$(MAKE) lint
	@$(MAKE) unit
	@$(MAKE) integration

lint: venv ## formatting, types, old Pythons, shell, YAML, docs, ansible-lint, sanity, galaxy
	$(in_env) ruff format --check
	$(in_env) ruff check
	$(in_env) mypy $(addprefix -p $(package).,$(typed_packages))
	$(in_env) vermin --target=3.8- --violations --no-tips --quiet $(wildcard $(host_code))
	$(in_env) vermin --target=3.10- --violations --no-tips --quiet $(playbook_code)
	$(in_env) shellcheck .ci/run tools/*.sh tests/testbed/*.sh
	$(in_env) yamllint --strict .
	$(in_env) antsibull-changelog lint
	@$(MAKE) docs
	$(in_env) ansible-lint
	@$(MAKE) sanity
	@$(MAKE) galaxy

# Only what exists: mypy fails on a package that does not.
typed_packages := $(subst /,.,$(wildcard plugins/module_utils plugins/plugin_utils extensions/eda/plugins))
# What is sent to the hosts, where Python may be as old as 3.8.
host_code := plugins/modules plugins/module_utils plugins/doc_fragments
# What a playbook loads on the controller, where ansible-core 2.16 runs on 3.10.
playbook_code := plugins/action plugins/filter plugins/lookup \
  $(addprefix plugins/plugin_utils/,_policies _records _replay _results _warm)

docs: venv ## check the documentation of all plugins
	$(in_env) antsibull-docs lint-collection-docs --plugin-docs .

sanity: venv ## ansible-test sanity
	tools/sanity.sh

galaxy: venv ## build the collection and import it as Galaxy would
	@rm -rf .venv/galaxy
	$(in_env) ansible-galaxy collection build --output-path .venv/galaxy
	$(in_env) cd .venv/galaxy && python -m galaxy_importer.main ironpost-container_guard-*.tar.gz

# Tests mostly wait for engines and runs, so two files at a time take little more than half as long; a file is never split.
workers := 2
at_once := pytest --numprocesses=$(workers) --dist=loadfile

unit: venv ## unit and architecture tests: no Docker, no Java
	$(in_env) $(at_once) tests/unit tests/architecture

integration: setup ## integration tests, against real Docker Engines and a real ansible-rulebook
	@tools/setup.sh testbed postgresql kafka faketime sdks cores
	$(in_env) $(at_once) -m 'not alone' --durations=25 tests/integration
	$(in_env) pytest -m alone tests/integration

# Of which versions is a matter for the tests of what runs on the controller, not for those of the engine.
older_cores := 2.16 2.18
on_older_cores := $(addprefix tests/integration/test_,modules.py playbooks.py playbooks_ssh.py trace.py unanswered.py)

test-all: test ## test, and what takes long: older cores, roles on systemd, the modules of AWX, a proxy, Molecule, fuzz
	@tools/setup.sh awx haproxy
	$(in_env) pytest tests/extended
	$(in_env) for core in $(older_cores); do GUARD_CORE=$$core tools/sanity.sh; \
	  GUARD_CORE=$$core $(at_once) $(on_older_cores); done
	@$(MAKE) molecule
	@$(MAKE) fuzz

molecule: setup ## scenarios of roles and of a whole fleet, on hosts of their own: make molecule scenario=fleet
	@tools/setup.sh testbed
	$(in_env) molecule test $(if $(scenario),--scenario-name $(scenario),--all) --no-command-borders

fuzz: venv ## a million made-up inputs for parsers, filters and listener: some minutes
	@$(in_env) exec python -m $(package).tests.fuzz $(if $(seed),--seed $(seed)) $(if $(inputs),--inputs $(inputs))

soak: setup ## the host service for half an hour among alerts, breaches and churn: make soak [seconds=60]
	@$(in_env) exec python -m $(package).tests.soak $(if $(seconds),--seconds $(seconds)) $(if $(seed),--seed $(seed))

bench: setup ## measure against the peers named in docs/
	@tools/setup.sh testbed peer
	@$(in_env) GUARD_PEER_COLLECTIONS="$$PWD/.venv/peer" python tests/benchmark/run.py

setup: ## virtual environment, Java, Docker Engine and the victim image
	@tools/setup.sh venv java engine victim

testbed: engine ## hosts with Docker 20.10, 26.1 and 28.5 for the integration tests, and how to reach them
	@tools/setup.sh testbed
	@$(in_env) python -m $(package).tests.testbed list

testbed-down: venv ## stop and remove these hosts; their images stay
	@$(in_env) python -m $(package).tests.testbed down

venv: ## only the virtual environment
	@tools/setup.sh venv

engine: ## only a running Docker Engine
	@tools/setup.sh venv engine

clean: ## remove everything that make has put into this directory
	rm -rf .venv .ansible .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache tests/output
	rm -f changelogs/.plugin-cache.yaml
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help demo test lint docs sanity galaxy unit integration molecule fuzz bench setup testbed testbed-down venv \
	engine clean
