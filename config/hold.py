"""The hold that a rollback leaves on a stack: until it is lifted, no update of any checkout changes anything."""

import os
import time
from collections.abc import Mapping
from typing import Any, cast

import pulumi
from pulumi.runtime import invoke, is_dry_run

HOLD = "hold"
"""The stack output that says who holds the stack, and since when; absent where nobody does."""
HOLD_VARIABLE = "LLAMA_CHAT_HOLD"
"""In a rollback's environment: the text of the hold that its program puts on the stack."""
RESUME_VARIABLE = "LLAMA_CHAT_RESUME"
"""In the environment of `make resume`: this update may lift the hold."""

HALF_WRITTEN = "failed to load checkpoint"
"""What Pulumi says where it reads a state that it is just writing, as it does once the stack itself is registered."""
WAITS = (0.1, 0.2, 0.5, 1, 2)
"""Seconds until it is read again."""


def respect_hold() -> None:
    """Stop the update of a held stack before its first resource; a preview warns, and goes on.

    To be called before anything is registered. Raises pulumi.RunError, so that `pulumi up` shows no traceback.
    """
    held = previous_outputs().get(HOLD)
    ours = os.environ.get(HOLD_VARIABLE)
    if not ours and held and not os.environ.get(RESUME_VARIABLE):
        told = refusal(pulumi.get_stack(), str(held))
        if not is_dry_run():
            raise pulumi.RunError(told)
        pulumi.warn(told)
        ours = str(held)
    if ours:
        pulumi.export(HOLD, ours)


def refusal(stack: str, held: str) -> str:
    """What whoever updates a held stack is told."""
    return f"Stack {stack} is held: {held}. `make resume STACK={stack}` lifts the hold and applies this checkout."


def previous_outputs() -> Mapping[str, Any]:
    """The stack's own outputs as its last update left them, a failed one too; none before the first one.

    What `pulumi.StackReference` asks the engine, without a resource of it in the state: and the answer is there at
    once, not in an Output that resources would have to wait for.
    """
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    for wait in WAITS:
        try:
            return _read_outputs(name)
        except Exception as error:  # Pulumi raises nothing narrower
            if HALF_WRITTEN not in str(error):
                raise
            time.sleep(wait)
    return _read_outputs(name)


def _read_outputs(name: str) -> Mapping[str, Any]:
    answer = cast("Mapping[str, Any]", invoke("pulumi:pulumi:readStackOutputs", {"name": name}).value)
    return cast("Mapping[str, Any]", answer["outputs"])
