"""What must hold before a stack is moved to another phase: its file, its outputs and its checkout agree."""

from config.errors import ConfigError, Problem, UserError
from config.phases import Reached, read_reached
from ops.hold import read_outputs, refuse_held
from ops.stack import Stack
from ops.worktree import Checkout


def require_adopting(stack: Stack) -> None:
    """ConfigError where the gateway is the stack's own."""
    if stack.config.gateway.mode != "adopt":
        remedy = "a gateway of the stack's own has no phases to move through: this is for mode adopt alone"
        raise ConfigError((Problem(key="llama-chat:gateway.mode", value=stack.config.gateway.mode, remedy=remedy),))


def require_committed(stack: Stack, checkout: Checkout) -> None:
    """UserError where the stack file is not as it is committed: a commit of it would carry more than was asked for."""
    if checkout.changed(stack.file):
        raise UserError(
            f"{stack.file.name} has changes that are not committed: commit them, or take them back with "
            f"`git checkout -- {stack.file.name}`, then run this again."
        )


def reached_phase(stack: Stack, checkout: Checkout) -> Reached | None:
    """The phase that the stack has reached, held or not; None before the first."""
    return read_reached(read_outputs(stack.name, checkout.folder))


def require_reached(stack: Stack, checkout: Checkout) -> Reached:
    """The phase that the stack has reached; UserError where it is held, or its file says another phase."""
    outputs = read_outputs(stack.name, checkout.folder)
    refuse_held(stack.name, outputs)
    reached, wanted = read_reached(outputs), stack.config.migration.phase
    if reached is None or reached.phase != wanted:
        stands = f"has reached {reached.phase}" if reached else "has reached no phase yet"
        raise UserError(
            f"{stack.file.name} says phase {wanted}, and the stack {stands}: run `make up STACK={stack.name}` first."
        )
    return reached
