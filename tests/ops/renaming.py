"""The renaming command as a person runs it."""

from typer.testing import CliRunner

import ops.__main__ as command
from config.errors import UserError

OURS = "llama.cpp"
OLD, NEW, OTHER = "general-chat", "GLM-4.7-Flash", "Qwen3-Coder-30B-A3B"


def run(*arguments: str, stack: str = "prod") -> tuple[int, str]:
    """Exit code and all that was said; a user's error as its message."""
    result = CliRunner().invoke(command.app, ["rename", "--stack", stack, *arguments])
    error = "" if result.exception is None or isinstance(result.exception, SystemExit) else str(result.exception)
    assert isinstance(result.exception, UserError | SystemExit | None)
    return result.exit_code, result.output + error
