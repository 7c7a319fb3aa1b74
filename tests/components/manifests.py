"""What a stack's program registers, as the manifests that the API server gets."""

import json
import runpy
from pathlib import Path
from typing import Any, cast

import pulumi
import yaml

from tests.components.recorder import Recorder, record

ROOT = Path(__file__).parents[2]


def program(stack: str) -> Recorder:
    """Run the program on a stack file that ships, under the mock engine."""
    document = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in document["config"].items()}

    def run() -> None:
        pulumi.runtime.set_all_config(texts, [])
        runpy.run_path(str(ROOT / "__main__.py"))

    return record(run)


def manifests(stack: str) -> list[dict[str, Any]]:
    """Every object that the stack makes; what it only reads or patches is left out."""
    made = [it for it in program(stack).registered if it.type.startswith("kubernetes:") and "apiVersion" in it.inputs]
    return [_plain(it.inputs) for it in made if not it.custom_id and not it.type.endswith("Patch")]


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON of whatever shape
    """Integers as they were: the mock engine hands them on as floats."""
    match value:
        case dict():
            return {key: _plain(item) for key, item in cast("dict[str, Any]", value).items()}
        case list():
            return [_plain(item) for item in cast("list[Any]", value)]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value
