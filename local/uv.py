"""The uv that this project is run with."""

import os
import shutil

from config.errors import UserError


def uv_command() -> str:
    """Its path: `uv run` tells where it is itself, else PATH knows."""
    if uv := os.environ.get("UV") or shutil.which("uv"):
        return uv
    raise UserError("uv is not on PATH: start with `uv run`, or install uv.")
