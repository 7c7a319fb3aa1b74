"""The hold on a stack, as the operator's commands see it: read, put on, lifted."""

import getpass
import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.errors import UserError
from config.hold import HOLD, RESUME_VARIABLE, refusal
from local.console import say
from ops.engine import Engine
from ops.history import Record, ask_pulumi
from ops.stack import ROOT

ROOT_TYPE = "pulumi:pulumi:Stack"


def hold_text(record: Record) -> str:
    """Who holds the stack, where it stands, and since when."""
    return f"rolled back to {record.short} by {_who()} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def read_hold(stack: str, folder: Path) -> str | None:
    """The text of the stack's hold; None where nobody holds it."""
    return read_outputs(stack, folder).get(HOLD)


def read_outputs(stack: str, folder: Path) -> dict[str, Any]:
    """The stack's outputs as its last update left them; what is secret in them stays hidden."""
    return json.loads(ask_pulumi(folder, "stack", "output", "--json", "--stack", stack))


def refuse_held(stack: str, outputs: Mapping[str, Any]) -> None:
    """UserError where somebody holds the stack."""
    if held := outputs.get(HOLD):
        raise UserError(refusal(stack, held))


def put_hold(stack: str, folder: Path, text: str) -> None:
    """Put the hold on from outside, whatever program runs next: into the outputs in the state.

    It stays through a failed or killed update; a program that knows of holds then puts it on by itself, and one that
    is too old for that drops it as it succeeds. A stack that has nothing yet has nothing to hold.
    """
    state: dict[str, Any] = json.loads(ask_pulumi(folder, "stack", "export", "--stack", stack))
    resources: list[dict[str, Any]] = state["deployment"].get("resources") or []
    roots = [it for it in resources if it["type"] == ROOT_TYPE]
    for root in roots:
        root.setdefault("outputs", {})[HOLD] = text
    if roots:
        ask_pulumi(folder, "stack", "import", "--stack", stack, stdin=json.dumps(state))


def lift(engine: Engine, *, agreed: bool) -> None:
    """Apply today's checkout, which takes the hold off the stack, after a preview; UserError where it fails."""
    held = read_hold(engine.stack, ROOT)
    if held is None:
        say(f"stack {engine.stack} is not held: `make up STACK={engine.stack}` applies this checkout")
        return
    say(f"stack {engine.stack} is held: {held}")
    os.environ[RESUME_VARIABLE] = "1"
    engine.up(*(["--yes"] if agreed else []))
    say(f"stack {engine.stack} is held no more")


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user may have no name
        return socket.gethostname()
