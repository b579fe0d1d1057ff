# The two commands of the README are `make demo` and `make test`. Each makes its own environment first.
#   PYTHON=python3.11      the interpreter to build the environments from
#   KOINON_ARGS="--full"   further arguments for `koinon demo`

PYTHON ?= $(shell command -v python3.11 || command -v python3)
DEMO_ENV := .venv/demo
TEST_ENV := .venv/test
KOINON_ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-slow lint types contracts protos schema clean help

help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(DEMO_ENV)/.installed  ## the whole story on real data: fetch, federate, evaluate, report
	$(DEMO_ENV)/bin/koinon demo $(KOINON_ARGS)

test: $(TEST_ENV)/.installed lint types contracts  ## lint, types, import contracts and the tests
	$(TEST_ENV)/bin/python -m pytest

test-slow: $(TEST_ENV)/.installed  ## the tests that take minutes
	$(TEST_ENV)/bin/python -m pytest -m slow --timeout 3600

lint: $(TEST_ENV)/.installed  ## ruff, formatting included
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/ruff format --check .

types: $(TEST_ENV)/.installed  ## mypy, strict
	$(TEST_ENV)/bin/mypy

contracts: $(TEST_ENV)/.installed  ## who may know whom
	$(TEST_ENV)/bin/lint-imports

protos: $(TEST_ENV)/.installed  ## generate the wire contract's code
	$(TEST_ENV)/bin/python -m grpc_tools.protoc -Iprotos --python_out=protos --pyi_out=protos protos/koinon/protos/*.proto
	$(TEST_ENV)/bin/python -m grpc_tools.protoc -Iprotos --grpc_python_out=protos protos/koinon/protos/joining.proto

schema: $(TEST_ENV)/.installed  ## write the schemas of results, studies and audits from the code
	$(TEST_ENV)/bin/python -c 'from koinon.studies.report import Results; print(Results.schema_text(), end="")' \
	  | tee platform/koinon/studies/report/results.schema.json > docs/results.schema.json
	$(TEST_ENV)/bin/python -c 'from koinon.studies.paradigms.results import StudyResults; print(StudyResults.schema_text(), end="")' \
	  | tee platform/koinon/studies/paradigms/study.schema.json > docs/study.schema.json
	$(TEST_ENV)/bin/python -c 'from koinon.fairness.results import schema_text; print(schema_text(), end="")' \
	  | tee fairness/koinon/fairness/audit.schema.json > docs/audit.schema.json

clean:  ## remove the environments
	rm -rf .venv

# One recipe for both: a bare interpreter, the constraints file, one extra.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 13)))' \
	  || { echo "Koinon needs Python 3.11 or 3.12; say which with PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[$(1)]'
	@touch $@
endef

$(DEMO_ENV)/.installed: pyproject.toml constraints.txt
	$(call environment,demo)

$(TEST_ENV)/.installed: pyproject.toml constraints.txt
	$(call environment,dev)
