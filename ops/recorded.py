"""An update's config as its record has it, and stack files: which of them made it, and one that makes it again."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import JsonValue

from config.errors import UserError
from config.model import NAMESPACE
from config.stack_file import read
from ops.history import Record

SECRETS_LINES = ("encryptionsalt", "encryptedkey", "secretsprovider")
"""What Pulumi itself writes into a stack file when a stack is made, or its passphrase changed."""


def restored_text(record: Record, today: Path, keep: Collection[str] = ()) -> str:
    """A stack file with the record's plain values and today's secrets; JSON, so that no text is taken for a number.

    `today` is today's stack file; `keep` names keys whose values are today's as well. UserError where it lacks one.
    """
    document = _document(today)
    encrypted = {_full(key): value for key, value in _mapping(document.get("config")).items() if _is_encrypted(value)}
    if missing := sorted(record.secrets - encrypted.keys()):
        raise UserError(
            f"That record has an encrypted {missing[0]} and {today.name} has none: add one with `pulumi config set"
            f" --secret {missing[0]}`."
        )
    values = read(today)
    if unknown := sorted(set(keep) - values.keys()):
        raise UserError(f"{today.name} has no {NAMESPACE}:{unknown[0]} to keep: KEEP (--keep) names keys of that file.")
    kept = {_full(key): values[key] for key in keep}
    config = {**record.config, **{key: encrypted[key] for key in record.secrets}, **kept}
    return json.dumps({**document, "config": config}, indent=2)


def another_file(record: Record, then: Path, project: Path, today: Path) -> bool:
    """Whether a record was made with another stack file than the one that its commit has.

    So it was where the config differs from what that file (`then`) and the project's defaults (`project`) make, and
    where `then` lacks the lines that Pulumi writes by itself, which today's file has.
    """
    if _secrets_lines(today) and not _secrets_lines(then):
        return True
    try:
        values = _defaults(project) | read(then)
    except UserError:  # no update could have read it either
        return True
    secrets = {_full(key) for key, value in values.items() if _is_encrypted(value)}
    plain = {_full(key): _as_recorded(value) for key, value in values.items() if _full(key) not in secrets}
    ours = _full("")
    recorded = {key: value for key, value in record.config.items() if key.startswith(ours)}
    return (recorded, {key for key in record.secrets if key.startswith(ours)}) != (plain, secrets)


def _defaults(project: Path) -> dict[str, JsonValue]:
    declared = _mapping(_document(project).get("config"))
    return {key: it["default"] for key, it in declared.items() if "default" in _mapping(it)}


def _as_recorded(value: JsonValue) -> JsonValue:
    """A value of a stack file as Pulumi's history has it: a scalar is text, 1.0 is 1."""
    plain: JsonValue = json.loads(json.dumps(value), parse_float=_number)
    return plain if isinstance(plain, str | dict | list) else json.dumps(plain)


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _secrets_lines(file: Path) -> bool:
    return any(key in _document(file) for key in SECRETS_LINES)


def _document(file: Path) -> dict[str, Any]:
    try:
        return _mapping(yaml.safe_load(file.read_text(encoding="utf-8-sig")))
    except yaml.YAMLError as error:
        raise UserError(f"{file}: is not YAML: correct it: {' '.join(str(error).split())}") from None


def _full(key: str) -> str:
    return key if ":" in key else f"{NAMESPACE}:{key}"


def _is_encrypted(value: object) -> bool:
    return list(_mapping(value)) == ["secure"]


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
