"""LiteLLM keeps no client's connection: a pod that ends would lose the request that comes on one just then."""

from collections.abc import Iterable
from typing import Any

from components.pods import scripts

_SCRIPT = "llama_chat_connections.py"
_PATH, _HOOKS = "PYTHONPATH", "LITELLM_WORKER_STARTUP_HOOKS"


def script() -> dict[str, str]:
    """What LiteLLM calls at its start, by file name."""
    return scripts(_SCRIPT)


def hook_env(folder: str, theirs: Iterable[dict[str, Any]] = ()) -> list[dict[str, str]]:
    """The variables with which LiteLLM finds the script in a folder and calls it, before what `theirs` have in them.

    None where one of theirs is read from elsewhere. LiteLLM of before March 2026 knows no such hook: it ignores them.
    """
    wanted = {_PATH: (folder, ":"), _HOOKS: (f"{_SCRIPT.removesuffix('.py')}:close_each", ",")}
    found = {it["name"]: it for it in theirs if it["name"] in wanted}
    if any("valueFrom" in it for it in found.values()):
        return []
    had = {name: it.get("value", "") for name, it in found.items()}
    return [
        {"name": name, "value": sign.join(filter(None, (ours, had.get(name))))} for name, (ours, sign) in wanted.items()
    ]
