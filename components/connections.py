"""A LiteLLM that is told to end lets go of its clients' connections: it would lose a request that comes on one then."""

from collections.abc import Iterable
from typing import Any

from components.pods import scripts
from components.scripts.llama_chat_connections import ENDS
from config.legacy import HOOK_VARIABLES

ENDPOINT_REMOVAL_SECONDS = 8
"""How long a stopping pod goes on accepting requests, until no node sends any more."""
_SCRIPT = "llama_chat_connections.py"


def hook_files() -> dict[str, str]:
    """What LiteLLM calls at its start, by file name."""
    return scripts(_SCRIPT)


def stop_command() -> list[str]:
    """A pod's preStop hook: it tells the script, then requests go on coming for a while."""
    return ["sh", "-c", f"touch {ENDS}; exec sleep {ENDPOINT_REMOVAL_SECONDS}"]


def hook_env(folder: str, theirs: Iterable[dict[str, Any]] = ()) -> list[dict[str, str]]:
    """The variables with which LiteLLM finds the script in a folder and calls it, before what `theirs` have in them.

    None where one of theirs is read from elsewhere. A LiteLLM older than March 2026 ignores them.
    """
    ours = ((folder, ":"), (f"{_SCRIPT.removesuffix('.py')}:watch", ","))
    wanted = dict(zip(HOOK_VARIABLES, ours, strict=True))
    found = {it["name"]: it for it in theirs if it["name"] in wanted}
    if any("valueFrom" in it for it in found.values()):
        return []
    made: list[dict[str, str]] = []
    for name, (value, sign) in wanted.items():
        had = found.get(name, {}).get("value", "").split(sign)
        made.append({"name": name, "value": sign.join((value, *(it for it in had if it not in {"", value})))})
    return made
