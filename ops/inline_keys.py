"""Keys that stand in a document instead of being referred to: where they are, and the text without them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import yaml

from config.migration_policy import KEY
from config.secrecy import looks_secret

Reader = Literal["litellm", "librechat"]
"""Who reads a document: each refers to variables in its own way."""
HIDDEN = "***"
REFERENCE = "os.environ/"
_REFERS = {
    "litellm": re.compile(r"(os\.environ|oidc)/"),
    "librechat": re.compile(r".*\$\{|user_provided$", re.DOTALL),
}
_NAMES = re.compile(r"(^|_)(api_?key|passw(or)?d|authorization)$|_(key|token|secret|credentials?)$")
_COUNTS = re.compile(r"(^|_)(cost|per)_")
"""`input_cost_per_token` is a price."""
_PLACEHOLDERS = {
    *(
        "",
        "unused",
        "none",
        "null",
        "empty",
        "dummy",
        "fake",
        "fake-key",
        "placeholder",
        "not-needed",
        "not-used",
        "n/a",
    ),
    *("no-key", "no-key-required", "sk-no-key-required", "anything", "x", "-"),
}
"""What people write where a client wants some key and the server asks for none."""
_PROPERTIES = re.compile(r"^(?:[&!]\S*\s+)+")
"""A node's anchor and tag, which stand before its text."""
_ASSIGNED = re.compile(r"(?i)((?:key|token|secret|passw(?:or)?d|authorization|credentials?)[\"']?\s*[:=]\s*)\S.*")


@dataclass(frozen=True, kw_only=True)
class InlineKey:
    """A value that is a secret, by its key's name or by its own shape."""

    path: str
    """`model_list[0].litellm_params.api_key`"""
    value: str
    start: int
    end: int
    """Where its text stands in the document."""
    in_list: bool
    """Whether it is an item of a list, where LiteLLM resolves no reference."""


def inline_keys(text: str, reader: Reader) -> list[InlineKey]:
    """Every key that stands in a YAML document, from its beginning to its end; ValueError where it is not YAML."""
    found: dict[int, InlineKey] = {}
    for path, name, node, in_list in _scalars(text):
        if is_key(name, node.value, reader) and not node.tag.endswith((":bool", ":null")):
            start, end = node.start_mark.index, node.end_mark.index
            before = _PROPERTIES.match(text[start:end])
            start += before.end() if before else 0
            end = start + len(text[start:end].rstrip())
            # an anchor's value stands once, whatever refers to it
            found[start] = InlineKey(path=path, value=node.value, start=start, end=end, in_list=in_list)
    return [found[start] for start in sorted(found)]


def references(text: str) -> dict[str, str]:
    """The variables of ours that LiteLLM's document refers to, by where it does."""
    return {path: found[1] for path, _, node, _ in _scalars(text) if (found := KEY.fullmatch(node.value))}


def replaced(text: str, values: Mapping[InlineKey, str]) -> str:
    """The text with something else in the place of each key, and no other character changed."""
    for key in sorted(values, key=lambda it: it.start, reverse=True):
        text = text[: key.start] + values[key] + text[key.end :]
    return text


def referred(text: str) -> str:
    """LiteLLM's document with every key taken out of it, whether it stands there or is referred to as ours are."""
    keys = dict.fromkeys(inline_keys(text, "litellm"), REFERENCE + HIDDEN)
    return KEY.sub(REFERENCE + HIDDEN, replaced(text, keys))


def hidden(text: str, reader: Reader) -> str:
    """A document as it may be shown; what was a key and what refers to one of ours now look alike."""
    try:
        text = replaced(text, dict.fromkeys(inline_keys(text, reader), HIDDEN))
    except ValueError:
        text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
    text = KEY.sub(HIDDEN, text)
    return "".join(HIDDEN + "\n" if looks_secret(line) else line for line in text.splitlines(keepends=True))


def secret_lines(text: str) -> list[int]:
    """The numbers of lines that look as if they held a secret, comments too."""
    return [number for number, line in enumerate(text.splitlines(), start=1) if looks_secret(line)]


def is_key(name: str, value: str, reader: Reader) -> bool:
    """Whether a value is a secret by its name or its own shape, and stands there itself."""
    if _REFERS[reader].match(value) or value.strip().lower() in _PLACEHOLDERS:
        return False
    return looks_secret(value) or names_key(name)


def names_key(name: str) -> bool:
    """Whether what has this name is a secret: `apiKey`, `x-api-key`, `REDIS_PASSWORD`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
    return bool(_NAMES.search(words)) and not _COUNTS.search(words)


def _scalars(text: str) -> Iterator[tuple[str, str, yaml.ScalarNode, bool]]:
    """Path, nearest key, and whether it is an item of a list, of every value in a document."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        raise ValueError("is not YAML") from None
    waiting: list[tuple[str, str, yaml.Node | None, bool]] = [("", "", root, False)]
    seen: set[int] = set()
    while waiting:
        path, name, node, in_list = waiting.pop()
        if isinstance(node, yaml.ScalarNode):
            yield path, name, node, in_list
        elif id(node) in seen:  # an alias of what is looked through already, or is inside of itself
            continue
        elif isinstance(node, yaml.MappingNode):
            inner = ((str(key.value), value) for key, value in node.value)
            waiting += ((f"{path}.{key}".removeprefix("."), key, value, False) for key, value in inner)
        elif isinstance(node, yaml.SequenceNode):
            waiting += ((f"{path}[{number}]", name, item, True) for number, item in enumerate(node.value))
        seen.add(id(node))
