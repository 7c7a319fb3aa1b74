# Each target is one command that a person could type. STACK names Pulumi.<STACK>.yaml.
STACK ?= local
UV := $(or $(shell sh local/bootstrap-uv.sh),$(error uv is needed, see above))
RUN := $(UV) run --frozen
PYTEST := $(RUN) pytest
export UV_PYTHON_DOWNLOADS = never

.PHONY: up preview down status tools cluster check test test-config test-render test-components test-scripts test-ops test-local test-e2e

up:
	$(RUN) python -m ops up --stack $(STACK) $(if $(YES),--yes)

preview:
	$(RUN) python -m ops preview --stack $(STACK)

down:
	$(RUN) python -m ops down --stack $(STACK)

status:
	$(RUN) python -m ops status

tools:
	$(RUN) python -m ops tools

cluster:
	$(RUN) python -m ops cluster --stack $(STACK)

check:
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) pyright
	$(RUN) lint-imports

test:
	$(PYTEST)

test-config:
	$(PYTEST) tests/config

test-render:
	$(PYTEST) tests/render

test-components:
	$(PYTEST) tests/components

test-scripts:
	$(PYTEST) tests/scripts

test-ops:
	$(PYTEST) tests/ops

test-local:
	$(PYTEST) tests/hub tests/images tests/machine tests/toolchain

test-e2e:
	$(PYTEST) tests/e2e
