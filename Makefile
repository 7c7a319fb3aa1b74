# Each target is one command that a person could type. STACK names Pulumi.<STACK>.yaml.
STACK ?= local
UV := $(or $(shell sh local/bootstrap-uv.sh),$(error uv is needed, see above))
RUN := $(UV) run --frozen
PYTEST := $(RUN) pytest
SIDE_BY_SIDE := --numprocesses auto --dist loadfile
export UV_PYTHON_DOWNLOADS = never

.PHONY: up preview verify smoke adopt promote demote retire destroy history rollback resume pin lock rename comment
.PHONY: down status tools cluster check bench
.PHONY: test test-full test-config test-render test-components test-scripts test-ops test-local test-e2e

# OVERWRITE=1 writes over what somebody else has changed in an adopted document
up:
	$(RUN) python -m ops up --stack $(STACK) $(if $(YES),--yes) $(if $(OVERWRITE),--overwrite)

preview:
	$(RUN) python -m ops preview --stack $(STACK)

verify:
	$(RUN) python -m ops verify --stack $(STACK)

smoke:
	$(RUN) python -m ops smoke --stack $(STACK)

# YES=1 puts keys that stand in LiteLLM's document into a Secret without asking
adopt:
	$(RUN) python -m ops adopt --stack $(STACK) $(if $(YES),--yes)

# checks the stack, writes its next phase into its file and commits that; `make up` then goes there
promote:
	$(RUN) python -m ops promote --stack $(STACK)

# TO=<an earlier phase>, else the one before; `make up` then goes there
demote:
	$(RUN) python -m ops demote --stack $(STACK) $(if $(TO),--to '$(TO)')

# in phase done: saves, commits and removes what answered before; YES=1 does not ask
retire:
	$(RUN) python -m ops retire --stack $(STACK) $(if $(YES),--yes)

# takes the whole stack away, but for its claims; YES=1 does not ask
destroy:
	$(RUN) python -m ops destroy --stack $(STACK) $(if $(YES),--yes)

# the newest 30 updates, or LAST=<how many>
history:
	$(RUN) python -m ops history --stack $(STACK) $(if $(LAST),--last $(LAST))

# TO=<a commit or a time> names the update; DRY_RUN=1 shows it; docs/rollback.md has the rest
rollback:
	$(RUN) python -m ops rollback --stack $(STACK) $(if $(TO),--to '$(TO)') $(if $(DRY_RUN),--dry-run) \
		$(if $(YES),--yes) $(if $(ALLOW_DELETES),--allow-deletes) $(if $(ONLINE),--online) \
		$(foreach key,$(KEEP),--keep $(key))

# lifts a rollback's hold, and applies this checkout; OVERWRITE=1 as with up
resume:
	$(RUN) python -m ops resume --stack $(STACK) $(if $(YES),--yes) $(if $(OVERWRITE),--overwrite)

# UPDATE=1 reads digests anew that are there already
pin:
	$(RUN) python -m ops pin --stack $(STACK) $(if $(UPDATE),--update)

# UPDATE=<a model's name> moves it to its newest revision
lock:
	$(RUN) python -m ops lock --stack $(STACK) $(if $(UPDATE),--update $(UPDATE))

# MAP="old=new old=new" is what it would rename, APPLY=1 does it, UNDO=<file> puts it back; MONGO_URI is LibreChat's
rename:
	$(RUN) python -m ops rename --stack $(STACK) $(foreach pair,$(MAP),--map '$(pair)') \
		$(if $(APPLY),--apply) $(if $(UNDO),--undo '$(UNDO)')

# in pull-request checks: FILE holds a preview's output, PR is the number
comment:
	sh .github/comment.sh "$(STACK)" "$(FILE)" "$(PR)"

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

bench:
	$(RUN) python -m bench $(if $(RUNS),--runs $(RUNS))

# what needs the cluster comes last, and alone: the rest fills the machine
test:
	$(PYTEST) -m 'not cluster and not full' $(SIDE_BY_SIDE)
	$(PYTEST) -m 'cluster and not full'

# with what takes long too: every fault in every phase of a migration; what users saw goes into docs/
test-full:
	$(PYTEST) -m 'not cluster' $(SIDE_BY_SIDE)
	LLAMA_CHAT_RECORD=1 $(PYTEST) -m cluster

test-config:
	$(PYTEST) tests/config

test-render:
	$(PYTEST) tests/render

test-components:
	$(PYTEST) tests/components

test-scripts:
	$(PYTEST) tests/scripts

test-ops:
	$(PYTEST) tests/ops tests/workflows tests/bench

test-local:
	$(PYTEST) tests/hub tests/images tests/machine tests/toolchain

test-e2e:
	$(PYTEST) tests/e2e
