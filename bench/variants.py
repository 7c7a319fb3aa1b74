"""The prod stack's file, changed only in what a measurement needs."""

import copy
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue

from config.model import NAMESPACE
from config.stack_file import read

Values = dict[str, Any]


def variant(path: Path, namespace: str, pool_models: int | None = None) -> dict[str, JsonValue]:
    """A stack file's values in another namespace and, where a number is given, with so many models in its pool."""
    values: Values = copy.deepcopy(read(path))
    values["cluster"]["namespace"] = namespace
    if pool_models is not None:
        pool = values["pools"][0]
        # one that the lock knows, under many names
        pool["models"] = [{**pool["models"][0], "name": f"Again-{number:03}"} for number in range(1, pool_models + 1)]
    return values


def stack_file(values: dict[str, JsonValue]) -> str:
    """Values as the text of a `Pulumi.<stack>.yaml`."""
    return yaml.safe_dump({"config": {f"{NAMESPACE}:{name}": value for name, value in values.items()}})
