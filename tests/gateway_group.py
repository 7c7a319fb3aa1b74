"""The real LiteLLM: what the local gateway's image holds."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def with_litellm(*command: str) -> list[str]:
    """The argument list that runs `command` (python, litellm) beside the dependency group `gateway`, as locked."""
    uv = [os.environ.get("UV", "uv"), "run", "--frozen", "--isolated", "--only-group", "gateway"]
    return [*uv, "--project", str(ROOT), "--python", sys.executable, *command]
