"""Loading a stack file: one way of checking for `pulumi up` and for a file on disk."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import get_args

from pydantic import JsonValue, ValidationError

from config import explain, lock_policy, migration_policy, policy
from config.errors import ConfigError, Problem
from config.legacy import Adopted, folder_of, load_adopted
from config.lock import Lock
from config.model import StackConfig
from config.secrecy import HIDDEN, key_path, problem
from config.stack_file import read

MASTER_KEY = "master_key"
"""The one key whose value may be encrypted."""


def load_file(path: Path, lock: Lock | None = None, *, adopted: Path | None = None) -> StackConfig:
    """The stack config in `Pulumi.<stack>.yaml`; without a lock nothing is known of its models.

    `adopted` is the folder of what was adopted, where the file's own name does not tell.
    Raises UserError where the file cannot be read as a stack file, ConfigError with all problems of a stage.
    """
    values = read(path)
    folder = adopted or folder_of(path.name.removeprefix("Pulumi.").removesuffix(".yaml"))
    return checked(values, lock, encrypted=_encrypted(values), folder=folder)


def load_unadopted(path: Path) -> StackConfig:
    """The same as far as a file can tell alone: before its gateway was adopted, and before its models were locked."""
    values = read(path)
    return _sound(values, _encrypted(values))


def checked(
    values: Mapping[str, JsonValue],
    lock: Lock | None = None,
    *,
    encrypted: Collection[str] = (),
    folder: Path | None = None,
) -> StackConfig:
    """A stack config from plain JSON values by top-level field; a scalar may come as text, as Pulumi hands it over.

    `encrypted` names the fields that hold an encrypted value, `folder` holds what was adopted. Raises ConfigError:
    first with every problem of the schema, then with every problem of the policy, then with what the lock lacks or
    does not allow.
    """
    config = _sound(values, encrypted)
    if config.gateway.mode == "adopt" and folder:
        config = config.with_adopted(load_adopted(folder) or Adopted())
    if problems := migration_policy.problems(config):
        raise ConfigError(tuple(problems))
    if lock is None:
        return config
    config = config.with_lock(lock)
    if problems := lock_policy.problems(config):
        raise ConfigError(tuple(problems))
    return config


def _sound(values: Mapping[str, JsonValue], encrypted: Collection[str]) -> StackConfig:
    """Right in shape and policy."""
    plain = {name: _typed(name, value) for name, value in values.items() if name not in {*encrypted, MASTER_KEY}}
    # What was encrypted is never passed on: both ways in know only that it is there.
    master_key = {MASTER_KEY: {"secure": HIDDEN}} if MASTER_KEY in encrypted else {}
    problems = _misplaced(values, encrypted)
    try:
        # JSON, so that a list is a tuple's natural form while "1" is still no number.
        config = StackConfig.model_validate_json(json.dumps(plain | master_key))
    except ValidationError as error:
        refused = {problem.key for problem in problems}
        problems += [problem for problem in explain.problems(error) if problem.key not in refused]
        raise ConfigError(tuple(problems)) from None
    if problems or (problems := policy.problems(config)):
        raise ConfigError(tuple(problems))
    return config


def _misplaced(values: Mapping[str, JsonValue], encrypted: Collection[str]) -> list[Problem]:
    """What is encrypted and must not be, and the other way round."""
    problems = [
        Problem(
            key=key_path([name]),
            value=HIDDEN,
            remedy=f"only llama-chat:{MASTER_KEY} may be encrypted: name a Secret and its key, or write it in plain",
        )
        for name in values
        if name in encrypted and name != MASTER_KEY
    ]
    if MASTER_KEY in values and MASTER_KEY not in encrypted:
        remedy = f"is in plain text: make a new one with `pulumi config set --secret llama-chat:{MASTER_KEY}`"
        problems.append(problem([MASTER_KEY], values[MASTER_KEY], remedy))
    return problems


def _typed(name: str, value: JsonValue) -> JsonValue:
    """A top-level scalar in its field's type: `pulumi config set` writes "true" and "1800", and hands on text."""
    if isinstance(value, bool | int | float):
        value = json.dumps(value)
    kind = scalar(name)
    if kind is bool and value in ("true", "false"):
        return value == "true"
    if kind is int and isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value):
        return int(value)
    return value


def scalar(name: str) -> type | None:
    """The type of a top-level bool or int, else None; `int | None` is an int that may be left out."""
    field = StackConfig.model_fields.get(name)
    kinds = {field.annotation, *get_args(field.annotation)} if field else set[object]()
    return next((kind for kind in (bool, int) if kind in kinds), None)


def _encrypted(values: Mapping[str, JsonValue]) -> list[str]:
    return [name for name, value in values.items() if _holds_encrypted(value)]


def _holds_encrypted(value: JsonValue) -> bool:
    match value:
        case {"secure": str()} if len(value) == 1:
            return True
        case dict():
            return any(_holds_encrypted(item) for item in value.values())
        case list():
            return any(_holds_encrypted(item) for item in value)
        case _:
            return False
