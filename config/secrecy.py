"""What looks like a secret, and how a value is shown without giving one away."""

import json
import re
from collections.abc import Iterable, Sequence

from config.errors import Problem
from config.model import NAMESPACE

HIDDEN = "(hidden)"
MISSING = "(missing)"
_MOST = 60

_PREFIX = r"hf_|sk-|gh[a-z]_|github_pat_|glpat-"
# `hf_token` and the like are names of secrets.
_WHOLE = re.compile(rf"(?!.{{,16}}(?:token|key|secret)$)(?:{_PREFIX})[\w-]{{4,}}", re.ASCII)
# Inside a longer text only a long token counts: `owner/sk-llama-GGUF` is a repository.
_WITHIN = re.compile(
    rf"(?<![A-Za-z0-9])(?:{_PREFIX})(?:[a-z0-9]+-)*\w{{16,}}|://[^/\s@]+@|-----BEGIN [A-Z ]+-----", re.ASCII
)


def problem(where: Sequence[str | int], value: object, remedy: str) -> Problem:
    """A fault at a path of the stack file; the value is shown as far as it may be."""
    return Problem(key=key_path(where), value=shown(value, where), remedy=remedy)


def looks_secret(text: str) -> bool:
    """Whether a text has the shape of a hub, API or GitHub token, a URL with credentials, or a PEM block."""
    return bool(_WHOLE.fullmatch(text.strip()) or _WITHIN.search(text))


def shown(value: object, where: Iterable[object] = ()) -> str:
    """A value as an error may show it: short, on one line, and hidden where it or its key may be secret.

    `where` is the path to it, `("gateway", "master_key_secret", "name")`.
    """
    if any(isinstance(part, str) and part.endswith(("_secret", "_key")) for part in where):
        return HIDDEN
    match value:
        case dict():
            return "{…}"
        case list():
            return "[…]"
        case "":
            return "(empty)"
        case str() if looks_secret(value):
            return HIDDEN
        case str():
            # Control characters stay off the terminal.
            text = value if value.isprintable() else json.dumps(value)[1:-1]
        case _:
            text = json.dumps(value)
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"


def key_path(where: Iterable[object]) -> str:
    """A path as an operator writes it: `llama-chat:statics[0].model.quant`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in where)
    return f"{NAMESPACE}:{text.removeprefix('.')}" if text else NAMESPACE
