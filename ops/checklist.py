"""A line of the validation checklist, and how it is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from config.errors import UserError
from ops.forward import one_line

FAULTS = (UserError, OSError, LookupError, TypeError, ValueError, AttributeError)
"""What a look may end with: the reason itself, or that an object or a document has another shape than is read."""

Group = Literal["backend", "router", "frontend", "legacy"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the checklist."""

    group: Group
    subject: str
    """What was looked at: a backend, a name, a Deployment, a ConfigMap."""
    what: str
    ok: bool
    detail: str
    """The reason where it failed, else what was seen; one line."""


def made(group: Group, subject: str, what: str, look: Callable[[], str]) -> Check:
    """One check made: `look` returns what it saw, or raises UserError with the reason."""
    try:
        return Check(group=group, subject=subject, what=what, ok=True, detail=one_line(look()))
    except FAULTS as error:
        return Check(group=group, subject=subject, what=what, ok=False, detail=explained(error))


def explained(error: Exception) -> str:
    """Why a look failed, in one line."""
    told = str(error) if isinstance(error, (UserError, OSError)) else f"an answer of another shape: {error!r}"
    return one_line(told)


def same_names(listed: Sequence[str], expected: Sequence[str]) -> str:
    """The names listed; UserError where they are not exactly the expected ones, in whatever order."""
    if sorted(listed) != sorted(expected):
        raise UserError(f"lists {', '.join(sorted(listed)) or 'nothing'}; expected {', '.join(sorted(expected))}")
    return ", ".join(listed)
