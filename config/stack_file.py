"""Reading `Pulumi.<stack>.yaml` as Pulumi's CLI reads it."""

import re
from collections.abc import Hashable
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import JsonValue

from config.errors import UserError
from config.model import NAMESPACE
from config.secrecy import shown

_Yaml: TypeAlias = (
    "dict[Hashable, _Yaml] | list[_Yaml] | str | int | float | date | bytes | set[object] | tuple[object] | None"
)


def read(path: Path) -> dict[str, JsonValue]:
    """The values of our keys, by name without `llama-chat:`; other namespaces and Pulumi's own keys are left out.

    Raises UserError where there is no file, no YAML or no `config:` block, and where a key stands twice.
    """
    try:
        document = _plain(yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader))  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): name a stack file, Pulumi.<stack>.yaml.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text: save it as UTF-8.") from None
    except _UnwantedError as error:
        raise UserError(f"{path}: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: is not YAML{_place(error)}: correct it.") from None
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise UserError(f"{path}: has no config block: add `config:` with the keys `{NAMESPACE}:…`.")
    return _ours(path, config)


def _ours(path: Path, config: dict[str, JsonValue]) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = {}
    for key, value in config.items():
        namespace, _, name = key.rpartition(":")
        # A key without a namespace is the project's; `:config:` is its old form.
        if namespace.removesuffix(":config") not in {"", NAMESPACE}:
            continue
        if name in values:
            raise UserError(f"{path}: {NAMESPACE}:{shown(name)} stands twice: remove one.")
        values[name] = value
    return values


def _place(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _plain(value: _Yaml) -> JsonValue:
    """A YAML value as Pulumi makes JSON of it: keys are text, 1.0 is 1."""
    match value:
        case dict():
            return {_plain_key(key): _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case float() if value.is_integer():
            return int(value)
        case bytes() | set() | tuple():
            raise _UnwantedError("a !!binary, !!set or !!pairs: write plain text, a list or an object.")
        case date():
            raise _UnwantedError(f"{value:%Y-%m-%d} is a date to YAML: put it in quotes.")
        case _:
            return value


def _plain_key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


class _UnwantedError(yaml.YAMLError):
    """Sound YAML that no stack file may have."""


# The scalars of Pulumi's own reader: `on` is text, as in YAML 1.2.
_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0b[01]+|0x[0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)",
    "float": r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "timestamp": r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}",
    "merge": r"<<",
}
_RESOLVERS = {None: [(f"tag:yaml.org,2002:{name}", re.compile(rf"^(?:{form})$")) for name, form in _SCALARS.items()]}


class _Loader(yaml.SafeLoader):
    """A SafeLoader that takes no key twice."""

    yaml_implicit_resolvers = _RESOLVERS

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - as the parent
        """One mapping; raises _UnwantedError."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise _UnwantedError(f"{shown(key.value)} stands twice (line {line}): remove one.")
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)
