"""What goes wrong in a way that the person at the terminal can mend."""

from dataclasses import dataclass


class UserError(Exception):
    """One clear sentence: what is wrong, and what to do about it. Shown without a traceback."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fault of a stack file."""

    key: str
    """Where it stands, as an operator writes it: `llama-chat:gpu.count`."""
    value: str
    """What stands there, shortened; `(missing)` where nothing does, `(hidden)` where it may be a secret."""
    remedy: str
    """What is wrong with it and what to write instead."""

    def __str__(self) -> str:
        return f"{self.key}: {self.value}: {self.remedy}"


class ConfigError(UserError):
    """Every problem of one stage (schema, then policy) of a stack file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
