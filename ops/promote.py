"""Moving a stack to another phase: in its file, as one commit. The cluster stays as it is until `make up`."""

from datetime import UTC, datetime

from config.errors import ConfigError, UserError
from config.parts import Phase
from config.phases import PHASES, following_phase, refused_step
from local.console import say
from ops.kube import Kube
from ops.replace import replace_file
from ops.stack import Stack, require_meant
from ops.stack_edit import with_entry
from ops.standing import reached_phase, require_adopting, require_committed, require_reached
from ops.verify import print_table, verify
from ops.worktree import Checkout

BESIDE = ["legacy", "frontend", "gateway"]
"""The keys of a stack file after which a new one of the migration is written."""


def promote(stack: Stack, kube: Kube, checkout: Checkout) -> None:
    """Write the next phase into the stack file and commit it, once the one that stands is sound.

    UserError or ConfigError where it is not, where the gate would refuse the next one, and where there is none.
    """
    require_adopting(stack)
    require_committed(stack, checkout)
    reached = require_reached(stack, checkout)
    phase = following_phase(reached.phase)
    if phase is None:
        raise UserError(f"Stack {stack.name} has reached {reached.phase}, the last phase: there is nothing to move to.")
    if refusal := refused_step(reached, phase, stack.config.migration, datetime.now(UTC)):
        raise ConfigError((refusal,))
    content = stack.file.read_bytes()
    edited = with_phase(stack, content.decode(), phase)
    checks = verify(stack.config, kube)
    print_table(checks)
    if not all(check.ok for check in checks):
        raise UserError(f"Stack {stack.name} stays in {reached.phase}: mend what the table above shows as FAILED.")
    _commit(stack, checkout, content, edited.encode(), f"Move {stack.name} to phase {phase}")


def demote(stack: Stack, checkout: Checkout, to: str | None) -> None:
    """Write an earlier phase into the stack file and commit it: the one before, or the one that is named.

    UserError where that is not earlier than what the file says, ConfigError where the gate would refuse it.
    """
    require_adopting(stack)
    require_committed(stack, checkout)
    now = stack.config.migration.phase
    earlier = PHASES[: PHASES.index(now)]
    if not earlier:
        raise UserError(f"{stack.file.name} says {now}, the first phase: there is nothing to go back to.")
    phase: Phase | None = next((it for it in earlier if it == (to or earlier[-1])), None)
    if phase is None:
        raise UserError(f"TO={to}: {stack.file.name} says {now}: write an earlier phase: {', '.join(earlier)}.")
    if refusal := refused_step(reached_phase(stack, checkout), phase, stack.config.migration, datetime.now(UTC)):
        raise ConfigError((refusal,))
    content = stack.file.read_bytes()
    edited = with_phase(stack, content.decode(), phase)
    _commit(stack, checkout, content, edited.encode(), f"Move {stack.name} back to phase {phase}")


def with_phase(stack: Stack, text: str, phase: Phase) -> str:
    """A stack file's text with another phase; ConfigError where the stack cannot be in it."""
    edited = with_entry(text, "migration", "phase", phase, BESIDE)
    migration = stack.config.migration.model_copy(update={"phase": phase})
    require_meant(stack, edited, "migration.phase", stack.config.model_copy(update={"migration": migration}))
    return edited


def _commit(stack: Stack, checkout: Checkout, content: bytes, edited: bytes, message: str) -> None:
    replace_file(stack.file, content, edited, again="run this again")
    try:
        checkout.commit(message, stack.file)
    except UserError:
        replace_file(stack.file, edited, content, again="look at it")
        raise
    say(f"committed {stack.file.name} alone: {message}")
    say(f"`make preview STACK={stack.name}` shows what that changes, `make up STACK={stack.name}` does it")
    say("push the commit as well: a pipeline that brings up the branch would take this back with its next run")
